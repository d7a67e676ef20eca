"""Reads what a control plane left behind, sharing no code with it: RFD 1's format, RFC 9162's tree, RFD 4's arithmetic.

Everything here is written from the documents, so that a mistake of the product is not repeated by its witness.
"""

import json
import sqlite3
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

KINDS = {
    1: "JournalOpened", 2: "ControlStarted", 3: "DecisionRecorded", 4: "DocumentApplied", 5: "DocumentRemoved",
    6: "TokenIssued", 7: "TokenRevoked", 8: "WorkloadSubmitted", 9: "WorkloadRefused", 10: "PlacementMade",
    11: "PlacementStarted", 12: "UsageMetered", 13: "PlacementEnded", 14: "StopRequested", 15: "PauseRequested",
    16: "PauseObserved", 17: "EvictionRequested", 18: "WorkloadRequeued", 19: "NodeStateChanged", 20: "TokensMetered",
    21: "InvoiceIssued", 22: "CreditNoteIssued", 23: "TenantErased", 24: "LogRead", 25: "AlarmRaised",
    26: "RequestAnswered", 27: "NodesReserved", 28: "NodeIntruded", 29: "EngineDeclared", 30: "InstructionReceived",
    31: "InstructionWithdrawn", 32: "CurtailmentOrdered", 33: "CurtailmentLifted", 34: "LimitersDeclared", 35: "CapsOrdered",
    36: "CapsObserved", 37: "CapsLifted", 38: "ExcessMeasured", 45: "EvidenceExported",
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One event as it is stored: its leaf is over exactly these bytes."""

    seq: int
    at_ms: int
    kind: str
    leaf: bytes
    links: tuple[tuple[bytes, int, bytes], ...]
    payload: dict[str, Any]


@dataclass(frozen=True)
class StoredHead:
    """A commit group's head as it is stored."""

    size: int
    at_ms: int
    root: bytes
    signature: bytes

    def signed(self) -> bytes:
        """What RFD 1 says that the signature is over."""
        return b"headrace journal head 1\0" + struct.pack(">QQ", self.size, self.at_ms) + self.root


@dataclass
class Journal:
    """All of a journal, with whatever was wrong with it."""

    entries: list[Entry] = field(default_factory=list)
    heads: list[StoredHead] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def of(self, *kinds: str) -> Iterator[Entry]:
        """Events of some kinds."""
        return (one for one in self.entries if one.kind in kinds)

    @cached_property
    def tree(self) -> "Tree":
        """The tree over all leaves."""
        return Tree([one.leaf for one in self.entries])


class Tree:
    """Merkle tree hashes by the definition of RFC 9162, 2.1.1, over the leaf hashes."""

    def __init__(self, leaves: list[bytes]) -> None:
        # Roots of the complete subtrees of 2**k leaves, by k and position: what the definition asks for again and again.
        self._levels = [leaves]
        while len(self._levels[-1]) > 1:
            below = self._levels[-1]
            pairs = zip(below[::2], below[1::2], strict=False)
            self._levels.append([sha256(b"\x01" + left + right).digest() for left, right in pairs])

    def root(self, size: int) -> bytes:
        """MTH of the first ``size`` leaves."""
        return sha256(b"").digest() if size == 0 else self._hash(0, size)

    def _hash(self, start: int, size: int) -> bytes:
        if size & (size - 1) == 0:
            level = size.bit_length() - 1
            return self._levels[level][start >> level]
        split = 1 << (size.bit_length() - 1)
        return sha256(b"\x01" + self._hash(start, split) + self._hash(start + split, size - split)).digest()


def read_journal(path: Path) -> Journal:
    """Parse and check the journal in a store: numbers, streams, roots; what is wrong goes into ``problems``."""
    found = Journal()
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        rows = db.execute(
            "select first, count, at_ms, headers, bodies, root, signature from groups order by first"
        )
        for first, count, at_ms, headers, bodies, root, signature in rows:
            if first != len(found.entries):
                found.problems.append(f"group {first} follows event {len(found.entries)}")
            before = len(found.entries)
            found.entries.extend(_entries(headers, bodies))
            if len(found.entries) - before != count:
                found.problems.append(f"group {first} has {len(found.entries) - before} events, not {count}")
            found.heads.append(StoredHead(len(found.entries), at_ms, root, signature))
    db.close()
    _check_chain(found)
    return found


def _entries(headers: bytes, bodies: bytes) -> Iterator[Entry]:
    at = offset = 0
    while at < len(headers):
        version, streams, kind, _, _, seq, at_ms, _, _ = struct.unpack_from(">BBHHHQQQ16s", headers, at)
        if version != 1:
            raise ValueError(f"header of version {version}")
        end = at + 48 + streams * 56
        links = tuple(
            struct.unpack_from(">16sQ32s", headers, at + 48 + 56 * index) for index in range(streams)
        )
        salt, length = struct.unpack_from(">16sI", bodies, offset)
        payload = bodies[offset + 20 : offset + 20 + length]
        inner = sha256(salt + payload).digest()
        leaf = sha256(b"\0" + headers[at:end] + inner).digest()
        yield Entry(seq, at_ms, KINDS[kind], leaf, links, json.loads(payload))
        at, offset = end, offset + 20 + length


def _check_chain(found: Journal) -> None:
    streams: dict[bytes, tuple[int, bytes]] = {}
    last_ms = 0
    for number, one in enumerate(found.entries):
        if one.seq != number:
            found.problems.append(f"event {number} says that it is {one.seq}")
        if one.at_ms < last_ms:
            found.problems.append(f"event {number}: journal time went back")
        last_ms = one.at_ms
        for ident, count, previous in one.links:
            if (count, previous) != streams.get(ident, (0, bytes(32))):
                found.problems.append(f"event {number} does not follow its stream")
            streams[ident] = (count + 1, one.leaf)
    for head in found.heads:
        if found.tree.root(head.size) != head.root:
            found.problems.append(f"the stored head of {head.size} is not the tree's")


# -- what a workload's processes used, and what that costs ---------------------------------------------------------------


@dataclass(frozen=True)
class Rates:
    """A site's constants and a plan's prices, as the harness itself declared them."""

    energy_micros_per_kwh: int
    carbon_g_per_kwh: int
    pue_permille: int
    lab_micros_per_hour: int


LAB_ACCELERATORS, LAB_W, LAB_IDLE_W, LAB_ACCELERATOR_W, LAB_CPU_MILLI = 4, 1_000, 200, 200, 4_000
"""The lab node of the catalogue."""


@dataclass
class Used:
    """What the runners' records add up to, for one tenant and site: whole numbers."""

    accelerator_ms: int = 0
    process_ms: int = 0
    energy_mj: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})
    """By whether the rank had accelerators."""


