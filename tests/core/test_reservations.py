"""What was admitted stays: documents that would break a reservation are refused, and a breach raises an alarm."""

from dataclasses import replace
from typing import Any

import pytest

from headrace.core import commands as c
from headrace.core import events as ev
from headrace.core.codec import document_name, normalise
from headrace.core.contracts import Maintenance, Reservation
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.estate import Site
from headrace.core.ids import NodeId, WindowId
from headrace.core.planning.whatif import Changes, what_if
from headrace.core.scheduling.explain import explain
from headrace.core.units import MS_PER_HOUR, MS_PER_MINUTE
from headrace.core.workload import Flex, Resources, Topology
from tests.core.small import (
    ACME,
    ALBION,
    BOREALIS,
    FJORD,
    RUNNING,
    START_MS,
    Core,
    core,
    document,
    ended,
    estate,
    job,
    site,
    tenant,
)

WHOLE = Resources("lab", 4, 250, 16)
R1 = WindowId("r1")


def declared(window: Reservation | Maintenance) -> c.NormalisedDocument:
    kind = "reservation" if isinstance(window, Reservation) else "maintenance"
    name = document_name(window)
    return c.NormalisedDocument(kind, name, normalise(kind, name, window))


def reservation(nodes: int = 4, starts_ms: int = MS_PER_HOUR, **more: Any) -> Reservation:
    values = (R1, ACME, FJORD, "lab", nodes, START_MS + starts_ms, START_MS + starts_ms + 4 * MS_PER_HOUR)
    return replace(Reservation(*values), **more)


def reserving(nodes: int = 4, **more: Any) -> Core:
    """A core with a reservation that was admitted."""
    one = core()
    one.do(c.ApplyDocuments((declared(reservation(nodes, **more)),)))
    assert len(one.state.reserved[R1]) == nodes
    return one


def fjord(**more: Any) -> Site:
    return site(FJORD, "NO", **({"racks": 2} | more))


def refused(one: Core, *values: Any) -> Problem:
    """The only problem of applying documents."""
    with pytest.raises(HeadraceError) as raised:
        one.apply(*values)
    (problem,) = raised.value.problems
    return problem


BREAKING = {
    "less power": fjord(limit_w=2_500),
    "fewer racks": fjord(racks=1),
    "a later day": replace(fjord(), blocks=(replace(fjord().blocks[0], commissioned="2031-01-01"),)),
    "other hardware": replace(
        fjord(),
        blocks=(
            replace(fjord().blocks[0], groups=(replace(fjord().blocks[0].groups[0], hardware="h100-8"),)),
        ),
    ),
}


class TestEstate:
    """Another estate keeps every reservation, or is refused."""

    @pytest.mark.parametrize("what", [name for name in BREAKING if name != "other hardware"])
    def test_what_would_break_a_reservation_is_refused_by_its_name(self, what: str) -> None:
        """Nothing runs yet, so that nothing else is in the way."""
        one = reserving()
        problem = refused(one, estate(BREAKING[what], site(ALBION, "GB")))
        assert problem.code is ProblemCode.IN_USE
        assert problem.message.startswith("reservation r1 was admitted and would be broken: ")
        assert problem.next_step == "Keep what it needs, change it, or remove it first."

    def test_hardware_that_nobody_has_any_more_is_refused_too(self) -> None:
        """As a name that refers to nothing."""
        problem = refused(reserving(), estate(BREAKING["other hardware"], site(ALBION, "GB")))
        assert problem.where == "reservation r1"

    def test_it_may_shrink_beside_the_reservation(self) -> None:
        """Its nodes stay where they are."""
        one = reserving(2)
        had = one.state.reserved[R1]
        assert had == ("fjord/b/g-0-0", "fjord/b/g-0-1")
        one.apply(estate(fjord(racks=1), site(ALBION, "GB")))
        assert one.state.reserved[R1] == had

    def test_a_site_is_not_dedicated_to_another_over_it(self) -> None:
        """Its owner could not use it any more."""
        one = reserving(2)
        problem = refused(one, estate(fjord(dedicated_to=BOREALIS), site(ALBION, "GB")))
        assert "site fjord is dedicated to borealis: no work of acme could run there" in problem.message

    def test_what_is_broken_already_holds_up_no_change(self) -> None:
        """A node is drained, an alarm says so; the estate may still be changed."""
        one = reserving()
        one.do(c.SetNodes((NodeId("fjord/b/g-0-0"),), "draining", "fan"))
        assert [type(event) for event in one.events[-1:]] == [ev.AlarmRaised]
        one.apply(estate(fjord(limit_w=90_000), site(ALBION, "GB")))

    def test_another_node_is_reserved_for_one_that_goes_down(self) -> None:
        """What was sold is there as long as there is anything else; when there is not, an alarm says so."""
        for nodes, said in ((2, ev.NodesReserved), (4, ev.AlarmRaised)):
            one = reserving(nodes)
            lost = NodeId("fjord/b/g-0-0")
            down, then = one.node(lost, up=False, reason="no heartbeat")
            assert (type(down), type(then)) == (ev.NodeStateChanged, said)
            assert (lost in one.state.reserved[R1]) == (said is ev.AlarmRaised)
            assert len(one.state.reserved[R1]) == nodes

    def test_what_if_reports_it_and_goes_on(self) -> None:
        """The reservation's name is among the conflicts."""
        one = reserving()
        for changed in (BREAKING["less power"], BREAKING["fewer racks"]):
            documents = (document(estate(changed, site(ALBION, "GB"))),)
            found = what_if(one.world, Changes(documents), one.now_ms)
            assert [line.partition(" was")[0] for line in found.conflicts] == ["reservation r1"]


