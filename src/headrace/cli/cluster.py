"""``headrace cluster``: nodes leased whole: bare, with a Ray of the tenant's own, or as a reservation of Slurm."""

import secrets
import time
from collections.abc import Mapping
from typing import Any

import typer

from headrace.api.views import WorkloadView
from headrace.cli.common import client, print_json, print_table, resolve, say, seconds
from headrace.cli.operator import AS_JSON
from headrace.cli.places import in_flags
from headrace.cli.submit import FLAGS, owner_of
from headrace.core.errors import HeadraceError, Problem, ProblemCode, did_you_mean
from headrace.core.hardware import CATALOGUE
from headrace.core.units import ceil_div
from headrace.core.workload import TERMINAL, State
from headrace.engines.leases import RAY_IS_UP, RAY_PORTS, RAY_TOKEN, ray_commands
from headrace.sdk import Client

app = typer.Typer(rich_markup_mode=None)
cluster = typer.Typer(
    rich_markup_mode=None, help="Lease whole nodes: bare, with a Ray of your own, or through Slurm."
)
app.add_typer(cluster, name="cluster")
ENGINES = ("none", "ray", "slurm")
POLL_S = 0.5
TRIES = 3
"""A lease whose processes end is started again. On a busy machine a Ray may need it; after so many times somebody has to look."""


@app.callback()
def group() -> None:
    """Clusters."""


@cluster.callback()
def cluster_group() -> None:
    """Lease whole nodes: bare, with a Ray of your own, or through Slurm."""


@cluster.command()
def create(  # noqa: PLR0913, PLR0917 - one for each flag
    name: str = typer.Argument(help="The cluster's name."),
    gpus: int = typer.Option(min=1, help="How many accelerators; whole nodes are leased."),
    gpu: str = typer.Option("H100", help="Of which model; MODEL:COUNT says how many a node has."),
    engine: str = typer.Option("none", help="How they are used: none (bare), ray, or slurm."),
    project: str = typer.Option(help="The project that pays."),
    for_: str = typer.Option("", "--for", help="How long, like 8h [default: until it is deleted]."),
    countries: str = typer.Option("", help="Where it may run, like NO,GB."),
    site: str = typer.Option("", help="At this site alone."),
    reservation: str = typer.Option("", help="In the nodes of this reservation."),
    contract: str = typer.Option("", help="The contract that pays; a reserved one has to be named."),
    ray: str = typer.Option("ray", help="The program `ray` on the nodes."),
    tenant: str = typer.Option("", help="Whose it is [default: the token's, or who has the project]."),
    wait: str = typer.Option("10m", help="How long to wait for it to run; 0: not at all."),
    as_json: bool = AS_JSON,
) -> None:
    """Lease a cluster and say where it answers. It ends after its time, or when it is deleted."""
    if engine not in ENGINES:
        raise HeadraceError(
            Problem(ProblemCode.BAD_INPUT, f"no engine {engine!r};", did_you_mean(engine, ENGINES))
        )
    model, per_node = node_of(gpu)
    wanted: dict[str, Any] = {
        "name": name,
        "type": "cluster",
        "project": project,
        "nodes": ceil_div(gpus, per_node),
        "resources": {"gpu": f"{model}:{per_node}"},
    }
    given = {"max_duration": for_, "site": site, "reservation": reservation, "contract": contract}
    wanted |= {key: value for key, value in given.items() if value}
    if countries:
        wanted["policy"] = {"countries": [one.strip() for one in countries.split(",")]}
    token = ""
    if engine == "ray":
        token = secrets.token_hex(24)
        wanted |= {"commands": list(ray_commands(ray)), "ports": RAY_PORTS, "secrets": {RAY_TOKEN: token}}
    elif engine == "slurm":
        wanted["lease"] = engine
    with client() as control:
        try:
            made = control.submit(wanted, tenant=tenant or owner_of(control, [wanted]))
        except HeadraceError as error:
            raise in_flags(error, FLAGS) from None
        ident = made.workloads[0]
        if not as_json:
            say(f"cluster {name} is {ident}: {wanted['nodes']} nodes of {per_node} {model}")
        wait_s = seconds(wait, "--wait")
        found = _ready(control, ident, wait_s, ranks=wanted["nodes"] if token else 0)
        _hand_out(control, found, engine, token, as_json=as_json)


