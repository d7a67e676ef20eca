"""Whom a workload that waits may evict, at a site, for one of the things that would do."""

from collections.abc import Callable, Container

from headrace.core.ids import PlacementId
from headrace.core.scheduling.leaving import Holder, Victims
from headrace.core.scheduling.memory import Option
from headrace.core.scheduling.order import Shares
from headrace.core.scheduling.present import Present
from headrace.core.workload import WHOLE_MILLI, Flex, Workload, WorkloadType


class Evicting:
    """Of one pass."""

    def __init__(self, present: Present, shares: Shares) -> None:
        self.present, self.shares = present, shares
        self.snapshot, self.columns = present.snapshot, present.columns
        self._evictable: dict[int, Victims] = {}
        self._victims: dict[tuple[object, ...], Victims] = {}

    def may_have(self, waiting: Workload, option: Option, site: int) -> bool:
        """Whether an option at a site is within what its tenant and its project may ever have."""
        if not option.is_counted or option.allowed[site].kind == "reserved":
            return True
        more_milli, project = self.takes_milli(option, site), waiting.spec.project
        accounts = self.shares.tenant(waiting.tenant), self.shares.project(waiting.tenant, project)
        return not any(account.is_over(more_milli) for account in accounts)

    def takes_milli(self, option: Option, site: int) -> int:
        """The most thousandths of accelerators that an option takes at a site."""
        ask = option.ask
        if not ask.whole:
            return ask.nodes * ask.accelerators * ask.share_milli
        widest = self.columns.total[self.columns.spans[site]][option.known.suit[site]].max()
        return ask.nodes * int(widest) * WHOLE_MILLI

    def _claims(self, waiting: Workload, option: Option, site: int) -> tuple[bool, bool]:
        """Whether what it takes there is within what its tenant is guaranteed; and whether that or anything else is its right."""
        spec = waiting.spec
        within = self.shares.is_within(waiting.tenant, spec.project, self.takes_milli(option, site))
        contract = self.snapshot.contracts.get(spec.contract) if spec.contract is not None else None
        is_paid = contract is not None and contract.kind == "reserved"
        return within, within or spec.reservation is not None or is_paid

    def may_evict(self, waiting: Workload, option: Option, site: int) -> Callable[[Holder], bool]:
        """Whom a workload may evict for an option at a site: lower ranks; and, within what its tenant is guaranteed by what it
        takes there, those who borrow.

        Nobody who would go before it once evicted: what is guaranteed goes before what is borrowed, whatever its priority.
        """
        now_ms, shares, spec = self.snapshot.now_ms, self.shares, waiting.spec
        within, first = self._claims(waiting, option, site)

        def may_evict(holder: Holder) -> bool:
            other = holder.workload
            is_filler = other.spec.type is WorkloadType.FILLER
            borrows = is_filler or (holder.contract is None and shares.borrows(other.tenant))
            if not borrows and not first:
                return False
            if is_filler and first and spec.type is not WorkloadType.FILLER:
                return True
            if holder.may_be_evicted_for(waiting, now_ms):
                return True
            if not within or is_filler or not borrows or other.spec.flex is not Flex.PREEMPTIBLE:
                return False
            # Not those of its own tenant: between them priority decides.
            return other.tenant != waiting.tenant and now_ms >= holder.protected_until_ms

        return may_evict

    def victims(
        self, waiting: Workload, option: Option, site: int, evicted: Container[PlacementId]
    ) -> Victims:
        """Whom a workload may evict at a site for an option, but those that are ``evicted`` already."""
        everybody = self._evictable.get(site)
        if everybody is None:
            evictable = self.present.memory.evictable(self.snapshot, site)
            stays = [holder for holder in evictable.values() if holder.placement.stop_reason is None]
            everybody = self._evictable[site] = Victims.of(stays, self.snapshot.now_ms)
        spec = waiting.spec
        is_filler = spec.type is WorkloadType.FILLER
        # Who borrows changes with every placement.
        key = (
            *(site, len(self.present.taken), waiting.tenant, spec.project, spec.priority, is_filler),
            *(spec.reservation, *self._claims(waiting, option, site)),
        )
        found = self._victims.get(key)
        if found is None:
            found = self._victims[key] = everybody.only(self.may_evict(waiting, option, site))
        return found.only(lambda holder: holder.placement.id not in evicted)
