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
from headrace.core.errors import HeadraceError
from headrace.engines.declared import EngineModel
from headrace.server import Server, Settings
from headrace.signals.declared import read_secret
from headrace.signals.follow import Followed
from headrace.state import default_state, engines_file

app = typer.Typer(rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Run Headrace."""


@app.command()
def up(
    state: Path | None = typer.Option(
        None, help="Where everything is kept [default: HEADRACE_STATE, else ~/.headrace]."
    ),
    host: str = typer.Option("127.0.0.1", help="The address to listen on."),
    port: int = typer.Option(7400, min=0, max=65535, help="The port to listen on; 0 takes a free one."),
    engines: Path | None = typer.Option(
        None,
        help="A file that declares the clusters to drive, Slurm or Ray [default: engines.yaml in the state directory].",
    ),
    signals: Path | None = typer.Option(
        None,
        help="A file that declares the grid operators' servers to follow, like examples/signals.yaml [default: signals.yaml in "
        "the state directory].",
    ),
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
    followed = _signals_file(path, signals)
    server = Server(Settings(path, host, port, isolate=not no_isolation, engines=declared, signals=followed))
    say(f"headrace {headrace.__version__}")
    say(f"state  {server.directory.path}")
    say(f"url    {server.url}")
    if declared is not None:
        say(f"engines {', '.join(server.reconciler.engines)} (from {declared})")
    if followed is not None:
        say(f"signals {', '.join(one.name for one in server.vtns)} (from {followed})")
        server.following.told = _say_heard
    if server.admin_token is not None:
        say(f"token  {server.admin_token}   the operator's; shown this once")

    for line in _given_away(no_isolation, server.declared):
        say(line)
    for line in (*server.reconciler.misnamed(), *_misheard(server)):
        say(f"WARNING: {line}")
    if not no_isolation and os.geteuid() != 0:
        say("only root can give each tenant a Unix user: one tenant is served here. For more: --no-isolation")
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


def _signals_file(state: Path, given: Path | None) -> Path | None:
    """The file that declares VTNs: the one that was given, else ``signals.yaml`` in the state directory, if it is there."""
    found = state / "signals.yaml"
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
