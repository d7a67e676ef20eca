"""The command's root: the table of commands, how errors are shown, and the exit codes."""

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

import headrace
from headrace.api.listing import LISTED_BY, where_listed
from headrace.core.errors import HeadraceError, Problem, ProblemCode

COMMANDS: dict[str, str] = {
    "up": "up",
    "demo": "demo",
    "status": "operator",
    "whoami": "access",
    "apply": "documents",
    "documents": "documents",
    "remove": "documents",
    "estate": "estate",
    "plan": "planning",
    "submit": "submit",
    "ps": "workloads",
    "explain": "workloads",
    "logs": "workloads",
    "wait": "workloads",
    "stop": "workloads",
    "pause": "workloads",
    "resume": "workloads",
    "endpoint": "workloads",
    "cluster": "cluster",
    "nodes": "operator",
    "sites": "operator",
    "engines": "engines",
    "doctor": "engines",
    "sovereignty": "sovereignty",
    "policy": "policy",
    "data": "data",
    "power": "power",
    "grid": "grid",
    "evidence": "evidence",
    "drain": "operator",
    "undrain": "operator",
    "top": "top",
    "token": "access",
    "tenant": "access",
    "meter": "money",
    "invoice": "money",
    "journal": "journal",
    "check": "check",
    "plant": "plant",
    "devices": "plant",
    "sim": "simulate",
    "replay": "replays",
}
"""Every command, in the order of the help, and the module of this package that has it.

A module is imported when its command is asked for: `headrace ps` should not wait for the server's imports.
"""

EXIT_CODES: dict[ProblemCode, int] = {
    ProblemCode.BROKEN: 1,
    ProblemCode.BAD_INPUT: 2,
    ProblemCode.TOO_LARGE: 2,
    ProblemCode.UNAUTHENTICATED: 3,
    ProblemCode.FORBIDDEN: 3,
    ProblemCode.NOT_FOUND: 4,
    ProblemCode.JOURNAL_UNAVAILABLE: 5,
    ProblemCode.ENGINE_UNAVAILABLE: 5,
    ProblemCode.CONFLICT: 6,
    ProblemCode.IN_USE: 6,
    ProblemCode.IDEMPOTENCY_MISMATCH: 6,
    ProblemCode.STALE: 6,
    ProblemCode.UNPLACEABLE: 7,
    ProblemCode.JURISDICTION: 7,
}
"""The process's exit code by kind of problem. 1 is also what a workload that failed gives, 2 a wrong command line."""
TIMED_OUT = 8
"""The exit code of a wait that was not rewarded."""
UNKNOWN = re.compile(r"no ([a-z-]+) ['\"]")
"""How a problem says that nothing has a name."""
PARAMETER = re.compile(r"query\.([a-z_]+)")
"""Where a problem is that lies in the address of a request: commands have options of the same names."""
FIELD = re.compile(r"/([a-z_]+)")
"""Where a problem is that lies in a field of a body that the command made itself."""


class Commands(TyperGroup):
    """The root group: commands by the table, each from its module."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        # For the suggestions that a mistyped command gets; the values come from get_command.
        self.commands = dict.fromkeys(COMMANDS)  # type: ignore[assignment]

    def list_commands(self, _ctx: Any) -> list[str]:
        """The names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, _ctx: Any, cmd_name: str) -> Any:
        """A command by its name, None when there is none."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"headrace.cli.{COMMANDS[cmd_name]}")
        return typer.main.get_group(module.app).commands[cmd_name]


app = typer.Typer(
    name="headrace",
    cls=Commands,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context, version: bool = typer.Option(False, "--version", help="Print the version.")
) -> None:
    """The operating system of a sovereign AI cloud: from the grid connection to the invoice."""
    if version:
        typer.echo(f"headrace {headrace.__version__}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
        raise typer.Exit


def run(arguments: Sequence[str]) -> int:
    """Run a command line; its exit code. A problem is one line on standard error, with the next step."""
    try:
        code = app(list(arguments), prog_name="headrace", standalone_mode=False)
    except HeadraceError as error:
        for problem in error.problems:
            sys.stderr.write(f"headrace: {_for_people(problem).line()}\n")
        return EXIT_CODES[error.problem.code]
    except TimeoutError as error:
        sys.stderr.write(f"headrace: {error}; 'headrace explain' says why.\n")
        return TIMED_OUT
    except TyperException as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "headrace"
        message = error.format_message()
        stop = "" if message.endswith((".", "?", "!")) else "."
        sys.stderr.write(f"headrace: {message}{stop} Try '{path} --help'.\n")
        return error.exit_code
    return code if isinstance(code, int) else 0


def _for_people(problem: Problem) -> Problem:
    """A problem of the API in the command line's words: an option, and the command that lists the names there are."""
    if option := PARAMETER.fullmatch(problem.where):
        problem = replace(problem, where=f"--{option[1]}".replace("_", "-"))
    elif one_field := FIELD.fullmatch(problem.where):
        problem = replace(problem, where=one_field[1])
    found = UNKNOWN.match(problem.message)
    step = problem.next_step
    if found is None or found[1] not in LISTED_BY or LISTED_BY[found[1]] in step:
        return problem
    # The world's own words for it name no command, as it knows of none.
    kept = "" if step.startswith("List the ") else step
    return replace(problem, next_step=f"{kept} {where_listed(found[1])}".strip())


def main() -> None:
    """The ``headrace`` command."""
    sys.exit(run(sys.argv[1:]))
