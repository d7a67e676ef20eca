"""`headrace policy diff`: what other law would change, from documents and from files of rules."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Headrace
from tests.cli.plane import ROOT, TENANTS

LAW = ROOT / "examples" / "law"
RULES = '@id("here") permit (principal, action, resource) when { resource.country == "GB" };\n'


@pytest.fixture
def _own_tenant(headrace: Headrace) -> Iterator[None]:
    """The control plane is shared: its tenant is afterwards as others know it."""
    yield
    assert headrace("apply", "-f", TENANTS, "-y").code == 0


@pytest.mark.usefixtures("_own_tenant")
def test_a_file_of_rules_is_the_policy_of_its_name(headrace: Headrace, tmp_path: Path) -> None:
    """Compared with the one that is applied; what is wrong with it is named by its own line and column."""
    assert headrace("apply", "-f", LAW / "known-staff.yaml", "-y").code == 0
    tenants = tmp_path / "tenants.yaml"
    tenants.write_text(
        "kind: tenant\nname: fjord-ai\nprojects: [research]\npolicy: known-staff\ncountry: NO\n"
    )
    assert headrace("apply", "-f", tenants, "-y").code == 0
    rules = tmp_path / "known-staff.cedar"
    rules.write_text(RULES)
    said = json.loads(headrace("policy", "diff", rules, "--json").out)
    assert [(one["tenant"], one["site"], one["allowed"]) for one in said["changes"]] == [
        ("fjord-ai", "glomfjord", False),
        ("fjord-ai", "loughton", True),
    ]
    assert (
        headrace("sovereignty", "what-if", rules, "--json").out
        == headrace("policy", "diff", rules, "--json").out
    )
    rules.write_text(RULES.replace("GB", "UK"))
    wrong = headrace("policy", "diff", rules)
    assert wrong.code == 2
    assert wrong.err.startswith(f"headrace: {rules}:1:")
    assert "Traceback" not in wrong.err


def test_what_can_not_be_compared_is_named(headrace: Headrace, tmp_path: Path) -> None:
    """Nothing given, a day that has begun, and a document with a slip, by its file."""
    assert "nothing to compare with" in headrace("policy", "diff").err
    assert "has begun" in headrace("policy", "diff", "--on", "2020-01-01").err
    facts = tmp_path / "facts.yaml"
    facts.write_text("kind: facts\nsite: glomfjord\nfacts:\n- {fact: country, value: GB, source: x}\n")
    said = headrace("policy", "diff", LAW / "remote-hands.yaml", facts)
    assert said.code == 2
    assert f"{facts}:4:" in said.err
