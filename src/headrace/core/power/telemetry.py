"""Whether a meter can be believed: its readings so far against physics, its own evidence of life, and the clock.

A meter that can't be believed counts as nameplate, with a named reason. The rules err on that side, but for one thing: a load
that is truly constant must not be taken for a meter that is frozen. So a reading that stays the same to the last bit is doubted
only where something else contradicts it (the meter's own clock or update counter stands still, or its energy counter gains
other than that power over that time) or where the meter has nothing else to show.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from headrace.core.power.reading import PowerReading
from headrace.core.units import MJ_PER_WH, MS_PER_HOUR, MS_PER_SECOND, format_duration, format_watts

KEPT = 64
"""Readings of one meter that are kept: more than a window needs, at any rate of reading that makes sense."""
_LARGE_PERMILLE = 200
"""A step of so much of nameplate begins a new stretch for the comparison with energy."""


class Doubt(StrEnum):
    """Why a meter is not believed."""

    NONE = "none"
    ABSENT = "absent"
    CLOCK = "clock"
    OLD = "old"
    NEGATIVE = "negative"
    EXCESS = "excess"
    FROZEN = "frozen"
    JUMPED = "jumped"


@dataclass(frozen=True, slots=True)
class MeterSample:
    """What a meter said once.

    ``watts`` are positive for what is drawn from the grid's side, negative for what is fed back. ``read_ms``: when it was asked,
    by the control plane's clock. ``taken_ms``: when the meter says that it took it (None: it has no clock). ``energy_mj``: its
    energy counter. ``sequence``: its update counter, which wraps.
    """

    watts: int
    read_ms: int
    taken_ms: int | None = None
    energy_mj: int | None = None
    sequence: int | None = None

    @property
    def at_ms(self) -> int:
        """When it was taken, as far as is known."""
        return self.read_ms if self.taken_ms is None else self.taken_ms


@dataclass(frozen=True, slots=True)
class MeterRules:
    """What is known of a meter and of what hangs below it.

    ``nameplate_w``: the most that everything below it can draw. ``max_age_ms``: an older reading is none. ``lag_ms``: how far its
    registers lie behind the load. ``energy_step_mj``: the least that its energy counter moves by. ``ramp_w_per_s``: the fastest
    that the load can change (0: not known, any step is possible). ``settle_ms``: how long a step beyond that must hold to be
    believed. ``identical_ms``: how long a meter without clock and counters may say the same. ``window_ms``: how far back it
    looks. ``noise_w``: what reads as negative at no load.
    """

    nameplate_w: int
    max_age_ms: int = 6_000
    lag_ms: int = 2_000
    clock_slack_ms: int = 1_000
    energy_step_mj: int = MJ_PER_WH
    ramp_w_per_s: int = 0
    settle_ms: int = 4_000
    identical_ms: int = 10_000
    window_ms: int = 30_000
    noise_w: int = 50


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a meter's readings count for: ``measured``, or ``stale`` at nameplate with a ``doubt`` and a sentence why."""

    reading: PowerReading
    doubt: Doubt = Doubt.NONE
    detail: str = ""

    @property
    def is_believed(self) -> bool:
        """Whether it counts as measured."""
        return self.doubt is Doubt.NONE


def kept(samples: Sequence[MeterSample], new: MeterSample, rules: MeterRules) -> tuple[MeterSample, ...]:
    """The readings to keep once ``new`` has come; a step back of the control plane's clock forgets what was before."""
    since = new.read_ms - rules.window_ms
    old = [one for one in samples if since <= one.read_ms < new.read_ms]
    return (*old[-(KEPT - 1) :], new)


def judge(meter: str, samples: Sequence[MeterSample], rules: MeterRules, now_ms: int) -> Judgement:
    """What the readings of ``meter`` so far, in the order they were read, count for at ``now_ms``."""
    if not samples:
        return _doubted(meter, rules, now_ms, Doubt.ABSENT, "it has not been read yet")
    last = samples[-1]
    for doubt, found in (
        (Doubt.OLD, _age(last, rules, now_ms)),
        (Doubt.FROZEN, _still(samples, rules)),
        (Doubt.CLOCK, _clock(last, rules)),
        (Doubt.NEGATIVE, _negative(last, rules)),
        (Doubt.EXCESS, _excess(last, rules)),
        (Doubt.JUMPED, _step(samples, rules)),
        (Doubt.FROZEN, _identical(samples, rules)),
        (Doubt.JUMPED, _energy(samples, rules)),
    ):
        if found:
            return _doubted(meter, rules, last.at_ms, doubt, found)
    return Judgement(PowerReading(max(0, last.watts), last.at_ms, "measured", meter))


def _doubted(meter: str, rules: MeterRules, at_ms: int, doubt: Doubt, why: str) -> Judgement:
    return Judgement(PowerReading(rules.nameplate_w, at_ms, "stale", meter), doubt, f"meter {meter}: {why}.")


def _age(last: MeterSample, rules: MeterRules, now_ms: int) -> str:
    age_ms = now_ms - last.read_ms
    return f"its last answer is {format_duration(age_ms)} old" if age_ms > rules.max_age_ms else ""


def _still(samples: Sequence[MeterSample], rules: MeterRules) -> str:
    """Its clock or its update counter stands still while it goes on answering."""
    signs = {
        "clock": [one.taken_ms for one in samples],
        "update counter": [one.sequence for one in samples],
    }
    for name, values in signs.items():
        held_ms = samples[-1].read_ms - samples[_since(values)].read_ms
        if values[-1] is not None and held_ms > rules.max_age_ms:
            return f"its {name} has stood still for {format_duration(held_ms)}"
    return ""


