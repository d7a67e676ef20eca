"""The lists of countries that have the name of a shipped profile decide as its rules do: one truth for each name."""

from hypothesis import given, settings
from hypothesis import strategies as some

from headrace.core.authority import Policy
from headrace.core.countries import COUNTRIES
from headrace.core.ids import TenantId
from headrace.core.sovereignty.law import SiteFacts, Stated
from headrace.core.sovereignty.plain import PROFILES as LISTS
from headrace.core.state import State
from headrace.core.units import MS_PER_DAY
from headrace.core.workload import PolicyRef
from headrace.core.world import World
from headrace.policy.cedar import PROFILES
from headrace.policy.engine import policies
from headrace.policy.schema import ACTIONS
from tests.core.small import ACME, BOREALIS, FJORD, document, estate, site, tenant

BOTH = sorted(set(LISTS) & set(PROFILES))
DAY = 20_800
STATED: tuple[Stated, ...] = (
    Stated("country", "GB", "who is not asked"),
    Stated("staff_countries", "NO US", "register"),
    Stated("exposure.US", "yes", "register"),
    Stated("control_max_ppm.US", 300_000, "register"),
    Stated("certified_until.iso27001", DAY + 1, "certificate"),
    Stated("encryption", "at-rest", "operator"),
)


def _worlds(
    country: str, facts: tuple[Stated, ...], whose: TenantId | None, its_country: str
) -> tuple[World, World]:
    """The same estate, judged by the lists alone and as a control plane judges."""
    here = site(FJORD, country, dedicated_to=whose, energy_source="hydro")
    found = [document(one) for one in (estate(here), tenant(ACME, country=its_country), tenant(BOREALIS))]
    documents = {f"{one.kind}/{one.name}": one.document for one in found}
    plain, cedar = World(State(documents=documents)), World(State(documents=documents), policies())
    for world in (plain, cedar):
        world.laws.take(SiteFacts(FJORD, facts))
        world.at(DAY * MS_PER_DAY)
    return plain, cedar


def test_two_names_are_both() -> None:
    """And the rules decide them wherever rules are read; the lists only where nothing reads any."""
    assert BOTH == ["nordic-only", "public"]
    plain, cedar = _worlds("NO", (), None, "")
    for name in BOTH:
        assert plain.laws.resolve(PolicyRef(name), plain.policies) == LISTS[name]
        assert cedar.laws.resolve(PolicyRef(name), cedar.policies) == Policy(name, is_shipped=True)
        verdicts = [world.place_verdict(ACME, PolicyRef(name), 0) for world in (plain, cedar)]
        assert verdicts[0].policy != verdicts[1].policy
    assert cedar.place_verdict(ACME, PolicyRef(), 0) == cedar.place_verdict(ACME, PolicyRef("public"), 0)


def test_they_agree_on_every_country_and_on_none() -> None:
    """All that the lists look at is the country of a site: this is all of their domain."""
    for country in ("", *COUNTRIES):
        plain, cedar = _worlds(country, (), None, "")
        for name in BOTH:
            ref = PolicyRef(name)
            assert plain.place_verdict(ACME, ref, 0).allowed is cedar.place_verdict(ACME, ref, 0).allowed, (
                name,
                country,
            )


@settings(max_examples=150, deadline=None)
@given(
    country=some.sampled_from(("", *sorted(COUNTRIES))),
    facts=some.lists(some.sampled_from(STATED), unique=True),
    whose=some.sampled_from((None, ACME, BOREALIS)),
    its_country=some.sampled_from(("", "NO", "US")),
)
def test_nothing_else_that_is_known_makes_them_differ(
    country: str, facts: list[Stated], whose: TenantId | None, its_country: str
) -> None:
    """Whatever is stated of a site, whosever it is, wherever its tenant is."""
    plain, cedar = _worlds(country, tuple(facts), whose, its_country)
    for name in BOTH:
        ref = PolicyRef(name)
        assert plain.place_verdict(ACME, ref, 0).allowed is cedar.place_verdict(ACME, ref, 0).allowed


def test_the_rules_are_those_of_the_file_that_is_shown() -> None:
    """What `headrace policy show` prints is what decides: a verdict has its digest."""
    _, cedar = _worlds("SE", (), None, "")
    for name in BOTH:
        rules = policies().policy_set(Policy(name))
        assert cedar.place_verdict(ACME, PolicyRef(name), 0).policy == rules.digest
        assert rules.by_action[ACTIONS["workload.place"]].permits
