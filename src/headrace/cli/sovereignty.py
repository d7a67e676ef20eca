"""Sovereignty: who controls it, which countries reach it, and what other law would newly allow and forbid."""

import typer

from headrace.cli.difference import difference
from headrace.cli.owners import control_of, exposure_of, score_of

app = typer.Typer(rich_markup_mode=None)
sovereignty = typer.Typer(rich_markup_mode=None, help="Where work may be, and what would change that.")
app.add_typer(sovereignty, name="sovereignty")


@app.callback()
def group() -> None:
    """Sovereignty."""


sovereignty.command("what-if")(difference)
sovereignty.command("control")(control_of)
sovereignty.command("exposure")(exposure_of)
sovereignty.command("score")(score_of)
