"""The chapter about the grid: it asks for watts back, the ladder gives them, all goes on after it, and the evidence verifies."""

import os
import subprocess
import sys
from pathlib import Path

from openai import OpenAIError

from headrace.cli.common import table
from headrace.core.units import format_duration, format_watts
from headrace.core.workload import State
from headrace.demo.ask import ask
from headrace.demo.chapters import FJORD
from headrace.demo.story import Failed, Story, until
from headrace.evidence.verify import canonical

MET_S = 30.0
"""So long after an instruction a site is at or under it."""
BASELINE = "minute-before"
QUESTION = "Are you still there? Answer in one word."


def the_grid(story: Story) -> None:
    """Ask every site to come down to what can't be shed; look what stops and what does not; let it all go on."""
    say, operator = story.say, story.operator
    say.chapter("The grid asks for watts back")
    say.text("""The grid operator limits both sites to what is firm there. Miners stop first, then pausable work is paused
        where it stands; what is firm is never touched. A site is at or under its limit within 30 seconds.""")
    running = {name: one for name, one in story.outcomes.items() if one.runs}
    named = []
    for one in operator.grid().sites:
        limit = f"{one.floor_w}W"
        say.command(f"grid instruct --site {one.site} --limit {limit} --name evening-{one.site}")
        operator.instruct(one.site, limit, name=f"evening-{one.site}")
        named.append((one.site, one.draws_w))
    until(
        "the site's limit", lambda: all(one.draws_w <= one.allowed_w for one in operator.grid().sites), MET_S
    )
    after = {one.site: one for one in operator.grid().sites}
    rows = [
        (site, format_watts(before_w), format_watts(after[site].allowed_w), format_watts(after[site].draws_w))
        for site, before_w in named
    ]
    columns = ("SITE", "COULD DRAW", "ALLOWED", "CAN DRAW NOW")
    say.table(table(columns, rows, columns[1:]))
    for name in running:
        found = story.owner(name).explain(story.outcomes[name].ident)
        say.line(f"{name} {found.line}", "yellow")
    _answers(story)
    for site, _ in named:
        operator.withdraw(f"evening-{site}")
    say.command(" && headrace ".join(f"grid withdraw evening-{site}" for site, _ in named))
    for name in running:
        until(f"the return of {name}", lambda name=name: _is_back(story, name), MET_S)  # type: ignore[misc]
    say.good("the limit is gone, and all that ran runs again, paused work where it stood")
    for site, _ in named:
        _evidence(story, f"evening-{site}")


def _evidence(story: Story, name: str) -> None:
    """Export the settlement evidence of an instruction, and verify the file as anybody would who has it and the key."""
    say, file = story.say, story.plant.state / f"{name}.json"
    key = story.operator.status().public_key
    say.command(f"evidence grid {name} --interval 5m --baseline {BASELINE} --out {file.name}")
    found = story.operator.evidence(name, "5m", BASELINE)
    file.write_bytes(
        canonical({"document": found.document, "key": found.key, "signature": found.signature}) + b"\n"
    )
    say.command(f"evidence verify {file.name} --key {key[:16]}...")
    done = _verify(file, key)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("verified: ")]
    for line in lines:
        say.line(line)
    if done.returncode or not lines:
        say.line(done.stdout + done.stderr, "red")
        raise Failed(f"the evidence of {name} does not verify")
    totals = found.document["totals"]
    held, drawn_w = (
        format_duration(totals["held_ms"]),
        totals["held_energy_mj"] // max(1, totals["held_known_ms"]),
    )
    say.good(
        f"the evidence of {name} verifies offline: held for {held}, {format_watts(drawn_w)} drawn (modelled)"
    )


def _verify(file: Path, key: str) -> subprocess.CompletedProcess[str]:
    """By a process that knows of no control plane."""
    command = [sys.executable, "-P", "-m", "headrace", "evidence", "verify", str(file), "--key", key]
    alone = {one: value for one, value in os.environ.items() if not one.startswith("HEADRACE_")}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=alone)


def _is_back(story: Story, name: str) -> bool:
    state = story.detail(name).workload.state
    return state == State.RUNNING or state in (State.SUCCEEDED, State.FAILED)


def _answers(story: Story) -> None:
    """The firm endpoint answers while its site is limited."""
    outcome = story.outcomes["assistant"]
    if not outcome.runs:
        return
    found = story.tenants[FJORD].endpoint(outcome.ident)
    try:
        answer = ask(f"http://{found.endpoints['http']}/v1", found.api_key, QUESTION)
    except OpenAIError as error:
        raise Failed(f"the firm endpoint gave no answer: {error}") from error
    story.tokens_seen += answer.prompt_tokens + answer.completion_tokens
    story.say.good(f"the firm endpoint answers all the while: {answer.completion_tokens} tokens more")