def _since(values: Sequence[int | None]) -> int:
    """Where the last run of equal values begins."""
    first = len(values) - 1
    while first and values[first - 1] == values[-1]:
        first -= 1
    return first


def _clock(last: MeterSample, rules: MeterRules) -> str:
    if last.taken_ms is None:
        return ""
    off_ms = last.taken_ms - last.read_ms
    if -rules.max_age_ms <= off_ms <= rules.clock_slack_ms:
        return ""
    side = "ahead" if off_ms > 0 else "behind"
    # A clock that tells local time, or missed the change to summer time, is off by whole hours.
    hours = round(off_ms / MS_PER_HOUR)
    is_hours = hours != 0 and abs(off_ms - hours * MS_PER_HOUR) < rules.max_age_ms + rules.clock_slack_ms
    hint = ": it seems to tell local time, set it to UTC" if is_hours else ""
    return f"its clock is {format_duration(abs(off_ms))} {side}{hint}"


def _negative(last: MeterSample, rules: MeterRules) -> str:
    if last.watts >= -max(rules.noise_w, rules.nameplate_w // 200):
        return ""
    return f"it reads {format_watts(last.watts)}: is a current transformer the wrong way round, or its sign declared wrongly?"


def _excess(last: MeterSample, rules: MeterRules) -> str:
    if last.watts <= rules.nameplate_w + max(rules.noise_w, rules.nameplate_w // 10):
        return ""
    most = format_watts(rules.nameplate_w)
    return f"it reads {format_watts(last.watts)}, and all that hangs below it draws {most} at most"


def _step(samples: Sequence[MeterSample], rules: MeterRules) -> str:
    """A step that is faster than the load can be, and has not held for long."""
    if not rules.ramp_w_per_s:
        return ""
    last = samples[-1]
    for before, after in pairwise(samples):
        passed_ms = max(1, after.at_ms - before.at_ms)
        most_w = rules.ramp_w_per_s * passed_ms // MS_PER_SECOND + rules.noise_w
        step_w = after.watts - before.watts
        if abs(step_w) > most_w and last.at_ms - after.at_ms < rules.settle_ms:
            return (
                f"it went by {format_watts(step_w)} in {format_duration(passed_ms)}, faster than its load can"
            )
    return ""


def _identical(samples: Sequence[MeterSample], rules: MeterRules) -> str:
    """The same watts to the last bit for long, and nothing that shows that the meter is alive."""
    last = samples[-1]
    run = _run(samples)
    held_ms = last.read_ms - run[0].read_ms
    if held_ms <= rules.identical_ms:
        return ""
    ticks = last.taken_ms is not None or last.sequence is not None
    # Whether a counter that moves agrees with the watts is asked by _energy.
    counts = last.energy_mj is not None and last.energy_mj != run[0].energy_mj
    if ticks or counts or _too_little(run, rules):
        return ""
    said = f"{format_watts(last.watts)} to the last bit for {format_duration(held_ms)}"
    return f"it has read {said}, and nothing shows that it is alive"


def _too_little(run: Sequence[MeterSample], rules: MeterRules) -> bool:
    """Whether so little was drawn in ``run`` that its energy counter need not have moved; never for no load at all."""
    has_counter = run[-1].energy_mj is not None
    return has_counter and 0 < _integral_mj(run) < 2 * rules.energy_step_mj


def _run(samples: Sequence[MeterSample]) -> Sequence[MeterSample]:
    """The last readings that are equal."""
    return samples[_since([one.watts for one in samples]) :]


def _energy(samples: Sequence[MeterSample], rules: MeterRules) -> str:
    """Its energy counter gained other than its watts over the time: one of the two is not what it should be."""
    part = _stretch(samples, rules)
    first, last = part[0], part[-1]
    if first.energy_mj is None or last.energy_mj is None or last.at_ms <= first.at_ms:
        return ""
    expected_mj, gained_mj = _integral_mj(part), last.energy_mj - first.energy_mj
    longest_ms = max(after.at_ms - before.at_ms for before, after in pairwise(part))
    swing_w = max(one.watts for one in part) - min(one.watts for one in part)
    # What lies between two readings is not known, nor whether both registers lag alike.
    slack_mj = 2 * rules.energy_step_mj + swing_w * (rules.lag_ms + longest_ms)
    slack_mj += expected_mj // (50 if swing_w == 0 else 10) + rules.noise_w * (last.at_ms - first.at_ms)
    if abs(gained_mj - expected_mj) <= slack_mj:
        return ""
    counted_w = gained_mj // (last.at_ms - first.at_ms)
    return (
        f"it reads {format_watts(last.watts)}, while its energy counter grows as at {format_watts(counted_w)}"
    )


def _stretch(samples: Sequence[MeterSample], rules: MeterRules) -> Sequence[MeterSample]:
    """The last readings without a large step, a gap in the counter, or the counter going back (it was reset, or wrapped)."""
    large_w = max(rules.noise_w, rules.nameplate_w * _LARGE_PERMILLE // 1_000)
    first = len(samples) - 1
    while first:
        before, after = samples[first - 1], samples[first]
        if before.energy_mj is None or after.energy_mj is None or after.energy_mj < before.energy_mj:
            break
        if abs(after.watts - before.watts) > large_w:
            break
        first -= 1
    return samples[first:]


def _integral_mj(part: Sequence[MeterSample]) -> int:
    """Watts over time by trapezoids; watt times millisecond is exactly a millijoule."""
    twice = sum((a.watts + b.watts) * (b.at_ms - a.at_ms) for a, b in pairwise(part))
    return max(0, twice // 2)
