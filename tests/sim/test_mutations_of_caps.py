"""A checker of caps counts once it has caught mutations of the production code: each of these is found by some seed."""

from pathlib import Path

import pytest

from tests.sim.test_mutations import Mutation, assert_found

MUTATIONS = (
    Mutation(
        "a cap counts from when it is ordered",
        "core/power/caps.py",
        "if not self.wanted_w or not self.enforced_w:\n            return None\n        return with_overshoot(self.enforced_w)",
        "if not self.wanted_w:\n            return None\n        return with_overshoot(self.enforced_w or self.wanted_w)",
        ("power", "started-above", "grid-over", "unshed", "no-way-down", "lifted-above"),
        seed=238,
    ),
    Mutation(
        "a cap counts until its controller has dropped it",
        "core/power/caps.py",
        "        if not self.wanted_w or not self.enforced_w:\n            return None\n",
        "        if not self.enforced_w:\n            return None\n",
        ("power", "lifted-above", "started-above", "overtaken"),
        seed=2048,
    ),
    Mutation(
        "what a server may pass its limit by is forgotten",
        "core/power/caps.py",
        "OVERSHOOT_PERMILLE = 20\n",
        "OVERSHOOT_PERMILLE = 0\n",
        ("power", "started-above", "grid-over", "unshed", "lifted-above"),
        seed=130,
    ),
    Mutation(
        "a cap that failed is hoped for for ever",
        "core/power/caps.py",
        "if not cap.wanted_w or cap.is_met or now_ms >= max(cap.ordered_ms, begun_ms) + cap.patience_ms:",
        "if not cap.wanted_w or cap.is_met:",
        ("grid-over", "unshed"),
        seed=238,
    ),
    Mutation(
        "caps are as low as controllers take",
        "core/power/caps.py",
        "return max(least_w, full_w - used * (hardware.accelerator_w - hardware.cap_min_w))",
        "return least_w",
        ("below-lowest",),
        seed=13,
    ),
    Mutation(
        "caps are lower than controllers take",
        "core/power/caps.py",
        "return max(least_w, full_w - used * (hardware.accelerator_w - hardware.cap_min_w))",
        "return full_w - used * (hardware.accelerator_w - hardware.cap_min_w)",
        ("below-lowest",),
        seed=12,
    ),
    Mutation(
        "nodes are capped as low as can be",
        "core/power/caps.py",
        "    part = min(needs_w, most_w)\n",
        "    part = most_w\n",
        ("needless",),
        seed=13,
    ),
    Mutation(
        "one node after another is capped",
        "core/power/caps.py",
        "        counted_w = one.draws_w - ceil_div(one.saves_w * part, most_w)\n",
        "        counted_w = one.draws_w - min(part, one.saves_w)\n        part -= min(part, one.saves_w)\n",
        ("uneven",),
        seed=238,
    ),
    Mutation(
        "firm work is capped",
        "core/power/ladder.py",
        "if spec.flex is Flex.CAPPABLE and world.state.limiters:",
        "if world.state.limiters:",
        ("firm-capped",),
        seed=13,
    ),
    Mutation(
        "who shares a node is capped",
        "core/power/ladder.py",
        "if least_w is None or node in world.state.intruders or int(world.node_ranks[index]) != ranks:",
        "if least_w is None or node in world.state.intruders:",
        ("not-alone", "firm-capped"),
        seed=0,
    ),
    Mutation(
        "caps are lifted before there is power",
        "core/power/ladder.py",
        "start_w = it_watts(site, limits.allowed(site.connection, standing, now_ms).start_w)",
        "start_w = 1 << 40",
        ("lifted-above", "power"),
        seed=12,
    ),
    Mutation(
        "caps are never lifted",
        "core/power/ladder.py",
        "        yield ev.CapsLifted(site, tuple(lifted))\n",
        "        yield from ()\n",
        ("not-lifted", "held", "restless"),
        seed=13,
    ),
    Mutation(
        "caps are lifted before who is paused goes on",
        "core/power/ladder.py",
        "for placement in sorted(paused, key=lambda one: (one.curtailed_ms, one.made_seq)):",
        "for placement in [] if world.state.caps else paused:",
        ("not-first", "not-lifted", "held", "restless", "not-resumed"),
        seed=503,
    ),
    Mutation(
        "nodes are capped when an instruction begins",
        "core/power/ladder.py",
        "told or is_off_time or left_ms <= CAP_LEAD_MS else ()",
        "told or is_off_time or target.is_on else ()",
        ("grid-over", "rungs"),
        seed=130,
    ),
    Mutation(
        "nobody is capped",
        "core/power/ladder.py",
        "    able, capped = _capped(world, _not_failed(world, ladder.caps, now_ms), over_w)\n",
        "    able, capped = [], []\n",
        ("rungs", "unshed", "grid-over"),
        seed=13,
    ),
    Mutation(
        "a controller that failed is asked again and again",
        "core/power/ladder.py",
        "return [one for one in nodes if one.node not in caps or not has_failed(caps[one.node], now_ms, begun_ms)]",
        "return list(nodes)",
        ("grid-over", "unshed", "no-way-down"),
        seed=503,
    ),
    Mutation(
        "a capped node is open",
        "core/world.py",
        "        found[list(self.counted.capped)] = False\n",
        "",
        ("on-capped",),
        seed=2928,
    ),
    Mutation(
        "what meters see beyond what is known is not counted",
        "core/power/counted.py",
        "        self._add(index, change_w)\n        self._floors()\n",
        "        self._floors()\n",
        ("power", "started-above", "lifted-above", "grid-over", "unshed", "column"),
        seed=12,
    ),
    Mutation(
        "a limit that is lost goes unheard",
        "core/power/actuators.py",
        "return cap.enforced_w != watts or (",
        "return cap.enforced_w < watts or (",
        ("unheard",),
        seed=13,
    ),
    Mutation(
        "that a meter sees no more goes unheard",
        "core/power/actuators.py",
        "world.state.excess.get(element, 0) != watts:",
        "world.state.excess.get(element, 0) < watts:",
        ("unheard",),
        seed=0,
    ),
    Mutation(
        "an instruction within what caps save is refused",
        "core/power/grid.py",
        "        one.saves_w for one in (*ladder.caps, *ladder.idle)\n",
        "        0 for one in (*ladder.caps, *ladder.idle)\n",
        ("refused-wrongly",),
        seed=285,
    ),
    Mutation(
        "what is enforced goes on to count where a cap was lifted",
        "core/power/applied.py",
        "        cap.wanted_w, cap.ordered_ms = 0, committed.at_ms\n",
        "        cap.ordered_ms = committed.at_ms\n",
        ("restless", "power", "lifted", "lifted-above", "started-above"),
        seed=13,
    ),
)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: one.name.replace(" ", "-"))
def test_a_mutation_of_caps_and_meters_is_found(mutation: Mutation, tmp_path: Path) -> None:
    """Some world breaks the promise, and its checker says so."""
    assert_found(mutation, tmp_path)
