"""ENTSO-E's documents as the platform sends them, and its web API, asked over a socket."""

import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from headrace.core.errors import HeadraceError, ProblemCode
from headrace.signals.entsoe import EMITS_G_PER_KWH, ZONES, Platform, parse_carbon, parse_prices
from headrace.signals.series import moment

HOUR = 3_600_000
NAMESPACE = "urn:iec62325.351:tc57wg16:451-3:publicationdocument:7:3"


def points(amounts: dict[int, str], what: str = "price.amount") -> str:
    return "".join(
        f"<Point><position>{at}</position><{what}>{amount}</{what}></Point>" for at, amount in amounts.items()
    )


def prices(
    start: str, end: str, resolution: str, amounts: dict[int, str], curve: str = "A03", more: str = ""
) -> str:
    """A TimeSeries in the shape of the platform's answers about day-ahead prices."""
    return (
        f"<TimeSeries><mRID>1</mRID>{more}<businessType>A62</businessType>"
        '<in_Domain.mRID codingScheme="A01">10YNO-1--------2</in_Domain.mRID>'
        '<out_Domain.mRID codingScheme="A01">10YNO-1--------2</out_Domain.mRID>'
        "<currency_Unit.name>EUR</currency_Unit.name><price_Measure_Unit.name>MWH</price_Measure_Unit.name>"
        f"<curveType>{curve}</curveType><Period><timeInterval><start>{start}</start><end>{end}</end></timeInterval>"
        f"<resolution>{resolution}</resolution>{points(amounts)}</Period></TimeSeries>"
    )


def publication(*series: str) -> bytes:
    return (
        '<?xml version="1.0" encoding="utf-8"?>'
        f'<Publication_MarketDocument xmlns="{NAMESPACE}"><mRID>x</mRID><type>A44</type>{"".join(series)}'
        "</Publication_MarketDocument>"
    ).encode()


def acknowledgement(code: str, text: str) -> bytes:
    return (
        '<?xml version="1.0" encoding="UTF-8"?><Acknowledgement_MarketDocument '
        'xmlns="urn:iec62325.351:tc57wg16:451-1:acknowledgementdocument:7:0"><mRID>x</mRID>'
        f"<Reason><code>{code}</code><text>{text}</text></Reason></Acknowledgement_MarketDocument>"
    ).encode()


NOTHING = "No matching data found for Data item Day-ahead Prices [12.1.D]"


@pytest.mark.parametrize(
    ("resolution", "end", "amounts", "values"),
    [
        ("PT60M", "2024-10-27T02:00Z", {1: "80.5", 2: "-1.25"}, (80_500_000, -1_250_000)),
        ("PT60M", "2024-10-27T04:00Z", {1: "80", 3: "90"}, (80_000_000, 80_000_000, 90_000_000, 90_000_000)),
        ("PT15M", "2024-10-27T01:00Z", {1: "1", 4: "2"}, (1_000_000, 1_000_000, 1_000_000, 2_000_000)),
        ("PT30M", "2024-10-27T01:00Z", {1: "1"}, (1_000_000, 1_000_000)),
    ],
)
def test_points_that_a_curve_leaves_out_repeat_the_one_before(
    resolution: str, end: str, amounts: dict[int, str], values: tuple[int, ...]
) -> None:
    """Curve type A03, at every resolution, to the end of the period."""
    found = parse_prices(publication(prices("2024-10-27T00:00Z", end, resolution, amounts)), "x")
    assert found.unit == "eur_per_mwh"
    assert found.series.micros == values
    assert found.series.oddities == ()


def test_a_curve_of_fixed_blocks_that_lacks_a_point_has_a_gap() -> None:
    """Curve type A01 promises every point: one that is missing is named."""
    raw = publication(prices("2024-10-27T00:00Z", "2024-10-27T03:00Z", "PT60M", {1: "80", 3: "90"}, "A01"))
    series = parse_prices(raw, "x").series
    assert [(odd.kind, moment(odd.from_ms)) for odd in series.oddities] == [("missing", "2024-10-27T01:00Z")]


def test_several_series_are_one_and_a_day_of_25_hours_is_whole() -> None:
    """A series for each day of delivery, in any order; October's has 25 hours."""
    day = {number: str(number) for number in range(1, 26)}
    after = prices("2024-10-27T23:00Z", "2024-10-28T23:00Z", "PT60M", {1: "9"})
    raw = publication(after, prices("2024-10-26T22:00Z", "2024-10-27T23:00Z", "PT60M", day))
    series = parse_prices(raw, "x").series
    assert len(series.starts_ms) == 49
    assert list(series.stretches()) == [(0, 49)]
    assert series.micros[24:26] == (25_000_000, 9_000_000)


