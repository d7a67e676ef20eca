"""Policies: read them, examine them, run a table of cases on them. Only ``diff``, about what runs, asks a control plane."""

from collections.abc import Sequence
from pathlib import Path

import typer

from headrace.cli.common import print_json, print_table, read_file, say
from headrace.cli.difference import difference
from headrace.core.errors import HeadraceError, Problem, ProblemCode, did_you_mean
from headrace.policy import schema
from headrace.policy.between import Gap, between
from headrace.policy.cases import Outcome, read_table, run
from headrace.policy.cedar import PROFILES, load_file, profile
from headrace.policy.check import Answer, Report, problems_of
from headrace.policy.check import check as examine
from headrace.policy.reading import PolicySet
from headrace.policy.schema import Value

app = typer.Typer(rich_markup_mode=None)
policy = typer.Typer(
    rich_markup_mode=None, help="Policies in Cedar: show, check, compare, diff and test them."
)
app.add_typer(policy, name="policy")
MOST_SHOWN = 4
"""So many facts of a request are shown in a line."""
_WAYS = {True: "allows", False: "forbids"}
_GAPS = {"proven": "nothing, proven", "disproven": "yes", "unknown": "unknown"}
_ANSWERS = {"proven": "yes, proven", "disproven": "no", "unknown": "unknown"}


@app.callback()
def group() -> None:
    """Policies."""


def _policy(name: str, beside: Path | None = None) -> PolicySet:
    """A profile by its name, or a policy from its file; HeadraceError with what there is."""
    if name in PROFILES:
        return profile(name)
    path = Path(name) if beside is None else beside / name
    if name.endswith(".cedar") or path.is_file():
        return load_file(path)
    step = f"{did_you_mean(name, PROFILES)} Or name a file that ends in .cedar."
    raise HeadraceError(Problem(ProblemCode.NOT_FOUND, f"no profile {name!r};", step))


@policy.command("show")
def show(
    name: str = typer.Argument("", help="A profile, or a file [default: which profiles there are]."),
) -> None:
    """Print a profile's rules, or name all profiles."""
    if name:
        say(_policy(name).text.rstrip())
        return
    found = [profile(one) for one in PROFILES]
    rows = [(one.name, len(one.rules), _first_line(one)) for one in found]
    print_table(("PROFILE", "RULES", "FOR"), rows, "no profiles", right=("RULES",))


def _first_line(found: PolicySet) -> str:
    """What a profile says of itself at its head."""
    return found.text.partition("\n")[0].removeprefix(f"// {found.name}: ")


@policy.command("facts")
def facts(
    as_schema: bool = typer.Option(False, "--schema", help="Print the Cedar schema instead."),
) -> None:
    """What a rule may ask about: names, where they stand in a rule, what they are when nobody stated them."""
    if as_schema:
        say(schema.schema_text().rstrip())
        return
    found = [fact for name in schema.names() if (fact := schema.by_name(name)) is not None]
    rows = [
        (
            fact.name,
            ".".join(fact.path),
            str(fact.kind),
            fact.unknown if fact.unknown != "" else "-",
            fact.what,
        )
        for fact in found
    ]
    print_table(("FACT", "IN A RULE", "TYPE", "UNKNOWN IS", "WHAT"), rows, "no facts")


