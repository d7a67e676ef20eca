"""A year of an estate: sums that can be followed by hand, limits that hold, and files that are told by their place."""

import json
from pathlib import Path

import pytest

from headrace.cli.app import run as command
from headrace.core.errors import HeadraceError
from headrace.core.units import MJ_PER_WH, MS_PER_HOUR
from headrace.replay.year import Assumptions, Month, Year, simulate
from headrace.replay.year_files import Asked, Inputs, read_year

HOUR = 1_000 * MJ_PER_WH
"""Millijoules of a kilowatt-hour."""
ESTATE = """kind: tenant
name: fjord-ai
projects: [research]
country: NO
---
kind: price-plan
name: nok
currency: NOK
prices: {accelerator_per_hour: {lab: 10}}
---
kind: contract
name: held
tenant: fjord-ai
plan: nok
type: reserved
site: fjord
gpu: lab:8
starts: 2023-07-01
ends: 2023-08-01
---
kind: estate
operator: {name: small, title: Small, country: NO, zone: UTC, currency: NOK}
sites:
  - name: fjord
    country: NO
    zone: Europe/Oslo
    grid_zone: NO1
    energy: {source: hydro, carbon: 20, price: 0.50, currency: NOK}
    connection: {firm: 20kW}
    pue: 1.25
    blocks:
      - name: first
        commissioned: 2023-01-01
        groups: [{name: lab, hardware: lab, nodes: 2}]
      - name: second
        commissioned: 2023-06-01
        groups: [{name: lab, hardware: lab, nodes: 2}]
  - name: nowhere
    country: unknown
    zone: UTC
    energy: {source: unknown, carbon: 300, price: 0.10, currency: USD}
    connection: unknown
    pue: 1.2
    blocks:
      - name: plan
        commissioned: 2022-01-01
        groups: [{name: lab, hardware: lab, nodes: 2}]
"""
HALL = """kind: hall
name: shed
zone: UTC
currency: NOK
price_unit: nok_per_kwh
connection: 12kW
hashprice: 100
exchange: {USD: 10}
initially: off
machines:
  - {name: good, count: 2, efficiency: 20, hashrate: 200, min_up: 6h, min_down: 1h}
  - {name: poor, count: 1, efficiency: 40, hashrate: 100}
"""


def run(folder: Path, assumed: Assumptions | None = None, **asked: object) -> Year:
    read = inputs(folder, **asked)
    return simulate(
        read.estate, read.plans, read.contracts, read.price_plans, read.starts_ms, assumed or Assumptions()
    )


def inputs(folder: Path, **asked: object) -> Inputs:
    path = folder / "estate.yaml"
    path.write_text(str(asked.pop("estate", ESTATE)))
    return read_year(Asked(path, **({"year": 2023} | asked)))  # type: ignore[arg-type]  # whatever a test asks


def total(year: Year, site: str = "fjord") -> Month:
    found = Month()
    for month in year.sites[site].values():
        found.add(month)
    return found


