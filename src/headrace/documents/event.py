"""The file of a demand-response event: how much less, for how long, and the jobs that run meanwhile.

    event: {reduction: 0.25, of: modelled GPU power at 400 W, hours: 3, ramp_minutes: 15}
    jobs:
      - {name: ft_llama_8b_p3, gpus: 32, tier: flex2, floor: 0.75}

``name`` is a workload of the curves' file, and may stand more than once. ``floor`` is the least average throughput, as a part of
what is achieved before the event; without it the tier's. ``weight`` is what a job counts for, its GPUs if it doesn't say.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from headrace.core.errors import HeadraceError, Problem, did_you_mean
from headrace.core.power.curves import PPM
from headrace.core.units import MS_PER_HOUR, MS_PER_MINUTE
from headrace.documents.report import bad_input, capped, validated
from headrace.documents.schema import Model, Text
from headrace.documents.source import Place, Raw, Source, parse, read_bytes, show
from headrace.documents.values import Bad, count, decimal

TIER_FLOORS_PPM = {"flex0": PPM, "flex1": 900_000, "flex2": 750_000, "flex3": 500_000}
"""The least throughput of the field test's flexibility classes; flex 0 isn't touched."""
MOST_GPUS = 1_000_000
MOST_WEIGHT = 1_000_000
MOST_JOBS = 10_000
MOST_HOURS = 24 * 366
_CAP = re.compile(r"\bat\s+([0-9]{1,6})\s*W\b", re.IGNORECASE)


def _share_ppm(value: object) -> int:
    """A part of the whole, 0 to 1, in millionths."""
    scaled = decimal(value, "a part of the whole", "0.25") * PPM
    if scaled > PPM:
        raise Bad(f"{show(value)} is more than the whole.", "Write a part of it, like 0.25.")
    if scaled != scaled.to_integral_value():
        raise Bad(f"{show(value)} is finer than it can be.", "At most six decimals.")
    return int(scaled)


def _ms_of(unit_ms: int, most: int, what: str) -> BeforeValidator:
    def validate(value: object) -> int:
        number = decimal(value, f"a number of {what}", "3")
        if number > most:
            raise Bad(f"{show(value)} {what} are too many.", f"At most {most}.")
        return int(number * unit_ms)

    return BeforeValidator(validate)


class _EventModel(Model):
    reduction: Annotated[int, BeforeValidator(_share_ppm)]
    of: Text = ""
    hours: Annotated[int, _ms_of(MS_PER_HOUR, MOST_HOURS, "hours")]
    ramp_minutes: Annotated[int, _ms_of(MS_PER_MINUTE, 60 * MOST_HOURS, "minutes")] = 0


class _JobModel(Model):
    name: Text
    gpus: Annotated[int, BeforeValidator(count(1, MOST_GPUS, "GPUs"))]
    tier: Text = ""
    floor: Annotated[int, BeforeValidator(_share_ppm)] | None = None
    weight: Annotated[int, BeforeValidator(count(1, MOST_WEIGHT, "weight"))] | None = None


class _ClusterModel(Model):
    event: _EventModel
    jobs: list[_JobModel] = Field(min_length=1, max_length=MOST_JOBS)


@dataclass(frozen=True, slots=True)
class EventJob:
    """A job that runs during an event; ``name`` is that of its curve. ``floor_ppm`` of its throughput are always kept."""

    name: str
    gpus: int
    tier: str
    floor_ppm: int
    weight: int


@dataclass(frozen=True, slots=True)
class EventFile:
    """An event: ``reduction_ppm`` less than what the jobs draw under caps of ``reference_w`` (0: the highest of each curve).

    The reduction is whole for ``hold_ms``, after a ramp of ``ramp_ms`` and before another one back.
    """

    reduction_ppm: int
    reference_w: int
    hold_ms: int
    ramp_ms: int
    jobs: tuple[EventJob, ...]
    source: Source = field(default_factory=Source, repr=False)

    def where(self, *place: str | int) -> str:
        """Where something stands in the file."""
        return self.source.where(place)


def load_event(path: Path) -> EventFile:
    """The event in a file; raises HeadraceError with every problem found."""
    raws = parse(read_bytes(path), str(path))
    if len(raws) != 1:
        found = "no document" if not raws else f"{len(raws)} documents"
        raise HeadraceError(
            bad_input(f"{found} in it.", "Write one, with event: and jobs:.", Source(str(path)))
        )
    return _event(raws[0])


def _event(raw: Raw) -> EventFile:
    model = validated(_ClusterModel, raw.data, raw.source)
    problems: list[Problem] = []
    reference_w = _reference_w(model.event, raw.source, problems)
    if not model.event.reduction:
        place: Place = ("event", "reduction")
        problems.append(
            bad_input("a reduction of nothing is none.", "Write a part, like 0.25.", raw.source, place)
        )
    jobs = tuple(
        EventJob(
            job.name,
            job.gpus,
            job.tier,
            _floor_ppm(job, number, raw.source, problems),
            job.weight or job.gpus,
        )
        for number, job in enumerate(model.jobs)
    )
    if problems:
        raise HeadraceError(*capped(problems))
    event = model.event
    return EventFile(event.reduction, reference_w, event.hours, event.ramp_minutes, jobs, raw.source)


def _reference_w(event: _EventModel, source: Source, problems: list[Problem]) -> int:
    """The cap whose draw the reduction is one of, 0 for the highest of each curve."""
    if not event.of:
        return 0
    found = _CAP.search(event.of)
    if found is None:
        step = "Name the caps that were in force before, like: modelled GPU power at 400 W."
        problems.append(
            bad_input(f"{show(event.of)} is nothing that can be computed.", step, source, ("event", "of"))
        )
        return 0
    return int(found[1])


def _floor_ppm(job: _JobModel, number: int, source: Source, problems: list[Problem]) -> int:
    if job.floor is not None:
        return job.floor
    tier = job.tier.lower().replace(" ", "").replace("-", "")
    if tier in TIER_FLOORS_PPM:
        return TIER_FLOORS_PPM[tier]
    if not tier:
        problems.append(bad_input("neither tier nor floor.", "Add floor: 0.75.", source, ("jobs", number)))
    else:
        step = did_you_mean(tier[:40], TIER_FLOORS_PPM) + " Or add floor: 0.75."
        problems.append(bad_input(f"no tier {show(job.tier)};", step, source, ("jobs", number, "tier")))
    return 0
