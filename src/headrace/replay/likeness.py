"""Jobs in the likeness of a trace: more of them, of more tenants, resampled in blocks so that what goes together stays together.

Each tenant gets a trace of its own: blocks of jobs that followed each other are drawn from the given one, with their sizes,
durations and the gaps between them (a moving-block bootstrap, Kunsch 1989). A tenant has as many jobs as its part of all.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from heapq import merge

from headrace.replay.clock import Job

BLOCK = 64
"""Jobs in a block: about a week of the given Philly trace, so that days and nights and bursts stay whole."""


def likeness(jobs: Sequence[Job], count: int, tenants: int = 15, seed: int = 1) -> list[Job]:
    """``count`` jobs of ``tenants`` tenants over about the time that ``jobs`` (by submission, at least one) took.

    Tenants differ as those of Philly do: the n-th has the n-th part of what the first has, in jobs.
    """
    chance = random.Random(seed)
    given = sorted(jobs, key=lambda job: job.submit_ms)
    weights = [1_000_000 // (number + 1) for number in range(tenants)]
    shares = _parts(count, weights)
    streams = [
        _stream(given, share, f"vc-{number:02}", chance) for number, share in enumerate(shares) if share
    ]
    return [replace(job, name=str(number)) for number, job in enumerate(merge(*streams, key=_submitted))]


def _submitted(job: Job) -> int:
    return job.submit_ms


def _parts(count: int, weights: Sequence[int]) -> list[int]:
    """``count`` in parts as ``weights`` say, nobody lost to rounding."""
    whole, parts, before = sum(weights), [], 0
    for number in range(len(weights)):
        until = count * sum(weights[: number + 1]) // whole
        parts.append(until - before)
        before = until
    return parts


def _stream(given: Sequence[Job], count: int, tenant: str, chance: random.Random) -> list[Job]:
    """``count`` jobs of one tenant, their gaps scaled so that they take as long as the given trace."""
    drawn: list[tuple[int, Job]] = []
    while len(drawn) < count:
        first = chance.randrange(len(given))
        for at in range(first, first + min(BLOCK, count - len(drawn))):
            job, before = given[at % len(given)], given[at % len(given) - 1]
            drawn.append((max(0, job.submit_ms - before.submit_ms), job))
    span_ms = max(1, given[-1].submit_ms - given[0].submit_ms)
    total_ms = max(1, sum(gap for gap, _ in drawn))
    made, clock_ms = [], 0
    for gap_ms, job in drawn:
        clock_ms += gap_ms
        # Whole seconds, as traces have them.
        submit_ms = clock_ms * span_ms // total_ms // 1000 * 1000
        made.append(replace(job, tenant=tenant, submit_ms=submit_ms))
    return made
