"""The chapters about running things. Each tells what it does, does it through the API, and looks whether it happened."""

import queue
import re
import threading
from collections.abc import Iterator
from itertools import chain

from openai import OpenAIError

from headrace.cli.common import table
from headrace.core.units import PERMILLE, format_money, format_watts
from headrace.core.workload import TERMINAL, State
from headrace.demo.ask import ask
from headrace.demo.story import Failed, Outcome, Story, until
from headrace.sdk import Client

FJORD, ALBION = "fjord-ai", "albion-health"
RATE = re.compile(r"([0-9.]+) MH/s")
GANG_S = 120.0
_DONE = ""


def the_estate(story: Story) -> None:
    """Apply the estate and the tenants; give each tenant a token."""
    say, options = story.say, story.options
    say.chapter("An estate: two sites, their power, two tenants")
    say.text("""This machine plays two sites in two countries, each with a limit on what it may draw from the grid.
        Accelerators of model `lab` are virtual slots with nominal watts: shares of this machine's processors, no GPUs.""")
    say.command(f"apply -f {options.estate.name} -f {options.tenants.name}")
    text = "\n---\n".join(file.read_text() for file in (options.estate, options.tenants))
    applied = story.operator.apply(text)
    if not all(change.what == "created" for change in applied.changes):
        raise Failed(
            f"applied to a new journal, but {[c.name for c in applied.changes if c.what != 'created']} were there"
        )
    for tenant in (FJORD, ALBION):
        made = story.operator.issue_token("tenant-admin", tenant)
        story.tenants[tenant] = story.plant.client(made.value)
    limits = {one.site: one.limit_w for one in story.operator.power(racks=False) if not one.parent}
    rows = [
        (
            site.id,
            site.country,
            site.energy_source,
            format_watts(limits[site.id]),
            site.pue_permille / PERMILLE,
            f"{site.carbon_g_per_kwh} g/kWh",
            f"{format_money(site.energy_price_micros_per_kwh, site.currency)}/kWh",
        )
        for site in story.operator.sites()
    ]
    columns = ("SITE", "COUNTRY", "ENERGY", "IT LIMIT", "PUE", "CARBON (declared)", "PRICE (declared)")
    say.table(table(columns, rows, columns[3:]))
    say.good(
        f"{len(applied.changes)} documents are in the journal; its signed head covers {_size(story)} events"
    )


def _size(story: Story) -> int:
    head = story.operator.head
    return head.size if head is not None else 0


def the_model(story: Story) -> None:
    """Serve the language model, ask it through its replica's address with the OpenAI client."""
    say = story.say
    say.chapter("A service: a real language model behind the OpenAI protocol")
    say.text("""Tenant fjord-ai submits a model endpoint that may only run in Norway. Its replica gets a port and an
        API key of its own. The question goes there with the official `openai` client.""")
    say.command("submit -f examples/workloads/assistant.yaml")
    outcome = story.submit("assistant", FJORD)
    if not story.expect(outcome, "running"):
        _instead(story, outcome)
        return
    say.line(outcome.line)
    found = story.tenants[FJORD].endpoint(outcome.ident)
    try:
        answer = ask(f"http://{found.endpoints['http']}/v1", found.api_key, story.options.prompt)
    except OpenAIError as error:
        raise Failed(f"the replica gave no answer: {error}") from error
    if not answer.text or not answer.completion_tokens:
        raise Failed("the model gave no answer")
    story.tokens_seen = answer.prompt_tokens + answer.completion_tokens
    say.line(f"you: {story.options.prompt}", "bold")
    say.line(f"{answer.model}: {answer.text}", "italic")
    rate = answer.completion_tokens / answer.seconds
    say.good(
        f"{answer.prompt_tokens} tokens in, {answer.completion_tokens} out in {answer.seconds:.1f} s: {rate:.0f} tokens/s"
    )


