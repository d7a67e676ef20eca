"""``headrace check``: the second opinion on what runs now, from the journal alone."""

import time
from pathlib import Path

import typer

from headrace.cli.common import print_json, say
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.scheduling.check import PROMISES, check
from headrace.core.scheduling.proposal import Plan
from headrace.journal.checkpoint import load
from headrace.journal.sqlite import SqliteStore
from headrace.state import StateDirectory, default_state

app = typer.Typer(rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Check."""


@app.command("check")
def run(
    state: Path | None = typer.Option(None, help="The state directory [default: as for `up`]."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Check every promise on all that is placed. Code that shares nothing with the scheduler does it, live or offline."""
    directory = StateDirectory(state or default_state())
    if not directory.journal.exists():
        step = "Name the state directory with --state."
        raise HeadraceError(Problem(ProblemCode.NOT_FOUND, f"no journal in {directory.path}.", step))
    store = SqliteStore(directory.journal, readonly=True)
    try:
        world = load(store, None).world
    finally:
        store.close()
    snapshot = world.snapshot(max(world.state.last_ms, int(time.time() * 1000)))
    found = check(snapshot, Plan(snapshot.version))
    if as_json:
        print_json(found)
    else:
        for one in found:
            say(f"promise {one.promise} is broken at {one.subject}: {one.detail}")
        count = len(world.state.placements)
        say(f"{count} placements at event {snapshot.version}: {len(PROMISES)} rules, {len(found)} violations")
    if found:
        raise typer.Exit(1)
