"""When a decision ends by itself, without a change of any fact but the day."""

from random import Random

import pytest

from headrace.core.errors import HeadraceError
from headrace.policy.cedar import profile
from headrace.policy.lapse import changes_on
from headrace.policy.reading import load
from headrace.policy.schema import ACTIONS, Value
from tests.policy.making import DAY, CarefulMaker, Maker, some_facts

GOOD: dict[str, Value] = {
    "site.country": "GB", "site.operator.seat": "GB", "site.operator.control_min_ppm.GB": 600_000, "site.staff_countries": "GB",
    "site.encryption": "at-rest in-transit", "site.isolation": "container", "site.certified_until.cyber_essentials_plus": DAY + 9,
    "site.certified_until.iso27001": DAY + 30, "data.class": "internal", "day": DAY,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "day"),
    [
        ({}, DAY + 10),
        ({"site.certified_until.cyber_essentials_plus": DAY + 40}, DAY + 31),
        ({"site.certified_until.iso27001": DAY - 1}, None),
        ({"site.country": "NO"}, None),
        ({"day": DAY + 9}, DAY + 10),
        ({"day": DAY + 10}, None),
    ],
)
def test_a_certificate_ends_the_day_after_its_last(change: dict[str, Value], day: int | None) -> None:
    """The first certificate that lapses ends an allowed decision; what is refused anyway stays so."""
    assert changes_on(profile("uk-critical"), "place", {**GOOD, **change}) == day


def test_a_policy_without_days_never_changes_by_itself() -> None:
    """Countries don't expire."""
    assert changes_on(profile("nordic-only"), "place", GOOD) is None


def _turning(chance: Random) -> str:
    """A rule about days that is met by chance."""
    until = f"resource.certified_until.{chance.choice(('c5', 'iso27001'))}"
    op = chance.choice(("<", "<=", ">", ">=", "==", "!="))
    left = chance.choice((until, f"{until} - 30", str(DAY + 7)))
    return f"{left} {op} {chance.choice(('context.day', '2 * context.day - 20700'))}"


@pytest.mark.parametrize("seed", range(4))
def test_no_day_before_it_decides_otherwise(seed: int) -> None:
    """Day by day for 500 days: the first on which anything differs is the one that was named."""
    chance = Random(seed)
    seen = 0
    for _ in range(60):
        maker = chance.choice((Maker, CarefulMaker))(chance)
        rule = f'\n@id("days") {chance.choice(("permit", "forbid"))} (principal, action, resource) when {{ {_turning(chance)} }};'
        try:
            policy = load(maker.policy() + rule, "random", may_guess=True)
        except HeadraceError:
            continue
        facts, action = some_facts(chance), chance.choice([*ACTIONS.values()])
        now = policy.decide(action, facts)
        days = range(DAY + 1, DAY + 500)
        first = next((day for day in days if policy.decide(action, {**facts, "day": day}) != now), None)
        found = changes_on(policy, action, facts)
        assert (found if found in days else None) == first, (policy.text, facts, action)
        seen += first is not None
    assert seen > 5
