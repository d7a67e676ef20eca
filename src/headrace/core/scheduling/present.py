"""The estate as it is in the middle of a pass: the snapshot, less what was placed since."""

from collections.abc import Mapping, Sequence

import numpy as np

from headrace.core.contracts import Contract
from headrace.core.fleet import I64
from headrace.core.ids import ContractId
from headrace.core.scheduling.columns import (
    Ask,
    Columns,
    Scratch,
    Use,
    accelerators_milli_of,
    part_of,
    scratch_of,
    shift,
    take_ranks,
)
from headrace.core.scheduling.memory import Known, Memory, Option
from headrace.core.scheduling.pools import SitePools, Undecided
from headrace.core.scheduling.rank import choose
from headrace.core.scheduling.snapshot import Snapshot
from headrace.core.workload import WHOLE_MILLI, RankPlace

Nodes = I64 | Sequence[int]


def uses_of(nodes: Sequence[int], ranks: Sequence[RankPlace], sharer: int = 0) -> list[Use]:
    """What ranks take of nodes, which are indexes in the fleet."""
    return [Use(node, *rank[1:], sharer) for node, rank in zip(nodes, ranks, strict=True)]


class Present:
    """Pools for what they can decide; arrays, made when somebody first asks for them, for the rest.

    ``cap_w``: what those who wait leave of each element to whoever comes after them; None while nobody waits.
    """

    def __init__(self, snapshot: Snapshot, columns: Columns, memory: Memory) -> None:
        self.snapshot, self.columns, self.memory = snapshot, columns, memory
        self.touched: set[int] = set()
        """Sites that are no longer as the snapshot shows them."""
        self.held_milli: dict[ContractId, int] = dict(snapshot.contract_held_milli)
        self.cap_w: I64 | None = None
        self._pools: dict[int, SitePools] = {}
        self._state: Scratch | None = None
        self.nodes: list[int] = []
        """The nodes of all ranks placed so far that have no fraction, and the ranks."""
        self.ranks: list[RankPlace] = []
        self._caught_up = 0

    @property
    def state(self) -> Scratch:
        """The present as arrays."""
        if self._state is None:
            self._state = scratch_of(self.snapshot, self.columns)
            self._state.held_milli = self.held_milli
        seen, self._caught_up = self._caught_up, len(self.nodes)
        take_ranks(self.columns, self._state, self.nodes[seen:], self.ranks[seen:])
        return self._state

    def capped(self, state: Scratch) -> Scratch:
        """A state with no more power in it than those who wait leave."""
        return state if self.cap_w is None else state.with_head(np.minimum(state.head_w, self.cap_w))

    def pools(self, site: int) -> SitePools:
        """The pools of a site."""
        pools = self._pools.get(site)
        if pools is None:
            pools = self._pools[site] = self.memory.pools_at(self.snapshot, self.columns, site)
        return pools

    def choose(self, known: Known, site: int) -> Sequence[int] | None:
        """The nodes that an ask gets at a site now, ascending; None if no choice would do."""
        pools = self._pools.get(site) or self.pools(site)
        sieves = known.sieves.get(site)
        if sieves is None:
            sieves = known.sieves[site] = pools.sieves(known.ask)
        found = pools.choose(known.ask, sieves)
        if not isinstance(found, Undecided):
            return found
        nodes = self.choose_in(known, site, self.capped(self.state))
        return None if nodes is None else nodes.tolist()

    def choose_in(self, known: Known, site: int, state: Scratch) -> I64 | None:
        """The nodes that an ask would get at a site in another state."""
        return choose(self.columns, state, known.ask, site, known.suit[site])

    def take(self, ask: Ask, site: int, nodes: Sequence[int]) -> tuple[RankPlace, ...]:
        """Take a rank's part of each node."""
        self.touched.add(site)
        pools = self._pools[site]
        if ask.share_milli == WHOLE_MILLI:
            ranks = pools.take(ask, nodes)
            self.nodes.extend(nodes)
            self.ranks.extend(ranks)
            return ranks
        state, names = self.state, self.snapshot.fleet.node_ids
        ranks = tuple(
            RankPlace(names[node], part_of(self.columns, state, ask, node), *ask.on_any) for node in nodes
        )
        shift(self.columns, state, uses_of(nodes, ranks, ask.sharer), -1)
        pools.refresh(nodes, state, self.capped(state).head_w)
        return ranks

    def close(self, site: int, nodes: I64, elements: I64) -> None:
        """Nobody of lower rank starts on these nodes, and ``cap_w`` of the elements over them has become less."""
        self.touched.add(site)
        self.state.open[nodes] = False
        pools = self.pools(site)
        pools.limit(elements.tolist(), self.capped(self.state).head_w)
        pools.close(nodes.tolist())

    def covers(self, option: Option, site: int, asked_milli: int) -> bool:
        """Whether what its contract reserves is enough for it, beside what is held of it."""
        return _covers(option.allowed[site], asked_milli, self.held_milli)

    def covers_in(self, option: Option, site: int, nodes: I64, state: Scratch) -> bool:
        """The same on nodes of another state."""
        asked_milli = accelerators_milli_of(self.columns, option.ask, nodes)
        return _covers(option.allowed[site], asked_milli, state.held_milli)

    def hold(self, option: Option, site: int, nodes: Nodes, held_milli: dict[ContractId, int]) -> None:
        """Count it against what its contract reserves."""
        contract = option.allowed[site]
        if contract.kind == "reserved":
            asked = accelerators_milli_of(self.columns, option.ask, nodes)
            held_milli[contract.id] = held_milli.get(contract.id, 0) + asked


def _covers(contract: Contract, asked_milli: int, held_milli: Mapping[ContractId, int]) -> bool:
    if contract.kind != "reserved":
        return True
    return held_milli.get(contract.id, 0) + asked_milli <= contract.accelerators * WHOLE_MILLI
