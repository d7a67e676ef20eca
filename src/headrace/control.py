"""The control loop's core: load, decide, apply, commit, then act. The only place that joins core and shells.

Synchronous, and driven from outside: by the server on a real clock, by the simulator on its own. Commands are decided
and applied to the world in memory as they come; ``seal`` closes a commit group, ``append`` makes it durable, and only then
are they acknowledged and acted on. When a commit fails, the world is ahead of the journal: it is thrown away
(``recover``), and whatever was not acknowledged never was.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

from headrace.core import commands as c
from headrace.core.apply import apply
from headrace.core.authority import PolicyEngine, Role, Subject
from headrace.core.decide import decide, done_before
from headrace.core.errors import HeadraceError
from headrace.core.events import Committed
from headrace.core.ids import TenantId
from headrace.core.state import Row
from headrace.core.streams import streams
from headrace.core.workload import WorkloadSpec
from headrace.core.world import World
from headrace.journal.checkpoint import encode_checkpoint, load, save
from headrace.journal.codec import SALT_BYTES, Draft, Group, Head, signed_bytes
from headrace.journal.keys import Keys
from headrace.journal.projections import project
from headrace.journal.sqlite import JournalUnavailable, SqliteStore
from headrace.journal.vault import Vault, VaultEntry, VaultKey
from headrace.ports import Clock

REQUEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the subject that rights are decided for, and its token's number for the journal (0: the system)."""

    subject: Subject
    number: int = 0


SYSTEM = Caller(Subject("system", "control", Role.SYSTEM))


@dataclass(slots=True)
class Batch:
    """What one commit makes durable; ``committed`` are its events for whoever follows them."""

    group: Group | None
    rows: list[Row]
    keys: list[VaultKey]
    entries: list[VaultEntry]
    erase: list[str]
    committed: list[Committed] = field(default_factory=list)


@dataclass(slots=True)
class _Pending:
    drafts: list[Draft] = field(default_factory=list)
    committed: list[Committed] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    keys: list[VaultKey] = field(default_factory=list)
    entries: list[VaultEntry] = field(default_factory=list)
    erase: list[str] = field(default_factory=list)


def request_digest(caller: Caller, key: str) -> bytes:
    """What the journal keeps of an idempotency key: one token's keys never meet another's."""
    if not key:
        return b""
    # No tenant's name begins with @: one that is called like a role must not meet the operator's keys.
    scope = caller.subject.tenant or f"@{caller.subject.role}"
    return sha256(f"{scope}\x00{key}".encode()).digest()[:REQUEST_BYTES]


