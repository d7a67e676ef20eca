"""The demo from its first line to its last: chapters in order, and an end to everything that it started."""

import time
from pathlib import Path

import headrace
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.demo import bill, chapters
from headrace.demo.grid import the_grid
from headrace.demo.narrate import Narrator
from headrace.demo.plant import Plant, stoppable, undisturbed
from headrace.demo.story import Failed, Options, Story

PROMPT = "Why does moving water make electricity? Answer in one sentence."
PARAGRAPHS = 24


def examples() -> Path:
    """The folder of examples; raises HeadraceError outside a checkout."""
    folder = Path(headrace.__file__).resolve().parents[2] / "examples"
    if not (folder / "estates" / "lab.yaml").exists():
        step = "Run ./headrace demo in a checkout, which has them."
        raise HeadraceError(Problem(ProblemCode.NOT_FOUND, f"no examples in {folder}.", step))
    return folder


def options(estate: Path | None, prompt: str, paragraphs: int) -> Options:
    """The demo's options; with another estate than the shipped one no outcome is taken for granted."""
    folder = examples()
    return Options(
        estate=estate or folder / "estates" / "lab.yaml",
        tenants=folder / "tenants.yaml",
        workloads=folder / "workloads",
        prompt=prompt,
        paragraphs=paragraphs,
        strict=estate is None,
    )


def run(told: Options, *, state: Path | None, keep: bool, picture: Path | None) -> int:
    """Play the demo; 0 when every chapter happened as it should, 1 when one did not."""
    say, plant = Narrator(), Plant(state)
    began = time.monotonic()
    kept = False
    try:
        with stoppable():
            story = _begin(told, say, plant)
            _play(story, keep=keep)
            kept = keep
    except Failed as failed:
        say.line(f"✗ {failed}", "bold red")
        return 1
    finally:
        if not kept:
            with undisturbed():
                _end(plant)
    say.pictured = False
    if picture is not None:
        say.save(picture)
        say.line(f"picture: {picture}")
    _farewell(say, plant, time.monotonic() - began, keep=keep)
    return 0


def _begin(told: Options, say: Narrator, plant: Plant) -> Story:
    say.text("""Headrace turns megawatts at sites in several countries into AI that can be bought. This is its main job,
        on real parts, from the grid connection to the invoice. All numbers below come from the API.""")
    say.line(f"state: {plant.state}")
    plant.start()
    say.line(f"control plane: {plant.url}")
    if plant.why_shared:
        say.text(f"Tenants share one Unix user here, as `nodes` and invoices say: {plant.why_shared}")
    return Story(say, plant, told, plant.client())


def _play(story: Story, *, keep: bool) -> None:
    say = story.say
    chapters.the_estate(story)
    say.pictured = True
    chapters.the_model(story)
    say.pictured = False
    chapters.the_miner(story)
    chapters.the_gang(story)
    say.pictured = True
    chapters.the_refusal(story)
    chapters.the_wait(story)
    say.pictured = False
    chapters.the_nodes(story)
    the_grid(story)
    chapters.the_end_of_the_gang(story)
    say.pictured = True
    issued = bill.the_bill(story)
    bill.the_way_back(story, issued)
    say.pictured = False
    if not keep:
        say.pictured = True
        bill.the_journal(story)


def _end(plant: Plant) -> None:
    """Leave nothing running, whatever happened before."""
    try:
        if plant.running:
            plant.stop_work()
    finally:
        plant.end()


def _farewell(say: Narrator, plant: Plant, seconds: float, *, keep: bool) -> None:
    if keep:
        say.line(f"\nThe control plane goes on at {plant.url}. Look around with:")
        say.line(f"   export HEADRACE_STATE={plant.state}")
        say.line("   headrace top")
        say.line(f"End it with: kill {plant.pid}")
        return
    say.line(
        f"\nEvery chapter happened, in {seconds:.0f} s; nothing is left running. The state is kept in {plant.state}:"
    )
    say.line(
        f"   headrace up --state {plant.state}      and in another terminal, with HEADRACE_STATE set to it:"
    )
    say.line("   headrace ps --all")