def test_of_two_resolutions_and_two_auctions_one_is_chosen() -> None:
    """A zone that publishes hours and quarters, or holds an auction of its own besides."""
    tag = "classificationSequence_AttributeInstanceComponent.position"
    place = f"<{tag}>{{}}</{tag}>"
    span = ("2024-10-27T00:00Z", "2024-10-27T01:00Z")
    raw = publication(
        prices(*span, "PT60M", {1: "60"}, more=place.format(1)),
        prices(*span, "PT15M", {1: "15"}, more=place.format(2)),
    )
    assert parse_prices(raw, "x").series.micros == (60_000_000,)
    assert parse_prices(raw, "x", auction="2").series.micros == (15_000_000,) * 4
    both = publication(
        prices(*span, "PT15M", {1: "15"}),
        prices("2024-10-27T01:00Z", "2024-10-27T02:00Z", "PT60M", {1: "60"}),
    )
    assert parse_prices(both, "x", "PT60M").series.micros == (60_000_000,)
    assert parse_prices(both, "x").series.micros == (15_000_000,) * 4 + (60_000_000,) * 4


def generation(kind: str, amounts: dict[int, str], domain: str = "in") -> str:
    return (
        f"<TimeSeries><mRID>1</mRID><{domain}BiddingZone_Domain.mRID>10YNO-1--------2</{domain}BiddingZone_Domain.mRID>"
        f"<quantity_Measure_Unit.name>MAW</quantity_Measure_Unit.name><curveType>A03</curveType><MktPSRType><psrType>{kind}</psrType>"
        "</MktPSRType><Period><timeInterval><start>2024-01-01T00:00Z</start><end>2024-01-01T02:00Z</end></timeInterval>"
        f"<resolution>PT60M</resolution>{points(amounts, 'quantity')}</Period></TimeSeries>"
    )


def test_carbon_intensity_is_what_the_generation_emits() -> None:
    """Gas and hydro in equal parts; then hydro alone. What pumps take from the grid is no generation."""
    body = (
        generation("B04", {1: "100", 2: "0"})
        + generation("B12", {1: "100"})
        + generation("B10", {1: "999"}, "out")
    )
    raw = f"<GL_MarketDocument><type>A75</type>{body}</GL_MarketDocument>".encode()
    gas, hydro = EMITS_G_PER_KWH["B04"], EMITS_G_PER_KWH["B12"]
    assert parse_carbon(raw, "x").micros == ((gas + hydro) * 500_000, hydro * 1_000_000)


def made(kind: str, resolution: str, values: list[int], start: str = "2024-01-01T00:00Z") -> str:
    """Generation of one type, every point of it, for as many intervals as there are values."""
    minutes = {"PT15M": 15, "PT30M": 30, "PT60M": 60}[resolution]
    end = datetime.fromisoformat(start) + timedelta(minutes=minutes * len(values))
    amounts = {number: str(value) for number, value in enumerate(values, 1)}
    return (
        f"<TimeSeries><inBiddingZone_Domain.mRID>x</inBiddingZone_Domain.mRID><curveType>A01</curveType>"
        f"<MktPSRType><psrType>{kind}</psrType></MktPSRType><Period><timeInterval><start>{start}</start>"
        f"<end>{end:%Y-%m-%dT%H:%MZ}</end></timeInterval><resolution>{resolution}</resolution>"
        f"{points(amounts, 'quantity')}</Period></TimeSeries>"
    )


def document(*series: str) -> bytes:
    return f"<GL_MarketDocument>{''.join(series)}</GL_MarketDocument>".encode()


@pytest.mark.parametrize(
    ("hydro", "coal"),
    [("PT60M", "PT15M"), ("PT15M", "PT60M"), ("PT30M", "PT15M"), ("PT60M", "PT60M")],
)
def test_types_of_production_may_come_at_lengths_of_their_own(hydro: str, coal: str) -> None:
    """900 MW of hydro and 100 MW of coal for ten days: 103.6 g/kWh in every interval of the shorter length."""
    count = {"PT60M": 240, "PT30M": 480, "PT15M": 960}
    series = parse_carbon(
        document(made("B12", hydro, [900] * count[hydro]), made("B05", coal, [100] * count[coal])), "x"
    )
    assert series.micros == (103_600_000,) * max(count[hydro], count[coal])
    assert series.oddities == ()


