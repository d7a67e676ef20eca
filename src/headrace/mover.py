"""Moves data between the stores of sites: what the world wants of copies, and what the stores have, brought together.

Level-triggered, like the reconciler: each round looks at the copies of the durable world that are on their way or have to go, so
that a crash in between needs no special case. What was written of a copy is taken up again by the next mover, and looked at
again; nothing is a copy before all of it has the digest that its tenant stated, and then it is at once.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256

from headrace.control import SYSTEM
from headrace.core import commands as c
from headrace.core.data.deciding import users_at
from headrace.core.data.events import tenant_of
from headrace.core.data.model import Copy, CopyState, Dataset
from headrace.core.errors import HeadraceError
from headrace.core.ids import DataId, SiteId
from headrace.ports import FIRST_TENANT_UID, Store, StoreError
from headrace.service import InlineService
from headrace.stores.digest import file_digest, manifest_digest

AGAIN_MS = 5_000
"""A store that could not is asked again after this."""
LOOK_MS = 60_000
"""How often it is looked whether a copy that is present is still there."""
ROUND_S = 0.25
AT_ONCE = 2
"""So many copies are worked on at the same time."""


class StoppedError(Exception):
    """A copy is not wanted any more, or the control plane ends: what was written stays for the next one, or is dropped."""


@dataclass(frozen=True, slots=True)
class Job:
    """Something to do at a store: ``copy`` (from ``source``, None: look at what is there), ``drop`` or ``look``."""

    what: str
    data: Dataset | None
    ident: DataId
    site: SiteId
    store: Store
    source: Store | None
    source_site: str
    reader: int


class Mover:
    """Brings copies about. ``stores``: by site, those that this control plane reaches."""

    def __init__(self, service: InlineService, stores: Mapping[SiteId, Store]) -> None:
        self.service, self.stores = service, stores
        self._busy: dict[tuple[DataId, SiteId], asyncio.Task[None]] = {}
        self._again_ms: dict[tuple[DataId, SiteId], int] = {}
        self._looked_ms: dict[tuple[DataId, SiteId], int] = {}
        self._is_closing = False

    # -- what is to be done ----------------------------------------------------------------------------------------

    def jobs(self) -> list[Job]:
        """What is wanted of stores, durably so, and not under way."""
        control = self.service.control
        world, now_ms = control.world, control.now_ms()
        found = []
        for ident, copies in world.state.copies.items():
            for copy in copies.values():
                key = (ident, copy.site)
                # Actions come after the commit of what wants them.
                if (
                    copy.wanted_seq >= control.durable
                    or key in self._busy
                    or now_ms < self._again_ms.get(key, 0)
                ):
                    continue
                what = self._wanted(ident, copy, now_ms)
                store = self.stores.get(copy.site)
                if what and store is not None:
                    reader = FIRST_TENANT_UID + world.state.tenants[tenant_of(ident)].number
                    source = self.stores.get(SiteId(copy.source)) if copy.source else None
                    data = world.laws.datasets.get(ident)
                    found.append(Job(what, data, ident, copy.site, store, source, copy.source, reader))
        return found

    def _wanted(self, ident: DataId, copy: Copy, now_ms: int) -> str:
        world = self.service.control.world
        if copy.state is CopyState.COPYING:
            return "copy"
        if copy.state is CopyState.REMOVING:
            # What uses it has its own grace to go, whoever wants the copy gone.
            may = now_ms >= copy.not_before_ms or copy.not_before_ms == 0
            return "drop" if may and not any(users_at(world, ident, copy.site)) else ""
        key = (ident, copy.site)
        if copy.state is CopyState.PRESENT and now_ms - self._looked_ms.get(key, copy.since_ms) >= LOOK_MS:
            return "look"
        return ""

    def _is_wanted(self, job: Job) -> bool:
        """Whether a job under way is still wanted; asked from its thread between two pieces."""
        if self._is_closing:
            return False
        copy = self.service.control.world.state.copies.get(job.ident, {}).get(job.site)
        return copy is not None and copy.state is CopyState.COPYING

    # -- doing it --------------------------------------------------------------------------------------------------

    def perform(self, job: Job) -> c.CopyReport | None:
        """Do a job, which blocks; what is to be reported of it, None for nothing."""
        try:
            if job.what == "drop":
                job.store.drop(job.ident)
                return c.CopyReport(job.ident, job.site, "gone")
            if job.what == "look":
                if job.store.has(job.ident):
                    return None
                step = f"{job.store.directory(job.ident)} is gone"
                return c.CopyReport(job.ident, job.site, "gone", problem=step)
            return _copied(job, lambda: self._is_wanted(job))
        except StoppedError:
            return None
        except StoreError as error:
            if job.what != "copy":
                return None
            problem = error.problem.line()
            return c.CopyReport(
                job.ident, job.site, "failed" if error.is_final else "delayed", problem=problem
            )

    def settle(self, job: Job, report: c.CopyReport | None) -> None:
        """What came of a job goes on record; one that came to nothing is tried again later."""
        key = (job.ident, job.site)
        control = self.service.control
        if job.what == "look":
            self._looked_ms[key] = control.now_ms()
        if report is None or report.what == "delayed":
            self._again_ms[key] = control.now_ms() + AGAIN_MS
        else:
            self._again_ms.pop(key, None)
        if report is not None and control.broken is None:
            control.execute(SYSTEM, c.ReportCopies((report,)))

    def round(self) -> int:
        """Do all that is to be done, one after the other, and commit: for simulations and tools. How many jobs there were."""
        jobs = self.jobs()
        for job in jobs:
            self.settle(job, self.perform(job))
        if self.service.control.has_pending:
            self.service.control.commit()
        return len(jobs)

    async def run(self) -> None:
        """Do it for ever, each copy in a thread of its own, few at once."""
        try:
            while True:
                if self.service.control.broken is None:
                    for job in self.jobs()[: AT_ONCE - len(self._busy)]:
                        key = (job.ident, job.site)
                        self._busy[key] = asyncio.ensure_future(self._one(job))
                await asyncio.sleep(ROUND_S)
        finally:
            # The threads end after the piece that they are at.
            self._is_closing = True

    async def _one(self, job: Job) -> None:
        key = (job.ident, job.site)
        try:
            report = await self.service.aside(lambda: self.perform(job))
            with contextlib.suppress(HeadraceError):
                self.settle(job, report)
                await self.service.settled()
        finally:
            self._busy.pop(key, None)


# -- a copy ------------------------------------------------------------------------------------------------------------


def _copied(job: Job, is_wanted: Callable[[], bool]) -> c.CopyReport:
    """Make a copy, or look at the one that is there; raises StoreError, and StoppedError where it is not wanted any more."""
    data, store = job.data, job.store
    if data is None:
        return c.CopyReport(job.ident, job.site, "failed", problem=f"no data set {job.ident} is declared")
    if job.source_site and job.source is None:
        problem = f"site {job.source_site}, which it is copied from, has no store here any more"
        return c.CopyReport(data.id, job.site, "delayed", problem=problem)
    if store.has(data.id):
        report = _looked_at(job, data, is_wanted)
        if report.what == "present" or job.source is None:
            return report
        # What somebody put there is not it: the copy takes its place.
        store.drop(data.id)
    if job.source is None:
        folder = store.directory(data.id)
        again = f"'headrace data copy {data.name} --to {job.site}'"
        problem = f"nothing is at {folder}: put its files there, and ask again with {again}"
        return c.CopyReport(data.id, job.site, "failed", problem=problem)
    digests, size, resumed = _transferred(data, job.source, store, is_wanted)
    if resumed and (manifest_digest(digests), size) != (data.digest, data.size_bytes):
        # What an earlier mover left may be at fault: once more, from nothing.
        store.discard(data.id)
        digests, size, _ = _transferred(data, job.source, store, is_wanted)
    digest = manifest_digest(digests)
    if (digest, size) != (data.digest, data.size_bytes):
        store.discard(data.id)
        return _other_bytes(job, data, digest, size)
    store.publish(data.id, job.reader)
    return c.CopyReport(data.id, job.site, "present", digest, size)


def _looked_at(job: Job, data: Dataset, is_wanted: Callable[[], bool]) -> c.CopyReport:
    """What bytes lie where a copy belongs."""
    store, digests, total = job.store, dict[str, str](), 0
    for file in store.files(data.id):
        digests[file.path], size = file_digest(_while(store.read(data.id, file.path), is_wanted))
        total += size
    digest = manifest_digest(digests)
    if (digest, total) != (data.digest, data.size_bytes):
        return _other_bytes(job, data, digest, total)
    store.admit(data.id, job.reader)
    return c.CopyReport(data.id, job.site, "present", digest, total)


def _other_bytes(job: Job, data: Dataset, digest: str, size: int) -> c.CopyReport:
    problem = (
        f"the bytes are not those of {data.id}: {size} bytes with the digest {digest}, not {data.size_bytes} bytes "
        f"with {data.digest}"
    )
    return c.CopyReport(data.id, job.site, "failed", digest, size, problem, is_broken=True)


def _transferred(
    data: Dataset, source: Store, store: Store, is_wanted: Callable[[], bool]
) -> tuple[dict[str, str], int, bool]:
    """Write every file aside; their digests, all bytes, and whether some were there already."""
    files = source.files(data.id)
    wanted = {one.path: one.size_bytes for one in files}
    there = {one.path: one.size_bytes for one in store.pending(data.id)}
    if not set(there) <= set(wanted):
        store.discard(data.id)
        there = {}
    digests: dict[str, str] = {}
    total, resumed = 0, False
    for path, expected in wanted.items():
        if there.get(path) == expected:
            resumed = True
            digests[path], size = file_digest(_while(store.read_pending(data.id, path), is_wanted))
        else:
            hashing = _Hashing(_while(source.read(data.id, path), is_wanted))
            store.write(data.id, path, iter(hashing))
            digests[path], size = hashing.digest(), hashing.size
        total += size
    return digests, total, resumed


class _Hashing:
    """Pieces on their way, hashed as they pass."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._sha256, self.size = pieces, sha256(), 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self._sha256.update(piece)
            self.size += len(piece)
            yield piece

    def digest(self) -> str:
        return self._sha256.hexdigest()


def _while(pieces: Iterator[bytes], is_wanted: Callable[[], bool]) -> Iterator[bytes]:
    """Pieces as long as they are wanted."""
    for piece in pieces:
        if not is_wanted():
            raise StoppedError
        yield piece
