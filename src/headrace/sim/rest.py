"""Rest: faults stop, time goes on until nothing more happens, then everything is compared."""

from collections.abc import Callable
from itertools import pairwise

from headrace.api.views import ProblemView
from headrace.core import commands as c
from headrace.core.apply import apply
from headrace.core.errors import HeadraceError, ProblemCode
from headrace.core.ids import WorkloadId
from headrace.core.metering import UsageKey, period_of
from headrace.core.scheduling.explain import explain
from headrace.core.state import Row
from headrace.core.units import MS_PER_DAY, MS_PER_HOUR
from headrace.core.workload import HOLDING, State, Workload, WorkloadType
from headrace.core.world import World
from headrace.journal.checkpoint import encode_checkpoint
from headrace.journal.codec import Chain, JournalCorrupt, decode
from headrace.journal.keys import is_signed
from headrace.journal.merkle import consistency_proof, is_consistent
from headrace.journal.projections import TABLES, ProjectionRow, project
from headrace.sim.checkers import Entry, Rest
from headrace.sim.clients import command
from headrace.sim.heads import _leaves
from headrace.sim.plant import Witness
from headrace.sim.work import is_endless
from headrace.sim.world import Simulation

PATIENCE_MS = 2 * MS_PER_DAY
_ORDER = {"usage": "seq, idx", "transfers": "seq, rowid", "audit": "seq, rowid"}


def come_to_rest(sim: Simulation) -> None:
    """Stop the faults, wait, compare; stop the workloads, wait, bill, compare again."""
    if sim.witness.is_broken:
        return
    _calm(sim)
    if not _until(sim, _is_restless, _is_quiet):
        sim.witness.found(7, "world", f"it does not come to rest: {_why(sim)}", "restless")
        return
    _let_first_go(sim)
    _compare(sim)
    if sim.witness.violations:
        return
    if not _until(sim, lambda _work: True, _is_empty):
        sim.witness.found(7, "world", f"what was stopped does not end: {_why(sim)}", "restless")
        return
    _bill(sim)
    _erase(sim)
    _compare(sim)
    _replay(sim)


def _until(sim: Simulation, ends: Callable[[Workload], bool], enough: Callable[[Simulation], bool]) -> bool:
    """Have workloads stopped and wait; what was submitted late is stopped once it is there."""
    for _ in range(4):
        _stop(sim, ends)
        if _wait(sim, enough) and not _asked_for(sim, ends) and not sim.checkers.grid.standing():
            return True
    return False


def _let_first_go(sim: Simulation) -> None:
    """Stop who waits for others that never end: those behind it wait for it, and show then."""
    for turn in range(8):
        control = sim.plant.control
        if control is None:
            return
        snapshot = control.world.snapshot(control.now_ms())
        lines: dict[str, str] = {
            work.id: explain(snapshot, work.id).line for work in control.world.queue.values()
        }
        if turn == 0:
            sim.checkers.explanation.at_rest(control.now_ms(), lines)
        behind = [work for work in control.world.queue.values() if "RANK" in lines[work.id]]
        if not behind:
            return
        last = max(_rank(work) for work in behind)
        others = [work for work in control.world.queue.values() if "RANK" not in lines[work.id]]
        # Who was evicted waits anew, and a small share goes first: then nobody here need be of earlier rank.
        for work in [work for work in others if _rank(work) < last] or others:
            sim.ask(command(sim.people.operator, c.Stop(work.id), sim.people.key()))
        sim.commit()
        _wait(sim, _is_quiet)


def _rank(work: Workload) -> tuple[int, bool, int]:
    return -work.spec.priority, work.spec.type is WorkloadType.FILLER, work.submitted_seq


