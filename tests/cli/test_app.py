"""The command as a whole: every command is helpful, light, and goes through the API's authority."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

import headrace.cli
from headrace.cli.app import COMMANDS, EXIT_CODES, app
from headrace.core.errors import ProblemCode
from tests.cli.conftest import Headrace
from tests.cli.plane import LAB, ROOT

OFFLINE = frozenset(
    {"up", "demo", "check", "sim", "doctor", "journal verify"}
    | {f"replay {trace}" for trace in ("openb", "muri", "philly", "swf", "power", "event", "carbon", "year")}
    | {"plant", "devices", "grid vtn", "grid listen", "grid announce", "grid recall"}
    | {"data digest"}
    | {"evidence verify", "evidence verifier"}
    | {f"sovereignty {what}" for what in ("control", "exposure", "score")}
    | {f"policy {what}" for what in ("show", "facts", "check", "compare", "test")}
)
"""Commands that ask no control plane: they are one, start one, read what one left, or have a world of their own."""
MINE = str(ROOT / "examples" / "workloads" / "mine.yaml")
ARGUMENTS: dict[str, list[str]] = {
    "status": [],
    "whoami": [],
    "apply": ["-f", str(LAB), "-y"],
    "documents": [],
    "remove": ["tenant", "fjord-ai", "-y"],
    "estate show": [],
    "plan": [],
    "submit": ["-f", MINE],
    "ps": [],
    "explain": ["mine"],
    "logs": ["mine"],
    "wait": ["mine"],
    "stop": ["mine"],
    "pause": ["mine"],
    "resume": ["mine"],
    "endpoint": ["mine"],
    "cluster create": ["lease", "--gpus", "1", "--gpu", "lab:1", "--project", "research"],
    "cluster ls": [],
    "cluster delete": ["lease"],
    "nodes": [],
    "sites": [],
    "engines": [],
    "sovereignty what-if": [str(ROOT / "examples" / "law" / "known-staff.yaml")],
    "policy diff": [str(ROOT / "examples" / "law" / "known-staff.yaml")],
    "data list": [],
    "data show": ["fjord-ai.corpus"],
    "data where": ["fjord-ai.corpus"],
    "data copy": ["fjord-ai.corpus", "--to", "loughton"],
    "data remove": ["fjord-ai.corpus", "--at", "loughton", "-y"],
    "data read": ["fjord-ai.corpus", "a.bin"],
    "power": [],
    "power impact": ["glomfjord"],
    "grid ls": [],
    "grid instruct": ["--site", "loughton", "--limit", "1MW"],
    "grid withdraw": ["evening"],
    "evidence grid": ["evening"],
    "evidence export": ["--tenant", "fjord-ai"],
    "evidence checkpoint": ["--tenant", "fjord-ai"],
    "drain": ["--site", "loughton"],
    "undrain": ["--site", "loughton"],
    "top": ["--once"],
    "token issue": ["operator-admin"],
    "token ls": [],
    "token revoke": ["t-1"],
    "tenant erase": ["fjord-ai", "-y"],
    "meter": [],
    "invoice show": ["fjord-ai"],
    "invoice issue": ["fjord-ai"],
    "invoice ls": [],
    "invoice credit": ["2026-11-fjord-ai-NOK-0", "1", "--reason", "none"],
    "journal head": [],
    "journal events": [],
    "journal proof": ["1"],
}
"""Every other command, with arguments that would do something if they were let."""


def commands() -> dict[str, Any]:
    """Every command of the tree by its words."""
    found: dict[str, Any] = {}

    def walk(group: Any, words: str) -> None:
        for name in group.list_commands(None):
            command = group.get_command(None, name)
            if hasattr(command, "list_commands"):
                walk(command, f"{words}{name} ")
            # `power` is both: a command of its own, and one that has others below it.
            if not hasattr(command, "list_commands") or command.invoke_without_command:
                found[f"{words}{name}"] = command

    walk(typer.main.get_command(app), "")
    return found


def test_every_command_and_every_option_has_help() -> None:
    """Whoever asks `--help` is told in words, for each command and each thing that it takes."""
    silent = []
    for words, command in commands().items():
        if not (command.help or "").strip():
            silent.append(words)
        silent.extend(f"{words} {one.name}" for one in command.params if not getattr(one, "help", None))
    assert silent == []


def test_the_table_of_commands_names_real_modules() -> None:
    """A command that the table names exists, so that the help never fails."""
    assert {words.split()[0] for words in commands()} == set(COMMANDS)


def test_every_command_is_listed_as_online_or_offline() -> None:
    """A new command must say which it is, or the next test would not know of it."""
    assert set(commands()) == OFFLINE | set(ARGUMENTS)


@pytest.mark.parametrize("words", sorted(ARGUMENTS))
def test_no_command_does_anything_with_a_wrong_token(
    headrace: Headrace, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    """Every command that talks to the control plane is let in by the API's authority, or not at all."""
    before = headrace("journal", "head").out
    with monkeypatch.context() as env:
        env.setenv("HEADRACE_TOKEN", "hr_wrong")
        said = headrace(*words.split(), *ARGUMENTS[words])
    assert said.code == EXIT_CODES[ProblemCode.UNAUTHENTICATED], said
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "token" in said.err
    assert headrace("journal", "head").out == before


