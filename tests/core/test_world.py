"""The world: whatever happens, its columns are those of its state, and its state can be written down and read again."""

from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core import commands as c
from headrace.core.authority import Role
from headrace.core.codec import Core as Value
from headrace.core.errors import HeadraceError
from headrace.core.ids import ContractId, NodeId, PlacementId, PowerNodeId, SiteId, TokenId, WorkloadId
from headrace.core.observation import NodeReport, PlacementReport, RankReport, RankState
from headrace.core.state import State as Canonical
from headrace.core.units import MS_PER_DAY
from headrace.core.workload import (
    HOLDING,
    TERMINAL,
    TRANSITIONS,
    Flex,
    PolicyRef,
    Resources,
    State,
    WorkloadType,
)
from headrace.core.world import World
from headrace.journal.checkpoint import Checkpoint, encode_checkpoint
from headrace.journal.codec import Chain
from tests.core.small import (
    ACME,
    ALBION,
    BOREALIS,
    FJORD,
    RUNNING,
    START_MS,
    Core,
    columns,
    contract,
    core,
    derived,
    document,
    estate,
    job,
    rebuilt,
    service,
    site,
    tenant,
)

Draw = st.DataObject
ESTATES = (
    estate(),
    estate(site(FJORD, "NO", racks=2, limit_w=2_500), site(ALBION, "GB")),
    estate(site(FJORD, "NO", racks=1), site(ALBION, "GB")),
    estate(site(FJORD, "SE", racks=2), site(ALBION, "GB", dedicated_to=BOREALIS)),
)


def written(state: Canonical) -> bytes:
    return encode_checkpoint(state, Chain())


class Life:
    """A core to which anything happens, and what must hold after each event of it."""

    def __init__(self) -> None:
        self.core = core()
        self.core.after = self.check
        self.states: dict[str, State] = {}

    def check(self) -> None:
        """Workloads move along the table; what holds has a placement, and nothing else has."""
        state = self.core.state
        for ident, work in state.workloads.items():
            before = self.states.get(ident, State.QUEUED)
            assert work.state is before or work.state in TRANSITIONS[before], (before, work.state)
            self.states[ident] = work.state
            assert (work.placement is not None) is (work.state in HOLDING), (ident, work.state)
            assert (ident in self.core.world.queue) is (work.state is State.QUEUED)
            assert work.placement is None or state.placements[work.placement].workload == ident
        assert len(state.placements) == sum(work.placement is not None for work in state.workloads.values())
        assert derived(self.core.world) == derived(rebuilt(self.core.world))

    def do(self, command: c.Command) -> None:
        """A command; one that is refused changes nothing."""
        before, version = written(self.core.state), self.core.state.version
        try:
            self.core.do(command)
        except HeadraceError:
            assert written(self.core.state) == before
        if self.core.state.version == version:
            assert written(self.core.state) == before

    def step(self, data: Draw) -> None:
        self.core.now_ms += data.draw(st.sampled_from((0, 1_000, 60_000, 400_000, MS_PER_DAY)))
        data.draw(st.sampled_from(STEPS))(self, data)

    def some_work(self, data: Draw) -> WorkloadId | None:
        known = sorted(self.core.state.workloads)
        return data.draw(st.sampled_from(known)) if known else None

    def some_placement(self, data: Draw) -> PlacementId | None:
        known = sorted(self.core.state.placements)
        return data.draw(st.sampled_from(known)) if known else None


def _submit(life: Life, data: Draw) -> None:
    spec = job(
        type=data.draw(st.sampled_from(WorkloadType)),
        nodes=data.draw(st.integers(1, 3)),
        resources=Resources("lab", data.draw(st.integers(1, 4)), 500, 100),
        priority=data.draw(st.integers(0, 2)),
        flex=data.draw(st.sampled_from(Flex)),
        policy=PolicyRef(countries=data.draw(st.sampled_from(((), ("NO",), ("SE",))))),
        counters=data.draw(st.sampled_from(("", "llamacpp"))),
    )
    whose = data.draw(st.sampled_from((ACME, BOREALIS)))
    life.do(c.Submit(whose, (spec, replace(spec, nodes=1)), "digest"))


def _plan(life: Life, _: Draw) -> None:
    life.do(c.AdoptPlan(life.core.plan()))


def _start(life: Life, _: Draw) -> None:
    for placement in list(life.core.state.placements.values()):
        ranks = tuple(RankReport(number, RUNNING) for number in range(len(placement.ranks)))
        life.do(c.Observe((PlacementReport(placement.id, life.core.state.epoch, ranks),), isolation="none"))


