"""Which countries reach a site, operator or supplier, and through what: facts with their evidence, and never what the
law makes of them.

Five channels: where a company is registered or a site stands (seat), from where it is led (headquarters), who
controls it or may (control), who works there (person), and who has its keys, data, hardware, software or operations
in hand (custody). Each answer is ``yes``, ``no`` or ``unknown``: a country is out only where everything that could
tie to it is known.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from headrace.core.sovereignty.control import Controller, control
from headrace.core.sovereignty.graph import VOTES, Graph, Step
from headrace.core.sovereignty.groups import Tie, countries_of, ties_of
from headrace.core.sovereignty.holdings import (
    NO_CUSTODY,
    Answer,
    Interest,
    InterestId,
    InterestKind,
    Party,
    PartyId,
    PartyKind,
    SourceId,
)


class Through(StrEnum):
    """By which channel a country reaches something."""

    SEAT = "seat"
    HEADQUARTERS = "headquarters"
    CONTROL = "control"
    PERSON = "person"
    CUSTODY = "custody"


@dataclass(frozen=True, slots=True)
class Flag:
    """A country that reaches ``subject``, or (``answer`` unknown) may.

    ``by``: the party it reaches it through. ``path``: holdings from that party down; ``interests`` and ``sources``
    what else shows it.
    """

    subject: str
    country: str
    through: Through
    answer: Answer
    by: PartyId | None
    why: str
    path: tuple[Step, ...] = ()
    interests: tuple[InterestId, ...] = ()
    sources: tuple[SourceId, ...] = ()


@dataclass(frozen=True, slots=True)
class Exposures:
    """All flags of a subject; ``gaps`` says for a channel what is not known of it, so that no country is out there."""

    subject: str
    day: str
    flags: tuple[Flag, ...]
    gaps: Mapping[Through, tuple[str, ...]] = field(default_factory=dict)

    def answer(self, country: str, through: Through | None = None) -> Answer:
        """Whether a country reaches it, by one channel or by any."""
        mine = [one for one in self.flags if one.country == country and through in (None, one.through)]
        if any(one.answer is Answer.YES for one in mine):
            return Answer.YES
        gaps = any(through in (None, channel) for channel, said in self.gaps.items() if said)
        return Answer.UNKNOWN if mine or gaps else Answer.NO

    def countries(self) -> tuple[str, ...]:
        """Every country that reaches it for certain, in order."""
        return tuple(sorted({one.country for one in self.flags if one.answer is Answer.YES}))


@dataclass(frozen=True, slots=True)
class Supply:
    """A supplier of a site, and what it has in hand there."""

    supplier: PartyId
    custody: tuple[str, ...] = ()
    source: SourceId | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """A site as far as exposure goes: where it stands (``""``: not known), who operates it, and who supplies it
    besides the operator's own suppliers.
    """

    site: str
    country: str
    operator: PartyId
    supplies: tuple[Supply, ...] = ()


class _Found:
    """Flags and gaps while they are gathered."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.flags: dict[tuple[str, Through, PartyId | None, str], Flag] = {}
        self.gaps: dict[Through, dict[str, None]] = {}

    def flag(self, flag: Flag) -> None:
        key = flag.country, flag.through, flag.by, flag.why
        known = self.flags.get(key)
        if known is None or (known.answer is not Answer.YES and flag.answer is Answer.YES):
            self.flags[key] = flag

    def gap(self, through: Through, said: str) -> None:
        self.gaps.setdefault(through, {})[said] = None

    def done(self, day: str) -> Exposures:
        flags = sorted(
            self.flags.values(),
            key=lambda one: (one.country, list(Through).index(one.through), one.by or "", one.why),
        )
        return Exposures(
            self.subject, day, tuple(flags), {key: tuple(said) for key, said in self.gaps.items()}
        )


def exposures(graph: Graph, party: PartyId) -> Exposures:
    """Which countries reach a company; KeyError for one that isn't known."""
    found = _Found(party)
    _company(found, graph, party, {party})
    return found.done(graph.day)


def exposures_of_site(graph: Graph, place: Place) -> Exposures:
    """Which countries reach a site: where it stands, and all that reaches its operator and suppliers."""
    found = _Found(place.site)
    if place.country:
        found.flag(Flag(place.site, place.country, Through.SEAT, Answer.YES, None, "the site stands there"))
    else:
        found.gap(Through.SEAT, "where the site stands is not known")
    if place.operator in graph.number:
        _company(found, graph, place.operator, {place.operator})
    else:
        for through in Through:
            found.gap(through, f"nothing is stated of {place.operator}, which operates it")
    for supply in place.supplies:
        _custody(found, graph, supply.supplier, supply.custody, (), {place.operator}, supply.source)
    return found.done(graph.day)


def _company(found: _Found, graph: Graph, name: PartyId, seen: set[PartyId]) -> None:
    party = graph.parties[graph.number[name]]
    for tie, through in ((Tie.SEAT, Through.SEAT), (Tie.HEADQUARTERS, Through.HEADQUARTERS)):
        for country in countries_of(party, tie):
            why = f"{tie} of {name}"
            sources = () if party.source is None else (party.source,)
            found.flag(Flag(found.subject, country, through, Answer.YES, name, why, sources=sources))
        if not countries_of(party, tie):
            found.gap(through, f"{tie} of {name} is not known")
    _controlled(found, graph, name)
    _staffed(found, graph, name)
    _supplied(found, graph, name, seen)