def _calm(sim: Simulation) -> None:
    """No fault from now on; what would restart for ever is stopped, so that there can be rest."""
    sim.is_resting = True
    sim.switches.clear()
    sim.ask_again = sim.mischief.stale = sim.mischief.tampered = 0
    sim.mischief.is_sly = False
    sim.plant.plan_anew()
    sim.wall.skew_ms = 0
    sim.strangers.calm()
    sim.grid.calm()
    faults = sim.engine.faults
    faults.refusing = False
    faults.observe_delay_ms = faults.lose_next_acks = faults.duplicate_next_starts = 0
    if sim.plant.store is not None:
        sim.plant.store.limit()
    sim.run_until(sim.true.at_ms + PATIENCE_MS, lambda: sim.plant.decides)
    sim.grid.withdraw_all()
    # What is promised for a time is watched to its end.
    sim.run_until(max(sim.true.at_ms, sim.calendar.last_ms + MS_PER_HOUR))
    for node in list(sim.node_ids()):
        sim.engine.revive_node(node)
        sim.engine.slow_node(node, 0)


def _is_restless(work: Workload) -> bool:
    """Whether it would come back for ever, each time that it ends."""
    return work.spec.type is not WorkloadType.JOB and not is_endless(work.spec)


def _asked_for(sim: Simulation, ends: Callable[[Workload], bool]) -> list[Workload]:
    control = sim.plant.control
    if control is None:
        return []
    works = control.world.state.workloads.values()
    return [work for work in works if (work.state in HOLDING or work.state is State.QUEUED) and ends(work)]


def _stop(sim: Simulation, ends: Callable[[Workload], bool]) -> None:
    control = sim.plant.control
    if control is None:
        return
    # What was asked for before comes late at times.
    sim.grid.withdraw_all()
    for work in _asked_for(sim, ends):
        sim.ask(command(sim.people.operator, c.Stop(work.id), sim.people.key()))
    for work in _asked_for(sim, lambda work: work.pause_wanted):
        sim.ask(command(sim.people.operator, c.Pause(work.id, False), sim.people.key()))
    sim.commit()


def _wait(sim: Simulation, enough: Callable[[Simulation], bool]) -> bool:
    """Until it is enough, by what at least two more rounds have seen."""
    seen = sim.plant.rounds + 2

    def is_enough() -> bool:
        return sim.plant.rounds >= seen and enough(sim)

    sim.nudge()
    sim.run_until(sim.true.at_ms + PATIENCE_MS, is_enough)
    return is_enough()


def _is_quiet(sim: Simulation) -> bool:
    """Nothing is due, and what runs would run for ever."""
    control = sim.plant.control
    if control is None or not sim.plant.is_up or sim.plant.is_busy() or control.has_pending:
        return False
    state, now_ms = control.world.state, control.now_ms()
    if any(work.not_before_ms > now_ms for work in control.world.queue.values()):
        return False
    if sim.checkers.grid.is_open() and not sim.checkers.grid.standing():
        return False
    return all(is_endless(state.workloads[one.workload].spec) for one in state.placements.values())


def _is_empty(sim: Simulation) -> bool:
    control = sim.plant.control
    return control is not None and not sim.plant.is_busy() and not control.world.state.placements


def _why(sim: Simulation) -> str:
    control = sim.plant.control
    if control is None or not sim.plant.is_up:
        return "the control plane does not come up"
    world = control.world
    unsettled = ", ".join(list(world.unsettled)[:3])
    return (
        f"{len(world.queue)} wait, {len(world.state.placements)} are placed, unsettled: {unsettled or 'none'}"
    )


# -- comparing ----------------------------------------------------------------------------------------------


def _raw(sim: Simulation) -> dict[str, list[tuple[int, int]]]:
    """The engine's own records; of a rank that still runs what it would report now."""
    raw: dict[str, list[tuple[int, int]]] = {}
    live = {(one.placement, rank.rank): rank for one in sim.engine.observe() for rank in one.ranks}
    for one in sim.engine.ran:
        times = raw.setdefault(one.placement, [])
        times.extend([(0, 0)] * (one.rank + 1 - len(times)))
        report = live.get((one.placement, one.rank)) if one.ended_ms is None else None
        times[one.rank] = (
            (one.running_ms, one.paused_ms) if report is None else (report.running_ms, report.paused_ms)
        )
    for report_of in sim.engine.observe():
        times = raw.setdefault(report_of.placement, [])
        times.extend([(0, 0)] * (len(report_of.ranks) - len(times)))
    for ident, ranks in sim.checkers.durability.ranks_of.items():
        if ident in raw:
            raw[ident].extend([(0, 0)] * (ranks - len(raw[ident])))
    return raw


