"""The package holdfast_network, installed as a package is: beside Holdfast, with metadata that names its entry point.

Installing it with pip would need an index for its build backend; what an installer leaves behind is written here.
"""

from __future__ import annotations

import importlib
import os
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import holdfast as hf
from holdfast.resources.handle import Resource
from holdfast.resources.registry import Kinds
from tests.postgresql import database_at

PACKAGE = Path(__file__).parent / "holdfast_network"
NAME = "holdfast_network"


def install(site: Path) -> list[str]:
    """Leave in `site` what an installer would; the directories that belong on the path then."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    info = site / f"{NAME}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n", encoding="utf-8"
    )
    groups = project["entry-points"].items()
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {place}\n" for name, place in points.items()) for group, points in groups
    ]
    (info / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    return [str(site), str(PACKAGE / "src")]


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The package's module, for this process and for those it starts."""
    fabric = tmp_path / "fabric"
    fabric.mkdir()
    paths = install(tmp_path / "site")
    for path in paths:
        monkeypatch.syspath_prepend(path)
    monkeypatch.setenv("HOLDFAST_NETWORK_DIR", str(fabric))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")]))
    yield importlib.import_module(NAME)
    for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
        del sys.modules[name]


class Net:
    """An open database with all kinds that are installed, and the fabric behind those of the plug-in."""

    def __init__(self, directory: Path, fabric: Any, **settings: Any) -> None:
        self.fabric = fabric
        self.url = database_at(directory / "tasks.db")
        self.hold = hf.open(self.url, kinds=Kinds.load(), **settings)

    def do(self, kind: str, operation: str, id: str | None = None, params: Any = None, **options: Any) -> hf.Task:
        """Ask for it, and do all there is to do."""
        task = self.hold.operate(kind, operation, id, params, **options)
        self.work()
        return task

    def work(self) -> None:
        self.hold.work(until_idle=True)

    def made(self, kind: str, **desired: Any) -> Resource[hf.Task]:
        """A resource that is there."""
        task = self.do(kind, "create", desired=desired)
        task.raise_for_state()
        return self.hold.resource(kind, task.view()["resource_id"])

    def children(self, task: hf.Task) -> list[hf.Task]:
        """The oldest first."""
        found = self.hold.tasks(parent=task.id)
        return sorted(found, key=lambda child: child.id)


@pytest.fixture
def net(plugin: ModuleType, tmp_path: Path) -> Iterator[Net]:
    made = Net(tmp_path, plugin.Fabric(tmp_path / "fabric"))
    try:
        yield made
    finally:
        for hang in (tmp_path / "fabric").glob("hang.*"):
            hang.unlink()
        made.hold.close()