def test_without_a_type_the_intensity_is_not_known_and_it_is_told_which() -> None:
    """Coal that is not published yet, or begins later, is not nothing; up to three hours of it are held, and told too."""
    hydro = made("B12", "PT60M", [900] * 240)
    early = parse_carbon(document(hydro, made("B05", "PT60M", [100] * 24)), "x")
    assert early.micros == (103_600_000,) * 24
    assert [one.line() for one in early.oddities] == [
        "x: B05: missing 2024-01-02T00:00Z to 2024-01-11T00:00Z (9d): without it the intensity is not known, and left out"
    ]
    late = made("B05", "PT60M", [100] * 24, "2024-01-10T00:00Z")
    both = document(hydro, made("B05", "PT60M", [100] * 24), late)
    parted = parse_carbon(both, "x")
    assert [last - first for first, last in parted.stretches()] == [24, 24]
    assert set(parted.micros) == {103_600_000}
    assert [(one.where, moment(one.from_ms), moment(one.until_ms)) for one in parted.oddities] == [
        ("x: B05", "2024-01-02T00:00Z", "2024-01-10T00:00Z")
    ]
    with pytest.raises(HeadraceError, match="x: B05: missing 2024-01-02T00:00Z to 2024-01-10T00:00Z"):
        parse_carbon(both, "x", "refuse")
    near = made("B05", "PT60M", [100] * 214, "2024-01-02T02:00Z")
    held = parse_carbon(document(hydro, made("B05", "PT60M", [100] * 24), near), "x")
    assert len(held.micros) == 240
    assert [one.done for one in held.oddities] == ["the value before it is held"]


def test_a_document_in_which_types_never_meet_is_refused() -> None:
    """Named, with what to do."""
    raw = document(made("B12", "PT60M", [9] * 4), made("B05", "PT60M", [1] * 4, "2024-02-01T00:00Z"))
    with pytest.raises(
        HeadraceError, match=r"x: there is no time of which all types of production in it \(B12, B05\)"
    ):
        parse_carbon(raw, "x")


def test_two_lengths_of_one_time_are_told_and_one_can_be_chosen() -> None:
    """When, which, and by which option; of generation by which type."""
    span = ("2024-10-27T00:00Z", "2024-10-27T01:00Z")
    raw = publication(prices(*span, "PT60M", {1: "60"}), prices(*span, "PT15M", {1: "15"}))
    with pytest.raises(HeadraceError) as caught:
        parse_prices(raw, "x")
    assert caught.value.problem.line() == (
        "x: values of 1h (PT60M) and 15m (PT15M) for one time, from 2024-10-27T00:00Z on. "
        "Say which counts: --resolution PT60M or PT15M."
    )
    assert parse_prices(raw, "x", "PT60M").series.micros == (60_000_000,)
    assert parse_prices(raw, "x", "PT1H").series.micros == (60_000_000,)
    assert parse_prices(raw, "x", "PT15M").series.micros == (15_000_000,) * 4
    with pytest.raises(HeadraceError, match=r"x: it has no prices of PT30M\. Leave out --resolution"):
        parse_prices(raw, "x", "PT30M")
    twice = document(made("B05", "PT60M", [1]), made("B05", "PT15M", [1] * 4))
    with pytest.raises(HeadraceError, match=r"x: B05: values of 1h .* Take one of PT60M or PT15M out"):
        parse_carbon(twice, "x")


LAUGHS = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><x>&b;</x>'


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (acknowledgement("999", NOTHING), f"x: ENTSO-E refuses: {NOTHING}. Ask for another zone or time."),
        (LAUGHS, "x: it declares a document type, which can hide entities."),
        (
            b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><x/>',
            "x: it declares a document type, which can hide entities.",
        ),
        (b"<a><b></a>", "x:1:9: it is no XML: mismatched tag."),
        (b"<a/>", "x: it is a a, not a Publication_MarketDocument."),
        (b"<a>" * 50 + b"</a>" * 50, "x: nested too deeply."),
        (publication(), "x: there is no value in it. Give a file with values."),
        (
            publication(prices("2024-01-01T00:00Z", "2024-01-01T01:00Z", "P1D", {1: "1"})),
            "no resolution 'P1D'; known: PT15M, PT1H, PT30M, PT60M.",
        ),
        (
            publication(prices("2024-01-01T00:00Z", "2024-01-01T01:00Z", "PT60M", {2: "1"})),
            "x: position '2' is not from 1 to 1.",
        ),
        (
            publication(prices("2024-01-01T00:00Z", "2024-01-01T01:00Z", "PT60M", {1: "lots"})),
            "x: price.amount is 'lots', not a number.",
        ),
        (
            publication(prices("2024-01-01T00:00Z", "2024-01-01T00:20Z", "PT15M", {1: "1"})),
            "x: a period that is no whole number of its intervals.",
        ),
        (
            publication(prices("2024-01-01T00:00", "2024-01-01T01:00", "PT60M", {1: "1"})),
            "x: '2024-01-01T00:00' is no time in UTC.",
        ),
        (
            publication(prices("9999-12-31T22:00Z", "9999-12-31T23:00Z", "PT60M", {1: "1"})),
            "x: '9999-12-31T22:00Z' can't be meant: it is not from 1970 to 2200. Ask for the document again.",
        ),
    ],
)
def test_what_is_no_such_document_is_named(raw: bytes, told: str) -> None:
    """Entities are refused before they are expanded; an acknowledgement says what the platform says."""
    with pytest.raises(HeadraceError) as caught:
        parse_prices(raw, "x")
    line = caught.value.problem.line()
    assert line.startswith(told)


