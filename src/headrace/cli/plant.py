"""``headrace plant`` and ``headrace devices``: a simulated site behind real protocols, and what devices say."""

import asyncio
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import typer

from headrace.cli import live
from headrace.cli.common import print_json, print_table, say
from headrace.cli.operator import AS_JSON
from headrace.clock import WallClock
from headrace.core.errors import HeadraceError, Problem, ProblemCode, unknown
from headrace.core.ids import NodeId, PowerNodeId
from headrace.core.power.telemetry import Judgement
from headrace.core.units import format_watts, parse_watts
from headrace.devices import DeviceError, MinerState
from headrace.devices.declared import load_devices
from headrace.devices.fleet import (
    Confirmation,
    Devices,
    discover,
    read_limits,
    read_meters,
    read_miners,
    resume_miners,
    set_limits,
    stop_miners,
)
from headrace.plant.physics import Failure
from headrace.plant.redfish_server import WAYS
from headrace.plant.run import DEVICES, PLANT, Plant, PlantClock
from headrace.plant.site import Options, overloads, read_estate, site_fleet
from headrace.ports import Clock

app = typer.Typer(rich_markup_mode=None)
DEADLINE_S = 20.0


@app.command()
def plant(  # noqa: PLR0913, PLR0917 - one for each option
    estate: Path = typer.Argument(help="The file of an estate."),
    site: str = typer.Option("", help="Which of its sites [default: the first]."),
    speed: int = typer.Option(1, min=1, max=100, help="How many times as fast as the world."),
    port_base: int = typer.Option(
        0,
        min=0,
        max=65_000,
        help="Controllers listen here, the control channel at the next port, meters from the one after it [default: free ports].",
    ),
    miners: int = typer.Option(0, min=0, max=10_000, help="Miners (Whatsminers of 3.3 kW)."),
    miners_at: str = typer.Option("", help="The power element that they hang at [default: the connection]."),
    load: int = typer.Option(700, min=0, max=1_000, help="What nodes want, in thousandths of nameplate."),
    fail: int = typer.Option(
        0, min=0, max=1_000, help="So many of a thousand controllers and miners fail from the start."
    ),
    fail_as: str = typer.Option(
        "", help="How they fail: silent, refuses, ignores, slow, gone [default: all five]."
    ),
    lag: int = typer.Option(2_000, min=0, max=60_000, help="Milliseconds that meters lag."),
    racks: bool = typer.Option(False, "--racks", help="Racks have meters too."),
    way: str = typer.Option(
        "mixed", help="Which power limit controllers have: environment, control, legacy or mixed."
    ),
    tls: bool = typer.Option(
        False, "--tls", help="Controllers speak https, with a certificate that signed itself."
    ),
    seed: int = typer.Option(1, help="Where chance begins."),
    out: Path = typer.Option(Path("plant"), help="Where devices.yaml and all else is written."),
) -> None:
    """Simulate a site's power behind Modbus TCP, Redfish and miners' protocols, on loopback, until interrupted."""
    _choice("--way", way, (*WAYS, "mixed"))
    options = Options(
        site=site,
        speed=speed,
        port_base=port_base,
        fail_permille=fail,
        fail_as=_failures(fail_as),
        seed=seed,
        load_permille=load,
        miners=miners,
        miners_at=miners_at,
        racks=racks,
        lag_ms=lag,
        way=way,
        tls=tls,
    )  # fmt: skip
    fleet = site_fleet(read_estate(estate), site)
    asyncio.run(_run(Plant(fleet, options, out)))


async def _run(running: Plant) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with running:
        nodes, meters = int(running.physics.is_server.sum()), len(running.meters)
        miners = len(running.physics.miners)
        say(f"simulated: site {running.fleet.sites[0].id}, {nodes} nodes, {meters} meters, {miners} miners")
        for line in overloads(running.fleet, running.physics):
            say(line)
        say(f"devices: {running.directory / DEVICES}")
        say(f"control: {running.control_url} (token in {running.directory / 'token'})")
        say(f"ready at {running.options.speed} x the speed of the world; Ctrl-C ends it")
        await running.run(stop)


