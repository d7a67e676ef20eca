"""A demand-response event replayed: the production allocator's caps against the exact optimum, instant by instant.

Power and throughput are **modelled**: they are those of the curves' file, on straight lines between the measured caps. The
allocator is :mod:`headrace.core.power.capping`; :mod:`headrace.replay.event_judge` says what it came to, by code of its own.
"""

import re
import time
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import floor
from pathlib import Path

from headrace.core.errors import HeadraceError, Problem, ProblemCode, did_you_mean
from headrace.core.power.capping import Allocation, Capped, Unreachable, allocate, time_shared_bound
from headrace.core.power.curves import PPM, Credit, CurvePoint, PowerCurve
from headrace.core.units import MS_PER_HOUR, MS_PER_MINUTE, ceil_div
from headrace.documents.event import EventFile
from headrace.replay.event_judge import Level, MeasuredCurve, exact_optimum, overshoot_w
from headrace.replay.rows import Row, bad, rows_of, shown, whole

WORKLOAD, CAP, THROUGHPUT, POWER = (
    "Workload",
    "GPU power cap",
    "normalized throughput",
    "power per GPU",
)
STEP = "Give the table of power caps: Workload, GPU power cap, normalized throughput, power per GPU."
MOST_CAP_W = 100_000
MOST_THROUGHPUT = 1_000
PLAIN = re.compile(r"[0-9]{1,30}(\.[0-9]{1,30})?")
REACHED = 2e-6
"""Performances are counted in millionths, rounded down: an optimum that is nearer than this was reached."""
MOST_STEPS = 240
"""Steps of a ramp at most; each lasts a minute, or longer where the ramp does."""


@dataclass(frozen=True, slots=True)
class Played:
    """What an event came to. Levels are in order of time, milliseconds from when the reduction must be whole.

    Nothing exceeds ``optimum``, nor, even with caps that change in time, ``bound``; ``optimum`` is never the greater of both.
    """

    event: EventFile
    credit: Credit
    measured_only: bool
    baseline_w: Fraction
    target_w: int
    held: Allocation
    levels: tuple[Level, ...]
    optimum: float
    bound: float
    overshoot_w: float
    wall_s: float

    @property
    def is_reached(self) -> bool:
        """Whether ``optimum`` was reached, so that it is one; otherwise it is only what can't be exceeded."""
        return self.optimum - self.weighted_performance <= REACHED

    @property
    def weighted_performance(self) -> float:
        """Performance while the reduction is whole, weighted."""
        return self.held.value / (PPM * sum(job.weight for job in self.event.jobs))

    def figures(self) -> dict[str, object]:
        """All of it, ready for JSON."""
        event = self.event
        return {
            "credit": self.credit,
            "caps": "measured" if self.measured_only else "whole watts",
            "power": "modelled",
            "reduction": event.reduction_ppm / PPM,
            "hours": event.hold_ms / MS_PER_HOUR,
            "ramp_minutes": event.ramp_ms / MS_PER_MINUTE,
            "baseline_watts": round(float(self.baseline_w), 3),
            "target_watts": self.target_w,
            "draw_watts": self.held.draw_w,
            "weighted_performance": round(self.weighted_performance, 6),
            "optimum": round(self.optimum, 6),
            "optimum_is": "reached" if self.is_reached else "a bound",
            "share_of_optimum": round(self.weighted_performance / self.optimum, 6) if self.optimum else 1.0,
            "proven_exact": self.held.is_exact,
            "bound_with_caps_changing_in_time": round(self.bound, 6),
            "worst_overshoot_watts": round(max(0.0, self.overshoot_w), 3),
            "least_headroom_watts": round(max(0.0, -self.overshoot_w), 3),
            "jobs": self._jobs(),
            "ramp": self._ramp(),
            "wall_s": round(self.wall_s, 3),
        }

    def _jobs(self) -> list[dict[str, object]]:
        columns = zip(
            self.event.jobs, self.held.caps_w, self.held.draws_mw, self.held.performances_ppm, strict=True
        )
        return [
            {
                "name": job.name,
                "tier": job.tier,
                "floor": job.floor_ppm / PPM,
                "gpus": job.gpus,
                "weight": job.weight,
                "cap_watts": cap_w,
                "draw_watts": ceil_div(draw_mw, 1_000),
                "performance": performance_ppm / PPM,
            }
            for job, cap_w, draw_mw, performance_ppm in columns
        ]

    def _ramp(self) -> list[dict[str, object]]:
        """The steps down; those back up are the same the other way round."""
        return [
            {
                "minute": round(level.from_ms / MS_PER_MINUTE, 3),
                "target_watts": floor(level.least_target_w),
                "caps_watts": list(level.caps_w),
            }
            for level in self.levels
            if level.from_ms < 0
        ]


