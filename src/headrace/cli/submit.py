"""``headrace submit``: workloads from a file, or from flags."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import typer

from headrace.api.views import SubmittedView
from headrace.cli.common import client, print_json, read_file, say
from headrace.cli.places import in_files, in_flags
from headrace.cli.workloads import follow_to_the_end
from headrace.core.errors import HeadraceError, Problem, ProblemCode, did_you_mean
from headrace.documents import load
from headrace.documents.source import Source, parse
from headrace.sdk import Client
from headrace.sdk.client import MAX_BATCH, MAX_BATCH_BYTES

app = typer.Typer(rich_markup_mode=None)
FLAGS = {
    **{name: f"--{name}" for name in ("name", "type", "project", "nodes", "priority", "site", "reservation")},
    **{name: f"--{name}" for name in ("gpu", "cpu", "memory", "pack", "spread", "expected", "checkpoint")},
    **{name: f"--{name}" for name in ("flex", "contract")},
    "max_duration": "--max-duration",
    "gpu_memory": "--gpu-memory",
    "topology": "--pack",
    "resources": "--gpu",
    "commands": "--command",
    "policy": "--countries",
}
"""The flag for each field of a workload."""


@app.callback()
def group() -> None:
    """Submit workloads."""


@app.command()
def submit(  # noqa: PLR0913, PLR0917 - one for each flag
    file: list[str] = typer.Option([], "-f", "--file", help="A file of workloads, or -; may be repeated."),
    name: str = typer.Option("", help="The workload's name."),
    command: list[str] = typer.Option([], "-c", "--command", help="A shell command; may be repeated."),
    type_: str = typer.Option("job", "--type", help="job, service, cluster or filler."),
    project: str = typer.Option("", help="The project that pays."),
    gpu: str = typer.Option(
        "", help="Of each node: H100:8, a part: H100:0.5, or what would do: H100:8,B200:8."
    ),
    gpu_memory: str = typer.Option("", help="Least memory of each accelerator, like 80GB."),
    cpu: str = typer.Option("", help="Processors of each node, like 4 or 500m."),
    memory: str = typer.Option("", help="Memory of each node, like 16GB."),
    nodes: str = typer.Option("1", help="How many nodes, all or none; 4..16: at least 4, up to 16."),
    pack: str = typer.Option("", help="Have all nodes in one domain, rack, rail or pod."),
    spread: str = typer.Option("", help="Have each node in another domain, rack, rail or pod."),
    required: bool = typer.Option(False, "--required", help="Wait for nodes that stand so."),
    priority: int = typer.Option(0, help="The higher goes first."),
    countries: str = typer.Option("", help="Where it may run, like NO,GB."),
    site: str = typer.Option("", help="Run at this site alone."),
    expected: str = typer.Option("", help="How long it will probably run, like 2h."),
    max_duration: str = typer.Option("", help="After how long it is stopped, like 8h."),
    flex: str = typer.Option("", help="firm, cappable, pausable or preemptible [default: firm]."),
    contract: str = typer.Option("", help="The contract that pays; a reserved one has to be named."),
    checkpoint: str = typer.Option("", help="How often it saves its state, like 10m."),
    reservation: str = typer.Option("", help="Run in the nodes of this reservation."),
    tenant: str = typer.Option("", help="Whose it is [default: the token's, or who has the project]."),
    key: str = typer.Option("", help="Idempotency key: the same key and workloads again change nothing."),
    follow: bool = typer.Option(
        False, "--follow", help="Print its log until it ends; exit 1 unless it succeeded."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Submit workloads, from files or by flags, all or none."""
    flags = {
        "name": name,
        "type": type_,
        "project": project,
        "nodes": int(nodes) if nodes.isdecimal() else nodes,
        "priority": priority,
        "site": site,
        "expected": expected,
        "max_duration": max_duration,
        "flex": flex,
        "contract": contract,
        "reservation": reservation,
        "checkpoint": {"every": checkpoint} if checkpoint else "",
        "topology": topology_of(pack, spread, required=required),
    }
    resources = {"gpu": gpu_of(gpu), "gpu_memory": gpu_memory, "cpu": cpu, "memory": memory}
    sources: list[Source] = []
    wanted = from_files(file, sources) if file else [from_flags(flags, resources, command, countries)]
    with client() as control:
        owner = tenant or owner_of(control, wanted)
        try:
            made = control.submit(wanted, tenant=owner, key=key or None)
        except HeadraceError as error:
            raise _where_it_was_written(error, wanted, sources) from None
        _print(control, made, wanted, as_json=as_json)
        _leave(control, made, follow=follow)


def _leave(control: Client, made: SubmittedView, *, follow: bool) -> None:
    """Follow the log of one that was taken, if so asked; exit 7 where something was refused."""
    if follow and len(made.workloads) == 1 and not made.refused:
        raise typer.Exit(follow_to_the_end(control, made.workloads[0]))
    if made.refused:
        raise typer.Exit(7)