class TestAlarm:
    """A window that begins while others are on its nodes is a breach that is said."""

    def late(self, **more: Any) -> Core:
        """Who was to go for a window does not end."""
        one = core()
        one.started(job("late", resources=WHOLE, flex=Flex.PREEMPTIBLE, site=FJORD, **more))
        one.do(c.ApplyDocuments((declared(reservation()),)))
        return one

    def round(self, one: Core, at_ms: int) -> list[ev.Event]:
        one.now_ms = START_MS + at_ms
        one.place()
        return [event for event in one.made(c.Observe(())) if isinstance(event, ev.AlarmRaised)]

    def test_it_is_raised_once_when_the_window_begins(self) -> None:
        """Not before, and not again after a day of more rounds."""
        one = self.late()
        assert self.round(one, MS_PER_HOUR - MS_PER_MINUTE) == []
        assert self.round(one, MS_PER_HOUR - 1) == []
        (alarm,) = self.round(one, MS_PER_HOUR)
        text = "it has begun, and 1 workloads of others are still on its nodes: acme-1"
        assert alarm == ev.AlarmRaised(5, "r1", text)
        one.world.cleared.clear()
        assert self.round(one, MS_PER_HOUR + MS_PER_MINUTE) == []

    def test_who_has_left_raises_none_and_neither_does_its_own_work(self) -> None:
        """It was told a minute before."""
        one = self.late()
        self.round(one, MS_PER_HOUR - MS_PER_MINUTE)
        (placement,) = one.state.placements
        one.report(placement, ended(0, 143))
        one.submit(job("own", nodes=4, resources=WHOLE, reservation=R1))
        assert self.round(one, MS_PER_HOUR) == []
        for made in one.state.placements.values():
            one.report(made.id, *(RUNNING for _ in made.ranks))
        assert self.round(one, MS_PER_HOUR + MS_PER_MINUTE) == []
        assert len(one.state.placements) == 1

    def test_for_a_reservation_that_began_before_it_was_admitted_they_have_their_grace(self) -> None:
        """They are told when it is there; only then does their time run."""
        one = core()
        one.started(job("late", resources=WHOLE, flex=Flex.PREEMPTIBLE, site=FJORD))
        one.do(c.ApplyDocuments((declared(reservation(starts_ms=-MS_PER_HOUR)),)))
        assert self.round(one, 1) == []
        assert self.round(one, MS_PER_MINUTE) == []
        assert len(self.round(one, MS_PER_MINUTE + 1)) == 1


class TestAdmission:
    """What decides whether a workload could ever be placed is found once for all that ask the same."""

    def test_names_and_priorities_make_no_new_question(self) -> None:
        """Nor do commands; another number of nodes does."""
        one = core()
        one.submit(job("a"), job("b", priority=3), job("c", commands=("sleep 1",), env={"A": "b"}))
        assert len(one.world.admissions) == 1
        one.submit(job("d", nodes=2), job("e", topology=Topology("rack", "", required=True)))
        assert len(one.world.admissions) == 3

    def test_a_name_that_there_is_not_is_found_whatever_was_asked_before(self) -> None:
        """The ask is known, the project is not; and neither is so high a priority."""
        one = core(tenant(ACME, max_priority=5))
        one.submit(job("a"))
        for wrong in (
            job("b", project="other"),
            job("c", priority=6),
            job("d", reservation=WindowId("none")),
        ):
            with pytest.raises(HeadraceError):
                one.submit(wrong)

    def test_another_tenants_site_answers_as_a_country_without_one(self) -> None:
        """Word for word, but for the country."""
        one = core()
        one.apply(estate(fjord(), site(ALBION, "GB"), site("hidden", "SE", dedicated_to=BOREALIS)))  # type: ignore[arg-type]
        lines = []
        for country in ("SE", "DK"):
            policy = replace(job().policy, countries=(country,))
            (ident,) = one.submit(job(policy=policy))
            lines.append(one.state.workloads[ident].reason.replace(country, "??"))
        assert lines[0] == lines[1] == "JURISDICTION: policy countries ??; sites are in GB, NO"


class TestWhatIf:
    """What would silently do nothing is refused."""

    @pytest.mark.parametrize(
        ("changes", "where", "said"),
        [
            (Changes(at_ms=START_MS - 1), "at", "at is in the past."),
            (Changes(at_ms=253_402_300_799_000), "at", "at is more than ten years ahead."),
            (Changes(evict=True), "evict", "evict without drain does nothing."),
        ],
    )
    def test_what_makes_no_sense(self, changes: Changes, where: str, said: str) -> None:
        """With the place of it."""
        with pytest.raises(HeadraceError) as raised:
            what_if(core().world, changes, START_MS)
        assert [(one.where, one.message) for one in raised.value.problems] == [(where, said)]

    def test_a_tenant_that_is_gone_starts_nothing(self) -> None:
        """Neither what waits nor what ran; that it is in use is said."""
        one = core()
        one.started(job("runs"))
        one.submit(job("waits"))
        found = what_if(one.world, Changes(removed=("tenant/acme", "contract/c-acme")), one.now_ms)
        assert len(found.now.starts) == 1
        assert found.then.starts == ()
        assert found.then.waiting == 0
        assert any(line.startswith("tenant acme is in use") for line in found.conflicts)

    def test_a_maintenance_for_ever_can_be_explained(self) -> None:
        """Its end is no moment in every zone."""
        one = core()
        end_ms = 253_402_300_799_000
        window = Maintenance(WindowId("m"), FJORD, START_MS - 1, end_ms)
        one.do(c.ApplyDocuments((declared(window),)))
        (ident,) = one.submit(job(site=FJORD))
        line = explain(one.world.snapshot(one.now_ms), ident).line
        assert "at the earliest at the end of time (in " in line
