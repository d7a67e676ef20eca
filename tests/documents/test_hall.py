"""Halls as people write them: every rule read as it is meant, and what is wrong told with its place."""

from pathlib import Path

import pytest

from headrace.core.errors import HeadraceError
from headrace.core.power.hall import AiLoad, MachineClass, Quote, Ramp, Switching
from headrace.documents.hall import load_hall, parse_hall

HOUR = 3_600_000
EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "halls"
HALL = """kind: hall
name: h
zone: Europe/Oslo
currency: NOK
price_unit: nok_per_kwh
exchange: {USD: 10.5}
connection: 30MW
ramp: {up: 10MW/h, down: 20MW/h}
hashprice: 50
machines:
  - {name: m, count: 10, efficiency: 17.5, hashrate: 200, restart_cost: 0.4, min_up: 1h, min_down: 30m}
"""


def changed(**lines: str) -> bytes:
    """The hall with other lines; "" leaves one out."""
    text = HALL
    for key, line in lines.items():
        kept = [one for one in text.splitlines() if not one.startswith(f"{key}:")]
        text = "\n".join([*kept[:2], *([line] if line else []), *kept[2:]]) + "\n"
    return text.encode()


def test_a_hall_is_read_into_whole_units() -> None:
    """Watts, milliseconds, millionths."""
    hall = parse_hall(HALL.encode(), "h.yaml")
    assert hall.machines == (MachineClass("m", 10, 17_500, 200_000, Switching(400_000, HOUR, HOUR // 2)),)
    assert hall.machines[0].draw_w == 3_500
    assert hall.hashprice == Quote("USD", 50_000_000)
    assert hall.ramp == Ramp(10_000_000, 20_000_000)
    assert (hall.connection_w, hall.rates_micros, hall.starts_on) == (30_000_000, {"USD": 10_500_000}, False)


@pytest.mark.parametrize(
    ("line", "ramp"),
    [
        ("ramp: 10MW/h", Ramp(10_000_000, 10_000_000)),
        ("ramp: 2h", Ramp(15_000_000, 15_000_000)),
        ("ramp: 90m", Ramp(20_000_000, 20_000_000)),
        ("ramp: {up: 5MW/hour}", Ramp(5_000_000, 0)),
        ("", Ramp()),
    ],
)
def test_a_ramp_is_watts_per_hour_or_the_time_of_the_whole_connection(line: str, ramp: Ramp) -> None:
    """Both ways, or each; what isn't said is not limited."""
    assert parse_hall(changed(ramp=line), "h").ramp == ramp


def test_accelerators_and_quotes_in_all_their_forms() -> None:
    """Firm ones, prices in the hall's currency, columns of files."""
    text = changed(
        hashprice="hashprice: {file: hash.csv, column: usd}",
        ai="ai: [{name: a, gpus: 8, power_per_gpu: 1.5kW, price_per_gpu_hour: {constant: 30, currency: NOK}, firm: true}]",
        initially="initially: on",
        carbon="carbon: {per_tonne: 900}",
        fees="fees: {per_kwh: 0.05}",
    )
    hall = parse_hall(text, "h")
    assert hall.ai == (AiLoad("a", 8, 1_500, Quote("NOK", 30_000_000), True),)
    assert hall.hashprice == Quote("USD", 0, "hash.csv", "usd")
    assert (hall.starts_on, hall.carbon_micros_per_tonne, hall.fee_micros_per_mwh) == (
        True,
        900_000_000,
        50_000_000,
    )


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_examples_are_halls(path: Path) -> None:
    """Of 30 MW, as they say."""
    assert load_hall(path).connection_w == 30_000_000
    assert load_hall(path).total_w() > 29_000_000


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ({"zone": ""}, "h:1:1 zone: zone is missing. Add zone."),
        ({"zone": "zone: Europe/Olso"}, "h:3:7 zone: no time zone 'Europe/Olso'. Did you mean Europe/Oslo?"),
        (
            {"exchange": ""},
            "h:8:12 hashprice: it is in USD, and no rate is stated for that. Add exchange: {USD: ...}",
        ),
        ({"exchange": "exchange: {USD: 0}"}, "h:3:17 exchange.USD: a rate of nothing."),
        ({"exchange": "exchange: {USD: 10, NOK: 2}"}, "h:3:26 exchange.NOK: one NOK is one NOK."),
        (
            {"ramp": "ramp: 10MW"},
            "h:3:7 ramp: '10MW' is not a duration. Write it like 90s, 30m, 2h or 1h30m.",
        ),
        ({"ramp": "ramp: {up: 10}"}, "h:3:12 ramp.up: 10 is not a ramp. Write it like 10MW/h."),
        (
            {"ramp": "ramp: {upwards: 10MW/h}"},
            "h:3:8 ramp.upwards: no field 'upwards' here; known: down, up.",
        ),
        (
            {"connection": "connection: 30"},
            "h:3:13 connection: 30 has no unit. Write it like 700W, 12kW or 50MW.",
        ),
        ({"price_unit": "price_unit: eur"}, "h:3:13 price_unit: no unit of prices 'eur'."),
        ({"hashprice": "hashprice: -1"}, "h:3:12 hashprice: -1 is negative. Write a price like 12.50."),
        (
            {"hashprice": "hashprice: {file: a.csv}"},
            "h:3:12 hashprice: file and column go together. Write both, or neither.",
        ),
        (
            {"hashprice": "hashprice: {constant: 1, file: a.csv, column: b}"},
            "h:3:12 hashprice: a quote is a constant, or a column of a file. Write one of both.",
        ),
        (
            {"initially": "initially: maybe"},
            "h:3:12 initially: 'maybe' is neither on nor off. Write on or off.",
        ),
        ({"colour": "colour: red"}, "h:3:1 colour: no field 'colour' here; known:"),
        (
            {"ai": "ai: [{name: m, gpus: 30000, power_per_gpu: 1500W, price_per_gpu_hour: 2, firm: true}]"},
            "h:12:3 machines: m stands twice.",
        ),
        ({"kind": "kind: estate"}, "h:1:1: 'estate' is not a hall. Begin with kind: hall."),
    ],
)
def test_what_is_wrong_is_told_with_its_place_and_the_next_step(lines: dict[str, str], told: str) -> None:
    """By file, line, column and path."""
    with pytest.raises(HeadraceError) as caught:
        parse_hall(changed(**lines), "h")
    line = caught.value.problem.line()
    assert line.startswith(told), line


@pytest.mark.parametrize(
    ("machine", "told"),
    [
        ("efficiency: 0", "0 can't be an efficiency in J/TH."),
        ("efficiency: 17.5555", "17.5555 is finer than an efficiency in J/TH can be."),
        ("count: 0", "0 machines can't be."),
        ("hashrate: lots", "'lots' is not a hash rate in TH/s."),
        ("min_up: 2", "2 has no unit."),
    ],
)
def test_a_machine_that_cant_be_is_refused(machine: str, told: str) -> None:
    """Each field by itself."""
    fields = {"name": "m", "count": "1", "efficiency": "20", "hashrate": "100"}
    key, _, value = machine.partition(": ")
    body = ", ".join(f"{name}: {text}" for name, text in (fields | {key: value}).items())
    raw = HALL[: HALL.index("machines:")] + f"machines: [{{{body}}}]\n"
    with pytest.raises(HeadraceError) as caught:
        parse_hall(raw.encode(), "h")
    assert told in caught.value.problem.line()


def test_firm_accelerators_beyond_the_connection_and_an_empty_hall_are_refused() -> None:
    """Neither could be dispatched."""
    firm = "ai: [{name: a, gpus: 30000, power_per_gpu: 1500W, price_per_gpu_hour: 2, firm: true}]"
    with pytest.raises(HeadraceError, match="firm accelerators draw 45 MW, and the connection carries 30 MW"):
        parse_hall(changed(ai=firm), "h")
    with pytest.raises(HeadraceError, match="a hall without machines"):
        parse_hall(HALL[: HALL.index("machines:")].encode(), "h")
    with pytest.raises(HeadraceError, match="2 documents, and not one"):
        parse_hall(HALL.encode() + b"---\n" + HALL.encode(), "h")
    with pytest.raises(HeadraceError, match="no document in it"):
        parse_hall(b"", "h")