@policy.command("check")
def check(
    names: list[str] = typer.Argument(..., help="Profiles, or files of rules."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Check rules: types, the unknown, and, proven or with a request, which never hold, always hold or contradict each other."""
    reports = [examine(_policy(name)) for name in names]
    if as_json:
        print_json([_view(report) for report in reports])
    else:
        for report in reports:
            _print(report)
    problems = [one for report in reports for one in problems_of(report)]
    if problems:
        raise HeadraceError(*problems)


def _print(report: Report) -> None:
    found = report.policy
    say(f"{found.name}: {len(found.rules)} rules, digest {found.digest}")
    rows = [
        (one.rule.id if one.rule else "(all)", one.claim, _ANSWERS[one.state], _shown_by(one))
        for one in report.answers
    ]
    print_table(("RULE", "CLAIM", "IS IT SO", "SHOWN BY"), rows, "no rules")
    say(f"{report.compared} requests decided by Cedar too, all alike")


def _shown_by(one: Answer) -> str:
    if one.state == "unknown":
        return one.why
    if one.state == "proven":
        return f"all facts, to {', '.join(one.actions)}" if one.actions else "all facts"
    return f"{one.action}: {_some(one.facts)}" if one.action else one.why


def _some(facts: Sequence[tuple[str, Value]]) -> str:
    """Some facts of a request, in one line."""
    listed = [f"{name} {value if value != '' else 'none'}" for name, value in facts[:MOST_SHOWN]]
    more = [f"{len(facts) - MOST_SHOWN} more"] if len(facts) > MOST_SHOWN else []
    return ", ".join(listed + more) or "any facts"


def _view(report: Report) -> dict[str, object]:
    answers = [
        {
            "rule": one.rule.id if one.rule else None,
            "claim": str(one.claim),
            "state": one.state,
            "actions": one.actions,
            "action": one.action,
            "facts": dict(one.facts),
            "why": one.why,
        }
        for one in report.answers
    ]
    found = report.policy
    return {"policy": found.name, "digest": found.digest, "answers": answers, "compared": report.compared}


@policy.command("compare")
def compare(
    old: str = typer.Argument(..., help="A profile, or a file of rules."),
    new: str = typer.Argument(..., help="The one that would take its place."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """What one policy allows and another doesn't, over all facts: nothing, proven, or a request that shows it."""
    found = between(_policy(old), _policy(new))
    if as_json:
        print_json([_gap(one) for one in found])
        return
    rows = [(one.action, _WAYS[one.is_newly], _GAPS[one.state], _request(one)) for one in found]
    print_table(("ACTION", "THE NEW ONE", "ANYTHING", "SHOWN BY"), rows, "no actions")


def _gap(one: Gap) -> dict[str, object]:
    found = {"action": one.action, "newly": _WAYS[one.is_newly], "state": one.state}
    return {**found, "facts": dict(one.facts), "why": one.why}


def _request(one: Gap) -> str:
    if one.state != "disproven":
        return one.why or "all facts"
    return _some(one.facts)


policy.command("diff")(difference)


@policy.command("test")
def run_cases(
    file: str = typer.Argument(..., help="A table of cases; - for standard input."),
    name: str = typer.Option("", "--policy", help="A profile or a file of rules [default: the table's]."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Run a table of cases: facts, and what must come of them. Exit status 1 if anything else comes."""
    table = read_table(read_file(file), file)
    beside = None if name or file == "-" else Path(file).parent
    found = _policy(name or table.policy, beside)
    outcomes = run(found, table)
    wrong = [one for one in outcomes if not one.is_expected]
    if as_json:
        print_json([_row(one) for one in outcomes])
    else:
        rows = [_cells(one) for one in outcomes]
        print_table(("CASE", "ACTION", "EXPECTED", "IS", "BY", ""), rows, "no cases")
        say(f"policy {found.name}: {len(outcomes)} cases, {len(wrong)} not as expected")
    for one in wrong:
        wanted = f", by {', '.join(one.case.by)}" if one.case.by else ""
        say(f"{one.case.where}: {one.case.name}: expected {_word(one.case.expect)}{wanted}; {one.why}")
    if wrong:
        raise typer.Exit(1)


def _word(allowed: bool) -> str:
    return "allow" if allowed else "forbid"


def _cells(one: Outcome) -> tuple[str, ...]:
    by = ", ".join(one.rules) or f"no permit: {one.why}"
    state = "as expected" if one.is_expected else "NOT AS EXPECTED"
    return one.case.name, one.case.action, _word(one.case.expect), _word(one.allowed), by, state


def _row(one: Outcome) -> dict[str, object]:
    return {
        "case": one.case.name,
        "action": one.case.action,
        "expected": _word(one.case.expect),
        "is": _word(one.allowed),
        "by": one.rules,
        "why": one.why,
        "as_expected": one.is_expected,
    }
