"""Evidence: what an instruction asked and what was delivered; all that was decided for a tenant; and verifying both offline."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import typer

from headrace.cli.common import CommandClient, print_json, read_file, say
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.units import MJ_PER_WH, format_duration, format_watts
from headrace.evidence import standalone
from headrace.evidence.pack import Kept
from headrace.evidence.pack_verify import is_pack, read_kept, verify_pack, when
from headrace.evidence.verify import canonical, meanwhile
from headrace.evidence.verify import verify as verify_file

app = typer.Typer(rich_markup_mode=None)
evidence = typer.Typer(
    rich_markup_mode=None,
    help="Evidence of what was delivered and of what was decided: make it, and verify it offline.",
)
app.add_typer(evidence, name="evidence")
PATIENCE_S = 600.0
"""A long journal is read for it."""
LONGEST_LINE = 1 << 26
"""No line of a pack is longer: what has none that end is not kept in memory."""


@app.callback()
def group() -> None:
    """Evidence."""


@evidence.command()
def grid(
    instruction: str = typer.Argument(..., help="Its name."),
    out: str = typer.Option("-", help="The file to write [default: standard output]."),
    interval: str = typer.Option("15m", help="How long an interval is: 5m, 15m, 30m or 60m."),
    baseline: str = typer.Option(
        "high-5-of-10",
        help="The baseline's method: high-5-of-10, high-5-of-10-adjusted, meter-before or minute-before.",
    ),
) -> None:
    """Write the signed evidence of an instruction of the grid, interval by interval."""
    with CommandClient.from_env(PATIENCE_S) as control:
        found = control.evidence(instruction, interval, baseline)
    sealed = {"document": found.document, "key": found.key, "signature": found.signature}
    text = canonical(sealed) + b"\n"
    if out == "-":
        typer.echo(text, nl=False)
        return
    try:
        Path(out).write_bytes(text)
    except OSError as error:
        step = "Name a file that you may write with --out."
        raise HeadraceError(
            Problem(ProblemCode.BAD_INPUT, f"can't write {out}: {error.strerror}.", step)
        ) from None
    _summary(found.document)
    say(f"wrote {out}, signed by the key {found.key}")


def _summary(made: dict[str, Any]) -> None:
    totals, baseline = made["totals"], made["baseline"]
    for reason in baseline["reasons"]:
        say(f"baseline not {reason}")
    length = format_duration(made["interval_ms"])
    state = "final" if made["final"] else "so far"
    counts = f"{totals['yes']} at or under it, {totals['no']} above, {totals['unknown']} unknown"
    early = len(made["intervals"]) - totals["yes"] - totals["no"] - totals["unknown"]
    counts += f", {early} over before it was due" if early else ""
    name, site = made["instruction"]["id"], made["site"]["id"]
    say(f"{name} at {site}, {state}: {len(made['intervals'])} x {length}: {counts}; {totals['source']} draw")
    if others := meanwhile(made):
        say(f"{others}: what was delivered is the strictest one's at each instant, once")
    for span, by in _covered(made):
        say(f"covered by {by} for {format_duration(span)}")
    if not totals["held_ms"] and totals["covered_ms"]:
        say("it reduced nothing of its own: stricter ones covered all of it")
        return
    if not totals["held_ms"]:
        allowed = format_watts(made["site"]["allowed_w"])
        say(f"it asked nothing: it never was below the {allowed} of the connection")
        return
    if totals["reduction_mj"] is None:
        say("no baseline: the reduction is not known")
        return
    first_w = format_watts(made["intervals"][0]["baseline_w"])
    saved_wh = totals["reduction_mj"] / MJ_PER_WH
    say(f"reduced by {saved_wh:,.3f} Wh against {baseline['method']} ({first_w} in the first interval)")


def _covered(made: dict[str, Any]) -> Iterator[tuple[int, str]]:
    """By whom an instruction was covered, in order, and for how long of the intervals of which that is said."""
    spans: dict[str, int] = {}
    for row in made["intervals"]:
        if row["covered_ms"]:
            names = ", ".join(row["covered_by"])
            spans[names] = spans.get(names, 0) + row["covered_ms"]
    for names, span in spans.items():
        yield span, names


# -- packs -------------------------------------------------------------------------------------------------------------


@evidence.command()
def export(
    tenant: str = typer.Option("", help="Whose [default: the token's]."),
    begins: str = typer.Option(
        "", "--from", help="From when, like 2026-11-01T00:00Z [default: the beginning]."
    ),
    until: str = typer.Option("", "--to", help="Until before when [default: now]."),
    checkpoint: list[str] = typer.Option(
        [], help="A file that was kept: the pack can be compared with it. May be repeated."
    ),
    out: str = typer.Option("-", help="The file to write [default: standard output]."),
) -> None:
    """Write a tenant's evidence pack: its events and decisions, what they rest on, and proofs of all of it; signed."""
    with CommandClient.from_env(PATIENCE_S) as control:
        public = bytes.fromhex(control.status().public_key)
        sizes = [read_kept(read_file(one), public, one).size for one in checkpoint]
        with _written(out) as write:
            made = control.evidence_pack(write, tenant or None, begins=begins, until=until, checkpoints=sizes)
    if out == "-":
        return
    shown = f"{made['events']} events and {made['decisions']} decisions of {made['tenant']}"
    say(
        f"wrote {out}: {shown}, in a journal of {made['head']['size']} events; signed by the key {made['key']}"
    )


