"""``headrace plan``: what would be placed now, and what if the estate or the queue were otherwise."""

from collections.abc import Sequence

import typer

from headrace.api.views import OutcomeView, PlanView, StartView
from headrace.cli.common import client, print_json, print_table, read_file, say
from headrace.cli.places import BETWEEN, in_texts
from headrace.core.errors import HeadraceError
from headrace.documents import Document
from headrace.documents.whatif import load_what_if

app = typer.Typer(rich_markup_mode=None)
MOST_SHOWN = 20
"""Rows of each table; `--json` has them all."""


@app.callback()
def group() -> None:
    """Plan."""


@app.command("plan")
def run(
    what_if: list[str] = typer.Option(
        [],
        "--what-if",
        help="A file of documents to try (one of kind what-if among them removes, drains, looks ahead), or -; may be repeated.",
    ),
    tenant: str = typer.Option(
        "", help="Whose the workloads in the files are, where their project does not say."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Show the plan that would be made now, or what would change it. Nothing is applied, submitted or moved."""
    texts: list[tuple[str, str]] = []
    documents: list[Document] = []
    for name in what_if:
        raw, called = read_file(name), "<stdin>" if name == "-" else name
        documents.extend(load_what_if(raw, called).documents)
        texts.append((called, raw.decode("utf-8-sig")))
    with client() as control:
        try:
            found = control.plan(BETWEEN.join(text for _, text in texts), tenant=tenant)
        except HeadraceError as error:
            raise in_texts(error, texts, documents) if texts else error from None
    if as_json:
        print_json(found)
    elif found.then is None:
        say(f"the plan now: {summary(found.now)}")
        _show_starts(found.now.starts)
        _show_rest(found.now)
    else:
        show_what_if(found)


def summary(outcome: OutcomeView) -> str:
    """How many start, are evicted, and wait."""
    return f"{len(outcome.starts)} start, {len(outcome.evictions)} evicted, {outcome.waiting} wait"


def show_what_if(found: PlanView) -> None:
    """Print what would be otherwise."""
    then = found.then or found.now
    say(f"now:     {summary(found.now)}")
    say(f"what if: {summary(then)}")
    gained, lost = frozenset(found.gained), frozenset(found.lost)
    changes = [
        *((one, "+ starts") for one in then.starts if one.workload in gained),
        *((one, "- does not start") for one in found.now.starts if one.workload in lost),
    ]
    rows = [(what, *_row(one)) for one, what in changes]
    if rows:
        print_table(("CHANGE", *_STARTS), rows[:MOST_SHOWN], "")
        _more(len(rows))
    for title, names in (("moved from where it runs", found.moved), ("in the way now", found.conflicts)):
        for name in names[:MOST_SHOWN]:
            say(f"{title}: {name}")
        _more(len(names))
    for one in found.refused:
        say(f"refused: {one.workload}: {one.reason}")
    _show_rest(then)


_STARTS = ("WORKLOAD", "NAME", "SITE", "NODES", "GPU")


def _row(one: StartView) -> tuple[object, ...]:
    return one.workload if not one.is_new else "(new)", one.name, one.site, len(one.nodes), one.gpu or "-"


def _show_starts(starts: Sequence[StartView]) -> None:
    if starts:
        print_table(_STARTS, [_row(one) for one in starts[:MOST_SHOWN]], "")
        _more(len(starts))


def _show_rest(outcome: OutcomeView) -> None:
    for one in outcome.evictions[:MOST_SHOWN]:
        say(f"evicted: {one.workload} ({one.name}) for {one.waiting or 'a window that begins'}")
    if outcome.waits:
        rows = [(one.count, one.workload, one.name, one.reason or "(not looked at)") for one in outcome.waits]
        print_table(("WAIT", "FIRST", "NAME", "WHY"), rows[:MOST_SHOWN], "")
        _more(len(rows))


def _more(count: int) -> None:
    if count > MOST_SHOWN:
        say(f"... and {count - MOST_SHOWN} more: --json has them all")
