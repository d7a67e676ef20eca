"""kill -9 of everything above and in real clusters under load, judged from outside (``benchmarks/engine_judge.py``).

A control plane with a site on a real Slurm (through slurmrestd) and one on a real Ray runs a stream of short jobs. At random
moments one of the control plane, slurmctld, a slurmd, slurmrestd, a raylet or Ray's head is killed, and started again after a
random pause; meanwhile others may die too. Then all is brought up, the stream ends, everything settles, and the judge reads.
"""

import heapq
import json
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.engine_judge import Evidence, judge
from benchmarks.engine_watch import Watch, sweep
from benchmarks.registry import Figure
from headrace.lab import ray
from headrace.lab.ray import RayLab, ray_lab
from headrace.lab.slurm import NO_ACCOUNTING, SlurmLab
from tests.durability.client import Api, Unanswered

SEED = 1
KILLS = 200
QUICK_S = 14.0
"""Killing in a quick run; starting, settling and judging take as long again and more."""
EVERY_S, PAUSE_S = (0.3, 3.0), 5.0
"""Between two kills; the longest pause before what was killed is started again."""
SETTLE_S = 120.0
START_S = 60.0
MOST_LIVE = {"loughton": 8, "boden": 3}
REST_USER = "nobody"
"""As whom slurmrestd runs: it refuses to be root."""
_REST = "AuthAltTypes=auth/jwt\nAuthAltParameters=jwt_key={folder}/jwt.key\n"
_COMPLETIONS = "JobCompType=jobcomp/filetxt\nJobCompLoc={folder}/completions\n"
_COUNTRIES = {"loughton": "GB", "boden": "SE"}
_STARTED = 'read -r up _ < /proc/uptime; echo "begin $up" >> "$WITNESS/$HEADRACE_PLACEMENT.$RANK"'
_DONE = 'read -r up _ < /proc/uptime; echo "end $up" >> "$WITNESS/$HEADRACE_PLACEMENT.$RANK"'
_WEIGHTS = {"control": 5, "slurmctld": 4, "slurmd": 5, "slurmrestd": 2, "raylet": 2, "ray head": 1}


def faults(quick: bool) -> Figure:
    """Violations after 200 kills of what a placement on a cluster hangs on (as many as fit, on Slurm alone, when quick)."""
    kills, seconds = (KILLS, QUICK_S) if quick else (KILLS, None)
    return run(kills, SEED, seconds=seconds, with_ray=not quick)


def run(kills: int, seed: int, *, seconds: float | None, with_ray: bool) -> Figure:
    """Kill, settle, judge. What was left stays on disk when there is something to look at."""
    # Not below the system's long temporary paths: sockets have short ones.
    folder = Path(tempfile.mkdtemp(prefix="hr-faults-"))
    folder.chmod(0o755)
    with ExitStack() as stack:
        stack.callback(sweep, folder)
        site = _site(stack, folder, with_ray=with_ray)
        evidence, notes, said = _play(site, random.Random(seed), kills, seconds)
    found = judge(evidence)
    violations = said + found.violations
    notes |= found.notes
    if violations:
        notes |= {"violations": violations[:12], "left_for_a_look": str(folder)}
        (folder / "violations.json").write_text(json.dumps(violations, indent=1))
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return Figure(len(violations), notes)


# -- what is there ------------------------------------------------------------------------------------------------------


class Plane:
    """``headrace up`` on one port, which comes and goes."""

    def __init__(self, state: Path, port: int) -> None:
        self.state, self.port = state, port
        self.process: subprocess.Popen[str] | None = None

    def launch(self) -> None:
        """Start it, without waiting until it answers."""
        with_us = ("setpriv", "--pdeathsig", "KILL")
        command = (*with_us, sys.executable, "-P", "-m", "headrace", "up", "--no-isolation")
        with (self.state.parent / "plane.out").open("ab") as said:
            self.process = subprocess.Popen(
                [*command, "--state", str(self.state), "--port", str(self.port)],
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
            )

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self.launch()
        for line in (self.process and self.process.stdout) or ():
            if line.startswith("ready"):
                return
        raise RuntimeError(f"the control plane did not start: see {self.state.parent}/plane.out")

    def end(self, *, kill: bool = False) -> None:
        """End it, in order or by SIGKILL."""
        if self.process is None:
            return
        if kill:
            self.process.kill()
        else:
            self.process.terminate()
        self.process.wait(START_S)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.process = None

    def api(self) -> Api:
        """A client of it, in plain HTTP."""
        return Api(self.port, str(json.loads((self.state / "client.json").read_bytes())["token"]))


