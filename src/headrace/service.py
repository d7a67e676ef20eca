"""The asynchronous edge around the control loop: execute at once, answer once it is durable.

A command is decided and applied in memory on the event loop; a committer makes everything that piled up meanwhile
durable in one go, in a thread of its own, and wakes whoever waits with the new head. Two shapes of one thing:
:class:`Service` on an event loop, and :class:`InlineService`, which commits within the call and never really
awaits, so that a simulator can drive a coroutine by hand.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from headrace.apart import apart
from headrace.control import Batch, Caller, Control
from headrace.core import commands as c
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.ids import TenantId
from headrace.core.workload import WorkloadSpec
from headrace.journal.codec import Head
from headrace.journal.sqlite import JournalUnavailable
from headrace.journal.vault import VaultEntry
from headrace.reconcile import Reconciler

if TYPE_CHECKING:
    from headrace.actuate import DeviceStates
    from headrace.core.ids import SiteId
    from headrace.ports import Store
    from headrace.signals.follow import Followed

T = TypeVar("T")
Items = Sequence[tuple[WorkloadSpec, Mapping[str, str]]]

GATHER_S = 0.001
"""How long a commit waits for others to join it: a sync costs the same for one as for many."""
PROBE_S = 1.0
"""How often a journal that refused a commit is tried again."""


class InlineService:
    """The service without an event loop: every call commits before it returns. For simulations and tools."""

    def __init__(self, control: Control, reconciler: Reconciler | None = None) -> None:
        self.control = control
        self.reconciler = reconciler
        self.on_durable: list[Callable[[Batch], None]] = []
        """Told of each batch once it is durable (the planner is told here)."""
        self.on_recovered: list[Callable[[], None]] = []
        """Told when the world was taken from the store again: what was remembered of uncommitted events is void."""
        self.signals: Callable[[], Sequence[Followed]] = list
        """How things stand with the grid operators' servers that are followed."""
        self.devices: Callable[[], DeviceStates] | None = None
        """How things stand with the devices of sites; None where there are none."""
        self.stores: Mapping[SiteId, Store] = {}
        """Where sites keep data, as far as it is reached from here."""

    async def run(
        self, caller: Caller, command: c.Command, key: str = "", asked: str = ""
    ) -> tuple[c.Reply, Head | None]:
        """Carry out a command; its reply, and the newest head once its events are durable. Raises HeadraceError."""
        try:
            reply = self.control.execute(caller, command, key, asked)
        except HeadraceError:
            # A refusal rests on what others did just now: it is said once that is durable.
            await self.settled()
            raise
        return reply, await self.settled()

    async def submit(
        self, caller: Caller, tenant: TenantId, items: Items, key: str, digest: str
    ) -> tuple[c.Submitted, Head | None]:
        """Submit workloads with the values of their secrets; see :meth:`Control.submit`. Raises HeadraceError."""
        try:
            reply = self.control.submit(caller, tenant, items, key, digest)
        except HeadraceError:
            await self.settled()
            raise
        return reply, await self.settled()

    async def settled(self) -> Head | None:
        """Wait until all that is applied by now is durable; the newest head. Raises JournalUnavailable when it was lost."""
        if self.control.has_pending:
            try:
                batch = self.control.commit()
            except JournalUnavailable as error:
                # What was lost is never shown; to decide stays refused until somebody recovers the control.
                self.recovered()
                self.control.lose(error)
                raise
            self._tell(batch)
        return self.control.head

    async def aside(self, work: Callable[[], T]) -> T:
        """Do blocking work that touches neither the world nor the writer's store."""
        return work()

    async def apart(self, work: Callable[[], bytes]) -> bytes:
        """Do work on the world as it is at this moment; it must leave the world as it was. Raises what it raises."""
        return work()

    async def close(self) -> None:
        """Commit what is left, and end."""
        await self.settled()

    @property
    def failure(self) -> HeadraceError | None:
        """Why nothing can be committed now; None when all is well."""
        return self.control.broken

    def recovered(self) -> None:
        """Take the world from the store again, dropping what was never durable, and tell whoever remembers."""
        self.control.recover()
        for listener in self.on_recovered:
            listener()

    def _tell(self, batch: Batch) -> None:
        for listener in self.on_durable:
            listener(batch)


