"""The Standard Workload Format 2.2 of the Parallel Workloads Archive (Feitelson et al., JPDC 2014).

A file has comments (``; Key: value``) and one line of 18 numbers for each job, -1 for what is not known. A processor becomes an
accelerator of a node: the header says how many processors a node has.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from headrace.replay.clock import Job
from headrace.replay.cluster import ReplayCluster, fleet_of, hardware
from headrace.replay.philly import shape_of
from headrace.replay.rows import MOST, MOST_NODES, MOST_S, WIDEST, bad, number, whole

_FIELDS = 18
_MOST_NUMBER = 1 << 53
"""Numbers of jobs and users may be as large as a file in this format says exactly."""
_STEP = "Correct the line, or begin it with ';'."
_LOG = "Give a log in the Standard Workload Format."
_PARTIAL = frozenset({2, 3, 4})
_CANCELLED = 5


class Line(NamedTuple):
    """The numbers of a line that a replay looks at; times in seconds, -1 where not known."""

    number: int
    submit_s: float
    run_s: float
    allocated: int
    requested: int
    requested_s: float
    status: int
    user: int


@dataclass(frozen=True, slots=True)
class Machine:
    """``nodes`` nodes of ``width`` processors."""

    nodes: int
    width: int


@dataclass(frozen=True, slots=True)
class Log:
    """The jobs of a log, by submission, and what they ran on. ``skipped``: why lines gave no job, and how many did not."""

    machine: Machine
    jobs: list[Job]
    skipped: dict[str, int] = field(default_factory=dict)

    def cluster(self) -> ReplayCluster:
        """The machine, for the users of the log: each is a tenant."""
        fleet = fleet_of([(hardware("processor", self.machine.width), self.machine.nodes)])
        return ReplayCluster(fleet, dict.fromkeys(job.tenant for job in self.jobs))


def read(path: Path, processors: int = 0) -> Log:
    """A log. ``processors`` stands in for a header that doesn't say how many there are.

    A job asks for the processors that it requested, or else for those that it got; it runs as long as it ran, is ended when its
    requested time is over, and is expected to take that. Those that never ran, and parts of a job that is summed up on a line of
    its own, give no job. Raises HeadraceError that names the file and the line.
    """
    header: dict[str, tuple[str, str]] = {}
    skipped: Counter[str] = Counter()
    found: list[Line] = []
    for where, text in _lines(path):
        if text.startswith(";"):
            key, colon, value = text.lstrip("; \t").partition(":")
            if colon:
                header.setdefault(key.strip().lower(), (where, value.strip()))
            continue
        line = _line(where, text)
        why = _no_job(line)
        if why:
            skipped[why] += 1
        else:
            found.append(line)
    if not found:
        raise bad(str(path), "there is no job in it.", _LOG)
    machine = _machine(path, header, processors)
    first_s = min(line.submit_s for line in found)
    jobs = sorted((_job(line, machine, first_s) for line in found), key=lambda job: job.submit_ms)
    return Log(machine, jobs, dict(sorted(skipped.items())))


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    try:
        # Names in the headers of old logs are in any encoding.
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            for number, raw in enumerate(file, 1):
                text = raw.strip()
                if text:
                    yield f"{path}:{number}", text
    except OSError as error:
        raise bad(str(path), f"can't read it: {error.strerror}.", _LOG) from None


def _line(where: str, text: str) -> Line:
    words = text.split()
    if len(words) != _FIELDS:
        raise bad(where, f"a job has {_FIELDS} fields, not {len(words)}.", _STEP)

    def seconds(at: int) -> float:
        return number(words[at - 1], f"field {at}", where, (-MOST_S, MOST_S), _STEP)

    def count(at: int, most: int = MOST) -> int:
        return whole(words[at - 1], f"field {at}", where, (-most, most), _STEP)

    return Line(
        number=count(1, _MOST_NUMBER),
        submit_s=seconds(2),
        run_s=seconds(4),
        allocated=count(5),
        requested=count(8),
        requested_s=seconds(9),
        status=count(11),
        user=count(12, _MOST_NUMBER),
    )


def _no_job(line: Line) -> str:
    """Why a line gives no job; "" if it does."""
    if line.status in _PARTIAL:
        return "part of another job"
    if line.run_s <= 0 and line.status == _CANCELLED:
        return "cancelled before it ran"
    if line.run_s < 0:
        return "run time not known"
    if line.submit_s < 0:
        return "submission not known"
    if max(line.requested, line.allocated) <= 0:
        return "processors not known"
    return ""


def _job(line: Line, machine: Machine, first_s: float) -> Job:
    nodes, each = shape_of(line.requested if line.requested > 0 else line.allocated, machine.width)
    limit_ms = round(line.requested_s * 1000) if line.requested_s > 0 else 0
    return Job(
        name=str(line.number),
        tenant=f"user-{line.user}" if line.user >= 0 else "user-unknown",
        submit_ms=round((line.submit_s - first_s) * 1000),
        duration_ms=max(1, round(line.run_s * 1000)),
        nodes=nodes,
        accelerators=each,
        limit_ms=limit_ms,
        expected_ms=limit_ms,
    )


def _machine(path: Path, header: dict[str, tuple[str, str]], processors: int) -> Machine:
    """Nodes as the header has them; wider ones than ours are taken apart, uneven ones into single processors."""
    if processors < 0:
        raise bad("--processors", f"there are no {processors} processors.", "Give how many there are.")
    where, count = "--processors", processors
    for key in ("maxprocs", "maxnodes"):
        if not count:
            where, count = _leading(header, key)
    if not count:
        raise bad(str(path), "no header says MaxProcs or MaxNodes.", "Give --processors.")
    nodes = _leading(header, "maxnodes")[1] or count
    width = count // nodes if count % nodes == 0 else 1
    if width > WIDEST:
        width = next(part for part in range(WIDEST, 0, -1) if width % part == 0)
    if count // width > MOST_NODES:
        message = f"{count:,} processors make up {count // width:,} nodes, more than {MOST_NODES:,}."
        raise bad(where, message, "Give less, with --processors.")
    return Machine(count // width, width)


def _leading(header: dict[str, tuple[str, str]], key: str) -> tuple[str, int]:
    """Where a header's value stands, and the number that it begins with; 0 if it begins with none."""
    where, text = header.get(key, ("", ""))
    words = text.replace(",", " ").split()
    if not words or not words[0].isdecimal():
        return where, 0
    return where, whole(words[0], key, where, (0, _MOST_NUMBER), _STEP)