def test_only_the_offline_modules_import_the_control_plane() -> None:
    """A command that had the world in its own process could go round the authority."""
    own = {COMMANDS[words.split()[0]] for words in OFFLINE}
    folder = Path(str(headrace.cli.__file__)).parent
    inside = (
        "headrace.server",
        "headrace.control",
        "headrace.service",
        "headrace.reconcile",
        "headrace.journal",
    )
    guilty = []
    for file in sorted(folder.glob("*.py")):
        if file.stem in own:
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [one.name for one in node.names] if isinstance(node, ast.Import) else []
            guilty += [f"{file.stem}: {name}" for name in names if name.startswith(inside)]
    assert guilty == []


@pytest.mark.parametrize("module", ["workloads", "operator", "access", "top"])
def test_everyday_commands_import_nothing_heavy(module: str) -> None:
    """`headrace ps` starts fast because it waits for no server, no model client and no YAML checks."""
    heavy = ("numpy", "pydantic", "fastapi", "uvicorn", "openai", "cryptography", "headrace.server")
    code = f"import sys, headrace.cli.{module}\nprint([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_kind_of_problem_has_an_exit_code() -> None:
    """Scripts can tell what went wrong; no kind of problem is left to a traceback."""
    assert set(EXIT_CODES) == set(ProblemCode)
    assert all(EXIT_CODES.values())


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["pss"], "'ps'"),
        (["ps", "--nonsense"], "--nonsense"),
        (["explain"], "Missing argument"),
        (["token"], "Missing command"),
        (["drain", "nowhere"], "nowhere"),
        (["estate", "show", "/no/such/file"], "/no/such/file"),
        (["submit", "--name", "x"], "--project"),
        (["invoice", "show", "fjord-ai", "--format", "xml"], "table, json, csv"),
        (["invoice", "credit", "x", "1.0000001", "--reason", "r"], "six decimals"),
        (["wait", "x", "--for", "happy"], "running"),
    ],
)
def test_a_mistake_is_one_line_with_the_next_step(
    headrace: Headrace, arguments: list[str], word: str
) -> None:
    """A wrong command line ends with one line on standard error, and a code that is not 0."""
    said = headrace(*arguments)
    assert said.code != 0
    assert said.out == ""
    assert word in said.err
    assert said.err.startswith("headrace: ")
    assert said.err.count("\n") == 1


def test_a_control_plane_that_does_not_answer_is_named(
    headrace: Headrace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for long, and the address that was tried is in the message."""
    monkeypatch.setenv("HEADRACE_URL", "http://127.0.0.1:9")
    said = headrace("ps")
    assert said.code == EXIT_CODES[ProblemCode.ENGINE_UNAVAILABLE]
    assert "127.0.0.1:9" in said.err


def test_without_an_address_the_next_step_is_said(
    headrace: Headrace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A first `headrace ps` says what to start."""
    monkeypatch.setenv("HEADRACE_STATE", str(tmp_path))
    said = headrace("ps")
    assert said.code == EXIT_CODES[ProblemCode.UNAUTHENTICATED]
    assert "headrace up" in said.err


def test_help_and_version_need_nothing(headrace: Headrace) -> None:
    """The bare command shows every command; `--version` prints one line."""
    assert all(f"  {name}" in headrace().out for name in COMMANDS)
    assert headrace("--version").out.startswith("headrace ")
