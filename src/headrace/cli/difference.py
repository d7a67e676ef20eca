"""What other law would newly allow and forbid on the running estate: one command under two names."""

import json
from pathlib import Path

import typer

from headrace.api.views_sovereignty import BoundView, FreedView, LawChangesView, LawChangeView
from headrace.cli.common import client, print_json, print_table, say
from headrace.cli.documents import read_documents
from headrace.cli.places import BETWEEN, in_texts
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.policy.cedar import load_file

_MOST_NAMED = 3
RULES = ".cedar"


def difference(
    file: list[str] = typer.Argument(
        None,
        help="Documents: policies, facts, owners, tenants, the estate; or rules in a file that ends in .cedar, as the policy of "
        "its name.",
    ),
    on: str = typer.Option(
        "", help="Judge as of a day to come, like 2027-07-01: what lapses by then [default: now]."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Say what changed policies, facts or owners would newly forbid and allow on the running estate. Nothing is applied."""
    files = file or []
    if not files and not on:
        step = "Name a file of documents, or a day: --on 2027-07-01."
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, "nothing to compare with;", step))
    found = _asked(files, on)
    if as_json:
        print_json(found)
    else:
        print_changes(found)


def _asked(files: list[str], on: str) -> LawChangesView:
    rules = [_policy_of(one) for one in files if one.endswith(RULES)]
    named = [one for one in files if not one.endswith(RULES)]
    read = read_documents(named) if named else None
    texts = ([] if read is None else read.texts) + rules
    with client() as control:
        try:
            return control.sovereignty_what_if(BETWEEN.join(text for _, text in texts), on=on)
        except HeadraceError as error:
            raise in_texts(error, texts, [] if read is None else read.documents) from None


def _policy_of(file: str) -> tuple[str, str]:
    """A file of rules as the document of the policy that has its name; HeadraceError with the places of what is wrong."""
    found = load_file(Path(file))
    return file, json.dumps({"kind": "policy", "name": found.name, "cedar": found.text}, ensure_ascii=False)


def print_changes(found: LawChangesView) -> None:
    """What would be judged otherwise, with the reasons, and what that means to the workloads that feel it."""
    if not found.changes:
        say(f"nothing would be judged otherwise, of {found.judged} workloads that run or wait")
        return
    columns = ("WOULD", "TENANT", "POLICY", "SITE", "RUN THERE", "WAIT", "WHY")
    print_table(columns, [_row(one) for one in found.changes], "nothing")
    leaving = [one for one in found.bound if one.site]
    if leaving:
        say(f"{len(leaving)} would have to leave where they are, within their grace")
    for line in (*(_moves(one) for one in found.bound), *(_starts(one) for one in found.freed)):
        say(line)


def _row(one: LawChangeView) -> tuple[str, ...]:
    would = "allows" if one.allowed else "forbids"
    return (
        would,
        one.tenant,
        one.policy,
        one.site,
        _named(one.running),
        _named(one.waiting),
        "; ".join(one.after),
    )


def _moves(one: BoundView) -> str:
    """What becomes of a workload that the law would bind."""
    if not one.site:
        return f"{one.workload} ({one.tenant}) waits, and would be allowed nowhere any more"
    then = f"may go on at {', '.join(one.sites)}" if one.sites else "is allowed nowhere else, and would wait"
    return f"{one.workload} ({one.tenant}) would leave {one.site}, and {then}"


def _starts(one: FreedView) -> str:
    """What becomes of a workload that the law would let go."""
    said = f"{one.workload} ({one.tenant}) waits, and would be allowed at {', '.join(one.sites)}"
    if one.starts_at:
        return f"{said}; it would have room at {one.starts_at} now"
    return f"{said}; there is no room now" if one.room_known else f"{said}; room was not looked for"


def _named(workloads: tuple[str, ...]) -> str:
    more = len(workloads) - _MOST_NAMED
    return ", ".join(workloads[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