def play(event: EventFile, curves: Path, credit: Credit = "modelled", measured_only: bool = False) -> Played:
    """Replay an event; HeadraceError names a job without a curve, a curve that can't be meant, a target that can't be reached."""
    began = time.perf_counter()
    measured = read_curves(curves)
    _check_names(event, measured, curves)
    power = {name: _curve_of(measured[name], curves) for name in sorted({job.name for job in event.jobs})}
    reference = [_reference(event, number, power) for number in range(len(event.jobs))]
    jobs = [
        Capped(
            str(number), power[job.name], job.gpus, job.weight, job.floor_ppm, reference[number],
            measured_only=measured_only,
        )
        for number, job in enumerate(event.jobs)
    ]  # fmt: skip
    own = [measured[job.name] for job in event.jobs]
    baseline_w = sum(
        (
            curve.draw_w(cap_w) * job.gpus
            for curve, cap_w, job in zip(own, reference, event.jobs, strict=True)
        ),
        Fraction(0),
    )
    target_w = floor(baseline_w * (PPM - event.reduction_ppm) / PPM)
    held = _reached(allocate(jobs, target_w, credit), event, target_w, baseline_w)
    levels = _levels(event, jobs, held, baseline_w, target_w, credit)
    weights = PPM * sum(job.weight for job in event.jobs)
    bound = time_shared_bound(jobs, target_w, credit) / weights
    # The table of a large event is so coarse that its sums of draws come out far too low; whatever caps may do, the bound holds.
    optimum = min(bound, exact_optimum(event.jobs, own, reference, target_w, credit, measured_only))
    over_w = overshoot_w(levels, own, [job.gpus for job in event.jobs])
    wall_s = time.perf_counter() - began
    return Played(
        event, credit, measured_only, baseline_w, target_w, held, levels, optimum, bound, over_w, wall_s
    )


# -- curves -------------------------------------------------------------------------------------------------------------


def read_curves(path: Path) -> dict[str, MeasuredCurve]:
    """The curves of a file by workload; HeadraceError with line and column of what is no number, or stands twice."""
    points: dict[str, dict[int, tuple[Fraction, Fraction]]] = {}
    lines: dict[tuple[str, int], str] = {}
    for row in rows_of(path, (WORKLOAD, CAP, THROUGHPUT, POWER), STEP):
        name = row.text(WORKLOAD).strip()
        if not name:
            raise bad(row.where, f"{WORKLOAD} is empty.")
        cap_w = whole(row.text(CAP), CAP, row.where, (1, MOST_CAP_W))
        found = _exact(row, POWER, MOST_CAP_W), _exact(row, THROUGHPUT, MOST_THROUGHPUT)
        if (name, cap_w) in lines:
            message = f"{shown(name)} at {cap_w} W stands twice; first at {lines[name, cap_w]}."
            raise bad(row.where, message, "Keep one of them.")
        lines[name, cap_w] = row.where
        points.setdefault(name, {})[cap_w] = found
    return {
        name: MeasuredCurve(name, tuple((cap_w, *found) for cap_w, found in sorted(of.items())))
        for name, of in points.items()
    }


def _exact(row: Row, column: str, most: int) -> Fraction:
    """A number as it is written, where it is written plainly; HeadraceError for what is none."""
    value = row.number(column, 0, most)
    text = row.text(column).strip()
    return Fraction(text if PLAIN.fullmatch(text) else value)


def _check_names(event: EventFile, curves: dict[str, MeasuredCurve], path: Path) -> None:
    problems = [
        Problem(
            ProblemCode.NOT_FOUND,
            f"no curve of {shown(job.name)} in {path.name};",
            did_you_mean(job.name, curves) + " Measure it, or take the job out of the event.",
            event.where("jobs", number, "name"),
        )
        for number, job in enumerate(event.jobs)
        if job.name not in curves
    ]
    if problems:
        raise HeadraceError(*problems)


def _curve_of(measured: MeasuredCurve, path: Path) -> PowerCurve:
    """The allocator's curve: draws rounded up to milliwatts, throughput down to millionths of what the highest cap gives."""
    top = measured.points[-1][2]
    if not top:
        raise bad(
            str(path), f"{shown(measured.name)} achieves nothing at its highest cap.", "Measure it again."
        )
    points = tuple(
        CurvePoint(cap_w, -floor(-1_000 * draw_w), floor(PPM * throughput / top))
        for cap_w, draw_w, throughput in measured.points
    )
    curve = PowerCurve(measured.name, points)
    faults = curve.faults()
    if faults:
        step = "Measure it again, or take out the rows that are wrong."
        raise bad(str(path), f"the curve of {shown(curve.name)} can't be meant: {'; '.join(faults)}.", step)
    return curve


