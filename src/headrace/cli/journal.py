"""The journal: its head, its events, proofs; and verifying it without asking anybody."""

import time
from pathlib import Path

import msgspec
import typer

from headrace.api.views import EventView, HeadView
from headrace.cli.common import client, plain, print_json, print_table, read_file, say
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.journal.sqlite import SqliteStore
from headrace.journal.verify import verify as verify_store
from headrace.state import StateDirectory, default_state

app = typer.Typer(rich_markup_mode=None)
journal = typer.Typer(rich_markup_mode=None)
app.add_typer(journal, name="journal")
PAGE = 1_000
MOST_DETAIL = 110


@app.callback()
def group() -> None:
    """The journal."""


@journal.callback()
def journal_group() -> None:
    """The journal: verify it, its head, its events, proofs."""


@journal.command()
def verify(
    state: Path | None = typer.Option(
        None, help="The state directory, or a copy of it [default: as for `up`]."
    ),
    replay: bool = typer.Option(False, "--replay", help="Also fold every event into a world again."),
    head: str = typer.Option(
        "", help="A head that was kept (`headrace journal head > FILE`): it must be in there."
    ),
    key: str = typer.Option(
        "", help="The operator's public key in hexadecimal [default: what lies in the state]."
    ),
    jobs: int = typer.Option(2, min=1, max=64, help="Processes."),
) -> None:
    """Verify a journal from genesis, offline: every leaf, link, Merkle root and signature."""
    directory = StateDirectory(state or default_state())
    if not directory.journal.exists():
        step = "Name the state directory with --state."
        raise HeadraceError(Problem(ProblemCode.NOT_FOUND, f"no journal in {directory.path}.", step))
    began = time.perf_counter()
    found = verify_store(directory.journal, public_key(directory, key), replay=replay, jobs=jobs)
    took_s = time.perf_counter() - began
    what = f"{found.events} events in {found.groups} commits: leaves, links and roots are right"
    say(f"{what}; {found.signatures} signatures are the operator's ({took_s:.2f} s)")
    if found.world is not None:
        say(
            f"replayed: {len(found.world.state.workloads)} workloads, {len(found.world.state.invoices)} invoices"
        )
    if head:
        size = check_head(directory, head)
        say(f"the kept head of {size} events is in it: nothing before it was rewritten")


def public_key(directory: StateDirectory, given: str) -> bytes:
    """The operator's public key; raises HeadraceError when it can't be one."""
    try:
        text = given or (directory.keys / "signing.pub").read_text("ascii")
        found = bytes.fromhex(text.strip())
    except (OSError, ValueError):
        found = b""
    if len(found) != 32:
        step = "Give the operator's with --key; 'headrace status --json' has it."
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, "no public key of 32 bytes.", step))
    return found


def check_head(directory: StateDirectory, name: str) -> int:
    """The size of a kept head, once it is found in the journal; raises HeadraceError when it is not."""
    try:
        kept = msgspec.json.decode(read_file(name), type=HeadView)
    except msgspec.MsgspecError as error:
        step = "Keep one with: headrace journal head > FILE"
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, f"{name} is no head: {error}.", step)) from None
    store = SqliteStore(directory.journal, readonly=True)
    try:
        for group in store.groups(max(0, kept.size - 1)):
            if group.head.size == kept.size and group.head.as_json()["root"] == kept.root:
                return kept.size
            break
    finally:
        store.close()
    message = f"the kept head of {kept.size} events is not in this journal: the past was rewritten, or it is another."
    raise HeadraceError(Problem(ProblemCode.BROKEN, message, "Ask the operator."))


@journal.command()
def head() -> None:
    """Print the newest signed head as JSON: keep it, and nobody can rewrite the past before it unseen."""
    with client() as control:
        print_json(control.journal_head())


@journal.command()
def events(
    start: int = typer.Option(0, "--from", min=0, help="The number of the first one."),
    limit: int = typer.Option(50, min=1, help="How many at most."),
    kind: str = typer.Option("", help="Only of this kind, like PlacementMade."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON, one event a line."),
) -> None:
    """List events of the journal."""
    found: list[EventView] = []
    with client() as control:
        at = start
        while len(found) < limit:
            page = control.events(at, min(PAGE, limit) if not kind else PAGE)
            found.extend(one for one in page.events if kind in ("", one.kind))
            if page.next == at:
                break
            at = page.next
    found = found[:limit]
    if as_json:
        for one in found:
            say(msgspec.json.encode(one).decode())
        return
    rows = [(one.seq, one.at, one.kind, one.actor, detail(one)) for one in found]
    print_table(("EVENT", "AT", "KIND", "ACTOR", "WHAT"), rows, "no such events.", ("EVENT", "ACTOR"))


def detail(event: EventView) -> str:
    """The beginning of what an event says."""
    text = msgspec.json.encode(plain(event.event)).decode()
    return text if len(text) <= MOST_DETAIL else text[: MOST_DETAIL - 3] + "..."


@journal.command()
def proof(event: int = typer.Argument(..., min=0, help="The event's number.")) -> None:
    """Print the proof that an event is in the journal: its leaf, and RFC 9162's path from there to a signed head."""
    with client() as control:
        print_json(control.proof(event))
