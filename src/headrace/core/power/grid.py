"""Instructions taken and withdrawn: what the grid asks, refused where it can't be met and need not be."""

from headrace.core import commands as c
from headrace.core import events as ev
from headrace.core.asked import Asked, Deciding, fail
from headrace.core.errors import Problem, ProblemCode, unknown
from headrace.core.power.instruction import Instruction
from headrace.core.power.ladder import Ladder, ladder_of
from headrace.core.power.pue import meter_watts
from headrace.core.power.shedding import Rung
from headrace.core.units import MS_PER_DAY, format_watts, parse_watts
from headrace.core.world import World

ABSURD = 10
"""A limit of more than so many connections is a slip in its unit, not a limit."""
MOST_AHEAD_MS = 366 * MS_PER_DAY
"""No instruction begins later than this: one that does has its times in another unit, or in another year."""


def instruct(world: World, command: c.Instruct, asked: Asked) -> Deciding:
    """Take an instruction; what is below the floor is refused unless it binds, and then an alarm says what it breaches."""
    one = command.instruction
    problem = _bad(world, one, asked.now_ms)
    if problem is not None:
        raise fail(problem)
    known = world.state.instructions.get(one.id)
    if known is not None and known.instruction == one:
        return c.Named(one.id, changed=False)
    if known is not None and known.is_open(asked.now_ms) and known.instruction.site != one.site:
        # It would take the place of the first: what that asks of its site would be lifted, and nobody said so.
        text = f"the instruction {one.id!r} is one for {known.instruction.site}, and stands;"
        step = f"Give the one for {one.site} another name, or withdraw {one.id} first."
        raise fail(Problem(ProblemCode.CONFLICT, text, step))
    short = _below_floor(world, one)
    if short is not None and not command.binding:
        raise fail(short)
    yield ev.InstructionReceived(one, asked.verdict)
    if short is not None:
        yield ev.AlarmRaised(1, one.site, short.message)
    return c.Named(one.id)


def withdraw(world: World, command: c.Withdraw, asked: Asked) -> Deciding:
    """End an instruction now; one that is over already is left as it is."""
    known = world.state.instructions.get(command.instruction)
    if known is None:
        raise fail(unknown("instruction", command.instruction, world.state.instructions))
    if not known.is_open(asked.now_ms):
        return c.Named(command.instruction, changed=False)
    yield ev.InstructionWithdrawn(command.instruction, command.reason, asked.verdict)
    return c.Named(command.instruction)


def _bad(world: World, one: Instruction, now_ms: int) -> Problem | None:
    """What is wrong with an instruction as such."""
    if one.site not in world.fleet.site_index:
        return unknown("site", one.site, world.fleet.site_index)
    if one.limit_w < 0:
        return Problem(ProblemCode.BAD_INPUT, f"a limit of {one.limit_w} W;", "Give watts from 0 up.")
    total_w = world.site(one.site).connection.total_w
    if one.limit_w > ABSURD * total_w:
        has = f"{ABSURD} times the {format_watts(total_w)} of its connection"
        text = f"a limit of {format_watts(one.limit_w)} for {one.site} is more than {has};"
        return Problem(ProblemCode.BAD_INPUT, text, "Look at its unit.")
    if one.until_ms and one.until_ms <= max(one.from_ms, now_ms):
        text = "it would be over before it begins, or is over by now;"
        return Problem(ProblemCode.BAD_INPUT, text, "Give an end that is later, with its offset from UTC.")
    if one.from_ms > now_ms + MOST_AHEAD_MS:
        text = "it would begin more than a year from now;"
        return Problem(ProblemCode.BAD_INPUT, text, "Look at the year, and at the unit of the time.")
    return None


def _below_floor(world: World, one: Instruction) -> Problem | None:
    """Why an instruction can't be met with all that may be shed; None when it can."""
    site = world.site(one.site)
    floor_w = meter_watts(site, world.floors.watts[world.fleet.site_index[one.site]])
    if floor_w <= one.limit_w:
        return None
    ladder = ladder_of(world, one.site)
    floor_w = meter_watts(site, least_w(ladder))
    if floor_w <= one.limit_w:
        return None
    draws_w = meter_watts(site, ladder.draws_w)
    least = ", ".join(f"{rung} {format_watts(watts)}" for rung, watts in ladder.by_rung().items() if watts)
    kept = [ident for rung, ident in ladder.workloads() if rung is Rung.KEEP]
    message = (
        f"{one.site} can't come down to {_exactly(one.limit_w)}: {_exactly(floor_w)} of {_exactly(draws_w)} can't be "
        f"shed (IT that can be: {least or 'nothing'}); it would breach what is firm."
    )
    step = f"Ask for {_exactly(floor_w)} or more, or stop firm work first."
    return Problem(ProblemCode.CONFLICT, message, step, related=tuple(kept[:20]))


def least_w(ladder: Ladder) -> int:
    """What a site could come down to with all that may be shed, watts of IT load.

    The floor counts what is cappable in full, so that nothing hangs on controllers; they may go below it. It counts parts of one
    accelerator each as the whole of it, and what is capped in full: a site never needs more than it draws.
    """
    return min(ladder.floor_w - ladder.credit_w, ladder.draws_w) - sum(
        one.saves_w for one in (*ladder.caps, *ladder.idle)
    )


def _exactly(watts: int) -> str:
    """A power that may be asked for as it is written here: in watts where four digits would round it."""
    written = format_watts(watts)
    return written if parse_watts(written) == watts else f"{watts} W"