def hourly(folder: Path, name: str, values: dict[int, float], column: str, days: int = 365) -> Path:
    """A file of 2023, one number for each hour of the day."""
    rows = [
        f"2023-{1 + day // 31:02}-{1 + day % 31:02}T{hour:02}:00Z,{values[hour]}"
        for day in range(days)
        for hour in range(24)
        if is_day(1 + day // 31, 1 + day % 31)
    ]
    path = folder / name
    path.write_text(f"utc,{column}\n" + "\n".join(rows) + "\n")
    return path


def is_day(month: int, day: int) -> bool:
    return month <= 12 and day <= (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1]


def test_energy_money_and_carbon_are_watts_times_hours(tmp_path: Path) -> None:
    """Two nodes of 1 kW, two more from June, PUE 1.25, 0.50 NOK and 20 g for each kWh."""
    year = run(tmp_path)
    january, june = year.sites["fjord"]["2023-01"], year.sites["fjord"]["2023-06"]
    assert january.ai_mj == 744 * 2_500 * MS_PER_HOUR
    assert june.ai_mj == 720 * 5_000 * MS_PER_HOUR
    assert january.energy_cost == 744 * 2_500 * 500
    assert january.carbon_ug == 744 * 2_500 * 20_000
    assert year.hours == total(year).hours == 8_760
    assert total(year).peak_w == 5_000


def test_what_is_not_let_draws_idle_watts(tmp_path: Path) -> None:
    """Nothing let, half of the load: 200 W a node, and 600 W."""
    idle = run(tmp_path, Assumptions(let_permille=0)).sites["fjord"]["2023-02"]
    half = run(tmp_path, Assumptions(load_permille=500)).sites["fjord"]["2023-02"]
    assert idle.ai_mj == 672 * 500 * MS_PER_HOUR
    assert half.ai_mj == 672 * 1_500 * MS_PER_HOUR


def test_a_contract_draws_and_earns_from_its_first_day_to_its_last(tmp_path: Path) -> None:
    """Eight of sixteen accelerators in July, at 10 NOK an hour."""
    months = run(tmp_path, Assumptions(let_permille=0)).sites["fjord"]
    assert months["2023-07"].earned == {"NOK": 744 * 80_000_000}
    assert months["2023-07"].ai_mj == 744 * 1_250 * (4 * 200 + 2 * 800) // 1_000 * MS_PER_HOUR
    assert months["2023-06"].earned == months["2023-08"].earned == {}


def test_a_place_that_nobody_knows_draws_nothing(tmp_path: Path) -> None:
    """No country, no connection: there is a row, and nothing in it."""
    assert total(run(tmp_path), "nowhere").ai_mj == 0


def test_miners_take_what_pays_and_what_the_connection_leaves(tmp_path: Path) -> None:
    """A MWh of the good ones earns 2,083 NOK, of the poor ones half of that. Cheap at night, dear by day."""
    (tmp_path / "hall.yaml").write_text(HALL)
    prices = hourly(
        tmp_path,
        "p.csv",
        {hour: 0.1 if hour < 6 else 3.0 if hour < 18 else 1.5 for hour in range(24)},
        "nok_per_kwh",
        372,
    )
    year = run(
        tmp_path, prices=prices, columns={"fjord": "nok_per_kwh"}, halls={"fjord": tmp_path / "hall.yaml"}
    )
    january = year.sites["fjord"]["2023-01"]
    good, poor = 2 * 4_000, 4_000
    # 100 USD x 10 NOK per PH/s and day are 2,083 NOK per MWh at 20 J/TH, and 1,042 at 40.
    assert january.miner_mj == 31 * (6 * (good + poor) + 6 * good) * MS_PER_HOUR
    assert january.peak_w == 2_500 + 12_000
    assert year.sites["fjord"]["2023-08"].earned["NOK"] == january.earned["NOK"]


def test_miners_stop_for_an_instruction_before_anything_else_does(tmp_path: Path) -> None:
    """Whatever their minimum times; what is left of the limit they may use."""
    (tmp_path / "hall.yaml").write_text(HALL)
    (tmp_path / "told.csv").write_text(
        "site,from,until,limit\nfjord,2023-01-10T03:00Z,2023-01-10T05:00Z,3kW\nfjord,2023-01-11T03:00Z,2023-01-11T04:00Z,7kW\n"
    )
    halls = {"fjord": tmp_path / "hall.yaml"}
    free = run(tmp_path, halls=halls).sites["fjord"]["2023-01"]
    told = run(tmp_path, halls=halls, instructions=tmp_path / "told.csv").sites["fjord"]["2023-01"]
    assert (told.shed_mj, told.breach_mj, told.breach_hours) == (0, 0, 0)
    assert told.ai_mj == free.ai_mj
    # Two hours without any; in one hour only one of 4 kW fits beside the 2.5 kW. One hour more of min_down is told by the price.
    missing = (free.miner_mj - told.miner_mj) // (1_000 * MS_PER_HOUR)
    assert missing >= 2 * 12 + 8


@pytest.mark.parametrize(
    ("shed", "drawn_w", "breach_w"),
    [(0, 2_500, 1_000), (500, 1_500, 0), (250, 2_000, 500), (1_000, 1_500, 0)],
)
def test_ai_is_shed_as_far_as_it_may_be_and_the_rest_is_a_breach(
    tmp_path: Path, shed: int, drawn_w: int, breach_w: int
) -> None:
    """A limit of 1.5 kW where 2.5 kW are drawn, of which 2 kW are due to work. Nothing is hidden."""
    (tmp_path / "told.csv").write_text(
        "site,from,until,limit\nfjord,2023-01-10T03:30Z,2023-01-10T04:30Z,1500W\n"
    )
    found = run(tmp_path, Assumptions(shed_permille=shed), instructions=tmp_path / "told.csv")
    january = found.sites["fjord"]["2023-01"]
    # The instruction touches two hours of the clock.
    assert january.shed_mj == 2 * (2_500 - drawn_w) * MS_PER_HOUR
    assert january.breach_mj == 2 * breach_w * MS_PER_HOUR
    assert january.breach_hours == (2 if breach_w else 0)


def test_what_a_connection_never_carried_is_no_breach(tmp_path: Path) -> None:
    """Four nodes on 4 kW: the rest was never admitted."""
    found = run(tmp_path, estate=ESTATE.replace("20kW", "4kW")).sites["fjord"]["2023-09"]
    assert found.peak_w == 4_000
    assert found.unpowered_mj == 720 * 1_000 * MS_PER_HOUR
    assert (found.shed_mj, found.breach_mj) == (0, 0)


@pytest.mark.parametrize("shed", [0, 200, 500, 1_000])
@pytest.mark.parametrize("limit", ["500W", "2kW", "3999W", "4kW", "9kW"])
def test_an_instruction_sheds_from_what_the_connection_carries(tmp_path: Path, limit: str, shed: int) -> None:
    """5 kW wanted on 4 kW: never more than the connection, and a limit at or above it changes nothing."""
    estate = ESTATE.replace("20kW", "4kW")
    free = run(tmp_path, Assumptions(shed_permille=shed), estate=estate).sites["fjord"]["2023-09"]
    (tmp_path / "told.csv").write_text(
        f"site,from,until,limit\nfjord,2023-09-01T00:00Z,2023-10-01T00:00Z,{limit}\n"
    )
    told = run(
        tmp_path, Assumptions(shed_permille=shed), estate=estate, instructions=tmp_path / "told.csv"
    ).sites["fjord"]["2023-09"]
    limit_w = {"500W": 500, "2kW": 2_000, "3999W": 3_999}.get(limit, 4_000)
    # Of 5 kW 4 kW are due to work: of what is carried as much.
    drawn_w = max(limit_w, 4_000 - 4_000 * shed * 4 // 5_000)
    hours = 720
    assert told.peak_w == drawn_w <= 4_000
    assert told.unpowered_mj == free.unpowered_mj == hours * 1_000 * MS_PER_HOUR
    assert told.shed_mj == hours * (4_000 - drawn_w) * MS_PER_HOUR
    assert told.breach_mj == hours * (drawn_w - limit_w) * MS_PER_HOUR
    if limit_w == 4_000:
        assert told == free


def test_an_instruction_of_another_year_is_told(tmp_path: Path) -> None:
    """It counts for nothing; of one over New Year's Eve only a part does."""
    (tmp_path / "told.csv").write_text(
        "site,from,until,limit\nfjord,2024-03-29T02:00Z,2024-03-29T04:00Z,1500W\n"
        "fjord,2022-12-31T22:00Z,2023-01-01T02:00Z,1500W\nfjord,2023-02-01T00:00Z,2023-02-01T02:00Z,1500W\n"
    )
    notes = inputs(tmp_path, instructions=tmp_path / "told.csv").notes
    path = tmp_path / "told.csv"
    assert notes == (
        f"{path}:2: 2024-03-29T02:00Z to 2024-03-29T04:00Z is not in 2023: this instruction counts for nothing",
        f"{path}:3: 2022-12-31T22:00Z to 2023-01-01T02:00Z is not all in 2023: only what is counts",
    )


def test_what_is_odd_about_a_file_of_prices_is_told(tmp_path: Path) -> None:
    """Its holes by their lines, and that its times have no offset."""
    prices = hourly(tmp_path, "p.csv", dict.fromkeys(range(24), 1.0), "nok_per_kwh", 372)
    lines = prices.read_text().replace("Z,", ",").replace("utc,", "time,").splitlines(keepends=True)
    prices.write_text("".join(lines[:50] + lines[51:]))
    notes = inputs(tmp_path, prices=prices, columns={"NO1": "nok_per_kwh"}).notes
    assert notes == (
        f"{prices}: times have no offset, and are taken to be in UTC",
        f"{prices}:51: missing 2023-01-03T01:00Z to 2023-01-03T02:00Z (1h): the value before it is held (nok_per_kwh)",
    )


def test_a_halls_fees_and_its_price_on_carbon_are_in_the_account(tmp_path: Path) -> None:
    """0.10 NOK and 20 g at 500 NOK a tonne for each kWh of the miners, and nothing for the others."""
    (tmp_path / "hall.yaml").write_text(HALL)
    free = total(run(tmp_path, halls={"fjord": tmp_path / "hall.yaml"}))
    (tmp_path / "hall.yaml").write_text(f"{HALL}fees: {{per_kwh: 0.10}}\ncarbon: {{per_tonne: 500}}\n")
    paid = total(run(tmp_path, halls={"fjord": tmp_path / "hall.yaml"}))
    assert free.miner_mj == paid.miner_mj > 0
    assert (free.fees, paid.fees) == (0, paid.miner_mj * 110_000 // HOUR)
    assert paid.energy_cost - free.energy_cost == paid.fees
    assert paid.figures("NOK")["fees"] == round(paid.fees / 10**6, 2)


def test_the_command_tells_what_it_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Below the table, and in the object."""
    (tmp_path / "estate.yaml").write_text(ESTATE)
    (tmp_path / "told.csv").write_text(
        "site,from,until,limit\nfjord,2024-03-29T02:00Z,2024-03-29T04:00Z,1500W\n"
    )
    told, estate = str(tmp_path / "told.csv"), str(tmp_path / "estate.yaml")
    words = ["replay", "year", "--estate", estate, "--year", "2023", "--instructions", told]
    assert command(words) == 0
    assert f"note: {told}:2: 2024-03-29T02:00Z to" in capsys.readouterr().out
    assert command([*words, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["notes"]) == 1


def test_a_series_of_another_year_counts_by_the_same_hour_of_the_same_day(tmp_path: Path) -> None:
    """2024 has a day more: of the 29 February those of the 28th."""
    prices = hourly(tmp_path, "p.csv", {hour: hour / 10 for hour in range(24)}, "nok_per_kwh", 372)
    read = inputs(tmp_path, prices=prices, columns={"NO1": "nok_per_kwh"}, year=2024)
    assert (read.year, read.series_year, len(read.starts_ms)) == (2024, 2023, 8_784)
    plan = read.plans[0]
    assert plan.prices[:24] == [hour * 100_000_000 for hour in range(24)]
    assert plan.prices[59 * 24 : 60 * 24] == plan.prices[58 * 24 : 59 * 24]
    assert dict(plan.sources) == {"prices": "p.csv: nok_per_kwh", "carbon": "declared"}


def test_without_a_year_it_is_the_first_that_begins_with_something(tmp_path: Path) -> None:
    """The series is of 2023, and so is the first block; a block of the next year moves the year."""
    prices = hourly(tmp_path, "p.csv", dict.fromkeys(range(24), 1.0), "nok_per_kwh", 372)
    asked = {"prices": prices, "columns": {"NO1": "nok_per_kwh"}, "year": 0}
    assert inputs(tmp_path, **asked).year == 2023
    later = ESTATE.replace("2023-01-01\n", "2025-12-31\n").replace("2023-06-01", "2026-06-01")
    assert inputs(tmp_path, estate=later, **asked).year == 2026


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ("nowhre,2023-01-10T03:00Z,2023-01-10T05:00Z,3kW", "told.csv:2: no site 'nowhre'; known: fjord, nowhere."),
        ("fjord,2023-01-10T05:00Z,2023-01-10T03:00Z,3kW", "told.csv:2: it ends before it begins."),
        ("fjord,tomorrow,2023-01-10T03:00Z,3kW", "told.csv:2: 'tomorrow'"),
        ("fjord,2023-01-10T03:00Z,2023-01-10T05:00Z,3", "told.csv:2: '3'"),
    ],
)  # fmt: skip
def test_an_instruction_that_cannot_be_meant_is_told_by_its_line(
    tmp_path: Path, told: str, message: str
) -> None:
    """Site, times and watts."""
    (tmp_path / "told.csv").write_text(f"site,from,until,limit\n{told}\n")
    with pytest.raises(HeadraceError) as problem:
        run(tmp_path, instructions=tmp_path / "told.csv")
    assert message in str(problem.value)


def test_a_file_of_prices_that_no_site_can_use_is_refused(tmp_path: Path) -> None:
    """Silence would be taken for a result."""
    prices = hourly(tmp_path, "p.csv", dict.fromkeys(range(24), 1.0), "nok_per_kwh", 372)
    with pytest.raises(HeadraceError, match=r"no column of it is called like the grid zone .*--price-column"):
        run(tmp_path, prices=prices)


def test_a_file_that_ends_in_summer_is_refused(tmp_path: Path) -> None:
    """A few missing hours are held; half a year is not."""
    prices = hourly(tmp_path, "p.csv", dict.fromkeys(range(24), 1.0), "nok_per_kwh", 186)
    with pytest.raises(HeadraceError, match="it says nothing of 2023-07"):
        run(tmp_path, prices=prices, columns={"NO1": "nok_per_kwh"})


def test_prices_in_another_currency_need_a_rate(tmp_path: Path) -> None:
    """And with one they are converted."""
    prices = hourly(tmp_path, "p.csv", dict.fromkeys(range(24), 50.0), "eur_per_mwh", 372)
    with pytest.raises(HeadraceError, match="eur_per_mwh is in EUR, and nobody says what that is in NOK"):
        run(tmp_path, prices=prices, columns={"NO1": "eur_per_mwh"})
    read = inputs(
        tmp_path, prices=prices, columns={"NO1": "eur_per_mwh"}, exchange={("EUR", "NOK"): 11_500_000}
    )
    assert read.plans[0].prices[0] == 575_000_000
