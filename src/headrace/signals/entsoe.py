"""ENTSO-E's transparency platform: its documents, and its web API.

Documents: day-ahead prices (``Publication_MarketDocument``, A44) and generation by type (``GL_MarketDocument``, A75), from
which a carbon intensity is *modelled*: what each type of production emits over its life, by :data:`EMITS_G_PER_KWH`, over
all that is produced in the zone; imports are not in it. Types may come at lengths of their own; where one of
them is not known, neither is the intensity. Points that are left out of a curve of type A03 repeat the one before. What the
platform refuses comes as an ``Acknowledgement_MarketDocument``: a named error.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import httpx

from headrace.core.errors import HeadraceError, Problem, ProblemCode, unknown
from headrace.core.units import MICROS, MS_PER_DAY, div_half_even, format_duration
from headrace.signals.series import LENGTHS_MS, YEARS, Gaps, Oddity, Point, Series, bad, moment, pack, refuse

API = "https://web-api.tp.entsoe.eu/api"
MOST_BYTES = 1 << 26
MOST_DEPTH = 32
MOST_SPAN_MS = 365 * MS_PER_DAY
"""The longest period that the platform answers in one document."""
TIMEOUT_S = 60.0
ZONES: Mapping[str, str] = {
    "NO1": "10YNO-1--------2", "NO2": "10YNO-2--------T", "NO3": "10YNO-3--------J", "NO4": "10YNO-4--------9",
    "NO5": "10Y1001A1001A48H", "SE1": "10Y1001A1001A44P", "SE2": "10Y1001A1001A45N", "SE3": "10Y1001A1001A46L",
    "SE4": "10Y1001A1001A47J", "FI": "10YFI-1--------U", "DK1": "10YDK-1--------W", "DK2": "10YDK-2--------M",
    "DE-LU": "10Y1001A1001A82H", "FR": "10YFR-RTE------C", "NL": "10YNL----------L", "BE": "10YBE----------2",
    "PT": "10YPT-REN------W", "ES": "10YES-REE------0", "IE": "10Y1001A1001A59C", "AT": "10YAT-APG------L",
    "CH": "10YCH-SWISSGRIDZ", "PL": "10YPL-AREA-----S",
}  # fmt: skip
"""Bidding zones and their energy identification codes; any other can be given by its code."""
EMITS_G_PER_KWH: Mapping[str, int] = {
    "B01": 230, "B02": 1_050, "B03": 490, "B04": 490, "B05": 820, "B06": 650, "B07": 1_050, "B08": 1_050, "B09": 38,
    "B10": 24, "B11": 24, "B12": 24, "B13": 17, "B14": 12, "B15": 38, "B16": 45, "B17": 700, "B18": 12, "B19": 11,
    "B20": 700, "B25": 24,
}  # fmt: skip
"""Grams of CO2e per kWh over the life of a plant, by the platform's types of production.

