"""``kind: ownership``: who holds what of whom, and who operates and supplies which site, as documents have it."""

from collections.abc import Iterable
from dataclasses import dataclass

from headrace.core.sovereignty.exposure import Place
from headrace.core.sovereignty.holdings import Coverage, Holdings, Interest, Party, Source


@dataclass(frozen=True, slots=True)
class Ownership:
    """What one document states, without the names of persons. Several are joined; of the same party the last one counts."""

    id: str
    parties: tuple[Party, ...]
    interests: tuple[Interest, ...] = ()
    coverage: tuple[Coverage, ...] = ()
    sources: tuple[Source, ...] = ()
    places: tuple[Place, ...] = ()

    @classmethod
    def of(cls, name: str, holdings: Holdings, places: Iterable[Place]) -> "Ownership":
        """A document of what is held; sorted, so that one meaning is one document."""
        return cls(
            name,
            tuple(holdings.parties[one] for one in sorted(holdings.parties)),
            tuple(sorted(holdings.interests, key=lambda one: one.id)),
            tuple(sorted(holdings.coverage, key=lambda one: (one.subject, one.of, one.since, one.above_ppm))),
            tuple(holdings.sources[one] for one in sorted(holdings.sources)),
            tuple(sorted(places, key=lambda one: one.site)),
        )

    def holdings(self) -> Holdings:
        """What is held, by name."""
        parties = {one.id: one for one in self.parties}
        return Holdings(parties, self.interests, self.coverage, {one.id: one for one in self.sources})


def joined(documents: Iterable[Ownership]) -> Holdings:
    """What several documents state together."""
    found = Holdings({}, ())
    for one in documents:
        found = found.joined(one.holdings())
    return found
