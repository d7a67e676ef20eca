"""The production policy engine, which remembers what follows from who holds what: many worlds state the same few holdings."""

from dataclasses import replace
from functools import lru_cache

from headrace.core.sovereignty.exposure import Place
from headrace.core.sovereignty.graph import Graph
from headrace.core.sovereignty.holdings import InterestId, PartyId
from headrace.policy.engine import Policies
from headrace.policy.schema import Value

_MOST = 4_000
_NO_NAME = InterestId("")


class RememberingPolicies(Policies):
    """Judges as the production engine does; of holdings that it has seen before it says what it said then."""

    def __init__(self) -> None:
        super().__init__()
        self._described: dict[object, dict[str, Value]] = {}

    def describe(self, graph: Graph, place: Place, owner: PartyId | None) -> dict[str, Value]:
        """The facts of a site that follow from who holds what."""
        # All that the facts follow from: what goes on that day, and neither the day, nor dates, nor the name of the site.
        held = tuple(
            replace(one, id=_NO_NAME, since="", until="")
            for number in range(len(graph))
            for one in graph.interests(number)
        )
        key = (graph.parties, held, graph.holdings.coverage, replace(place, site=""), owner)
        found = self._described.get(key)
        if found is None:
            if len(self._described) >= _MOST:
                self._described.clear()
            found = self._described[key] = super().describe(graph, place, owner)
        return found


@lru_cache(maxsize=1)
def remembering() -> RememberingPolicies:
    """One for all worlds of a process."""
    return RememberingPolicies()
