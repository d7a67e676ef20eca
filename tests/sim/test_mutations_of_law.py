"""A checker of law counts once it has caught mutations of the production code: each of these is found by some seed.

Every third world has laws of its own. The seed beside a mutation finds it, among those of 2 to 299.
"""

from pathlib import Path

import pytest

from tests.sim.test_mutations import Mutation, assert_found

MUTATIONS = (
    Mutation(
        "nobody is judged again",
        "core/sovereignty/judging.py",
        "for one in world.state.placements.values()]\n",
        "for one in []]\n",
        ("not-told", "started-forbidden"),
        seed=5,
    ),
    Mutation(
        "only what runs by now is judged again",
        "core/sovereignty/judging.py",
        "if verdict.allowed or placement.stop_reason is not None:",
        "if verdict.allowed or placement.stop_reason is not None or not placement.started_ms:",
        ("not-told", "started-forbidden"),
        seed=191,
    ),
    Mutation(
        "what is paused is not judged again",
        "core/sovereignty/judging.py",
        "if verdict.allowed or placement.stop_reason is not None:",
        "if verdict.allowed or placement.stop_reason is not None "
        "or world.state.workloads[placement.workload].pause_wanted or placement.curtailed:",
        ("not-told", "started-forbidden"),
        seed=50,
    ),
    Mutation(
        "whatever runs is told to go when law changes",
        "core/sovereignty/judging.py",
        "if verdict.allowed or placement.stop_reason is not None:",
        "if placement.stop_reason is not None:",
        ("evicted-wrongly",),
        seed=2,
    ),
    Mutation(
        "verdicts are remembered when documents change",
        "core/sovereignty/law.py",
        "        self._known.clear()\n        self.remembered.clear()\n",
        "        self._known.clear()\n",
        ("not-told", "jurisdiction", "evicted-wrongly", "verdict-policy", "verdict-facts"),
        seed=5,
    ),
    Mutation(
        "facts of a site are remembered when documents change",
        "core/sovereignty/law.py",
        "            self._known.pop(only, None)\n",
        "",
        ("not-told", "jurisdiction", "evicted-wrongly", "verdict-facts"),
        seed=11,
    ),
    Mutation(
        "holdings are remembered when documents change",
        "core/sovereignty/law.py",
        "        self.remembered.clear()\n        self._graph = None\n",
        "        self.remembered.clear()\n",
        ("not-told", "jurisdiction", "evicted-wrongly", "verdict-facts"),
        seed=11,
    ),
    Mutation(
        "certificates lapse by days of the operator's zone",
        "core/world.py",
        "            # What is stated of a place (certificates, holdings) lapses by days of UTC, whatever the operator's zone.\n"
        "            self._forget_classes()\n",
        "",
        ("not-told", "jurisdiction", "evicted-wrongly", "verdict-facts"),
        seed=176,
    ),
    Mutation(
        "a certificate is good a day too long",
        "core/sovereignty/law.py",
        'say the same.\n            facts["day"] = world.now_ms // MS_PER_DAY\n',
        'say the same.\n            facts["day"] = world.now_ms // MS_PER_DAY - 1\n',
        ("not-told", "jurisdiction"),
        seed=5,
    ),
    Mutation(
        "a plan of before a change is adopted after it",
        "core/scheduling/admit.py",
        "    if contract is None:\n        return refusal\n    asked_milli",
        "    if refusal is Refusal.JURISDICTION:\n"
        "        contract = snapshot.contract_for(tenant, site, need.accelerator, workload.spec.contract)\n"
        "    if contract is None:\n        return refusal\n    asked_milli",
        ("jurisdiction", "raised", "verdict-denies"),
        seed=170,
    ),
    Mutation(
        "after a restart nobody is judged before the next change",
        "reconcile.py",
        "self._limited, self._followed_ms, self._judged = -1, 0, -1",
        "self._limited, self._followed_ms, self._judged = -1, 0, control.world.laws.stamp",
        ("not-told", "started-forbidden"),
        seed=11,
    ),
    Mutation(
        "a policy that is replaced keeps the rules that were read first",
        "policy/cedar.py",
        "    return load(source, name)\n\n\n_SHORT",
        "    return _FIRST.setdefault(name, load(source, name))\n\n\n_FIRST: dict[str, PolicySet] = {}\n_SHORT",
        ("not-told", "jurisdiction", "evicted-wrongly", "verdict-policy"),
        seed=11,
    ),
    Mutation(
        "who has to go has all the time there is",
        "core/power/ladder.py",
        "if placement.stop_grace_ms else spec.grace_ms",
        "if placement.stop_grace_ms else 1 << 40",
        ("grace", "not-gone"),
        seed=5,
    ),
    Mutation(
        "nobody ends what is told to go for the law",
        "reconcile.py",
        "    if placement.stop_reason is not None:\n        return",
        '    if placement.stop_reason not in (None, "forbidden"):\n        return',
        ("not-ended", "started-forbidden"),
        seed=5,
    ),
    Mutation(
        "the policy of a tenant does not count",
        "core/sovereignty/law.py",
        "PolicyRef(profile=its.policy if its is not None and its.policy else DEFAULT)",
        "PolicyRef(profile=DEFAULT)",
        ("jurisdiction", "verdict-policy"),
        seed=2,
    ),
    Mutation(
        "a forbid is read as if it were not there",
        "policy/reading.py",
        "        if against:\n            return False, against\n",
        "        if against and not self.permits:\n            return False, against\n",
        ("jurisdiction", "not-told"),
        seed=179,
    ),
)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: one.name.replace(" ", "-"))
def test_a_mutation_of_law_is_found(mutation: Mutation, tmp_path: Path) -> None:
    """Some world breaks the promise, and its checker says so."""
    assert_found(mutation, tmp_path)