def _where_it_was_written(
    error: HeadraceError, wanted: Sequence[Mapping[str, Any]], sources: Sequence[Source]
) -> HeadraceError:
    """The error with the places of files or flags in it."""
    if not sources:
        return in_flags(error, FLAGS)
    # More than one request can carry are sent in several, and numbered in each from 0 on.
    if len(wanted) > MAX_BATCH or len(msgspec.json.encode(wanted)) > MAX_BATCH_BYTES:
        return error
    return in_files(error, sources)


def _print(
    control: Client, made: SubmittedView, wanted: Sequence[Mapping[str, Any]], *, as_json: bool
) -> None:
    if as_json:
        print_json(made)
        return
    reasons = {one.workload: one.reason for one in made.refused}
    again = " (it was already)" if made.repeated else ""
    for ident, one in zip(made.workloads, wanted, strict=True):
        if ident not in reasons:
            say(f"submitted {one['name']} as {ident}{again}")
            continue
        change = control.explain(ident).change
        say(f"refused {one['name']} ({ident}): {reasons[ident]}{f'; {change}' if change else ''}")


def from_files(files: Sequence[str], sources: list[Source]) -> list[dict[str, Any]]:
    """The workloads of files, as the API takes them; ``sources`` gets where each stands.

    Raises HeadraceError with file, line and column.
    """
    out: list[dict[str, Any]] = []
    for name in files:
        raw, called = read_file(name), "<stdin>" if name == "-" else str(Path(name))
        for document in load(raw, called):
            if document.kind != "workload":
                step = "Use 'headrace apply' for other documents."
                message = f"{document.kind} {document.name} is no workload."
                raise HeadraceError(Problem(ProblemCode.BAD_INPUT, message, step, document.where()))
        raws = parse(raw, called)
        sources.extend(one.source for one in raws)
        out.extend({key: value for key, value in one.data.items() if key != "kind"} for one in raws)
    return out


def gpu_of(text: str) -> str | list[str]:
    """Accelerators from a flag: of several, divided by commas, each would do."""
    return [one.strip() for one in text.split(",")] if "," in text else text


def topology_of(pack: str, spread: str, *, required: bool) -> dict[str, Any] | str:
    """The wish of the flags; empty without any."""
    wish = {key: value for key, value in (("pack", pack), ("spread", spread)) if value}
    return {**wish, "required": True} if required else wish or ""


def from_flags(
    flags: Mapping[str, Any],
    resources: Mapping[str, str | list[str]],
    commands: Sequence[str],
    countries: str,
) -> dict[str, Any]:
    """A workload from the flags that were given; raises HeadraceError when the least is missing."""
    missing = [f"--{flag}" for flag in ("name", "project") if not flags[flag]]
    if not commands and flags["type"] == "job":
        missing.append("--command")
    if missing:
        step = "Give -f FILE, or at least --name, --project and --command."
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, f"{' and '.join(missing)} not given.", step))
    spec = {key: value for key, value in flags.items() if value != ""}
    given = {key: value for key, value in resources.items() if value}
    if given:
        spec["resources"] = given
    if commands:
        spec["commands"] = list(commands)
    if countries:
        spec["policy"] = {"countries": [one.strip() for one in countries.split(",")]}
    return spec


def owner_of(control: Client, wanted: Sequence[Mapping[str, Any]]) -> str:
    """The tenant of the token, or for the operator the only one that has the workloads' project."""
    mine = control.whoami().tenant
    if mine is not None:
        return mine
    names = [one.name for one in control.documents() if one.kind == "tenant"]
    projects = {name: control.document("tenant", name).document["projects"] for name in names}
    asked = {one["project"]: None for one in wanted}
    having = [name for name in names if all(project in projects[name] for project in asked)]
    if len(having) == 1:
        return having[0]
    raise HeadraceError(_no_owner(tuple(asked), projects, having))


def _no_owner(asked: Sequence[str], projects: Mapping[str, Sequence[str]], having: Sequence[str]) -> Problem:
    """Why not one tenant has all the projects that are ``asked``: one is unknown, or shared, or they have several owners."""
    known = {project for one in projects.values() for project in one}
    for project in asked:
        if project not in known:
            step = did_you_mean(project, known)
            return Problem(ProblemCode.BAD_INPUT, f"no tenant has the project {project!r};", step)
    called = " and ".join(map(repr, asked))
    if having:
        message, step = f"{len(having)} tenants have the project {called}.", "Say whose it is with --tenant."
        return Problem(ProblemCode.BAD_INPUT, message, step, related=tuple(having))
    step = "Submit a file for each tenant, or all with 'headrace apply'."
    return Problem(ProblemCode.BAD_INPUT, f"no tenant has all of the projects {called}.", step)
