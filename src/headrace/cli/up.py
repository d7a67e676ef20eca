"""``headrace up``: a control plane in the foreground."""

import asyncio
import contextlib
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

import typer
import uvloop

import headrace
from headrace.cli.common import say
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.documents import values
from headrace.engines.declared import EngineModel
from headrace.plant.run import PLANT, read_plant
from headrace.server import Server, Settings
from headrace.signals.declared import read_secret
from headrace.signals.follow import Followed
from headrace.state import default_state, engines_file

app = typer.Typer(rich_markup_mode=None)
SIGNALS = typer.Option(
    None,
    help="A file that declares the grid operators' servers to follow, like examples/signals.yaml [default: signals.yaml in "
    "the state directory].",
)
DEVICES = typer.Option(
    None,
    help="A file that declares meters, servers' controllers and miners, like examples/devices.yaml [default: devices.yaml in "
    "the state directory].",
)
STORES = typer.Option(
    None,
    help="A file that says where sites keep data, like examples/stores.yaml [default: stores.yaml in the state directory].",
)


AT = typer.Option(
    "",
    metavar="COUNTRY",
    help="In which country the state directory is; the operator's journal_policy asks for it.",
)
COUNTRY = typer.Option(
    [],
    help="From where the holder of the operator's first token has access, like NO; may be repeated. Policies about people "
    "ask for it.",
)


def _country(text: str, option: str = "--country") -> str:
    try:
        return values.country(text)
    except values.Bad as bad:
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, bad.message, bad.next_step, option)) from None


@app.callback()
def group() -> None:
    """Run Headrace."""


@app.command()
def up(  # noqa: PLR0913, PLR0917 - one for each option
    state: Path | None = typer.Option(
        None, help="Where everything is kept [default: HEADRACE_STATE, else ~/.headrace]."
    ),
    host: str = typer.Option("127.0.0.1", help="The address to listen on."),
    port: int = typer.Option(7400, min=0, max=65535, help="The port to listen on; 0 takes a free one."),
    engines: Path | None = typer.Option(
        None,
        help="A file that declares the clusters to drive, Slurm or Ray [default: engines.yaml in the state directory].",
    ),
    signals: Path | None = SIGNALS,
    devices: Path | None = DEVICES,
    stores: Path | None = STORES,
    country: list[str] = COUNTRY,
    at: str = AT,
    no_isolation: bool = typer.Option(
        False,
        "--no-isolation",
        help="Let the workloads of all tenants run as the one Unix user who starts this; nodes and invoices say so. As root "
        "they are root, and read everything.",
    ),
) -> None:
    """Run the control plane until Ctrl-C. What it runs goes on, and is found again by the next start."""
    path = (state or default_state()).absolute()
    declared = engines_file(path, engines)
    followed = _own_file(path, "signals.yaml", signals)
    measured = _own_file(path, "devices.yaml", devices)
    settings = Settings(
        path,
        host,
        port,
        isolate=not no_isolation,
        engines=declared,
        signals=followed,
        devices=measured,
        stores=_own_file(path, "stores.yaml", stores),
        countries=tuple(sorted({_country(one) for one in country})),
        at=_country(at, "--at") if at else "",
    )
    server = Server(settings)
    _say_what_there_is(server)
    _say_what_is_odd(server, no_isolation, measured)
    # Another terminal need not have this one's HEADRACE_STATE.
    found = server.directory.path == (Path.home() / ".headrace").absolute()
    where = "" if found else f"HEADRACE_STATE={shlex.quote(str(server.directory.path))} "

    def ready() -> None:
        say(f"ready. In another terminal: {where}headrace status")
        say("Ctrl-C ends the control plane, not what runs under it.")

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(server.serve(ready))
    finally:
        server.close()