IPCC AR5, working group III, annex III, medians: B01 biomass, B04 gas, B05 coal, B09 geothermal, B10 to B12 hydro, B13
marine, B14 nuclear, B16 solar (between roofs 41 and fields 48), B18 and B19 wind. Assumed: lignite, oil shale and peat
1,050; gas from coal as gas; oil 650; waste and "other" 700; other renewable as geothermal; storage as hydro.
"""
NAMES = {
    length_ms: name
    for name, length_ms in (("PT15M", LENGTHS_MS[0]), ("PT30M", LENGTHS_MS[1]), ("PT60M", LENGTHS_MS[2]))
}
"""What the platform calls lengths of intervals."""
RESOLUTIONS = {"PT15M": LENGTHS_MS[0], "PT30M": LENGTHS_MS[1], "PT60M": LENGTHS_MS[2], "PT1H": LENGTHS_MS[2]}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOTHING_FOUND = "999"


@dataclass(frozen=True, slots=True)
class Prices:
    """Day-ahead prices and their unit, as in ``eur_per_mwh``."""

    series: Series
    unit: str


def parse_prices(
    raw: bytes, name: str, resolution: str = "", gaps: Gaps = "hold", auction: str = "1"
) -> Prices:
    """The prices of a Publication_MarketDocument.

    ``resolution`` (``PT60M``) chooses where a zone publishes several; ``auction`` where it holds several a day, by the
    position in which they are classified. HeadraceError for what is no such document, has several resolutions of one time and
    none is chosen, or has nothing in the one that is.
    """
    root = _document(raw, name, "Publication_MarketDocument")
    points: list[Point] = []
    units: set[str] = set()
    for series in _named(root, "TimeSeries"):
        position = _text(series, "classificationSequence_AttributeInstanceComponent.position")
        if position and position != auction:
            continue
        units.add(
            f"{_need(series, 'currency_Unit.name', name)}_per_{_need(series, 'price_Measure_Unit.name', name)}".lower()
        )
        points.extend(_points(series, "price.amount", name, resolution))
    if len(units) > 1:
        raise bad(
            name, f"prices in several units: {', '.join(sorted(units))}.", "Ask for one zone at a time."
        )
    if resolution and units and not points:
        raise bad(name, f"it has no prices of {resolution}.", "Leave out --resolution, or give another.")
    _one_resolution(points, name, "Say which counts: --resolution {}.")
    return Prices(pack(name, points, gaps), units.pop() if units else "")


def _one_resolution(points: Iterable[Point], name: str, step: str) -> None:
    """Raise HeadraceError where values of one length lie within one of another; ``step`` has a place for their names."""
    for one, other in pairwise(sorted(points, key=lambda point: (point.start_ms, -point.length_ms))):
        if other.start_ms < one.start_ms + one.length_ms and other.length_ms != one.length_ms:
            lengths = (one.length_ms, other.length_ms)
            both = " and ".join(f"{format_duration(length_ms)} ({NAMES[length_ms]})" for length_ms in lengths)
            message = f"values of {both} for one time, from {moment(other.start_ms)} on."
            raise bad(name, message, step.format(" or ".join(NAMES[length_ms] for length_ms in lengths)))


def parse_carbon(raw: bytes, name: str, gaps: Gaps = "hold") -> Series:
    """The carbon intensity, in millionths of a gram per kWh, that the generation in a GL_MarketDocument comes to (modelled).

    Its intervals are the shortest of any type. Of a type that lacks up to three hours the value before is held; where it lacks
    more, or has not begun or has ended while others go on, there is no intensity. Each is an oddity that names the type.
    """
    made = _generation(_document(raw, name, "GL_MarketDocument"), name)
    if not made:
        raise bad(name, "there is no value in it.", "Give a file with values.")
    shortest = min(point.length_ms for points in made.values() for point in points)
    kinds = {kind: pack(f"{name}: {kind}", points, length_ms=shortest) for kind, points in made.items()}
    from_ms = min(series.starts_ms[0] for series in kinds.values())
    until_ms = max(series.starts_ms[-1] for series in kinds.values()) + shortest
    oddities = [
        odd for series in kinds.values() for odd in (*series.oddities, *_ends(series, from_ms, until_ms))
    ]
    known = {(odd.from_ms, odd.until_ms) for odd in oddities}
    whole = pack(name, _intensities(kinds, name, shortest), length_ms=shortest)
    # Where a type lacks, the sum does too: that is told once.
    oddities += [odd for odd in whole.oddities if (odd.from_ms, odd.until_ms) not in known]
    if gaps == "refuse":
        refuse(oddities)
    return replace(whole, oddities=tuple(oddities))


def _generation(root: Element, name: str) -> dict[str, list[Point]]:
    """What each type of production generates."""
    made: dict[str, list[Point]] = {}
    for series in _named(root, "TimeSeries"):
        if _text(series, "outBiddingZone_Domain.mRID"):
            # What pumps and other storage take from the grid.
            continue
        kind = _need(series, "MktPSRType/psrType", name)
        if kind not in EMITS_G_PER_KWH:
            raise HeadraceError(unknown("type of production", kind, EMITS_G_PER_KWH))
        made.setdefault(kind, []).extend(_points(series, "quantity", f"{name}: {kind}", ""))
    for kind, points in made.items():
        _one_resolution(points, f"{name}: {kind}", "Take one of {} out of the document.")
    return {kind: points for kind, points in made.items() if points}


def _ends(series: Series, from_ms: int, until_ms: int) -> Iterator[Oddity]:
    """What a type lacks before its first value and after its last one, while others have some."""
    done = "without it the intensity is not known, and left out"
    first_ms, last_ms = series.starts_ms[0], series.starts_ms[-1] + series.length_ms
    if from_ms < first_ms:
        yield Oddity("missing", series.name, from_ms, first_ms, done)
    if last_ms < until_ms:
        yield Oddity("missing", series.name, last_ms, until_ms, done)


def _intensities(kinds: Mapping[str, Series], name: str, length_ms: int) -> list[Point]:
    """The intensity wherever every type is known, and something is produced."""
    made: dict[int, tuple[int, int, int]] = {}
    for kind, series in kinds.items():
        for at, micros in zip(series.starts_ms, series.micros, strict=True):
            count, total, emitted = made.get(at, (0, 0, 0))
            made[at] = count + 1, total + micros, emitted + micros * EMITS_G_PER_KWH[kind]
    found = [
        Point(at, div_half_even(emitted * MICROS, total), name, length_ms)
        for at, (count, total, emitted) in sorted(made.items())
        if count == len(kinds) and total > 0
    ]
    if not found:
        listed = ", ".join(kinds)
        message = (
            f"there is no time of which all types of production in it ({listed}) are known, and produce."
        )
        raise bad(name, message, "Take out the type that lacks, or give a longer document.")
    return found


class Platform:
    """The web API, with a token of one's own. ``client`` is closed by whoever made it."""

    def __init__(self, token: str, client: httpx.Client, address: str = API) -> None:
        self._token = token
        self._client = client
        self._address = address

    def prices(self, zone: str, from_ms: int, until_ms: int) -> list[bytes]:
        """Documents of day-ahead prices of a zone, a year each, in order; HeadraceError says what was refused."""
        area = {"in_Domain": eic(zone), "out_Domain": eic(zone), "contract_MarketAgreement.type": "A01"}
        return [self._asked({"documentType": "A44"} | area, *span) for span in _spans(from_ms, until_ms)]

    def generation(self, zone: str, from_ms: int, until_ms: int) -> list[bytes]:
        """Documents of a zone's generation by type, a year each, in order."""
        what = {"documentType": "A75", "processType": "A16", "in_Domain": eic(zone)}
        return [self._asked(what, *span) for span in _spans(from_ms, until_ms)]

    def _asked(self, what: Mapping[str, str], from_ms: int, until_ms: int) -> bytes:
        period = {"periodStart": _stamp(from_ms), "periodEnd": _stamp(until_ms)}
        try:
            answer = self._client.get(
                self._address, params={**what, **period, "securityToken": self._token}, timeout=TIMEOUT_S
            )
        except httpx.HTTPError as error:
            # Its own text may have the address in it, and with that the token.
            problem = Problem(
                ProblemCode.ENGINE_UNAVAILABLE,
                f"ENTSO-E does not answer: {type(error).__name__}.",
                "Try again later, or give a file.",
            )
            raise HeadraceError(problem) from None
        return self._checked(answer)

    def _checked(self, answer: httpx.Response) -> bytes:
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            problem = Problem(
                ProblemCode.UNAUTHENTICATED,
                "ENTSO-E refuses the token.",
                "Ask for one in your account there.",
            )
            raise HeadraceError(problem)
        if len(answer.content) <= MOST_BYTES and b"Acknowledgement_MarketDocument" in answer.content[:1_000]:
            _document(answer.content, "ENTSO-E", "")
        if not answer.is_success:
            step = (
                "Ask less often."
                if answer.status_code == httpx.codes.TOO_MANY_REQUESTS
                else "Try again later."
            )
            message = f"ENTSO-E answers with status {answer.status_code}."
            raise HeadraceError(Problem(ProblemCode.ENGINE_UNAVAILABLE, message, step))
        return answer.content


