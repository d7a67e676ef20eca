"""What planning found out and need not find out again: it stays true until what it rests on changes.

Whoever owns the world drops what a change touches; a plan is the same with a memory as without one.
"""

from dataclasses import dataclass, field

from headrace.core.contracts import Contract


@dataclass(slots=True)
class AtSite:
    """Asks that nothing at a site can take now (``full``), or could if all left that may leave (``never``)."""

    full: set[object] = field(default_factory=set)
    never: set[object] = field(default_factory=set)


@dataclass(slots=True)
class Memory:
    """By site number what its use, its nodes and its power decided; ``allowed`` by class of workload what documents did."""

    sites: dict[int, AtSite] = field(default_factory=dict)
    allowed: dict[tuple[object, ...], dict[int, Contract]] = field(default_factory=dict)

    def at(self, site: int) -> AtSite:
        """What is remembered of a site."""
        found = self.sites.get(site)
        if found is None:
            found = self.sites[site] = AtSite()
        return found

    def forget(self, site: int) -> None:
        """Something at a site has changed: its use, its nodes, who is leaving."""
        self.sites.pop(site, None)

    def clear(self) -> None:
        """Documents have changed, or a day has begun."""
        self.sites.clear()
        self.allowed.clear()
