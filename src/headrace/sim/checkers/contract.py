"""Promise 5, contract, as far as it is enforced: dedicated sites alone, no more than a reservation holds or a quota allows."""

from collections.abc import Iterable

from headrace.core.contracts import Contract
from headrace.core.events import Committed, PlacementEnded, PlacementMade, WorkloadSubmitted
from headrace.core.workload import WorkloadSpec
from headrace.sim.checkers.base import Checker, Handler
from headrace.sim.checkers.papers import Papers
from headrace.sim.checkers.wishes import WHOLE, held_milli, limits_milli


def in_force(contract: Contract, today: str) -> bool:
    """Whether a day is in a contract's window, whose end is exclusive."""
    return contract.starts <= today and (not contract.ends or today < contract.ends)


class ContractChecker(Checker):
    """Sold capacity is there: a dedicated site has no other tenant, a named reservation is never held beyond itself."""

    promise = 5

    def __init__(self, papers: Papers | None = None) -> None:
        self.specs: dict[str, WorkloadSpec] = {}
        self.held_milli: dict[str, int] = {}
        self.live: dict[str, tuple[str, int]] = {}
        self.had_milli: dict[tuple[str, str], int] = {}
        self.counted: dict[str, tuple[tuple[str, str], int]] = {}
        super().__init__(papers)

    def handlers(self) -> Iterable[tuple[type, Handler]]:
        """Placements."""
        return (
            (WorkloadSubmitted, self._submitted),
            (PlacementMade, self._made),
            (PlacementEnded, self._ended),
        )

    def _submitted(self, _committed: Committed, event: WorkloadSubmitted) -> None:
        self.specs[event.workload] = event.spec

    def _made(self, committed: Committed, event: PlacementMade) -> None:
        site = self.papers.sites.get(event.site)
        if site is not None and site.dedicated_to is not None and site.dedicated_to != event.tenant:
            what = f"{event.tenant} was placed at {event.site}, which is dedicated to {site.dedicated_to}"
            self.found("dedicated", event.placement, what)
        spec = self.specs.get(event.workload)
        if not self.papers.contracts:
            return
        today = self.papers.contract_day(committed.at_ms)
        self._others(event, today)
        if spec is not None:
            self._quota(event, spec)
        if spec is not None and spec.contract is not None:
            self._named(event, spec, spec.contract, today)

    def _others(self, event: PlacementMade, today: str) -> None:
        """A dedicated contract for a site, in its window, keeps every other tenant out."""
        for contract in self.papers.contracts.values():
            if contract.kind != "dedicated" or contract.site != event.site or contract.tenant == event.tenant:
                continue
            if in_force(contract, today) and not contract.accelerators:
                what = (
                    f"{event.tenant} was placed at {event.site}, sold to {contract.tenant} by {contract.id}"
                )
                self.found("dedicated", event.placement, what)

    def _named(self, event: PlacementMade, spec: WorkloadSpec, name: str, today: str) -> None:
        contract = self.papers.contracts.get(name)
        model = self._model(event)
        if contract is None or contract.tenant != event.tenant:
            self.found("contract", event.placement, f"it is under {name!r}, no contract of {event.tenant}")
            return
        if not in_force(contract, today):
            self.found("contract", event.placement, f"contract {name} is not in force on {today}")
        if contract.site not in (None, event.site) or (model and contract.model not in ("", model)):
            self.found(
                "contract", event.placement, f"contract {name} does not cover {model!r} at {event.site}"
            )
        taken = held_milli(event.ranks)
        self.live[event.placement] = (name, taken)
        held = self.held_milli[name] = self.held_milli.get(name, 0) + taken
        if contract.kind == "reserved" and held > contract.accelerators * WHOLE:
            what = f"contract {name} holds {contract.accelerators} accelerators, {held} thousandths are taken"
            self.found("over-held", event.placement, what)

    def _model(self, event: PlacementMade) -> str:
        """The model of the accelerators that it got; "" for none."""
        spots = self.papers.ground.spots
        for rank in event.ranks:
            if rank.mask and rank.node in spots:
                return spots[rank.node].hardware.accelerator
        return ""

    def _quota(self, event: PlacementMade, spec: WorkloadSpec) -> None:
        """Outside reserved contracts neither a tenant nor a project takes more than its limit."""
        contract = self.papers.contracts.get(event.contract)
        taken = held_milli(event.ranks)
        if contract is not None and contract.kind == "reserved":
            return
        key = (event.tenant, str(spec.project))
        self.counted[event.placement] = (key, taken)
        self.had_milli[key] = self.had_milli.get(key, 0) + taken
        if not taken:
            return
        whole = sum(milli for (tenant, _), milli in self.had_milli.items() if tenant == event.tenant)
        had = (whole, self.had_milli[key])
        for who, has, most in zip(key, had, limits_milli(self.papers, *key), strict=True):
            if most is not None and has > most:
                what = f"{who} has {has} thousandths of accelerators, its limit is {most}"
                self.found("quota", event.placement, what)

    def _ended(self, _committed: Committed, event: PlacementEnded) -> None:
        name, taken = self.live.pop(event.placement, ("", 0))
        if name:
            self.held_milli[name] -= taken
        key, taken = self.counted.pop(event.placement, (("", ""), 0))
        if taken:
            self.had_milli[key] -= taken
