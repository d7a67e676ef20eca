"""The document of settlement evidence: made from the journal, in a process of its own, and sealed by who has the key.

What it holds, field by field: docs/rfd/0017-settlement.md. It is canonical JSON, integers and text alone, so that the same
journal gives the same bytes. Payloads of tenants' events are left out: their digests are there, and prove the rest.
"""

import json
import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from headrace.api.proofs import Entry, entries
from headrace.core.errors import HeadraceError, Problem, ProblemCode, unknown
from headrace.core.power.baseline import Adjustment, Baseline, Method, Window
from headrace.core.power.instruction import InstructionId
from headrace.core.power.settlement import (
    INTERVALS_MS,
    Case,
    Interval,
    Readings,
    Settlement,
    Version,
    glides,
    settle,
    span_ms,
)
from headrace.core.units import format_duration
from headrace.evidence.replay import Replayed, Told, instructions, replay
from headrace.evidence.verify import CONTEXT, FORMAT, canonical
from headrace.journal.codec import Head
from headrace.journal.merkle import node_hash
from headrace.journal.sqlite import SqliteStore

MOST_INTERVALS = 10_000
SHOWN = frozenset({"JournalOpened", "InstructionReceived", "InstructionWithdrawn"})
"""Events whose payloads are nobody's but the operator's and the grid's."""
_NICE = 5
_REFUSED = 3


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which evidence: of the journal at ``path``, its first ``size`` events, settled as of ``as_of_ms``.

    ``key``: the operator's public key in hexadecimal.
    """

    path: str
    size: int
    as_of_ms: int
    instruction: str
    interval: str
    baseline: Method
    key: str


def check_name(wanted: Wanted) -> None:
    """Raises HeadraceError when the journal has no such instruction: known from headers, without a replay."""
    store = SqliteStore(Path(wanted.path), readonly=True)
    try:
        given = instructions(store, wanted.size)
    finally:
        store.close()
    if wanted.instruction not in given:
        raise HeadraceError(unknown("instruction", wanted.instruction, given))


def document(wanted: Wanted) -> dict[str, Any]:
    """The evidence, not yet signed; raises HeadraceError where there is nothing to settle."""
    store = SqliteStore(Path(wanted.path), readonly=True)
    try:
        return _document(store, wanted)
    finally:
        store.close()


def _document(store: SqliteStore, wanted: Wanted) -> dict[str, Any]:
    given = instructions(store, wanted.size)
    name = InstructionId(wanted.instruction)
    if name not in given:
        raise HeadraceError(unknown("instruction", name, given))
    told = given[name][-1]
    _check_size(told, wanted)
    found = replay(store, told, wanted.size)
    others = [one for name, entries_of in given.items() for one in entries_of if one.site == told.site]
    held = tuple((v.begins_ms, v.ends_ms) for one in others for v in one.versions if v.begins_ms < v.ends_ms)
    readings = Readings(found.readings, wanted.as_of_ms)
    allowed_w = found.site.connection.total_w
    ramp_w = found.site.connection.ramp_down_w_per_minute
    rivals = tuple(version for one in others if one is not told for version in one.versions)
    case = Case(tuple(told.versions), readings, allowed_w, found.site.zone, held, ramp_w, rivals)
    settled = settle(case, INTERVALS_MS[wanted.interval], wanted.baseline)
    parts: dict[str, Any] = {
        "format": FORMAT,
        "operator": {"id": found.operator.id, "name": found.operator.name},
        "site": {
            "id": found.site.id,
            "country": found.site.country,
            "zone": found.site.zone,
            "allowed_w": allowed_w,
            "ramp_down_w_per_minute": ramp_w,
        },
        "instruction": {"id": name, "versions": _versions(told)},
        "overlapping": _overlapping(others, told, settled),
        "as_of_ms": wanted.as_of_ms,
        "until_ms": settled.until_ms,
        "final": settled.final,
        "interval_ms": settled.interval_ms,
        "hold_ms": readings.hold_ms,
        "baseline": _baseline(settled.baseline),
        "readings": _readings(case, settled),
        "intervals": [_interval(one) for one in settled.intervals],
        "totals": asdict(settled.totals),
        **_proofs(store, found, wanted),
    }
    return parts | {"parts": {one: sha256(canonical(part)).hexdigest() for one, part in parts.items()}}


def _check_size(told: Told, wanted: Wanted) -> None:
    span = span_ms(Case(tuple(told.versions), Readings((), wanted.as_of_ms), 0, "UTC"))
    if span is None:
        is_gone = all(one.begins_ms >= one.ends_ms for one in told.versions)
        why = "it never was in force" if is_gone else "it is not in force yet"
        text = f"nothing to settle for instruction {wanted.instruction!r}: {why}."
        raise HeadraceError(Problem(ProblemCode.CONFLICT, text, "'headrace grid ls' shows when each begins."))
    count = (span[1] - span[0]) // INTERVALS_MS[wanted.interval]
    if count > MOST_INTERVALS:
        text = (
            f"{format_duration(span[1] - span[0])} are {count} intervals, and {MOST_INTERVALS} are the most;"
        )
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, text, "ask for longer ones.", "query.interval"))


def _versions(told: Told) -> list[dict[str, Any]]:
    return [
        {"seq": seq, **_version(one), "ended_by": by}
        for one, seq, by in zip(told.versions, told.seqs, told.ended_by, strict=True)
    ]


def _version(one: Version) -> dict[str, Any]:
    said = {name: value for name, value in asdict(one.instruction).items() if name not in ("id", "site")}
    return {**said, "received_ms": one.received_ms, "ended_ms": one.ended_ms}


def _overlapping(others: list[Told], told: Told, settled: Settlement) -> list[dict[str, Any]]:
    """Other instructions that were in force at the site meanwhile: what was delivered may be due to them as well."""
    began_ms = settled.intervals[0].from_ms
    return [
        {"id": one.versions[0].instruction.id, **_version(version)}
        for one in others
        for version in one.versions
        if one is not told and version.begins_ms < min(version.ends_ms, settled.until_ms)
        and version.ends_ms > began_ms
    ]  # fmt: skip


def _baseline(one: Baseline) -> dict[str, Any]:
    return {
        "asked": one.asked,
        "method": one.method,
        "take": one.take,
        "reasons": list(one.reasons),
        "adjustment": _adjustment(one.adjustment) if one.adjustment else None,
    }


def _adjustment(one: Adjustment) -> dict[str, Any]:
    return {"watts": one.watts, "hour": _window(one.hour), "basis": [_window(part) for part in one.basis]}


def _window(one: Window) -> list[int]:
    return [one.from_ms, one.until_ms, one.energy_mj, one.known_ms]


def _interval(one: Interval) -> dict[str, Any]:
    return {**asdict(one), "basis": [_window(part) for part in one.basis]}


def _readings(case: Case, settled: Settlement) -> list[list[int | str]]:
    """All that say something about the intervals, and about when a version came whose limit glides into them."""
    rows = settled.intervals
    came = [one.received_ms for one in case.versions if glides(case, one)]
    found = case.readings.within(min([rows[0].from_ms, *came]), rows[-1].until_ms)
    return [[one.at_ms, one.watts, one.source] for one in found]


# -- proofs ------------------------------------------------------------------------------------------------------------


def _proofs(store: SqliteStore, found: Replayed, wanted: Wanted) -> dict[str, Any]:
    """The journal's head, and the events with the path of each to it."""
    leaves, kept, head = _leaves(store, wanted.size, {seq for seq, _, _ in found.events})
    levels = tree(leaves)
    events = [
        {"seq": seq, "kind": kind, "at_ms": at_ms, **_event(kept[seq], kind in SHOWN)}
        | {"path": [_base64(one) for one in path_of(levels, seq)]}
        for seq, kind, at_ms in found.events
    ]
    return {"journal": {"name": found.journal, "key": wanted.key, "head": head.as_json()}, "events": events}


