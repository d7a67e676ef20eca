"""The operator's commands: estate, power, money, journal."""

import csv
import io
import json
from pathlib import Path

import pytest

from headrace.state import StateDirectory
from tests.cli.conftest import Headrace
from tests.cli.plane import ROOT, control_plane


def test_a_drained_node_takes_nothing_more_and_comes_back(headrace: Headrace) -> None:
    """Drain and undrain say which nodes changed, and nothing when none did."""
    node = "loughton/block-1/lab-0-1"
    assert headrace("drain", node, "--reason", "fan").out == f"{node} draining\n"
    assert "fan" in headrace("nodes", "--site", "loughton").out
    assert "nothing changed" in headrace("drain", node).out
    assert headrace("undrain", node).out == f"{node} ready\n"
    both = headrace("drain", "--site", "loughton").out
    assert both.count("draining") == 2
    headrace("undrain", "--site", "loughton")


def test_power_shows_the_tree_with_limits(headrace: Headrace) -> None:
    """What is admitted is never above the limit, and racks are shown when asked for."""
    said = headrace("power")
    assert "connection glomfjord" in said.out
    assert "3.363 kW" in said.out
    assert len(headrace("power", "--racks").out.splitlines()) > len(said.out.splitlines())
    elements = json.loads(headrace("power", "--json").out)
    assert elements
    assert all(one["admitted_w"] <= one["limit_w"] for one in elements)


def test_the_loss_of_an_element_is_told_in_words(headrace: Headrace) -> None:
    """What goes dark, and what the others carry then; a plain tree has one way up."""
    said = headrace("power", "impact", "glomfjord/feed-a")
    assert "feed glomfjord/feed-a lost: 3 nodes of glomfjord dark" in said.out
    assert "glomfjord/block-1/lab-0-2" in said.out
    assert "feed glomfjord/feed-b" in said.out
    assert json.loads(headrace("power", "impact", "glomfjord", "--json").out)["nodes_dark"] == 6
    wrong = headrace("power", "impact", "glomfjord/feed-c")
    assert (wrong.code, wrong.err.count("\n")) == (4, 1)
    assert "Did you mean glomfjord/feed-" in wrong.err


def test_top_prints_one_frame(headrace: Headrace) -> None:
    """Sites with power and accelerators in use, in one look."""
    said = headrace("top", "--once")
    assert said.code == 0
    assert "glomfjord" in said.out
    assert "IT POWER ADMITTED" in said.out


def test_sites_and_status_say_what_is_declared(headrace: Headrace) -> None:
    """Constants of energy are shown where they are declared; the status names the operator."""
    assert "0.45 NOK" in headrace("sites").out
    assert "operator headrace-lab" in headrace("status").out
    assert json.loads(headrace("status", "--json").out)["operator"] == "headrace-lab"


def test_an_invoice_goes_from_draft_to_issued_to_credited(headrace: Headrace) -> None:
    """Each line can be walked back to its events; a correction is a credit note."""
    said = headrace(
        "submit", "--name", "paid", "--project", "assistant", "-c", "sleep 1", "--gpu", "lab:1", "--cpu", "100m",
        "--memory", "50MB", "--countries", "NO", "--follow",
    )  # fmt: skip
    assert said.code == 0, said
    headrace("meter")
    draft = headrace("invoice", "show", "fjord-ai")
    assert "Draft of invoice" in draft.out
    assert "modelled" in draft.out
    number = headrace("invoice", "issue", "fjord-ai").out.split()[1]
    shown = json.loads(headrace("invoice", "show", number, "--format", "json").out)
    lines = shown[0]["lines"]
    held = next(
        at for at, line in enumerate(lines, 1) if line["project"] == "assistant" and line["usage_rows"]
    )
    events = headrace("invoice", "show", number, "--line", str(held)).out
    assert "fjord-ai-" in events
    records = list(csv.DictReader(io.StringIO(headrace("invoice", "show", number, "--format", "csv").out)))
    assert sum(int(one["amount_micros"]) for one in records) == shown[0]["total_micros"]
    assert headrace("invoice", "credit", number, "0.0001", "--reason", "goodwill").out.startswith(
        f"issued {number}-C1"
    )
    assert "goodwill" in headrace("invoice", "show", number).out
    assert number in headrace("invoice", "ls").out
    assert headrace("invoice", "credit", number, "1000000", "--reason", "too much").code != 0