def half_even(numerator: int, denominator: int) -> int:
    """Round to the nearest whole number, halves to the even one."""
    twice, rest = divmod(2 * numerator, denominator)
    whole, odd = divmod(twice, 2)
    if not odd:
        return whole
    return whole + 1 if rest or whole % 2 else whole


def used_by(records: list[dict[str, Any]], made: dict[str, dict[str, Any]]) -> dict[tuple[str, str], Used]:
    """Usage by (tenant, site) from raw records and the placements' own events; KeyError for a record of no placement."""
    out: dict[tuple[str, str], Used] = {}
    for record in records:
        placement = made[record["placement"]]
        _, mask, cpu_milli, _ = place_of(placement["ranks"][record["rank"]])
        sums = out.setdefault((placement["tenant"], placement["site"]), Used())
        running, paused = record["running_ms"], record["paused_ms"]
        accelerators = bin(mask).count("1")
        if accelerators:
            sums.accelerator_ms += accelerators * (running + paused)
            full_w, idle_w = (watts * accelerators // LAB_ACCELERATORS for watts in (LAB_W, LAB_IDLE_W))
        else:
            sums.process_ms += running + paused
            base_w = LAB_W - LAB_ACCELERATORS * LAB_ACCELERATOR_W
            full_w, idle_w = (watts * cpu_milli // LAB_CPU_MILLI for watts in (base_w, LAB_IDLE_W))
        sums.energy_mj[bool(accelerators)] += full_w * running + idle_w * paused
    return out


WHOLE_MILLI = 1_000


def place_of(rank: Any) -> tuple[str, int, int, int]:
    """Node, mask of accelerators, milli-processors and megabytes of a rank, as events hold it."""
    node, mask, cpu_milli, memory_mb, share_milli = rank.values() if isinstance(rank, dict) else rank
    if share_milli != WHOLE_MILLI:
        raise ValueError(f"nobody asks for a fraction here, and {node} gave {share_milli} thousandths")
    return node, mask, cpu_milli, memory_mb


def read_records(folder: Path) -> list[dict[str, Any]]:
    """The runners' records that the engine kept."""
    return [json.loads(path.read_bytes()) for path in sorted(folder.glob("*.json"))]