def _report(life: Life, data: Draw) -> None:
    """Anything that an engine could say of one placement, and what it can't: durations that go back."""
    ident = life.some_placement(data)
    if ident is None:
        return
    ranks = []
    for number in range(len(life.core.state.placements[ident].ranks)):
        how = data.draw(st.sampled_from(RankState))
        code = data.draw(st.sampled_from((0, 1, 143))) if how is RankState.EXITED else None
        reason = data.draw(st.sampled_from(("", "", "max_duration", "start_failed"))) if code else ""
        ran, stood = data.draw(st.integers(0, 10**6)), data.draw(st.integers(0, 10**6))
        ranks.append(RankReport(number, how, ran, stood, code, reason))
    report = PlacementReport(ident, life.core.state.epoch, tuple(ranks))
    meter = data.draw(st.sampled_from((None, 0, 60_000)))
    life.do(c.Observe((report,), isolation="none", meter_ms=meter))


def _lose(life: Life, data: Draw) -> None:
    ident = life.some_placement(data)
    if ident is not None:
        missing = data.draw(st.booleans())
        life.do(c.Observe((), missing=(ident,)) if missing else c.Observe((), failed=((ident, "why"),)))


def _stop(life: Life, data: Draw) -> None:
    ident = life.some_work(data)
    if ident is not None:
        life.do(c.Stop(ident))


def _pause(life: Life, data: Draw) -> None:
    ident = life.some_work(data)
    if ident is not None:
        life.do(c.Pause(ident, data.draw(st.booleans())))


def _node(life: Life, data: Draw) -> None:
    node = NodeId(data.draw(st.sampled_from(sorted(life.core.world.fleet.node_ids))))
    if data.draw(st.booleans()):
        life.do(c.Observe((), nodes=(NodeReport(node, data.draw(st.booleans())),)))
    else:
        how = data.draw(st.sampled_from(("draining", "ready")))
        life.do(c.SetNodes((node,), how, "a fan", data.draw(st.booleans())))


def _document(life: Life, data: Draw) -> None:
    reserved = contract(ACME, id=ContractId("r-acme"), kind="reserved", accelerators=2, model="lab")
    values: list[Value] = [
        *ESTATES,
        tenant(ACME, policy="nordic-only"),
        tenant(ACME, "main", "side"),
        reserved,
    ]
    value = data.draw(st.sampled_from(values))
    life.do(c.ApplyDocuments((document(value),)))


def _remove(life: Life, data: Draw) -> None:
    kind, name = data.draw(
        st.sampled_from((("tenant", "borealis"), ("contract", "c-borealis"), ("contract", "r-acme")))
    )
    life.do(c.RemoveDocument(kind, name))


def _tokens(life: Life, data: Draw) -> None:
    ident = life.some_placement(data)
    if ident is not None:
        batch = life.core.state.placements[ident].token_batches
        life.do(c.RecordTokens(ident, batch, data.draw(st.integers(0, 99)), data.draw(st.integers(0, 99))))


def _money(life: Life, data: Draw) -> None:
    whose = data.draw(st.sampled_from((ACME, BOREALIS)))
    life.do(c.IssueInvoices(whose, "2026-11"))
    for number in list(life.core.state.invoices):
        life.do(c.IssueCreditNote(number, data.draw(st.integers(1, 1_000)), "goodwill"))


def _rights(life: Life, data: Draw) -> None:
    life.do(c.IssueToken(data.draw(st.sampled_from("123")) * 64, Role.TENANT_MEMBER, ACME))
    life.do(c.RevokeToken(TokenId(f"t-{data.draw(st.integers(1, 3))}")))


