"""The command's root: its groups, how errors are shown, and how it finds the control plane."""

import sys

import typer

import headrace
from headrace.core.errors import HeadraceError, ProblemCode

from . import demo, estate, journal, money, operator, simulate, up, workloads

app = typer.Typer(
    name="headrace",
    help="The operating system of a sovereign AI cloud: from the grid connection to the invoice.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for module in (up, demo, workloads, operator, estate, money, journal, simulate):
    module.register(app)

EXIT_CODES = {
    ProblemCode.BAD_INPUT: 2,
    ProblemCode.UNAUTHENTICATED: 3,
    ProblemCode.FORBIDDEN: 3,
    ProblemCode.NOT_FOUND: 4,
    ProblemCode.JOURNAL_UNAVAILABLE: 5,
    ProblemCode.ENGINE_UNAVAILABLE: 5,
}
"""The process's exit code by kind of problem; 1 for any other."""


@app.callback(invoke_without_command=True)
def root(version: bool = typer.Option(False, "--version", help="Print the version and end.")) -> None:
    """The operating system of a sovereign AI cloud: from the grid connection to the invoice."""
    if version:
        typer.echo(f"headrace {headrace.__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command; a problem is one line on standard error that names the thing and the next step."""
    try:
        app()
    except HeadraceError as error:
        for problem in error.problems:
            sys.stderr.write(f"headrace: {problem.line()}\n")
        sys.exit(EXIT_CODES.get(error.problem.code, 1))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
