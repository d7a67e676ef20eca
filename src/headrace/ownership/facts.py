"""What every importer makes: holdings, what is private in them, and what they say of sites and limits."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.sovereignty.exposure import Place
from headrace.core.sovereignty.holdings import Flaw, Holdings, Party, PartyId, PartyKind, flaws
from headrace.core.sovereignty.limits import Limit
from headrace.documents.countries import COUNTRIES
from headrace.documents.values import Bad
from headrace.documents.values import country as alpha2


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts from one file or several.

    ``private``: the names of persons, by party; they are in no holding, so that no event has to carry them. ``same``:
    other names of parties, by the one that counts. ``notes``: what was read and not used, or read in a way that
    should be known.
    """

    holdings: Holdings
    places: tuple[Place, ...] = ()
    limits: tuple[Limit, ...] = ()
    same: Mapping[PartyId, PartyId] = field(default_factory=dict)
    private: Mapping[PartyId, str] = field(default_factory=dict, repr=False)
    notes: tuple[str, ...] = ()

    def public(self) -> Holdings:
        """The holdings without what is personal: of a person only the ties to countries remain."""
        parties = {
            ident: replace(party, name="", since="", until="") if party.kind is PartyKind.PERSON else party
            for ident, party in self.holdings.parties.items()
        }
        return replace(self.holdings, parties=parties)


def together(facts: Iterable[Facts]) -> Facts:
    """Facts of several files as one, with the names that mean the same party made one; HeadraceError for what can't
    be then.
    """
    found = list(facts)
    holdings = Holdings({}, ())
    same: dict[PartyId, PartyId] = {}
    private: dict[PartyId, str] = {}
    for one in found:
        holdings = holdings.joined(one.holdings)
        same.update(one.same)
        private.update(one.private)
    # Each file was held against its own births; of a company that several know, one may know an earlier relationship.
    notes = [note for one in found for note in one.notes]
    joined = Facts(
        from_founding(_renamed(holdings, same), {}, notes),
        tuple(place for one in found for place in one.places),
        tuple(limit for one in found for limit in one.limits),
        same,
        {same.get(party, party): name for party, name in private.items()},
        tuple(notes),
    )
    refuse(flaws(joined.holdings))
    return joined


def _renamed(holdings: Holdings, same: Mapping[PartyId, PartyId]) -> Holdings:
    parties: dict[PartyId, Party] = {}
    # Whoever has the name that counts says what the party is; others only where nobody has.
    for ident, party in sorted(holdings.parties.items(), key=lambda pair: (pair[0] in same, pair[0])):
        name = same.get(ident, ident)
        parties.setdefault(name, replace(party, id=name))
    interests = tuple(
        replace(one, holder=same.get(one.holder, one.holder), subject=same.get(one.subject, one.subject))
        for one in holdings.interests
    )
    coverage = tuple(replace(one, subject=same.get(one.subject, one.subject)) for one in holdings.coverage)
    return Holdings(parties, interests, coverage, holdings.sources)


def refuse(found: Iterable[Flaw], where: Mapping[str, str] | None = None) -> None:
    """Raise HeadraceError for flaws, each at its place."""
    places = where or {}
    problems = [
        Problem(
            ProblemCode.BAD_INPUT, f"{flaw.what}: {flaw.message}", flaw.next_step, places.get(flaw.what, "")
        )
        for flaw in found
    ]
    if problems:
        raise HeadraceError(*problems)