@dataclass
class Site:
    """All that can be killed."""

    folder: Path
    plane: Plane
    slurm: SlurmLab
    rest_port: int
    ray: RayLab | None = None

    @property
    def spools(self) -> tuple[Path, ...]:
        """Where the engines keep orders and records."""
        return (self.folder / "slurm-spool", *((self.folder / "ray-spool",) if self.ray else ()))

    def start_controller(self) -> None:
        """Start slurmctld, and let its nodes register again: else that takes them minutes, and what ended seems to run."""
        self.slurm.start_controller()
        self.slurm.answers("scontrol", "reconfigure")

    def resume(self) -> int:
        """What an operator does with nodes that Slurm drained by itself: a forgotten number was given to two jobs."""
        if not self.slurm.answers("scontrol", "ping"):
            return 0
        lines = self.slurm.ask("sinfo", "-h", "-N", "-o", "%N|%T|%E").splitlines()
        found = [line.split("|")[0] for line in lines if "|drain" in line and "|headrace" not in line]
        return sum(
            self.slurm.answers("scontrol", "update", f"NodeName={name}", "State=RESUME") for name in found
        )

    def start_rest(self) -> None:
        """Start slurmrestd where it was."""
        command = ("slurmrestd", "-a", "rest_auth/jwt", "-s", "openapi/v0.0.38", "-f", str(self.slurm.conf))
        self.slurm.start(
            "slurmrestd", *command, f"127.0.0.1:{self.rest_port}", user=REST_USER, SLURM_JWT="daemon"
        )


def _site(stack: ExitStack, folder: Path, *, with_ray: bool) -> Site:
    """Real clusters, and a control plane that knows them."""
    for name in ("state", "witness"):
        (folder / name).mkdir()
    slurm = SlurmLab(folder / "slurm", tuple(f"lab-0-{number}" for number in range(4)))
    slurm.write_conf(NO_ACCOUNTING + (_REST + _COMPLETIONS).format(folder=slurm.folder))
    ports = _ports()
    conf = re.sub(r"(?<=Port=)\d+", lambda _: str(next(ports)), slurm.conf.read_text())
    # What a node missed while its daemon was down it is told again at the next ping: every third of this.
    slurm.conf.write_text(conf.replace("SlurmdTimeout=300", "SlurmdTimeout=30"))
    site = Site(folder, Plane(folder / "state", next(ports)), slurm, next(ports))
    stack.callback(slurm.end)
    slurm.start_munge()
    slurm.start_controller()
    site.start_rest()
    slurm.start_nodes()
    token = folder / "token"
    token.touch(0o600)
    token.write_text(slurm.ask("scontrol", "token", "username=root", "lifespan=86400"))
    if with_ray:
        site.ray = stack.enter_context(ray_lab(folder / "ray", nodes=2))
    (site.plane.state / "engines.yaml").write_text(_declared(site))
    stack.callback(site.plane.end, kill=True)
    site.plane.start()
    site.plane.api().apply(_documents(site))
    return site


def _ports() -> Iterator[int]:
    """Free ports, below those that the kernel lends to whoever connects: what is killed finds its own free again."""
    for port in random.SystemRandom().sample(range(10_000, 20_000), 1_000):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            yield port


def _declared(site: Site) -> str:
    folder, slurm = site.folder, site.slurm
    common = {
        "kind": "engine",
        "python": shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable,
        "isolate": False,
        "keep_records": True,
    }
    rest = {"url": f"http://127.0.0.1:{site.rest_port}", "user": "root", "token": str(folder / "token")}
    engines: list[dict[str, Any]] = [
        common
        | {
            "name": "loughton-slurm",
            "spool": str(folder / "slurm-spool"),
            "slurm": {"conf": str(slurm.conf), "partition": "lab", "rest": rest},
            "addresses": dict.fromkeys(slurm.names, "127.0.0.1"),
        }
    ]
    if site.ray is not None:
        engines.append(
            common
            | {
                "name": "boden-ray",
                "spool": str(folder / "ray-spool"),
                "ray": {
                    "url": site.ray.address,
                    "tenant": "bench",
                    "python": str(site.ray.python),
                    "resource": "lab",
                },
                "addresses": dict.fromkeys(site.ray.names, "127.0.0.1"),
            }
        )
    return "\n---\n".join(map(json.dumps, engines))


