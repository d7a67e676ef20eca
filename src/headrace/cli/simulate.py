"""``headrace sim``: worlds from a seed."""

import typer

from headrace.sim.run import main as simulate

app = typer.Typer(rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Simulate."""


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
)
def sim(ctx: typer.Context) -> None:
    """Play simulated worlds with faults, and check every promise. `headrace sim --help` lists its options."""
    raise typer.Exit(simulate(ctx.args))
