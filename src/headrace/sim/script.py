"""What happens in a simulated world, and when: requests of people, and faults, by chance alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from headrace.core.units import MS_PER_DAY, MS_PER_MINUTE
from headrace.sim.faults import CRASHES

FAULTS = (
    *(
        "lost-ack",
        "duplicate-start",
        "dead-node",
        "slow-node",
        "lost-rank",
        "late-reports",
        "engine-down",
        "refusals",
    ),
    *("disk-full", "failed-commit", "lost-commit", "clock-forward", "clock-back", "clock-drift"),
    *("stale-plan", "tampered-plan", "checkpoint", "duplicate-request", "reused-key"),
    *CRASHES,
)
"""Every kind of fault; a long world has at least ten, a short one at least one."""

LYING_IN_WAIT = frozenset(
    ("disk-full", "failed-commit", "lost-commit", "stale-plan", "tampered-plan", "duplicate-request")
) | frozenset(CRASHES)
"""Faults that wait for an occasion, which may not come; the others happen at their moment."""

ACTIONS = {
    "stop": 90,
    "pause": 14,
    "resume": 12,
    "drain": 8,
    "undrain": 8,
    "estate": 5,
    "documents": 5,
    "token": 4,
    "revoke": 3,
    "invoice": 5,
    "credit": 2,
    "explain": 14,
    "read-log": 2,
    "wrong": 4,
}
"""What people do beside submitting, and how often, in a long world."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How large a world is."""

    length_ms: int
    workloads: tuple[int, int]
    batch: int
    faults: tuple[int, int]
    actions_permille: int
    heartbeat_ms: int
    tick_ms: int
    latency_ms: tuple[int, int]
    meter_every_ms: int
    least_workloads: int = 0


LONG = Scale(
    2 * MS_PER_DAY,
    (200, 215),
    8,
    (14, 20),
    1_000,
    120 * MS_PER_MINUTE,
    30 * MS_PER_MINUTE,
    (500, 40_000),
    60 * MS_PER_MINUTE,
    least_workloads=200,
)
SHORT = Scale(
    30 * MS_PER_MINUTE,
    (8, 18),
    4,
    (1, 3),
    120,
    5 * MS_PER_MINUTE,
    10 * MS_PER_MINUTE,
    (100, 3_000),
    10 * MS_PER_MINUTE,
)


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happens at a moment after the start; ``size`` counts workloads of a submission."""

    at_ms: int
    kind: str
    what: str
    size: int = 0


def write_script(chance: Random, scale: Scale) -> list[Step]:
    """The steps of a world, in no order."""
    steps = [*_submissions(chance, scale), *_actions(chance, scale)]
    count = chance.randint(*scale.faults)
    # Each fault of a long world is of another kind as long as there are more kinds.
    kinds = chance.sample(FAULTS, min(count, len(FAULTS)))
    if LYING_IN_WAIT.issuperset(kinds):
        kinds[-1] = chance.choice([kind for kind in FAULTS if kind not in LYING_IN_WAIT])
    steps.extend(Step(_moment(chance, scale), "fault", kind) for kind in kinds)
    return steps


def _moment(chance: Random, scale: Scale) -> int:
    return chance.randrange(scale.length_ms)


def _submissions(chance: Random, scale: Scale) -> Iterator[Step]:
    """Half of them arrive in bursts, so that there are queues."""
    left = chance.randint(*scale.workloads)
    bursts = [_moment(chance, scale) for _ in range(4)]
    while left > 0:
        size = min(left, chance.randint(1, scale.batch))
        at_ms = _moment(chance, scale)
        if chance.random() < 0.5:
            at_ms = min(chance.choice(bursts) + chance.randrange(5 * MS_PER_MINUTE), scale.length_ms - 1)
        yield Step(at_ms, "submit", "", size)
        left -= size


def _actions(chance: Random, scale: Scale) -> Iterator[Step]:
    for what, often in ACTIONS.items():
        count, rest = divmod(often * scale.actions_permille, 1_000)
        count += chance.randrange(1_000) < rest
        for _ in range(count):
            yield Step(_moment(chance, scale), "act", what)