def _documents(site: Site) -> str:
    def place(name: str, engine: str, zone: str, nodes: int) -> dict[str, Any]:
        group = {"name": "lab", "hardware": "lab", "racks": 1, "nodes_per_rack": nodes}
        return {
            "name": name,
            "country": _COUNTRIES[name],
            "zone": zone,
            "energy": {"source": "hydro", "carbon": 8, "price": 0.2, "currency": "GBP"},
            "connection": {"firm": "9kW"},
            "pue": 1.0,
            "engine": engine,
            "blocks": [{"name": "b", "commissioned": "2025-01-01", "groups": [group]}],
        }

    operator = {"name": "bench", "country": "GB", "zone": "Europe/London", "currency": "GBP"}
    sites = [place("loughton", "loughton-slurm", "Europe/London", 4)]
    sites += [place("boden", "boden-ray", "Europe/Stockholm", 2)] if site.ray else []
    prices = {"accelerator_per_hour": {"lab": 1.0}}
    contract = {"tenant": "bench", "plan": "std", "type": "on-demand", "starts": "2025-01-01"}
    documents: list[dict[str, Any]] = [
        {"kind": "estate", "operator": operator, "sites": sites},
        {"kind": "tenant", "name": "bench", "projects": ["main"]},
        {"kind": "price-plan", "name": "std", "currency": "GBP", "prices": prices},
        {"kind": "contract", "name": "c"} | contract,
    ]
    return "\n---\n".join(map(json.dumps, documents))


# -- what runs ----------------------------------------------------------------------------------------------------------


class Stream(threading.Thread):
    """The users: submit, pause, resume and stop until told to end; what is under way is still brought to its answer."""

    def __init__(self, site: Site, evidence: Evidence, chance: random.Random) -> None:
        super().__init__(daemon=True)
        self.site, self.evidence, self.chance = site, evidence, chance
        self.api = site.plane.api()
        self.sites = tuple(_COUNTRIES)[: len(site.spools)]
        self.ending = threading.Event()
        self.failure: BaseException | None = None
        self.said: list[str] = []
        self.due: list[tuple[float, str, str]] = []
        self.steered: Counter[str] = Counter()
        self.unanswered = 0
        self._count = 0
        self._resumed_s = 0.0
        self._where: dict[str, str] = {}

    def run(self) -> None:
        """Work."""
        try:
            while not self.ending.is_set():
                self._submit_what_fits()
                self._steer_what_is_due()
                if self.chance.random() < 0.1:
                    self.call("POST", "/v1/meter")
                self.ending.wait(0.25)
        except BaseException as error:  # noqa: BLE001 - the run says it
            self.failure = error

    def call(self, method: str, path: str, body: object = None, key: str = "") -> tuple[int, Any]:
        """Ask until there is an answer."""
        until = time.monotonic() + 4 * START_S
        while True:
            try:
                status, data = self.api.call(method, path, body, key)
            except Unanswered:
                status, data = 503, {}
            if status != 503:
                return status, data
            if time.monotonic() > until:
                raise TimeoutError(f"nobody answers {method} {path}")
            self.unanswered += 1
            time.sleep(0.1)

    def live(self) -> list[dict[str, Any]]:
        """What has not ended."""
        return list(self.call("GET", "/v1/workloads?live=true&limit=1000")[1]["workloads"])

    def _submit_what_fits(self) -> None:
        live = self.live()
        for site in self.sites:
            count = sum(self._where.get(one["id"]) == site for one in live)
            wanted = [self._job(site) for _ in range(min(3, MOST_LIVE[site] - count))]
            if wanted:
                self._submit(site, wanted)
        self.take_back()

    def take_back(self) -> None:
        """The operator takes back nodes that fell too often within an hour for Headrace to trust them by itself."""
        nodes = self.call("GET", "/v1/nodes?limit=100")[1]["nodes"]
        fallen = [one["id"] for one in nodes if one["state"] == "draining"]
        if fallen:
            self.call("POST", "/v1/nodes/undrain", {"nodes": fallen, "site": None, "reason": "mended"})
            self.steered["undrain"] += len(fallen)
        if time.monotonic() >= self._resumed_s + 2:
            self._resumed_s = time.monotonic()
            with suppress(subprocess.CalledProcessError):
                self.steered["resumed in Slurm"] += self.site.resume()

    def _submit(self, site: str, wanted: list[tuple[str, dict[str, Any]]]) -> None:
        key = f"stream-{self._count}"
        body = {"workloads": [job for _, job in wanted]}
        status, data = self.call("POST", "/v1/tenants/bench/workloads", body, key)
        if status != 201 or len(data["workloads"]) != len(wanted) or data["refused"]:
            self.said.append(f"{key} was answered with {status}: {data}")
            return
        for ident, (sort, _) in zip(data["workloads"], wanted, strict=True):
            self.evidence.jobs[ident] = sort
            self._where[ident] = site
            self._plan_for(ident, sort)

    def _plan_for(self, ident: str, sort: str) -> None:
        now, draw = time.monotonic(), self.chance.random()
        if sort == "held":
            heapq.heappush(self.due, (now + self.chance.uniform(0.1, 8), "stop", ident))
        elif draw < 0.1:
            heapq.heappush(self.due, (now + self.chance.uniform(0, 3), "stop", ident))
        if draw > 0.8:
            at = now + self.chance.uniform(0.5, 3)
            heapq.heappush(self.due, (at, "pause", ident))
            heapq.heappush(self.due, (at + self.chance.uniform(0.5, 4), "resume", ident))

    def _steer_what_is_due(self) -> None:
        while self.due and self.due[0][0] <= time.monotonic():
            self.steer(*heapq.heappop(self.due)[1:])

    def steer(self, what: str, ident: str) -> None:
        """Stop, pause or resume a job, if it can be now."""
        status, data = self.call("POST", f"/v1/workloads/{ident}/{what}")
        if status == 200:
            self.steered[what] += 1
            if what == "stop":
                self.evidence.stopped[ident] = None
        elif status == 409 and what == "stop" and self.evidence.jobs[ident] == "held":
            self.said.append(f"{ident} is held, and could not be stopped: {data}")
        elif status != 409:
            self.said.append(f"{what} {ident} was answered with {status}: {data}")

    def _job(self, site: str) -> tuple[str, dict[str, Any]]:
        self._count += 1
        draw = self.chance.random()
        job: dict[str, Any] = {
            "name": f"j-{self._count}",
            "type": "job",
            "project": "main",
            "resources": {
                "gpu": f"lab:{self.chance.choice((1, 1, 1, 2, 4))}",
                "cpu": "100m",
                "memory": "64MB",
            },
            "nodes": 2 if self.chance.random() < 0.25 else 1,
            "env": {"WITNESS": str(self.evidence.witness)},
            "policy": {"countries": [_COUNTRIES[site]]},
            "commands": [_STARTED, f"sleep {self.chance.uniform(0.5, 4):.2f}", _DONE],
        }
        if draw < 0.15:
            job["commands"][2] = "exit 3"
            return "bad", job
        if draw < 0.27:
            job |= {"commands": [_STARTED, "sleep 900"], "grace": "2s"}
            return "held", job
        return "good", job


