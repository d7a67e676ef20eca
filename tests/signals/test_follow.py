"""A control plane that follows a grid operator's server: what is heard holds, durably; silence and garbage loosen nothing.

The server is the lab's, over sockets. First with a control plane whose clock is moved by hand,
then with one in a process of its own.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from headrace.cli.app import run
from headrace.control import Caller, Control
from headrace.core import commands as c
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.ids import SiteId
from headrace.core.power.instruction import Instruction, InstructionId
from headrace.core.power.openadr import SOURCE
from headrace.journal.codec import Head
from headrace.lab.vtn import Client, Vtn
from headrace.sdk import Client as Sdk
from headrace.service import InlineService
from headrace.signals.declared import VtnModel, load_signals
from headrace.signals.follow import Followed, Follower, Following, ModelledMeter, compared, is_kept
from tests.api.small import JOB, Small, small
from tests.cli.plane import LAB, TENANTS, client_of
from tests.signals.test_openadr import served

CLIENTS = {"ven": Client("ven", "ven-secret", "ven"), "operator": Client("operator", "o", "operator")}
SITE = SiteId("glomfjord")
PATIENCE_S = 60.0
DECLARED = """
kind: vtn
name: {name}
url: {url}
client: ven
secret: {secret}
ven: headrace
poll: 1s
{more}
sites:
  glomfjord: {{connection: 3700W, simple: [80%, 60%, 1500W], emergency: 40%, unreadable: 1500W}}
{sites}
"""


def signals_file(folder: Path, port: int, *, name: str = "lab-grid", more: str = "", sites: str = "") -> Path:
    """A file that declares one VTN on this machine."""
    secret = folder / "secret"
    secret.write_text("ven-secret\n")
    secret.chmod(0o600)
    path = folder / f"{name}.yaml"
    url = f"http://127.0.0.1:{port}"
    path.write_text(DECLARED.format(name=name, url=url, secret=secret, more=more, sites=sites))
    path.chmod(0o644)
    return path


class Play:
    """A control plane with a clock moved by hand, a VTN with the same clock, and who follows it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.small: Small = small(folder)
        self.vtn = Vtn(CLIENTS, now_ms=self.small.clock.now_ms)
        self.program = self.vtn.put("programs", {"programName": "flex"})["id"]
        self.meter = ModelledMeter(self.small.control, [SITE])
        self.told: list[Followed] = []
        self.port = 1
        self.runner = asyncio.Runner()
        self.follower: Follower
        self._all: list[Follower] = []

    def close(self) -> None:
        """End all connections."""
        for one in self._all:
            self.runner.run(one.aclose())
        self.runner.close()

    def declared(self, **more: str) -> VtnModel:
        (found,) = load_signals(signals_file(self.folder, self.port, **more))
        return found

    def follow(self, **more: str) -> Follower:
        """Somebody who follows it and remembers nothing, as after a start."""
        service = self.small.app.state.service
        self.follower = Follower(self.declared(**more), service, self.meter, self.told.append)
        self._all.append(self.follower)
        service.signals = lambda: [self.follower.state()]
        return self.follower

    def restart(self, **more: str) -> Follower:
        """The control plane as its store has it, and nothing of what was remembered besides."""
        self.small.control.recover()
        return self.follow(**more)

    def say(
        self, value: Any = 2, kind: str = "IMPORT_CAPACITY_LIMIT", lasts: str = "PT1H", **more: Any
    ) -> str:
        start = (
            datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=self.small.clock.at_ms)
        ).isoformat()
        said = {
            "programID": self.program,
            "payloadDescriptors": [
                {"objectType": "EVENT_PAYLOAD_DESCRIPTOR", "payloadType": kind, "units": "KW"}
            ],
            "intervalPeriod": {"start": start, "duration": lasts},
            "intervals": [{"id": 0, "payloads": [{"type": kind, "values": [value]}]}],
        }
        return str(self.vtn.put("events", said | more)["id"])

    def turns(self, count: int = 1, followers: tuple[Follower, ...] = ()) -> None:
        """So many polls, each with the reports that follow from it."""

        async def listen() -> None:
            for one in followers or (self.follower,):
                for _ in range(count):
                    await one.turn()
                    await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})

        self.runner.run(listen())

    def limits(self) -> list[int]:
        """What holds by the journal now, in watts, the least first."""
        now_ms = self.small.control.now_ms()
        known = self.small.control.world.state.instructions.values()
        return sorted(one.instruction.limit_w for one in known if one.instruction.is_active(now_ms))

    def findings(self) -> set[str]:
        return {one.code for one in self.follower.state().findings}


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Play]:
    made = Play(tmp_path)
    with served(made.vtn) as port:
        made.port = port
        made.follow()
        yield made
        made.close()


