"""Small halls, drawn at random, for the dispatch and for the second mind alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from hypothesis import strategies as st

from headrace.core.power.dispatch import Interval, Rules
from headrace.core.power.hall import Load, Ramp, Switching
from tests.core.power.hall_judge import HOUR, Kind, Site

MICROS = 10**6


@dataclass(frozen=True)
class Case:
    """A hall and its prices, twice."""

    rules: Rules
    intervals: tuple[Interval, ...]
    site: Site
    costs: tuple[Fraction, ...]


def case(site: Site, costs: Sequence[int]) -> Case:
    """The dispatch's words for a site and all-in costs per MWh."""
    length_ms = int(site.hours * HOUR)
    loads = tuple(
        Load(
            f"load-{number}",
            "ai" if kind.firm else "miner",
            kind.count,
            kind.watts,
            Switching(int(kind.restart * MICROS), kind.up * length_ms, kind.down * length_ms),
            kind.firm,
        )
        for number, kind in enumerate(site.kinds)
    )
    ramp = Ramp(_per_hour(site.ramp_up, site.hours), _per_hour(site.ramp_down, site.hours))
    values = tuple(int(kind.value * MICROS) for kind in site.kinds)
    intervals = tuple(
        Interval(number * length_ms, length_ms, cost * MICROS, values) for number, cost in enumerate(costs)
    )
    rules = Rules(loads, site.connection, ramp, site.starts_on)
    return Case(rules, intervals, site, tuple(map(Fraction, costs)))


def _per_hour(watts: int | None, hours: Fraction) -> int:
    return 0 if watts is None else int(watts / hours)


@st.composite
def sites(draw: st.DrawFn, kinds: int = 2, count: int = 2) -> Site:
    """One or two kinds of a machine or two, with any rules."""
    made = tuple(
        Kind(
            draw(st.integers(1, count)),
            draw(st.sampled_from([100_000, 250_000, 400_000])),
            Fraction(draw(st.integers(0, 100))),
            Fraction(draw(st.sampled_from([0, 1, 10, 40]))),
            draw(st.integers(0, 3)),
            draw(st.integers(0, 3)),
            firm=draw(st.sampled_from([False, False, False, True])),
        )
        for _ in range(draw(st.integers(1, kinds)))
    )
    firm = sum(kind.count * kind.watts for kind in made if kind.firm)
    total = sum(kind.count * kind.watts for kind in made)
    connection = draw(st.integers(max(firm, 100_000), max(total, firm, 100_000) + 100_000))
    ramps = st.one_of(st.none(), st.integers(1, 9).map(lambda tenth: tenth * 100_000))
    hours = draw(st.sampled_from([Fraction(1), Fraction(1, 4)]))
    return Site(made, connection, draw(ramps), draw(ramps), hours, draw(st.booleans()))


@st.composite
def cases(draw: st.DrawFn, kinds: int = 2, count: int = 2, longest: int = 6) -> Case:
    """A small site with its prices."""
    return case(
        draw(sites(kinds, count)), draw(st.lists(st.integers(-50, 150), min_size=1, max_size=longest))
    )