def test_the_journal_verifies_and_holds_a_kept_head(headrace: Headrace, tmp_path: Path) -> None:
    """A head that was kept is found in the journal; one that was changed is not."""
    kept = tmp_path / "head.json"
    kept.write_text(headrace("journal", "head").out)
    headrace("token", "issue", "operator-admin")
    said = headrace("journal", "verify", "--replay", "--head", kept)
    assert said.code == 0, said
    assert "the kept head" in said.out
    other = json.loads(kept.read_text())
    other["root"] = other["signature"][:43] + "="
    kept.write_text(json.dumps(other))
    assert headrace("journal", "verify", "--head", kept).code == 1
    assert headrace("journal", "verify", "--key", "00" * 32).code == 1
    assert headrace("journal", "verify", "--state", tmp_path / "none").code == 4


def test_events_are_listed_by_kind_and_proved(headrace: Headrace) -> None:
    """An auditor finds what was applied, and gets the path from there to the signed head."""
    listed = [
        json.loads(line)
        for line in headrace("journal", "events", "--kind", "DocumentApplied", "--json").out.splitlines()
    ]
    assert {one["kind"] for one in listed} == {"DocumentApplied"}
    assert json.loads(headrace("journal", "proof", str(listed[0]["seq"])).out)["seq"] == listed[0]["seq"]
    assert "JournalOpened" in headrace("journal", "events", "--limit", "3").out


def test_the_second_opinion_finds_nothing(headrace: Headrace) -> None:
    """`check` reads the journal alone, while the control plane runs."""
    said = headrace("check")
    assert said.code == 0
    assert "0 violations" in said.out
    assert json.loads(headrace("check", "--json").out) == []


def test_a_tenant_is_erased_and_the_journal_still_verifies(
    headrace: Headrace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Personal data goes with its key; leaves, links and heads stay right."""
    with control_plane(tmp_path / "state") as state:
        monkeypatch.setenv("HEADRACE_STATE", str(state))
        file = tmp_path / "t.yaml"
        file.write_text("kind: tenant\nname: leaving\nprojects: [p]\ncontact: Ada Example, ada@example.org\n")
        assert headrace("apply", "-f", file, "-y").code == 0
        assert headrace("tenant", "erase", "leaving").code == 2
        assert (
            headrace("tenant", "erase", "leaving", "-y").out == "the keys and logs of leaving are destroyed\n"
        )
        assert headrace("journal", "verify", "--replay").code == 0
    everything = b"".join(path.read_bytes() for path in state.rglob("*") if path.is_file())
    assert b"ada@example.org" not in everything


def test_up_refuses_a_state_that_is_in_use(headrace: Headrace, plane: Path) -> None:
    """Two control planes never share a state; the second one names the first."""
    said = headrace("up", "--state", plane, "--port", "0", "--no-isolation")
    assert said.code == 6
    assert "in use by process" in said.err
    assert StateDirectory(plane).client.stat().st_mode & 0o077 == 0


def test_the_simulator_plays_a_seed(headrace: Headrace) -> None:
    """`headrace sim` passes its options on, and ends with 0 when no promise broke."""
    said = headrace("sim", "--seed", "7", "--short")
    assert said.code == 0, said
    assert "1 short seeds, 0 failed" in said.out


def test_examples_are_shipped(headrace: Headrace) -> None:
    """Every example estate can be shown."""
    for file in sorted((ROOT / "examples" / "estates").glob("*.yaml")):
        assert headrace("estate", "show", file).code == 0