def _leaves(store: SqliteStore, size: int, wanted: set[int]) -> tuple[list[bytes], dict[int, Entry], Head]:
    leaves: list[bytes] = []
    kept: dict[int, Entry] = {}
    for group in store.groups():
        for seq, entry in enumerate(entries(group), group.first):
            leaves.append(entry.leaf)
            if seq in wanted:
                kept[seq] = entry
        if group.head.size == size:
            return leaves, kept, group.head
    raise HeadraceError(
        Problem(ProblemCode.BROKEN, f"the journal has no head of {size} events.", "Try again.")
    )


def _event(entry: Entry, is_shown: bool) -> dict[str, Any]:
    body = sha256(entry.salt + entry.payload).digest()
    return {
        "header": _base64(entry.header),
        "body": _base64(body),
        "leaf": _base64(entry.leaf),
        "salt": _base64(entry.salt) if is_shown else None,
        "payload": _base64(entry.payload) if is_shown else None,
    }


def tree(leaves: list[bytes]) -> list[list[bytes]]:
    """All levels of the Merkle tree over some leaves, the leaves first; a last node without a neighbour goes up as it is."""
    levels = [leaves]
    while len(levels[-1]) > 1:
        below = levels[-1]
        level = [node_hash(below[at], below[at + 1]) for at in range(0, len(below) - 1, 2)]
        levels.append(level + below[len(below) - len(below) % 2 :])
    return levels


def path_of(levels: list[list[bytes]], index: int) -> list[bytes]:
    """The audit path of a leaf (RFC 9162, 2.1.3.1)."""
    path = []
    for level in levels[:-1]:
        if index ^ 1 < len(level):
            path.append(level[index ^ 1])
        index >>= 1
    return path


def _base64(data: bytes) -> str:
    return b64encode(data).decode()


# -- sealing -----------------------------------------------------------------------------------------------------------


def seal(made: Mapping[str, Any], public: bytes, sign: Callable[[bytes], bytes]) -> bytes:
    """A document with its signature, as it is kept in a file."""
    signature = sign(CONTEXT + canonical(made)).hex()
    return canonical({"document": made, "key": public.hex(), "signature": signature}) + b"\n"


def made_aside(wanted: Wanted) -> dict[str, Any]:
    """The same as :func:`document`, by a process of its own: a replay of a long journal takes long, and others go on."""
    command = [sys.executable, "-P", "-m", "headrace.evidence.document"]
    done = subprocess.run(command, input=msgspec.json.encode(wanted), capture_output=True, check=False)
    if done.returncode == _REFUSED:
        raise HeadraceError(*msgspec.json.decode(done.stdout, type=list[Problem]))
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        text = f"the evidence could not be made: {last or f'its process ended with {done.returncode}'}."
        raise HeadraceError(Problem(ProblemCode.BROKEN, text, "Report this."))
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> int:
    """Make what standard input asks for."""
    os.nice(_NICE)
    wanted = msgspec.json.decode(sys.stdin.buffer.read(), type=Wanted)
    try:
        made = canonical(document(wanted))
    except HeadraceError as error:
        sys.stdout.buffer.write(msgspec.json.encode(error.problems))
        return _REFUSED
    sys.stdout.buffer.write(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
