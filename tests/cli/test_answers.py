"""What the command line says when something waits, is refused or is not there: the reason, the place, the next step."""

import json
from pathlib import Path

import pytest

from headrace.cli.common import cut_last
from headrace.cli.places import BETWEEN, in_flags, in_texts, place_of
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from tests.cli.conftest import Headrace
from tests.cli.plane import ROOT, TENANTS

WORKLOAD = "kind: workload\nname: {name}\ntype: job\nproject: research\ncommands: [x]\n{more}"


def test_ps_and_top_say_why_a_workload_waits(headrace: Headrace) -> None:
    """The reason's name and what is lacking, in the line of each, as `explain` has it."""
    headrace("drain", "--site", "loughton")
    headrace("submit", "--name", "waits", "--project", "radiology", "--countries", "GB", "-c", "sleep 60")
    whole = headrace("explain", "waits").out
    reason = "NODE_STATE: site loughton: needs 1 node with"
    assert f"waits: {reason}" in whole
    assert reason in headrace("ps").out
    assert reason in headrace("ps", "--tenant", "albion-health").out
    assert "NODE_STATE" in headrace("top", "--once").out
    listed = json.loads(headrace("ps", "--json").out)
    assert next(one["reason"] for one in listed if one["name"] == "waits") in whole
    headrace("stop", "waits")
    headrace("undrain", "--site", "loughton")


def test_a_reason_is_cut_to_what_a_line_has_room_for() -> None:
    """On a terminal one workload stays one line; nothing is cut that fits."""
    rows = cut_last([("a-1", "x" * 50), ("a-22", "short")], ("ID", "REASON"), 40)
    assert rows == [["a-1", "x" * 33 + "…"], ["a-22", "short"]]
    assert cut_last([("a" * 80, "x" * 50)], ("ID", "REASON"), 40)[0][1] == "x" * 15 + "…"


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ("drain nope", "headrace nodes"),
        ("drain --site nope", "headrace sites"),
        ("nodes --site nope", "headrace sites"),
        ("stop nope", "headrace ps --all"),
        ("explain nope", "headrace ps --all"),
        ("ps --tenant nope", "headrace documents"),
        ("invoice show nope", "headrace documents"),
        ("invoice credit nope 1 --reason x", "headrace invoice ls"),
        ("token revoke nope", "headrace token ls"),
        ("tenant erase nope -y", "headrace documents"),
        ("remove contract nope -y", "headrace documents"),
        ("journal proof 99999999", "headrace journal events"),
        ("submit --name x --tenant nope --project research -c x", "headrace documents"),
        ("submit --name x --site nope --project research -c x", "headrace sites"),
    ],
)
def test_an_unknown_name_is_answered_with_the_command_that_lists_the_known(
    headrace: Headrace, arguments: str, command: str
) -> None:
    """Once, and whichever part of the control plane found that there is no such thing."""
    said = headrace(*arguments.split())
    assert said.code == 4, said
    assert "'nope'" in said.err or "99999999" in said.err
    assert said.err.count(f"'{command}' lists those there are.") == 1
    assert "\n" not in said.err.strip()


def test_a_mistyped_workload_is_asked_back(headrace: Headrace) -> None:
    """As for every other name."""
    headrace(
        "submit", "--name", "turbine", "--project", "research", "--countries", "NO", "-c", "true", "--follow"
    )
    assert "Did you mean turbine?" in headrace("explain", "turbin").err


def test_what_the_law_refuses_is_told_what_would_change_it(headrace: Headrace) -> None:
    """At once, in the line that refuses it, and by `explain` later."""
    said = headrace("submit", "-f", ROOT / "examples" / "workloads" / "train-se.yaml")
    assert said.code == 7
    assert "in GB (policy uk-only or {countries: [GB]})" in said.out
    ident = said.out.partition("(")[2].partition(")")[0]
    assert "in NO (policy nordic-only or {countries: [NO]})" in headrace("explain", ident).out


def test_what_the_control_plane_finds_in_files_is_named_by_file_line_and_path(
    headrace: Headrace, tmp_path: Path
) -> None:
    """A site that there is not, in the second file, whichever command sends it."""
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(WORKLOAD.format(name="one", more=""))
    two.write_text("# two\n" + WORKLOAD.format(name="two", more="site: glomfjrd\n"))
    for command in ("submit", "apply"):
        said = headrace(command, "-f", one, "-f", two, *(["-y"] if command == "apply" else []))
        assert said.code == 4
        assert said.err.startswith(f"headrace: {two}:7:7 site: no site 'glomfjrd';"), said
    tenants = tmp_path / "tenants.yaml"
    tenants.write_text(TENANTS.read_text().replace("site: loughton", "site: lough"))
    number = next(at for at, line in enumerate(tenants.read_text().splitlines(), 1) if line == "site: lough")
    said = headrace("apply", "-f", one, "-f", tenants, "-y")
    assert said.err.startswith(f"headrace: {tenants}:{number}:7 site: no site 'lough';"), said


def test_what_was_wrong_in_a_flag_is_named_by_the_flag(headrace: Headrace) -> None:
    """Nobody who gave flags has seen the body that was made of them."""
    rows = [("--gpu", "lab:x"), ("--countries", "UK"), ("--memory", "much"), ("--site", "nope")]
    for flag, value in rows:
        said = headrace("submit", "--name", "x", "--project", "research", "-c", "true", flag, value)
        assert said.err.startswith(f"headrace: {flag}: "), said
    assert headrace("logs", "no-such").code == 4


def test_places_of_the_api_are_read_in_both_spellings() -> None:
    """JSON pointers of what was decoded, paths of what was decided; nothing else is taken for a place."""
    assert place_of("/workloads/3/policy/countries/0") == (3, ("policy", "countries", 0))
    assert place_of("/workloads/0/env/a~1b~0c") == (0, ("env", "a/b~c"))
    assert place_of("/workloads/0") == place_of("workloads[0]") == (0, ())
    assert place_of("workloads[2].resources.gpu") == (2, ("resources", "gpu"))
    assert place_of("workloads[2].commands[1]") == (2, ("commands", 1))
    for other in ("", "header Idempotency-Key", "/tenant", "byte 7"):
        assert place_of(other) is None


def test_what_has_no_place_that_people_wrote_keeps_what_it_has() -> None:
    """A place is never made up, and notes stay with the error."""
    error = HeadraceError(Problem(ProblemCode.BAD_INPUT, "m", "", "header Idempotency-Key"))
    error.add_note("kept")
    assert in_flags(error, {}).problem.where == "header Idempotency-Key"
    assert in_flags(error, {}).__notes__ == ["kept"]
    texts = [("a", "1\r\n2\u20283\n"), ("b", "x")]
    lines = BETWEEN.join(text for _, text in texts)
    assert lines.endswith("---\nx")
    for line, where in ((1, "a:1:1"), (3, "a:3:1"), (6, "b:1:1")):
        wrong = HeadraceError(Problem(ProblemCode.BAD_INPUT, "m", "", f"body:{line}:1"))
        assert in_texts(wrong, texts, []).problem.where == where


def test_the_status_says_which_month_is_billed(headrace: Headrace) -> None:
    """The one that `invoice show` takes without being told."""
    period = json.loads(headrace("status", "--json").out)["period"]
    assert f"billing period {period}\n" in headrace("status").out
    assert f"fjord-ai, {period}," in headrace("invoice", "show", "fjord-ai").out