# -- what is killed -----------------------------------------------------------------------------------------------------


@dataclass
class Killer:
    """Kills one thing after the other, and starts each again when its pause is over. Of one thread: daemons end with theirs."""

    site: Site
    chance: random.Random
    kills: Counter[str] = field(default_factory=Counter)
    log: list[tuple[int, int, str]] = field(default_factory=list)
    """What was down from when to when (ms UTC)."""
    since: dict[str, int] = field(default_factory=dict)
    down: list[tuple[float, str]] = field(default_factory=list)

    def work(self, kills: int, seconds: float | None) -> None:
        """Kill so often, or for so long."""
        until = None if seconds is None else time.monotonic() + seconds
        strike = time.monotonic() + self.chance.uniform(*EVERY_S)
        while self.kills.total() < kills and (until is None or time.monotonic() < until):
            self.start_due(time.monotonic())
            if time.monotonic() >= strike:
                self._strike()
                strike = time.monotonic() + self.chance.uniform(*EVERY_S)
            time.sleep(0.02)

    def start_due(self, now: float) -> None:
        """Start what has waited long enough."""
        for one in [one for one in self.down if one[0] <= now]:
            self.down.remove(one)
            self._start(one[1])
            self.log.append((self.since.pop(one[1]), time.time_ns() // 1_000_000, one[1]))

    def start_all(self) -> None:
        """Start whatever is down."""
        self.start_due(float("inf"))

    def _strike(self) -> None:
        what = self._choose()
        self.kills[what.partition(" lab-")[0]] += 1
        self.since[what] = time.time_ns() // 1_000_000
        self._kill(what)
        self.down.append((time.monotonic() + self.chance.uniform(0, PAUSE_S), what))

    def _choose(self) -> str:
        down = {what for _, what in self.down}
        kinds = [kind for kind in _WEIGHTS if self.site.ray is not None or not kind.startswith("ray")]
        if "ray head" in down:
            kinds.remove("raylet")
        while True:
            kind = self.chance.choices(kinds, [_WEIGHTS[one] for one in kinds])[0]
            what = kind
            if kind == "slurmd":
                what = f"slurmd {self.chance.choice(self.site.slurm.names)}"
            elif kind == "raylet" and self.site.ray is not None:
                what = f"raylet {self.chance.choice(self.site.ray.names)}"
            if what not in down and not (
                kind == "ray head" and any(one.startswith("raylet") for one in down)
            ):
                return what

    def _kill(self, what: str) -> None:
        kind, _, name = what.partition(" ")
        if kind == "control":
            self.site.plane.end(kill=True)
        elif kind == "slurmd":
            self.site.slurm.kill(name)
        elif kind in ("raylet", "ray"):
            if self.site.ray is not None:
                self.site.ray.kill(name)
        else:
            self.site.slurm.kill(kind)

    def _start(self, what: str) -> None:
        kind, _, name = what.partition(" ")
        match kind:
            case "control":
                # Now and then it dies again before it answers.
                while self.chance.random() < 0.2:
                    self.site.plane.launch()
                    time.sleep(self.chance.uniform(0, 1.3))
                    self.site.plane.end(kill=True)
                    self.kills["control in its start"] += 1
                self.site.plane.start()
            case "slurmctld":
                self.site.start_controller()
            case "slurmd":
                self.site.slurm.start_node(name)
            case "slurmrestd":
                self.site.start_rest()
            case _ if self.site.ray is not None:
                self._start_ray(name, self.site.ray)

    def _start_ray(self, name: str, lab: RayLab) -> None:
        if name == ray.HEAD:
            lab.restart()
        else:
            lab.start_node(name)


def _play(
    site: Site, chance: random.Random, kills: int, seconds: float | None
) -> tuple[Evidence, dict[str, object], list[str]]:
    """Run it all to its end; what there is to judge, notes, and what went wrong on the way."""
    began = time.monotonic()
    evidence = Evidence(site.plane.state, site.spools, site.folder / "witness")
    stream = Stream(site, evidence, random.Random(chance.random()))
    watch, killer = Watch(evidence.witness, evidence), Killer(site, chance)
    watch.start()
    stream.start()
    with _ended(watch, stream):
        time.sleep(2)
        killer.work(kills, seconds)
        killing_s = time.monotonic() - began
        killer.start_all()
        stream.ending.set()
        stream.join(5 * START_S)
        if stream.failure is not None:
            stream.said.append(f"the stream failed: {stream.failure!r}")
        stream.said.extend(_settle(site, stream))
    evidence.left = [f"rank {rank} of {ident}, process {pid}" for ident, rank, pid in watch.look()]
    site.plane.end()
    evidence.completions = site.slurm.folder / "completions"
    evidence.disturbed = [
        (since, until) for since, until, what in killer.log if what.startswith(("slurmctld", "slurmd"))
    ]
    (site.folder / "kills.json").write_text(json.dumps(killer.log, indent=1))
    notes: dict[str, object] = {
        "kills": killer.kills.total(),
        "by_kind": dict(killer.kills),
        "steered": dict(stream.steered),
        "unanswered": stream.unanswered,
        "killing_s": round(killing_s, 1),
        "settle_s": round(time.monotonic() - began - killing_s, 1),
    }
    return evidence, notes, stream.said


@contextmanager
def _ended(*threads: Watch | Stream) -> Iterator[None]:
    try:
        yield
    finally:
        for one in threads:
            one.ending.set()
            one.join(10)


def _settle(site: Site, stream: Stream) -> list[str]:
    """Stop what would run for ever, and wait until nothing lives and the engines have forgotten all."""
    told: set[str] = set()

    def is_over() -> bool:
        live = stream.live()
        for one in live:
            if one["id"] not in told and (stream.evidence.jobs[one["id"]] == "held" or one["pause_wanted"]):
                told.add(one["id"])
                stream.steer("stop", one["id"])
        stream.take_back()
        return not live

    def is_forgotten() -> bool:
        return not any(any((spool / "placements").iterdir()) for spool in site.spools)

    said = []
    if not _until(is_over, SETTLE_S):
        left = {one["id"]: f"{one['state']}: {one['reason']}" for one in stream.live()}
        said.append(
            f"not settled in {SETTLE_S:.0f} s: {left}; engines: {stream.call('GET', '/v1/engines')[1]}"
        )
    elif not _until(is_forgotten, 30):
        left_there = [path.name for spool in site.spools for path in (spool / "placements").iterdir()]
        said.append(f"the engines have not forgotten {left_there}")
    return said


def _until(holds: Callable[[], bool], patience_s: float) -> bool:
    until = time.monotonic() + patience_s
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.25)
    return True