def _controlled(found: _Found, graph: Graph, name: PartyId) -> None:
    known = control(graph, name)
    for one in known.heads():
        if one.party is None:
            found.gap(Through.CONTROL, f"somebody who is not named may control {name}")
            continue
        party = graph.parties[graph.number[one.party]]
        for flag in _tied(
            found, graph, party, Through.CONTROL, one.controls, f"{one.party} {_says(one)} {name}"
        ):
            votes = one.measured(VOTES)
            attested = tuple(interest.id for interest in one.attested)
            sources = tuple(interest.source for interest in one.attested if interest.source is not None)
            path = votes.proof or votes.path
            found.flag(
                Flag(
                    flag.subject,
                    flag.country,
                    flag.through,
                    flag.answer,
                    flag.by,
                    flag.why,
                    path,
                    attested,
                    tuple(dict.fromkeys((*sources, *flag.sources))),
                )
            )
    if known.left_out:
        found.gap(Through.CONTROL, f"{known.left_out} more parties over {name} were not looked at")
    # Who lends to somebody who controls it may control it through them.
    for lent in (name, *(head.party for head in known.heads() if head.party is not None)):
        _lent(found, graph, lent)


def _lent(found: _Found, graph: Graph, name: PartyId) -> None:
    """Who lends to a party under covenants may control it: by the lender's own ties."""
    for interest in graph.interests(graph.number[name]):
        if interest.kind is InterestKind.LOAN and interest.terms:
            lender = graph.parties[graph.number[interest.holder]]
            why = f"{interest.holder} lends to {name} under covenants"
            for flag in _tied(found, graph, lender, Through.CONTROL, Answer.UNKNOWN, why, (interest,)):
                found.flag(flag)


def _says(one: Controller) -> str:
    return "controls" if one.controls is Answer.YES else "may control"


def _staffed(found: _Found, graph: Graph, name: PartyId) -> None:
    row = graph.number[name]
    for interest in graph.interests(row):
        if interest.kind is InterestKind.STAFF:
            person = graph.parties[graph.number[interest.holder]]
            why = f"{interest.holder} is {interest.terms or 'on the staff'} of {name}"
            for flag in _tied(found, graph, person, Through.PERSON, Answer.YES, why, (interest,)):
                found.flag(flag)
    if not graph.is_complete(row, InterestKind.STAFF):
        found.gap(Through.PERSON, f"who else works for {name} is not known")


def _supplied(found: _Found, graph: Graph, name: PartyId, seen: set[PartyId]) -> None:
    row = graph.number[name]
    for interest in graph.interests(row):
        if interest.kind is InterestKind.SUPPLIER:
            _custody(found, graph, interest.holder, interest.custody, (interest,), seen, interest.source)
    if not graph.is_complete(row, InterestKind.SUPPLIER):
        found.gap(Through.CUSTODY, f"who else supplies {name} is not known")


def _custody(
    found: _Found,
    graph: Graph,
    supplier: PartyId,
    custody: tuple[str, ...],
    interests: tuple[Interest, ...],
    seen: set[PartyId],
    source: SourceId | None,
) -> None:
    if custody == (NO_CUSTODY,) or supplier in seen:
        return
    seen.add(supplier)
    inner = _Found(supplier)
    _company(inner, graph, supplier, seen)
    has = f"has {', '.join(custody)} in hand" if custody else "supplies, and has in hand what is not known"
    for flag in inner.flags.values():
        answer = flag.answer if custody else Answer.UNKNOWN
        found.flag(
            Flag(
                found.subject,
                flag.country,
                Through.CUSTODY,
                answer,
                supplier,
                f"{supplier} {has}; {flag.through}: {flag.why}",
                flag.path,
                (*(one.id for one in interests), *flag.interests),
                tuple(dict.fromkeys((*((source,) if source else ()), *flag.sources))),
            )
        )
    for through, said in inner.gaps.items():
        for one in said:
            found.gap(Through.CUSTODY, f"{supplier} {has}; {through}: {one}")


def _tied(
    found: _Found,
    graph: Graph,
    party: Party,
    through: Through,
    answer: Answer,
    why: str,
    interests: Iterable[Interest] = (),
) -> Iterator[Flag]:
    """A flag for each country that a party is tied to; a gap for each tie that isn't known. Who has no name may be anybody."""
    if party.kind is PartyKind.UNNAMED:
        found.gap(through, f"{why}; who that is is not known")
        return
    behind = tuple(interests)
    sources = [one.source for one in behind if one.source is not None]
    if party.source is not None:
        sources.append(party.source)
    for tie in sorted(ties_of(party)):
        for country in countries_of(party, tie):
            yield Flag(
                found.subject,
                country,
                through,
                answer,
                party.id,
                f"{why}; its {tie}",
                (),
                tuple(one.id for one in behind),
                tuple(dict.fromkeys(sources)),
            )
        if not countries_of(party, tie):
            found.gap(through, f"{why}; its {tie} is not known")
