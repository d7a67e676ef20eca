"""Metering: every accelerator-second, watt-hour and token is recorded once, in the right month."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.core.contracts import Contract, PricePlan
from headrace.core.errors import Problem, ProblemCode
from headrace.core.estate import Connection, Site
from headrace.core.hardware import CATALOGUE, LAB, HardwareType
from headrace.core.ids import (
    ContractId,
    EventSeq,
    PlacementId,
    PlanId,
    ProjectId,
    SiteId,
    TenantId,
    WorkloadId,
)
from headrace.core.metering import (
    UsageKey,
    UsageRow,
    UsageTotals,
    contract_for,
    day_of,
    has_price,
    matches,
    period_bounds_ms,
    period_of,
    token_row,
    usage_row,
    worst_source,
)
from headrace.core.workload import Placement, RankPlace

SITE = Site(
    id=SiteId("glomfjord"),
    country="NO",
    zone="Europe/Oslo",
    connection=Connection(1_000_000),
    pue_permille=1_150,
    carbon_g_per_kwh=18,
    energy_price_micros_per_kwh=450_000,
    currency="NOK",
)
HOUR = 3_600_000


def place(mask: int = 0b11, cpu_milli: int = 1_000) -> RankPlace:
    return RankPlace("glomfjord/b/g-0-0", mask, cpu_milli, 100)


def placement(*ranks: RankPlace, metered: tuple[tuple[int, int], ...] = ()) -> Placement:
    return Placement(
        id=PlacementId("acme-1.1"),
        workload=WorkloadId("acme-1"),
        tenant=TenantId("acme"),
        site=SITE.id,
        ranks=ranks or (place(),),
        made_ms=0,
        made_seq=0,
        verdict="",
        metered=metered,
    )


def meter(
    where: Placement,
    reported: tuple[tuple[int, int], ...],
    hardware: tuple[HardwareType, ...] | None = None,
    source: str = "modelled",
) -> UsageRow | Problem | None:
    return usage_row(
        where,
        ProjectId("research"),
        ContractId("od"),
        SITE,
        hardware or (LAB,) * len(where.ranks),
        reported,
        seq=EventSeq(7),
        at_ms=1_000,
        period="2026-11",
        source=source,
    )


def row_of(result: UsageRow | Problem | None) -> UsageRow:
    assert isinstance(result, UsageRow), result
    return result


def test_a_rank_is_metered_by_what_it_holds_and_draws() -> None:
    """Two of four lab slots: half of 1000 W for an hour running, half of 200 W for half an hour paused."""
    row = row_of(meter(placement(), ((HOUR, HOUR // 2),)))
    assert row.accelerator_ms == 2 * (HOUR + HOUR // 2)
    assert row.energy_mj == 500 * HOUR + 100 * HOUR // 2
    assert (row.running_ms, row.paused_ms) == (HOUR, HOUR // 2)
    assert (row.key.model, row.key.site, row.key.energy_currency) == ("lab", "glomfjord", "NOK")


def test_what_was_metered_before_is_not_metered_again() -> None:
    """Reports are cumulative: only the difference is usage; a report that repeats the last one is none."""
    row = row_of(meter(placement(metered=((1_000, 200),)), ((1_500, 200),)))
    assert (row.running_ms, row.paused_ms, row.accelerator_ms) == (500, 0, 1_000)
    assert meter(placement(metered=((1_500, 200),)), ((1_500, 200),)) is None


@pytest.mark.parametrize(
    ("reported", "words"),
    [
        (((999, 0), (5, 0)), "rank 0: usage went back"),
        (((1_000, 0), (3, 9)), "rank 1: usage went back"),
        (((1_000, 0), (9, 2)), "rank 1: usage went back"),
        (((1_000, 0),), "usage of 1 ranks was reported, but it has 2"),
        ((), "usage of 0 ranks was reported"),
    ],
)
def test_usage_that_goes_back_is_a_problem_and_nothing_is_recorded(
    reported: tuple[tuple[int, int], ...], words: str
) -> None:
    """A runner that reports less than before is named, by placement and rank."""
    result = meter(placement(place(), place(), metered=((1_000, 0), (4, 3))), reported)
    assert isinstance(result, Problem)
    assert result.code is ProblemCode.CONFLICT
    assert words in result.message
    assert "acme-1.1" in result.message


def test_an_unknown_source_of_readings_is_refused() -> None:
    """A source outside the four can't get onto an invoice."""
    result = meter(placement(), ((5, 0),), source="guessed")
    assert isinstance(result, Problem)
    assert "guessed" in result.message
    assert "measured, modelled, nameplate, stale" in result.next_step