def test_what_is_announced_holds_and_what_is_recalled_does_not(play: Play) -> None:
    """In the journal, binding, as the VTN's; a change is taken as one; a poll that brings nothing new writes nothing."""
    event = play.say(2)
    play.turns()
    assert play.limits() == [2_000]
    (standing,) = play.small.control.world.state.instructions.values()
    assert (standing.instruction.source, standing.instruction.site) == (SOURCE, SITE)
    size = play.small.control.durable
    play.turns(2)
    assert play.small.control.durable == size
    (kept,) = play.vtn.all("events")
    kept["intervals"][0]["payloads"][0]["values"] = [1.8]
    play.turns()
    assert play.limits() == [1_800]
    play.vtn.remove("events", event)
    play.turns()
    assert play.limits() == []


def test_it_is_acknowledged_once_it_is_durable_and_not_before(play: Play) -> None:
    """With a full disk nothing is acknowledged, and it is said why; with room again it is taken and acknowledged."""
    play.say(2)
    play.small.store.full = True
    play.turns()
    assert play.vtn.all("reports") == []
    assert "can't be kept: " in play.follower.state().trouble
    play.small.store.full = False
    play.small.control.recover()
    play.turns()
    (report,) = play.vtn.all("reports")
    assert report["reportName"].startswith("acknowledged")
    assert (play.limits(), play.follower.state().trouble) == ([2_000], "")
    play.small.control.recover()
    assert play.limits() == [2_000]


def test_what_nobody_knows_is_told_and_not_acknowledged(play: Play) -> None:
    """A slip in a type's name: what can't be read holds, `grid ls` says why, and the VTN hears nothing of being followed."""
    play.say(1.5, "IMPORT_CAPACTY_LIMIT")
    play.turns(2)
    assert len(play.limits()) == 1
    view = play.small.ask("GET", "/v1/grid?ladders=false").json
    (found,) = view["signals"][0]["findings"]
    assert found["code"] == "unknown_type"
    assert "did it mean IMPORT_CAPACITY_LIMIT?" in found["message"]
    assert play.vtn.all("reports") == []


def test_silence_withdraws_nothing_before_and_after_a_restart(play: Play) -> None:
    """What was heard holds until its end; the VTN's state says that it is silent, and since when."""
    play.say(2)
    play.turns()
    play.vtn.faults.status = 500
    play.small.clock.at_ms += 60_000
    play.turns()
    assert (play.limits(), play.follower.state().standing) == ([2_000], 1)
    assert play.follower.state().since_ms == play.small.clock.at_ms
    play.restart()
    play.turns(3)
    assert play.limits() == [2_000]
    assert play.follower.state().heard_ms == 0
    play.small.clock.at_ms += 3_600_000
    assert play.limits() == []


def test_after_a_restart_what_the_answer_lacks_twice_is_withdrawn(play: Play) -> None:
    """A page that shifted hides an event from one answer: of what this process never heard, one answer proves nothing."""
    event = play.say(2)
    other = play.say(1.5)
    play.turns()
    play.vtn.faults.hides = frozenset({event})
    play.restart()
    play.turns()
    assert play.limits() == [1_500, 2_000]
    play.vtn.faults.hides = frozenset()
    play.turns()
    assert play.limits() == [1_500, 2_000]
    play.restart()
    play.vtn.remove("events", other)
    play.turns()
    assert play.limits() == [1_500, 2_000]
    play.turns()
    assert play.limits() == [2_000]


def test_an_answer_that_hides_things_withdraws_nothing_that_it_may_hide(play: Play) -> None:
    """After a restart the program is not shown: all that was heard of it holds, and that is said; it is back, and so are we."""
    play.follow(more="programs: [flex]")
    event = play.say(2)
    play.turns()
    play.vtn.all("programs")[0]["programName"] = "other"
    play.restart(more="programs: [flex]")
    play.turns(3)
    assert play.limits() == [2_000]
    assert {"program", "kept"} <= play.findings()
    play.vtn.all("programs")[0]["programName"] = "flex"
    play.vtn.remove("events", event)
    play.turns(2)
    assert play.limits() == []


