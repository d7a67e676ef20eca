"""Who holds what in whom: parties, interests with their dates and sources, and what is known of how much is not
known.

Shares are ranges of integers in parts per million: ``[250_001, 500_000]`` is "more than 25 %, at most 50 %". An
exclusive bound moves by one ppm, the finest that is kept; what is finer is widened to the ppm around it. Nothing
known is ``[0, 1_000_000]``. Days are ISO texts (``2025-10-01``), which order as they sort; ``""`` is open. An
interest is there from ``since`` (included) to ``until`` (excluded).

What nobody has stated is unknown and never nobody's: the shares of an entity that no listed holder has may be
anybody's, unless a :class:`Coverage` says that the list is complete.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NewType

from headrace.core.ids import Digest

PartyId = NewType("PartyId", str)
InterestId = NewType("InterestId", str)
SourceId = NewType("SourceId", str)

WHOLE_PPM = 1_000_000
"""All of an entity, in parts per million."""
OPEN = ""
"""A day that is not known, or has not come."""


class Answer(StrEnum):
    """To a question of fact. ``unknown`` is no kind of ``no``."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


def answer_of(certain: bool, possible: bool) -> Answer:
    """``yes`` when it is so in every completion of what is unknown, ``no`` when in none."""
    if certain:
        return Answer.YES
    return Answer.UNKNOWN if possible else Answer.NO


class PartyKind(StrEnum):
    """What a party is. Persons and states are nobody's; an ``unnamed`` party may be anybody."""

    COMPANY = "company"
    ARRANGEMENT = "arrangement"
    """A trust, fund or nominee: held like a company."""
    STATE = "state"
    PERSON = "person"
    UNNAMED = "unnamed"


class InterestKind(StrEnum):
    """What a holder has in a subject."""

    SHARES = "shares"
    VOTES = "votes"
    BOARD = "board"
    """The right to appoint a part of the board; more than half of it is control."""
    WARRANT = "warrant"
    CONVERTIBLE = "convertible"
    """A convertible note, or a simple agreement for future equity (SAFE)."""
    LOAN = "loan"
    SUPPLIER = "supplier"
    STAFF = "staff"
    """A director, executive or anybody else who works there, with what the role gives access to."""
    INFLUENCE = "influence"
    """Influence that somebody attests, with a source; decisive or not. Never computed."""


CONVERTING = frozenset({InterestKind.WARRANT, InterestKind.CONVERTIBLE})
NO_CUSTODY = "nothing"
CUSTODY = ("keys", "data", "hardware", "software", "operations", NO_CUSTODY)
"""What a supplier or a person can have in hand; that it is nothing must be said."""


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a whole, from ``least_ppm`` to ``most_ppm``, both included; raises ValueError outside of 0 to a million."""

    least_ppm: int
    most_ppm: int

    def __post_init__(self) -> None:
        if not 0 <= self.least_ppm <= self.most_ppm <= WHOLE_PPM:
            raise ValueError(f"no share: {self.least_ppm} to {self.most_ppm} ppm")

    @classmethod
    def exact(cls, ppm: int) -> "Share":
        """A share that is known."""
        return cls(ppm, ppm)

    @property
    def is_exact(self) -> bool:
        """Whether nothing of it is unknown."""
        return self.least_ppm == self.most_ppm

    @property
    def unknown_ppm(self) -> int:
        """How much of it is unknown."""
        return self.most_ppm - self.least_ppm

    def at_least(self, ppm: int) -> Answer:
        """Whether it is ``ppm`` or more."""
        return answer_of(self.least_ppm >= ppm, self.most_ppm >= ppm)

    def above(self, ppm: int) -> Answer:
        """Whether it is more than ``ppm``."""
        return answer_of(self.least_ppm > ppm, self.most_ppm > ppm)

    def __str__(self) -> str:
        if self == UNKNOWN:
            return "unknown"
        least, most = _percent(self.least_ppm), _percent(self.most_ppm)
        return f"{least} %" if self.is_exact else f"{least} to {most} %"


def _percent(ppm: int) -> str:
    return f"{ppm // 10_000}.{ppm % 10_000:04d}".rstrip("0").rstrip(".")


UNKNOWN = Share(0, WHOLE_PPM)
"""Nothing is known."""
NOTHING = Share(0, 0)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a fact is from: ``digest`` is the SHA-256 of what was read, ``""`` when it was not kept."""

    id: SourceId
    title: str
    url: str = ""
    read_on: str = OPEN
    digest: Digest | str = ""