def eic(zone: str) -> str:
    """The code of a zone, by its name or as itself; HeadraceError lists the names."""
    if zone in ZONES:
        return ZONES[zone]
    if len(zone) == len(ZONES["NO1"]) and zone[:2].isdecimal():
        return zone
    raise HeadraceError(unknown("bidding zone", zone[:60], ZONES))


def _spans(from_ms: int, until_ms: int) -> Iterator[tuple[int, int]]:
    for at_ms in range(from_ms, until_ms, MOST_SPAN_MS):
        yield at_ms, min(until_ms, at_ms + MOST_SPAN_MS)


def _stamp(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1_000, UTC).strftime("%Y%m%d%H%M")


def _points(series: Element, amount: str, name: str, resolution: str) -> Iterator[Point]:
    """The points of a time series, those that a curve of type A03 leaves out included."""
    repeats = _text(series, "curveType") == "A03"
    for period in _named(series, "Period"):
        said = _need(period, "resolution", name)
        if resolution and RESOLUTIONS.get(said) != RESOLUTIONS.get(resolution):
            continue
        if said not in RESOLUTIONS:
            raise HeadraceError(unknown("resolution", said[:60], RESOLUTIONS))
        yield from _period(period, amount, name, RESOLUTIONS[said], repeats=repeats)