def test_garbage_is_named_and_what_it_may_mean_holds(play: Play) -> None:
    """A limit that is no number: the file's `unreadable`, and every finding is to be seen; the event beside it holds too."""
    bad = play.say("much")
    play.say(2)
    play.turns()
    assert play.limits() == [1_500, 2_000]
    (found,) = [one for one in play.follower.state().findings if one.event == bad]
    assert (found.code, found.effect) == ("unreadable", "1.5 kW holds at glomfjord")
    view = play.small.ask("GET", "/v1/grid?ladders=false").json
    assert view["sites"] == []
    (signals,) = view["signals"]
    assert (signals["vtn"], signals["state"], signals["instructions"]) == ("lab-grid", "heard", 2)
    assert bad in {one["event"] for one in signals["findings"]}
    assert play.small.ask("GET", "/v1/grid?site=loughton").json["signals"] == []


def test_a_site_that_the_estate_lacks_stops_nothing_and_is_not_acknowledged(play: Play) -> None:
    """What is meant for it is neither followed nor confirmed; a connection that differs from the estate's is told."""
    nowhere = "  nowhere: {connection: 1MW, simple: [80%, 60%, 1500W], emergency: 40%}\n"
    loughton = "  loughton: {connection: 1MW, simple: [80%, 60%, 1500W], emergency: 40%}"
    play.follow(sites=nowhere + loughton)
    play.say(2)
    play.turns()
    assert {one.instruction.site for one in play.small.control.world.state.instructions.values()} == {
        SITE,
        "loughton",
    }
    assert {"no_site", "connection"} <= play.findings()
    (report,) = play.vtn.all("reports")
    assert [one["resourceName"] for one in report["resources"]] == ["glomfjord", "loughton"]


class RefusesOne(Control):
    """A control that lets the first instruction not through."""

    refused = False

    def execute(self, caller: Caller, command: c.Command, key: str = "", asked: str = "") -> c.Reply:
        if isinstance(command, c.Instruct) and not self.refused:
            self.refused = True
            raise HeadraceError(Problem(ProblemCode.CONFLICT, "not now."))
        return super().execute(caller, command, key, asked)


def test_what_the_core_refuses_is_named_and_the_rest_holds(play: Play) -> None:
    """One instruction is refused, the other holds; nothing is acknowledged before both do, with the next poll."""
    play.small.control = RefusesOne(play.small.store, play.small.control.keys, play.small.clock)
    play.small.app.state.service = InlineService(play.small.control)
    play.follow()
    play.say(1.9)
    play.say(2)
    play.turns()
    assert play.limits() == [2_000]
    assert "refused" in play.findings()
    assert play.vtn.all("reports") == []
    play.turns()
    assert play.limits() == [1_900, 2_000]
    assert "refused" not in play.findings()
    assert len(play.vtn.all("reports")) == 2


def test_what_is_further_than_a_year_is_taken_when_it_is_nearer(play: Play) -> None:
    """It is told meanwhile, and stops nothing."""
    start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=play.small.clock.at_ms, days=400)
    play.say(2, intervalPeriod={"start": start.isoformat(), "duration": "PT1H"})
    play.turns()
    assert (play.follower.state().standing, "later" in play.findings()) == (0, True)
    play.small.clock.at_ms += 40 * 86_400_000
    play.turns()
    assert (play.follower.state().standing, "later" in play.findings()) == (1, False)


def test_one_vtn_withdraws_nothing_of_another_s(play: Play) -> None:
    """Nor what a person asked; what no file declares any more is named, and a person can end it by its name."""
    play.say(2)
    play.turns()
    other = Vtn(CLIENTS, now_ms=play.small.clock.now_ms)
    asked = {"site": SITE, "limit": "2.5kW", "id": "evening"}
    assert play.small.ask("POST", "/v1/grid/instructions", asked).status == 200
    with served(other) as port:
        play.port = port
        play.turns(3, (play.follow(name="other"),))
    assert play.limits() == [2_000, 2_500]
    following = Following([play.declared(name="other")], play.small.app.state.service)
    (orphan,) = following.orphans()
    play.small.clock.at_ms += 1_000
    path = f"/v1/grid/instructions/{orphan.id.replace('/', '%2F')}/withdraw"
    assert play.small.ask("POST", path).json["instruction"]["state"] == "over"
    assert play.limits() == [2_500]