@dataclass(frozen=True, slots=True)
class Party:
    """Somebody who can hold something or be held.

    ``country``: of a company's register, of a state itself; ``""`` is unknown. ``headquarters``: from where it is led.
    ``nationalities`` and ``residences`` are a person's. ``since``: founded or born, ``until``: dissolved or died.
    ``why_unnamed``: why an unnamed party has no name.
    """

    id: PartyId
    kind: PartyKind
    name: str = ""
    country: str = ""
    headquarters: str = ""
    nationalities: tuple[str, ...] = ()
    residences: tuple[str, ...] = ()
    since: str = OPEN
    until: str = OPEN
    why_unnamed: str = ""
    source: SourceId | None = None

    @property
    def is_final(self) -> bool:
        """Whether nobody can hold it."""
        return self.kind in (PartyKind.PERSON, PartyKind.STATE)


class Basis(StrEnum):
    """What a conversion's part is a part of."""

    DILUTED = "diluted"
    """Of all capital once everything has converted, as in a post-money SAFE."""
    EXISTING = "existing"
    """Of the capital that there is before: new shares for each existing one."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a warrant or convertible becomes when it is exercised: ``part`` of ``basis``; with votes or without."""

    part: Share = UNKNOWN
    basis: Basis = Basis.DILUTED
    has_votes: bool = True


@dataclass(frozen=True, slots=True)
class Interest:
    """What ``holder`` has in ``subject``.

    ``share``: of shares, votes or seats of the board. ``converts``: of a warrant or convertible. ``decisive``: of
    influence, whether its source attests it to be decisive. ``custody``: what a supplier or person has in hand, of
    :data:`CUSTODY` (none: not known). ``terms``: a loan's covenant, a person's role, what an attestation says, for
    people to read. ``is_total``: the share is all that the holder has, with what those have in whom it has the
    majority, as the UK's register means it.
    """

    id: InterestId
    kind: InterestKind
    holder: PartyId
    subject: PartyId
    share: Share = UNKNOWN
    since: str = OPEN
    until: str = OPEN
    source: SourceId | None = None
    converts: Conversion | None = None
    decisive: Answer = Answer.UNKNOWN
    custody: tuple[str, ...] = ()
    terms: str = ""
    is_total: bool = False

    def holds_on(self, day: str) -> bool:
        """Whether it is there on a day."""
        return self.since <= day and (not self.until or day < self.until)


@dataclass(frozen=True, slots=True)
class Coverage:
    """What is known of the list of who holds ``subject``; or (``of``) of its staff or suppliers.

    ``above_ppm``: whoever holds more than that, alone or through what they have the majority of, is on the list; 0:
    the list is complete, with all rights to shares. A million says nothing, and is what holds where no coverage is
    stated. ``exempt``: why nothing must be disclosed.
    """

    subject: PartyId
    above_ppm: int
    of: InterestKind = InterestKind.SHARES
    since: str = OPEN
    until: str = OPEN
    source: SourceId | None = None
    exempt: str = ""

    def holds_on(self, day: str) -> bool:
        """Whether it is said of a day."""
        return self.since <= day and (not self.until or day < self.until)


@dataclass(frozen=True, slots=True)
class Flaw:
    """Why holdings can't be: ``what`` (an interest, party or coverage) by its name, the message and the next step."""

    what: str
    message: str
    next_step: str


@dataclass(frozen=True, slots=True)
class Holdings:
    """All that is known of who holds what, over all time; unchangeable. :mod:`~headrace.core.sovereignty.graph` looks
    at one day.
    """

    parties: Mapping[PartyId, Party]
    interests: tuple[Interest, ...]
    coverage: tuple[Coverage, ...] = ()
    sources: Mapping[SourceId, Source] = field(default_factory=dict)

    def joined(self, other: "Holdings") -> "Holdings":
        """These and others; where both have something by the same name, the other's counts."""
        interests = {one.id: one for one in (*self.interests, *other.interests)}
        return Holdings(
            {**self.parties, **other.parties},
            tuple(interests.values()),
            tuple(dict.fromkeys((*self.coverage, *other.coverage))),
            {**self.sources, **other.sources},
        )

    def with_interest(self, interest: Interest) -> "Holdings":
        """With one interest added, or in place of the one that has its name."""
        kept = tuple(one for one in self.interests if one.id != interest.id)
        return Holdings(self.parties, (*kept, interest), self.coverage, self.sources)

    def days(self) -> tuple[str, ...]:
        """The days on which something changes, in order."""
        dated: tuple[Interest | Coverage, ...] = (*self.interests, *self.coverage)
        return tuple(sorted({day for one in dated for day in (one.since, one.until) if day}))