def the_miner(story: Story) -> None:
    """Run the filler until it reports a hash rate."""
    say = story.say
    say.chapter("A filler: mining with what nobody else wants")
    say.text("""Tenant albion-health mines at the British site: a real double SHA-256 loop, on one processor thread.
        Fillers have the lowest priority and give way to everything else.""")
    say.command("submit -f examples/workloads/mine.yaml")
    outcome = story.submit("mine", ALBION)
    if not story.expect(outcome, "running"):
        _instead(story, outcome)
        return
    lines = log_lines(story.tenants[ALBION], outcome.ident, 0)
    said = next((line for line in lines if RATE.search(line)), "")
    if not said:
        raise Failed("the miner ended before it reported a hash rate")
    say.command("logs mine")
    say.line(said)
    say.good(f"it hashes at {RATE.findall(said)[0]} million double SHA-256 a second")


def the_gang(story: Story) -> None:
    """Start the gang of two."""
    say = story.say
    say.chapter("A job: a gang of two, all or nothing")
    say.text("""A batch job of two processes on two nodes: the same model reads a text that ships with Python and scores
        how much it is surprised by it, half on each node. Both start or none does.""")
    say.command("submit -f examples/workloads/score.yaml")
    outcome = story.submit("score", FJORD)
    if not story.expect(outcome, "running"):
        _instead(story, outcome)
        return
    detail = story.detail("score")
    for rank in detail.ranks:
        say.line(f"rank {rank.rank} on {rank.node}, {rank.accelerators} accelerator")
    say.good("both ranks run; their log follows below")


def the_refusal(story: Story) -> None:
    """A workload whose law no site satisfies."""
    say = story.say
    say.chapter("The law: refused, whatever is free")
    say.text(
        "A workload that may run in Sweden alone. The estate says where its sites are; the policy decides."
    )
    say.command("submit -f examples/workloads/train-se.yaml && headrace explain train-se")
    outcome = story.submit("train-se", FJORD)
    say.line(outcome.line, "yellow")
    if story.expect(outcome, "refused", "JURISDICTION"):
        say.good("the verdict and the digest of the policy that decided it are in the journal")
    _obeys(story, outcome)


def the_wait(story: Story) -> None:
    """A workload that the grid connection can't carry now."""
    say = story.say
    say.chapter("Power: room enough, but not enough watts")
    say.text("""Two whole nodes. That they are free is not enough: the connection must carry them beside what already
        runs. What is running and starting counts at its nameplate, so that the limit can't be passed at any instant.""")
    say.command("submit -f examples/workloads/big.yaml && headrace explain big")
    outcome = story.submit("big", FJORD)
    say.line(outcome.line, "yellow")
    as_told = story.expect(outcome, "waiting", "POWER")
    say.command("power")
    elements = [one for one in story.operator.power(racks=False) if not one.parent]
    rows = [
        (
            one.site,
            format_watts(one.admitted_w),
            format_watts(one.limit_w),
            f"{one.admitted_w * 100 // one.limit_w} %",
        )
        for one in elements
    ]
    columns = ("SITE", "ADMITTED (IT, nameplate)", "LIMIT", "USED")
    say.table(table(columns, rows, columns[1:]))
    over = [one.id for one in story.operator.power() if one.admitted_w > one.limit_w]
    if over:
        raise Failed(f"more is admitted than may be drawn at {', '.join(over)}")
    if as_told:
        say.good("nothing is over its limit, and the one that waits knows how many watts it waits for")
    _obeys(story, outcome)


def the_nodes(story: Story) -> None:
    """Show the nodes and what is modelled about them."""
    say = story.say
    say.command("nodes")
    nodes = list(story.operator.nodes())
    rows = [
        (
            one.id,
            f"{one.used}/{one.accelerators}",
            one.state,
            format_watts(one.watts),
            one.watts_source,
            one.isolation,
        )
        for one in nodes
    ]
    columns = ("NODE", "IN USE", "STATE", "WATTS", "SOURCE", "ISOLATION")
    say.table(table(columns, rows, ("WATTS",)))
    say.text("""Watts are modelled: the catalogue's figure for what is in use, no meter. Isolation is what keeps tenants
        apart on a node: `uid` a Unix user for each, `none` nothing.""")


