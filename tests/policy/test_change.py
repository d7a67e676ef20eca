"""What a change newly allows and forbids, and decisions that are remembered and never stale."""

from collections.abc import Callable
from random import Random

import pytest

from headrace.core.authority import Policy, Request, Role, Subject, Target, Verdict
from headrace.core.errors import HeadraceError
from headrace.core.ids import Digest, SiteId, TenantId
from headrace.policy.cedar import PROFILES, CedarPolicies
from headrace.policy.decisions import Decisions
from headrace.policy.diff import Standing, Worldview, compare, difference
from headrace.policy.reading import load
from headrace.policy.schema import ACTIONS, Value
from tests.policy.making import some_facts

WORK = Subject("workload", "", Role.SYSTEM, TenantId("albion-health"))
NORWAY: dict[str, Value] = {"site.country": "NO", "site.staff_countries": "NO", "site.exposure.*": "no"}
BRITAIN: dict[str, Value] = {"site.country": "GB", "site.staff_countries": "GB", "site.exposure.*": "unknown"}
OURS = '@id("a") permit (principal, action, resource) when { resource.exposure.US == "no" };'


def _standing(site: str, policy: str, action: str = "workload.place") -> Standing:
    request = Request(WORK, action, Target("site", None, SiteId(site)), {"work.kind": "job"})
    return Standing(f"job at {site}", policy, request, 3)


RUNNING = [
    _standing("glomfjord", "nordic-only"),
    _standing("loughton", "public"),
    _standing("glomfjord", "ours"),
    _standing("loughton", "ours", "data.copy"),
    _standing("gone", "public"),
]


def _world(ours: str = OURS, **sites: dict[str, Value]) -> Worldview:
    engine = CedarPolicies({"ours": load(ours, "ours")})
    known = {"glomfjord": NORWAY, "loughton": BRITAIN, **sites}
    return Worldview(engine, {"public": Policy("public")}, known, {"day": 20_780})


def test_nothing_changes_when_nothing_changes() -> None:
    """The same world twice."""
    found = difference(RUNNING, _world(), _world())
    assert found.is_empty
    assert (found.otherwise, found.alike) == ((), len(RUNNING))


def test_a_changed_policy_says_what_it_newly_allows_and_forbids() -> None:
    """With both verdicts, for each that stands."""
    changed = OURS.replace('resource.exposure.US == "no"', 'resource.country == "GB"')
    found = difference(RUNNING, _world(), _world(changed))
    assert [one.asked for one in found.allowed] == [RUNNING[3]]
    assert [one.asked for one in found.forbidden] == [RUNNING[2]]
    assert found.allowed[0].before.reasons == ("policy ours does not permit it: site.exposure.US is unknown",)
    assert found.allowed[0].after.reasons == ("policy ours: a",)
    assert found.alike == 3


def test_a_changed_fact_says_what_it_newly_allows_and_forbids() -> None:
    """A supplier is bought: what was clean is not; and what becomes known to be clean is allowed."""
    found = difference(
        RUNNING,
        _world(),
        _world(
            glomfjord={**NORWAY, "site.exposure.US": "yes"}, loughton={**BRITAIN, "site.exposure.US": "no"}
        ),
    )
    assert [one.asked for one in found.forbidden] == [RUNNING[2]]
    assert [one.asked for one in found.allowed] == [RUNNING[3]]
    assert not difference(RUNNING, _world(), _world(glomfjord={})).is_empty


def test_other_reasons_for_the_same_answer_are_told_apart() -> None:
    """Still forbidden, and by something else."""
    found = difference(RUNNING, _world(), _world(loughton={**BRITAIN, "site.exposure.US": "yes"}))
    assert [one.asked for one in found.otherwise] == [RUNNING[3]]


def _at_least(least: int) -> Callable[[int], Verdict]:
    """Allows every number that is not below."""
    return lambda one: Verdict("numbers", "be", "here", one >= least, (), Digest(""), Digest(""))


def test_compare_takes_any_two_judges() -> None:
    """A pure function over whatever is asked."""
    found = compare(range(10), _at_least(3), _at_least(5))
    assert [one.asked for one in found.forbidden] == [3, 4]
    assert found.alike == 8


@pytest.mark.parametrize("seed", range(6))
def test_remembered_decisions_are_those_that_would_be_made_now(seed: int) -> None:
    """Through any order of changes to sites, classes, the day, policies and the engine."""
    chance = Random(seed)
    kept, engine = Decisions(CedarPolicies()), CedarPolicies()
    texts = {name: Policy(name) for name in (*PROFILES, "ours")}
    state: dict[str, dict[str, dict[str, Value]]] = {"site": {}, "asker": {}}
    common: dict[str, Value] = {}
    for number in range(300):
        match chance.randrange(8) if number > 3 else number:
            case 0:
                name = f"site-{chance.randrange(3)}"
                state["site"][name] = {
                    key: value for key, value in some_facts(chance).items() if key.startswith("site.")
                }
                kept.site(name, state["site"][name])
            case 1:
                name = f"class-{chance.randrange(3)}"
                state["asker"][name] = {
                    key: value
                    for key, value in some_facts(chance).items()
                    if key.startswith(("person.", "data."))
                }
                kept.asker(name, WORK, state["asker"][name])
            case 2:
                common = {"day": 20_700 + chance.randrange(3) * 100}
                kept.common(common)
            case 3:
                word = chance.choice(("NO", "GB", "SE"))
                engine = CedarPolicies(
                    {"ours": load(OURS.replace('exposure.US == "no"', f'country == "{word}"'), "ours")}
                )
                kept.engine(engine)
                for declared in texts.values():
                    kept.policy(declared)
            case _:
                for _ in range(10):
                    policy, action = chance.choice([*texts]), chance.choice([*ACTIONS])
                    asker, site = chance.choice([*state["asker"]]), chance.choice([*state["site"]])
                    facts = {**common, **state["asker"][asker], **state["site"][site]}
                    request = Request(WORK, action, Target("site", None, SiteId(site)), facts)
                    assert kept.decide(policy, action, asker, site) == engine.evaluate(texts[policy], request)


def test_a_change_takes_along_only_what_rests_on_it() -> None:
    """One site's facts: the decisions about the others stay. The same facts again: nothing goes."""
    kept = Decisions(CedarPolicies())
    kept.policy(Policy("public"))
    kept.asker("jobs", WORK, {})
    for name, facts in (("glomfjord", NORWAY), ("loughton", BRITAIN)):
        kept.site(name, facts)
        assert kept.decide("public", "workload.place", "jobs", name).allowed
    kept.site("loughton", {**BRITAIN})
    assert len(kept) == 2
    kept.site("loughton", {"site.country": "unknown"})
    assert len(kept) == 1
    assert not kept.decide("public", "workload.place", "jobs", "loughton").allowed
    kept.common({"day": 1})
    assert len(kept) == 0


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (("pubic", "workload.place", "jobs", "glomfjord"), "Did you mean public"),
        (("public", "workload.place", "job", "glomfjord"), "Did you mean jobs"),
        (("public", "workload.place", "jobs", "glomfjrd"), "Did you mean glomfjord"),
    ],
)
def test_what_was_never_declared_is_named(key: tuple[str, str, str, str], said: str) -> None:
    """No decision about what nobody described."""
    kept = Decisions(CedarPolicies())
    kept.policy(Policy("public"))
    kept.asker("jobs", WORK, {})
    kept.site("glomfjord", NORWAY)
    with pytest.raises(HeadraceError, match=said):
        kept.decide(*key)