def from_founding(holdings: Holdings, places: Mapping[str, str], notes: list[str]) -> Holdings:
    """Holdings whose interests begin with the companies in them at the earliest.

    Registers round days to when their law began, or have a relationship older than the entity that took it over.
    Those are noted and begin with the company; one that ended before was another's, and is left out. A person's birth
    is no such matter: that is a flaw.
    """
    found = []
    for one in holdings.interests:
        ends = [holdings.parties[name] for name in (one.holder, one.subject) if name in holdings.parties]
        born = max((party.since for party in ends if party.kind is not PartyKind.PERSON), default="")
        if not one.since or one.since >= born:
            found.append(one)
            continue
        if one.until and one.until <= born:
            notes.append(
                f"{places.get(one.id, one.id)}: it ended {one.until}, before the company began {born}; left out"
            )
            continue
        notes.append(
            f"{places.get(one.id, one.id)}: it begins {one.since}, before the company; taken to begin {born}"
        )
        found.append(replace(one, since=born))
    return replace(holdings, interests=tuple(found))


def country_code(value: object) -> str:
    """An ISO 3166 code as registers write it (of a subdivision, ``US-DE``, its country); raises Bad for one that is none."""
    if isinstance(value, str) and len(value) > 3 and value[2] == "-" and value[:2].upper() in COUNTRIES:
        return value[:2].upper()
    if isinstance(value, str) and len(value) == 2 and value.upper() in COUNTRIES:
        return value.upper()
    return alpha2(value)


def country_named(value: object) -> str:
    """A country by its name or code; ``""`` for a name that is not known (a register's free text)."""
    try:
        return alpha2(value) if isinstance(value, str) else ""
    except Bad:
        return _NAMED.get(str(value).strip().upper(), "")


_NAMED = {
    "GREAT BRITAIN": "GB", "UNITED KINGDOM": "GB", "ENGLAND": "GB", "ENGLAND AND WALES": "GB", "SCOTLAND": "GB",
    "WALES": "GB", "NORTHERN IRELAND": "GB", "ENGLAND & WALES": "GB", "UK": "GB", "BRITISH": "GB", "ENGLISH": "GB",
    "SCOTTISH": "GB", "WELSH": "GB", "UNITED STATES": "US", "UNITED STATES OF AMERICA": "US", "USA": "US", "AMERICAN": "US",
    "NORWAY": "NO", "NORWEGIAN": "NO", "SWEDEN": "SE", "SWEDISH": "SE", "DENMARK": "DK", "DANISH": "DK", "FINLAND": "FI",
    "FINNISH": "FI", "ICELAND": "IS", "ICELANDIC": "IS", "IRELAND": "IE", "IRISH": "IE", "FRANCE": "FR", "FRENCH": "FR",
    "GERMANY": "DE", "GERMAN": "DE", "NETHERLANDS": "NL", "DUTCH": "NL", "BELGIUM": "BE", "BELGIAN": "BE",
    "LUXEMBOURG": "LU", "SPAIN": "ES", "SPANISH": "ES", "PORTUGAL": "PT", "PORTUGUESE": "PT", "ITALY": "IT", "ITALIAN": "IT",
    "SWITZERLAND": "CH", "SWISS": "CH", "AUSTRIA": "AT", "AUSTRIAN": "AT", "POLAND": "PL", "POLISH": "PL",
    "AUSTRALIA": "AU", "AUSTRALIAN": "AU", "CANADA": "CA", "CANADIAN": "CA", "INDIA": "IN", "INDIAN": "IN", "CHINA": "CN",
    "CHINESE": "CN", "JAPAN": "JP", "JAPANESE": "JP", "JERSEY": "JE", "GUERNSEY": "GG", "ISLE OF MAN": "IM",
    "CAYMAN ISLANDS": "KY", "BRITISH VIRGIN ISLANDS": "VG", "BERMUDA": "BM", "HONG KONG": "HK", "SINGAPORE": "SG",
    "UNITED ARAB EMIRATES": "AE", "SAUDI ARABIA": "SA", "QATAR": "QA", "ISRAEL": "IL", "RUSSIA": "RU", "RUSSIAN": "RU",
    "CYPRUS": "CY", "MALTA": "MT", "GIBRALTAR": "GI",
}  # fmt: skip
"""How the UK's register writes countries and nationalities; what isn't here stays unknown, and is said to be."""