class Control:
    """One writer over one store. ``random`` gives random bytes (salts, keys of replicas)."""

    def __init__(
        self,
        store: SqliteStore,
        keys: Keys,
        clock: Clock,
        *,
        random: Callable[[int], bytes] = secrets.token_bytes,
        policies: PolicyEngine | None = None,
    ) -> None:
        self.store = store
        self.keys = keys
        self.clock = clock
        self.policies = policies
        self._random = random
        self.vault = Vault(keys.master, random)
        self.broken: HeadraceError | None = None
        self.generation = 0
        self.recover()

    def recover(self) -> None:
        """Take the world as the store has it, dropping whatever was not committed."""
        loaded = load(self.store, self.keys, self.policies)
        self.world: World = loaded.world
        self.chain = loaded.chain
        self.head = loaded.head
        self.vault = Vault(self.keys.master, self._random)
        for key in self.store.vault_keys():
            self.vault.load_key(key)
        self._pending = _Pending()
        self.durable = self.world.state.version
        self.broken = None
        self.generation += 1

    def now_ms(self) -> int:
        """Journal time: never before the last event, whatever the clock says."""
        return max(self.world.state.last_ms, self.clock.now_ms())

    @property
    def has_pending(self) -> bool:
        """Whether something waits for a commit."""
        pending = self._pending
        return bool(pending.drafts or pending.keys or pending.entries or pending.erase)

    # -- commands --------------------------------------------------------------------------------------------------

    def execute(self, caller: Caller, command: c.Command, key: str = "", asked: str = "") -> c.Reply:
        """Decide a command and apply its events; they are durable once the next batch is. Raises HeadraceError.

        With an idempotency ``key`` it is done once. ``asked`` says what was asked, where the command holds what every
        attempt makes anew; it is only digested, so what is about a person goes into it by ``private_digest``.
        """
        if self.broken is not None:
            raise self.broken
        now_ms = self.now_ms()
        request = request_digest(caller, key)
        world, pending = self.world, self._pending
        before = len(pending.drafts)
        deciding = decide(world, caller.subject, command, now_ms, request, asked)
        reply: c.Reply = None
        while True:
            try:
                event = next(deciding)
            except StopIteration as stop:
                reply = stop.value
                break
            draft = Draft(event, now_ms, streams(world, event), request, caller.number)
            committed = Committed(world.state.version, now_ms, event, request, caller.number)
            pending.rows.extend(apply(world, committed))
            pending.drafts.append(draft)
            pending.committed.append(committed)
        is_repeated = bool(key) and len(pending.drafts) == before
        if isinstance(command, c.EraseTenant) and not is_repeated:
            pending.erase.append(command.tenant)
            self.vault.forget(command.tenant)
        return reply

    def is_repeated(self, caller: Caller, kind: type[c.Command], key: str, asked: str) -> bool:
        """Whether a command of ``kind`` was carried out under the key; raises HeadraceError when another request was.

        For who must know before there is a command, since making it keeps something.
        """
        if self.broken is not None:
            raise self.broken
        request = request_digest(caller, key)
        return bool(key) and done_before(self.world, request, c.digest_of(kind, asked)) is not None

    def submit(
        self,
        caller: Caller,
        tenant: TenantId,
        items: Sequence[tuple[WorkloadSpec, Mapping[str, str]]],
        key: str,
        digest: str,
    ) -> c.Submitted:
        """Submit workloads whose declared secrets still have their values: these go into the vault first."""
        entries: list[VaultEntry] = []
        keys: list[VaultKey] = []
        specs = []
        for spec, values in items:
            opened = dict(values)
            if spec.counters:
                # The root of the keys of this endpoint's replicas; each gets its own, derived from it.
                opened.setdefault("HEADRACE_API_KEY", self._random(32).hex())
            specs.append(self._seal(tenant, spec, opened, entries, keys) if opened else spec)
        if any(values for _, values in items):
            # Of a body with secrets: in the journal, its plain digest would confirm a guess for ever.
            digest = self.vault.digest(tenant, "secrets", digest)
        # A new data key is kept even if the submission is not: the vault uses it from now on.
        self._pending.keys.extend(keys)
        reply = self.execute(caller, c.Submit(tenant, specs, digest), key)
        if not isinstance(reply, c.Submitted):
            raise TypeError(f"a submission was answered with {reply}")
        if not reply.repeated:
            self._pending.entries.extend(entries)
        return reply

    def _seal(
        self,
        tenant: str,
        spec: WorkloadSpec,
        values: Mapping[str, str],
        entries: list[VaultEntry],
        keys: list[VaultKey],
    ) -> WorkloadSpec:
        refs = dict(spec.secrets)
        for name, value in values.items():
            entry, made = self.vault.seal(tenant, "secrets", value)
            entries.append(entry)
            if made is not None:
                keys.append(made)
            refs[name] = entry.ref
        return replace(spec, secrets=refs)

    def keep(self, tenant: str, subject: str, value: str) -> str:
        """Put a value that is about a person into the vault; returns its reference."""
        entry, made = self.vault.seal(tenant, subject, value)
        self._pending.entries.append(entry)
        if made is not None:
            self._pending.keys.append(made)
        return entry.ref

    def private_digest(self, tenant: str, subject: str, value: str) -> str:
        """A digest (hex) of what is about a person, or secret: guesses can't be tried on it once the tenant is erased."""
        _, made = self.vault.seal(tenant, subject, "")
        if made is not None:
            self._pending.keys.append(made)
        return self.vault.digest(tenant, subject, value)

    def reveal(self, ref: str) -> str:
        """A value from the vault; raises HeadraceError when it was erased."""
        for entry in self._pending.entries:
            if entry.ref == ref:
                return self.vault.open(entry)
        return self.vault.open(self.store.vault_entry(ref))

    # -- commit ----------------------------------------------------------------------------------------------------

    def seal(self) -> Batch:
        """Close the commit group of everything executed since the last one."""
        pending, self._pending = self._pending, _Pending()
        group = None
        if pending.drafts:
            first = self.chain.size
            headers, bodies = self.chain.seal(pending.drafts, self._random(SALT_BYTES * len(pending.drafts)))
            size, at_ms, root = self.chain.size, pending.drafts[-1].at_ms, self.chain.frontier.root()
            head = Head(size, at_ms, root, self.keys.sign(signed_bytes(size, at_ms, root)))
            group = Group(first, len(pending.drafts), headers, bodies, head)
        return Batch(group, pending.rows, pending.keys, pending.entries, pending.erase, pending.committed)

    def append(self, batch: Batch) -> None:
        """Make a batch durable: returns after the disk has it. Touches the store alone, so that it may run in a thread.

        Raises JournalUnavailable; then call ``lose``.
        """
        rows = [project(row) for row in batch.rows]
        self.store.append(batch.group, rows, batch.keys, batch.entries, batch.erase)

    def settle(self, batch: Batch) -> Head | None:
        """A batch is durable: its head may go out, its events may be acted on. Returns the newest head."""
        if batch.group is not None:
            self.head = batch.group.head
            self.durable = batch.group.head.size
        return self.head

    def lose(self, error: HeadraceError) -> None:
        """A commit failed: from now on nothing is decided until ``recover`` works."""
        self.broken = error
        self._pending = _Pending()

    def commit(self) -> Batch:
        """Seal, append and settle in one go (for whoever has no other work meanwhile)."""
        batch = self.seal()
        try:
            self.append(batch)
        except JournalUnavailable as error:
            self.lose(error)
            raise
        self.settle(batch)
        return batch

    def checkpoint(self) -> int:
        """Write a checkpoint of the world, which must be durable; returns how many events it covers."""
        if self.has_pending:
            raise RuntimeError("a checkpoint is of what is durable: commit first")
        save(self.store, self.keys, self.chain.size, encode_checkpoint(self.world.state, self.chain))
        return self.chain.size

    def adopt_checkpoint(self, path: Path, size: int) -> None:
        """Sign and keep a checkpoint that the planner wrote to ``path``. Touches no state, so that it may run in a thread."""
        try:
            save(self.store, self.keys, size, path.read_bytes())
        finally:
            path.unlink(missing_ok=True)
