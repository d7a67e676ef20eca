"""``headrace demo --engines``: one queue over a local site, a real Slurm and a real Ray, in three countries."""

import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from headrace.cli.common import table
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.workload import TERMINAL, State
from headrace.demo.narrate import Narrator
from headrace.demo.plant import Plant, stoppable, undisturbed
from headrace.demo.run import examples
from headrace.demo.story import Failed
from headrace.lab import ray, slurm
from headrace.lab.ray import RayLab, ray_lab
from headrace.lab.slurm import SlurmLab, slurm_lab
from headrace.sdk import Client

FJORD, ALBION = "fjord-ai", "albion-health"
POLL_S = 0.5
SEEN_S = 60.0
PATIENCE_S = 900.0
LAW = {
    "NO": (FJORD, "research", ["NO"], 34),
    "GB": (ALBION, "radiology", ["GB"], 50),
    "SE": (FJORD, "research", ["SE"], 4),
    "NO, SE": (FJORD, "research", ["NO", "SE"], 12),
}
"""What of a hundred jobs may run where: tenant, project, countries, how many."""
_GANG_EVERY = 25
"""Every so many jobs of a kind one is a gang of two nodes."""


def run(jobs: int, *, state: Path | None) -> int:
    """Play it with so many jobs; 0 when each ended where it may, 1 when one did not."""
    steps = {f"As root: {slurm.INSTALL}.": slurm.missing(), ray.INSTALL: ray.missing()}
    lacking = [one for found in steps.values() for one in found]
    if lacking:
        step = " ".join(step for step, found in steps.items() if found)
        raise HeadraceError(Problem(ProblemCode.NOT_FOUND, f"this needs {', '.join(lacking)}.", step))
    say, plant = Narrator(), Plant(state)
    began = time.monotonic()
    with ExitStack() as stack:
        stack.enter_context(stoppable())
        stack.callback(_end, plant)
        try:
            _play(say, plant, stack, jobs)
        except Failed as failed:
            say.line(f"✗ {failed}", "bold red")
            return 1
    say.line(f"\nEvery job ended where it may, in {time.monotonic() - began:.0f} s; nothing is left running.")
    return 0


def _end(plant: Plant) -> None:
    with undisturbed():
        try:
            if plant.running:
                plant.stop_work()
        finally:
            plant.end()


def _play(say: Narrator, plant: Plant, stack: ExitStack, jobs: int) -> None:
    say.chapter("Three engines")
    say.text("""Glomfjord in Norway runs processes itself, Loughton in Britain is a Slurm cluster of four nodes, Boden in Sweden
        a Ray cluster of two. Slurm and Ray are real, and play on this machine; what they run is real processes.""")
    # Not in the state's folder: the path of a socket must be short.
    folder = Path(tempfile.mkdtemp(prefix="hr-"))
    folder.chmod(0o755)
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    plant.state.mkdir(parents=True, exist_ok=True)
    labs = (
        stack.enter_context(slurm_lab(folder / "slurm", nodes=4)),
        stack.enter_context(ray_lab(folder / "ray", nodes=2)),
    )
    (plant.state / "engines.yaml").write_text(_declared(folder, *labs))
    plant.start()
    operator = stack.enter_context(plant.client())
    text = "\n---\n".join((examples() / name).read_text() for name in ("estates/mixed.yaml", "tenants.yaml"))
    say.command("apply -f examples/estates/mixed.yaml -f examples/tenants.yaml")
    operator.apply(text)
    _until(
        lambda: all(
            (one.seen or 0) >= one.nodes and not one.trouble
            for one in operator.engines()
            if one.name != "local"
        ),
        lambda: "; ".join(
            f"{one.name}: {one.seen} of {one.nodes} nodes seen, {one.trouble}" for one in operator.engines()
        ),
    )
    say.command("engines")
    rows = [
        (
            one.name,
            ", ".join(one.sites),
            one.isolation,
            one.nodes,
            "-" if one.seen is None else one.seen,
            one.trouble or "ok",
        )
        for one in operator.engines()
    ]
    say.table(
        table(("ENGINE", "SITE", "ISOLATION", "NODES", "IN CLUSTER", "STATE"), rows, ("NODES", "IN CLUSTER"))
    )
    submitted = _submit(say, plant, operator, jobs)
    _follow(say, operator, submitted)
    _where(say, operator, submitted, *labs)


