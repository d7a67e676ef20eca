"""Sovereignty: what other policies, facts or owners would newly allow and forbid."""

import typer

from headrace.api.views_sovereignty import LawChangesView
from headrace.cli.common import client, print_json, print_table, read_file, say
from headrace.cli.owners import control_of, exposure_of, score_of

app = typer.Typer(rich_markup_mode=None)
sovereignty = typer.Typer(rich_markup_mode=None, help="Where work may be, and what would change that.")
app.add_typer(sovereignty, name="sovereignty")
_MOST_NAMED = 3


@app.callback()
def group() -> None:
    """Sovereignty."""


@sovereignty.command("what-if")
def what_if(
    file: list[str] = typer.Argument(..., help="Documents: policies, facts, owners, tenants, the estate."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Say what documents would newly forbid and allow to all that runs and waits. Nothing is applied."""
    with client() as control:
        found = control.sovereignty_what_if(b"\n---\n".join(read_file(one) for one in file))
    if as_json:
        print_json(found)
    else:
        print_changes(found)


sovereignty.command("control")(control_of)
sovereignty.command("exposure")(exposure_of)
sovereignty.command("score")(score_of)


def print_changes(found: LawChangesView) -> None:
    """A table of what would be judged otherwise, with the reasons."""
    if not found.changes:
        say(f"nothing would be judged otherwise, of {found.judged} workloads that run or wait")
        return
    rows = [
        (
            "allows" if one.allowed else "forbids",
            one.tenant,
            one.policy,
            one.site,
            _named(one.running),
            _named(one.waiting),
            "; ".join(one.after),
        )
        for one in found.changes
    ]
    print_table(("WOULD", "TENANT", "POLICY", "SITE", "RUN THERE", "WAIT", "WHY"), rows, "nothing")
    moving = sum(len(one.running) for one in found.changes if not one.allowed)
    if moving:
        say(f"{moving} would have to leave where they are, within their grace")


def _named(workloads: tuple[str, ...]) -> str:
    more = len(workloads) - _MOST_NAMED
    return ", ".join(workloads[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