def _period(period: Element, amount: str, name: str, length_ms: int, *, repeats: bool) -> Iterator[Point]:
    from_ms = _moment(_need(period, "timeInterval/start", name), name)
    until_ms = _moment(_need(period, "timeInterval/end", name), name)
    places = (until_ms - from_ms) // length_ms
    if (until_ms - from_ms) % length_ms or not 0 < places <= MOST_SPAN_MS // LENGTHS_MS[0] + 1:
        raise bad(name, "a period that is no whole number of its intervals.", "Ask for the document again.")
    known = dict(_amount(point, amount, name, places) for point in _named(period, "Point"))
    last: int | None = None
    for place in range(1, places + 1):
        micros = known.get(place, last if repeats else None)
        last = micros
        if micros is not None:
            start_ms = from_ms + (place - 1) * length_ms
            yield Point(start_ms, micros, name, length_ms)


def _amount(point: Element, amount: str, name: str, places: int) -> tuple[int, int]:
    position, text = _need(point, "position", name), _need(point, amount, name)
    if not position.isdecimal() or len(position) > 9 or not 1 <= int(position) <= places:
        raise bad(
            name, f"position {position[:20]!r} is not from 1 to {places}.", "Ask for the document again."
        )
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise bad(name, f"{amount} is {text[:40]!r}, not a number.", "Ask for the document again.") from None
    if not value.is_finite() or abs(value) > 10**9:
        raise bad(name, f"{amount} is {text[:40]!r}, which can't be.", "Ask for the document again.")
    return int(position), int((value * MICROS).to_integral_value())


def _moment(text: str, name: str) -> int:
    try:
        at = datetime.fromisoformat(text)
        found = (at - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, TypeError):
        raise bad(name, f"{text[:40]!r} is no time in UTC.", "Ask for the document again.") from None
    if not YEARS[0] <= at.year <= YEARS[1]:
        message = f"{text[:40]!r} can't be meant: it is not from {YEARS[0]} to {YEARS[1]}."
        raise bad(name, message, "Ask for the document again.")
    return found


# -- XML ----------------------------------------------------------------------------------------------------------------


def _document(raw: bytes, name: str, wanted: str) -> Element:
    root = _tree(raw, name)
    kind = _local(root)
    if kind == "Acknowledgement_MarketDocument":
        raise HeadraceError(_refusal(root, name))
    if kind != wanted:
        raise bad(name, f"it is a {kind[:60]}, not a {wanted}.", "Give the document of what is asked for.")
    return root


def _refusal(root: Element, name: str) -> Problem:
    reasons = list(_named(root, "Reason"))
    texts = [" ".join(_text(reason, "text").split())[:300] or "no reason" for reason in reasons] or [
        "no reason"
    ]
    nothing = any(_text(reason, "code") == _NOTHING_FOUND for reason in reasons) and any(
        "no matching data" in text.lower() for text in texts
    )
    code = ProblemCode.NOT_FOUND if nothing else ProblemCode.BAD_INPUT
    return Problem(
        code,
        f"ENTSO-E refuses: {'; '.join(texts)}.".replace("..", "."),
        "Ask for another zone or time.",
        name,
    )


def _tree(raw: bytes, name: str) -> Element:
    """The tree of a text, without a document type: entities can neither be declared nor expanded."""
    if len(raw) > MOST_BYTES:
        raise bad(name, f"more than {MOST_BYTES >> 20} MiB.", "Ask for a shorter time.")
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MOST_DEPTH:
            raise bad(name, "nested too deeply.", "Give a document of ENTSO-E.")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse(*_: object) -> None:
        raise bad(
            name, "it declares a document type, which can hide entities.", "Give a document of ENTSO-E."
        )

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(raw, True)
    except expat.ExpatError as error:
        message = f"it is no XML: {expat.ErrorString(error.code)}."
        raise bad(
            f"{name}:{error.lineno}:{error.offset + 1}", message, "Give a document of ENTSO-E."
        ) from None
    return builder.close()


def _local(element: Element) -> str:
    return element.tag.rpartition(":")[2]


def _named(element: Element, name: str) -> Iterator[Element]:
    return (child for child in element if _local(child) == name)


def _text(element: Element, path: str) -> str:
    for step in path.split("/"):
        found = next(_named(element, step), None)
        if found is None:
            return ""
        element = found
    return (element.text or "").strip()


def _need(element: Element, path: str, name: str) -> str:
    found = _text(element, path)
    if not found:
        raise bad(name, f"a {_local(element)} without {path}.", "Ask for the document again.")
    return found