def test_the_energy_of_a_gap_is_not_recorded_but_its_time_is() -> None:
    """A stale reading bills no energy; the accelerators were held all the same."""
    row = row_of(meter(placement(), ((HOUR, 0),), source="stale"))
    assert row.energy_mj == 0
    assert row.accelerator_ms == 2 * HOUR


def test_processor_ranks_on_different_models_of_node_are_metered_as_cpu() -> None:
    """A rank without accelerators uses none of its node's; one with them is never called another model."""
    cpu = place(mask=0)
    h100 = CATALOGUE["h100-8"]
    row = row_of(meter(placement(cpu, cpu), ((10, 0), (20, 0)), (LAB, h100)))
    assert (row.key.model, row.accelerator_ms) == ("cpu", 0)
    lab_w, h100_w = (kind.share_watts(0, 1_000, True) for kind in (LAB, h100))
    assert row.energy_mj == lab_w * 10 + h100_w * 20
    mixed = meter(placement(place(), place()), ((10, 0), (20, 0)), (LAB, h100))
    assert isinstance(mixed, Problem)
    assert mixed.code is ProblemCode.BROKEN


def test_token_counters_are_metered_by_their_difference_and_never_go_back() -> None:
    """A batch adds what the counters grew by; counters that fell are a problem."""

    def tokens(reported: tuple[int, int]) -> UsageRow | Problem | None:
        where = (placement(), ProjectId("research"), ContractId("od"))
        return token_row(*where, reported, (100, 40), seq=EventSeq(3), at_ms=5, period="2026-11")

    row = row_of(tokens((150, 40)))
    assert (row.input_tokens, row.output_tokens, row.key.model) == (50, 0, "tokens")
    assert row.key.source == "replica-counters"
    assert tokens((100, 40)) is None
    fallen = tokens((150, 39))
    assert isinstance(fallen, Problem)
    assert "went back" in fallen.message


steps = st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), min_size=1, max_size=12)


@given(steps=steps, masks=st.lists(st.integers(0, 15), min_size=1, max_size=3), cpu=st.integers(1, 4_000))
def test_splitting_an_interval_into_reports_never_changes_the_totals(
    steps: list[tuple[int, int]], masks: list[int], cpu: int
) -> None:
    """Any number of reports on the way to one end sums to the same as the end alone."""
    masks = [mask | 1 for mask in masks]
    ranks = tuple(place(mask, cpu) for mask in masks)
    split, whole = UsageTotals(), UsageTotals()
    where = placement(*ranks)
    running = paused = 0
    for more_running, more_paused in steps:
        running, paused = running + more_running, paused + more_paused
        report = tuple((running + index, paused) for index in range(len(ranks)))
        row = meter(where, report)
        if row is not None:
            split.add(row_of(row))
        where.metered = report
    end = meter(placement(*ranks), where.metered)
    if end is not None:
        whole.add(row_of(end))
    assert {key: replace(one, rows=0) for key, one in split.by_key.items()} == {
        key: replace(one, rows=0) for key, one in whole.by_key.items()
    }


words = st.text(min_size=1, max_size=12)
keys = st.builds(
    UsageKey,
    tenant=words.map(TenantId),
    period=st.just("2026-11"),
    contract=words.map(ContractId),
    project=words.map(ProjectId),
    site=words.map(SiteId),
    model=words,
    source=st.sampled_from(["measured", "modelled", "nameplate", "stale"]),
    carbon_g_per_kwh=st.integers(0, 1_000),
    energy_price_micros_per_kwh=st.integers(0, 10**9),
    energy_currency=st.sampled_from(["NOK", "GBP"]),
    pue_permille=st.integers(1_000, 2_000),
)


@given(key=keys, other=keys)
def test_a_usage_key_survives_its_text_and_no_two_share_one(key: UsageKey, other: UsageKey) -> None:
    """Whatever letters the names hold: parse(text) is the key, and different keys have different texts."""
    assert UsageKey.parse(key.text) == key
    assert (key.text == other.text) == (key == other)


