"""What Slurm is asked and what it says, through its own commands: one process for a list, however long it is.

Lists are asked for as text of named columns, not as JSON: in 22.05 the JSON of a running job names each of its cores.
"""

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from headrace.core.errors import ProblemCode
from headrace.engines.agent import Refused
from headrace.engines.problems import engine_error
from headrace.ports import EngineError

OLDEST = (22, 5)
"""The oldest release whose answers are known."""
_ALIVE = frozenset(
    {"PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "COMPLETING", "STAGE_OUT", "SIGNALING", "STOPPED", "RESIZING"}
)  # fmt: skip
_COLUMNS = "%i|%T|%r|%N|%u|%a|%P|%j|%k"
_NODE_COLUMNS = "%N|%T|%G|%c|%m|%v|%P|%E"
_GPUS = re.compile(r"gpu:(?:[^:,()]+:)?([0-9]+)")
_NEVER = re.compile(
    r"invalid account|invalid partition|invalid node name|node configuration is not available|"
    r"invalid generic resource|invalid qos|invalid user|access/permission denied|more processors requested",
    re.IGNORECASE,
)
_UNREACHABLE = re.compile(
    r"unable to contact slurm controller|connection refused|socket timed out|zero bytes|unable to establish "
    r"configuration|slurm_load|protocol authentication error|slurm backup controller",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Submission:
    """A job to submit: a task on each of ``nodes``, all or none. ``gres`` and ``cpus``, ``memory_mb`` are of each node."""

    name: str
    comment: str
    nodes: tuple[str, ...]
    script: str
    partition: str = ""
    account: str = ""
    reservation: str = ""
    gres: str = ""
    cpus: int = 1
    memory_mb: int = 0
    exclusive: bool = False
    output: str = "/dev/null"


@dataclass(frozen=True, slots=True)
class Job:
    """A job as Slurm has it. ``state`` as Slurm writes it, like RUNNING; ``nodes`` as a host list, like gpu[1-3]."""

    id: int
    state: str
    reason: str
    nodes: str
    user: str
    account: str
    partition: str
    name: str
    comment: str

    @property
    def is_alive(self) -> bool:
        """Whether it may run yet, or does."""
        return self.state in _ALIVE


@dataclass(frozen=True, slots=True)
class SlurmNode:
    """A node as Slurm has it. ``state`` in lower case without flags, like idle or draining; ``is_silent``: does not answer."""

    name: str
    state: str
    is_silent: bool
    accelerators: int
    cpus: int
    memory_mb: int
    version: str
    partition: str
    reason: str


class SlurmClient(Protocol):
    """What the engine asks of Slurm. Raises EngineError when it can't be asked now, Refused when it never will."""

    def submit(self, job: Submission) -> int:
        """Submit a job; its number."""
        ...

    def cancel(self, jobs: Sequence[int]) -> None:
        """End jobs, as far as they are there."""
        ...

    def suspend(self, job: int, *, goes_on: bool) -> None:
        """Stop the processes of a running job, or let them go on. Its nodes and accelerators stay its own."""
        ...

    def jobs(self) -> list[Job]:
        """All jobs that Slurm has, ended ones for as long as it keeps them."""
        ...

    def nodes(self) -> list[SlurmNode]:
        """All nodes, once for each partition that they are in."""
        ...


class Commands:
    """Slurm through ``sbatch``, ``squeue``, ``sinfo``, ``scancel`` and ``scontrol`` with the configuration at ``conf``."""

    def __init__(self, conf: Path | None = None, *, timeout_s: float = 60) -> None:
        self._conf = conf
        self._timeout_s = timeout_s

    def submit(self, job: Submission) -> int:
        """Through ``sbatch``: the script goes in by its standard input."""
        options = {
            "--job-name": job.name,
            "--comment": job.comment,
            "--nodelist": ",".join(job.nodes),
            "--nodes": str(len(job.nodes)),
            "--ntasks": str(len(job.nodes)),
            "--ntasks-per-node": "1",
            "--cpus-per-task": str(max(1, job.cpus)),
            "--output": job.output,
            "--partition": job.partition,
            "--account": job.account,
            "--reservation": job.reservation,
            "--gres": job.gres,
            "--mem": f"{job.memory_mb}M" if job.memory_mb else "",
        }
        flags = ["--parsable", "--no-requeue", *(["--exclusive"] if job.exclusive else [])]
        given = [f"{name}={value}" for name, value in options.items() if value]
        answer = self._run("sbatch", *flags, *given, script=job.script)
        number = answer.strip().partition(";")[0]
        if not number.isdecimal():
            raise _unexpected("sbatch", answer)
        return int(number)

    def cancel(self, jobs: Sequence[int]) -> None:
        """Through one ``scancel``; those that are not there any more are no error."""
        if jobs:
            self._run("scancel", "--quiet", *map(str, jobs))

    def suspend(self, job: int, *, goes_on: bool) -> None:
        """Through ``scontrol``; nothing for a job that does not run, or is as it should be."""
        try:
            self._run("scontrol", "resume" if goes_on else "suspend", str(job))
        except EngineError as error:
            if not re.search("not suspended|not running|already|invalid job", str(error), re.IGNORECASE):
                raise

    def jobs(self) -> list[Job]:
        """Through one ``squeue``."""
        found = []
        for line in self._run(
            "squeue", "--noheader", "--states=all", "--all", f"--format={_COLUMNS}"
        ).splitlines():
            parts = line.split("|", 8)
            if len(parts) != _COLUMNS.count("|") + 1 or not parts[0].partition("_")[0].isdecimal():
                raise _unexpected("squeue", line)
            number = int(parts[0].partition("_")[0])
            found.append(Job(number, *parts[1:]))
        return found

    def nodes(self) -> list[SlurmNode]:
        """Through one ``sinfo``."""
        found = []
        for line in self._run(
            "sinfo", "--noheader", "--Node", "--all", f"--format={_NODE_COLUMNS}"
        ).splitlines():
            parts = line.split("|", 7)
            if len(parts) != _NODE_COLUMNS.count("|") + 1 or not parts[3].isdecimal():
                raise _unexpected("sinfo", line)
            name, state, gres, cpus, memory, version, partition, reason = parts
            found.append(
                SlurmNode(
                    name=name,
                    state=state.rstrip("*~#!%$@^-+").lower(),
                    is_silent="*" in state,
                    accelerators=sum(map(int, _GPUS.findall(gres))),
                    cpus=int(cpus),
                    memory_mb=int(memory.rstrip("+") or 0),
                    version=version,
                    partition=partition.rstrip("*"),
                    reason="" if reason == "none" else reason,
                )
            )
        return found

    def _run(self, command: str, *arguments: str, script: str = "") -> str:
        env = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", "SLURM_TIME_FORMAT": "standard"}
        if self._conf is not None:
            env["SLURM_CONF"] = str(self._conf)
        try:
            done = subprocess.run(
                [command, *arguments],
                input=script,
                capture_output=True,
                text=True,
                check=False,
                timeout=self._timeout_s,
                env=env,
            )
        except FileNotFoundError as error:
            raise engine_error(
                ProblemCode.ENGINE_UNAVAILABLE,
                f"there is no {command} here;",
                "install Debian's slurm-client.",
            ) from error
        except subprocess.TimeoutExpired as error:
            raise engine_error(
                ProblemCode.ENGINE_UNAVAILABLE,
                f"{command} did not answer in {self._timeout_s:g} s;",
                "it is tried again; `scontrol ping` says whether slurmctld is up.",
            ) from error
        if done.returncode:
            raise _problem(command, done.stderr.strip() or done.stdout.strip())
        return done.stdout


def _problem(command: str, said: str) -> EngineError:
    line = " ".join(said.split())[:300] or "it failed and said nothing"
    if _NEVER.search(said):
        problem = engine_error(
            ProblemCode.UNPLACEABLE,
            f"Slurm refuses it: {line};",
            "compare the estate's nodes, partition and accounts.",
        )
        return Refused(*problem.problems)
    step = "`scontrol ping` says whether slurmctld is up; `headrace doctor` looks at all of it."
    if not _UNREACHABLE.search(said):
        step = "it is tried again; `headrace doctor` looks at all of it."
    return engine_error(ProblemCode.ENGINE_UNAVAILABLE, f"{command}: {line};", step)


def _unexpected(command: str, line: str) -> EngineError:
    return engine_error(
        ProblemCode.ENGINE_UNAVAILABLE,
        f"{command} says what is not understood: {line[:120]!r};",
        f"Slurm {OLDEST[0]}.{OLDEST[1]:02d} or later is known; see `headrace doctor`.",
    )
