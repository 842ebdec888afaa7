"""tools/need on a machine that is played: `dpkg-query`, `id` and `apt-get` are scripts that say what they are told."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

NEED = Path(__file__).parents[2] / "tools" / "need"


class Machine:
    """A directory that is the whole PATH but for the shell's own tools."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.calls = directory / "calls"
        self.script("dpkg-query", 'for last; do :; done; [ "$last" = there ] && printf installed || exit 1')
        self.user(1000)

    def script(self, name: str, body: str) -> None:
        path = self.directory / name
        path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        path.chmod(0o755)

    def user(self, uid: int) -> None:
        self.script("id", f"echo {uid}")

    def need(self, *packages: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": f"{self.directory}:/usr/bin:/bin", "CALLS": str(self.calls)}
        return subprocess.run([NEED, *packages], env=environment, capture_output=True, text=True)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_what_is_there_is_passed_in_silence(machine: Machine) -> None:
    done = machine.need("there")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_who_may_not_install_is_told_the_command(machine: Machine) -> None:
    done = machine.need("there", "absent", "missing")
    assert done.returncode == 2
    assert "sudo apt-get install --no-install-recommends absent missing\n" in done.stderr


def test_root_installs_and_waits_for_another_apt(machine: Machine) -> None:
    machine.user(0)
    machine.script("apt-get", 'echo "$@" >>"$CALLS"')
    done = machine.need("there", "absent")
    assert (done.returncode, done.stdout) == (0, "Installing the Debian package(s) absent\n")
    (call,) = machine.calls.read_text(encoding="utf-8").splitlines()
    assert call.endswith("install --no-install-recommends absent")
    assert "DPkg::Lock::Timeout=120" in call


def test_lists_that_are_missing_or_old_are_updated(machine: Machine) -> None:
    machine.user(0)
    machine.script("apt-get", 'echo "$@" >>"$CALLS"; case "$*" in *update) exit 0;; esac; grep -q update "$CALLS"')
    done = machine.need("absent")
    assert done.returncode == 0
    first, second, third = machine.calls.read_text(encoding="utf-8").splitlines()
    assert "install" in first
    assert second.endswith("update")
    assert third == first


def test_an_installation_that_fails_is_not_hidden(machine: Machine) -> None:
    machine.user(0)
    machine.script("apt-get", 'case "$*" in *update) exit 0;; esac; echo "no such package" >&2; exit 100')
    done = machine.need("absent")
    assert done.returncode == 100
    assert "no such package" in done.stderr
