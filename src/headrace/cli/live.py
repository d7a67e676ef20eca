"""``headrace devices`` without a file: what the control plane asks of its devices, and what they say."""

import typer

from headrace.api.views_devices import DevicesView, LimiterView, MeterView, MinerView
from headrace.cli.common import client, print_json, print_table, say
from headrace.core.units import MS_PER_SECOND, format_watts


def show(site: str, *, concerned: bool, as_json: bool) -> None:
    """Print them; exit status 1 if one does not do what it is asked, or is not believed."""
    with client() as control:
        found = control.devices(site, concerned=concerned)
    if as_json:
        print_json(found)
    else:
        _print(found)
    if found.trouble or found.counts.troubled or found.counts.doubted:
        raise typer.Exit(1)


def _print(found: DevicesView) -> None:
    rows = [
        *map(_meter, found.meters),
        *map(_limiter, found.limiters),
        *map(_miner, found.miners),
    ]
    columns = ("DEVICE", "KIND", "WANTED", "SAYS", "COUNTS", "")
    print_table(columns, rows, "no devices: start `headrace up` with --devices FILE.")
    if found.more:
        say(f"and {found.more} controllers more; see --site and --concerned.")
    for line in found.strangers:
        say(f"WARNING: {line}")
    if found.trouble:
        say(f"WARNING: {found.trouble}")


def _meter(one: MeterView) -> tuple[str, ...]:
    age = "" if one.age_ms is None else f", {one.age_ms / MS_PER_SECOND:.0f} s old"
    if one.counted_w is None:
        counts = "not compared: several ways lead past it"
    else:
        counts = format_watts(one.counted_w)
        counts += f", {format_watts(one.excess_w)} of it unknown" if one.excess_w else ""
    return one.meter, "meter", "-", f"{format_watts(one.watts)} {one.source}{age}", counts, one.detail or "ok"


def _limiter(one: LimiterView) -> tuple[str, ...]:
    wanted = "-" if one.wanted_w is None else format_watts(one.wanted_w) if one.wanted_w else "no limit"
    if one.enforced_w is None:
        says = "-"
    else:
        says = f"limit {format_watts(one.enforced_w)}" if one.enforced_w else "no limit"
    counts = (
        "-" if one.wanted_w is None else "in full" if one.counts_w is None else format_watts(one.counts_w)
    )
    return one.node, f"redfish {one.way or '?'}", wanted, says, counts, one.trouble or one.state


def _miner(one: MinerView) -> tuple[str, ...]:
    mining = {True: "mining", False: "stopped", None: "-"}[one.mining]
    drawn = "" if one.power_w is None else f", draws {format_watts(one.power_w)}"
    counts = "by its meter" if one.counts_w is None else format_watts(one.counts_w)
    return one.miner, "miner", one.wanted or "-", f"{mining}{drawn}", counts, one.trouble or "ok"
