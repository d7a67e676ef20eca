"""How events of curtailment, caps and meters change the world."""

from typing import TYPE_CHECKING

from headrace.core import events as ev
from headrace.core.ids import PowerNodeId
from headrace.core.power.caps import Cap, of_site
from headrace.core.power.instruction import GRID_LIMITS, Instruction, InstructionId
from headrace.core.power.limits import ramp_ms
from headrace.core.power.pue import meter_watts
from headrace.core.state import Row
from headrace.core.workload import Placement

if TYPE_CHECKING:
    from headrace.core.world import World


def sheds(world: "World", placement: Placement) -> bool:
    """Whether a placement draws as an idle one does while it is paused."""
    engine = world.state.engines.get(world.engine_of(placement))
    return engine is not None and engine.pause_sheds


def takes_ms(world: "World", instruction: Instruction) -> tuple[int, int]:
    """How long a site takes to come down to an instruction from what it may draw now, as fast as its connection lets it; and
    that, in watts a minute (0: at once).
    """
    if instruction.site not in world.fleet.site_index:
        return 0, 0
    site = world.site(instruction.site)
    draws_w = meter_watts(site, int(world.power_w[world.fleet.power_index[PowerNodeId(site.id)]]))
    ramp_down_w = site.connection.ramp_down_w_per_minute
    return ramp_ms(ramp_down_w, draws_w - instruction.limit_w), ramp_down_w


def curtailed(world: "World", committed: ev.Committed, event: ev.CurtailmentOrdered) -> list[Row]:
    """A placement is to pause for the grid."""
    placement = world.state.placements[event.placement]
    placement.curtailed, placement.curtailed_ms = event.instruction, committed.at_ms
    # Its tenant may have paused it before.
    world.quieten(placement, quiet=placement.paused and sheds(world, placement))
    placement.wanted_seq = committed.seq
    world.curtailed[placement.id] = None
    world.settle(placement)
    return []


def lifted(world: "World", committed: ev.Committed, event: ev.CurtailmentLifted) -> list[Row]:
    """A placement may go on."""
    placement = world.state.placements[event.placement]
    # It counts in full before any engine lets it go on.
    world.quieten(placement, quiet=False)
    placement.curtailed, placement.curtailed_ms = "", 0
    world.curtailed.pop(placement.id, None)
    placement.wanted_seq = committed.seq
    world.settle(placement)
    world.limit(committed.at_ms)
    return []


def back_after(world: "World", reason: str, at_ms: int) -> str:
    """What is said of a workload that starts again, and had to make way for the grid for ``reason``; empty for any other."""
    if not reason.startswith(GRID_LIMITS):
        return ""
    name = InstructionId(reason.partition("(instruction ")[2].rpartition(")")[0])
    known = world.state.instructions.get(name)
    is_over = known is None or not known.is_open(at_ms)
    return (
        f"back after instruction {name} ended" if is_over else f"back within what instruction {name} allows"
    )


def limiters_declared(world: "World", _: ev.Committed, event: ev.LimitersDeclared) -> list[Row]:
    """Other nodes of a site can be limited."""
    known, switches = world.state.limiters, world.state.switches
    for node in list(of_site(known, event.site)):
        del known[node]
    for node in list(of_site(switches, event.site)):
        del switches[node]
    known.update(event.limiters)
    switches.update(dict.fromkeys(event.switches))
    return []


def caps_ordered(world: "World", committed: ev.Committed, event: ev.CapsOrdered) -> list[Row]:
    """Nodes are to be capped; what their controllers enforce already goes on to count."""
    caps = world.state.caps
    for node, watts in event.caps:
        before = caps.get(node)
        # A limit that was lifted may be dropped at any moment: it is confirmed anew before it counts again.
        enforced_w = before.enforced_w if before is not None and before.wanted_w else 0
        caps[node] = Cap(watts, committed.at_ms, event.instruction, enforced_w)
        world.counted.cap(node)
    world.limit(committed.at_ms)
    return []


def caps_observed(world: "World", committed: ev.Committed, event: ev.CapsObserved) -> list[Row]:
    """Controllers say what they enforce."""
    caps = world.state.caps
    for node, watts in event.caps:
        cap = caps[node]
        cap.enforced_w = watts
        if not watts and not cap.wanted_w:
            del caps[node]
        world.counted.cap(node)
    world.limit(committed.at_ms)
    return []


def caps_lifted(world: "World", committed: ev.Committed, event: ev.CapsLifted) -> list[Row]:
    """Nodes count in full before any controller lets go of them."""
    for node in event.nodes:
        cap = world.state.caps[node]
        cap.wanted_w, cap.ordered_ms = 0, committed.at_ms
        world.counted.cap(node)
    world.limit(committed.at_ms)
    return []


def excess_measured(world: "World", _: ev.Committed, event: ev.ExcessMeasured) -> list[Row]:
    """A meter sees more than is known, or no longer."""
    if event.watts:
        world.state.excess[event.element] = event.watts
    else:
        world.state.excess.pop(event.element, None)
    world.counted.exceed(event.element)
    return []
