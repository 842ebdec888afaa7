"""`holdfast doctor`: look at a database and its surroundings, and say what is wrong and what to do."""

from __future__ import annotations

from holdfast.cli import exits, show
from holdfast.cli.options import DatabaseOption, FlowsOption, OutputOption


def doctor(
    database: DatabaseOption = None,
    flows: FlowsOption = None,
    output: OutputOption = "table",
) -> int:
    """Examine the database, or the service of HOLDFAST_URL, and what is around it: a line for each thing, with what to
    do. Exit 1 if one is wrong."""
    from holdfast.cli.findings import examine

    findings = list(examine(database, flows or ()))
    if output == "json":
        show.print_json([finding._asdict() for finding in findings])
    else:
        for finding in findings:
            print(f"{'ok   ' if finding.good else 'WRONG'}  {finding.text}")
    return exits.OK if all(finding.good for finding in findings) else exits.FAILED