def test_what_a_person_withdraws_holds_again_when_the_vtn_says_so(play: Play) -> None:
    """The grid operator's word binds for as long as it can be heard."""
    play.say(2)
    play.turns()
    (ident,) = play.small.control.world.state.instructions
    play.small.clock.at_ms += 1_000
    play.small.ask("POST", f"/v1/grid/instructions/{ident}/withdraw")
    assert play.limits() == []
    play.turns()
    assert play.limits() == [2_000]


def test_a_clock_that_trembles_postpones_nothing(play: Play) -> None:
    """What stands is not written anew when the VTN's clock is a second more or less off: it would be due later each time."""
    start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=play.small.clock.at_ms, minutes=-1)
    play.say(2, intervalPeriod={"start": start.isoformat(), "duration": "PT1H"})
    play.vtn.faults.skew_ms = 20_000
    play.turns()
    (standing,) = play.small.control.world.state.instructions.values()
    for skew_ms in (21_000, 19_000, 22_000):
        play.vtn.faults.skew_ms = skew_ms
        play.small.clock.at_ms += 10_000
        play.turns()
    assert list(play.small.control.world.state.instructions.values()) == [standing]


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({}, True),
        ({"note": "another name"}, True),
        ({"from_ms": 50}, True),
        ({"limit_w": 9}, False),
        ({"urgency": "emergency"}, False),
        ({"until_ms": 99_000}, True),
        ({"until_ms": 94_000}, False),
        ({"until_ms": 100_001}, False),
        ({"until_ms": 0}, False),
        ({"from_ms": 20_000}, False),
    ],
)
def test_what_counts_as_the_same(change: dict[str, Any], kept: bool) -> None:
    """Never what is stricter, nor what ends later; words alone are nothing new."""
    old = Instruction(InstructionId(f"{SOURCE}:g/e/0.0/s"), SITE, 10, 1_000, 100_000, SOURCE)
    assert is_kept(old, replace(old, **change), 10_000) is kept
    found, later = compared([old], [replace(old, **change)], 10_000)
    assert (len(found.changed), found.given, found.withdrawn, later) == (0 if kept else 1, (), (), 0)


def test_reports_of_a_model_say_so_and_claim_nothing_that_was_not_seen(play: Play) -> None:
    """Idle nodes draw 1,320 W at the meter; half of a time that was seen is no reading."""
    meter = ModelledMeter(play.small.control, [SITE])
    began_ms = play.small.clock.at_ms
    meter.sample()
    play.small.submit(JOB)
    play.small.run(10)
    meter.sample()
    changed_ms = play.small.clock.at_ms
    play.small.clock.at_ms += 10_000
    found = meter.metered(SITE, began_ms, changed_ms)
    assert found is not None
    assert (found.mean_w, found.source) == (1_320, "modelled")
    later = meter.metered(SITE, began_ms, changed_ms + 10_000)
    assert later is not None
    assert later.energy_mj == 1_320 * (changed_ms - began_ms) + later.last_w * 10_000
    assert meter.metered(SITE, began_ms - 1, changed_ms) is None
    assert meter.metered(SiteId("nowhere"), began_ms, changed_ms) is None


def test_what_an_event_asks_to_be_told_arrives_as_an_estimate(play: Play) -> None:
    """Its demand over the interval, when that has ended."""
    asked = [{"objectType": "REPORT_DESCRIPTOR", "payloadType": "DEMAND", "units": "KW"}]
    play.meter.sample()
    play.say(2, lasts="PT10S", reportDescriptors=asked)
    play.turns()
    play.small.clock.at_ms += 11_000
    play.turns()
    (report,) = [one for one in play.vtn.all("reports") if one["reportName"].startswith("DEMAND")]
    (interval,) = report["resources"][0]["intervals"]
    assert [(one["type"], one["values"]) for one in interval["payloads"]] == [
        ("DEMAND", [1.32]),
        ("DATA_QUALITY", ["ESTIMATED"]),
    ]


class BadMeter:
    """A meter that can't be asked."""

    def metered(self, _site: SiteId, _from_ms: int, _until_ms: int) -> None:
        raise ZeroDivisionError("no meter")


class OddService(InlineService):
    """A service with a defect that shows once."""

    is_odd = True

    async def settled(self) -> Head | None:
        if self.is_odd:
            self.is_odd = False
            raise ZeroDivisionError("no service")
        return await super().settled()