def _say_what_there_is(server: Server) -> None:
    """Where it is, and which clusters, servers and devices its files declare."""
    settings = server.settings
    say(f"headrace {headrace.__version__}")
    say(f"state  {server.directory.path}")
    say(f"url    {server.url}")
    if settings.engines is not None:
        say(f"engines {', '.join(server.reconciler.engines)} (from {settings.engines})")
    if settings.signals is not None:
        say(f"signals {', '.join(one.name for one in server.vtns)} (from {settings.signals})")
        server.following.told = _say_heard
    if settings.devices is not None:
        say(f"devices {_counted(server)} (from {settings.devices})")
    if settings.stores is not None:
        say(f"stores {', '.join(server.stores)} (from {settings.stores})")
    if server.admin_token is not None:
        say(f"token  {server.admin_token}   the operator's; shown this once")


def _say_what_is_odd(server: Server, no_isolation: bool, measured: Path | None) -> None:
    """What whoever starts it should know: who would be root, and names that nothing has."""
    for line in _given_away(no_isolation, server.declared):
        say(line)
    for line in (*server.reconciler.misnamed(), *_misheard(server), *_mismeasured(server, measured)):
        say(f"WARNING: {line}")
    if not no_isolation and os.geteuid() != 0:
        say("only root can give each tenant a Unix user: one tenant is served here. For more: --no-isolation")


def _given_away(no_isolation: bool, declared: Sequence[EngineModel]) -> list[str]:
    """What is said when tenants would be root."""
    if os.geteuid() != 0:
        return []
    rooted = [one.name for one in declared if one.gives_away_root]
    why = [*(["--no-isolation"] if no_isolation else []), *(f"isolate: false of {name}" for name in rooted)]
    if not why:
        return []
    return [
        f"WARNING: {' and '.join(why)}, as root: what tenants run is root too. It can read and change everything on the machine,",
        "         other tenants' work, the operator's token and keys among it. Only where every tenant may do that; else",
        "         leave it out, or run Headrace as another user.",
    ]


def _counted(server: Server) -> str:
    """How many devices there are of each kind."""
    sites = server.devices
    counts = (
        ("meters", sum(len(one.meters) for one in sites)),
        ("controllers", sum(len(one.servers) for one in sites)),
        ("miners", sum(len(one.miners) for one in sites)),
    )
    return ", ".join(f"{number} {what}" for what, number in counts)


def _mismeasured(server: Server, file: Path | None) -> list[str]:
    """Names of the devices file that the estate does not have, and a plant that goes by another clock."""
    if file is None:
        return []
    found = [f"devices: {line}" for line in server.actuator.states().strangers if server.control.world.estate]
    beside = file.parent / PLANT
    speed = read_plant(file.parent)["speed"] if beside.is_file() else 1
    if speed != 1:
        found.append(
            f"devices: this plant goes {speed} times as fast as the world, and a control plane by the world's clock: none of its "
            "meters will be believed. Start it with --speed 1."
        )
    return found


def _own_file(state: Path, name: str, given: Path | None) -> Path | None:
    """A file of declarations: the one that was given, else the one of this name in the state directory, if it is there."""
    found = state / name
    if given is not None:
        return given.absolute()
    return found if found.exists() else None


def _misheard(server: Server) -> list[str]:
    """What keeps signals from being followed, as far as it is known before anybody is asked."""
    found = []
    for vtn in server.vtns:
        try:
            read_secret(vtn.secret)
        except HeadraceError as error:
            found.append(f"{vtn.name}: {error.problem.message} {error.problem.next_step} It is tried again.")
    orphans = server.following.orphans()
    if orphans:
        first = orphans[0].id
        found.append(
            f"{len(orphans)} instructions of grid operators that no file declares any more hold until their end; to end one: "
            f"`headrace grid withdraw {first}`"
        )
    return found


def _say_heard(now: Followed) -> None:
    """That a VTN began, or ceased, to be heard. Nobody need be there to read it."""
    holds = f"{now.standing} of its instructions hold now or later"
    line = f"signals {now.vtn}: heard; {holds}"
    if now.trouble:
        step = "it is tried again. Look at url, client and secret in the file, and whether it runs there."
        line = f"WARNING: signals {now.vtn}: {now.trouble}; {holds}; {step}"
    with contextlib.suppress(OSError):
        say(line)
