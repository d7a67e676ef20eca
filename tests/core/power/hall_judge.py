"""A second mind about halls: every machine by itself, in fractions. It shares no code with the dispatch."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

HOUR = 3_600_000
JUST_ON, JUST_OFF = 10**9, -(10**9)
"""Ages of machines that are switched in this very interval."""


@dataclass(frozen=True)
class Kind:
    """Machines of one kind: how many, watts of each, value of a MWh, and what a start costs (money); times in intervals."""

    count: int
    watts: int
    value: Fraction
    restart: Fraction
    up: int
    down: int
    firm: bool = False


@dataclass(frozen=True)
class Site:
    """A connection with machines; ramps in watts into each interval of ``hours``, None without."""

    kinds: tuple[Kind, ...]
    connection: int
    ramp_up: int | None
    ramp_down: int | None
    hours: Fraction = Fraction(1)
    starts_on: bool = False


def before(site: Site) -> tuple[int, ...]:
    """What is on before the first interval: all, as far as the connection goes, the last kinds left out; or what is firm."""
    on = [kind.count if site.starts_on or kind.firm else 0 for kind in site.kinds]
    for number in reversed(range(len(on))):
        while drawn(site, on) > site.connection and on[number] and not site.kinds[number].firm:
            on[number] -= 1
    return tuple(on)


def drawn(site: Site, on: Sequence[int]) -> int:
    return sum(kind.watts * count for kind, count in zip(site.kinds, on, strict=True))


def judge(site: Site, costs: Sequence[Fraction], dispatch: Sequence[Sequence[int]]) -> Fraction:
    """What a dispatch earns; AssertionError says which rule it breaks, machine by machine."""
    lives = [
        [10**6] * on + [-(10**6)] * (kind.count - on)
        for kind, on in zip(site.kinds, before(site), strict=True)
    ]
    money, last = Fraction(0), drawn(site, before(site))
    for cost, on in zip(costs, dispatch, strict=True):
        for kind, life, count in zip(site.kinds, lives, on, strict=True):
            assert 0 <= count <= kind.count
            assert not kind.firm or count == kind.count
            money -= kind.restart * _switched(kind, life, count)
            money += (kind.value - cost) * count * kind.watts * site.hours / 10**6
        now = drawn(site, on)
        assert now <= site.connection, "the connection"
        assert site.ramp_up is None or now - last <= site.ramp_up, "the ramp up"
        assert site.ramp_down is None or last - now <= site.ramp_down, "the ramp down"
        last = now
    return money


def _switched(kind: Kind, life: list[int], count: int) -> int:
    """Turn on or off those that have been as they are for longest; one interval more for everybody. How many started."""
    started = 0
    while (on := sum(age > 0 for age in life)) != count:
        if on < count:
            oldest = min(life)
            assert -oldest >= kind.down, "too short off"
            life[life.index(oldest)] = JUST_ON
            started += 1
        else:
            ages = [age for age in life if 0 < age < JUST_ON]
            assert max(ages, default=0) >= kind.up, "too short on"
            life[life.index(max(ages))] = JUST_OFF
    for number, age in enumerate(life):
        if age == JUST_ON:
            life[number] = 1
        elif age == JUST_OFF:
            life[number] = -1
        else:
            life[number] = age + (1 if age > 0 else -1)
    return started


def best(site: Site, costs: Sequence[Fraction]) -> Fraction:
    """The most that can be earned, by trying everything: for a handful of machines and intervals."""
    longest = max([1, *(kind.up for kind in site.kinds), *(kind.down for kind in site.kinds)])
    first = tuple(
        tuple(sorted([longest] * on + [-longest] * (kind.count - on)))
        for kind, on in zip(site.kinds, before(site), strict=True)
    )

    @cache
    def onwards(t: int, state: tuple[tuple[int, ...], ...]) -> Fraction:
        if t == len(costs):
            return Fraction(0)
        last = sum(
            kind.watts for kind, life in zip(site.kinds, state, strict=True) for age in life if age > 0
        )
        found = None
        for next_state, on, started in _choices(site, state, longest):
            now = drawn(site, on)
            if now > site.connection:
                continue
            if site.ramp_up is not None and now - last > site.ramp_up:
                continue
            if site.ramp_down is not None and last - now > site.ramp_down:
                continue
            gain = sum(
                (
                    (kind.value - costs[t]) * count * kind.watts * site.hours / 10**6 - kind.restart * starts
                    for kind, count, starts in zip(site.kinds, on, started, strict=True)
                ),
                Fraction(0),
            )
            worth = gain + onwards(t + 1, next_state)
            found = worth if found is None else max(found, worth)
        assert found is not None
        return found

    return onwards(0, first)


def _choices(
    site: Site, state: tuple[tuple[int, ...], ...], longest: int
) -> list[tuple[tuple[tuple[int, ...], ...], tuple[int, ...], tuple[int, ...]]]:
    found: list[tuple[tuple[tuple[int, ...], ...], tuple[int, ...], tuple[int, ...]]] = [((), (), ())]
    for kind, life in zip(site.kinds, state, strict=True):
        options = set()
        free_on = [age for age in life if age > 0 and age >= kind.up]
        free_off = [age for age in life if age < 0 and -age >= kind.down]
        for stops in range(0 if kind.firm else len(free_on), -1, -1):
            for starts in range(0 if kind.firm else len(free_off), -1, -1):
                if stops and starts:
                    continue
                rest = list(life)
                for age in sorted(free_on, reverse=True)[:stops]:
                    rest.remove(age)
                for age in sorted(free_off)[:starts]:
                    rest.remove(age)
                grown = [min(age + 1, longest) if age > 0 else max(age - 1, -longest) for age in rest]
                after = tuple(sorted([*grown, *([-1] * stops), *([1] * starts)]))
                options.add((after, sum(age > 0 for age in after), starts))
        found = [
            ((*states, after), (*ons, on), (*begun, starts))
            for states, ons, begun in found
            for after, on, starts in sorted(options)
        ]
    return found
