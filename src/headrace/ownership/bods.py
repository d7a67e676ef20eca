"""BODS 0.4, the Beneficial Ownership Data Standard: statements validated against its schema, then read as holdings.

A record is what its statements say one after the other. An interest of a later statement replaces the one of its type
before, from the day that it says it starts. Where it doesn't say, and where one is no longer there without a day on
which it ended, all that is known is that it happened between two statements: a share is then unknown in between,
within what both say.

An indirect interest is the sum of a chain that other statements have link by link, so that counting it would count
twice: it is read as an attestation of influence, decisive where it is of more than half.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any

import jsonschema_rs

from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.ids import Digest
from headrace.core.sovereignty.holdings import (
    NOTHING,
    UNKNOWN,
    WHOLE_PPM,
    Answer,
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
from headrace.documents.source import pointer_text, show
from headrace.documents.values import Bad
from headrace.ownership.facts import Facts, country_code, country_named, from_founding
from headrace.ownership.files import parsed_json, read_large
from headrace.ownership.words import span

VERSION = "0.4"
SCHEMA = Path(__file__).parent / "bods_schema"
_FILES = ("statement", "components", "entity-record", "person-record", "relationship-record")

_KINDS = {
    "shareholding": InterestKind.SHARES,
    "beneficiaryOfLegalArrangement": InterestKind.SHARES,
    "votingRights": InterestKind.VOTES,
    "appointmentOfBoard": InterestKind.BOARD,
    "seniorManagingOfficial": InterestKind.STAFF,
    "boardMember": InterestKind.STAFF,
    "boardChair": InterestKind.STAFF,
}
"""All other types are influence."""
_CONTROL = frozenset(
    {
        "otherInfluenceOrControl",
        "controlViaCompanyRulesOrArticles",
        "controlByLegalFramework",
        "trustee",
        "nominator",
        "protector",
    }
)
_NOT_SAID = frozenset({"", "unknownInterest", "unpublishedInterest"})
_PARTIES = {
    "registeredEntity": PartyKind.COMPANY,
    "legalEntity": PartyKind.COMPANY,
    "stateBody": PartyKind.COMPANY,
    "arrangement": PartyKind.ARRANGEMENT,
    "state": PartyKind.STATE,
    "anonymousEntity": PartyKind.UNNAMED,
    "unknownEntity": PartyKind.UNNAMED,
    "knownPerson": PartyKind.PERSON,
}
_EXEMPT = frozenset({"subjectExemptFromDisclosure", "interestedPartyExemptFromDisclosure"})


def load_bods(path: Path, schema: Path = SCHEMA) -> Facts:
    """The facts of a file of statements; HeadraceError with every problem, each with its JSON pointer. ``schema``: a
    folder.
    """
    return parse_bods(read_large(path), str(path), schema)


def parse_bods(raw: bytes, name: str, schema: Path = SCHEMA) -> Facts:
    """The facts of a text, which errors call ``name``."""
    problems = list(_invalid(parsed_json(raw, name), name, schema))
    if problems:
        raise HeadraceError(*capped(problems))
    return _Reader(parsed_json(raw, name, exact=True), name, Digest(sha256(raw).hexdigest())).facts()


def _invalid(data: Any, name: str, schema: Path) -> Iterator[Problem]:
    for error in _validator(schema).iter_errors(data):
        step = "Correct it as BODS 0.4 says."
        yield _problem(f"{error.message}.", step, name, tuple(error.instance_path))
    for number, statement in enumerate(data if isinstance(data, list) else ()):
        details = statement.get("publicationDetails") if isinstance(statement, dict) else None
        version = details.get("bodsVersion") if isinstance(details, dict) else None
        if version not in (None, VERSION):
            place = (number, "publicationDetails", "bodsVersion")
            yield _problem(
                f"BODS {show(version)}, and not {VERSION}.", f"Convert it to BODS {VERSION}.", name, place
            )


def _validator(folder: Path) -> jsonschema_rs.Draft202012Validator:
    try:
        found = [json.loads((folder / f"{one}.json").read_text(encoding="utf-8")) for one in _FILES]
    except (OSError, ValueError) as error:
        step = f"Name the folder that has {', '.join(f'{one}.json' for one in _FILES)}."
        raise HeadraceError(
            Problem(ProblemCode.BAD_INPUT, f"no schema of BODS {VERSION} there: {error}.", step, str(folder))
        ) from error
    registry = jsonschema_rs.Registry([(one["$id"], one) for one in found])
    return jsonschema_rs.Draft202012Validator(found[0], registry=registry, validate_formats=True)


def _problem(message: str, step: str, name: str, place: tuple[str | int, ...]) -> Problem:
    return Problem(ProblemCode.BAD_INPUT, message, step, f"{name}#{pointer_text(place)}")


@dataclass(slots=True)
class _Read:
    """An interest of one statement, before those of later statements are set against it."""

    number: int
    index: int
    stated: str
    made: Interest


@dataclass(slots=True)
class _Reader:
    """Statements that fit the schema, on their way to facts."""

    statements: Sequence[Mapping[str, Any]]
    name: str
    digest: Digest
    parties: dict[PartyId, Party] = field(default_factory=dict)
    private: dict[PartyId, str] = field(default_factory=dict)
    coverage: list[Coverage] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    places: dict[str, tuple[str | int, ...]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def facts(self) -> Facts:
        order = sorted(
            range(len(self.statements)), key=lambda at: (str(self.statements[at]["statementDate"]), at)
        )
        records: dict[str, list[int]] = defaultdict(list)
        for at in order:
            records[self.statements[at]["recordId"]].append(at)
        self._twice()
        for numbers in records.values():
            # The last one counts, but what is wrong in the others is wrong too.
            for number in numbers:
                if self.statements[number]["recordType"] != "relationship":
                    self._party(number)
        interests: list[Interest] = []
        for record, numbers in records.items():
            if self.statements[numbers[-1]]["recordType"] == "relationship":
                interests.extend(self._relationship(record, numbers))
        source = Source(
            self._source, f"BODS statements of {self.name.rsplit('/', 1)[-1]}", digest=self.digest
        )
        holdings = Holdings(self.parties, tuple(interests), tuple(self.coverage), {self._source: source})
        places = {name: f"#{pointer_text(place)}" for name, place in self.places.items()}
        holdings = from_founding(holdings, places, self.notes)
        for flaw in flaws(holdings):
            place = self.places.get(flaw.what, ())
            self.problems.append(_problem(f"{flaw.what}: {flaw.message}", flaw.next_step, self.name, place))
        if self.problems:
            raise HeadraceError(*capped(self.problems))
        return Facts(holdings, private=self.private, notes=tuple(self.notes))

    @property
    def _source(self) -> SourceId:
        return SourceId(f"bods:{self.digest[:16]}")

    def _day(self, number: int) -> str:
        return str(self.statements[number]["statementDate"])[:10]

    def _twice(self) -> None:
        first: dict[str, int] = {}
        for number, statement in enumerate(self.statements):
            ident = statement["statementId"]
            if ident in first:
                message = f"statement {ident} stands twice; first at /{first[ident]}."
                self.problems.append(
                    _problem(message, "Keep one of them.", self.name, (number, "statementId"))
                )
            first.setdefault(ident, number)

    def _party(self, number: int) -> None:
        statement, details = self.statements[number], self.statements[number]["recordDetails"]
        ident = PartyId(f"bods:{statement['recordId']}")
        place = (number, "recordDetails")
        self.places.setdefault(ident, place)
        if statement["recordType"] == "entity":
            kind = _PARTIES[details["entityType"]["type"]]
            self.parties[ident] = self._entity(ident, kind, details, place)
            return
        kind = _PARTIES.get(details["personType"], PartyKind.UNNAMED)
        names = [one["fullName"] for one in details.get("names", [])]
        if names:
            self.private[ident] = names[0]
        self.parties[ident] = Party(
            ident,
            kind,
            nationalities=self._countries(details.get("nationalities", []), (*place, "nationalities")),
            residences=self._residences(details.get("addresses", []), place),
            since=_earliest(details.get("birthDate", "")),
            until=_earliest(details.get("deathDate", "")),
            why_unnamed=details.get("unspecifiedPersonDetails", {}).get("reason", ""),
            source=self._source,
        )

    def _entity(
        self, ident: PartyId, kind: PartyKind, details: Mapping[str, Any], place: tuple[str | int, ...]
    ) -> Party:
        seat = self._country(details.get("jurisdiction", {}), (*place, "jurisdiction"))
        headquarters = ""
        for index, address in enumerate(details.get("addresses", [])):
            where = self._country(address.get("country", {}), (*place, "addresses", index, "country"))
            if address.get("type") == "business":
                headquarters = headquarters or where
            elif address.get("type") == "registered":
                seat = seat or where
        return Party(
            ident,
            kind,
            details.get("name", ""),
            seat,
            headquarters,
            since=details.get("foundingDate", ""),
            until=details.get("dissolutionDate", ""),
            why_unnamed=details.get("unspecifiedEntityDetails", {}).get("reason", ""),
            source=self._source,
        )

    def _country(self, value: Mapping[str, Any], place: tuple[str | int, ...]) -> str:
        if "code" not in value:
            return country_named(value.get("name", ""))
        try:
            return country_code(value["code"])
        except Bad as bad:
            self.problems.append(_problem(bad.message, bad.next_step, self.name, (*place, "code")))
            return ""

    def _countries(self, found: Sequence[Mapping[str, Any]], place: tuple[str | int, ...]) -> tuple[str, ...]:
        codes = [self._country(one, (*place, index)) for index, one in enumerate(found)]
        return tuple(dict.fromkeys(code for code in codes if code))

    def _residences(
        self, addresses: Sequence[Mapping[str, Any]], place: tuple[str | int, ...]
    ) -> tuple[str, ...]:
        codes = [
            self._country(one.get("country", {}), (*place, "addresses", index, "country"))
            for index, one in enumerate(addresses)
            if one.get("type") == "residence"
        ]
        return tuple(dict.fromkeys(code for code in codes if code))

    def _relationship(self, record: str, numbers: Sequence[int]) -> Iterator[Interest]:
        """The interests of a record over time."""
        lines: dict[tuple[str, int], list[_Read]] = defaultdict(list)
        ends: dict[tuple[str, int], str] = {}
        for number in numbers:
            there: dict[tuple[str, int], _Read] = {}
            for kind, index, made in self._interests(record, number):
                turn = sum(1 for known, _ in there if known == kind)
                there[kind, turn] = _Read(number, index, self._day(number), made)
            closed = self.statements[number].get("recordStatus") == "closed"
            for key, read in there.items():
                if closed and not read.made.until and lines[key]:
                    ends[key] = self._day(number)
                    continue
                lines[key].append(read)
                ends.pop(key, None)
            for key in lines:
                if key not in there:
                    ends.setdefault(key, self._day(number))
        for key, reads in lines.items():
            yield from self._versions(key, reads, ends.get(key, ""))

    def _versions(self, key: tuple[str, int], reads: Sequence[_Read], end: str) -> Iterator[Interest]:
        """What successive statements say of one interest, each until the next one holds."""
        kept: list[Interest] = []
        said = ""
        for read in reads:
            made = read.made
            if kept and _alike(kept[-1], made):
                kept[-1] = replace(kept[-1], until=made.until or kept[-1].until)
            elif kept and made.until and made.until <= read.stated:
                # It speaks of what is over by then: a correction of what was said before.
                self.places[kept[-1].id] = (read.number, "recordDetails", "interests", read.index)
                kept[-1] = replace(made, id=kept[-1].id)
            else:
                if kept and made.since > kept[-1].since:
                    kept[-1] = replace(kept[-1], until=made.since)
                elif kept:
                    kept += self._between(kept, said, read.stated, made.share)
                    made = replace(made, since=read.stated)
                self.places[made.id] = (read.number, "recordDetails", "interests", read.index)
                kept.append(made)
            said = read.stated
        if kept and end and not kept[-1].until:
            kept += self._between(kept, said, end, NOTHING)
        # One that ended on the day it began was never there.
        yield from (one for one in kept if not (one.since and one.since == one.until))

    def _between(self, kept: list[Interest], said: str, day: str, share: Share) -> list[Interest]:
        """End the last of ``kept`` when it was last said to be there, and what is there until a day on which it is
        something else.
        """
        last = kept[-1]
        said = max(said, last.since)
        kept[-1] = replace(last, until=said)
        if last.kind not in (InterestKind.SHARES, InterestKind.VOTES, InterestKind.BOARD):
            kept[-1] = replace(last, until=day)
            return []
        bounds = Share(min(last.share.least_ppm, share.least_ppm), max(last.share.most_ppm, share.most_ppm))
        made = replace(last, id=InterestId(f"{last.id}~"), share=bounds, since=said, until=day)
        self.places[made.id] = self.places[last.id]
        return [made]

    def _interests(self, record: str, number: int) -> Iterator[tuple[str, int, Interest]]:
        """The interests that one statement has, by type and place."""
        details = self.statements[number]["recordDetails"]
        place = (number, "recordDetails")
        subject, holder = details["subject"], details["interestedParty"]
        if not isinstance(subject, str):
            self.notes.append(
                f"#{pointer_text((*place, 'subject'))}: a subject that is not specified; not used"
            )
            return
        subject_id = self._known(PartyId(f"bods:{subject}"), (*place, "subject"), PartyKind.COMPANY)
        if isinstance(holder, str):
            holder_id = self._known(PartyId(f"bods:{holder}"), (*place, "interestedParty"), PartyKind.UNNAMED)
        else:
            self._unspecified(subject_id, holder, number)
            if holder["reason"] == "noBeneficialOwners":
                return
            holder_id = self._known(
                PartyId(f"bods:{record}:unnamed"), (*place, "interestedParty"), PartyKind.UNNAMED
            )
        listed = details.get("interests") or [{"type": "unknownInterest"}]
        for index, one in enumerate(listed):
            kind = one.get("type", "")
            for made in self._made(
                one, f"bods:{record}/{number}.{index}", holder_id, subject_id, (*place, "interests", index)
            ):
                yield f"{kind}:{made.kind}", index, made

    def _known(self, ident: PartyId, place: tuple[str | int, ...], kind: PartyKind) -> PartyId:
        if ident not in self.parties:
            why = "no statement here says who it is"
            self.notes.append(f"#{pointer_text(place)}: {why}")
            self.parties[ident] = Party(
                ident, kind, why_unnamed=why if kind is PartyKind.UNNAMED else "", source=self._source
            )
        return ident

    def _unspecified(self, subject: PartyId, holder: Mapping[str, Any], number: int) -> None:
        if holder["reason"] in _EXEMPT:
            why = holder.get("description") or holder["reason"]
            self.coverage.append(
                Coverage(subject, WHOLE_PPM, since=self._day(number), source=self._source, exempt=why)
            )

    def _made(
        self,
        one: Mapping[str, Any],
        name: str,
        holder: PartyId,
        subject: PartyId,
        place: tuple[str | int, ...],
    ) -> Iterator[Interest]:
        stated = str(one.get("type", ""))
        share = self._share(one.get("share"), (*place, "share"))
        base = Interest(
            InterestId(name), InterestKind.INFLUENCE, holder, subject,
            since=one.get("startDate", ""), until=one.get("endDate", ""), source=self._source,
            terms=" ".join(filter(None, (one.get("directOrIndirect", ""), stated, one.get("details", "")))),
        )  # fmt: skip
        kind = _KINDS.get(stated, InterestKind.INFLUENCE)
        if stated in _NOT_SAID:
            # What isn't said may be shares, and may be control.
            yield replace(base, id=InterestId(f"{name}/shares"), kind=InterestKind.SHARES, share=share)
            yield base
        elif one.get("directOrIndirect") == "indirect":
            yield replace(base, decisive=_decisive(stated, share, one))
        elif kind is InterestKind.INFLUENCE:
            yield replace(base, decisive=_decisive(stated, UNKNOWN, one))
        elif kind is InterestKind.STAFF:
            yield replace(base, kind=kind, terms=stated)
        else:
            yield replace(base, kind=kind, share=share)

    def _share(self, value: Mapping[str, Any] | None, place: tuple[str | int, ...]) -> Share:
        if not value:
            return UNKNOWN
        try:
            if "exact" in value:
                return span(_fraction(value["exact"]), _fraction(value["exact"]))
            low, above = _bound(value, "minimum", "exclusiveMinimum", Fraction(0))
            high, below = _bound(value, "maximum", "exclusiveMaximum", Fraction(100))
            return span(low, high, above=above, below=below)
        except Bad as bad:
            self.problems.append(_problem(bad.message, bad.next_step, self.name, place))
            return UNKNOWN


def _decisive(stated: str, share: Share, one: Mapping[str, Any]) -> Answer:
    """Whether what is attested is decisive: control by its type and said to be control, or more than half of something."""
    if stated in _CONTROL and (
        one.get("beneficialOwnershipOrControl") or stated == "controlByLegalFramework"
    ):
        return Answer.YES
    return Answer.YES if share.least_ppm > WHOLE_PPM // 2 else Answer.UNKNOWN


def _fraction(value: object) -> Fraction:
    return Fraction(value if isinstance(value, int | Decimal) else str(value))


def _bound(
    value: Mapping[str, Any], included: str, excluded: str, default: Fraction
) -> tuple[Fraction, bool]:
    if included in value:
        return _fraction(value[included]), False
    return (_fraction(value[excluded]), True) if excluded in value else (default, False)


def _alike(one: Interest, other: Interest) -> bool:
    """Whether a later statement says the same again."""
    return (one.kind, one.share, one.since, one.decisive, one.terms) == (
        other.kind, other.share, other.since, other.decisive, other.terms,
    )  # fmt: skip


def _earliest(text: str) -> str:
    """The first day of a year, month or day."""
    return text if len(text) in (0, 10) else f"{text}-01-01"[:10] if len(text) == 4 else f"{text}-01"
