"""For the energy manager: what the grid asks, and what sites could give up."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import typer

from headrace.api.views_grid import (
    FindingView,
    GridView,
    Instructed,
    InstructionView,
    LadderView,
    SignalView,
)
from headrace.cli import signals
from headrace.cli.common import client, print_json, print_table, say
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.power.openadr import Finding
from headrace.core.units import MS_PER_SECOND, format_watts

app = typer.Typer(rich_markup_mode=None)
grid = typer.Typer(
    rich_markup_mode=None, help="What the grid asks of sites: instructions, and the ladder that meets them."
)
app.add_typer(grid, name="grid")
AS_JSON = typer.Option(False, "--json", help="Print JSON.")
SITE = typer.Option(..., help="The site.")
_OPEN = ("active", "coming")
_OPTIONS = {f"/{field}": f"--{field}" for field in ("site", "limit", "from", "note", "binding")} | {
    "/until": "--to",
    "/id": "--name",
    "/urgency": "--emergency",
}
"""By field of a request, the option that it is made of."""
_UNCLEAR = re.compile(r"\s*[0-9.]+\s*m[wW]\s*")
"""A power in a unit that is not known: the prefix is not that of a million."""
MOST_FINDINGS = 20
"""So many are printed of a server; all of them are in the JSON."""


@grid.command()
def instruct(  # noqa: PLR0913, PLR0917 - one for each option
    site: str = SITE,
    limit: str = typer.Option(..., help="The most at its meter, like 40MW."),
    begins: str = typer.Option(
        "", "--from", help="When it begins, like 2026-12-01T17:00+01:00 [default: now]."
    ),
    until: str = typer.Option("", "--to", help="When it ends [default: when it is withdrawn]."),
    name: str = typer.Option("", help="Its name; one of the same name is replaced."),
    emergency: bool = typer.Option(False, help="An emergency of the grid."),
    note: str = typer.Option("", help="A note that is kept with it."),
    binding: bool = typer.Option(False, help="Take it even where it can't be met in full."),
    as_json: bool = AS_JSON,
) -> None:
    """Limit a site for a time; what can't be met is refused, and says what could be."""
    if _UNCLEAR.fullmatch(limit):
        text = f"{limit!r} may be a thousandth of a watt, or a million;"
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, text, "Write MW, kW or W.", "--limit"))
    with client() as control, _options():
        found = control.instruct(
            site,
            limit,
            begins=begins or None,
            until=until or None,
            name=name or None,
            urgency="emergency" if emergency else "normal",
            note=note,
            binding=binding,
        )
    _print(found, as_json=as_json)


@contextmanager
def _options() -> Iterator[None]:
    """Name the options for the fields of the request that is made of them."""
    try:
        yield
    except HeadraceError as error:
        found = (replace(one, where=_OPTIONS.get(one.where, one.where)) for one in error.problems)
        raise HeadraceError(*found) from None


@grid.command()
def withdraw(
    instruction: str = typer.Argument(..., help="Its name."),
    reason: str = typer.Option("", help="Why."),
    as_json: bool = AS_JSON,
) -> None:
    """End an instruction now."""
    with client() as control:
        found = control.withdraw(instruction, reason)
    _print(found, as_json=as_json)