def _compare(sim: Simulation) -> None:
    """What the checkers make of the world at rest."""
    control = sim.plant.control
    if control is None:
        return
    sim.plant.round(meter_all=True)
    world, now_ms = control.world, control.now_ms()
    snapshot = world.snapshot(now_ms)
    ready = ("running", "paused")
    running = [
        one.placement for one in sim.engine.observe() if all(rank.state in ready for rank in one.ranks)
    ]
    held_back = [
        one.placement for one in sim.engine.observe() if any(rank.state == "paused" for rank in one.ranks)
    ]
    sim.checkers.grid.still_paused(held_back)
    transfers = control.store.query("select rowid, debit, credit, amount_micros, currency from transfers")
    entries = []
    for number, debit, credit, amount, currency in transfers:
        entries.append(Entry(str(number), str(debit), str(currency), int(str(amount))))
        entries.append(Entry(str(number), str(credit), str(currency), -int(str(amount))))
    sim.checkers.at_rest(
        Rest(
            now_ms=now_ms,
            running=running,
            raw=_raw(sim),
            lines={work.id: explain(snapshot, work.id).line for work in world.queue.values()},
            states={ident: work.state for ident, work in world.state.workloads.items()},
            ledger=entries,
        )
    )
    for ident, _ in sim.people.workloads[-3:]:
        sim.read(ident)
    for currency, amount in world.state.ledger.trial_balance().items():
        if amount:
            sim.witness.found(
                4, "ledger", f"its balances differ by {amount} micros of {currency}", "unbalanced"
            )
    for placement, count in sim.engine.starts.items():
        if count > 1:
            sim.witness.found(3, placement, f"its processes were started {count} times", "ran-twice")


def _bill(sim: Simulation) -> None:
    """Draw every invoice that is left; afterwards nothing is."""
    control, people = sim.plant.control, sim.people
    if control is None:
        return
    used = [UsageKey.parse(text) for text in control.world.state.usage.by_key]
    zone = people.ground.estate.operator.zone
    months = dict.fromkeys((one.tenant, one.period) for one in used)
    months.update(dict.fromkeys((one.id, period_of(sim.start_ms, zone)) for one in people.ground.tenants))
    for tenant, period in months:
        for again in (False, True):
            problem = sim.plant.call(command(people.operator, c.IssueInvoices(tenant, period))).problem
            if problem is None:
                if again:
                    sim.witness.found(4, tenant, f"{period} was invoiced again in full", "issued-twice")
            elif not again and any(one.tenant == tenant and one.period == period for one in used):
                _unbilled(sim, tenant, period, problem)


def _unbilled(sim: Simulation, tenant: str, period: str, problem: ProblemView) -> None:
    """Usage that can't be billed; that all of it is billed already is fine."""
    if problem.code != ProblemCode.CONFLICT or "no usage was recorded since" not in problem.message:
        sim.witness.found(4, tenant, f"{period} can't be invoiced: {problem.message}", "unbilled")


def _erase(sim: Simulation) -> None:
    """Sometimes a tenant is erased at the end: its secrets are gone, the others' still open."""
    control, people = sim.plant.control, sim.people
    if control is None:
        return
    gone = people.ground.tenants[0].id if sim.chance.random() < 0.4 else None
    if gone is not None:
        problem = sim.plant.call(command(people.operator, c.EraseTenant(gone))).problem
        if problem is not None:
            sim.witness.found(6, gone, f"it can't be erased: {problem.message}", "erased")
    for ident, spec in people.workloads[:30]:
        work = control.world.state.workloads[WorkloadId(ident)]
        for name, ref in work.spec.secrets.items():
            try:
                value = control.reveal(ref)
            except HeadraceError:
                value = ""
            if work.tenant == gone and value:
                sim.witness.found(6, ident, "a secret of an erased tenant can still be read", "erased")
            elif work.tenant != gone and name == "SECRET" and value != f"secret of {spec.name}":
                sim.witness.found(3, ident, "its secret can't be read any more", "lost")


