"""`holdfast db …`: the database itself. Its schema and revisions: store/migrations/."""

from __future__ import annotations

import typer

from holdfast.cli import exits, options, show
from holdfast.cli.options import DatabaseOption, OutputOption

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def about() -> None:
    """The database: bring it to this Holdfast's schema, throw away what is over.

    \b
    holdfast db upgrade --database postgresql://holdfast@db.example/tasks
    holdfast db purge
    """


@app.command()
def upgrade(database: DatabaseOption = None, output: OutputOption = "table") -> int:
    """Bring the database to the schema of this Holdfast, in one transaction. One of SQLite that isn't there is made."""
    from holdfast.settings import Settings
    from holdfast.store import migrations, redacted

    settings = Settings.load()
    url = database or settings.database
    before, after = migrations.upgrade(url, busy_timeout_s=settings.busy_timeout_s)
    url = redacted(url)
    if output == "json":
        show.print_json({"database": url, "before": before, "after": after})
    elif before == after:
        print(f"{url} has the newest schema, {after}")
    else:
        print(f"{url} has schema {after} now" + (f"; it had {before}" if before else ", and is new"))
    return exits.OK


@app.command()
def purge(database: DatabaseOption = None, output: OutputOption = "table") -> int:
    """Delete the tasks that ended so long ago that they need not be kept (setting retention_s)."""
    with options.opened(database) as hold:
        gone = hold.purge()
    if output == "json":
        show.print_json({"purged": gone})
    else:
        print(f"{gone} tasks purged")
    return exits.OK
