"""Evidence packs: a million decisions exported and verified as who asks for it would, and ten thousand ways to change a pack."""

import asyncio
import os
import random
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from benchmarks import journals
from benchmarks.registry import Figure
from headrace.core import events as ev
from headrace.core.authority import Verdict, digest_of
from headrace.core.codec import normalise
from headrace.core.contracts import Tenant
from headrace.core.errors import HeadraceError
from headrace.core.estate import Estate, Site
from headrace.core.ids import ContractId, Digest, PlacementId, ProjectId, SiteId, TenantId, WorkloadId
from headrace.core.sovereignty.plain import PROFILES
from headrace.core.workload import RankPlace
from headrace.evidence import standalone
from headrace.evidence.closing import CLOSING, closing_in
from headrace.evidence.pack import Sealer, Wanted, seal_message
from headrace.evidence.pack_export import export_from
from headrace.evidence.pack_stream import sealed_pieces
from headrace.evidence.pack_verify import read_kept, verify_pack
from headrace.journal.codec import Chain, Draft, Group, Head, signed_bytes
from headrace.journal.keys import Keys
from headrace.journal.sqlite import SqliteStore

DECISIONS, QUICK_DECISIONS = 1_000_000, 50_000
MUTATIONS, QUICK_MUTATIONS = 10_000, 1_000
EPOCH_MS = 1_795_000_000_000
GROUP = 1_000
OTHERS = 7
"""Other tenants, who together have as many events."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Made:
    """A journal in a folder, with the operator's keys and what a tenant kept of it on the way."""

    path: Path
    keys: Keys
    head: Head
    kept: Head
    tenant: str