# -- replay -------------------------------------------------------------------------------------------------


def _replay(sim: Simulation) -> None:
    """Everything once more from the first event: the same world, the same rows, the same past."""
    control, witness = sim.plant.control, sim.witness
    if control is None:
        return
    store, chain, world, rows, events, leaves = (
        control.store,
        Chain(),
        World(),
        list[Row](),
        [],
        list[bytes](),
    )
    try:
        for group in store.groups():
            chain.verify(group)
            leaves.extend(_leaves(group))
            for committed in decode(group):
                rows.extend(apply(world, committed))
                events.append(committed)
    except JournalCorrupt as error:
        witness.found(3, "journal", str(error), "corrupt")
        return
    witness.checkers.durability.reopened(events)
    if encode_checkpoint(world.state, chain) != encode_checkpoint(control.world.state, control.chain):
        what = "equal, but in another order" if world.state == control.world.state else "another"
        witness.found(3, "world", f"replayed from the first event, it is {what}", "replay")
    _columns(witness, world, control.world)
    projected = [project(row) for row in rows]
    _projections(sim, projected, "stored")
    store.rebuild(projected)
    _projections(sim, projected, "rebuilt")
    _consistent(sim, leaves)


def _columns(witness: Witness, fresh: World, live: World) -> None:
    """What is derived from the state is the same, whether it was kept up to date or made anew."""
    live.at(live.state.last_ms)
    fresh.at(live.state.last_ms)
    for name in (
        "node_mask",
        "node_cpu_milli",
        "node_memory_mb",
        "node_ranks",
        "node_ready",
        "node_here",
        "power_w",
    ):
        if getattr(fresh, name).tolist() != getattr(live, name).tolist():
            witness.found(1, name, "the column is another than the state makes it", "column")
    anew = World(live.state)
    anew.at(live.state.last_ms)
    if anew.power_w.tolist() != live.power_w.tolist() or anew.node_mask.tolist() != live.node_mask.tolist():
        witness.found(1, "power", "made anew from the state, the columns are others", "column")
    if list(fresh.queue) != list(live.queue) or list(anew.unsettled) != list(live.unsettled):
        witness.found(3, "queue", "the queue is another than the state makes it", "column")


def _projections(sim: Simulation, rows: list[ProjectionRow], how: str) -> None:
    control = sim.plant.control
    if control is None:
        return
    for table in TABLES:
        wanted = [row.values for row in rows if row.table == table]
        found = control.store.query(f"select * from {table} order by {_ORDER[table]}")  # noqa: S608 - own names
        if [tuple(row) for row in found] != wanted:
            what = f"{len(found)} rows {how}, {len(wanted)} by replay, or others"
            sim.witness.found(4, table, what, "projection")


def _consistent(sim: Simulation, leaves: list[bytes]) -> None:
    """Some of the heads that clients kept: signed, and each provably the past of the next."""
    told = sim.witness.heads.told
    kept = sorted({*sim.chance.sample(range(len(told)), min(6, len(told))), len(told) - 1}) if told else []
    heads = [told[index] for index in kept]
    for head in heads:
        if not is_signed(sim.witness.heads.public, head.signed_bytes(), head.signature):
            sim.witness.found(3, "head", f"the head of {head.size} events is not signed", "head")
    for old, new in pairwise(heads):
        proof = consistency_proof(lambda index: leaves[index], old.size, new.size)
        if old.size != new.size and not is_consistent(old.size, old.root, new.size, new.root, proof):
            sim.witness.found(3, "head", f"no proof that head {new.size} goes on from {old.size}", "head")
