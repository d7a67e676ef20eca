"""``kind: ownership``: who holds what, as people write it.

Persons' names (``title``) are private: they are kept apart from the holdings, in which a person is only its ``name`` here.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from headrace.core.errors import HeadraceError, Problem, did_you_mean
from headrace.core.sovereignty.exposure import Place as SitePlace
from headrace.core.sovereignty.exposure import Supply
from headrace.core.sovereignty.groups import Tie
from headrace.core.sovereignty.holdings import (
    CONVERTING,
    CUSTODY,
    UNKNOWN,
    WHOLE_PPM,
    Answer,
    Basis,
    Conversion,
    Coverage,
    Holdings,
    Interest,
    InterestId,
    InterestKind,
    Party,
    PartyId,
    PartyKind,
    Share,
    SourceId,
    flaws,
)
from headrace.core.sovereignty.holdings import Source as Origin
from headrace.core.sovereignty.limits import Limit
from headrace.documents import values
from headrace.documents.fields import Country, Day, Model, Name, SiteCountry, Text, word
from headrace.documents.report import bad_input, capped, validated
from headrace.documents.source import Place, Raw, Source, parse, read_bytes, show
from headrace.ownership.facts import Facts
from headrace.ownership.words import amount_of_cap, share

KIND = "ownership"
MOST = 20_000
_SHARED = frozenset({InterestKind.SHARES, InterestKind.VOTES, InterestKind.BOARD})
_LISTS = {"holders": InterestKind.SHARES, "staff": InterestKind.STAFF, "suppliers": InterestKind.SUPPLIER}


def _digest(value: object) -> str:
    text = values.text(value)
    if len(text) != 64 or set(text) - set("0123456789abcdef"):
        raise values.Bad(f"{show(value)} is not a SHA-256.", "Write its 64 hexadecimal digits.")
    return text


def _ident(value: object) -> str:
    """A name of a party: ours, or one of a register, like lei:5493001KJTIIGC8Y1R12."""
    if (
        isinstance(value, str)
        and ":" in value
        and len(value) <= 200
        and value.isprintable()
        and " " not in value
    ):
        return value
    return values.name(value)


def _answer(value: object) -> Answer:
    return {"yes": Answer.YES, "no": Answer.NO, "unknown": Answer.UNKNOWN}[_ANSWER(value)]


_ANSWER = values.choice("answer", "yes", "no", "unknown")
ShareIn = Annotated[Share, BeforeValidator(share)]
Ident = Annotated[str, BeforeValidator(_ident)]
Amount = Annotated[int, BeforeValidator(values.count(1, 10**15, "money"))]


class SourceModel(Model):
    """Where facts are from."""

    name: Name
    title: Text
    url: Text = ""
    read: Day | None = None
    sha256: Annotated[str, BeforeValidator(_digest)] = ""


class PartyModel(Model):
    """Somebody. ``country`` and ``headquarters`` may be ``unknown``, as may whatever is left out."""

    name: Ident
    type: Annotated[str, *word("type of party", *(kind.value for kind in PartyKind))]
    title: Text = ""
    country: SiteCountry = ""
    headquarters: SiteCountry = ""
    nationality: list[Country] = Field(default=[], max_length=8)
    residence: list[Country] = Field(default=[], max_length=8)
    since: Day | None = None
    until: Day | None = None
    same: list[Ident] = Field(default=[], max_length=20, alias="is")
    why: Text = ""
    source: Name | None = None


class BecomesModel(Model):
    """What converts into shares: a ``share`` of what there is before or after, or an ``amount`` under a post-money
    ``cap``.
    """

    share: ShareIn | None = None
    of: Annotated[str, *word("basis", "diluted", "existing")] = "diluted"
    amount: Amount | None = None
    cap: Amount | None = None
    votes: Annotated[bool, BeforeValidator(values.flag)] = True


class InterestModel(Model):
    """What ``holder`` has in ``of``."""

    name: Name | None = None
    type: Annotated[str, *word("type of interest", *(kind.value for kind in InterestKind))]
    holder: Ident
    of: Ident
    share: ShareIn | None = None
    since: Day | None = None
    until: Day | None = None
    source: Name | None = None
    becomes: BecomesModel | None = None
    decisive: Annotated[Answer, BeforeValidator(_answer)] | None = None
    custody: list[Annotated[str, *word("custody", *CUSTODY)]] = Field(default=[], max_length=8)
    terms: Text = ""


class CoverageModel(Model):
    """What is known of a list: that it is complete, that it has everybody ``above`` a share, or why nothing has to be
    on it.
    """

    of: Ident
    list: Annotated[str, *word("list", *_LISTS)] = "holders"
    complete: Annotated[bool, BeforeValidator(values.flag)] = False
    above: ShareIn | None = None
    exempt: Text = ""
    since: Day | None = None
    until: Day | None = None
    source: Name | None = None


class SupplyModel(Model):
    """Who supplies a site, and what it has in hand there."""

    supplier: Ident
    custody: list[Annotated[str, *word("custody", *CUSTODY)]] = Field(default=[], max_length=8)
    source: Name | None = None


class SiteModel(Model):
    """A site: where it stands, and who operates and supplies it."""

    name: Name
    country: SiteCountry = ""
    operator: Ident
    suppliers: list[SupplyModel] = Field(default=[], max_length=1_000)


class LimitModel(Model):
    """What those outside of some countries may have, each and together."""

    name: Name
    inside: list[Country] = Field(min_length=1, max_length=250)
    single: ShareIn
    together: ShareIn
    by: list[Annotated[str, *word("tie", *Tie)]] = Field(default=list(Tie), min_length=1)


class OwnershipModel(Model):
    """``kind: ownership``."""

    kind: Literal["ownership"]
    name: Name
    title: Text = ""
    note: Text = ""
    sources: list[SourceModel] = Field(default=[], max_length=1_000)
    parties: list[PartyModel] = Field(min_length=1, max_length=MOST)
    interests: list[InterestModel] = Field(default=[], max_length=MOST)
    coverage: list[CoverageModel] = Field(default=[], max_length=MOST)
    sites: list[SiteModel] = Field(default=[], max_length=1_000)
    limits: list[LimitModel] = Field(default=[], max_length=100)


def load_ownership(path: Path) -> Facts:
    """The facts of a YAML or JSON file; HeadraceError with every problem found, each with its line and column."""
    return parse_ownership(read_bytes(path), str(path))


def parse_ownership(raw: bytes, name: str) -> Facts:
    """The facts of a text, which errors call ``name``."""
    found = parse(raw, name)
    if len(found) != 1:
        message = "no document in it." if not found else f"{len(found)} documents, and not one."
        source = found[0].source if found else Source(name)
        raise HeadraceError(bad_input(message, "Give one document, of kind: ownership.", source))
    return facts_of(found[0])


def facts_of(raw: Raw) -> Facts:
    """The facts of a parsed text."""
    data, source = raw.data, raw.source
    if not isinstance(data, dict) or data.get("kind") != KIND:
        kind = show(data.get("kind")) if isinstance(data, dict) else show(data)
        raise HeadraceError(
            bad_input(f"{kind} is not of kind ownership.", "Begin with kind: ownership.", source)
        )
    model = validated(OwnershipModel, data, source)
    problems = list(_wrong(model, source))
    if problems:
        raise HeadraceError(*capped(problems))
    facts, places = _converted(model)
    problems = [
        bad_input(f"{flaw.what}: {flaw.message}", flaw.next_step, source, places.get(flaw.what, ()))
        for flaw in flaws(facts.holdings)
    ]
    if problems:
        raise HeadraceError(*capped(problems))
    return facts


def converted(model: OwnershipModel) -> Facts:
    """What a document states; its checks (:func:`problems_of_ownership`) found nothing."""
    return _converted(model)[0]


def problems_of_ownership(model: OwnershipModel) -> Iterator[tuple[Place, str, str]]:
    """What is wrong with a document beyond its single fields: places, messages and next steps."""
    found = list(_wrong(model, Source("")))
    for one in found:
        yield (), one.message, one.next_step
    if not found:
        facts, places = _converted(model)
        for flaw in flaws(facts.holdings):
            yield places.get(flaw.what, ()), f"{flaw.what}: {flaw.message}", flaw.next_step


def _wrong(model: OwnershipModel, source: Source) -> Iterator[Problem]:
    yield from _named_twice(model, source)
    parties = {one.name for one in model.parties}
    sources = {one.name for one in model.sources}
    for place, name in _parties_named(model):
        if name not in parties:
            yield bad_input(f"no party {name!r};", did_you_mean(name, parties), source, place)
    for place, origin in _sources_named(model):
        if origin not in sources:
            yield bad_input(f"no source {origin!r};", did_you_mean(origin, sources), source, place)
    for number, party in enumerate(model.parties):
        yield from _wrong_party(party, source, ("parties", number))
    for number, interest in enumerate(model.interests):
        yield from _wrong_interest(interest, source, ("interests", number))
    for number, one in enumerate(model.coverage):
        if sum((one.complete, one.above is not None, bool(one.exempt))) != 1:
            step = "Write complete: true, above: 25%, or exempt with its reason."
            yield bad_input("a coverage says one thing.", step, source, ("coverage", number))


def _named_twice(model: OwnershipModel, source: Source) -> Iterator[Problem]:
    lists = {
        "parties": [one.name for one in model.parties],
        "sources": [one.name for one in model.sources],
        "interests": [_interest_name(one, number) for number, one in enumerate(model.interests)],
        "sites": [one.name for one in model.sites],
        "limits": [one.name for one in model.limits],
    }
    for field, names in lists.items():
        twice = values.first_repeated(names)
        if twice:
            message = f"{names[twice[0]]} stands twice."
            yield bad_input(message, "Rename one of them.", source, (field, twice[0], "name"))


def _parties_named(model: OwnershipModel) -> Iterator[tuple[Place, str]]:
    for number, interest in enumerate(model.interests):
        yield ("interests", number, "holder"), interest.holder
        yield ("interests", number, "of"), interest.of
    for number, one in enumerate(model.coverage):
        yield ("coverage", number, "of"), one.of
    for number, site in enumerate(model.sites):
        yield ("sites", number, "operator"), site.operator
        for index, supply in enumerate(site.suppliers):
            yield ("sites", number, "suppliers", index, "supplier"), supply.supplier


def _sources_named(model: OwnershipModel) -> Iterator[tuple[Place, str]]:
    lists = {
        "parties": [one.source for one in model.parties],
        "interests": [one.source for one in model.interests],
        "coverage": [one.source for one in model.coverage],
    }
    for field, sources in lists.items():
        for number, source in enumerate(sources):
            if source is not None:
                yield (field, number, "source"), source
    for number, site in enumerate(model.sites):
        for index, supply in enumerate(site.suppliers):
            if supply.source is not None:
                yield ("sites", number, "suppliers", index, "source"), supply.source


def _wrong_party(party: PartyModel, source: Source, place: Place) -> Iterator[Problem]:
    is_person = party.type == PartyKind.PERSON
    for name in ("nationality", "residence") if not is_person else ("country", "headquarters"):
        if getattr(party, name):
            step = "Persons have nationality and residence, companies country and headquarters."
            yield bad_input(f"a {party.type} has no {name}.", step, source, (*place, name))


def _wrong_interest(one: InterestModel, source: Source, place: Place) -> Iterator[Problem]:
    kind = InterestKind(one.type)
    if one.share is not None and kind not in _SHARED:
        step = "Only shares, votes and board have a share; what converts says becomes."
        yield bad_input(f"{kind} has no share.", step, source, (*place, "share"))
    if one.becomes is not None and kind not in CONVERTING:
        yield bad_input(f"{kind} don't convert.", "Remove becomes.", source, (*place, "becomes"))
    if kind is InterestKind.INFLUENCE and (one.source is None or one.decisive is None):
        step = "Add source and decisive: yes, no or unknown: influence is attested, never computed."
        yield bad_input("an attestation of influence without its source or answer.", step, source, place)
    if kind is not InterestKind.INFLUENCE and one.decisive is not None:
        step = "Write it as an interest of type influence, with its source."
        yield bad_input(f"{kind} are not decisive by themselves.", step, source, (*place, "decisive"))
    becomes = one.becomes
    if becomes is not None and (
        (becomes.amount is None) != (becomes.cap is None)
        or (becomes.share is not None and becomes.cap is not None)
    ):
        step = "Write share, or amount and cap, or neither when it isn't known."
        yield bad_input("what it becomes is said by half, or twice.", step, source, (*place, "becomes"))
    elif becomes is not None and becomes.amount and becomes.cap and becomes.amount > becomes.cap:
        yield bad_input(
            "its amount is more than its cap.", "Write a higher cap.", source, (*place, "becomes", "amount")
        )


def _interest_name(one: InterestModel, number: int) -> str:
    return one.name or f"interest-{number + 1}"


def _converted(model: OwnershipModel) -> tuple[Facts, dict[str, Place]]:
    prefix = model.name
    places: dict[str, Place] = {}
    parties = {PartyId(one.name): _party(one, prefix) for one in model.parties}
    for number, party in enumerate(model.parties):
        places[party.name] = ("parties", number)
    interests = []
    for number, one in enumerate(model.interests):
        made = _interest(one, number, prefix)
        places[made.id] = ("interests", number)
        interests.append(made)
    sources = {
        SourceId(f"{prefix}/{one.name}"): Origin(
            SourceId(f"{prefix}/{one.name}"), one.title, one.url, one.read or "", one.sha256
        )
        for one in model.sources
    }
    coverage = tuple(
        Coverage(
            PartyId(one.of),
            0 if one.complete else (one.above or UNKNOWN).most_ppm,
            _LISTS[one.list],
            one.since or "",
            one.until or "",
            _source(one.source, prefix),
            one.exempt,
        )
        for one in model.coverage
    )
    facts = Facts(
        Holdings(parties, tuple(interests), coverage, sources),
        tuple(_site(one, prefix) for one in model.sites),
        tuple(
            Limit(
                one.name,
                tuple(one.inside),
                one.single.most_ppm,
                one.together.most_ppm,
                frozenset(map(Tie, one.by)),
            )
            for one in model.limits
        ),
        {PartyId(other): PartyId(one.name) for one in model.parties for other in one.same},
        {PartyId(one.name): one.title for one in model.parties if one.type == PartyKind.PERSON and one.title},
    )
    return facts, places


def _source(name: str | None, prefix: str) -> SourceId | None:
    return None if name is None else SourceId(f"{prefix}/{name}")


def _party(one: PartyModel, prefix: str) -> Party:
    kind = PartyKind(one.type)
    return Party(
        PartyId(one.name),
        kind,
        "" if kind is PartyKind.PERSON else one.title,
        one.country,
        one.headquarters,
        tuple(one.nationality),
        tuple(one.residence),
        one.since or "",
        one.until or "",
        one.why,
        _source(one.source, prefix),
    )


def _interest(one: InterestModel, number: int, prefix: str) -> Interest:
    kind = InterestKind(one.type)
    return Interest(
        InterestId(f"{prefix}/{_interest_name(one, number)}"),
        kind,
        PartyId(one.holder),
        PartyId(one.of),
        one.share or UNKNOWN,
        one.since or "",
        one.until or "",
        _source(one.source, prefix),
        _conversion(one.becomes) if kind in CONVERTING else None,
        one.decisive or Answer.UNKNOWN,
        tuple(one.custody),
        one.terms,
    )


def _conversion(one: BecomesModel | None) -> Conversion:
    if one is None:
        return Conversion()
    part = amount_of_cap(one.amount, one.cap) if one.amount and one.cap else one.share
    return Conversion(part or UNKNOWN, Basis(one.of), one.votes)


def _site(one: SiteModel, prefix: str) -> SitePlace:
    supplies = tuple(
        Supply(PartyId(supply.supplier), tuple(supply.custody), _source(supply.source, prefix))
        for supply in one.suppliers
    )
    return SitePlace(one.name, one.country, PartyId(one.operator), supplies)


__all__ = ["KIND", "WHOLE_PPM", "OwnershipModel", "facts_of", "load_ownership", "parse_ownership"]
