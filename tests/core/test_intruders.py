"""What somebody runs behind the operator's back: counted at nameplate at once, nothing is placed beside it, alarmed."""

from dataclasses import replace

import pytest

from headrace.core import commands as c
from headrace.core import events as ev
from headrace.core.errors import HeadraceError
from headrace.core.ids import NodeId, WorkloadId
from headrace.core.observation import Capabilities, NodeReport
from headrace.core.scheduling.check import check
from headrace.core.workload import Flex, Resources, State, WorkloadType
from tests.core.small import ALBION, FJORD, RUNNING, Core, core, derived, ended, estate, job, rebuilt, site

NODE = NodeId("fjord/b/g-0-0")
BESIDE = NodeId("fjord/b/g-0-1")


def intrude(one: Core, who: str, node: NodeId = NODE) -> list[ev.Event]:
    """Let the engine say who else runs something on a node."""
    return one.made(c.Observe((), nodes=(NodeReport(node, up=True, foreign=who),)))


def drawn_w(one: Core, element: str) -> int:
    """What is counted below an element of the power tree."""
    index = {str(name): number for number, name in enumerate(one.world.fleet.power_ids)}
    return int(one.world.power_w[index[element]])


def test_a_node_that_somebody_else_uses_draws_its_nameplate_and_takes_no_work() -> None:
    """Promise 1, and at once; said once each way, and everything derived is as if made anew."""
    one = core()
    assert [drawn_w(one, name) for name in ("fjord", "fjord/b", "fjord/b/g-0")] == [800, 800, 400]
    assert intrude(one, "job 7 of root") == [ev.NodeIntruded(NODE, "job 7 of root")]
    assert intrude(one, "job 7 of root") == []
    assert [drawn_w(one, name) for name in ("fjord", "fjord/b", "fjord/b/g-0")] == [1_600, 1_600, 1_200]
    assert derived(one.world) == derived(rebuilt(one.world))
    assert one.put(one.submit(job())[0], NODE).rejected == (("acme-1", "NODE_STATE"),)
    assert one.put(WorkloadId("acme-1"), BESIDE).made == ("acme-1.1",)
    assert check(one.world.snapshot(one.now_ms), one.plan()) == []
    assert intrude(one, "") == [ev.NodeIntruded(NODE, "")]
    assert drawn_w(one, "fjord") == 800 + 275
    assert derived(one.world) == derived(rebuilt(one.world))
    assert one.put(one.submit(job())[0], NODE).made == ("acme-2.1",)


def test_what_ends_beside_an_intruder_gives_no_power_back() -> None:
    """The node counts in full whatever runs on it, and is right again once all have gone."""
    one = core()
    work, placement = one.started(job())
    (rank,) = one.state.placements[placement].ranks
    node, site_ = NodeId(rank.node), rank.node.split("/")[0]
    intrude(one, "job 7 of root", node)
    before_w = drawn_w(one, site_)
    one.report(placement, ended(0))
    assert work.state is State.SUCCEEDED
    assert drawn_w(one, site_) == before_w
    assert derived(one.world) == derived(rebuilt(one.world))
    intrude(one, "", node)
    assert drawn_w(one, site_) == before_w - 800


def test_an_alarm_says_which_limit_an_intruder_may_pass() -> None:
    """Promise 1 is kept for what is placed here; what comes behind our back is told where it hurts."""
    one = core(estate(site(FJORD, "NO", limit_w=1_100)))
    events = intrude(one, "job 7 of root")
    assert [type(event).__name__ for event in events] == ["NodeIntruded", "AlarmRaised"]
    assert events[1] == ev.AlarmRaised(
        1, "fjord", f"1200 W could be drawn, 1100 W are allowed: job 7 of root runs on {NODE}"
    )
    assert [type(event).__name__ for event in intrude(one, "job 8 of root")] == ["NodeIntruded"]


def test_who_runs_something_on_a_node_without_a_day_has_shown_that_it_is_there() -> None:
    """Promise 1: before its day nothing of a block is counted, but for what draws all the same."""
    coming = site(FJORD, "NO", limit_w=900)
    coming = replace(coming, blocks=(replace(coming.blocks[0], commissioned=""),))
    one = core(estate(coming, site(ALBION, "GB")))
    assert drawn_w(one, "fjord") == 0
    assert [type(event).__name__ for event in intrude(one, "job 7 of root")] == [
        "NodeIntruded",
        "AlarmRaised",
    ]
    assert drawn_w(one, "fjord") == 1_000
    assert derived(one.world) == derived(rebuilt(one.world))
    assert check(one.world.snapshot(one.now_ms), one.plan()) == []
    intrude(one, "")
    assert drawn_w(one, "fjord") == 0
    assert derived(one.world) == derived(rebuilt(one.world))


@pytest.mark.parametrize("ranks", [1, 30])
def test_nobody_is_told_to_go_for_watts_that_strangers_draw(ranks: int) -> None:
    """What ends beside them spares nothing, and its node is nobody's: that it goes would help no one."""
    one = core(estate(site(FJORD, "NO", limit_w=1_900)))
    filler = job(
        type=WorkloadType.FILLER,
        flex=Flex.PREEMPTIBLE,
        resources=Resources("lab" if ranks == 1 else "", ranks == 1, 10, 16),
    )
    for ident in one.submit(*(filler,) * ranks):
        placement = one.put(ident, NODE, mask=int(ranks == 1)).made[0]
        one.report(placement, RUNNING)
    one.submit(job(resources=Resources("lab", 4, 250, 16)))
    assert one.plan().placements
    intrude(one, "job 7 of root")
    assert (one.plan().placements, one.plan().evictions) == ((), ())


def test_the_planner_places_around_intruders() -> None:
    """Neither their nodes nor the power that they may draw are there for others."""
    one = core(estate(site(FJORD, "NO", limit_w=1_475)))
    intrude(one, "job 7 of root")
    one.submit(job(), job())
    (placement,) = one.place()
    assert one.state.placements[placement].ranks[0].node == BESIDE
    assert check(one.world.snapshot(one.now_ms), one.plan()) == []
    one.report(placement, RUNNING)
    intrude(one, "")
    assert len(one.place()) == 1


def test_what_an_engine_says_it_can_do_is_on_record_once() -> None:
    """A later control plane that says the same adds nothing to the journal."""
    one = core()
    can = Capabilities("uid", pause=True, ports=True, parts=False)
    assert one.made(c.DeclareEngines({"local": can})) == [ev.EngineDeclared("local", can)]
    assert one.made(c.DeclareEngines({"local": can})) == []
    assert one.state.engines == {"local": can}


def test_a_part_of_an_accelerator_is_refused_where_engines_give_whole_ones_alone() -> None:
    """At once where no site can; and where one can, that is where it goes."""
    part = job(resources=Resources("lab", 1, 250, 16, 500))
    one = core(estate(site(FJORD, "NO"), site(ALBION, "GB", engine="narvik")))
    can = Capabilities("uid", pause=True, ports=True)
    one.do(
        c.DeclareEngines({"narvik": Capabilities("uid", pause=True, ports=True, parts=False), "local": can})
    )
    one.submit(part)
    (placement,) = one.place()
    assert one.state.placements[placement].site == FJORD
    with pytest.raises(
        HeadraceError, match="engine narvik gives whole accelerators alone: ask for gpu: MODEL:1"
    ):
        one.submit(job(site=ALBION, resources=Resources("lab", 1, 250, 16, 500)))
