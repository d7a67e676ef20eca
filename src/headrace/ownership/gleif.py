"""GLEIF's Global LEI Index: level 1 (who is who), level 2 (who is consolidated by whom), and the exceptions to level
2.

Level 2 says who consolidates whom in their accounts, as the reporting entity states and the issuer validates: an
attestation of decisive influence, and no share. That somebody reports an exception is no statement that there is
nobody: what stands over that entity is unknown.
"""

import json
import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.ids import Digest
from headrace.core.sovereignty.holdings import (
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
    Source,
    SourceId,
    flaws,
)
from headrace.documents.report import capped
from headrace.documents.source import show
from headrace.documents.values import Bad
from headrace.ownership.facts import Facts, country_code, from_founding
from headrace.ownership.files import parsed_records, read_large

_LEI = re.compile(r"[A-Z0-9]{18}[0-9]{2}")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DECISIVE = {
    "IS_DIRECTLY_CONSOLIDATED_BY": Answer.YES,
    "IS_ULTIMATELY_CONSOLIDATED_BY": Answer.YES,
    "IS_INTERNATIONAL_BRANCH_OF": Answer.YES,
    "IS_SUBFUND_OF": Answer.YES,
    "IS_FUND-MANAGED_BY": Answer.UNKNOWN,
    "IS_FEEDER_TO": Answer.UNKNOWN,
}
"""What a relationship attests of whom the second node is to the first. A branch and a subfund are parts of it."""
_ARRANGEMENTS = frozenset({"FUND"})
_STATES = frozenset({"RESIDENT_GOVERNMENT_ENTITY"})
_WITHOUT_END = frozenset({"INACTIVE", "NULL"})


def load_gleif(*paths: Path) -> Facts:
    """The facts of files of any level, together; HeadraceError with every problem, each with its place."""
    return parse_gleif({str(path): read_large(path) for path in paths})


def parse_gleif(texts: Mapping[str, bytes]) -> Facts:
    """The facts of texts by the names that errors call them."""
    reader = _Reader()
    for name, raw in texts.items():
        reader.read(raw, name)
    return reader.facts()