def test_what_can_t_be_met_in_full_binds_all_the_same(play: Play) -> None:
    """1 kW where idle nodes alone draw 1.32 kW: it holds, and an alarm says what it breaches, once."""
    play.say(1)
    play.turns(2)
    assert play.limits() == [1_000]
    ((_, alarm),) = play.small.control.world.state.alarms
    assert (alarm.subject, "can't come down to 1 kW" in alarm.detail) == (SITE, True)


def test_a_defect_of_ours_is_named_and_ends_nothing(play: Play) -> None:
    """Whatever a VTN makes us stumble over, in hearing or in reporting: the next turn is a turn like any other."""
    play.follower = Follower(play.declared(), OddService(play.small.control), BadMeter())
    play.say(2, lasts="PT10S", reportDescriptors=[{"payloadType": "DEMAND"}])
    play.turns()
    assert "no service" in play.follower.state().trouble
    play.turns()
    assert (play.limits(), play.follower.state().trouble) == ([2_000], "")
    play.small.clock.at_ms += 11_000
    play.turns()
    assert "defect" in play.findings()
    assert play.follower.state().trouble == ""
    play.runner.run(play.follower.aclose())


def test_a_vtn_that_accepts_and_never_answers_keeps_nobody_from_ending(play: Play) -> None:
    """It ends when it is told to, in the middle of a call."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        play.port = silent.getsockname()[1]
        follower = play.follow()

        async def cancelled() -> bool:
            running = asyncio.create_task(follower.run())
            called, _ = await asyncio.to_thread(silent.accept)
            running.cancel()
            await asyncio.wait([running])
            called.close()
            return running.cancelled()

        assert play.runner.run(cancelled())


def test_who_wants_to_know_is_told_when_a_vtn_falls_silent_and_when_it_is_back(play: Play) -> None:
    """Once each time, not with every poll."""
    play.turns(3)
    play.vtn.faults.status = 503
    play.turns(3)
    play.vtn.faults.status = 0
    play.turns(3)
    assert [bool(one.trouble) for one in play.told] == [False, True, False]


# A control plane in a process of its own.


class Plane:
    """`headrace up --signals FILE`, with all that it says."""

    def __init__(self, folder: Path, signals: Path) -> None:
        self.state, self._signals, self._out = folder / "state", signals, folder / "said"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Sdk:
        self._out.write_text("")
        words = ["up", "--state", str(self.state), "--port", "0", "--no-isolation"]
        with self._out.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "headrace", *words, "--signals", str(self._signals)],
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        wait_for(lambda: "ready" in self.said() or self._process is None or self._process.poll() is not None)
        assert "ready" in self.said(), self.said()
        return client_of(self.state)

    def said(self) -> str:
        return self._out.read_text()

    def end(self, number: int = signal.SIGTERM) -> None:
        if self._process is not None:
            os.kill(self._process.pid, number)
            self._process.wait(30)
            self._process = None


@contextmanager
def plane(folder: Path, signals: Path) -> Iterator[Plane]:
    """One that is started; in the end all that runs under it is stopped."""
    one = Plane(folder, signals)
    try:
        one.start()
        yield one
        with client_of(one.state) as client:
            for work in client.workloads(live=True):
                client.stop(work.id)
                client.wait(work.id, timeout=30)
    finally:
        one.end()


def wait_for(what: Callable[[], object]) -> None:
    """Wait until something is so."""
    until = time.monotonic() + PATIENCE_S
    while not what():
        if time.monotonic() > until:
            raise TimeoutError("it did not come about")
        time.sleep(0.1)


def announce(vtn: Vtn, program: str, kilowatts: float | str) -> str:
    """An event from now on, until it is withdrawn."""
    kind = "IMPORT_CAPACITY_LIMIT"
    said = {
        "programID": program,
        "payloadDescriptors": [
            {"objectType": "EVENT_PAYLOAD_DESCRIPTOR", "payloadType": kind, "units": "KW"}
        ],
        "intervalPeriod": {"start": datetime.now(UTC).isoformat(), "duration": "P9999Y"},
        "intervals": [{"id": 0, "payloads": [{"type": kind, "values": [kilowatts]}]}],
    }
    return str(vtn.put("events", said)["id"])


WORK = {
    "mine": {"resources": {"gpu": "lab:4"}, "type": "filler"},
    "train": {"resources": {"gpu": "lab:4"}, "type": "job", "flex": "pausable"},
    "answer": {"resources": {"gpu": "lab:2"}, "type": "job"},
}


def begin(folder: Path, env: pytest.MonkeyPatch, state: Path) -> None:
    """The lab estate with a miner, a pausable and a firm job at Glomfjord, all of them running."""
    env.setenv("HEADRACE_STATE", str(state))
    env.delenv("HEADRACE_URL", raising=False)
    env.delenv("HEADRACE_TOKEN", raising=False)
    assert run(["apply", "-f", str(LAB), "-f", str(TENANTS), "-y"]) == 0
    for name, more in WORK.items():
        options = ["--type", "filler"] if more["type"] == "filler" else []
        options += ["--flex", "pausable"] if "flex" in more else []
        words = ["submit", "--name", name, "--project", "research", "--countries", "NO", *options]
        assert run([*words, "--gpu", more["resources"]["gpu"], "-c", "sleep 600"]) == 0  # type: ignore[index]
    for name in WORK:
        assert run(["wait", name, "--for", "running"]) == 0


def states(state: Path) -> dict[str, str]:
    with client_of(state) as client:
        return {one.name: one.state for one in client.workloads(live=True)}


def test_an_event_sheds_what_may_go_and_its_end_lets_it_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole way: the miner goes, the job pauses, the firm one stays; killed and started without its VTN it all holds."""
    vtn = Vtn(CLIENTS)
    program = vtn.put("programs", {"programName": "flex"})["id"]
    shed = {"mine": "queued", "train": "paused", "answer": "running"}
    on = dict.fromkeys(WORK, "running")
    with served(vtn) as port, plane(tmp_path, signals_file(tmp_path, port)) as one:
        begin(tmp_path, monkeypatch, one.state)
        event = announce(vtn, program, 2.1)
        wait_for(lambda: states(one.state) == shed)
        capsys.readouterr()
        assert run(["grid", "ls"]) == run(["status"]) == 0
        said = capsys.readouterr().out
        assert f"openadr:lab-grid/{event}/0.0/glomfjord" in said
        assert "2.1 kW" in said
        assert "signals: 1 of 1 VTNs heard" in said
        wait_for(lambda: any(each["reportName"].startswith("acknowledged") for each in vtn.all("reports")))
        vtn.remove("events", event)
        wait_for(lambda: states(one.state) == on)
        announce(vtn, program, 2.1)
        wait_for(lambda: states(one.state) == shed)
        vtn.faults.status = 500
        wait_for(lambda: "WARNING: signals lab-grid: " in one.said())
        one.end(signal.SIGKILL)
        with one.start() as client:
            wait_for(lambda: client.grid().signals[0].state == "never heard" and "WARNING" in one.said())
            (asked,) = [each for each in client.grid().instructions if each.state == "active"]
            assert (asked.limit_w, asked.source) == (2_100, "openadr")
            assert states(one.state) == shed
            capsys.readouterr()
            assert run(["status"]) == 0
            assert "0 of 1 VTNs heard; lab-grid never heard since" in capsys.readouterr().out
            for each in list(vtn.all("events")):
                vtn.remove("events", each["id"])
            vtn.faults.status = 0
            wait_for(lambda: states(one.state) == on)
            wait_for(lambda: "signals lab-grid: heard" in one.said())


