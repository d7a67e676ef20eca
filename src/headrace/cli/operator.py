"""For the operator: status, nodes, sites, power, drain."""

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import typer

from headrace.api.views import Drained
from headrace.api.views_grid import SignalView
from headrace.cli.common import client, print_json, print_table, say
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.units import PERMILLE, format_money, format_watts
from headrace.engines.problems import IN_CLUSTER
from headrace.sdk import Client

T = TypeVar("T")
app = typer.Typer(rich_markup_mode=None)
AS_JSON = typer.Option(False, "--json", help="Print JSON.")
SITE = typer.Option("", help="Only this site.")
NODES = typer.Argument(None, help="Nodes by name.")
WHOLE_SITE = typer.Option(None, "--site", help="All nodes of this site.")
SETTLE_S = 0.5
"""So long after a node is taken back its engine has said what its cluster thinks of it."""
REASON = typer.Option("", help="Why; it is kept with the event.")


@app.command()
def status(as_json: bool = AS_JSON) -> None:
    """Say how the control plane stands."""
    with client() as control:
        now = control.status()
        engines = () if as_json else _if_allowed(control.engines)
        signals = () if as_json else _if_allowed(lambda: control.grid(ladders=False).signals)
    if as_json:
        print_json(now)
        return
    counted = ", ".join(f"{count} {state}" for state, count in now.workloads.items())
    say(f"headrace {now.version}, operator {now.operator or '(no estate applied yet)'}, epoch {now.epoch}")
    say(f"journal {now.journal}: {now.events} events, signed by the key {now.public_key}")
    say(f"workloads: {counted or 'none'}")
    say(f"billing period {now.period}")
    if now.alarms:
        say(f"ALARMS: {now.alarms}; see 'headrace journal events --kind AlarmRaised'")
    for one in engines:
        if one.trouble:
            say(f"engine {one.name}: {one.trouble}")
    if signals:
        say(_heard(signals))
    if now.problem is not None:
        raise HeadraceError(
            Problem(ProblemCode(now.problem.code), now.problem.message, now.problem.next_step)
        )


def _heard(signals: Sequence[SignalView]) -> str:
    """Whether the grid is heard, in one line."""
    silent = [one for one in signals if one.trouble]
    odd = sum(len(one.findings) for one in signals)
    told = f"signals: {len(signals) - len(silent)} of {len(signals)} VTNs heard"
    if silent:
        names = ", ".join(f"{one.vtn} {one.state} since {one.since}" for one in silent)
        told += f"; {names}: what was heard holds until its end"
    if odd:
        told += f"; {odd} findings"
    return f"{told}; see 'headrace grid ls'" if silent or odd else told


def _if_allowed(ask: Callable[[], tuple[T, ...]]) -> tuple[T, ...]:
    """What one asks for, for whoever may see it."""
    try:
        return ask()
    except HeadraceError as error:
        if error.problem.code is not ProblemCode.FORBIDDEN:
            raise
        return ()


@app.command()
def nodes(site: str = SITE, as_json: bool = AS_JSON) -> None:
    """List nodes: state, use, watts. Also where the watts come from, and how tenants are kept apart."""
    with client() as control:
        found = list(control.nodes(site))
    if as_json:
        print_json(found)
        return
    rows = [
        (
            one.id,
            one.hardware,
            f"{one.used}/{one.accelerators} {one.accelerator}",
            one.ranks,
            one.state,
            format_watts(one.watts),
            one.watts_source,
            one.isolation or "-",
            one.reason,
        )
        for one in found
    ]
    columns = ("NODE", "HARDWARE", "IN USE", "RANKS", "STATE", "WATTS", "SOURCE", "ISOLATION", "REASON")
    print_table(columns, rows, "no nodes: apply an estate.", ("RANKS", "WATTS"))


@app.command()
def sites(as_json: bool = AS_JSON) -> None:
    """List sites, and the constants declared for their energy."""
    with client() as control:
        found = control.sites()
    if as_json:
        print_json(found)
        return
    rows = [
        (
            one.id,
            one.country or "unknown",
            one.grid_zone or "-",
            one.energy_source or "-",
            one.carbon_g_per_kwh,
            format_money(one.energy_price_micros_per_kwh, one.currency),
            one.pue_permille / PERMILLE,
            one.dedicated_to or "-",
        )
        for one in found
    ]
    columns = ("SITE", "COUNTRY", "GRID ZONE", "SOURCE", "gCO2e/kWh", "PRICE/kWh", "PUE", "DEDICATED TO")
    print_table(columns, rows, "no sites: apply an estate.", ("gCO2e/kWh", "PRICE/kWh", "PUE"))


@app.command()
def drain(
    node: list[str] | None = NODES,
    site: str | None = WHOLE_SITE,
    reason: str = REASON,
    evict: bool = typer.Option(
        False, "--evict", help="Move what runs there at once, instead of letting it end."
    ),
) -> None:
    """Place nothing more on nodes."""
    _drained(lambda control: control.drain(node or [], site=site, reason=reason, evict=evict), "draining")


@app.command()
def undrain(node: list[str] | None = NODES, site: str | None = WHOLE_SITE, reason: str = REASON) -> None:
    """Take drained nodes back."""
    _drained(lambda control: control.undrain(node or [], site=site, reason=reason), "ready")


def _drained(ask: Callable[[Any], Drained], now: str) -> None:
    with client() as control:
        done = ask(control)
        closed = _still_closed(control, done.nodes) if now == "ready" and done.nodes else {}
    for name in done.nodes:
        say(f"{name} {closed.get(name, now)}")
    for name in done.evicted:
        say(f"placement {name} is told to leave")
    if not done.nodes:
        say("nothing changed: it was so already.")


def _still_closed(control: Client, taken_back: Sequence[str]) -> dict[str, str]:
    """What keeps nodes closed that were taken back, with the next step, by name."""
    time.sleep(SETTLE_S)
    found = {}
    for one in control.nodes(""):
        if one.id in taken_back and one.state != "ready":
            step = ""
            if one.reason.startswith(IN_CLUSTER):
                step = (
                    "; take it back there: in Slurm `sinfo -R` says who drained it, "
                    "`scontrol update nodename=... state=resume` ends it"
                )
            found[one.id] = f"{one.state}: {one.reason}{step}"
    return found