def _print(found: Instructed, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    one = found.instruction
    begins = one.begins_at if one.state == "coming" else one.state
    say(
        f"{one.id}: {one.site} at most {format_watts(one.limit_w)}, {begins}, until {one.ends_at or 'withdrawn'}"
    )
    _stands(found.site)
    if one.state in _OPEN and one.limit_w < found.site.least_w:
        over_w = found.site.least_w - one.limit_w
        say(
            f"WARNING: {one.id} can't be met: {one.site} can't come below {format_watts(found.site.least_w)}, which is "
            f"{format_watts(over_w)} above it. It is met as far as that goes; stop firm work, or it is breached."
        )


def _stands(site: LadderView) -> None:
    held = f", {len(site.curtailed)} paused for it" if site.curtailed else ""
    say(
        f"{site.site} can draw {format_watts(site.draws_w)} now, {format_watts(site.floor_w)} of it can't be shed{held}"
    )


@grid.command()
def ls(site: str = typer.Option("", help="Only this site."), as_json: bool = AS_JSON) -> None:
    """List what the grid asks, how each site stands to it, and which grid operators' servers are heard."""
    with client() as control:
        found = control.grid(site)
    if as_json:
        print_json(found)
        return
    columns = ("INSTRUCTION", "SITE", "LIMIT", "STATE", "FROM", "TO", "SOURCE")
    sites = {one.site: one for one in found.sites}
    rows = [
        (
            one.id,
            one.site,
            format_watts(one.limit_w),
            _state(one, sites.get(one.site)),
            one.begins_at,
            one.ends_at or "-",
            one.source,
        )
        for one in found.instructions
    ]
    print_table(columns, rows, "no instructions", ("LIMIT",))
    _table(found)
    _breaches(found)
    _signals(found.signals)


def _state(one: InstructionView, site: LadderView | None) -> str:
    """How it stands with an instruction, and whether its site is under it."""
    if site is None or one.state not in _OPEN:
        return one.state
    if one.limit_w < site.least_w:
        return f"{one.state}, BREACHED" if one.state == "active" else f"{one.state}, CAN'T BE MET"
    is_over = one.state == "active" and one.limit_w < site.draws_w
    return f"{one.state}, not met yet" if is_over else one.state


def _breaches(found: GridView) -> None:
    """Of each site that is above what is asked of it: by how much, and whether it can come down."""
    for one in found.sites:
        if one.asked_w is None or one.draws_w <= one.asked_w:
            continue
        least = format_watts(one.least_w)
        ends = f"it can't come below {least}: stop firm work, or it is breached"
        if one.least_w <= one.asked_w:
            ends = f"it can come down to {least}"
        over = format_watts(one.draws_w - one.asked_w)
        say(f"{one.site} can draw {over} more than the {format_watts(one.asked_w)} that it may; {ends}.")


def _table(found: GridView) -> None:
    rows = []
    for one in found.sites:
        rungs = [format_watts(rung.sheds_w) if rung.sheds_w else "-" for rung in one.rungs]
        numbers = (one.draws_w, one.allowed_w, one.floor_w)
        rows.append((one.site, *map(format_watts, numbers), *rungs, len(one.curtailed) or "-"))
    names = [rung.rung.upper() for rung in found.sites[0].rungs] if found.sites else []
    columns = ("SITE", "DRAWS AT MOST", "ALLOWED", "FLOOR", *names, "PAUSED")
    print_table(columns, rows, "no sites", columns[1:])


def _signals(signals: Sequence[SignalView]) -> None:
    if not signals:
        return
    rows = [
        (
            one.vtn,
            one.state,
            one.since,
            "-" if one.age_ms is None else f"{one.age_ms / MS_PER_SECOND:.0f} s ago",
            f"{one.poll_ms / MS_PER_SECOND:g} s",
            one.instructions,
            one.reports,
        )
        for one in signals
    ]
    columns = ("SIGNALS", "STATE", "SINCE", "HEARD", "POLL", "INSTRUCTIONS", "REPORTS")
    print_table(columns, rows, "", columns[3:])
    for one in signals:
        if one.trouble:
            step = "look at url, client and secret in the file of signals, and whether it runs there"
            say(f"{one.vtn}: {one.trouble}; what was heard holds until its end; {step}.")
        for finding in one.findings[:MOST_FINDINGS]:
            say(f"{one.vtn}: {_line(finding)}")
        if len(one.findings) > MOST_FINDINGS:
            say(f"{one.vtn}: {len(one.findings) - MOST_FINDINGS} more findings; see --json.")


def _line(one: FindingView) -> str:
    return Finding(one.code, one.event, one.interval, one.message, one.effect).line()


grid.registered_commands.extend(signals.grid.registered_commands)