def _declared(folder: Path, slurm: SlurmLab, ray: RayLab) -> str:
    """The engines' file: here all nodes see the same disk, whatever the path."""
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable
    engines: list[dict[str, Any]] = [
        {
            "kind": "engine",
            "name": "loughton-slurm",
            "spool": str(folder / "slurm-spool"),
            "slurm": {"conf": str(slurm.conf), "partition": "lab"},
            "python": python,
            "addresses": dict.fromkeys(slurm.names, "127.0.0.1"),
            "isolate": False,
        },
        {
            "kind": "engine",
            "name": "boden-ray",
            "spool": str(folder / "ray-spool"),
            "ray": {"url": ray.address, "tenant": FJORD, "python": str(ray.python), "resource": "lab"},
            "python": python,
            "addresses": dict.fromkeys(ray.names, "127.0.0.1"),
            "isolate": False,
        },
    ]
    return "\n---\n".join(msgspec.json.encode(one).decode() for one in engines)


def _submit(say: Narrator, plant: Plant, operator: Client, jobs: int) -> dict[str, list[str]]:
    """Submit all; the workloads by what their policy allows."""
    say.chapter(f"One queue: {jobs} jobs, each with its law")
    made: dict[str, list[str]] = {}
    for law, (tenant, project, countries, percent) in LAW.items():
        count = jobs * percent // 100
        wanted = [_job(f"{law[:2].lower()}-{number}", project, countries, number) for number in range(count)]
        with plant.client(operator.issue_token("tenant-admin", tenant).value) as client:
            made[law] = list(client.submit(wanted).workloads)
    rows = [(law, LAW[law][0], len(found)) for law, found in made.items()]
    say.table(table(("MAY RUN IN", "TENANT", "JOBS"), rows, ("JOBS",)))
    return made


def _job(name: str, project: str, countries: list[str], number: int) -> dict[str, Any]:
    return {
        "name": name,
        "type": "job",
        "project": project,
        "nodes": 2 if number % _GANG_EVERY == 0 else 1,
        "resources": {"gpu": "lab:1", "cpu": "100m", "memory": "64MB"},
        "commands": ["echo $HEADRACE_SITE"],
        "policy": {"countries": countries},
    }


def _follow(say: Narrator, operator: Client, submitted: dict[str, list[str]]) -> None:
    total = sum(map(len, submitted.values()))
    shown = -1
    until = time.monotonic() + PATIENCE_S
    while True:
        counts = operator.status().workloads
        ended = sum(counts.get(state, 0) for state in TERMINAL)
        if ended * 10 // total != shown:
            shown = ended * 10 // total
            say.line(f"{ended} of {total} have ended")
        if ended >= total:
            return
        if time.monotonic() > until:
            raise Failed(f"{total - ended} jobs have not ended in {PATIENCE_S:.0f} s")
        time.sleep(POLL_S)


def _where(
    say: Narrator,
    operator: Client,
    submitted: dict[str, list[str]],
    slurm: SlurmLab,
    ray: RayLab,
) -> None:
    """Each job against its law, and what the clusters themselves say that they ran."""
    say.chapter("Where they ran")
    country = {site.id: site.country for site in operator.sites()}
    known = {one.id: one for one in operator.workloads()}
    ran: dict[str, Counter[str]] = {}
    for law, idents in submitted.items():
        allowed = LAW[law][2]
        for ident in idents:
            one = known[ident]
            if one.state != State.SUCCEEDED or one.site is None or country[one.site] not in allowed:
                raise Failed(f"{ident} may run in {law}; it is {one.state} at {one.site}: {one.reason}")
            ran.setdefault(law, Counter())[one.site] += 1
    rows = [(law, *(ran[law][site] for site in country)) for law in ran]
    say.table(table(("MAY RUN IN", *country), rows, tuple(country)))
    theirs = {"loughton": slurm.jobs_of_ours(), "boden": ray.jobs_of_ours()}
    for site, count in theirs.items():
        ours = sum(found[site] for found in ran.values())
        if count < ours:
            raise Failed(f"{ours} jobs ran at {site}, and its cluster knows of {count}")
        say.line(f"the cluster at {site} says that it had {count} jobs of ours")
    say.good("no job ran where its policy forbids it")


def _until(holds: Callable[[], bool], what: Callable[[], str]) -> None:
    until = time.monotonic() + SEEN_S
    while not holds():
        if time.monotonic() > until:
            raise Failed(f"in {SEEN_S:.0f} s the clusters were not seen: {what()}")
        time.sleep(POLL_S)
