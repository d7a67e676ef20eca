"""``headrace power``: the power tree, and what the loss of a part of it does."""

from collections.abc import Sequence
from dataclasses import replace

import typer

from headrace.api.views import PowerView
from headrace.api.views_power import ImpactView
from headrace.cli.common import client, print_json, print_table, say
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.units import format_watts

app = typer.Typer(rich_markup_mode=None)
power = typer.Typer(rich_markup_mode=None)
app.add_typer(power, name="power")

AS_JSON = typer.Option(False, "--json", help="Print JSON.")
NO_LIMIT_W = 1 << 50
"""What an element without a rating has for a limit."""
_ARGUMENTS = {"query.element": "ELEMENT"}
MOST_SAID = 20
"""Names that a line has at most."""


@app.callback()
def group() -> None:
    """Power."""


@power.callback(invoke_without_command=True)
def show(
    context: typer.Context,
    site: str = typer.Option("", help="Only this site."),
    racks: bool = typer.Option(False, "--racks", help="Racks too."),
    as_json: bool = AS_JSON,
) -> None:
    """Show the power tree: what is admitted against each limit. In watts of IT load.

    Where something has several feeders: also what each would carry if another were lost.
    """
    if context.invoked_subcommand is not None:
        return
    with client() as control:
        found = list(control.power(site, racks=racks))
    if as_json:
        print_json(found)
        return
    columns: tuple[str, ...] = ("ELEMENT", "ADMITTED", "LIMIT", "USED")
    several = any(one.kind == "allotment" for one in found)
    if several:
        columns = (*columns, "WORST", "IF LOST")
    print_table(columns, _rows(found, several), "no power tree: apply an estate.", columns[1:5])


def _rows(found: Sequence[PowerView], several: bool) -> list[tuple[str, ...]]:
    depth: dict[str, int] = {}
    rows: list[tuple[str, ...]] = []
    for one in found:
        depth[one.id] = depth.get(one.parent, -1) + 1
        name = f"{'  ' * depth[one.id]}{one.kind} {one.id}"
        limited = one.limit_w < NO_LIMIT_W
        share = f"{one.admitted_w * 100 // one.limit_w} %" if limited and one.limit_w else "-"
        limit = format_watts(one.limit_w) if limited else "none of its own"
        row = (name, format_watts(one.admitted_w), limit, share)
        rows.append((*row, format_watts(one.worst_w), one.lost or "-") if several else row)
    return rows


@power.command()
def impact(
    element: str = typer.Argument(help="An element like glomfjord/feed-a; a block, a rack or a node too."),
    as_json: bool = AS_JSON,
) -> None:
    """Say what the loss of an element does. Who is hit, what goes dark, what all that is left would carry."""
    if not element:
        step = "Name one like glomfjord/feed-a; `headrace power --racks` lists them."
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, "no element is named.", step, "ELEMENT"))
    with client() as control:
        try:
            found = control.power_impact(element)
        except HeadraceError as error:
            # It is an argument here, and no option.
            found_wrong = (replace(one, where=_ARGUMENTS.get(one.where, one.where)) for one in error.problems)
            raise HeadraceError(*found_wrong) from None
    if as_json:
        print_json(found)
        return
    _say_impact(found)


def _say_impact(found: ImpactView) -> None:
    others = f", with {_some(found.dark)}" if found.dark else ""
    say(f"{found.kind} {found.element} lost: {_count(found.nodes_dark, 'node')} of {found.site} dark{others}")
    if found.nodes_dark:
        say(f"nodes: {_some(found.nodes, found.nodes_dark)}")
    if found.workloads:
        say(f"tenants: {_some(found.tenants)}; contracts: {_some(found.contracts)}")
        columns = ("WORKLOAD", "NAME", "TENANT", "CONTRACT", "FLEX", "NODES LOST")
        rows = [
            (one.workload, one.name, one.tenant, one.contract or "-", one.flex, one.nodes)
            for one in found.workloads
        ]
        print_table(columns, rows, "", columns[-1:])
    else:
        say("no workload is hit.")
    if found.reservations:
        say(f"reservations with nodes among them: {_some(found.reservations)}")
    if found.survivors:
        headings = ("SURVIVOR", "NOW", "THEN", "LIMIT", "USED")
        carried = [
            (
                f"{one.kind} {one.id}",
                format_watts(one.before_w),
                format_watts(one.after_w),
                format_watts(one.limit_w),
                f"{one.after_w * 100 // one.limit_w} %",
            )
            for one in found.survivors
        ]
        print_table(headings, carried, "", headings[1:])


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _some(names: Sequence[str], total: int = 0) -> str:
    more = max(total, len(names)) - MOST_SAID
    return (", ".join(names[:MOST_SAID]) or "none") + (f" and {more:,} more" if more > 0 else "")
