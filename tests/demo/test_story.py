"""The service's story as `make demo` tells it: a real service, killed and started again, real servers, real sockets."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from demo import program, story
from demo.children import ROOT, Children, until
from demo.guests import commands
from demo.service import Service
from demo.show import Show


@pytest.mark.requirement("NOVA-14", "TAG-8", "TAG-12", "NEUTRON-7", "IRONIC-2", "IRONIC-3")
def test_the_story_is_true(tmp_path: Path) -> None:
    text = io.StringIO()
    show = Show(Console(file=text, highlight=False, soft_wrap=True))
    with Children() as children:
        service = Service(tmp_path, children, show)
        try:
            different = program.tell(story.SCENES, show, service)
        finally:
            children.end_all()
            service.end_servers()
    assert different == 0, text.getvalue()
    assert text.getvalue().count("━━ Scene") == len(story.SCENES)
    assert children.left() == []
    assert service.witness.processes() == []


INTERRUPTED = """
import signal, sys
from demo import program, story
def hanging(told):
    "A scene that never ends"
    told.create("web")
    print("DIRECTORY", told.witness.directory, flush=True)
    signal.pause()
for number in program.STOPS:
    signal.signal(number, program.as_interrupt)
sys.exit(program.main([], acts=[hanging]))
"""


def test_an_interrupt_leaves_no_service_no_server_and_no_file() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    ) as demo:
        assert demo.stdout is not None
        directory = next(line.split()[1] for line in demo.stdout if line.startswith("DIRECTORY"))
        served = [pid for pid, words in commands() if directory.rpartition("/")[0] in words]
        demo.send_signal(signal.SIGINT)
        told = demo.stdout.read()
        assert demo.wait() == 130
    assert len(served) >= 2  # the service and a guest
    assert "Interrupted. Every process that was started has ended." in told
    assert "Traceback" not in told
    assert not Path(directory).parent.exists()
    until(lambda: not any(directory in words for _, words in commands()), "the last to be gone", limit_s=10)
