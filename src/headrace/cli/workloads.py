"""Workloads: list, explain, logs, wait, stop, pause, resume, endpoint. Ids and unique names are the same here."""

import sys
import time
from collections.abc import Callable, Iterator

import typer

from headrace.api.views import Done, WorkloadView
from headrace.cli.common import age, client, print_json, print_table, resolve, say
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.workload import TERMINAL, State
from headrace.sdk import Client

app = typer.Typer(rich_markup_mode=None)
WORKLOAD = typer.Argument(..., help="The workload's id, or its name when that is unique.")
WORKLOADS = typer.Argument(..., help="Workloads by id or unique name.")
AS_JSON = typer.Option(False, "--json", help="Print JSON.")
COLUMNS = ("ID", "NAME", "TYPE", "STATE", "SITE", "NODES", "GPU", "PRIORITY", "SINCE", "REASON")
NUMBERS = ("NODES", "PRIORITY", "SINCE")
SILENCE_S = 5.0
"""How long `--follow` waits in silence for a start before it says what it waits for."""
POLL_S = 0.5


@app.command()
def ps(
    everything: bool = typer.Option(False, "-a", "--all", help="Also those that have ended."),
    tenant: str = typer.Option("", help="Only this tenant's."),
    as_json: bool = AS_JSON,
) -> None:
    """List workloads."""
    with client() as control:
        found = list(control.workloads(tenant, live=not everything))
    if as_json:
        print_json(found)
        return
    empty = (
        "no workloads." if everything else "no live workloads; headrace ps --all shows those that have ended."
    )
    print_table(COLUMNS, map(row, found), empty, NUMBERS)


def row(work: WorkloadView) -> tuple[object, ...]:
    """A line of ``ps``."""
    codes = f" exit codes {', '.join(map(str, work.exit_codes))}" if any(work.exit_codes) else ""
    return (
        work.id,
        work.name,
        work.type,
        work.state,
        work.site or "-",
        work.nodes,
        work.gpu or "-",
        work.priority,
        age(work.since),
        (work.reason + codes).strip(),
    )


@app.command()
def explain(workload: str = WORKLOAD, as_json: bool = AS_JSON) -> None:
    """Say why a workload waits, runs, moved or was refused. One line, with what would change it."""
    with client() as control:
        found = control.explain(resolve(control, workload))
    if as_json:
        print_json(found)
    else:
        say(f"{found.workload} {found.line}")


@app.command()
def logs(
    workload: str = WORKLOAD,
    follow: bool = typer.Option(False, "-f", "--follow", help="Go on until the workload ends."),
    rank: int | None = typer.Option(
        None, min=0, help="Only this rank [default: all ranks of a gang, in turn; with -f rank 0]."
    ),
    stderr: bool = typer.Option(False, "--stderr", help="What it wrote to standard error."),
) -> None:
    """Print a workload's log. Reading a log is recorded in the journal."""
    stream = "stderr" if stderr else "stdout"
    with client() as control:
        ident = resolve(control, workload)
        last = 0 if follow else control.workload(ident).workload.nodes - 1
        ranks = [rank] if rank is not None else list(range(last + 1))
        for number in ranks:
            write(control.logs(ident, number, stream, follow=follow))


def write(pieces: Iterator[bytes]) -> None:
    """Write pieces of a log as they come."""
    for piece in pieces:
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()


def follow_to_the_end(control: Client, ident: str) -> int:
    """Print the log of rank 0 until the workload ends; 0 when it succeeded, else 1."""
    tell_while_it_waits(control, ident)
    write(control.logs(ident, follow=True))
    ended = control.workload(ident).workload
    if ended.state == State.SUCCEEDED:
        return 0
    sys.stderr.write(f"headrace: {control.explain(ident).line}\n")
    return 1


def tell_while_it_waits(control: Client, ident: str) -> None:
    """Return once a workload has started or ended; on standard error, why it waits, whenever that becomes another reason."""
    began, told = time.monotonic(), ""
    while control.workload(ident).workload.state in (State.QUEUED, State.PLACED):
        if time.monotonic() - began >= SILENCE_S:
            found = control.explain(ident)
            if found.refusal and found.refusal != told:
                told = found.refusal
                sys.stderr.write(f"headrace: {found.line}\n")
        time.sleep(POLL_S)


@app.command()
def wait(
    workload: str = WORKLOAD,
    state: list[str] = typer.Option(
        [], "--for", help="A state to wait for, like running [default: any end]."
    ),
    timeout: float = typer.Option(600.0, min=0, help="Seconds; exit code 8 when they are over."),
) -> None:
    """Wait until a workload has ended, or is in a state. Exit code 1 when it ended without success."""
    unknown = [one for one in state if one not in set(State)]
    if unknown:
        step = f"States are {', '.join(State)}."
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, f"no state {unknown[0]!r};", step))
    with client() as control:
        found = control.wait(resolve(control, workload), state or TERMINAL, timeout)
    say(f"{found.id} {found.state}{f': {found.reason}' if found.reason else ''}")
    if not state and found.state != State.SUCCEEDED:
        raise typer.Exit(1)


@app.command()
def stop(workload: list[str] = WORKLOADS) -> None:
    """Stop workloads for good: a signal first, then by force."""
    _each(workload, Client.stop, "stopping", "has ended already")


@app.command()
def pause(workload: list[str] = WORKLOADS) -> None:
    """Pause workloads: their processes stand still. They keep what they have, their nodes and watts too."""
    _each(workload, Client.pause, "pausing", "is paused already")


@app.command()
def resume(workload: list[str] = WORKLOADS) -> None:
    """Let paused workloads go on."""
    _each(workload, Client.resume, "resuming", "runs already")


def _each(names: list[str], ask: Callable[[Client, str], Done], doing: str, already: str) -> None:
    with client() as control:
        for name in names:
            ident = resolve(control, name)
            say(f"{doing} {ident}" if ask(control, ident).changed else f"{ident} {already}")


@app.command()
def endpoint(workload: str = WORKLOAD, as_json: bool = AS_JSON) -> None:
    """Print where a workload answers and the API key of its replica."""
    with client() as control:
        found = control.endpoint(resolve(control, workload))
    if as_json:
        print_json(found)
        return
    for name, address in found.endpoints.items():
        say(f"{name}  {'http://' if name == 'http' else ''}{address}")
    if found.api_key:
        say(f"key   {found.api_key}")