@given(key=keys, other=keys, by_price=st.booleans())
def test_a_selector_selects_exactly_the_keys_that_differ_in_source_and_constants(
    key: UsageKey, other: UsageKey, by_price: bool
) -> None:
    """So that a line's usage_key finds all of its rows and no other line's."""
    near = replace(
        key,
        source=other.source,
        carbon_g_per_kwh=other.carbon_g_per_kwh,
        pue_permille=other.pue_permille,
        energy_currency=key.energy_currency if by_price else other.energy_currency,
    )
    assert matches(key.selector(by_price=by_price), near.text)
    assert fnmatchcase(near.text, near.selector(by_price=by_price))
    same = (key.contract, key.project, key.site, key.model) == (
        other.contract,
        other.project,
        other.site,
        other.model,
    )
    if not same or key.tenant != other.tenant:
        assert not matches(key.selector(by_price=by_price), other.text)


def test_a_text_that_is_no_usage_key_is_named() -> None:
    """A wrong number of parts is an error, not a wrong key."""
    with pytest.raises(ValueError, match="not a usage key: 'acme/2026-11'; it has 2 parts, not 11"):
        UsageKey.parse("acme/2026-11")


def test_totals_survive_a_checkpoint_also_beyond_64_bits() -> None:
    """The sums are encoded as JSON integers of any size."""
    totals = UsageTotals()
    row = row_of(meter(placement(), ((HOUR, 0),)))
    totals.add(row._replace(energy_mj=10**30))
    assert msgspec.json.decode(msgspec.json.encode(totals), type=UsageTotals) == totals


def test_a_year_of_300_megawatts_is_summed_exactly() -> None:
    """It overflows 64 bits; Python's integers don't."""
    row = row_of(meter(placement(), ((HOUR, 0),)))
    totals = UsageTotals()
    for _ in range(365 * 24):
        totals.add(row._replace(energy_mj=300_000_000 * HOUR))
    (total,) = totals.by_key.values()
    assert total.energy_mj == 300_000_000 * 365 * 86_400_000
    assert total.energy_mj > 2**63
    assert total.rows == 8_760


def test_totals_of_a_tenant_are_its_own_and_ordered() -> None:
    """A tenant whose name begins like another's gets none of its usage."""
    totals = UsageTotals()
    row = row_of(meter(placement(), ((HOUR, 0),)))
    for tenant, period in (("acme-2", "2026-11"), ("acme", "2026-11"), ("acme", "2026-10")):
        for site in ("loughton", "glomfjord"):
            key = replace(row.key, tenant=TenantId(tenant), period=period, site=SiteId(site))
            totals.add(row._replace(key=key))
    found = totals.of(TenantId("acme"), "2026-11")
    assert [(key.tenant, key.period, key.site) for key, _ in found] == [
        ("acme", "2026-11", "glomfjord"),
        ("acme", "2026-11", "loughton"),
    ]


@pytest.mark.parametrize(
    ("sources", "worst"),
    [
        (["measured"], "measured"),
        (["measured", "modelled"], "modelled"),
        (["nameplate", "measured", "modelled"], "nameplate"),
        (["stale", "nameplate"], "stale"),
        (["stale", "unheard-of"], "unheard-of"),
        ([], "measured"),
    ],
)
def test_the_worst_source_stands_for_all(sources: list[str], worst: str) -> None:
    """Measured, modelled, nameplate, stale: each worse than the one before."""
    assert worst_source(sources) == worst
    assert worst_source(reversed(sources)) == worst


def at(text: str) -> int:
    return (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("instant", "period"),
    [
        ("2026-10-31T22:59:59.999+00:00", "2026-10"),  # winter time since the 25th: UTC+1
        ("2026-10-31T23:00:00+00:00", "2026-11"),
        ("2026-06-30T21:59:59.999+00:00", "2026-06"),  # summer time: UTC+2
        ("2026-06-30T22:00:00+00:00", "2026-07"),
        ("2026-12-31T23:00:00+00:00", "2027-01"),
        ("2026-03-29T01:00:00+00:00", "2026-03"),
        ("2026-10-25T01:00:00+00:00", "2026-10"),
    ],
)
def test_an_instant_belongs_to_the_month_on_the_operators_clock(instant: str, period: str) -> None:
    """To the millisecond at the month's edge, in summer and in winter time."""
    assert period_of(at(instant), "Europe/Oslo") == period


