"""``headrace top``: sites, nodes and workloads, live."""

import time
from itertools import islice

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from headrace.api.views import NodeView, PowerView
from headrace.cli.common import client, console, cut_last, table
from headrace.cli.workloads import COLUMNS, NUMBERS, row
from headrace.core.units import format_watts
from headrace.core.workload import TERMINAL
from headrace.sdk import Client

app = typer.Typer(rich_markup_mode=None)
BAR = 24
MOST_WORKLOADS = 30


@app.callback()
def group() -> None:
    """Watch."""


@app.command()
def top(
    once: bool = typer.Option(False, "--once", help="Print one frame and end."),
    every: float = typer.Option(1.0, min=0.2, help="Seconds between frames."),
) -> None:
    """Watch sites, nodes and workloads until Ctrl-C. Sites show the power admitted against the limit."""
    with client() as control:
        if once:
            console().print(frame(control))
            return
        with Live(frame(control), console=console(), screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(every)
                live.update(frame(control), refresh=True)


def frame(control: Client) -> Group:
    """One look at everything."""
    status = control.status()
    counted = ", ".join(f"{count} {state}" for state, count in status.workloads.items()) or "no workloads"
    title = Text(f"{status.operator or 'no estate'}  {counted}  {status.now[11:19]} UTC", style="bold")
    connections = [one for one in control.power(racks=False) if not one.parent]
    works = list(islice(control.workloads(live=True, why=True), MOST_WORKLOADS))
    live = sum(count for state, count in status.workloads.items() if state not in TERMINAL)
    parts: list[RenderableType] = [title, Text(), _sites(connections, list(control.nodes())), Text()]
    if works:
        parts.append(table(COLUMNS, cut_last(map(row, works), COLUMNS, console().width), NUMBERS))
    if live > len(works) == MOST_WORKLOADS:
        parts.append(Text(f"and {live - len(works)} more"))
    return Group(*parts)


def _sites(connections: list[PowerView], nodes: list[NodeView]) -> Table:
    made = table(("SITE", "IT POWER ADMITTED", "", "LIMIT", "NODES", "READY", "ACCELERATORS IN USE"), ())
    for one in connections:
        here = [node for node in nodes if node.site == one.site]
        ready = sum(node.state == "ready" for node in here)
        used = f"{sum(node.used for node in here)}/{sum(node.accelerators for node in here)}"
        cells = (
            one.site,
            _bar(one.admitted_w, one.limit_w),
            format_watts(one.admitted_w),
            format_watts(one.limit_w),
        )
        made.add_row(*cells, str(len(here)), str(ready), used)
    return made


def _bar(used: int, limit: int) -> Text:
    full = min(BAR, used * BAR // limit) if limit else 0
    style = "green" if full < BAR * 3 // 4 else "yellow" if full < BAR else "red"
    return Text("█" * full + "░" * (BAR - full), style=style)
