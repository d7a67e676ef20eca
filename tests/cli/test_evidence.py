"""`headrace evidence`: made by a live control plane, verified without one."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.cli.app import EXIT_CODES
from headrace.core.errors import ProblemCode
from tests.cli.conftest import Headrace


@pytest.fixture
def made(headrace: Headrace, tmp_path: Path, plane: Path) -> Iterator[Path]:
    """The evidence of an instruction for which a job was paused, in a file."""
    asked = [
        "--project",
        "research",
        "--countries",
        "NO",
        "--gpu",
        "lab:4",
        "--flex",
        "pausable",
        "-c",
        "sleep 600",
    ]
    assert headrace("submit", "--name", "settled", *asked).code == 0
    assert headrace("wait", "settled", "--for", "running").code == 0
    assert headrace("grid", "instruct", "--site", "glomfjord", "--limit", "1.5kW", "--name", "peak").code == 0
    assert headrace("wait", "settled", "--for", "paused").code == 0
    assert headrace("grid", "withdraw", "peak").code == 0
    assert headrace("wait", "settled", "--for", "running").code == 0
    file = tmp_path / "peak.json"
    said = headrace(
        "evidence", "grid", "peak", "--interval", "5m", "--baseline", "minute-before", "--out", file
    )
    assert said.code == 0, said
    assert f"wrote {file}, signed by the key {_key(plane)}" in said.out
    assert "peak at glomfjord, final: " in said.out
    yield file
    headrace("stop", "settled")


def _key(plane: Path) -> str:
    return (plane / "keys" / "signing.pub").read_text().strip()


def test_evidence_of_a_live_site_verifies_offline(
    headrace: Headrace, made: Path, plane: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the key by its text or by its file, and with no control plane to ask; changed anywhere, it does not."""
    monkeypatch.setenv("HEADRACE_URL", "http://127.0.0.1:9")
    for key in (_key(plane), plane / "keys" / "signing.pub"):
        said = headrace("evidence", "verify", made, "--key", key)
        assert said.code == 0, said
        assert said.out.count("verified: ") == 8
        assert "operator's own word" in said.out
    document = json.loads(made.read_bytes())["document"]
    kinds = [one["kind"] for one in document["events"]]
    for kind in ("InstructionReceived", "CurtailmentOrdered", "PauseObserved", "InstructionWithdrawn"):
        assert kind in kinds
    made.write_bytes(made.read_bytes().replace(b'"limit_w":1500', b'"limit_w":9500', 1))
    said = headrace("evidence", "verify", made, "--key", _key(plane))
    assert said.code == EXIT_CODES[ProblemCode.BROKEN]
    assert "instruction: not as it was signed" in said.err
    assert said.out == ""


@pytest.mark.parametrize(
    ("arguments", "word", "code"),
    [
        (["grid", "nothing"], "no instruction 'nothing'", ProblemCode.NOT_FOUND),
        (["grid", "nothing", "--interval", "7m"], "--interval", ProblemCode.BAD_INPUT),
        (["grid", "nothing", "--baseline", "guess"], "--baseline", ProblemCode.BAD_INPUT),
        (["verify", "/no/such/file", "--key", "00" * 32], "/no/such/file", ProblemCode.BAD_INPUT),
        (["verify", "/dev/null", "--key", "00" * 32], "cut", ProblemCode.BROKEN),
        (["verify", "/dev/null", "--key", "abc"], "public key of 32 bytes", ProblemCode.BAD_INPUT),
    ],
)
def test_a_mistake_is_named_with_the_next_step(
    headrace: Headrace, arguments: list[str], word: str, code: ProblemCode
) -> None:
    """One line on standard error, and the code that fits."""
    said = headrace("evidence", *arguments)
    assert said.code == EXIT_CODES[code], said
    assert word in said.err
    assert said.err.count("\n") == 1