@contextmanager
def journal(decisions: int, group: int = GROUP) -> Iterator[Made]:
    """A journal with ``decisions`` of one tenant among as many of others, chained and signed by the journal's own code.

    The events are those that the control loop writes; here nobody decides them, so that the journal is made in a minute.
    """
    with TemporaryDirectory(prefix="headrace-bench-") as folder:
        path, keys = Path(folder) / "journal.sqlite", Keys.open(Path(folder) / "keys")
        store, chain, chance = SqliteStore(path), Chain(), random.Random(7)
        heads: list[Head] = []
        for number, drafts in enumerate(_groups(decisions, group)):
            first, at_ms = chain.size, EPOCH_MS + number
            headers, bodies = chain.seal(drafts, chance.randbytes(16 * len(drafts)))
            root = chain.frontier.root()
            head = Head(chain.size, at_ms, root, keys.sign(signed_bytes(chain.size, at_ms, root)))
            store.append(Group(first, len(drafts), headers, bodies, head))
            heads.append(head)
        store.close()
        yield Made(path, keys, heads[-1], heads[len(heads) * 2 // 3], "tenant-0")


def _groups(decisions: int, size: int) -> Iterator[list[Draft]]:
    """Commit groups: half of the events the tenant's, in turns a submission and its placement."""
    tenants = [f"tenant-{number}" for number in range(OTHERS + 1)]
    estate = journals.estate(4_096)
    first, rights, places = _opening(tenants, estate)
    yield first
    made, batch, number = 0, list[Draft](), 0
    while made < decisions:
        at_ms = EPOCH_MS + 1 + number
        for turn in range(size // 4):
            for tenant in ("tenant-0", tenants[1 + (made // 2 + turn) % OTHERS]):
                site = estate.sites[made // 2 % len(estate.sites)].id
                batch += _workload(tenant, made // 2, at_ms, rights[tenant], places[tenant], site)
            made += 2
        yield batch
        batch, number = [], number + 1


def _opening(tenants: list[str], estate: Estate) -> tuple[list[Draft], dict[str, str], dict[str, list[str]]]:
    """The journal's first group; and by tenant the verdict of its right, and that of each site."""
    operator, rules = ("operator",), PROFILES["public"].digest
    events: list[tuple[ev.Event, tuple[str, ...]]] = [(ev.JournalOpened("bench"), operator)]
    events.append((ev.DocumentApplied("estate", "bench", normalise("estate", "bench", estate)), operator))
    rights, places = dict[str, str](), dict[str, list[str]]()
    for name in tenants:
        streams = (f"tenant:{name}", "operator")
        document = normalise("tenant", name, Tenant(TenantId(name), (ProjectId("main"),)))
        events.append((ev.DocumentApplied("tenant", name, document), streams))
        role = f"tenant-member@{name}"
        facts = digest_of(["tenant-member", name, "workloads", name])
        right = Verdict(
            role, "workload.submit", "workloads:own", True, ("it may",), digest_of("rights"), facts
        )
        found = [_place(name, site, rules) for site in estate.sites]
        events += [(ev.DecisionRecorded(one), streams) for one in (right, *found)]
        rights[name], places[name] = str(right.id), [str(one.id) for one in found]
    return [Draft(event, EPOCH_MS, streams) for event, streams in events], rights, places


def _place(tenant: str, site: Site, rules: Digest) -> Verdict:
    facts = digest_of({"country": site.country, "energy_source": site.energy_source})
    reason = f"policy public allows {site.country}"
    return Verdict(f"system@{tenant}", "workload.place", f"site:{site.id}", True, (reason,), rules, facts)


def _workload(
    tenant: str, number: int, at_ms: int, right: str, places: list[str], site: SiteId
) -> list[Draft]:
    ident, name = WorkloadId(f"{tenant}-{number}"), TenantId(tenant)
    spec = journals.spec(number)
    ranks = tuple(
        RankPlace(f"{site}/b/g-{number % 99}-{rank}", 255, 8_000, 64_000) for rank in range(spec.nodes)
    )
    submitted = ev.WorkloadSubmitted(ident, name, spec, right)
    verdict = places[int(site.rpartition("-")[2])]
    placement = PlacementId(f"{ident}.1")
    placed = ev.PlacementMade(placement, ident, name, site, ranks, verdict, number, ContractId(f"c-{tenant}"))
    return [
        Draft(submitted, at_ms, (f"tenant:{tenant}",), bytes(16), 2),
        Draft(placed, at_ms, (f"tenant:{tenant}", f"site:{site}")),
    ]


# -- a million decisions -----------------------------------------------------------------------------------------------


def export(quick: bool) -> Figure:
    """From the request to the last byte on disk, made by a process of its own and sealed here, as the API does."""
    decisions = QUICK_DECISIONS if quick else DECISIONS
    with journal(decisions) as made:
        file = made.path.parent / "pack"
        before = _processor_s()
        took, closing = asyncio.run(_exported(made, file))
        processor, size = _processor_s() - before, file.stat().st_size
    notes: dict[str, object] = {
        "decisions": closing["decisions"],
        "events": made.head.size,
        "pack_mb": round(size / 1e6),
        "processor_s": round(processor, 1),
        "exporter_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10,
        "made": "events chained by the journal's own code, not decided",
    }
    return Figure(took, notes, clean=closing["decisions"] == decisions)


async def _exported(made: Made, file: Path) -> tuple[float, dict[str, object]]:
    began, last = time.perf_counter(), b""
    wanted = Wanted(str(made.path), made.head.size, made.tenant, 0, 1 << 50, (made.kept.size,))
    with file.open("wb") as out:
        async for piece in sealed_pieces(wanted, made.keys.public, made.keys.sign, _aside):
            out.write(piece)
            last = (last + piece)[-20_000:]
        out.flush()
        os.fsync(out.fileno())
    return time.perf_counter() - began, closing_in(last) or {}


async def _aside(work: Callable[[], T]) -> T:
    return await asyncio.to_thread(work)


def verify(quick: bool) -> Figure:
    """`headrace evidence verify` with a checkpoint, from its start to its last line; the stand-alone one beside it."""
    with journal(QUICK_DECISIONS if quick else DECISIONS) as made:
        folder = made.path.parent
        file, kept = folder / "pack", folder / "kept.json"
        asyncio.run(_exported(made, file))
        kept.write_bytes(standalone.compact(made.kept.as_json()))
        key = made.keys.public.hex()
        ours = [sys.executable, "-P", "-m", "headrace", "evidence", "verify", str(file), "--key", key]
        took, processor, said = _run([*ours, "--checkpoint", str(kept)])
        alone, alone_processor, alone_said = _run(
            [sys.executable, "-P", standalone.__file__, str(file), key, str(kept)]
        )
        size = file.stat().st_size
    is_right = "verified: the checkpoint of" in said and "none left out or changed" in alone_said
    notes: dict[str, object] = {
        "processor_s": round(processor, 1),
        "standalone_s": round(alone, 1),
        "standalone_processor_s": round(alone_processor, 1),
        "pack_mb": round(size / 1e6),
        "verifier_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10,
    }
    return Figure(took, notes, clean=is_right)


def _run(command: Sequence[str]) -> tuple[float, float, str]:
    """How long a command took, how much of that on a processor, and what it said."""
    began, before = time.perf_counter(), _processor_s()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return time.perf_counter() - began, _processor_s() - before, done.stdout


def _processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# -- ten thousand mutations --------------------------------------------------------------------------------------------

Lines = list[bytes]


@dataclass(frozen=True, slots=True)
class _InMemory:
    """Commit groups that no file has."""

    all: list[Group]

    def groups(self, first: int = 0) -> Iterator[Group]:
        """Those from the one that holds event ``first`` on."""
        yield from (one for one in self.all if one.first + one.count > first)


def mutations(quick: bool) -> Figure:
    """Packs that somebody changed: without a key, with the operator's, or by another history; each before both verifiers."""
    wanted = QUICK_MUTATIONS if quick else MUTATIONS
    chance, found = random.Random(11), Counter[str]()
    missed: list[str] = []
    with journal(80, 16) as made:
        store = SqliteStore(made.path, readonly=True)
        groups = list(store.groups())
        store.close()
        lines = _pack(groups, made)
        kept = standalone.compact(made.kept.as_json())
        keys = made.keys
        believed = _is_believed(lines, keys, kept)
        for number in count():
            if sum(found.values()) == wanted:
                break
            kind, changed = _MUTATE[number % len(_MUTATE)](lines, groups, made, chance)
            if changed == lines:
                continue
            found[kind] += 1
            if _is_believed(changed, keys, kept):
                missed.append(kind)
    notes: dict[str, object] = {
        "mutations": sum(found.values()),
        **found,
        "missed": ", ".join(missed[:5]) or "none",
    }
    return Figure(len(missed), notes, clean=believed)


def _pack(groups: list[Group], made: Made) -> Lines:
    wanted = Wanted("", groups[-1].head.size, made.tenant, 0, 1 << 50, (made.kept.size,))
    sealer, out = Sealer(made.keys.sign), list[bytes]()
    export_from(_InMemory(groups), wanted, made.keys.public.hex(), lambda data: out.append(sealer.feed(data)))
    out.append(sealer.end())
    return b"".join(out).splitlines(keepends=True)


def _is_believed(lines: Lines, keys: Keys, kept: bytes) -> bool:
    """Whether either verifier believes it."""
    try:
        standalone.verify(iter(lines), keys.public, [kept])
    except standalone.Wrong:
        pass
    else:
        return True
    try:
        verify_pack(iter(lines), keys.public, [read_kept(kept, keys.public, "kept")])
    except HeadraceError:
        return False
    return True


def _without_a_key(lines: Lines, _: list[Group], __: Made, chance: random.Random) -> tuple[str, Lines]:
    """Anything, anywhere; the seal is left as it was."""
    kind = chance.choice(("flip", "drop", "add", "cut", "drop line", "add line", "move line"))
    if kind.endswith("line"):
        return kind, _moved(lines, kind, chance)
    data = b"".join(lines)
    at = chance.randrange(len(data))
    match kind:
        case "flip":
            data = data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]
        case "drop":
            data = data[:at] + data[at + 1 :]
        case "add":
            data = data[:at] + chance.randbytes(1) + data[at:]
        case _:
            data = data[:at]
    return kind, data.splitlines(keepends=True)


def _moved(lines: Lines, kind: str, chance: random.Random) -> Lines:
    """A line left out, doubled or put elsewhere, of those before the closing."""
    out, one, other = list(lines), chance.randrange(1, len(lines) - 2), chance.randrange(1, len(lines) - 2)
    if kind.startswith("drop"):
        out.pop(one)
    elif kind.startswith("add"):
        out.insert(other, out[one])
    else:
        out.insert(other, out.pop(one))
    return out


def _with_the_key(lines: Lines, _: list[Group], made: Made, chance: random.Random) -> tuple[str, Lines]:
    """By the operator, who seals what it changed: a bit of a header, salt, payload or hash; or a line."""
    kind = chance.choice(("resealed flip", "resealed drop line", "resealed add line", "resealed move line"))
    if kind.endswith("line"):
        changed = _moved(lines, kind.removeprefix("resealed "), chance)
        # Texts may stand in any order, and their sources are not all needed: they prove nothing by where they stand.
        is_text = sorted(one for one in changed if not one.startswith(b"text ")) == sorted(
            one for one in lines if not one.startswith(b"text ")
        )
        changed = lines if is_text and _order(changed) == _order(lines) else changed
    else:
        changed = _bit(lines, chance)
    return kind, lines if changed == lines else _resealed(changed, made.keys)


def _order(lines: Lines) -> Lines:
    return [one for one in lines if not one.startswith(b"text ")]


def _bit(lines: Lines, chance: random.Random) -> Lines:
    """One bit of what a line says, not of how it is written."""
    at = chance.choice([n for n, one in enumerate(lines) if one.startswith((b"event ", b"header ", b"gap "))])
    words = lines[at][:-1].split(b" ", -1 if lines[at].startswith(b"gap ") else 3)
    place = chance.randrange(1 if not lines[at].startswith(b"gap ") else 2, len(words))
    is_raw = lines[at].startswith(b"event ") and place == 3
    raw = bytearray(words[place] if is_raw else bytes.fromhex(words[place].decode()))
    raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
    words[place] = bytes(raw) if is_raw else raw.hex().encode()
    return (b"".join([*lines[:at], b" ".join(words) + b"\n", *lines[at + 1 :]])).splitlines(keepends=True)


def _resealed(lines: Lines, keys: Keys) -> Lines:
    digest = sha256(b"".join(lines[:-2])).digest()
    signature = keys.sign(seal_message(digest, lines[-2][len(CLOSING) : -1]))
    return [*lines[:-1], b"seal " + signature.hex().encode() + b"\n"]


def _other_history(lines: Lines, groups: list[Group], made: Made, chance: random.Random) -> tuple[str, Lines]:
    """By the operator, who rewrites the journal itself before the checkpoint, chains and signs all of it anew, and exports it."""
    kind = chance.choice(("history flip", "history drop", "history add", "history swap"))
    events = [one for group in groups for one in _raw(group)]
    at = chance.randrange(len(_raw(groups[0])), made.kept.size - 1)
    header, salt, payload = events[at]
    match kind:
        case "history flip":
            events[at] = header, bytes([salt[0] ^ (1 << chance.randrange(8))]) + salt[1:], payload
        case "history drop":
            events.pop(at)
        case "history add":
            events.insert(at, events[at])
        case _:
            events[at], events[at + 1] = events[at + 1], events[at]
    rewritten = _chained(events, [group.count for group in groups], made.keys)
    try:
        return kind, _pack(rewritten, made)
    except HeadraceError:
        # The export itself refuses: the checkpoint is of another journal, or its verdicts are gone.
        return kind, [b"refused\n"]


Raw = tuple[bytes, bytes, bytes]


def _raw(group: Group) -> list[Raw]:
    """Header, salt and payload of each event."""
    found: list[Raw] = []
    at = offset = 0
    for _ in range(group.count):
        end = at + 48 + 56 * group.headers[at + 1]
        length = int.from_bytes(group.bodies[offset + 16 : offset + 20])
        body = group.bodies[offset : offset + 20 + length]
        found.append((group.headers[at:end], body[:16], body[20:]))
        at, offset = end, offset + 20 + length
    return found


def _chained(events: list[Raw], sizes: list[int], keys: Keys) -> list[Group]:
    """Events numbered, linked, folded into a tree and signed as if they had always been so."""
    chain, out = Chain(), list[Group]()
    at = 0
    for size in sizes:
        part = events[at : at + size]
        at += size
        headers, bodies, first, at_ms = b"", b"", chain.size, 0
        for header, salt, payload in part:
            at_ms = int.from_bytes(header[16:24])
            fixed = header[:8] + chain.size.to_bytes(8) + header[16:48]
            idents = [header[link : link + 16] for link in range(48, len(header), 56)]
            links = [(ident, *chain.streams.get(ident, (0, bytes(32)))) for ident in idents]
            whole = fixed + b"".join(ident + number.to_bytes(8) + before for ident, number, before in links)
            leaf = sha256(b"\0" + whole + sha256(salt + payload).digest()).digest()
            chain.streams.update((ident, (number + 1, leaf)) for ident, number, _ in links)
            chain.frontier.append(leaf)
            headers += whole
            bodies += salt + len(payload).to_bytes(4) + payload
        if part:
            root = chain.frontier.root()
            head = Head(chain.size, at_ms, root, keys.sign(signed_bytes(chain.size, at_ms, root)))
            out.append(Group(first, len(part), headers, bodies, head))
    return out


_MUTATE = (_without_a_key, _with_the_key, _other_history)
