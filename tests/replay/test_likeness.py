"""Jobs in the likeness of a trace have its figures, and are the same every time."""

from collections import Counter
from itertools import pairwise
from random import Random

import pytest

from headrace.replay.clock import Job
from headrace.replay.likeness import likeness

DAY_MS = 86_400_000


def given() -> list[Job]:
    """Bursts of alike jobs: each burst has its own size and its own length."""
    chance = Random(5)
    jobs = []
    at_ms = 0
    for _ in range(100):
        at_ms += chance.randint(1, DAY_MS)
        size, runs_ms = chance.choice((1, 1, 2, 4)), chance.randint(1, DAY_MS)
        for _ in range(chance.randint(2, 8)):
            at_ms += chance.randint(1_000, 60_000)
            jobs.append(Job("", "", at_ms, runs_ms, 1, size))
    return jobs


def test_the_seed_decides_and_nothing_else() -> None:
    """The same seed, the same jobs."""
    assert likeness(given(), 500, seed=3) == likeness(given(), 500, seed=3)
    assert likeness(given(), 500, seed=3) != likeness(given(), 500, seed=4)


@pytest.mark.parametrize("count", [1, 14, 1_000])
def test_there_are_as_many_as_were_asked_for(count: int) -> None:
    """In order of submission, named by it."""
    jobs = likeness(given(), count)
    assert [job.name for job in jobs] == [str(number) for number in range(count)]
    assert [job.submit_ms for job in jobs] == sorted(job.submit_ms for job in jobs)


def test_sizes_durations_and_the_span_are_those_of_the_trace() -> None:
    """Within a tenth of a part of all jobs; tenants differ in size."""
    base, jobs = given(), likeness(given(), 20_000)
    ours, theirs = (Counter(job.accelerators for job in some) for some in (jobs, base))
    for size, count in theirs.items():
        assert abs(ours[size] / 20_000 - count / len(base)) < 0.1, size
    assert abs(sum(job.duration_ms for job in jobs) / 20_000 / DAY_MS * 2 - 1) < 0.2
    assert jobs[-1].submit_ms == pytest.approx(base[-1].submit_ms - base[0].submit_ms, rel=0.02)
    tenants = Counter(job.tenant for job in jobs)
    assert len(tenants) == 15
    assert tenants["vc-00"] > 10 * tenants["vc-14"]


def test_what_goes_together_stays_together() -> None:
    """A job is followed by one of the same length as often as in the trace, or nearly."""
    base = given()
    jobs = [job for job in likeness(base, 5_000) if job.tenant == "vc-00"]

    def alike(some: list[Job]) -> float:
        pairs = list(pairwise(some))
        return sum(a.duration_ms == b.duration_ms for a, b in pairs) / len(pairs)

    assert alike(jobs) > 0.9 * alike(base)
