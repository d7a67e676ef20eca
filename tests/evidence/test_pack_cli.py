"""`headrace evidence verify`, and the verifier that stands alone, at a command line: with files, and with nobody to ask."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from headrace.cli.app import EXIT_CODES, run
from headrace.core.errors import ProblemCode
from headrace.evidence import standalone
from tests.evidence.packs import Journal, another_key, small


@dataclass(frozen=True, slots=True)
class Said:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str


Verify = Callable[..., Said]


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journal]:
    """A journal of two tenants."""
    world = small(tmp_path_factory.mktemp("journal"))
    yield world.journal
    world.control.store.close()


@pytest.fixture
def pack(journal: Journal, tmp_path: Path) -> Path:
    """Its pack for acme, in a file; beside it what was kept."""
    file = tmp_path / "acme.pack"
    file.write_bytes(b"".join(journal.pack(at=[journal.head.size])))
    (tmp_path / "kept.json").write_bytes(journal.kept())
    (tmp_path / "head.json").write_bytes(journal.kept_head())
    return file


@pytest.fixture
def headrace(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Verify:
    """A command line where no control plane is."""
    monkeypatch.setenv("HEADRACE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("HEADRACE_TOKEN", "hr_none")

    def call(*arguments: str | Path) -> Said:
        capsys.readouterr()
        code = run([str(one) for one in arguments])
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return call


@pytest.mark.parametrize("kept", [[], ["kept.json"], ["head.json"], ["kept.json", "head.json"]])
def test_a_pack_verifies_with_the_key_and_what_was_kept(
    headrace: Verify, journal: Journal, pack: Path, kept: list[str]
) -> None:
    """By its text or by a file with it; each checkpoint is a line; and what is unproven without one is said."""
    options = [word for one in kept for word in ("--checkpoint", str(pack.parent / one))]
    said = headrace("evidence", "verify", pack, "--key", journal.public.hex(), *options)
    assert said.code == 0, said
    assert said.out.count("verified: ") == 5 + min(1, len(kept))
    assert ("nobody's checkpoint was given" in said.out) is not bool(kept)
    done = _alone(pack, journal.public.hex(), *(str(pack.parent / one) for one in kept))
    assert done.returncode == 0, done.stderr
    assert ("you gave no CHECKPOINT" in done.stdout) is not bool(kept)


def _alone(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    # -I: nothing of this project can be imported by it.
    command = [sys.executable, "-I", standalone.__file__, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_what_is_kept_of_a_pack_is_written_when_it_is_right(
    headrace: Verify, journal: Journal, pack: Path, tmp_path: Path
) -> None:
    """And not when it is wrong; what was there stays."""
    keep = tmp_path / "next.json"
    assert headrace("evidence", "verify", pack, "--key", journal.public.hex(), "--keep", keep).code == 0
    again = headrace("evidence", "verify", pack, "--key", journal.public.hex(), "--checkpoint", keep)
    assert again.code == 0
    assert "were the tenant's, as they are now" in again.out
    before = keep.read_bytes()
    pack.write_bytes(pack.read_bytes()[:-2])
    said = headrace("evidence", "verify", pack, "--key", journal.public.hex(), "--keep", keep)
    assert said.code == EXIT_CODES[ProblemCode.BROKEN]
    assert keep.read_bytes() == before
    assert sorted(tmp_path.glob("*.part")) == []


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    ("change", "options", "word", "code"),
    [
        (_half, [], "it is cut: its seal is missing", ProblemCode.BROKEN),
        (lambda data: data[:20], [], "it is cut in its first line", ProblemCode.BROKEN),
        (lambda data: data[:-1], [], "it is cut", ProblemCode.BROKEN),
        (lambda data: data + b"x", [], "something follows the seal", ProblemCode.BROKEN),
        (lambda data: data.replace(b"gap ", b"gap x", 1), [], "line 3: it has not the form", ProblemCode.BROKEN),
        (lambda data: data, ["--key", another_key().public.hex()], "Take the key from the operator", ProblemCode.BROKEN),
        (lambda data: data, ["--tenant", "borealis"], "of the tenant 'acme', not of 'borealis'", ProblemCode.BROKEN),
        (lambda data: data, ["--checkpoint", "/no/such/file"], "/no/such/file", ProblemCode.BAD_INPUT),
        (lambda data: data, ["--checkpoint", "/dev/null"], "is no checkpoint", ProblemCode.BAD_INPUT),
        (lambda data: data, ["--keep", "/no/such/folder/x"], "can't write /no/such/folder/x", ProblemCode.BAD_INPUT),
        (lambda _: b"", [], "or is no evidence at all", ProblemCode.BROKEN),
        (lambda _: b"{}\n", ["--tenant", "acme"], "is no evidence pack", ProblemCode.BAD_INPUT),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line_with_the_next_step(
    headrace: Verify, journal: Journal, pack: Path, change: Callable[[bytes], bytes], options: list[str],
    word: str, code: ProblemCode,
) -> None:  # fmt: skip
    """A pack cut in half, a signature by an unknown key, a wrong tenant, a file that is none; nothing is said to be verified."""
    pack.write_bytes(change(pack.read_bytes()))
    key = [] if "--key" in options else ["--key", journal.public.hex()]
    said = headrace("evidence", "verify", pack, *key, *options)
    assert said.code == EXIT_CODES[code], said
    assert word in said.err, said.err
    assert said.err.count("\n") == 1
    assert ". " in said.err
    assert "verified: " not in said.out or "--keep" in options


def test_a_pack_may_come_through_a_pipe(journal: Journal, pack: Path) -> None:
    """It is read once, from its beginning to its end."""
    command = [
        sys.executable,
        "-P",
        "-m",
        "headrace",
        "evidence",
        "verify",
        "-",
        "--key",
        journal.public.hex(),
    ]
    done = subprocess.run(command, input=pack.read_bytes(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"verified: ") == 5


def test_the_verifier_that_is_printed_is_the_one_that_is_tested(headrace: Verify, pack: Path) -> None:
    """Byte by byte; and wrong is exit status 1, with the reason."""
    said = headrace("evidence", "verifier")
    assert said.out == Path(standalone.__file__).read_text()
    done = _alone(pack, another_key().public.hex())
    assert done.returncode == 1
    assert "not signed by the key" in done.stderr
    assert done.stdout == ""