@contextmanager
def _written(out: str) -> Iterator[Callable[[bytes], object]]:
    """Write to a file that is there when all of it is, and not before; - for standard output."""
    if out == "-":
        yield sys.stdout.buffer.write
        sys.stdout.buffer.flush()
        return
    path, part = Path(out), Path(f"{out}.part")
    try:
        with part.open("wb") as file:
            yield file.write
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        step = "Name a file that you may write with --out."
        message = f"can't write {out}: {error.strerror}."
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, message, step)) from None
    finally:
        part.unlink(missing_ok=True)


@evidence.command()
def checkpoint(tenant: str = typer.Option("", help="Whose [default: the token's].")) -> None:
    """Print what to keep outside as JSON: whatever is left out or rewritten before it is found in any later pack."""
    with CommandClient.from_env() as control:
        print_json(control.evidence_checkpoint(tenant or None))


@evidence.command()
def verifier() -> None:
    """Print a verifier of packs that stands alone: one file of Python that an auditor can read, and run without headrace."""
    sys.stdout.write(Path(standalone.__file__).read_text())


@evidence.command()
def verify(
    file: str = typer.Argument(..., help="The evidence, settlement's or a pack; - for standard input."),
    key: str = typer.Option(
        ..., help="The operator's public key in hexadecimal, or a file with it; not from the evidence itself."
    ),
    checkpoint: list[str] = typer.Option(
        [], help="Of a pack: a file that was kept; it is compared with it. May be repeated."
    ),
    tenant: str = typer.Option("", help="Of a pack: whose it must be."),
    keep: str = typer.Option("", help="Of a pack: the file to write that is to be kept of it."),
) -> None:
    """Verify evidence offline: signature, events, every figure; and say what it can't prove."""
    public = _public(key)
    with _opened(file) as lines:
        if is_pack(lines.peek(1)[: len(standalone.FORMAT)]):  # type: ignore[attr-defined]  # buffered, as opened
            kept = [read_kept(read_file(one), public, one) for one in checkpoint]
            _verify_pack(file, lines, public, kept, tenant, keep)
            return
        data = lines.read()
    if checkpoint or tenant or keep:
        step = "Leave --checkpoint, --tenant and --keep out, or give a pack."
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, f"{file} is no evidence pack.", step))
    _verify_settlement(file, data, public)


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        yield sys.stdin.buffer
        return
    try:
        file = open(name, "rb")  # noqa: SIM115 - closed below; only opening it may fail so
    except OSError as error:
        step = "Give a file, or - for standard input."
        message = f"can't read {name}: {error.strerror}."
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, message, step)) from None
    with file:
        yield file


def _verify_pack(
    name: str, lines: BinaryIO, public: bytes, kept: Sequence[Kept], tenant: str, keep: str
) -> None:
    try:
        found = verify_pack(iter(partial(lines.readline, LONGEST_LINE), b""), public, kept, tenant)
    except HeadraceError as error:
        raise HeadraceError(*(_in_file(name, one) for one in error.problems)) from None
    for one in found.verified:
        say(f"verified: {one}")
    for one in found.unproven:
        say(f"not proven: {one}")
    if keep:
        with _written(keep) as write:
            write(found.kept)
        say(f"wrote {keep}: keep it, for packs made after {when(found.head_at_ms)}")


def _in_file(name: str, one: Problem) -> Problem:
    return Problem(
        one.code, one.message, one.next_step, f"{name}, {one.where}" if one.where else name, one.related
    )


def _verify_settlement(name: str, data: bytes, public: bytes) -> None:
    found = verify_file(data, public)
    if found.wrong:
        step = "Do not settle by it; ask the operator for the evidence again."
        raise HeadraceError(*(Problem(ProblemCode.BROKEN, f"{name}: {one}.", step) for one in found.wrong))
    for one in found.verified:
        say(f"verified: {one}")
    for one in found.unproven:
        say(f"not proven: {one}")


def _public(given: str) -> bytes:
    try:
        text = Path(given).read_text("ascii") if Path(given).is_file() else given
        found = bytes.fromhex(text.strip())
    except (OSError, ValueError):
        found = b""
    if len(found) != 32:
        step = "Give the operator's public key: 'headrace status --json' has it, and keys/signing.pub of the state."
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, "no public key of 32 bytes.", step, "--key"))
    return found