STEPS: tuple[Callable[[Life, Draw], None], ...] = (
    _submit, _submit, _plan, _plan, _start, _report, _report, _report, _lose, _stop, _pause, _node, _document, _remove,
    _tokens, _money, _rights,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_happens_columns_states_and_checkpoints_agree(data: Draw) -> None:
    """After every event: states moved along the table, and the columns are those of a world made anew.

    At the end the state is written and read again, equal; and the world made of that goes on alike.
    """
    life = Life()
    for _ in range(data.draw(st.integers(5, 40))):
        life.step(data)
    raw = written(life.core.state)
    read = msgspec.json.decode(raw, type=Checkpoint).state
    assert read == life.core.state
    assert written(read) == raw
    other = Core(World(read), life.core.now_ms)
    assert derived(other.world) == derived(rebuilt(life.core.world))
    assert other.plan() == Core(rebuilt(life.core.world), life.core.now_ms).plan()


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_what_began_can_be_ended(data: Draw) -> None:
    """From anywhere: everything stopped, the engines done, nothing is held and no accelerator is taken."""
    life = Life()
    for _ in range(data.draw(st.integers(5, 40))):
        life.step(data)
    one = life.core
    for ident in list(one.state.workloads):
        life.do(c.Stop(ident))
    for placement in list(one.state.placements):
        life.do(c.Observe((), missing=(placement,)))
    assert {work.state for work in one.state.workloads.values()} <= TERMINAL
    assert one.state.placements == {}
    assert one.world.unsettled == {}
    found = columns(one.world)
    for name in ("node_mask", "node_cpu_milli", "node_memory_mb", "node_ranks"):
        assert set(found[name]) <= {0}, name
    assert found["power_w"] == columns(World(replace(one.state)))["power_w"]


def test_power_is_what_all_nodes_can_draw_and_is_summed_up_the_tree() -> None:
    """Idle nodes draw idle watts; a node that works draws its base, the taken and the idle accelerators."""
    one = core()
    at = one.world.fleet.power_index
    site_w, rack_w = int(at[PowerNodeId("fjord")]), int(at[PowerNodeId("fjord/b/g-0")])
    assert one.world.power_w[site_w] == 4 * 200
    assert one.world.power_w[rack_w] == 2 * 200
    ident = one.submit(job(nodes=2, resources=Resources("lab", 2)))[0]
    one.put(ident, "fjord/b/g-0-0", "fjord/b/g-1-0", mask=3)
    busy_w = 1_000 - 4 * 200 + 2 * 200 + 2 * 25
    assert one.world.power_w[rack_w] == busy_w + 200
    assert one.world.power_w[site_w] == 2 * busy_w + 2 * 200
    one.missing(PlacementId(f"{ident}.1"))
    assert one.world.power_w[site_w] == 4 * 200


def test_nodes_count_from_the_day_of_their_commissioning_in_utc() -> None:
    """Before it they can't be placed on; with the day they are there, without any event. Their idle draw is kept free."""
    day = "2026-11-20"
    late = replace(site(FJORD, "NO"), blocks=(replace(site(FJORD, "NO").blocks[0], commissioned=day),))
    one = core(estate(late, site(ALBION, "GB")))
    ident = one.submit(job(site=FJORD))[0]
    begin = (START_MS // MS_PER_DAY + 2) * MS_PER_DAY
    for now_ms, there in ((begin - 1, False), (begin, True)):
        one.now_ms = now_ms
        snapshot = one.world.snapshot(now_ms)
        at = one.world.fleet.node_index[NodeId("fjord/b/g-0-0")]
        assert bool(snapshot.node_open[at]) is there
        assert one.world.power_w[one.world.fleet.power_index[PowerNodeId("fjord")]] == 2 * 200
        assert [part.workload for part in one.plan().placements] == ([ident] if there else [])


def test_a_contract_is_found_by_the_day_in_the_operators_zone() -> None:
    """It begins at midnight in Oslo, which is 23:00 of the day before in UTC."""
    one = core(contract(ACME, starts="2026-11-20"))
    midnight = (START_MS // MS_PER_DAY + 2) * MS_PER_DAY - 3_600_000
    for now_ms, there in ((midnight - 1, False), (midnight, True)):
        one.world.at(now_ms)
        found = one.world.contract_for(ACME, 0, "lab", None)
        assert (found is not None) is there


def test_a_verdict_of_a_place_is_decided_anew_when_the_documents_change() -> None:
    """What is remembered by class must not outlive what it rests on."""
    one = core()
    norway = PolicyRef(countries=("NO",))
    assert one.world.place_verdict(ACME, norway, 0).allowed
    one.apply(estate(site(FJORD, "SE", racks=2), site(ALBION, "GB")))
    assert not one.world.place_verdict(ACME, norway, 0).allowed
    assert one.world.place_verdict(ACME, PolicyRef(), 1).allowed
    one.apply(tenant(ACME, policy="nordic-only"))
    assert not one.world.place_verdict(ACME, PolicyRef(), 1).allowed


def test_a_requeued_workload_keeps_its_place_in_the_line() -> None:
    """After a restart, as before it: it goes before what came later."""
    one = core()
    first, placement = one.started(service())
    later = one.submit(job())[0]
    one.missing(placement)
    assert list(rebuilt(one.world).queue) == [first.id, later]
    assert next(part.workload for part in one.plan().placements) == first.id


def test_what_nobody_has_is_a_key_error() -> None:
    """No default stands in for a site or a node that is not there."""
    one = core()
    with pytest.raises(KeyError):
        one.world.site(SiteId("nowhere"))
    with pytest.raises(KeyError):
        one.world.hardware_of("nowhere")
    assert one.world.hardware_of("fjord/b/g-0-0").id == "lab"
    assert World().zone == "UTC"
