"""A tenant's own table of cases, and the commands that need no control plane."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from headrace.cli.policy import app
from headrace.core.errors import HeadraceError
from headrace.policy.cases import read_table, run
from headrace.policy.cedar import PROFILES, profile
from headrace.policy.schema import ACTIONS

TABLE = """\
policy: nordic-only
facts:
  site: {country: NO, staff_countries: [NO, GB]}
  day: 2026-11-23
cases:
  - name: a job in Norway
    expect: allow
    by: [nordic-site]
  - name: a copy to the United Kingdom
    action: [data.copy, back-up]
    facts: {site: {country: GB}}
    expect: forbid
  - name: support from the United States
    action: support-access
    facts: {person: {works_for: operator, countries: [NO, US]}}
    expect: forbid
    by: nordic-people
  - name: the tenant reads its logs
    action: read-logs
    facts: {person.works_for: tenant}
    expect: allow
"""


def _run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["policy", *map(str, arguments)], env={"COLUMNS": "200"})


def test_a_table_says_what_each_case_came_to() -> None:
    """Facts of all cases and of each, actions by either name, days as dates; the rules that determined it."""
    table = read_table(TABLE.encode(), "cases.yaml")
    outcomes = run(profile("nordic-only"), table)
    assert [one.is_expected for one in outcomes] == [True] * 5
    assert [one.case.action for one in outcomes] == [
        "place",
        "copy-data",
        "back-up",
        "support-access",
        "read-logs",
    ]
    assert outcomes[0].case.facts["site.staff_countries"] == "GB NO"
    assert outcomes[0].case.facts["day"] == 20_780
    assert outcomes[1].why == "site.country is GB"
    assert outcomes[3].rules == ("nordic-people",)


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (("expect: allow\n    by: [nordic-site]", "expect: forbid"), 1),
        (("country: NO,", "country: US,"), 2),
        (("by: nordic-people", "by: nordic-site"), 1),
        (("by: [nordic-site]", "by: []"), 1),
        (("works_for: tenant", "works_for: operator"), 1),
    ],
)
def test_a_case_that_comes_out_otherwise_is_named_and_the_command_fails(
    tmp_path: Path, change: tuple[str, str], wrong: int
) -> None:
    """By its line, with what was expected and the facts; exit status 1."""
    file = tmp_path / "cases.yaml"
    file.write_text(TABLE)
    assert _run("test", file).exit_code == 0
    file.write_text(TABLE.replace(*change))
    said = _run("test", file)
    assert said.exit_code == 1, said.output
    assert said.output.count("NOT AS EXPECTED") == wrong
    assert f"{wrong} not as expected" in said.output
    assert said.output.count(f"{file}:") == wrong


def test_the_same_as_json_and_with_a_policy_of_ones_own(tmp_path: Path) -> None:
    """A file beside the table, or one that is given."""
    (tmp_path / "ours.cedar").write_text('@id("all") permit (principal, action, resource);')
    file = tmp_path / "cases.yaml"
    file.write_text("policy: ours.cedar\ncases: [{expect: allow, by: all}]\n")
    said = _run("test", file, "--json")
    assert said.exit_code == 0, said.output
    (row,) = json.loads(said.output)
    assert (row["case"], row["is"], row["by"], row["as_expected"]) == ("case 1", "allow", ["all"], True)
    file.write_text("policy: ours.cedar\ncases: [{expect: allow}]\n")
    assert _run("test", file, "--policy", "public").exit_code == 1


BAD: list[tuple[str, str]] = [
    ("", "cases.yaml:1:1: not one table"),
    ("- 1", "not one table"),
    ("a: 1\n---\nb: 1", "not one table"),
    ("policy: public\ncases: []", "cases.yaml:2:8 cases: no cases"),
    ("policy: public", "no cases"),
    ("cases: [{expect: allow}]", "nothing is not a policy"),
    ("policy: public\ncase: []", "no field 'case'; .*Did you mean cases"),
    ("policy: public\ncases: [{expects: allow}]", "no field 'expects'; .*Did you mean expect"),
    ("policy: public\ncases: [{expect: deny}]", "'deny' is not expected"),
    ("policy: public\ncases: [{}]", "nothing is not expected"),
    ("policy: public\ncases: [3]", "3 is not a case"),
    ("policy: public\ncases: [{expect: allow, action: plase}]", "no action 'plase'; .*Did you mean place"),
    ("policy: public\ncases: [{expect: allow, facts: {site: {country: UK}}}]",
     r"cases.yaml:2:40 cases\[0\].facts.site.country: .*Did you mean GB"),
    ("policy: public\ncases: [{expect: allow, facts: {site: {contry: NO}}}]", "no fact 'site.contry'"),
    ("policy: public\nfacts: 3\ncases: [{expect: allow}]", "3 is not facts"),
    ("policy: public\nfacts: {day: soon}\ncases: [{expect: allow}]", "Give a whole number"),
    ("policy: public\nfacts: {site: {outside_eu_ppm: 24.00001%}}\ncases: [{expect: allow}]", "Give a whole number"),
    ("policy: public\nfacts: {site: {outside_eu_ppm: 240%}}\ncases: [{expect: allow}]", "lies in 0 to 1000000"),
    ("policy: public\ncases: [{expect: allow, by: [{}]}]", "not rules"),
    ("policy: public\ncases: [{expect: allow, by: [known-contry]}]", "no rule 'known-contry'; .*Did you mean known-country"),
]  # fmt: skip


@pytest.mark.parametrize(("table", "said"), BAD, ids=lambda value: str(value)[:40].replace("\n", " "))
def test_a_table_that_cant_be_meant_is_named_with_its_place(table: str, said: str) -> None:
    """Line and column, and what is meant."""
    with pytest.raises(HeadraceError, match=said):
        run(profile("public"), read_table(table.encode(), "cases.yaml"))


def test_shares_may_be_percentages() -> None:
    """Twenty-four and a half percent, exactly."""
    table = read_table(
        b"policy: public\nfacts: {site: {outside_eu_ppm: 24.5%}}\ncases: [{expect: allow}]", "c"
    )
    assert table.cases[0].facts["site.outside_eu_ppm"] == 245_000


def test_check_shows_each_claim_and_fails_for_what_is_proven_wrong(tmp_path: Path) -> None:
    """Proofs and requests in a table; a contradiction is an error with its place."""
    said = _run("check", *PROFILES)
    assert said.exit_code == 0, said.output
    assert said.output.count("decided by Cedar too, all alike") == len(PROFILES)
    file = tmp_path / "ours.cedar"
    file.write_text(
        '@id("a") permit (principal, action, resource);\n@id("b") forbid (principal, action, resource);\n'
    )
    said = _run("check", file)
    assert isinstance(said.exception, HeadraceError)
    lines = [one.line() for one in said.exception.problems]
    assert any(
        line.startswith(f"{file}:1:10: the permit 'a' is always overridden by a forbid") for line in lines
    )
    assert any("ours allows nothing: it forbids everything" in line for line in lines)
    (view,) = json.loads(_run("check", "public", "--json").output)
    assert view["policy"] == "public"
    assert {one["state"] for one in view["answers"]} == {"disproven"}


def test_show_and_facts_print_what_there_is(tmp_path: Path) -> None:
    """A profile's text, all profiles, every fact, and a schema that Cedar takes."""
    assert _run("show", "nordic-only").output.strip() == profile("nordic-only").text.strip()
    assert all(name in _run("show").output for name in PROFILES)
    assert "resource.staff_countries" in _run("facts").output
    assert all(f'action "{name}"' in _run("facts", "--schema").output for name in ACTIONS.values())
    said = _run("show", "nordic-olny")
    assert isinstance(said.exception, HeadraceError)
    assert "Did you mean nordic-only? Or name a file" in said.exception.problem.next_step


def test_compare_shows_what_a_policy_would_newly_allow_and_forbid(tmp_path: Path) -> None:
    """Proven nothing one way, a request the other way, for each action; as JSON too."""
    (tmp_path / "ours.cedar").write_text(
        '@id("a") permit (principal, action, resource) when { resource.country == "NO" };'
    )
    said = _run("compare", "public", tmp_path / "ours.cedar")
    assert said.exit_code == 0, said.output
    assert said.output.count("nothing, proven") == said.output.count("yes") == len(ACTIONS)
    rows = json.loads(_run("compare", "public", tmp_path / "ours.cedar", "--json").output)
    assert [row["facts"] for row in rows if row["newly"] == "forbids"] == [{"site.country": "AD"}] * len(
        ACTIONS
    )