def flaws(holdings: Holdings) -> Iterator[Flaw]:
    """Everything that can't be: unknown names, dates that run backwards or before birth, shares beyond a hundred per
    cent.
    """
    found = False
    for interest in holdings.interests:
        for message, step in _wrong_interest(holdings, interest):
            found = True
            yield Flaw(interest.id, message, step)
    for party in holdings.parties.values():
        if _ends_before_it_begins(party.since, party.until):
            yield Flaw(party.id, f"it ends {party.until}, but begins {party.since}.", "Write a later end.")
    for one in holdings.coverage:
        yield from _wrong_coverage(holdings, one)
    # Sums over names that nobody has, or dates that make no sense, would only say the same in other words.
    if not found:
        yield from _sums(holdings)


def _ends_before_it_begins(since: str, until: str) -> bool:
    return bool(since and until and until <= since)


def _wrong_interest(holdings: Holdings, one: Interest) -> Iterator[tuple[str, str]]:
    for role, ident in (("holder", one.holder), ("subject", one.subject)):
        party = holdings.parties.get(ident)
        if party is None:
            yield f"no party {ident!r}, its {role}.", "Add it to the parties."
            continue
        verb = "born" if party.kind is PartyKind.PERSON else "founded"
        if party.since and one.since and one.since < party.since:
            yield (
                f"it begins {one.since}, but {party.id} was {verb} {party.since}.",
                "Write a later day, or an earlier birth.",
            )
        if party.until and one.since and one.since >= party.until:
            yield f"it begins {one.since}, but {party.id} ended {party.until}.", "Write an earlier day."
    subject = holdings.parties.get(one.subject)
    if subject is not None and subject.is_final and one.kind is not InterestKind.STAFF:
        yield (
            f"{subject.id} is a {subject.kind}: nobody has {one.kind} in it.",
            "Name a company as its subject.",
        )
    if _ends_before_it_begins(one.since, one.until):
        yield f"it ends {one.until}, but begins {one.since}.", "The end is exclusive: write a later day."
    if one.source is not None and one.source not in holdings.sources:
        yield f"no source {one.source!r}.", "Add it to the sources."


def _wrong_coverage(holdings: Holdings, one: Coverage) -> Iterator[Flaw]:
    if one.subject not in holdings.parties:
        yield Flaw(
            one.subject, f"a coverage of {one.subject!r}, which is no party.", "Add it to the parties."
        )
    if not 0 <= one.above_ppm <= WHOLE_PPM:
        yield Flaw(one.subject, f"a coverage above {one.above_ppm} ppm.", "Write 0 to 1,000,000.")


def _sums(holdings: Holdings) -> Iterator[Flaw]:
    """Entities of whose shares, votes or seats more than all, or (of a complete list) less than all, are held on some
    day.
    """
    groups: dict[tuple[PartyId, InterestKind], list[Interest]] = defaultdict(list)
    for one in holdings.interests:
        if one.kind in (InterestKind.SHARES, InterestKind.VOTES, InterestKind.BOARD):
            groups[one.subject, one.kind].append(one)
        elif one.kind in CONVERTING:
            conversion = one.converts or Conversion()
            if conversion.basis is Basis.DILUTED:
                groups[one.subject, InterestKind.CONVERTIBLE].append(replace(one, share=conversion.part))
    complete: dict[PartyId, list[Coverage]] = defaultdict(list)
    for covered in holdings.coverage:
        if covered.above_ppm == 0 and covered.of is InterestKind.SHARES:
            complete[covered.subject].append(covered)
    for (subject, kind), held in groups.items():
        yield from _sums_of(subject, kind, held, complete.get(subject, ()))


def _sums_of(
    subject: PartyId, kind: InterestKind, held: list[Interest], complete: Iterable[Coverage]
) -> Iterator[Flaw]:
    whole: list[Coverage] = list(complete) if kind is InterestKind.SHARES else []
    least = sum(one.share.least_ppm for one in held)
    if least <= WHOLE_PPM and not whole:
        return
    # It is enough to look when something begins: a sum of what is there is greatest just then.
    days = {one.since for one in held} | {one.since for one in whole} | {one.until for one in held}
    for day in sorted(days):
        there = [one for one in held if one.holds_on(day)]
        least = sum(one.share.least_ppm for one in there)
        since = f" from {day}" if day else ""
        if least > WHOLE_PPM:
            names = ", ".join(sorted(one.id for one in there)[:6])
            what = "warrants and convertibles" if kind is InterestKind.CONVERTIBLE else kind
            message = f"its {what} add up to {_percent(least)} %{since}: {names}."
            yield Flaw(subject, message, "End one of them, or correct a share.")
            return
        most = sum(one.share.most_ppm for one in there)
        if most < WHOLE_PPM and any(one.holds_on(day) for one in whole) and there:
            message = f"its list of holders is called complete, but has {_percent(most)} % at most{since}."
            yield Flaw(
                subject,
                message,
                "Add who is missing, write ranges where parts were rounded, or end the coverage.",
            )
            return
