"""Files and functions stay small enough to be read whole."""

from __future__ import annotations

import re

from tests.shape import repository

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
LINE_CHARACTERS_MAX = 120
# What is said to a tool at the end of a line may stand out, as ruff has it too.
PRAGMA = re.compile(r"\s+# (?:type: ignore|noqa).*$")


def test_no_source_file_is_longer_than_it_may_be() -> None:
    lines = {repository.name(path): repository.text(path).count("\n") for path in repository.python_files("src")}
    assert {name: count for name, count in lines.items() if count > FILE_LINES_MAX} == {}


def test_no_function_is_longer_than_it_may_be() -> None:
    long = {}
    for path in repository.python_files("src", "tools", "demo"):
        for function in repository.functions(path):
            lines = (function.end_lineno or function.lineno) - function.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                long[f"{repository.name(path)}:{function.lineno} {function.name}"] = lines
    assert long == {}


def test_no_line_of_code_is_wider_than_the_page() -> None:
    wide = [
        f"{repository.name(path)}:{number}"
        for path in repository.python_files()
        for number, line in enumerate(repository.text(path).splitlines(), 1)
        if len(PRAGMA.sub("", line)) > LINE_CHARACTERS_MAX
    ]
    assert wide == []