def node_of(gpu: str) -> tuple[str, int]:
    """Model and accelerators of a node from ``H100`` or ``H100:8``; raises HeadraceError when they can't be told."""
    model, _, count = gpu.partition(":")
    if count:
        if not count.isdecimal() or not int(count):
            message, step = (
                f"{gpu!r} is no model and number of a node's accelerators.",
                "Write it like H100:8.",
            )
            raise HeadraceError(Problem(ProblemCode.BAD_INPUT, message, step, "--gpu"))
        return model, int(count)
    sizes = sorted({one.accelerators for one in CATALOGUE.values() if one.accelerator == model})
    if len(sizes) != 1:
        models = {one.accelerator for one in CATALOGUE.values() if one.accelerator}
        step = f"Write --gpu {model}:COUNT." if sizes else did_you_mean(model, models)
        message = (
            f"nodes with {model} have {' or '.join(map(str, sizes))} of them."
            if sizes
            else f"no model {model!r};"
        )
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, message, step, "--gpu"))
    return model, sizes[0]


def _ready(control: Client, ident: str, wait_s: float, *, ranks: int) -> WorkloadView:
    """The cluster once it runs, and so does Ray on so many ``ranks``; or as it is when it has been waited for.

    Raises HeadraceError when it ended.
    """
    until, why = time.monotonic() + wait_s, ""
    left = set(range(ranks))
    while True:
        found = control.workload(ident).workload
        # Of what left no log: why it ended is told of the workload until it is tried again.
        why = found.reason or why
        if found.state in TERMINAL or found.attempt > TRIES:
            raise _ended(control, found, why.rstrip("."))
        if found.state == State.RUNNING:
            left = {
                rank for rank in left if RAY_IS_UP not in b"".join(control.logs(ident, rank, follow=False))
            }
        if (found.state == State.RUNNING and not left) or time.monotonic() >= until:
            return found
        time.sleep(POLL_S)


def _ended(control: Client, found: WorkloadView, why: str) -> HeadraceError:
    """Why a cluster ended before it was handed out, in its own words if it left any.

    The newest attempt may not have said any yet: then the words are those of the one before.
    """
    ident, is_over = found.id, found.state in TERMINAL
    attempts = [one for one in (found.attempt, found.attempt - 1) if one > 0]
    logs = [
        b"".join(control.logs(ident, 0, stream, follow=False, attempt=attempt))
        for attempt in attempts
        for stream in ("stderr", "stdout")
    ]
    lines = [line for log in logs for line in log.decode(errors="replace").splitlines()[-1:]]
    said = lines[0] if lines else why or "it said nothing"
    what = found.state if is_over else "started again and again"
    step = (
        f"See 'headrace explain {ident}'." if is_over else f"End it with 'headrace cluster delete {ident}'."
    )
    return HeadraceError(Problem(ProblemCode.UNPLACEABLE, f"cluster {ident} is {what}: {said}.", step))


def _hand_out(control: Client, found: WorkloadView, engine: str, token: str, *, as_json: bool) -> None:
    is_running = found.state == State.RUNNING
    endpoints = control.endpoint(found.id).endpoints if is_running and engine != "none" else {}
    access = access_of(endpoints, engine)
    if as_json:
        print_json({"workload": found.id, "state": found.state, **access, "token": token})
        return
    if not is_running:
        say(f"it is {found.state}: {control.explain(found.id).line}")
    for key, value in access.items():
        if value:
            say(f"{key:11} {value}")
    if token:
        say(f"token       {token}   shown this once; set RAY_AUTH_MODE=token and {RAY_TOKEN}")


def access_of(endpoints: Mapping[str, str], engine: str) -> dict[str, str]:
    """What a tenant's people need to use a cluster, by name; "" for what is not known yet."""
    if engine == "slurm":
        names = ("cluster", "partition", "reservation", "account")
        access = {name: endpoints.get(name, "") for name in names}
        asked = f"sbatch --reservation={access['reservation']} --account={access['account']}"
        return access | {"use": asked if access["reservation"] else ""}
    return {
        "address": f"ray://{endpoints['client']}" if "client" in endpoints else "",
        "dashboard": f"http://{endpoints['dashboard']}" if "dashboard" in endpoints else "",
    }


@cluster.command(name="ls")
def list_clusters(as_json: bool = AS_JSON) -> None:
    """List clusters that are not over."""
    with client() as control:
        found = [one for one in control.workloads() if one.type == "cluster" and one.state not in TERMINAL]
    if as_json:
        print_json(found)
        return
    rows = [(one.id, one.name, one.state, one.nodes, one.gpu, one.site or "-") for one in found]
    print_table(("CLUSTER", "NAME", "STATE", "NODES", "OF EACH", "SITE"), rows, "no clusters.", ("NODES",))


@cluster.command()
def delete(name: str = typer.Argument(help="The cluster, by its name or its workload's.")) -> None:
    """End a lease: what runs on its nodes is stopped, and they are free for others."""
    with client() as control:
        ident = resolve(control, name)
        if control.workload(ident).workload.type != "cluster":
            message = f"{ident} is no cluster."
            raise HeadraceError(Problem(ProblemCode.BAD_INPUT, message, f"Use 'headrace stop {ident}'."))
        say(f"deleting {ident}" if control.stop(ident).changed else f"{ident} is over already")
