"""The chapter about the grid: it asks for watts back, the ladder gives them, and all goes on when it lets it."""

from openai import OpenAIError

from headrace.cli.common import table
from headrace.core.units import format_watts
from headrace.core.workload import State
from headrace.demo.ask import ask
from headrace.demo.chapters import FJORD
from headrace.demo.story import Failed, Story, until

MET_S = 30.0
"""So long after an instruction a site is at or under it."""
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
