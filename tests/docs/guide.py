"""Runs the `console` blocks of a page as a reader would: one shell, one control plane, line by line."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"\(exit code ([0-9]+)\)")
_MARK = "==8<=="


@dataclass(frozen=True, slots=True)
class Step:
    """A command and what a page promises that it prints; ``line`` is where it stands in the page."""

    line: int
    command: str
    expected: tuple[str, ...]
    code: int


def steps(page: str) -> list[Step]:
    """The commands of a page. ``$ `` begins one, ``> `` goes on; the rest is what it prints, ``...`` for anything.

    A command that fails says so in its last line: ``(exit code 7)``.
    """
    found: list[Step] = []
    for block in _BLOCK.finditer(page):
        first = page.count("\n", 0, block.start(1)) + 1
        for number, line in enumerate(block[1].splitlines(), first):
            if line.startswith("$ "):
                found.append(Step(number, line[2:], (), 0))
                continue
            step = found.pop()
            code = _CODE.fullmatch(line)
            if line.startswith("> ") or line == ">":
                found.append(Step(step.line, f"{step.command}\n{line[2:]}", (), 0))
            elif code is not None:
                found.append(Step(step.line, step.command, step.expected, int(code[1])))
            else:
                found.append(Step(step.line, step.command, (*step.expected, line), 0))
    return found


def play(page: Path, folder: Path, environment: dict[str, str]) -> list[str]:
    """Run a page in ``folder``; what came otherwise than the page promises, in words."""
    planned = steps(page.read_text())
    script = "".join(f"{step.command}\nprintf '\\n{_MARK} %d\\n' $?\n" for step in planned)
    done = subprocess.run(
        ["bash"],
        input=script,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    parts = re.split(rf"\n{_MARK} ([0-9]+)\n", done.stdout)
    wrong = []
    for step, out, code in zip(planned, parts[0::2], parts[1::2], strict=False):
        where = f"{page.name}:{step.line}: $ {step.command}"
        if int(code) != step.code:
            wrong.append(f"{where}\nexit code {code}, not {step.code}:\n{out}")
        elif not matches("\n".join(step.expected), out):
            wrong.append(f"{where}\nshould print:\n{chr(10).join(step.expected)}\nbut prints:\n{out}")
    if len(parts) // 2 != len(planned):
        wrong.append(f"{page.name}: only {len(parts) // 2} of {len(planned)} commands ran:\n{parts[-1]}")
    return wrong


def matches(expected: str, out: str) -> bool:
    """Whether an output is as promised: blanks count as one, ``...`` stands for anything, lines too."""
    wanted = ".*".join(re.escape(_flat(part)) for part in re.split(r"\.\.\.", _flat(expected)))
    return (
        re.fullmatch(wanted.replace(r"\ .*", ".*").replace(r".*\ ", ".*"), _flat(out), re.DOTALL) is not None
    )


def _flat(text: str) -> str:
    lines = (re.sub(r"[ \t]+", " ", line).strip() for line in text.strip().splitlines())
    return "\n".join(lines)


def shims(folder: Path) -> Path:
    """A folder with `headrace` and `python` for PATH, as a reader has them."""
    folder.mkdir()
    for name, words in (("headrace", "-P -m headrace"), ("python", "")):
        file = folder / name
        file.write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
        file.chmod(0o755)
    return folder