@app.command()
def devices(
    file: Path | None = typer.Argument(
        None,
        help="A file that declares devices, like plant/devices.yaml: they are asked directly [default: what the control plane "
        "knows of its own].",
    ),
    site: str = typer.Option("", help="Of the control plane's, only this site's."),
    concerned: bool = typer.Option(
        False,
        "--concerned",
        help="Of the control plane's controllers, only those asked for something, or in trouble.",
    ),
    limit: list[str] = typer.Option(
        [], "--limit", help="Set a node's limit before: NODE=WATTS, NODE=none or all=WATTS."
    ),
    stop: list[str] = typer.Option([], "--stop", help="Stop a miner before, or all."),
    resume: list[str] = typer.Option([], "--resume", help="Let a miner hash again before, or all."),
    watch: float = typer.Option(
        0.0, min=0.0, max=60.0, help="Read meters for so many seconds, twice a second."
    ),
    as_json: bool = AS_JSON,
) -> None:
    """What devices say, the control plane's or those of a file; exit status 1 if one does not answer or is not believed."""
    if file is None:
        if limit or stop or resume or watch:
            text, step = "devices are told only by their file;", "Give it first, like plant/devices.yaml."
            raise HeadraceError(Problem(ProblemCode.BAD_INPUT, text, step))
        live.show(site, concerned=concerned, as_json=as_json)
        return
    found = asyncio.run(_look(file, limit, stop, resume, watch))
    if as_json:
        print_json(found)
    else:
        columns = ("DEVICE", "KIND", "SAYS", "")
        rows = [(one["device"], one["kind"], one["says"], one["trouble"] or "ok") for one in found]
        print_table(columns, rows, "no devices.")
    if any(one["trouble"] for one in found):
        raise typer.Exit(1)


async def _look(
    file: Path, limit: Sequence[str], stop: Sequence[str], resume: Sequence[str], watch: float
) -> list[dict[str, str]]:
    # A plant that is faster than the world goes by a clock of its own, which its meters tell.
    beside = file.parent / PLANT
    clock: Clock = PlantClock.of(file.parent) if beside.is_file() else WallClock()
    async with Devices.of(load_devices(file), clock) as known:
        wanted = dict(pair for text in limit for pair in _limits(text, known))
        stopping, resuming = _miners(stop, known), _miners(resume, known)
        before = await read_meters(known, DEADLINE_S) if stopping and watch else {}
        mined = await read_miners(known, DEADLINE_S) if stopping and watch else {}
        rows: list[dict[str, str]] = []
        if wanted:
            rows += [_said_of(one) for one in (await set_limits(known, wanted, DEADLINE_S)).values()]
        failed = await stop_miners(known, stopping, DEADLINE_S) | await resume_miners(
            known, resuming, DEADLINE_S
        )
        rows += [_row(name, "order", "", error) for name, error in failed.items()]
        troubles = await discover(known, DEADLINE_S)
        for node in troubles:
            # Asked once is enough to say so.
            known.servers.pop(NodeId(node))
        judged = await read_meters(known, DEADLINE_S)
        until = asyncio.get_running_loop().time() + watch
        while asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.5)
            judged = await read_meters(known, DEADLINE_S)
        for name, one in judged.items():
            says = f"{format_watts(one.reading.watts)} {one.reading.source}"
            rows.append({"device": name, "kind": "meter", "says": says, "trouble": one.detail})
        rows += [_row(node, "redfish", "", error) for node, error in troubles.items()]
        for node, reading in (await read_limits(known, DEADLINE_S)).items():
            kind = f"redfish {known.servers[NodeId(node)].way or '?'}"
            if isinstance(reading, DeviceError):
                rows.append(_row(node, kind, "", reading))
                continue
            said = "no limit" if reading.limit_w is None else f"limit {format_watts(reading.limit_w)}"
            drawn = "" if reading.drawn_w is None else f", draws {format_watts(reading.drawn_w)}"
            rows.append(_row(node, kind, said + drawn, None))
        mining_now = await read_miners(known, DEADLINE_S)
        lies = dict(_lies(known, stopping, (mined, mining_now), (before, judged)))
        for name, state in mining_now.items():
            if isinstance(state, DeviceError):
                rows.append(_row(name, "miner", "", state))
                continue
            mining = {True: "mining", False: "stopped", None: "says nothing"}[state.is_mining]
            drawn = "" if state.power_w is None else f", draws {format_watts(state.power_w)}"
            rows.append(_row(name, "miner", mining + drawn, None) | {"trouble": lies.get(name, "")})
        return rows