class _Reader:
    def __init__(self) -> None:
        self.parties: dict[PartyId, Party] = {}
        self.interests: dict[InterestId, Interest] = {}
        self.coverage: list[Coverage] = []
        self.sources: dict[SourceId, Source] = {}
        self.problems: list[Problem] = []
        self.places: dict[str, str] = {}
        self.source = SourceId("gleif")

    def read(self, raw: bytes, name: str) -> None:
        digest = Digest(sha256(raw).hexdigest())
        self.source = SourceId(f"gleif:{digest[:16]}")
        title = f"GLEIF, Global LEI Index ({name.rsplit('/', 1)[-1]})"
        self.sources[self.source] = Source(self.source, title, "https://www.gleif.org", digest=digest)
        for place, record in _records(raw, name):
            try:
                self._record(record, place)
            except Bad as bad:
                self.problems.append(Problem(ProblemCode.BAD_INPUT, bad.message, bad.next_step, place))

    def _record(self, record: Any, place: str) -> None:
        if not isinstance(record, dict):
            raise Bad(f"{show(record)} is no record.", "Give records of level 1 or 2.")
        if isinstance(record.get("Entity"), dict):
            self._entity(record, place)
        elif isinstance(record.get("Relationship"), dict):
            self._relationship(record, place)
        elif "ExceptionCategory" in record:
            self._exception(record)
        else:
            known = "Give records with LEI and Entity, with Relationship, or with ExceptionCategory."
            raise Bad("a record of neither level.", known)

    def _entity(self, record: Mapping[str, Any], place: str) -> None:
        entity, ident = record["Entity"], _party_id(record.get("LEI"))
        category = entity.get("EntityCategory", "")
        kind = PartyKind.ARRANGEMENT if category in _ARRANGEMENTS else PartyKind.COMPANY
        self.places[ident] = place
        legal = _mapping(entity, "LegalAddress").get("Country")
        seat = entity.get("LegalJurisdiction") or legal
        until = _day(entity.get("EntityExpirationDate"))
        self.parties[ident] = Party(
            ident,
            PartyKind.STATE if category in _STATES else kind,
            str(entity.get("LegalName", "")),
            country_code(seat) if seat else "",
            _country(_mapping(entity, "HeadquartersAddress").get("Country")),
            since=_day(entity.get("EntityCreationDate")),
            until=until if entity.get("EntityStatus") == "INACTIVE" else "",
            source=self.source,
        )

    def _relationship(self, record: Mapping[str, Any], place: str) -> None:
        said = record["Relationship"]
        kind = said.get("RelationshipType", "")
        if kind not in _DECISIVE:
            raise Bad(f"no type of relationship {show(kind)}.", f"Known: {', '.join(_DECISIVE)}.")
        subject = _party_id(_mapping(said, "StartNode").get("NodeID"))
        holder = _party_id(_mapping(said, "EndNode").get("NodeID"))
        registration = _mapping(record, "Registration")
        period = _period(said)
        until = _day(period.get("EndDate"))
        if not until and said.get("RelationshipStatus") in _WITHOUT_END:
            until = _day(registration.get("LastUpdateDate"))
        ident = InterestId(f"{subject}:{kind}:{holder}")
        self.places[ident] = place
        checked = str(registration.get("ValidationSources", "")).lower().replace("_", " ")
        self.interests[ident] = Interest(
            ident,
            InterestKind.INFLUENCE,
            holder,
            subject,
            since=_day(period.get("StartDate")),
            until=until,
            source=self.source,
            decisive=_DECISIVE[kind],
            terms=kind.lower().replace("_", " ") + (f" ({checked})" if checked else ""),
        )

    def _exception(self, record: Mapping[str, Any]) -> None:
        subject = _party_id(record.get("LEI"))
        reasons = record.get("ExceptionReason", "")
        reason = ", ".join(reasons) if isinstance(reasons, list) else str(reasons)
        why = f"{record['ExceptionCategory']}: {reason}".lower().replace("_", " ")
        self.coverage.append(Coverage(subject, WHOLE_PPM, source=self.source, exempt=why))

    def facts(self) -> Facts:
        notes = []
        named = [party for one in self.interests.values() for party in (one.holder, one.subject)]
        for party in dict.fromkeys((*named, *(one.subject for one in self.coverage))):
            if party not in self.parties:
                self.parties[party] = Party(party, PartyKind.COMPANY)
                notes.append(f"{party}: no record of level 1 here; its countries are unknown")
        holdings = Holdings(self.parties, tuple(self.interests.values()), tuple(self.coverage), self.sources)
        holdings = from_founding(holdings, self.places, notes)
        for flaw in flaws(holdings):
            place = self.places.get(flaw.what, "")
            self.problems.append(
                Problem(ProblemCode.BAD_INPUT, f"{flaw.what}: {flaw.message}", flaw.next_step, place)
            )
        if self.problems:
            raise HeadraceError(*capped(self.problems))
        return Facts(holdings, notes=tuple(notes))


def _records(raw: bytes, name: str) -> Iterator[tuple[str, Any]]:
    """Records of an array, of lines, or under ``records``, ``relations`` or ``exceptions`` as GLEIF's own files have
    them.
    """
    if raw.lstrip()[:1] == b"{":
        try:
            data = json.loads(raw)
        except ValueError:
            data = None
        for key in ("records", "relations", "exceptions") if isinstance(data, dict) else ():
            if isinstance(data.get(key), list):
                for number, record in enumerate(data[key]):
                    yield f"{name}#/{key}/{number}", _plain(record)
                return
    for place, record in parsed_records(raw, name):
        yield place, _plain(record)


def _plain(value: Any) -> Any:
    """A value without the ``{"$": ...}`` that GLEIF's conversion from XML puts around texts."""
    if isinstance(value, dict):
        if "$" in value:
            return _plain(value["$"])
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list) else value


def _period(said: Mapping[str, Any]) -> Mapping[str, Any]:
    periods = said.get("RelationshipPeriods")
    if isinstance(periods, dict):
        periods = periods.get("RelationshipPeriod", periods)
    found = periods if isinstance(periods, list) else [periods]
    for period in found:
        if isinstance(period, dict) and period.get("PeriodType") == "RELATIONSHIP_PERIOD":
            return period
    return {}


def _mapping(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = record.get(name)
    return found if isinstance(found, dict) else {}


def _party_id(lei: object) -> PartyId:
    if not isinstance(lei, str) or not _LEI.fullmatch(lei):
        raise Bad(f"{show(lei)} is no LEI.", "An LEI has 18 letters and digits and 2 digits.")
    if int("".join(str(int(letter, 36)) for letter in lei)) % 97 != 1:
        raise Bad(f"{lei} is no LEI: its check digits are wrong.", "Look for a slip.")
    return PartyId(f"lei:{lei}")


def _country(code: object) -> str:
    return country_code(code) if code else ""


def _day(value: object) -> str:
    match = _DAY.match(value) if isinstance(value, str) else None
    return match[0] if match else ""
