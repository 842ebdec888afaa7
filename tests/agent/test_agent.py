"""Agents, services and what is between them are killed, frozen and cut, as processes on real sockets. What steps did is
read from a file that they write by themselves."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

import holdfast as hf
from holdfast import local
from holdfast.seal import new_key
from tests.agent.agent_flows import COUNT, FLOWS
from tests.agent.conftest import Agent, MakeAgent, soon, stored, until_witnessed
from tests.agent.lossy import Lossy
from tests.postgresql import database_at
from tests.service.conftest import Served

House = Callable[..., Served]
pytestmark = pytest.mark.requirement("TF-14")
NO_SERVER = (
    b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 9\r\nConnection: close\r\n\r\nnot found"
)


def test_a_step_for_an_agent_runs_there_and_the_others_where_the_worker_is(house: House, make_agent: MakeAgent) -> None:
    served = house()
    agent = make_agent(served, pool="hv-7")
    task = served.submit("making", params={"unit": "7"})
    done = served.until(task["uuid"], "SUCCEEDED")
    assert done["result"] == {"made": "disk on 7", "told": "DISK ON 7"}
    (made, told) = served.witnessed()
    assert made == f"make {agent.pid}"
    assert told == f"tell {served.process.pid}"
    undone = served.submit("undone", params={"unit": "7"})
    assert served.until(undone["uuid"], "FAILED")["revert"] == "done"
    assert served.witnessed()[2:] == [f"make {agent.pid}", f"unmake {agent.pid}"]


LISTENS, STATE, INODE = "0A", 3, 9  # of a line in /proc/net/tcp


def accepts(pid: int | str) -> bool:
    """Whether others may connect to the process, as the kernel says."""
    here = Path("/proc", str(pid))
    held = set()
    for fd in (here / "fd").iterdir():
        with suppress(FileNotFoundError):
            held.add(os.readlink(fd))
    lines = [line.split() for name in ("tcp", "tcp6") for line in (here / "net" / name).read_text().splitlines()]
    return any(line[STATE] == LISTENS and f"socket:[{line[INODE]}]" in held for line in lines)


def test_an_agent_opens_no_port(house: House, make_agent: MakeAgent) -> None:
    served = house()
    agent = make_agent(served)
    task = served.submit("waiting_there")
    until_witnessed(served, "wait")
    assert accepts(served.process.pid)
    assert not accepts(agent.pid)
    served.witness.with_suffix(".open").touch()
    served.until(task["uuid"], "SUCCEEDED")


@pytest.mark.requirement("TF-3", "TF-4")
def test_when_an_agent_is_killed_another_goes_on_from_the_last_checkpoint(house: House, make_agent: MakeAgent) -> None:
    served = house(lease_s="3")
    first = make_agent(served)
    task = served.submit("counting")
    until_witnessed(served, "count 3")
    first.kill()
    second = make_agent(served)
    assert served.until(task["uuid"], "SUCCEEDED")["result"] == {"counted": COUNT}
    counted = [line.split() for line in served.witnessed()]
    (apart,) = {pid for _, _, pid in counted} - {first.pid}  # a process of its own, after the first death
    second.until("is done")
    assert [number for _, number, pid in counted if pid == apart][-1] == str(COUNT - 1)
    again = [number for number, times in Counter(number for _, number, _ in counted).items() if times > 1]
    assert len(again) <= 1  # the one that was done and not yet stored


def test_a_service_that_is_killed_interrupts_no_step(house: House, make_agent: MakeAgent) -> None:
    served = house(lease_s="60")
    agent = make_agent(served)
    task = served.submit("waiting_there")
    until_witnessed(served, "wait")
    served.kill()
    served.start()
    served.witness.with_suffix(".open").touch()
    assert served.until(task["uuid"], "SUCCEEDED")["result"] == {"waited": "waited"}
    assert served.witnessed() == [f"wait {agent.pid}"]
    log = served.client(roles="admin").get(f"/v3/tasks/{task['uuid']}/log").json()["log"]
    assert [entry["kind"] for entry in log] == ["began", "started", "succeeded", "ended"]


@pytest.mark.requirement("G2")
def test_an_agent_that_was_frozen_for_longer_than_its_lease_can_change_nothing(
    house: House, make_agent: MakeAgent
) -> None:
    served = house(lease_s="3")
    first = make_agent(served)
    task = served.submit("counting")
    until_witnessed(served, "count 2")
    first.signal(signal.SIGSTOP)
    second = make_agent(served)
    assert served.until(task["uuid"], "SUCCEEDED")["result"] == {"counted": COUNT}
    first.signal(signal.SIGCONT)
    soon(lambda: "has lost the lease" in first.said() or "is nobody's business any more" in first.said())
    until_witnessed(served, f"stopped lease_lost {first.pid}")
    shown = served.until(task["uuid"], "SUCCEEDED")
    assert shown["result"] == {"counted": COUNT}
    assert served.witnessed()[-1] in (f"stopped lease_lost {first.pid}", f"count {COUNT - 1} {second.pid}")


def test_an_agent_that_nobody_answers_stops_its_steps_before_the_lease_is_over(
    house: House, make_agent: MakeAgent
) -> None:
    served = house(lease_s="4")
    agent = make_agent(served)
    served.submit("waiting_there")
    until_witnessed(served, "wait")
    served.kill()
    began = time.monotonic()
    assert until_witnessed(served, "stopped") == [f"stopped lease_lost {agent.pid}"]
    assert time.monotonic() - began < 4.0
    assert agent.process.poll() is None  # and asks again and again
    served.witness.with_suffix(".open").touch()
    served.start()
    (task,) = served.client().get("/v3/tasks").json()["tasks"]
    served.until(task["uuid"], "SUCCEEDED")


@pytest.mark.parametrize("instead", [b"", NO_SERVER], ids=["nothing", "404"])
def test_every_answer_may_be_lost(house: House, make_agent: MakeAgent, instead: bytes) -> None:
    """Or a proxy may give its own."""
    served = house(lease_s="30")
    proxy = Lossy(served.url, instead, leases=1, heartbeat=2, progress=1, checkpoint=2, complete=2, fail=2)
    try:
        make_agent(served, url=proxy.url)
        counting, failing = served.submit("counting"), served.submit("failing_once")
        assert served.until(counting["uuid"], "SUCCEEDED")["result"] == {"counted": COUNT}
        served.until(failing["uuid"], "SUCCEEDED")
        assert proxy.left == dict.fromkeys(proxy.left, 0)
    finally:
        proxy.close()
    counted = [line.split()[1] for line in served.witnessed() if line.startswith("count")]
    assert counted == [str(number) for number in range(COUNT)]
    assert [line for line in served.witnessed() if line.startswith("try")] == ["try 1", "try 2"]


def test_two_agents_never_run_the_same_entry(house: House, make_agent: MakeAgent) -> None:
    served = house()
    agents = [make_agent(served, "--at-once", "4") for _ in range(2)]
    numbers = list(range(40))
    task = served.submit("many", params={"numbers": numbers})
    assert served.until(task["uuid"], "SUCCEEDED")["result"] == {"all": numbers}
    ran = [line.split() for line in served.witnessed()]
    assert sorted(int(number) for _, number, _ in ran) == numbers
    assert {pid for _, _, pid in ran} == {agent.pid for agent in agents}


def test_verbs_reach_what_an_agent_runs(house: House, make_agent: MakeAgent) -> None:
    served = house()
    agent = make_agent(served)
    asker = served.client()
    task = served.submit("waiting_there")
    until_witnessed(served, "wait")
    began = time.monotonic()
    assert asker.post(f"/v3/tasks/{task['uuid']}/cancel").status_code == 202
    served.until(task["uuid"], "CANCELLED")
    assert time.monotonic() - began < 2.0
    assert served.witnessed()[1:] == [f"stopped cancel {agent.pid}", "unwait"]
    hanging = served.submit("hanging_there")
    (hung,) = until_witnessed(served, "hang")
    assert asker.post(f"/v3/tasks/{hanging['uuid']}/abort").status_code == 202
    assert served.until(hanging["uuid"], "ABORTED")["effect"] == "unknown"
    soon(lambda: not alive(int(hung.split()[1])))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def in_one_that_leaves(served: Served, make_agent: MakeAgent, flow: str, word: str) -> tuple[str, Agent, Agent]:
    """A task of the flow; the agent that ran its step as far as that word of the witness, and was told to leave then;
    and the one that is there after it."""
    first = make_agent(served)
    task = served.submit(flow)
    until_witnessed(served, word)
    first.signal(signal.SIGTERM)
    second = make_agent(served)
    assert first.process.wait(20) == 0
    return task["uuid"], first, second


@pytest.mark.requirement("TF-6")
def test_an_agent_that_is_told_to_leave_hands_its_steps_over(house: House, make_agent: MakeAgent) -> None:
    served = house(lease_s="60")
    task, first, second = in_one_that_leaves(served, make_agent, "counting", "count 2")
    assert served.until(task, "SUCCEEDED")["result"] == {"counted": COUNT}  # long before the lease is over
    assert f"stopped suspend {first.pid}" in served.witnessed()
    assert served.witnessed()[-1] == f"count {COUNT - 1} {second.pid}"
    log = served.client(roles="admin").get(f"/v3/tasks/{task}/log").json()["log"]
    assert [entry["kind"] for entry in log if entry["kind"] in ("stopped", "died")] == ["stopped"]


@pytest.mark.requirement("G10")
def test_what_an_agent_that_leaves_has_to_end_goes_on_elsewhere_and_is_no_death(
    house: House, make_agent: MakeAgent
) -> None:
    served = house(lease_s="60", deaths_max="1")
    task, _, second = in_one_that_leaves(served, make_agent, "hanging_there", "hang")
    soon(lambda: len(served.witnessed()) == 2)
    assert served.until(task, "RUNNING")["reason"] is None
    second.kill()


@pytest.mark.requirement("G10")
def test_a_step_that_kills_its_agents_dies_alone_after_the_first(house: House, make_agent: MakeAgent) -> None:
    served = house(lease_s="1.5")
    agents = [make_agent(served), make_agent(served)]
    task = served.submit("killing_there")
    assert served.until(task["uuid"], "SUSPENDED")["reason"] == "poison"
    assert sorted(agent.process.poll() or 0 for agent in agents) == [-signal.SIGKILL, 0]
    assert len(served.witnessed()) == 3


@pytest.mark.requirement("G3")
def test_nobody_is_given_what_still_runs_in_an_agent_that_leaves(house: House, make_agent: MakeAgent) -> None:
    served = house(lease_s="3")
    task, first, _ = in_one_that_leaves(served, make_agent, "paying", "pay")
    assert served.until(task, "SUSPENDED")["reason"] == "outcome_unknown"
    assert [line for line in served.witnessed() if line.startswith("pay")] == [f"pay {first.pid}"]


@pytest.mark.requirement("G3", "G5")
def test_the_process_of_a_step_ends_before_another_begins_where_its_agent_is_frozen(
    house: House, make_agent: MakeAgent
) -> None:
    served = house(lease_s="2")
    first = make_agent(served)
    served.submit("ticking")
    until_witnessed(served, "tick")
    first.kill()  # from now on it runs in a process of its own
    second = make_agent(served)
    soon(lambda: len(set(served.witnessed())) == 2)
    second.signal(signal.SIGSTOP)
    make_agent(served)
    soon(lambda: len(set(served.witnessed())) == 3)
    ticks = served.witnessed()
    _, frozen, last = dict.fromkeys(ticks)
    assert frozen not in ticks[ticks.index(last) :]


@pytest.mark.requirement("G3", "G10")
def test_an_agent_that_was_frozen_as_it_waited_for_work_has_begun_nothing(house: House, make_agent: MakeAgent) -> None:
    """Its request waits at the service, which answers it with a step."""
    served = house(lease_s="2", deaths_max="1")
    proxy = Lossy(served.url)
    try:
        frozen = make_agent(served, url=proxy.url)
        soon(lambda: "leases" in proxy.asked)
        frozen.signal(signal.SIGSTOP)
        task = served.submit("paying")
        admin = served.client(roles="admin")
        soon(lambda: [each["state"] for each in admin.get("/v3/leases").json()["leases"]] == ["LEASED"])
        other = make_agent(served)
        assert until_witnessed(served, "pay") == [f"pay {other.pid}"]
        frozen.signal(signal.SIGCONT)
        soon(lambda: "heartbeat" in proxy.asked)
        served.witness.with_suffix(".paid").touch()
        served.until(task["uuid"], "SUCCEEDED")
    finally:
        proxy.close()
    assert served.witnessed() == [f"pay {other.pid}"]


@pytest.mark.requirement("G10")
def test_that_nobody_answers_for_longer_than_a_lease_is_no_death(house: House, make_agent: MakeAgent) -> None:
    """The agent lives. It stops the step before its lease is over, and says so when somebody answers again."""
    served = house(lease_s="2", deaths_max="1")
    agent = make_agent(served)
    task = served.submit("waiting_there")
    until_witnessed(served, "wait")
    served.terminate()
    agent.until("stops the")
    never = threading.Event()
    never.wait(2.5)
    served.start()
    soon(lambda: served.witnessed().count(f"wait {agent.pid}") == 2)
    served.witness.with_suffix(".open").touch()
    assert served.until(task["uuid"], "SUCCEEDED")["result"] == {"waited": "waited"}


def test_secrets_reach_the_step_and_no_log_and_no_file(house: House, make_agent: MakeAgent) -> None:
    key = new_key()
    served = house(secret_key=key)
    agent = make_agent(served)
    with local.open(database_at(served.database), flows=FLOWS, secret_key=key) as hold:
        (flow,) = (each for each in FLOWS if each.name == "secretive")
        hold.submit(flow, {"password": hf.Secret("tell-nobody")}).wait(timeout_s=20)
        assert "tell-nobody" not in stored(hold)
    assert served.witnessed() == ["used 11", "checked True"]
    assert "tell-nobody" not in agent.said()
    assert "Lease-Token" not in agent.said()
