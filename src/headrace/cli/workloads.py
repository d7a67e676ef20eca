"""Workloads: list, explain, logs, wait, stop, pause, resume, endpoint. Ids and unique names are the same here."""

import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import typer

from headrace.api.views import Done, WorkloadView
from headrace.cli.common import age, client, console, cut_last, print_json, print_table, resolve, say, seconds
from headrace.cli.follow import follow_ranks
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
    """List workloads, with why each waits, moved or was refused."""
    with client() as control:
        found = list(control.workloads(tenant, live=not everything, why=True))
    if as_json:
        print_json(found)
        return
    empty = (
        "no workloads." if everything else "no live workloads; headrace ps --all shows those that have ended."
    )
    rows: Iterable[Sequence[object]] = map(row, found)
    if sys.stdout.isatty():
        rows = cut_last(rows, COLUMNS, console().width)
    print_table(COLUMNS, rows, empty, NUMBERS)


def row(work: WorkloadView) -> tuple[object, ...]:
    """A line of ``ps``."""
    told = len(work.exit_codes) == 1 and "exit code" in work.reason
    # What runs again has the codes of the attempt before: they are no reason of what it is now.
    is_told = any(work.exit_codes) and work.state in (*TERMINAL, "queued") and not told
    codes = f", exit codes {', '.join(map(str, work.exit_codes))}" if is_told else ""
    return (
        work.id,
        work.name,
        work.type,
        work.state,
        work.site or "-",
        f"{work.nodes}..{work.nodes_max}" if work.nodes_max else work.nodes,
        work.gpu or "-",
        work.priority,
        age(work.since),
        f"{work.reason}{codes}".removeprefix(", "),
    )


@app.command()
def explain(workload: str = WORKLOAD, as_json: bool = AS_JSON) -> None:
    """Say why a workload waits, runs, moved or was refused, and what would change it; below, what ruled out how many nodes."""
    with client() as control:
        found = control.explain(resolve(control, workload))
    if as_json:
        print_json(found)
    else:
        say(f"{found.workload} {found.line}")
        if found.removed:
            say(
                f"  nodes ruled out: {', '.join(f'{number} by {why}' for why, number in found.removed.items())}"
            )


@app.command()
def logs(
    workload: str = WORKLOAD,
    follow: bool = typer.Option(False, "-f", "--follow", help="Go on until the workload ends."),
    rank: int | None = typer.Option(
        None,
        min=0,
        help="Only this rank [default: all ranks of a gang, in turn; with -f line by line as they write].",
    ),
    stderr: bool = typer.Option(False, "--stderr", help="What it wrote to standard error."),
) -> None:
    """Print a workload's log. Reading a log is recorded in the journal."""
    stream = "stderr" if stderr else "stdout"
    with client() as control:
        ident = resolve(control, workload)
        ranks = [rank] if rank is not None else ranks_of(control, ident)
        if follow:
            tell_while_it_waits(control, ident)
            follow_ranks(control, ident, ranks, stream)
            return
        for number in ranks:
            write(control.logs(ident, number, stream, follow=False))


def ranks_of(control: Client, ident: str) -> list[int]:
    """The ranks that a workload has, or had last; of one that was never placed those that it will have at least."""
    found = control.workload(ident)
    return list(range(len(found.ranks) or len(found.workload.exit_codes) or found.workload.nodes))


def write(pieces: Iterator[bytes]) -> None:
    """Write pieces of a log as they come."""
    for piece in pieces:
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()


def follow_to_the_end(control: Client, ident: str) -> int:
    """Print the log of every rank until the workload ends; 0 when it succeeded, else 1."""
    tell_while_it_waits(control, ident)
    follow_ranks(control, ident, ranks_of(control, ident), "stdout")
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
    workload: list[str] = WORKLOADS,
    state: list[str] = typer.Option(
        [], "--for", help="A state to wait for, like running [default: any end]."
    ),
    timeout: str = typer.Option(
        "600", help="How long for all, in seconds or like 90s or 2h; exit code 8 when it is over."
    ),
) -> None:
    """Wait until workloads have ended, or are in a state. Exit code 1 when one ended without success."""
    unknown = [one for one in state if one not in set(State)]
    if unknown:
        step = f"States are {', '.join(State)}."
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, f"no state {unknown[0]!r};", step))
    timeout_s = seconds(timeout, "--timeout")
    with client() as control:
        idents = dict.fromkeys(resolve(control, name) for name in workload)
        failed = False
        for found in wait_for_all(control, list(idents), state or TERMINAL, timeout_s):
            say(f"{found.id} {found.state}{f': {found.reason}' if found.reason else ''}")
            failed |= found.state != State.SUCCEEDED
    if not state and failed:
        raise typer.Exit(1)


def wait_for_all(
    control: Client, idents: Sequence[str], states: Collection[str], timeout_s: float
) -> Iterator[WorkloadView]:
    """Each workload once it is in one of the states, in the order in which they get there; raises TimeoutError.

    They are looked at in turn: while one is waited for alone, another may come into the state and leave it.
    """
    began, left = time.monotonic(), list(idents)
    while True:
        waiting = []
        for ident in left:
            try:
                yield control.wait(ident, states, timeout=0)
            except TimeoutError:
                waiting.append(ident)
        left = waiting
        if not left:
            return
        if time.monotonic() - began >= timeout_s:
            kind = "workload" if len(left) == 1 else "workloads"
            now = ", ".join(f"{ident} ({control.workload(ident).workload.state})" for ident in left)
            raise TimeoutError(f"still waiting for {kind} {now} after {timeout_s:g} s")
        time.sleep(min(POLL_S, max(0.0, began + timeout_s - time.monotonic())))


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