class _Commit:
    """A commit that is collecting, or under way; whoever waits for it gets its head or its error."""

    __slots__ = ("_done", "error", "head")

    def __init__(self) -> None:
        self._done = asyncio.Event()
        self.head: Head | None = None
        self.error: HeadraceError | None = None

    def end(self, head: Head | None, error: HeadraceError | None = None) -> None:
        self.head, self.error = head, error
        self._done.set()

    async def wait(self) -> Head | None:
        await self._done.wait()
        if self.error is not None:
            # A fresh one for each: a traceback that many tasks share grows without end.
            raise HeadraceError(*self.error.problems)
        return self.head


class Service(InlineService):
    """The service on an event loop, with group commit: while one batch is synced, the next one collects."""

    def __init__(
        self, control: Control, reconciler: Reconciler | None = None, probe_s: float = PROBE_S
    ) -> None:
        super().__init__(control, reconciler)
        self._probe_s = probe_s
        self._writer = ThreadPoolExecutor(1, "journal")
        self._collecting = _Commit()
        self._under_way: _Commit | None = None
        self._wanted = asyncio.Event()
        self._committer: asyncio.Task[None] | None = None
        self._probing: asyncio.Task[None] | None = None
        self._ahead = False

    async def settled(self) -> Head | None:
        """Wait until all that is applied by now is durable; the newest head. Raises HeadraceError when it was lost."""
        if self.control.has_pending:
            # A defect ends the committer with its error; whoever comes next must not wait for one that is gone.
            if self._committer is None or self._committer.done():
                self._committer = asyncio.get_running_loop().create_task(self._commit_forever())
            self._wanted.set()
            return await self._collecting.wait()
        if self._under_way is not None:
            return await self._under_way.wait()
        if self._ahead and self.control.broken is not None:
            raise self.control.broken
        return self.control.head

    async def aside(self, work: Callable[[], T]) -> T:
        """Do blocking work in a thread; it must touch neither the world nor the writer's store."""
        return await asyncio.get_running_loop().run_in_executor(None, work)

    async def apart(self, work: Callable[[], bytes]) -> bytes:
        """Do work on the world as it is at this moment, in a process of its own; see :func:`headrace.apart.apart`."""
        return await apart(work)

    async def close(self) -> None:
        """Commit what is left, then end the tasks and the thread."""
        try:
            await self.settled()
        finally:
            for task in (self._committer, self._probing):
                if task is not None:
                    task.cancel()
            self._committer = self._probing = None
            self._writer.shutdown()

    async def _commit_forever(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while self.control.has_pending:
                await asyncio.sleep(GATHER_S)
                await self._commit()

    async def _commit(self) -> None:
        under_way = self._under_way = self._collecting
        self._collecting = _Commit()
        batch = self.control.seal()
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._writer, self.control.append, batch)
        except JournalUnavailable as error:
            self._fail(error)
            return
        except Exception as error:
            # A defect: nobody may wait for ever because of it.
            self._fail(
                HeadraceError(Problem(ProblemCode.BROKEN, f"a commit failed: {error!r}.", "Report this."))
            )
            raise
        head = self.control.settle(batch)
        self._under_way = None
        under_way.end(head)
        self._tell(batch)

    def _fail(self, error: HeadraceError) -> None:
        """A commit failed: fail all who wait, go back to what is durable, and refuse commands until a probe gets through."""
        self._go_back(error)
        failed = [commit for commit in (self._under_way, self._collecting) if commit is not None]
        self._under_way, self._collecting = None, _Commit()
        for commit in failed:
            commit.end(None, error)
        if self._probing is None:
            self._probing = asyncio.get_running_loop().create_task(self._probe())

    def _go_back(self, error: HeadraceError) -> None:
        """Take the durable world, which may be read on; to decide is refused until the store takes commits again."""
        self._ahead = True
        try:
            self.recovered()
            self._ahead = False
        except HeadraceError as worse:
            error = worse
        self.control.lose(error)

    async def _probe(self) -> None:
        # A row of the vault that nothing refers to: a real write by the real way, without an event.
        probe = Batch(None, [], [], [VaultEntry("vault:probe", "", "probe", b"")], [])
        loop = asyncio.get_running_loop()
        while self.control.broken is not None:
            await asyncio.sleep(self._probe_s)
            try:
                await loop.run_in_executor(self._writer, self.control.append, probe)
            except JournalUnavailable as error:
                self.control.lose(error)
                continue
            if self._ahead:
                self._go_back(self.control.broken)
            if not self._ahead:
                self.control.broken = None
        self._probing = None