def _reference(event: EventFile, number: int, curves: dict[str, PowerCurve]) -> int:
    """The cap that was in force before: as the event says, or the highest of the curve."""
    curve = curves[event.jobs[number].name]
    if not event.reference_w:
        return curve.most_w
    if not curve.least_w <= event.reference_w <= curve.most_w:
        message = (
            f"caps of {event.reference_w} W were in force, but {shown(curve.name)} was measured "
            f"from {curve.least_w} W to {curve.most_w} W."
        )
        raise bad(event.where("event", "of"), message, "Say a cap that every curve of the event has.")
    if not curve.at(event.reference_w).performance_ppm:
        message = (
            f"caps of {event.reference_w} W were in force, under which {shown(curve.name)} achieves nothing."
        )
        step = "Say a cap under which every curve of the event achieves something, or take the job out."
        raise bad(event.where("event", "of"), message, step)
    return event.reference_w


# -- levels -------------------------------------------------------------------------------------------------------------


def _reached(
    found: Allocation | Unreachable, event: EventFile, target_w: int, baseline_w: Fraction
) -> Allocation:
    if isinstance(found, Allocation):
        return found
    if found.no_cap:
        names = ", ".join(f"jobs[{number}]" for number in found.no_cap[:12])
        raise bad(
            event.where("jobs"),
            f"no cap keeps the floor of {names}.",
            "Lower the floor, or give another curve.",
        )
    most = 1 - found.least_w / baseline_w
    message = (
        f"{target_w:,} W can't be reached: with every floor kept the jobs draw at least {found.least_w:,} W, "
        f"{float(max(most, Fraction(0))):.1%} less than {float(baseline_w):,.0f} W."
    )
    step = "Ask for less, lower a floor, or pause a job."
    raise HeadraceError(Problem(ProblemCode.UNPLACEABLE, message, step, event.where("event", "reduction")))


def _levels(
    event: EventFile,
    jobs: list[Capped],
    held: Allocation,
    baseline_w: Fraction,
    target_w: int,
    credit: Credit,
) -> tuple[Level, ...]:
    """The caps in force from the first step of the ramp down to the last one of the ramp up.

    Down, the caps of a step are in force before it begins and keep what the target comes to at its end; up, they are
    raised when it begins and keep what the target is then. No cap goes the other way on a ramp, so that any mix of
    old and new caps draws no more than the higher of the two.
    """
    steps = min(MOST_STEPS, ceil_div(event.ramp_ms, MS_PER_MINUTE)) if event.ramp_ms else 0
    fall_w = baseline_w - target_w
    ends_w = [baseline_w - fall_w * (step + 1) / steps for step in range(steps)]
    caps: list[tuple[int, ...]] = []
    before = tuple(job.ceiling_w for job in jobs)
    for end_w in ends_w[:-1]:
        found = allocate(_narrowed(jobs, held, before), floor(end_w), credit)
        before = found.caps_w if isinstance(found, Allocation) else held.caps_w
        caps.append(before)
    if steps:
        caps.append(held.caps_w)
    # One more than steps: where one ends the next begins.
    ends_ms = [event.ramp_ms * step // steps - event.ramp_ms for step in range(steps + 1)] if steps else []
    down = [
        Level(begin_ms, end_ms, end_w, of)
        for (begin_ms, end_ms), end_w, of in zip(pairwise(ends_ms), ends_w, caps, strict=True)
    ]
    hold = Level(0, event.hold_ms, Fraction(target_w), held.caps_w)
    up = [
        Level(
            event.hold_ms - level.until_ms, event.hold_ms - level.from_ms, level.least_target_w, level.caps_w
        )
        for level in reversed(down)
    ]
    return (*down, hold, *up)


def _narrowed(jobs: list[Capped], held: Allocation, before: tuple[int, ...]) -> list[Capped]:
    """The jobs with caps between those of the whole reduction and those of the step before."""
    return [
        Capped(
            job.id,
            job.curve,
            job.accelerators,
            job.weight,
            least_ppm,
            ceiling_w,
            job.ceiling_w,
            job.measured_only,
        )
        for job, least_ppm, ceiling_w in zip(jobs, held.performances_ppm, before, strict=True)
    ]