def test_months_with_a_change_of_clocks_are_an_hour_short_or_long() -> None:
    """March loses an hour in Oslo and October gains one."""
    lengths = {}
    for period in ("2026-03", "2026-10", "2026-11"):
        start, end = period_bounds_ms(period, "Europe/Oslo")
        lengths[period] = (end - start) / HOUR
    assert lengths == {"2026-03": 31 * 24 - 1, "2026-10": 31 * 24 + 1, "2026-11": 30 * 24}
    assert period_bounds_ms("2026-11", "Europe/Oslo")[0] == at("2026-10-31T23:00:00+00:00")


zones = st.sampled_from(
    ["Europe/Oslo", "Europe/London", "America/Havana", "Asia/Beirut", "Pacific/Apia", "UTC"]
)


@given(year=st.integers(2015, 2037), month=st.integers(1, 12), zone=zones)
def test_the_bounds_of_a_period_are_where_its_name_changes(year: int, month: int, zone: str) -> None:
    """Also where midnight comes twice: first and last millisecond are inside, their neighbours outside."""
    period = f"{year:04d}-{month:02d}"
    start, end = period_bounds_ms(period, zone)
    assert period_of(start, zone) == period == period_of(end - 1, zone)
    assert period_of(start - 1, zone) < period < period_of(end, zone)
    assert day_of(start, zone) == f"{period}-01"


@pytest.mark.parametrize("period", ["2026-13", "2026-1", "2026", "november", "2026-11-01", ""])
def test_what_is_no_month_is_refused(period: str) -> None:
    """With the form to write."""
    with pytest.raises(ValueError, match="write it like 2026-11"):
        period_bounds_ms(period, "UTC")


def deal(name: str, **changes: object) -> Contract:
    base = Contract(ContractId(name), TenantId("acme"), PlanId("standard"))
    return msgspec.convert({**msgspec.to_builtins(base), **changes}, Contract)


GENERAL = deal("general")
CONTRACTS = (
    GENERAL,
    deal("at-site", site="glomfjord"),
    deal("at-site-h100", site="glomfjord", model="H100"),
    deal("held", kind="reserved", model="H100", accelerators=8),
    deal("whole", kind="dedicated", site="loughton"),
    deal("over", ends="2026-11-01"),
    deal("a-foreign", tenant="other"),
)


@pytest.mark.parametrize(
    ("site", "model", "named", "found"),
    [
        ("glomfjord", "H100", None, "at-site-h100"),
        ("glomfjord", "lab", None, "at-site"),
        ("elsewhere", "H100", None, "general"),
        ("loughton", "H100", None, "whole"),
        ("elsewhere", "H100", "held", "held"),
        ("elsewhere", "lab", "held", None),
        ("glomfjord", "H100", "whole", None),
        ("glomfjord", "H100", "over", None),
        ("glomfjord", "H100", "a-foreign", None),
        ("glomfjord", "H100", "no-such", None),
    ],
)
def test_the_contract_is_the_named_one_else_the_most_specific(
    site: str, model: str, named: str | None, found: str | None
) -> None:
    """A named contract that doesn't fit is never replaced by another."""
    name = ContractId(named) if named else None
    result = contract_for(CONTRACTS, TenantId("acme"), SiteId(site), model, "2026-11-01", name)
    assert (result.id if result else None) == found
    again = contract_for(CONTRACTS[::-1], TenantId("acme"), SiteId(site), model, "2026-11-01", name)
    assert again == result


@pytest.mark.parametrize(
    ("day", "active"),
    [("2026-10-31", False), ("2026-11-01", True), ("2026-11-30", True), ("2026-12-01", False)],
)
def test_a_contract_is_in_force_from_its_first_day_until_before_its_end(day: str, active: bool) -> None:
    """The end is exclusive."""
    one = deal("window", starts="2026-11-01", ends="2026-12-01")
    found = contract_for([one], TenantId("acme"), SiteId("glomfjord"), "lab", day)
    assert (found == one) is active


def test_a_plan_has_a_price_for_a_model_it_names_or_for_any() -> None:
    """Ranks without accelerators need none."""
    plan = PricePlan(PlanId("p"), "NOK", accelerator_micros_per_hour={"H100": 1})
    assert [has_price(plan, model) for model in ("H100", "lab", "cpu")] == [True, False, True]
    assert has_price(replace(plan, accelerator_micros_per_hour={"*": 1}), "lab")