def test_up_names_what_is_wrong_with_signals_and_starts_without_a_vtn(tmp_path: Path) -> None:
    """Nobody answers, and the secret is open to all: both are said, and it runs; of a bad file nothing is believed."""
    path = signals_file(tmp_path, 1)
    (tmp_path / "secret").chmod(0o644)
    with plane(tmp_path, path) as one:
        assert "WARNING: lab-grid: the secret " in one.said()
        assert "chmod 600" in one.said()
        wait_for(lambda: "WARNING: signals lab-grid: " in one.said())
        assert "Traceback" not in one.said()


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        (None, 0o644, "signals.yaml"),
        ("kind: vtn\nname: a\n", 0o644, "url"),
        ("kind: vtm\n", 0o644, "vtn"),
        ("kind: vtn\n", 0o666, "chmod go-w"),
    ],
)
def test_up_refuses_a_file_that_can_t_be_believed(
    tmp_path: Path, text: str | None, mode: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named with the next step, and no state is made."""
    path = tmp_path / "signals.yaml"
    if text is not None:
        path.write_text(text)
        path.chmod(mode)
    code = run(["up", "--state", str(tmp_path / "state"), "--port", "0", "--signals", str(path)])
    assert code != 0
    assert said in capsys.readouterr().err
    assert not (tmp_path / "state").exists()
