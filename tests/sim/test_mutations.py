"""A checker counts once it has caught mutations of the production code: each of these is found by some seed.

A mutation replaces one piece of text in a copy of the source. The seed beside it is known to find it; if the
worlds have changed since, others are tried.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import headrace

SOURCE = Path(headrace.__file__).parent
TRIED = 120


@dataclass(frozen=True, slots=True)
class Mutation:
    """What is broken, where, and the rules of which one must notice."""

    name: str
    path: str
    old: str
    new: str
    rules: tuple[str, ...]
    seed: int = 0
    kind: str = "short"


MUTATIONS = (
    Mutation(
        "power is not checked when a plan is adopted",
        "core/scheduling/admit.py",
        "if power_w[element] + kept.get(element, 0) + more_w > limit_w[element]:",
        "if False:",
        ("power",),
        seed=2085,
    ),
    Mutation(
        "power is counted at the rack alone",
        "core/world.py",
        "for element in self.path(leaf):",
        "for element in self.path(leaf)[:1]:",
        ("power", "column"),
        seed=2,
    ),
    Mutation(
        "any country will do",
        "core/sovereignty/plain.py",
        "elif policy.countries and country not in policy.countries:",
        "elif False:",
        ("jurisdiction",),
    ),
    Mutation(
        "a placement refers to a verdict that was not recorded",
        "core/placing.py",
        "    if ident not in world.state.verdicts:\n        yield ev.DecisionRecorded(verdict)\n    about",
        "    about",
        ("verdict-unknown",),
    ),
    Mutation(
        "a dedicated site takes anybody",
        "core/scheduling/rank.py",
        "return Refusal.DEDICATED, None",
        "pass",
        ("dedicated",),
        seed=10,
    ),
    Mutation(
        "accelerators are not given back",
        "core/world.py",
        "after = columns.mask[node] = before ^ mask",
        "after = columns.mask[node] = before | mask",
        ("column", "not-placed", "claim-false"),
    ),
    Mutation(
        "a stopped workload comes back",
        "core/apply.py",
        "        return WorkloadState.STOPPED\n    if reason in _REQUEUED",
        "        return WorkloadState.QUEUED\n    if reason in _REQUEUED",
        ("transition", "state-shown", "restless", "not-placed"),
        seed=2,
    ),
    Mutation(
        "the queue forgets what comes back",
        "core/apply.py",
        "        work.pause_wanted = False\n        world.queue.add(work)\n",
        "        work.pause_wanted = False\n",
        ("not-placed", "column", "restless", "claim-false", "not-a-line", "no-reason"),
        seed=11,
    ),
    Mutation(
        "the planner still remembers a site as full when something there has ended",
        "core/scheduling/memory.py",
        "        if sign < 0:\n            self.came_free(site)\n",
        "",
        ("memory", "not-placed", "claim-false", "restless"),
        seed=13,
    ),
    Mutation(
        "idempotency keys are not remembered",
        "core/apply.py",
        "    requests[key] = Done(",
        "    requests[key + committed.at_ms.to_bytes(8).hex()] = Done(",
        ("key-twice", "made-twice", "answer"),
        seed=1,
    ),
    Mutation(
        "a commit is acknowledged before it is durable",
        "control.py",
        "            self.append(batch)\n",
        "            if batch.group is None or batch.group.first % 8:\n                self.append(batch)\n",
        ("lost", "head", "corrupt", "sequence", "changed", "raised"),
    ),
    Mutation(
        "after a failed commit the world stays ahead of the journal",
        "service.py",
        "                self.recovered()\n                self.control.lose(error)\n",
        "                self.control.lose(error)\n",
        ("head", "sequence", "lost", "raised"),
        seed=19,
    ),
    Mutation(
        "usage is added from the start at each report",
        "core/metering.py",
        "running, paused = new[0] - old[0], new[1] - old[1]",
        "running, paused = new[0], new[1] - old[1]",
        ("billed",),
        seed=5,
    ),
    Mutation(
        "amounts are rounded up",
        "core/units.py",
        "if twice > denominator or (twice == denominator and quotient & 1):",
        "if remainder:",
        ("line-amount", "invoice-sums"),
    ),
    Mutation(
        "what was billed is billed again",
        "core/invoicing.py",
        "return max(0, total - self.billed.get((item, usage_key), 0))",
        "return total",
        ("billed", "issued-twice"),
    ),
    Mutation(
        "a tenant may touch what is another's",
        "core/sovereignty/plain.py",
        "elif subject.tenant is not None and target.tenant != subject.tenant:",
        "elif False:",
        ("answer",),
        seed=53,
    ),
    Mutation(
        "an erased tenant's secrets stay",
        "control.py",
        "            pending.erase.append(command.tenant)\n            self.vault.forget(command.tenant)\n",
        "            pass\n",
        ("erased",),
        seed=3,
    ),
    Mutation(
        "journal time goes back with the clock",
        "control.py",
        "return max(self.world.state.last_ms, self.clock.now_ms())",
        "return self.clock.now_ms()",
        ("time",),
        seed=15,
    ),
    Mutation(
        "an explanation names another reason",
        "core/scheduling/explain.py",
        "waits: {best.refusal.name}: {where}",
        "waits: TIME: {where}",
        ("claim-false",),
    ),
    Mutation(
        "usage is not projected",
        "journal/sqlite.py",
        "            self._insert_rows(rows)\n            # Each statement",
        "            # Each statement",
        ("projection",),
    ),
    Mutation(
        "more than a whole accelerator is given in parts",
        "core/scheduling/admit.py",
        "return not used_milli or not mine or used_milli + ask.share_milli > WHOLE_MILLI",
        "return not used_milli or not mine",
        ("accelerator-over", "raised", "column"),
        seed=3,
        kind="long",
    ),
    Mutation(
        "a part of another tenant's accelerator is given",
        "core/scheduling/admit.py",
        "return not used_milli or not mine or used_milli + ask.share_milli > WHOLE_MILLI",
        "return not used_milli or used_milli + ask.share_milli > WHOLE_MILLI",
        ("accelerator-shared", "column"),
        seed=8,
        kind="long",
    ),
    Mutation(
        "quotas are not checked when a plan is adopted",
        "core/scheduling/admit.py",
        "return Refusal.QUOTA if is_over_limit(snapshot, tenant, workload.spec.project, asked_milli) else None",
        "return None",
        ("quota",),
        seed=9,
        kind="long",
    ),
    Mutation(
        "topology is not checked when a plan is adopted",
        "core/scheduling/admit.py",
        "if not stand_well(cells.columns, spec.topology, nodes):",
        "if False:",
        ("topology",),
        seed=3,
        kind="long",
    ),
    Mutation(
        "elastic work gets more nodes than it can use",
        "core/scheduling/admit.py",
        "if nodes is None or not spec.nodes <= len(nodes) <= max(spec.nodes, spec.nodes_max):",
        "if nodes is None or len(nodes) < spec.nodes:",
        ("ranks",),
        seed=5,
        kind="long",
    ),
    Mutation(
        "a part of an accelerator is metered as a whole one",
        "core/metering.py",
        "count, share = rank.mask.bit_count(), rank.share_milli",
        "count, share = rank.mask.bit_count(), WHOLE_MILLI",
        ("billed",),
        seed=2,
    ),
    Mutation(
        "windows are not checked when a plan is adopted",
        "core/scheduling/admit.py",
        "if not _is_in_time(snapshot, spec, nodes):",
        "if False:",
        ("window", "outside"),
        seed=3,
        kind="long",
    ),
    Mutation(
        "nobody is told to go when a window begins",
        "core/scheduling/plan.py",
        "evictions = *leave_windows(self.snapshot, self.holders), *self.waits.evictions",
        "evictions = self.waits.evictions",
        ("not-cleared", "not-left"),
        seed=0,
        kind="long",
    ),
    Mutation(
        "two reservations have the same nodes",
        "core/scheduling/reserve.py",
        "            state.open[np.array(window.nodes, dtype=np.int64)] = False\n",
        "",
        ("shared",),
        seed=4,
        kind="long",
    ),
    Mutation(
        "a node where strangers are still gets work",
        "core/world.py",
        "        found[list(self.intruded)] = False\n",
        "",
        ("intruded",),
        seed=66,
    ),
    Mutation(
        "strangers are not counted at nameplate",
        "core/world.py",
        "        more_w = hardware.nameplate_w\n        if",
        "        more_w = 0\n        if",
        ("power",),
        seed=1,
    ),
    Mutation(
        "strangers on a node without a day are not counted",
        "core/world.py",
        "        more_w = hardware.nameplate_w\n        if self.fleet.node_from_day[index] < NEVER_DAY:\n",
        "        more_w = hardware.nameplate_w\n"
        "        if self.fleet.node_from_day[index] == NEVER_DAY:\n            return\n"
        "        if self.fleet.node_from_day[index] < NEVER_DAY:\n",
        ("power", "no-alarm"),
        seed=135,
    ),
    Mutation(
        "nobody is told that strangers may draw more than is carried",
        "core/observe.py",
        "        if drawn_w > limit_w:\n",
        "        if False:\n",
        ("no-alarm",),
        seed=4,
    ),
    Mutation(
        "that strangers left is not recorded",
        "core/observe.py",
        '        report.foreign == world.state.intruders.get(report.node, "")\n',
        '        report.foreign in ("", world.state.intruders.get(report.node, ""))\n',
        ("unseen",),
        seed=1,
    ),
    Mutation(
        "a node that its cluster has no more is open once its drain is over",
        "reconcile.py",
        "            return self._gainsaid(name)\n",
        "            return []\n",
        ("unseen",),
        seed=20,
        kind="long",
    ),
    Mutation(
        "a node where strangers are is taken as down",
        "core/observe.py",
        'if not report.up and known == "ready":',
        'if (not report.up or report.foreign) and known == "ready":',
        ("harmed",),
        seed=8,
    ),
    Mutation(
        "who runs beside strangers is told to go",
        "core/observe.py",
        "    yield ev.NodeIntruded(report.node, report.foreign)\n",
        "    yield ev.NodeIntruded(report.node, report.foreign)\n"
        "    for one in list(world.state.placements.values()):\n"
        "        if report.foreign and one.started_ms and any(rank.node == report.node for rank in one.ranks):\n"
        "            yield ev.EvictionRequested(one.id, EndReason.PREEMPTED, 'made room')\n",
        ("harmed",),
        seed=7,
    ),
    Mutation(
        "watts that strangers draw are hoped for from those who run beside them",
        "core/scheduling/columns.py",
        "        if delta_w and node not in state.intruded:\n",
        "        if delta_w:\n",
        ("harmed",),
        seed=56,
        kind="long",
    ),
    Mutation(
        "the planner remembers a site as full when strangers have left it",
        "core/world.py",
        "            del self.intruded[index]\n            self.memory.came_free(int(self.fleet.node_site[index]))\n",
        "            del self.intruded[index]\n",
        ("memory", "not-placed", "claim-false", "restless"),
        seed=25,
    ),
    Mutation(
        "parts are placed where an engine has none",
        "core/scheduling/rank.py",
        "if spec.resources.share_milli != WHOLE_MILLI and not can.parts:",
        "if False:",
        ("engine-lacks",),
        seed=20,
    ),
    Mutation(
        "anybody is placed on a tenant's own engine",
        "core/scheduling/rank.py",
        'if can.tenant not in ("", tenant):',
        "if False:",
        ("engine-lacks",),
        seed=30,
    ),
    Mutation(
        "what an engine could do once, it can do for ever",
        "core/decide.py",
        "if world.state.engines.get(engine) != capabilities:",
        "if engine not in world.state.engines:",
        ("engine-unknown",),
        seed=30,
    ),
    Mutation(
        "a node that has less than the estate says gets work",
        "reconcile.py",
        "for one in mismatches(fleet, of, engine) if one.is_short}",
        "for one in mismatches(fleet, of, engine) if False}",
        ("unseen",),
        seed=18,
    ),
    Mutation(
        "who was paused for the grid goes on beyond what it allows",
        "core/power/ladder.py",
        "placement.stop_reason is None and not is_over and _take(room_w, needs_w)",
        "placement.stop_reason is None",
        (
            "lifted-above",
            "power",
        ),
        seed=163,
    ),
    Mutation(
        "who was paused for the grid never goes on",
        "core/power/ladder.py",
        "placement.stop_reason is None and not is_over and _take(room_w, needs_w)",
        "False",
        (
            "not-lifted",
            "held",
            "restless",
            "not-resumed",
        ),
        seed=163,
    ),
    Mutation(
        "the last rung goes first",
        "core/power/ladder.py",
        "    free.sort(key=lambda one: one.key)\n",
        "    free.sort(key=lambda one: one.key, reverse=True)\n",
        ("rungs",),
        seed=1554,
    ),
    Mutation(
        "a pause that shows nothing is waited for for ever",
        "core/power/ladder.py",
        "return max(placement.curtailed_ms, begun_ms) + PAUSE_MS",
        "return 1 << 62",
        (
            "grid-over",
            "unshed",
        ),
        seed=356,
    ),
    Mutation(
        "pauses are ordered when an instruction begins",
        "core/power/ladder.py",
        "return target.is_on or left_ms <= PAUSE_LEAD_MS",
        "return target.is_on",
        ("grid-over",),
        seed=189,
    ),
    Mutation(
        "ends are ordered when an instruction begins",
        "core/power/ladder.py",
        "return left_ms <= 2 * (min(one.grace_ms, MOST_GRACE_MS) + SEEN_MS)",
        "return False",
        ("grid-over",),
        seed=175,
    ),
    Mutation(
        "there is shedding after the end of an instruction",
        "core/power/ladder.py",
        "if one.was_in_force and one.is_open(now_ms) and now_ms >= one.leads_ms:",
        "if one.was_in_force and now_ms >= one.leads_ms:",
        (
            "uncurtailed",
            "not-lifted",
            "needless",
        ),
        seed=28,
    ),
    Mutation(
        "all that can be shed is shed",
        "core/power/ladder.py",
        "        if over_w <= 0:\n            return free[:count], over_w\n",
        "",
        ("needless",),
        seed=175,
    ),
    Mutation(
        "firm work is shed",
        "core/power/shedding.py",
        "            return Rung.KEEP\n        case _:",
        "            return Rung.PREEMPT\n        case _:",
        ("firm-shed",),
        seed=261,
    ),
    Mutation(
        "work starts until an instruction begins",
        "core/power/limits.py",
        "if now_ms < standing.leads_ms or not",
        "if now_ms < one.from_ms or not",
        (
            "started-above",
            "lifted-above",
        ),
        seed=28,
    ),
    Mutation(
        "after an instruction all comes back at once",
        "core/power/limits.py",
        "return one.limit_w + ramp_up_w * since_ms // MS_PER_MINUTE",
        "return NO_LIMIT_W",
        (
            "started-above",
            "lifted-above",
        ),
        seed=41,
    ),
    Mutation(
        "of several instructions one counts",
        "core/power/limits.py",
        "start_w = min(start_w, now_w)",
        "start_w = now_w",
        (
            "started-above",
            "lifted-above",
            "power",
        ),
        seed=8,
    ),
    Mutation(
        "firm work is no floor",
        "core/power/floors.py",
        "_GO = frozenset({Rung.MINERS, Rung.PREEMPT, Rung.REQUEUE})",
        "_GO = frozenset({Rung.MINERS, Rung.PREEMPT, Rung.REQUEUE, Rung.KEEP})",
        (
            "accepted-low",
            "no-alarm",
            "grid-over",
        ),
        seed=650,
    ),
    Mutation(
        "an instruction below the floor is taken",
        "core/power/grid.py",
        "if short is not None and not command.binding:",
        "if False:",
        ("accepted-low",),
        seed=26,
    ),
    Mutation(
        "nobody is told that an instruction can't be met",
        "core/power/grid.py",
        "    if short is not None:\n        yield ev.AlarmRaised(1, one.site, short.message)\n",
        "",
        ("no-alarm",),
        seed=83,
    ),
    Mutation(
        "an instruction that binds is refused",
        "core/power/grid.py",
        "if short is not None and not command.binding:",
        "if short is not None:",
        ("refused-wrongly",),
        seed=83,
    ),
    Mutation(
        "an instruction that can be met is refused",
        "core/power/grid.py",
        "short = _below_floor(world, one)",
        "short = _below_floor(world, type(one)(one.id, one.site, one.limit_w * 2 // 3, one.from_ms))",
        ("refused-wrongly",),
        seed=4,
    ),
    Mutation(
        "a withdrawn instruction stands",
        "core/apply.py",
        "    standing[event.instruction] = standing[event.instruction].ended(committed.at_ms)\n",
        "",
        (
            "uncurtailed",
            "not-lifted",
            "restless",
            "held",
        ),
        seed=524,
    ),
    Mutation(
        "who may go on counts as paused",
        "core/power/applied.py",
        "    # It counts in full before any engine lets it go on.\n    world.quieten(placement, quiet=False)\n",
        "",
        (
            "power",
            "lifted-above",
            "started-above",
            "column",
        ),
        seed=650,
    ),
    Mutation(
        "whoever is paused counts as shed",
        "core/apply.py",
        "bool(event.paused and placement.curtailed) and applied.sheds",
        "event.paused and applied.sheds",
        (
            "power",
            "started-above",
            "grid-over",
            "column",
        ),
        seed=231,
    ),
    Mutation(
        "a pause counts the wrong way round",
        "core/world.py",
        "columns.power_w[element] += change_w if quiet else -change_w",
        "columns.power_w[element] += change_w",
        (
            "column",
            "power",
            "lifted-above",
            "started-above",
        ),
        seed=189,
    ),
    Mutation(
        "the planner knows nothing of instructions",
        "core/world.py",
        "            power_limit_w=self.power_limit_w,",
        "            power_limit_w=self.fleet.power_limit_w,",
        ("started-above",),
        seed=8,
    ),
    Mutation(
        "engines are told nothing of pauses for the grid",
        "reconcile.py",
        'return "pause" if work.pause_wanted or placement.curtailed else "resume"',
        'return "pause" if work.pause_wanted else "resume"',
        (
            "woken",
            "grid-over",
        ),
        seed=163,
    ),
)

_FIND = """
import sys
from headrace.sim.run import run_seed
rules = sys.argv[2].split(",")
for seed in (int(sys.argv[1]), *range({tried})):
    found = [one.rule for one in run_seed(seed, sys.argv[3]).violations]
    if any(rule in rules for rule in found):
        print(seed)
        sys.exit(1)
"""


def mutate(mutation: Mutation, folder: Path) -> Path:
    """A copy of the source with the mutation in it."""
    copy = folder / "headrace"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    path = copy / mutation.path
    text = path.read_text()
    assert text.count(mutation.old) == 1, f"{mutation.path} has changed: mend the mutation {mutation.name!r}"
    path.write_text(text.replace(mutation.old, mutation.new))
    return folder


def assert_found(mutation: Mutation, folder: Path) -> None:
    """Some world in which the production code has the mutation breaks one of its rules."""
    folder = mutate(mutation, folder)
    others = [path for path in sys.path if path and Path(path).resolve() != SOURCE.parent]
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder), *others]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [
        sys.executable,
        "-c",
        _FIND.format(tried=TRIED),
        str(mutation.seed),
        ",".join(mutation.rules),
        mutation.kind,
    ]
    run = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 1, "no seed found it"
    assert run.stdout.strip().isdigit(), run.stderr[-2000:]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: one.name.replace(" ", "-"))
def test_a_mutation_of_the_production_code_is_found(mutation: Mutation, tmp_path: Path) -> None:
    """Some world breaks the promise, and its checker says so."""
    assert_found(mutation, tmp_path)
