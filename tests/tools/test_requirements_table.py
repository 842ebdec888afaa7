"""The marks are found wherever pytest finds them."""

from __future__ import annotations

from pathlib import Path

from tools import pages, requirements_table

MARKED = """
import pytest

pytestmark = pytest.mark.requirement("G1")

@pytest.mark.requirement("G2", "G3")
async def test_alone(): ...

class TestMany:
    @pytest.mark.parametrize("n", [1])
    @pytest.mark.requirement("G4")
    def test_in_class(self, n): ...

TestModel = pytest.mark.requirement("G5")(Model.TestCase)
"""


def test_marks_of_files_functions_classes_and_models_are_found() -> None:
    assert list(requirements_table.proofs(MARKED, "t.py")) == [
        ("G1", "t.py"),
        ("G2", "t.py::test_alone"),
        ("G3", "t.py::test_alone"),
        ("G4", "t.py::TestMany::test_in_class"),
        ("G5", "t.py::TestModel"),
    ]


def test_a_page_that_is_out_of_date_is_named_and_not_written() -> None:
    page = pages.REFERENCE / "errors.md"
    before = page.read_text(encoding="utf-8")
    assert pages.write({page: before}, check=True) == 0
    assert pages.write({page: before + "more"}, check=True) == 1
    assert pages.write({Path(pages.REFERENCE / "absent.md"): ""}, check=True) == 1
    assert page.read_text(encoding="utf-8") == before