class Site(ThreadingHTTPServer):
    """The platform on loopback: what it was asked, and what it answers next."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, str]] = []
        self.answers: list[tuple[int, bytes]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/api"


class Handler(BaseHTTPRequestHandler):
    """Answers what the test has laid ready."""

    server: Site

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        self.server.asked.append({name: found[0] for name, found in query.items()})
        status, body = self.server.answers.pop(0)
        self.send_response(status)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.fixture
def site() -> Iterator[Site]:
    server = Site()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


DAY_MS = 24 * HOUR
START_MS = 1_704_063_600_000


def test_the_web_api_is_asked_with_zone_period_and_token(site: Site) -> None:
    """A year at a time, in order; what comes can be read."""
    day = publication(prices("2023-12-31T23:00Z", "2024-01-01T23:00Z", "PT60M", {1: "80"}))
    site.answers = [(200, day), (200, day)]
    with httpx.Client(trust_env=False) as client:
        found = Platform("secret-token", client, site.address).prices(
            "NO1", START_MS, START_MS + 400 * DAY_MS
        )
    assert [len(parse_prices(raw, "x").series.starts_ms) for raw in found] == [24, 24]
    assert site.asked[0] == {
        "documentType": "A44",
        "in_Domain": ZONES["NO1"],
        "out_Domain": ZONES["NO1"],
        "contract_MarketAgreement.type": "A01",
        "periodStart": "202312312300",
        "periodEnd": "202412302300",
        "securityToken": "secret-token",
    }
    assert (site.asked[1]["periodStart"], site.asked[1]["periodEnd"]) == ("202412302300", "202502032300")


def test_generation_is_asked_for_by_type(site: Site) -> None:
    """Realised, of one zone."""
    site.answers = [(200, b"<GL_MarketDocument/>")]
    with httpx.Client(trust_env=False) as client:
        Platform("t", client, site.address).generation("10YNO-2--------T", START_MS, START_MS + DAY_MS)
    assert (site.asked[0]["documentType"], site.asked[0]["processType"]) == ("A75", "A16")
    assert site.asked[0]["in_Domain"] == ZONES["NO2"]


@pytest.mark.parametrize(
    ("status", "body", "code", "told"),
    [
        (400, acknowledgement("999", NOTHING), ProblemCode.NOT_FOUND, "No matching data found"),
        (200, acknowledgement("999", NOTHING), ProblemCode.NOT_FOUND, "No matching data found"),
        (
            400,
            acknowledgement("A99", "Invalid period"),
            ProblemCode.BAD_INPUT,
            "ENTSO-E refuses: Invalid period.",
        ),
        (401, b"<html/>", ProblemCode.UNAUTHENTICATED, "ENTSO-E refuses the token."),
        (429, b"", ProblemCode.ENGINE_UNAVAILABLE, "status 429. Ask less often."),
        (503, b"busy", ProblemCode.ENGINE_UNAVAILABLE, "status 503. Try again later."),
    ],
)
def test_what_the_platform_refuses_is_a_named_error(
    site: Site, status: int, body: bytes, code: ProblemCode, told: str
) -> None:
    """And never has the token in it."""
    site.answers = [(status, body)]
    with httpx.Client(trust_env=False) as client, pytest.raises(HeadraceError) as caught:
        Platform("secret-token", client, site.address).prices("NO1", START_MS, START_MS + DAY_MS)
    assert caught.value.problem.code is code
    assert told in caught.value.problem.line()
    assert "secret-token" not in caught.value.problem.line()


def test_a_platform_that_does_not_answer_and_a_zone_that_is_none_are_named() -> None:
    """Without the address, which has the token in it."""
    with httpx.Client(trust_env=False) as client:
        platform = Platform("secret-token", client, "http://127.0.0.1:1/api")
        with pytest.raises(HeadraceError, match=r"^ENTSO-E does not answer: ConnectError\. Try again later"):
            platform.prices("NO1", 0, DAY_MS)
        with pytest.raises(HeadraceError, match=r"no bidding zone 'NO9'; known: .* Did you mean NO"):
            platform.prices("NO9", 0, DAY_MS)
