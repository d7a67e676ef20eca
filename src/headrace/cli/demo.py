"""``headrace demo``: the main job on real parts."""

from pathlib import Path

import typer

from headrace.demo import mixed
from headrace.demo.run import PARAGRAPHS, PROMPT, options, run

app = typer.Typer(rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Show Headrace."""


@app.command()
def demo(
    estate: Path | None = typer.Option(
        None, help="Another estate than examples/estates/lab.yaml: change watts or countries."
    ),
    prompt: str = typer.Option(PROMPT, help="What the model is asked."),
    paragraphs: int = typer.Option(PARAGRAPHS, min=1, max=200, help="How much text the gang scores."),
    state: Path | None = typer.Option(None, help="Keep the state here [default: a new temporary directory]."),
    keep: bool = typer.Option(False, "--keep", help="Leave the control plane running at the end."),
    engines: bool = typer.Option(
        False, "--engines", help="Show one queue over three engines instead: local, a real Slurm, a real Ray."
    ),
    jobs: int = typer.Option(500, min=10, max=5_000, help="With --engines: how many jobs."),
    picture: Path | None = typer.Option(None, help="Write a picture of the result (SVG)."),
) -> None:
    """Show the main job on real parts, in about a minute. A model, a gang, a miner, the law, power, and the bill."""
    if engines:
        raise typer.Exit(mixed.run(jobs, state=state))
    raise typer.Exit(run(options(estate, prompt, paragraphs), state=state, keep=keep, picture=picture))
