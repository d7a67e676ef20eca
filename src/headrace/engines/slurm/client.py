"""What Slurm is asked and what it says, and the asking through its own commands: one process for a list, however long it is.

Lists are asked for as text of named columns, not as JSON: in 22.05 the JSON of a running job names each of its cores.

Users write some of what is listed, like a job's name, with line ends and whatever else they like. So each line and column is
framed by what is chosen at random for this one question. squeue is told of it in its environment, which nobody else can read;
sinfo on its command line, as it takes no columns of a list by node from elsewhere: what it lists administrators alone write.
"""

import contextlib
import os
import pwd
import re
import secrets
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, TypeVar

from headrace.core.errors import ProblemCode
from headrace.engines.agent import Refused
from headrace.engines.problems import engine_error
from headrace.engines.slurm.listing import Listing, counts
from headrace.engines.slurm.running import Running
from headrace.ports import EngineError

OLDEST = (22, 5)
"""The oldest release whose answers are known."""
MANY = 1_000
"""So many jobs take squeue long to list: sdiag is asked first whether it is worth it."""
AGAIN_S = 5.0
"""How old the list of many jobs gets, whatever sdiag says: a job that is held or renamed is counted nowhere."""
MOST_HOSTS = 100_000
"""No host list is taken for more."""
_ALIVE = frozenset(
    {"PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "COMPLETING", "STAGE_OUT", "SIGNALING", "STOPPED", "RESIZING"}
)  # fmt: skip
_COLUMNS = ("%i", "%A", "%T", "%r", "%N", "%U", "%u", "%a", "%P", "%v", "%S", "%j", "%k")
_NODE_COLUMNS = ("%N", "%T", "%G", "%c", "%m", "%v", "%P", "%a", "%E")
_ID = re.compile(r"[0-9]+(?:_[0-9]+|_\[[^\[\]]+\]|\+[0-9]+)?")
_DRAINED = frozenset({"drain", "drained", "draining", "drng", "maint"})
_PASSING = frozenset({"COMPLETING", "STAGE_OUT", "SIGNALING", "RESIZING"})
_ASKING = frozenset({"squeue", "sinfo", "sdiag"})
_NUMBERED = re.compile(r"([^0-9]*)([0-9]*)")
_GPUS = re.compile(r"gpu:(?:[^:,()]+:)?([0-9]+)")
_ENV = {"LANG": "C.UTF-8", "SLURM_TIME_FORMAT": "%s", "SLURM_BITSTR_LEN": "0"}
"""Times as seconds, whatever the zone; arrays in full."""
_T = TypeVar("_T")
_NOTHING: Mapping[str, str] = MappingProxyType({})
_VERSION = re.compile(r"SLURM_VERSION\s*=\s*(\S+)")
_NEVER = (
    ("invalid partition|not permitted to use this partition", "name a partition of `sinfo` for the site."),
    (
        "invalid account",
        "`sacctmgr add account NAME` and add the control plane's user to it, or map the tenant to another.",
    ),
    ("invalid node name|node configuration is not available", "compare: `headrace engines`."),
    # What sbatch says of an unknown resource, and what slurmrestd says of it and of all else that it can't make out.
    (
        "invalid generic resource|failure during parsing",
        "name generic resources as the cluster's gres.conf does.",
    ),
    (
        "invalid qos|invalid user|access/permission denied|more processors requested",
        "compare the estate's nodes, partition and accounts with the cluster's.",
    ),
)
"""What Slurm says to what it will never do, and what then is to be done."""
_NOT_NOW = (
    ("munge|authentication", "munged must run here with the cluster's key: `munge -n | unmunge` tries it."),
    (
        "establish configuration|process configuration file|clustername needs",
        "write the path of the cluster's slurm.conf as conf: of the engine.",
    ),
    (
        "unable to contact slurm controller|connection refused|socket timed out|zero bytes|slurm_load|slurm backup controller",
        "`scontrol ping` says whether slurmctld is up; if it is, compare SlurmctldHost and SlurmctldPort in conf: with its own.",
    ),
)
"""What Slurm says to what it can't do now, and what then is to be looked at."""
_LATER = "it is tried again; slurmctld's log says more."
_CONF_PLACES = ("/etc/slurm/slurm.conf", "/run/slurm/conf/slurm.conf")
_FIND_CONF_S = 10
_PIECE = re.compile(r"([^\[\],]*)\[([^\[\]]*)\]|([^\[\],]+)")
_RANGE = re.compile(r"([0-9]+)(?:-([0-9]+))?")


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
    """A job as Slurm has it. ``state`` as Slurm writes it, like RUNNING; ``nodes`` as a host list, like gpu[1-3].

    ``id`` is its number, ``full_id`` how Slurm calls it: an element of an array like 17_3, the elements that wait together
    like 17_[4-9], a part of a heterogeneous job like 6+1. ``uid`` is who submitted it; ``began_s``: when it began by Slurm's
    wall clock, None before that.
    """

    id: int
    full_id: str
    state: str
    reason: str
    nodes: str
    uid: int
    user: str
    account: str
    partition: str
    reservation: str
    began_s: float | None
    name: str
    comment: str

    @property
    def is_alive(self) -> bool:
        """Whether it may run yet, or does."""
        return self.state in _ALIVE

    @property
    def waits(self) -> bool:
        """Whether it has yet to begin."""
        return self.state == "PENDING"


@dataclass(frozen=True, slots=True)
class SlurmNode:
    """A node as Slurm has it, in one of its partitions.

    ``state`` in lower case without flags, like idle or draining; ``is_silent``: does not answer; ``is_drained``: gets no new
    work, for ``reason``; ``partition_state``: up, or what else the partition is.
    """

    name: str
    state: str
    is_silent: bool
    is_drained: bool
    accelerators: int
    cpus: int
    memory_mb: int
    version: str
    partition: str
    partition_state: str
    reason: str


class SlurmClient(Protocol):
    """What the engine asks of Slurm. Raises EngineError when it can't be asked now, Refused when it never will."""

    @property
    def user(self) -> str:
        """Whose the jobs are that it submits."""
        ...

    @property
    def uid(self) -> int:
        """The number of that user."""
        ...

    @property
    def trouble(self) -> str:
        """What of the last list of jobs was not understood and left out, or ""."""
        ...

    def submit(self, job: Submission) -> int:
        """Submit a job; its number."""
        ...

    def cancel(self, jobs: Sequence[int]) -> None:
        """End jobs, as far as they are there."""
        ...

    def drain(self, nodes: Mapping[str, str]) -> None:
        """Give nodes no new work, each for its reason."""
        ...

    def undrain(self, nodes: Sequence[str]) -> None:
        """Give nodes work again."""
        ...

    def jobs(self) -> list[Job]:
        """All jobs that Slurm has, ended ones for as long as it keeps them."""
        ...

    def nodes(self) -> list[SlurmNode]:
        """All nodes, once for each partition that they are in."""
        ...

    def version(self) -> str:
        """The controller's release, like 22.05.8."""
        ...

    def run(self, command: str, *arguments: str) -> str:
        """What one of Slurm's own commands prints, for what there is no other way to ask."""
        ...

    def interrupt(self) -> None:
        """End what others are asking at this moment, as far as that can be done: they get an EngineError."""
        ...

    def close(self) -> None:
        """End its connections."""
        ...


class Commands:
    """Slurm through ``sbatch``, ``squeue``, ``sdiag``, ``sinfo``, ``scancel``, ``scontrol``; ``conf``: its configuration."""

    def __init__(
        self, conf: Path | None = None, *, timeout_s: float = 60, many: int = MANY, again_s: float = AGAIN_S
    ) -> None:
        self._conf, self._timeout_s, self._many, self._again_s = conf, timeout_s, many, again_s
        self._uid = os.geteuid()
        self._user = _user_name(self._uid)
        self._running = Running()
        self._jobs = Listing("squeue", _COLUMNS, _job)
        self._listed: tuple[list[Job], str, float] = ([], "", 0.0)
        self._nodes = Listing("sinfo", _NODE_COLUMNS, _nodes_of)
        self._down = Listing("sinfo", ("%N",), lambda line: hosts_of(line[0]))
        self._known: tuple[object, object, list[SlurmNode]] = ((), (), [])

    @property
    def user(self) -> str:
        """Who runs this."""
        return self._user

    @property
    def uid(self) -> int:
        """Its number."""
        return self._uid

    @property
    def trouble(self) -> str:
        """Which lines of ``squeue`` were left out."""
        return left_out("squeue", self._jobs.strange)

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
            "--chdir": "/",
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
            raise unexpected("sbatch", answer)
        return int(number)

    def cancel(self, jobs: Sequence[int]) -> None:
        """Through one ``scancel``; those that are not there any more are no error."""
        if jobs:
            self._run("scancel", "--quiet", *map(str, jobs))

    def drain(self, nodes: Mapping[str, str]) -> None:
        """Through one ``scontrol`` for each reason."""
        for reason, names in by_reason(nodes).items():
            self._run("scontrol", "update", f"nodename={','.join(names)}", "state=drain", f"reason={reason}")

    def undrain(self, nodes: Sequence[str]) -> None:
        """Through one ``scontrol``."""
        if nodes:
            self._run("scontrol", "update", f"nodename={','.join(nodes)}", "state=resume")

    def jobs(self) -> list[Job]:
        """Through one ``squeue``. A line that is not understood is left out: see :attr:`trouble`.

        Where it lists ``many``, which takes it long, only when Slurm's statistics tell that some began or ended, and every
        ``again_s``.
        """
        (found, counted, listed_s), now_s = self._listed, time.monotonic()
        is_long, now = len(found) >= self._many, ""
        if is_long:
            # Before the list: what changes meanwhile shows in the next.
            with contextlib.suppress(EngineError):
                now = counts(self._run("sdiag"))
            is_on_its_way = any(one.state in _PASSING for one in found)
            if counted and counted == now and now_s - listed_s < self._again_s and not is_on_its_way:
                return found
        self._listed = self._list(self._jobs, "--states=all", "--all"), now, now_s
        return self._listed[0]

    def changed(self) -> None:
        """Something was asked of Slurm that may show in no statistic yet: jobs are listed anew."""
        self._listed = self._listed[0], "", 0.0

    def nodes(self) -> list[SlurmNode]:
        """Through one ``sinfo``, and another where nodes are drained: it doesn't say of those whether they are down too."""
        # Those of which it says the same stand in one line: each in its own takes it five times as long.
        found = self._list(self._nodes, "--exact", "--all")
        is_drained = any(one.is_drained for group in found for one in group[:1])
        down = self._list(self._down, "--all", "--states=down") if is_drained else ()
        if self._known[0] is not found or self._known[1] is not down:
            names = {host for group in down for host in group}
            nodes = [one for group in found for one in group]
            nodes = [replace(one, state="down") if one.name in names else one for one in nodes]
            self._known = found, down, sorted(nodes, key=_in_order)
            # A job that its node took along is counted nowhere.
            self.changed()
        return self._known[2]

    def _list(self, listing: Listing[_T], *options: str) -> list[_T]:
        """What a command lists; the very list of the last time when nothing changed."""
        secret = secrets.token_hex(8)
        form = listing.form(secret)
        is_secret = listing.command == "squeue"
        more, told = ({"SQUEUE_FORMAT": form}, ()) if is_secret else (_NOTHING, (f"--format={form}",))
        said = self._run(listing.command, "--noheader", *told, *options, more=more)
        try:
            return listing.read(said, secret)
        except ValueError as error:
            raise unexpected(listing.command, str(error)) from None

    def version(self) -> str:
        """Through ``scontrol show config``."""
        answer = self._run("scontrol", "show", "config")
        found = _VERSION.search(answer)
        if found is None:
            raise unexpected("scontrol", answer)
        return found[1]

    def run(self, command: str, *arguments: str) -> str:
        """Run it."""
        return self._run(command, *arguments)

    def _run(
        self, command: str, *arguments: str, script: str = "", more: Mapping[str, str] = _NOTHING
    ) -> str:
        if command not in _ASKING:
            self.changed()
        env = {"PATH": os.environ.get("PATH", os.defpath), **_ENV, **more}
        conf, timeout_s = configuration(self._conf), self._timeout_s
        if conf is None:
            # The commands ask the network's name service for one, and some of them for a minute.
            timeout_s = min(timeout_s, _FIND_CONF_S)
        elif not os.access(conf, os.R_OK):
            raise _no_configuration(f"{conf} can't be read" if conf.exists() else f"{conf} is not there")
        else:
            env["SLURM_CONF"] = str(conf)
        try:
            code, out, err = self._running.run([command, *arguments], script.encode(), env, timeout_s)
        except FileNotFoundError as error:
            raise engine_error(
                ProblemCode.ENGINE_UNAVAILABLE,
                f"there is no {command} here;",
                "install Debian's slurm-client.",
            ) from error
        except subprocess.TimeoutExpired as error:
            if timeout_s < self._timeout_s:
                what = f"is in none of its places, and {command} found none in {timeout_s:g} s"
                raise _no_configuration(what) from error
            raise engine_error(
                ProblemCode.ENGINE_UNAVAILABLE,
                f"{command} did not answer in {self._timeout_s:g} s;",
                "it is tried again; `scontrol ping` says whether slurmctld is up.",
            ) from error
        # Whatever bytes a user's text has, they are no error here.
        said, complained = (one.decode(errors="replace") for one in (out, err))
        if code:
            raise as_problem(command, complained.strip() or said.strip())
        return said

    def interrupt(self) -> None:
        """End what is being asked at this moment."""
        self._running.kill()

    def close(self) -> None:
        """Nothing is kept between two commands."""


def configuration(conf: Path | None) -> Path | None:
    """The slurm.conf that commands use: the engine's own, the environment's, or the one in its place; None for none."""
    named_, default = os.environ.get("SLURM_CONF"), (Path(place) for place in _CONF_PLACES)
    if conf is not None or named_:
        return conf or Path(named_ or "")
    return next((place for place in default if place.exists()), None)


def _no_configuration(what: str) -> EngineError:
    return engine_error(
        ProblemCode.ENGINE_UNAVAILABLE,
        f"Slurm's configuration {what};",
        "write the path of the cluster's slurm.conf as conf: of the engine, or put it there.",
    )


def _job(line: Sequence[str]) -> Job | None:
    """A line of squeue; None when it is not understood."""
    if len(line) != len(_COLUMNS) or _ID.fullmatch(line[0]) is None:
        return None
    line = ["" if text == "(null)" else text for text in line]
    (
        full_id,
        number,
        state,
        reason,
        nodes,
        uid,
        user,
        account,
        partition,
        reservation,
        began,
        name,
        comment,
    ) = line
    if not (number.isdecimal() and uid.isdecimal()):
        return None
    return Job(
        id=int(number),
        full_id=full_id,
        state=state,
        reason=reason,
        nodes=nodes,
        uid=int(uid),
        user=user,
        account=account,
        partition=partition,
        reservation=reservation,
        # Of one that waits it is when it is thought to begin.
        began_s=float(began) if began.isdecimal() and state != "PENDING" else None,
        name=name,
        comment=comment,
    )


def _nodes_of(parts: Sequence[str]) -> list[SlurmNode]:
    """The nodes of a line of sinfo, which says the same of all of them; none of a partition that has none."""
    node = _node(parts)
    return [replace(node, name=host) for host in hosts_of(node.name)]


def _in_order(node: SlurmNode) -> list[tuple[int, str]]:
    """Where a node stands among others: lab-9 before lab-10."""
    return [(int(part or 0), text) for text, part in _NUMBERED.findall(node.name)]


def _node(parts: Sequence[str]) -> SlurmNode:
    if len(parts) != len(_NODE_COLUMNS) or not parts[3].isdecimal():
        raise unexpected("sinfo", "|".join(parts))
    name, written, gres, cpus, memory, version, partition, availability, reason = parts
    state = written.rstrip("*~#!%$@^-+").lower()
    return SlurmNode(
        name=name,
        state=state,
        is_silent="*" in written,
        is_drained=state in _DRAINED,
        accelerators=gpus_of(gres),
        cpus=int(cpus),
        memory_mb=int(memory.rstrip("+") or 0),
        version=version,
        partition=partition.rstrip("*"),
        partition_state=availability,
        reason="" if reason == "none" else reason,
    )


# --- what is the same however it is asked ---------------------------------------------------------------------------


def hosts_of(expression: str) -> tuple[str, ...]:
    """The names that a host list stands for, like ``gpu[1-3,7],x``, in its order; EngineError for what is none."""
    found: list[str] = []
    for word in _words(expression):
        parts: list[list[str]] = []
        for name, ranges, plain in _PIECE.findall(word):
            parts.append([name or plain])
            if not plain:
                parts.append(list(_numbers(ranges, expression)))
        found.extend(map("".join, product(*parts)))
        if len(found) > MOST_HOSTS:
            raise unexpected("a host list", expression)
    return tuple(found)


def _words(expression: str) -> Iterator[str]:
    """The parts between those commas that stand in no brackets."""
    depth, begin = 0, 0
    for at, sign in enumerate(f"{expression},"):
        depth += (sign == "[") - (sign == "]")
        if not 0 <= depth <= 1 or (depth and at == len(expression)):
            raise unexpected("a host list", expression)
        if sign == "," and not depth:
            if at > begin:
                yield expression[begin:at]
            begin = at + 1


def _numbers(ranges: str, expression: str) -> Iterator[str]:
    for one in ranges.split(","):
        found = _RANGE.fullmatch(one)
        if found is None:
            raise unexpected("a host list", expression)
        first, last = found[1], found[2] or found[1]
        if not int(first) <= int(last) < int(first) + MOST_HOSTS:
            raise unexpected("a host list", expression)
        yield from (f"{number:0{len(first)}}" for number in range(int(first), int(last) + 1))


def gpus_of(gres: str) -> int:
    """How many accelerators stand in what Slurm says of generic resources, like ``gpu:h100:8(S:0-1),nic:2``."""
    return sum(map(int, _GPUS.findall(gres)))


def by_reason(nodes: Mapping[str, str]) -> dict[str, list[str]]:
    """The nodes to drain for each reason, without what would end the reason early."""
    found: dict[str, list[str]] = {}
    for name, reason in nodes.items():
        found.setdefault(" ".join(reason.split()).replace('"', "'"), []).append(name)
    return found


def require_known(version: str) -> None:
    """EngineError for a release older than :data:`OLDEST`, or what is none."""
    found = re.match(r"([0-9]+)\.([0-9]+)", version)
    if found is None:
        raise unexpected("the version", version)
    if (int(found[1]), int(found[2])) < OLDEST:
        raise engine_error(
            ProblemCode.ENGINE_UNAVAILABLE,
            f"Slurm {version} is older than supported;",
            f"upgrade to {OLDEST[0]}.{OLDEST[1]:02d} or later.",
        )


def as_problem(asked: str, said: str) -> EngineError:
    """What Slurm said to what it was asked, as Refused where it will always say so."""
    line = " ".join(said.split())[:300] or "it failed and said nothing"
    for pattern, step in _NEVER:
        if re.search(pattern, said, re.IGNORECASE):
            problem = engine_error(ProblemCode.UNPLACEABLE, f"Slurm refuses it: {line};", step)
            return Refused(*problem.problems)
    step = next((step for pattern, step in _NOT_NOW if re.search(pattern, said, re.IGNORECASE)), _LATER)
    return engine_error(ProblemCode.ENGINE_UNAVAILABLE, f"{asked}: {line};", step)


def unexpected(asked: str, said: str) -> EngineError:
    """The error for what nothing can be made of."""
    return engine_error(
        ProblemCode.ENGINE_UNAVAILABLE,
        f"{asked} says what is not understood: {said[:120]!r};",
        f"Slurm {OLDEST[0]}.{OLDEST[1]:02d} or later is known: look whether it is that, and nothing stands before it and changes "
        "what it says.",
    )


def left_out(asked: str, strange: Sequence[str]) -> str:
    """What is said of jobs that nothing can be made of, or ""."""
    if not strange:
        return ""
    return (
        f"{asked} says of {len(strange)} jobs what is not understood: {named(strange)}; they are left out: "
        "`squeue --all` shows whose they are"
    )


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def named(found: Iterable[str], most: int = 3) -> str:
    """Several things in a line, the first few by name."""
    names = list(found)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