def the_end_of_the_gang(story: Story) -> None:
    """Stream the gang's logs with the miner paused; then what waited for power starts."""
    say = story.say
    say.chapter("Logs that stream, and power that comes free")
    miner = story.outcomes["mine"]
    if miner.runs:
        say.command("pause mine")
        story.tenants[ALBION].pause(miner.ident)
        until("the miner's pause", lambda: story.detail("mine").workload.state == State.PAUSED, 10)
        gains = "; the gang gets its processor time" if story.outcomes["score"].runs else ""
        say.good(f"the miner stands still (SIGSTOP) and keeps what it has{gains}")
    if story.outcomes["score"].runs:
        say.command("logs -f score & headrace logs -f --rank 1 score")
        for line in _both_ranks(story):
            say.line(line)
        ended = story.tenants[FJORD].wait(story.outcomes["score"].ident, TERMINAL, 30)
        if ended.state != State.SUCCEEDED:
            raise Failed(
                f"the gang should have succeeded; the API says: {ended.state} {ended.reason} {ended.exit_codes}"
            )
        say.good(f"the gang ended with exit codes {', '.join(map(str, ended.exit_codes))}")
    if story.outcomes["big"].what == "waiting" and story.outcomes["score"].runs:
        _power_comes_free(story)
    if miner.runs:
        say.command("resume mine")
        story.tenants[ALBION].resume(miner.ident)
        until("the miner's return", lambda: story.detail("mine").workload.state == State.RUNNING, 10)
        say.good("the miner goes on where it was")


def _power_comes_free(story: Story) -> None:
    say, client, ident = story.say, story.tenants[FJORD], story.outcomes["big"].ident

    def runs() -> bool:
        return client.workload(ident).workload.state == State.RUNNING

    if story.options.strict:
        until("the start of what waited for power", runs, 20)
    say.command("explain big")
    say.line(client.explain(ident).line, "yellow")
    if runs():
        say.good("with the gang's watts free, what waited has started by itself")


def _both_ranks(story: Story) -> Iterator[str]:
    """Lines of both ranks as they come: each rank is followed by a thread with a client of its own."""
    lines: queue.Queue[str] = queue.Queue()
    ident, ranks = story.outcomes["score"].ident, story.detail("score").workload.nodes
    token = story.operator.issue_token("tenant-member", FJORD).value

    def follow(rank: int) -> None:
        try:
            with story.plant.client(token) as client:
                for line in log_lines(client, ident, rank):
                    lines.put(line)
        finally:
            lines.put(_DONE)

    for rank in range(ranks):
        threading.Thread(target=follow, args=(rank,), daemon=True).start()
    while ranks:
        try:
            line = lines.get(timeout=GANG_S)
        except queue.Empty:
            raise Failed(f"the gang said nothing for {GANG_S:.0f} s") from None
        if line == _DONE:
            ranks -= 1
        else:
            yield line


def log_lines(client: Client, ident: str, rank: int) -> Iterator[str]:
    """The lines of a rank's log as they come, empty ones left out."""
    rest = b""
    for piece in chain(client.logs(ident, rank, follow=True), [b"\n"]):
        *whole, rest = (rest + piece).split(b"\n")
        yield from (line.decode(errors="replace") for line in whole if line.strip())


def _instead(story: Story, outcome: Outcome) -> None:
    story.say.line(outcome.line, "yellow")
    story.say.text(
        f"With this estate {outcome.name} does not run; the line above says why, and what would change it."
    )
    _obeys(story, outcome)


def _obeys(story: Story, outcome: Outcome) -> None:
    """Whatever the estate is: what runs, runs in a country that its policy allows."""
    if not outcome.ident or not outcome.runs:
        return
    detail = story.detail(outcome.name)
    allowed = detail.spec.get("policy", {}).get("countries", [])
    countries = {site.id: site.country for site in story.operator.sites()}
    where = countries[detail.workload.site or ""]
    if allowed and where not in allowed:
        raise Failed(f"{outcome.name} runs in {where}, but its policy allows {', '.join(allowed)}")
    story.say.good(f"it runs at {detail.workload.site}, in {where}, as its policy allows")