def _lies(
    known: Devices,
    stopped: Sequence[str],
    said: tuple[Mapping[str, MinerState | DeviceError], Mapping[str, MinerState | DeviceError]],
    metered: tuple[Mapping[str, Judgement], Mapping[str, Judgement]],
) -> Iterator[tuple[str, str]]:
    """Miners that say that they stopped where the meter of their element fell by less than they say; before and after."""
    by_element: dict[PowerNodeId, list[str]] = {}
    for name in stopped:
        by_element.setdefault(known.miners[name].address.element, []).append(name)
    for meter, one in known.meters.items():
        names = by_element.get(one.element, [])
        judged = [found[meter] for found in metered if meter in found]
        states = [[found.get(name) for name in names] for found in said]
        if len(judged) < 2 or not all(each.is_believed for each in judged):
            continue
        watts = [
            sum(state.power_w or 0 for state in found if isinstance(state, MinerState)) for found in states
        ]
        less_w, fell_w = watts[0] - watts[1], judged[0].reading.watts - judged[1].reading.watts
        if less_w > 0 and fell_w * 10 < less_w * 9:
            text = (
                f"{', '.join(names[:5])}: they say that they draw {format_watts(less_w)} less, and {meter} fell by "
                f"{format_watts(max(0, fell_w))}: one of them goes on, or something else draws more; look at them."
            )
            yield from ((name, text) for name in names)


def _row(device: str, kind: str, says: str, error: DeviceError | None) -> dict[str, str]:
    return {
        "device": device,
        "kind": kind,
        "says": says,
        "trouble": "" if error is None else error.problem.line(),
    }


def _said_of(one: Confirmation) -> dict[str, str]:
    asked = "none" if one.wanted_w is None else format_watts(one.wanted_w)
    return _row(one.node, "order", f"limit {asked} {one.outcome}", one.problem)


def _limits(text: str, known: Devices) -> list[tuple[NodeId, int | None]]:
    name, _, amount = text.partition("=")
    try:
        watts = None if amount == "none" else parse_watts(amount)
    except ValueError as error:
        raise HeadraceError(
            Problem(ProblemCode.BAD_INPUT, f"{error};", "Write NODE=700W or NODE=none.", "--limit")
        ) from None
    if name == "all":
        return [(node, watts) for node in known.servers]
    if name not in known.servers:
        raise HeadraceError(unknown("node", name, known.servers))
    return [(NodeId(name), watts)]


def _miners(names: Sequence[str], known: Devices) -> list[str]:
    if "all" in names:
        return list(known.miners)
    for name in names:
        if name not in known.miners:
            raise HeadraceError(unknown("miner", name, known.miners))
    return list(names)


def _failures(text: str) -> tuple[Failure, ...]:
    known = {one.name.lower(): one for one in Failure if one is not Failure.NONE}
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        _choice("--fail-as", name, tuple(known))
    return tuple(known[name] for name in names)


def _choice(option: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        text = f"{value!r} is none of {', '.join(known)}."
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, text, "Choose one of them.", option))
