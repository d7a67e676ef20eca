"""The UK's register of people with significant control (PSC): lines of Companies House's snapshot, as holdings.

The register has bands, not shares, and what companies say of themselves. A band is all that somebody has, directly or
through majorities. A line that says why nobody is named (an exemption, a protected person, a statement) makes things
unknown, and never clean; that nobody has significant control is read as what it says: nobody has more than a quarter.
Several persons who each have the same shares jointly have an unknown part of them each.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.ids import Digest
from headrace.core.sovereignty.holdings import (
    UNKNOWN,
    WHOLE_PPM,
    Coverage,
    Holdings,
    Interest,
    InterestId,
    InterestKind,
    Party,
    PartyId,
    PartyKind,
    Share,
    Source,
    SourceId,
    flaws,
)
from headrace.documents.report import capped
from headrace.documents.source import show
from headrace.documents.values import Bad
from headrace.documents.values import day as iso_day
from headrace.ownership.facts import Facts, country_named
from headrace.ownership.files import parsed_json, parsed_records, read_large

_COMPANY = re.compile(r"[A-Z0-9]{2}[0-9]{6}|[0-9]{1,8}")
_BANDS = {
    "25-to-50-percent": Share(250_001, 500_000),
    "50-to-75-percent": Share(500_001, 749_999),
    "75-to-100-percent": Share(750_000, WHOLE_PPM),
    "more-than-25-percent": Share(250_001, WHOLE_PPM),
}
_NATURES = (
    ("ownership-of-shares", InterestKind.SHARES),
    ("right-to-share-surplus-assets", InterestKind.SHARES),
    ("voting-rights", InterestKind.VOTES),
    ("right-to-appoint-and-remove", InterestKind.BOARD),
    ("significant-influence-or-control", InterestKind.INFLUENCE),
)
_MAJORITY = Share(500_001, WHOLE_PPM)
_KINDS = {
    "individual-person-with-significant-control": PartyKind.PERSON,
    "individual-beneficial-owner": PartyKind.PERSON,
    "corporate-entity-person-with-significant-control": PartyKind.COMPANY,
    "corporate-entity-beneficial-owner": PartyKind.COMPANY,
    "legal-person-person-with-significant-control": PartyKind.COMPANY,
    "legal-person-beneficial-owner": PartyKind.COMPANY,
    "super-secure-person-with-significant-control": PartyKind.UNNAMED,
    "super-secure-beneficial-owner": PartyKind.UNNAMED,
}
_NOBODY = frozenset(
    {
        "no-individual-or-entity-with-signficant-control",
        "no-individual-or-entity-with-significant-control",
        "no-individual-or-entity-with-signficant-control-partnership",
    }
)
_QUARTER_PPM = 250_000


def load_psc(path: Path) -> Facts:
    """The facts of a snapshot; HeadraceError with every problem, each with its line."""
    return parse_psc(read_large(path), str(path))


def parse_psc(raw: bytes, name: str) -> Facts:
    """The facts of a text: lines of JSON, an array, or one record; errors call it ``name``."""
    reader = _Reader(Digest(sha256(raw).hexdigest()), name.rsplit("/", 1)[-1])
    for place, record in _records(raw, name):
        try:
            reader.record(record, place)
        except Bad as bad:
            reader.problems.append(Problem(ProblemCode.BAD_INPUT, bad.message, bad.next_step, place))
    return reader.facts()


def _records(raw: bytes, name: str) -> list[tuple[str, Any]]:
    lines = raw.strip().splitlines()
    if raw.lstrip()[:1] == b"{" and len(lines) > 1 and lines[0].strip() == b"{":
        return [(name, parsed_json(raw, name))]
    return parsed_records(raw, name)


@dataclass(slots=True)
class _Reader:
    digest: Digest
    name: str
    parties: dict[PartyId, Party] = field(default_factory=dict)
    private: dict[PartyId, str] = field(default_factory=dict)
    interests: list[Interest] = field(default_factory=list)
    coverage: list[Coverage] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def source(self) -> SourceId:
        return SourceId(f"psc:{self.digest[:16]}")

    def record(self, record: Any, place: str) -> None:
        data = record.get("data") if isinstance(record, dict) else None
        if not isinstance(data, dict):
            raise Bad(
                f"{show(record)} is no line of the register.", "Give lines with company_number and data."
            )
        kind = data.get("kind", "")
        if kind == "totals#persons-of-significant-control-snapshot":
            return
        if kind not in _KINDS and kind not in ("exemptions", "persons-with-significant-control-statement"):
            self.notes.append(f"{place}: {show(kind)} is no kind of line that is known; not used")
            return
        company = self._company(record.get("company_number"))
        if kind == "exemptions":
            self._exempt(company, data)
        elif kind == "persons-with-significant-control-statement":
            self._statement(company, data)
        else:
            self._controller(company, data, _KINDS[kind], place)

    def _company(self, number: object) -> PartyId:
        ident = _company_id(number)
        self.parties.setdefault(ident, Party(ident, PartyKind.COMPANY, country="GB", source=self.source))
        return ident

    def _exempt(self, company: PartyId, data: Mapping[str, Any]) -> None:
        exemptions = data.get("exemptions")
        for name, one in exemptions.items() if isinstance(exemptions, dict) else ():
            for item in one.get("items") or [{}]:
                why = str(one.get("exemption_type", name)).replace("-", " ").replace("_", " ")
                since, until = _day(item.get("exempt_from")), _day(item.get("exempt_to"))
                self.coverage.append(
                    Coverage(company, WHOLE_PPM, InterestKind.SHARES, since, until, self.source, why)
                )

    def _statement(self, company: PartyId, data: Mapping[str, Any]) -> None:
        said = str(data.get("statement", ""))
        since, until = _day(data.get("notified_on")), _day(data.get("ceased_on"))
        above = _QUARTER_PPM if said in _NOBODY else WHOLE_PPM
        why = "" if said in _NOBODY else said.replace("-", " ") or "a statement that isn't given"
        self.coverage.append(Coverage(company, above, InterestKind.SHARES, since, until, self.source, why))

    def _controller(self, company: PartyId, data: Mapping[str, Any], kind: PartyKind, place: str) -> None:
        link = str(_mapping(data, "links").get("self") or data.get("etag") or place)
        holder = self._holder(data, kind, PartyId(f"psc:{link}"), place)
        since, until = _day(data.get("notified_on")), _day(data.get("ceased_on"))
        natures = data.get("natures_of_control") or []
        if not isinstance(natures, list):
            raise Bad(f"{show(natures)} are no natures of control.", "Write a list.")
        made: list[tuple[InterestKind, Share, str]] = []
        for nature in natures:
            found = _nature(str(nature))
            if found is None:
                self.notes.append(
                    f"{place}: {show(nature)} is no nature of control that is known; taken as unknown"
                )
                found = InterestKind.INFLUENCE, UNKNOWN
            made.append((*found, str(nature)))
        if not made:
            made = [
                (InterestKind.SHARES, UNKNOWN, "not stated"),
                (InterestKind.INFLUENCE, UNKNOWN, "not stated"),
            ]
        for number, (what, share, nature) in enumerate(made):
            ident = InterestId(f"psc:{company}:{link}/{number}")
            self.places[ident] = place
            self.interests.append(
                Interest(
                    ident,
                    what,
                    holder,
                    company,
                    share,
                    since,
                    until,
                    self.source,
                    terms=nature.replace("-", " "),
                    is_total=True,
                )
            )

    def _holder(self, data: Mapping[str, Any], kind: PartyKind, ident: PartyId, place: str) -> PartyId:
        if kind is PartyKind.UNNAMED:
            why = str(data.get("description", data["kind"])).replace("-", " ")
            self.parties[ident] = Party(ident, kind, why_unnamed=why, source=self.source)
            return ident
        if kind is PartyKind.PERSON:
            return self._person(data, ident, place)
        identification = _mapping(data, "identification")
        country = self._country(identification.get("country_registered"), place)
        number = identification.get("registration_number")
        if country == "GB" and isinstance(number, str) and _COMPANY.fullmatch(number.strip().upper()):
            ident = _company_id(number)
        name = str(data.get("name", ""))
        known = self.parties.get(ident)
        if known is None or not known.name:
            self.parties[ident] = Party(ident, kind, name, country, source=self.source)
        return ident

    def _person(self, data: Mapping[str, Any], ident: PartyId, place: str) -> PartyId:
        names = _mapping(data, "name_elements")
        full = " ".join(str(names[key]) for key in ("forename", "middle_name", "surname") if names.get(key))
        if full or data.get("name"):
            self.private[ident] = full or str(data["name"])
        stated = [part.strip() for part in str(data.get("nationality") or "").split(",") if part.strip()]
        nationalities = [self._country(part, place) for part in stated]
        residence = self._country(data.get("country_of_residence"), place)
        born = _mapping(data, "date_of_birth")
        year, month = born.get("year"), born.get("month")
        self.parties[ident] = Party(
            ident,
            PartyKind.PERSON,
            # One that isn't understood may be any: then none of them is taken as all.
            nationalities=tuple(nationalities) if all(nationalities) else (),
            residences=(residence,) if residence else (),
            since=f"{year:04d}-{month or 1:02d}-01"
            if isinstance(year, int) and isinstance(month or 1, int)
            else "",
            source=self.source,
        )
        return ident

    def _country(self, text: object, place: str) -> str:
        code = country_named(text) if text else ""
        if text and not code:
            self.notes.append(f"{place}: {show(text)} is no country that is known; taken as unknown")
        return code

    def facts(self) -> Facts:
        source = Source(self.source, f"Companies House, PSC register ({self.name})", digest=self.digest)
        interests = self._jointly(self.interests)
        holdings = Holdings(self.parties, tuple(interests), tuple(self.coverage), {self.source: source})
        for flaw in flaws(holdings):
            place = self.places.get(flaw.what, "")
            self.problems.append(
                Problem(ProblemCode.BAD_INPUT, f"{flaw.what}: {flaw.message}", flaw.next_step, place)
            )
        if self.problems:
            raise HeadraceError(*capped(self.problems))
        return Facts(holdings, private=self.private, notes=tuple(self.notes))

    def _jointly(self, interests: Sequence[Interest]) -> Iterator[Interest]:
        """The interests; those of a company that are more than all of it together are held jointly, and what each has
        alone is unknown.
        """
        groups: dict[tuple[PartyId, InterestKind], list[Interest]] = defaultdict(list)
        for one in interests:
            groups[one.subject, one.kind].append(one)
        for (company, kind), held in groups.items():
            days = sorted({one.since for one in held})
            at_once = max(sum(one.share.least_ppm for one in held if one.holds_on(day)) for day in days)
            if at_once <= WHOLE_PPM:
                yield from held
                continue
            self.notes.append(
                f"{company}: its {kind} add up to more than all; taken as held jointly, by whom how much is unknown"
            )
            yield from (replace(one, share=Share(0, one.share.most_ppm)) for one in held)


def _nature(text: str) -> tuple[InterestKind, Share] | None:
    for beginning, kind in _NATURES:
        if not text.startswith(beginning):
            continue
        if kind is InterestKind.BOARD:
            return kind, _MAJORITY
        if kind is InterestKind.INFLUENCE:
            return kind, UNKNOWN
        for band, share in _BANDS.items():
            if band in text:
                return kind, share
    return None


def _company_id(number: object) -> PartyId:
    text = number.strip().upper() if isinstance(number, str) else ""
    if not _COMPANY.fullmatch(text):
        raise Bad(f"{show(number)} is no company number.", "It has 8 digits, or 2 letters and 6 digits.")
    return PartyId(f"gb-coh:{text.zfill(8)}")


def _mapping(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = record.get(name)
    return found if isinstance(found, dict) else {}


def _day(value: object) -> str:
    return iso_day(value) if value else ""
