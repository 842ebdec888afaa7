"""The service's story: nine scenes on one service, its servers and its nodes, each with its title as docstring.

Every moment is a condition on what the guests wrote, what the service answers or what its event stream says, never a
time. Where a guest must take its time, its configuration says that it takes 1,000 seconds, and the scene lets it go on
when it wants to. What a scene proves: proofs.py.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

from demo import proofs
from demo.children import until
from demo.evidence import Check
from demo.guests import below
from demo.nodes import a_soft_off_that_hangs_is_aborted
from demo.proxy import Proxy
from demo.service import LIMIT_S, Service
from demo.stream import Stream
from demo.web import Answer, Lost, Web
from peers.knobs import put

SLOW = 1000.0


class Story:
    """What the scenes share: the service, its event stream, and the servers that were made so far."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.show = service.show
        self.witness = service.witness
        self._stream: Stream | None = None
        self.servers: dict[str, str] = {}  # by name

    @property
    def stream(self) -> Stream:
        assert self._stream is not None  # since `begin`
        return self._stream

    @property
    def web(self) -> Web:
        return self.service.web

    def begin(self) -> None:
        """Start the service, and listen."""
        self.service.start()
        self.listen()

    def listen(self, after: int | None = None) -> None:
        """Read the event stream, from behind that event on."""
        self.close()
        self._stream = Stream(self.service.port, self.show, after)

    def close(self) -> None:
        """Listen no more."""
        if self._stream is not None:
            self._stream.close()

    def create(self, name: str, **desired: Any) -> Answer:
        """Ask for a server, and wait until it is there."""
        answer = self.web.ask("POST", "/v3/servers", {"server": {"name": name, **desired}})
        self.servers[name] = str(answer.task["resource_id"])
        self.end(answer.task["uuid"])
        return answer

    def action(self, name: str, action: dict[str, Any], **options: Any) -> Answer:
        return self.web.ask("POST", f"/v3/servers/{self.servers[name]}/action", action, **options)

    def task(self, uuid: str) -> dict[str, Any]:
        found: dict[str, Any] = self.web.get(f"/v3/tasks/{uuid}")
        inner = found.get("task")
        return inner if isinstance(inner, dict) else found

    def end(self, uuid: str) -> dict[str, Any]:
        """The task once it has ended, and the stream has said so."""
        until(lambda: ended(self.task(uuid)), f"task {uuid} to end", limit_s=LIMIT_S)
        task = self.task(uuid)
        until(lambda: task["state"] in self.stream.states(uuid), "the stream to say so", limit_s=LIMIT_S)
        return task

    def server(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.web.get(f"/v3/servers/{self.servers[name]}")["server"]
        return found

    def resource(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.web.get(f"/v3/resources/server/{self.servers[name]}")["resource"]
        return found

    def syncs(self, name: str) -> list[str]:
        """What the stream has said of whether a server is as desired."""
        events = [event for event in list(self.stream.events) if event.type == "resource.sync"]
        return [str(event.data["to"]) for event in events if event.subject.endswith(self.servers[name])]

    def tasks(self, query: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.web.get(query)["tasks"]
        return found

    def boots(self, name: str) -> int:
        return self.witness.boots(self.servers[name])

    def guest(self, name: str) -> Any:
        return self.witness.guest(self.servers[name])

    def console(self, name: str, after: int = 0) -> list[str]:
        """What the guest's console says behind line `after`; shown."""
        lines = self.witness.console(self.servers[name])[after:]
        first = lines[0]["at"] if lines else 0
        self.show.console([f"{line['at'] - first:7.3f} s  process {line['pid']}  {line['what']}" for line in lines])
        return [str(line["what"]) for line in lines]

    def let_guest_take(self, name: str, **how: float) -> None:
        """Set how long the guest takes, behind everybody's back: what happens inside a guest is nobody's business."""
        path = next((self.witness.directory / self.servers[name] / "slots").glob("*/config"))
        config = json.loads(path.read_text(encoding="utf-8"))
        put(path, json.dumps({**config, "guest": {**config["guest"], **how}}))


Scene = Callable[[Story], list[Check]]


def ended(task: dict[str, Any]) -> bool:
    return task["finish_time"] is not None


def a_server_is_created(story: Story) -> list[Check]:
    """A server is created; the answer names its task, and the event stream tells it live"""
    answer = story.create("web")
    task = story.task(answer.task["uuid"])
    until(lambda: story.guest("web").state == "up", "the guest to be up", limit_s=LIMIT_S)
    story.console("web")
    return proofs.created(
        answer,
        task=task,
        states=story.stream.states(task["uuid"]),
        guest=story.guest("web"),
        server=story.server("web"),
    )


def the_reply_is_lost(story: Story) -> list[Check]:
    """The reply of a reboot is lost on the way; the client asks again with the same tag"""
    boots, lines = story.boots("web"), len(story.witness.console(story.servers["web"]))
    tag, path = "reboot-of-web-17", f"/v3/servers/{story.servers['web']}/action"
    soft = {"reboot": {"type": "SOFT"}}
    story.let_guest_take("web", shutdown_s=SLOW)
    with Proxy(story.service.port) as proxy:
        story.show.act(f"a TCP proxy on port {proxy.port} will lose the next answer")
        proxy.lose_next()
        through = Web(proxy.port, story.show)
        try:
            through.ask("POST", path, soft, tag=tag)
            got_nothing = False
        except Lost:
            got_nothing = True
        again = through.ask("POST", path, soft, tag=tag)
        lost = proxy.lost
    other = story.web.ask("POST", path, {"reboot": {"type": "HARD"}}, tag=tag)
    until(lambda: story.guest("web").state == "going down", "the guest to go down", limit_s=LIMIT_S)
    story.show.act("the guest has shut down")
    story.let_guest_take("web", shutdown_s=0)
    story.end(again.task["uuid"])
    tasks = story.tasks(f"/v3/servers/{tag}/tasks")
    story.console("web", lines)
    return proofs.reply_lost(
        got_nothing=got_nothing, lost=lost, again=again, other=other, tasks=tasks, boots=(boots, story.boots("web"))
    )


def three_clients_at_once(story: Story) -> list[Check]:
    """Three clients at once on one server: nobody is told to try again, and each has its turn"""
    boots, lines = story.boots("web"), len(story.witness.console(story.servers["web"]))
    answers: list[Answer] = []

    def client(name: str) -> None:
        answers.append(story.action("web", {"reboot": {"type": "SOFT"}}, who=name))

    threads = [threading.Thread(target=client, args=(name,)) for name in ("anna", "bert", "carla")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asked = [answer.task["uuid"] for answer in answers]
    for uuid in asked:
        story.end(uuid)
    # The order of events is the order of commits.
    accepted = sorted(asked, key=lambda uuid: story.stream.of(uuid)[0].id)
    tasks = [story.task(uuid) for uuid in accepted]
    console = story.console("web", lines)
    return proofs.in_order(answers, tasks=tasks, boots=(boots, story.boots("web")), console=console)


def a_stuck_operation_is_aborted(story: Story) -> list[Check]:
    """The driver hangs inside a C call; cancel is heard but can't end it, abort does"""
    story.show.act("server `stuck` is made with a driver that hangs when it is to suspend")
    story.create("stuck", metadata={"faults": "suspend=block"})
    before = story.guest("stuck")
    answer = story.action("stuck", {"suspend": {}})
    uuid, service = answer.task["uuid"], story.service.process.pid
    until(lambda: story.service.has_said("suspend hangs"), "the driver to hang in its process", limit_s=LIMIT_S)
    hung = below(service)
    story.show.say(f"process {hung[0]} hangs in sleep(3); it holds the server")
    cancel = story.web.ask("POST", f"/v3/tasks/{uuid}/cancel")
    beat = story.guest("stuck").beat
    until(lambda: story.guest("stuck").beat > beat + 4, "some beats of the guest", limit_s=LIMIT_S)
    after_cancel = story.task(uuid)["state"]
    story.show.say(f"a second later the task is still {after_cancel}: its code runs, so it isn't CANCELLED")
    abort = story.web.ask("POST", f"/v3/tasks/{uuid}/abort")
    task = story.end(uuid)
    until(lambda: story.resource("stuck")["sync_status"] == "IN_SYNC", "a look at the server", limit_s=LIMIT_S)
    until(lambda: story.syncs("stuck")[-1] == "IN_SYNC", "the stream to say so", limit_s=LIMIT_S)
    after, left = story.guest("stuck"), below(service)
    sync = story.syncs("stuck")
    next_one = story.end(story.action("stuck", {"reboot": {}}).task["uuid"])
    return proofs.aborted(
        cancel=cancel,
        abort=abort,
        after_cancel=after_cancel,
        task=task,
        processes=(hung, left),
        guests=(before, after),
        sync=sync[-2:],
        next_state=next_one["state"],
    )


def a_rebuild_fails(story: Story) -> list[Check]:
    """A rebuild fails, since the new image panics; the old guest goes on as if nothing had been"""
    before = story.guest("web")
    answer = story.action("web", {"rebuild": {"image": "panics"}})
    task = story.end(answer.task["uuid"])
    until(lambda: story.guest("web").beat > before.beat + 2, "the old guest to go on", limit_s=LIMIT_S)
    failed = story.tasks(f"/tasks?resource_id={story.servers['web']}&task_state=FAILED")
    sync = str(story.resource("web")["sync_status"])
    return proofs.rolled_back(
        answer, task=task, guests=(before, story.guest("web")), server=story.server("web"), sync=sync, failed=failed
    )


def the_service_is_killed(story: Story) -> list[Check]:
    """kill -9 of the service in the middle of a reboot; it is started again and goes on"""
    boots, lines = story.boots("web"), len(story.witness.console(story.servers["web"]))
    story.let_guest_take("web", shutdown_s=SLOW)
    mark = len(story.stream.events)
    tag, reboot = "reboot-of-web-18", {"reboot": {"type": "SOFT"}}
    answer = story.action("web", reboot, tag=tag)
    uuid = answer.task["uuid"]
    until(lambda: story.guest("web").state == "going down", "the guest to go down", limit_s=LIMIT_S)
    until(lambda: "RUNNING" in story.stream.states(uuid), "the stream to say so", limit_s=LIMIT_S)
    at_kill = story.guest("web")
    killed = story.service.process.kill9()
    story.show.act(f"kill -9 {story.service.process.pid}, while the guest shuts down")
    until(story.stream.broken.is_set, "the stream to break", limit_s=LIMIT_S)
    before = story.stream.events[mark:]
    last = story.stream.events[-1].id
    until(lambda: story.guest("web").beat > at_kill.beat + 3, "some beats of the guest", limit_s=LIMIT_S)
    alone = story.guest("web")
    story.show.say(f"nobody serves, and the guest's heart goes on: beat {at_kill.beat} … {alone.beat}")

    story.service.start()
    story.show.say(f"the event stream is resumed: Last-Event-ID: {last}")
    story.listen(after=last)
    replay = story.action("web", reboot, tag=tag)
    story.show.act("the guest has shut down")
    story.let_guest_take("web", shutdown_s=0)
    story.end(uuid)
    after = list(story.stream.events)
    log = [int(event["id"]) for event in events_after(story, before[0].id - 1) if int(event["id"]) <= after[-1].id]
    story.console("web", lines)
    return proofs.survives_kill(
        killed=killed,
        guests=(at_kill, alone, story.guest("web")),
        tasks=story.tasks(f"/tasks?tag={tag}"),
        replay=replay,
        boots=(boots, story.boots("web")),
        events=(before, after),
        log=log,
    )


def events_after(story: Story, after: int) -> list[dict[str, Any]]:
    """The same log as JSON, page by page."""
    found: list[dict[str, Any]] = []
    while page := story.web.get(f"/v3/events?after={after}&limit=500")["events"]:
        found += page
        after = int(page[-1]["id"])
    return found


def a_fault_is_shown(story: Story) -> list[Check]:
    """A reboot fails half done; fault and instance actions are views over the tasks"""
    story.show.act("server `frail` is made with a reboot that fails after it has begun")
    story.create("frail", metadata={"faults": "reboot=after"})
    task = story.end(story.action("frail", {"reboot": {}}).task["uuid"])
    server = story.server("frail")
    fault = server.get("fault") or {}
    story.show.say(f"the server's fault: {fault.get('code')} {fault.get('message')} (task {fault.get('task_id')})")
    path = f"/v3/resources/server/{story.servers['frail']}"
    mended = {**story.resource("frail")["desired"], "metadata": {}}
    story.end(story.web.ask("PUT", path, mended).task["uuid"])
    story.end(story.action("frail", {"reboot": {"type": "HARD"}}).task["uuid"])
    actions = story.web.ask("GET", f"/v3/servers/{story.servers['frail']}/os-instance-actions")
    listed = actions.body["instanceActions"]
    story.show.say("instance actions, the newest first:")
    for each in listed:
        story.show.say(f"  {each['action']:<8} {each['message'] or '-':<6} {each['request_id']}")
    return proofs.told_by_views(
        task=task,
        server=server,
        recovered=story.server("frail"),
        actions=listed,
        tasks=story.tasks(f"/v3/servers/{story.servers['frail']}/tasks"),
        deprecated=actions.headers.get("deprecation"),
    )


def nothing_is_left(story: Story) -> list[Check]:
    """The servers are deleted, and the service is told to stop"""
    states = []
    for id in story.servers.values():
        states.append(story.end(story.web.ask("DELETE", f"/v3/servers/{id}").task["uuid"])["state"])
    servers, processes = story.witness.servers(), story.witness.processes()
    story.show.act(f"SIGTERM to the service, process {story.service.process.pid}")
    began = time.monotonic()
    code = story.service.process.terminate(LIMIT_S)
    took_s = time.monotonic() - began
    return proofs.left_nothing(
        states=states,
        servers=servers,
        processes=[pid for pid in processes if pid != story.service.process.pid],
        code=code,
        took_s=took_s,
    )


SCENES: list[Scene] = [
    a_server_is_created,
    the_reply_is_lost,
    three_clients_at_once,
    a_stuck_operation_is_aborted,
    a_rebuild_fails,
    the_service_is_killed,
    a_fault_is_shown,
    a_soft_off_that_hangs_is_aborted,
    nothing_is_left,
]
