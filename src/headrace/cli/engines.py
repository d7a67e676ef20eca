"""``headrace engines`` and ``headrace doctor``: the clusters below, and what is wrong with them."""

from pathlib import Path

import typer

from headrace.cli.common import CommandClient, client, print_json, print_table, say
from headrace.cli.estate import estate_of
from headrace.cli.operator import AS_JSON
from headrace.core.errors import HeadraceError
from headrace.core.fleet import compile_fleet
from headrace.core.ids import TenantId
from headrace.engines.compare import engines_of
from headrace.engines.declared import load_engines
from headrace.engines.doctor import Finding, Known, examine, examine_here, examine_sites
from headrace.state import StateDirectory, default_state, engines_file

app = typer.Typer(rich_markup_mode=None)


@app.command()
def engines(as_json: bool = AS_JSON) -> None:
    """List engines. Also where their clusters differ from the estate, and who runs something there behind your back."""
    with client() as control:
        found = control.engines()
    if as_json:
        print_json(list(found))
        return
    rows = [
        (
            one.name,
            ", ".join(one.sites) or "-",
            one.isolation,
            one.nodes,
            "-" if one.seen is None else one.seen,
            "-" if one.seen is None else len(one.mismatches),
            one.trouble or "ok",
        )
        for one in found
    ]
    columns = ("ENGINE", "SITES", "ISOLATION", "NODES", "IN CLUSTER", "DIFFERENCES", "STATE")
    print_table(columns, rows, "no engines.", ("NODES", "IN CLUSTER", "DIFFERENCES"))
    table = [
        (one.name, each.node or "-", each.host, each.what, each.estate, each.cluster)
        for one in found
        for each in one.mismatches
    ]
    if table:
        say("")
        print_table(("ENGINE", "NODE", "ITS NAME THERE", "WHAT", "ESTATE", "CLUSTER"), table, "")
    for one in found:
        for intruder in one.intruders:
            say(f"{intruder.node}: {intruder.who} runs there and was not placed here; it counts at nameplate")


@app.command()
def doctor(
    state: Path | None = typer.Option(
        None, help="Where everything is kept [default: HEADRACE_STATE, else ~/.headrace]."
    ),
    engines_path: Path | None = typer.Option(
        None,
        "--engines",
        help="The file that declares clusters [default: engines.yaml in the state directory].",
    ),
    as_json: bool = AS_JSON,
) -> None:
    """Look at what engines need: installed, reachable, rightly set? With the next step; exit status 1 if something is wrong.

    Where a control plane runs on the same state, names in the file are compared with its estate and tenants too.
    """
    path = (state or default_state()).absolute()
    found: list[Finding] = list(examine_here(path))
    file = engines_file(path, engines_path)
    try:
        declared = [] if file is None else load_engines(file)
    except HeadraceError as error:
        found += [
            Finding("", "file", False, f"{one.where or file}: {one.message}", one.next_step)
            for one in error.problems
        ]
        declared = []
    known = _known(path) if declared else None
    for one in declared:
        found += examine(one, known)
    if known is not None:
        found += examine_sites(declared, known)
    if as_json:
        print_json(found)
    else:
        rows = [
            (one.engine, one.what, "ok" if one.is_well else "WRONG", one.detail, one.next_step)
            for one in found
        ]
        print_table(("ENGINE", "WHAT", "", "DETAIL", "NEXT STEP"), rows, "nothing to look at.")
        if file is None:
            say("no clusters are declared: see docs/guide/engines.md for engines.yaml")
        elif declared and known is None:
            say(
                "no control plane answers here: names in the file are not compared with its estate and tenants"
            )
    if not all(one.is_well for one in found):
        raise typer.Exit(1)


def _known(state: Path) -> Known | None:
    """What the control plane of a state directory knows of names; None when none answers, or it has no estate."""
    kept = StateDirectory(state).read_client()
    if kept is None:
        return None
    try:
        with CommandClient(kept.url, kept.token) as control:
            estate = estate_of(control)
            tenants = [TenantId(one.name) for one in control.documents() if one.kind == "tenant"]
    except HeadraceError:
        return None
    return None if estate is None else Known(engines_of(compile_fleet(estate)), tenants)
