"""The Ray engine keeps the contract on a real Ray."""

import json
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from headrace.core.ids import NodeId, PlacementId, TenantId
from headrace.engines import runner
from headrace.engines.ray.client import RayClient, RayJob
from headrace.engines.ray.engine import RayEngine, RaySettings
from headrace.lab.ray import HEAD, SLOTS, RayLab, ray_lab
from headrace.ports import Engine, EngineError, RankState, StartOrder
from tests.engines.contract import (
    FIRST,
    LONG_GRACE_MS,
    SECOND,
    EngineContract,
    become,
    ended,
    order_of,
    read_all,
    report_of,
    states,
)

PATIENCE_S = 90


@pytest.fixture(scope="module")
def site() -> Iterator[RayLab]:
    """A head and four nodes."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    folder.chmod(0o755)
    with ray_lab(folder) as found:
        yield found
    shutil.rmtree(folder)


class Elsewhere(RayEngine):
    """An engine on a host that no rank is on: it can see no process, only records and what Ray says."""

    def __init__(self, root: Path, client: RayClient, settings: RaySettings) -> None:
        super().__init__(root, client, settings)
        self._boot = "another host's"


class RayHarness:
    """An engine on a spool of its own and the module's Ray, and a look behind it."""

    def __init__(self, site: RayLab, root: Path) -> None:
        self.site, self.root = site, root
        self.kind: type[RayEngine] = RayEngine
        self.settings: dict[str, Any] = {}
        self.made: list[RayEngine] = []
        self.engine: Engine = self.reopened()

    def reopened(self) -> Engine:
        """A new engine on the same spool; the old one is never asked again."""
        for old in self.made:
            old.close()
        settings: dict[str, Any] = {
            "tenant": TenantId("acme"),
            "heartbeat_ms": 200,
            "poll_ms": 200,
            "resource": "lab",
            "ray_python": str(self.site.python),
            "uids": range(200_000, 300_000) if os.geteuid() == 0 else None,
            "nodes": {NodeId(f"glomfjord/a/{name}"): name for name in self.site.names},
            "addresses": dict.fromkeys(self.site.names, "127.0.0.1"),
        }
        client = RayClient(self.site.address, timeout_s=20)
        self.made.append(self.kind(self.root, client, RaySettings(**settings | self.settings)))
        return self.made[-1]

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait."""
        give_up = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > give_up:
                told = f"{self.engine.observe()}; {self.made[-1].trouble}"
                raise AssertionError(f"did not happen in {PATIENCE_S} s: {told}")
            time.sleep(0.02)

    def pass_ms(self, duration_ms: int) -> None:
        """Wait for as long."""
        time.sleep(duration_ms / 1000)

    def record(self, placement: PlacementId, rank: int) -> dict[str, Any]:
        """What the runner wrote last."""
        found = runner.read_json(str(self.root / "placements" / placement / str(rank) / runner.RECORD))
        assert isinstance(found, dict)
        return found

    def kill_runner(self, placement: PlacementId, rank: int) -> None:
        """SIGKILL."""
        os.kill(self.record(placement, rank)["runner"][0], signal.SIGKILL)

    def close(self) -> None:
        """Leave no job behind, whatever the test left running."""
        for engine in self.made:
            engine.close()
        client = RayClient(self.site.address)
        for job in client.jobs():
            if job.is_alive and job.id:
                client.stop(job.id)
        client.close()


@pytest.fixture
def harness(site: RayLab) -> Iterator[RayHarness]:
    """An engine on a short path that other users may pass through."""
    root = Path(tempfile.mkdtemp(prefix="headrace-"))
    root.chmod(0o711)
    made = RayHarness(site, root / "engine")
    yield made
    made.close()
    shutil.rmtree(root)


class TestRay(EngineContract):
    """The contract on a real Ray."""


# --- what is promised of Ray alone ----------------------------------------------------------------------------------


def mark_of(harness: RayHarness, placement: PlacementId = FIRST) -> str:
    """The mark of a placement: every test has placements of the same names."""
    info = runner.read_json(str(harness.root / "placements" / placement / "placement.json"))
    return str(info["mark"])


def jobs_of(harness: RayHarness, placement: PlacementId = FIRST) -> list[RayJob]:
    """All jobs that Ray has of a placement, ended ones too."""
    client = RayClient(harness.site.address)
    mark = mark_of(harness, placement)
    found = [job for job in client.jobs() if job.metadata.get("headrace-mark") == mark]
    client.close()
    return found


def groups_of(harness: RayHarness) -> list[list[str]]:
    """The nodes of each placement group that stands, bundle by bundle."""
    client = RayClient(harness.site.address)
    names = {one.id: one.name for one in client.nodes()}
    found: dict[str, list[str]] = {}
    for bundle in client.holders("placement_groups"):
        found.setdefault(bundle.name, []).append(names[bundle.node])
    client.close()
    return list(found.values())


def test_a_placement_is_one_job_on_exactly_its_nodes(harness: RayHarness) -> None:
    """However often it is ordered; its ranks find each other; what has ended is not kept in Ray's list for ever."""
    nodes = {NodeId(f"glomfjord/a/lab-0-{rank}"): name for rank, name in enumerate(("lab-0-3", "lab-0-1"))}
    harness.settings = {"nodes": nodes, "addresses": {}, "keep_ended_ms": 0}
    harness.engine = harness.reopened()
    harness.until(lambda: harness.engine.inventory() is not None)
    order = order_of("echo $HEADRACE_NODE $MASTER_ADDR", "sleep 30", nodes=2, accelerators=3)
    for _ in range(3):
        harness.engine.start(order)
    become(harness, RankState.RUNNING, RankState.RUNNING)
    harness.engine = harness.reopened()
    harness.engine.start(order)
    harness.pass_ms(500)
    (job,) = jobs_of(harness)
    assert job.status == "RUNNING"
    assert groups_of(harness) == [["lab-0-3", "lab-0-1"]]
    address = harness.site.get("/api/v0/nodes")["data"]["result"]["result"][0]["node_ip"]
    for rank in range(2):
        assert read_all(harness.engine, FIRST, rank) == f"glomfjord/a/lab-0-{rank} {address}\n"
    harness.engine.stop(FIRST, LONG_GRACE_MS)
    assert [rank.exit_code for rank in ended(harness).ranks] == [143, 143]
    harness.until(lambda: jobs_of(harness) == [])


def with_memory(order: StartOrder, memory_mb: int) -> StartOrder:
    """An order whose ranks have so much memory each."""
    return replace(order, ranks=tuple(rank._replace(memory_mb=memory_mb) for rank in order.ranks))


def test_ranks_have_the_memory_that_they_ask_for_and_ray_gives_it_to_nobody_else(harness: RayHarness) -> None:
    """On each of its nodes; what does not fit beside it waits in Ray, and what no node has is refused."""
    harness.until(lambda: harness.engine.inventory() is not None)
    seen = harness.engine.inventory()
    assert seen is not None
    most_mb = {one.name: one.memory_mb for one in seen}["lab-0-0"]
    assert most_mb > 0
    share_mb = most_mb * 3 // 5
    harness.engine.start(with_memory(order_of("sleep 30", nodes=2), share_mb))
    become(harness, RankState.RUNNING, RankState.RUNNING)
    (group,) = [
        one
        for one in harness.site.get("/api/v0/placement_groups?detail=1")["data"]["result"]["result"]
        if one["name"].endswith(mark_of(harness))
    ]
    assert [one["unit_resources"]["memory"] for one in group["bundles"]] == [share_mb << 20] * 2
    harness.engine.start(with_memory(order_of("echo in", placement=SECOND), share_mb))
    harness.until(lambda: [job.status for job in jobs_of(harness, SECOND)] == ["RUNNING"])
    harness.pass_ms(3_000)
    assert states(harness.engine, SECOND) == [RankState.STARTING]
    harness.engine.stop(FIRST, 0)
    assert [rank.exit_code for rank in ended(harness, SECOND).ranks] == [0]
    third = PlacementId("acme-3.1")
    harness.engine.start(with_memory(order_of("echo never", placement=third), most_mb + 1))
    (rank,) = ended(harness, third).ranks
    assert rank.reason == "start_failed"
    assert f"lab-0-0 of the Ray cluster has {most_mb} MB of what Ray calls memory, not" in rank.detail


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"nodes": {NodeId("glomfjord/a/lab-0-0"): "lab-9-9"}}, "no node of the Ray cluster 'lab-9-9'; known: lab-0-0"),
        ({"resource": "fpga"}, "node lab-0-0 of the Ray cluster has 0 fpga, not 1; compare"),
        ({"tenant": TenantId("globex")}, "this Ray cluster is globex's alone, and tenants never share one"),
    ],
)  # fmt: skip
def test_what_ray_will_never_do_ends_at_once_and_says_why(
    harness: RayHarness, changes: dict[str, Any], said: str
) -> None:
    """A node or a resource that the cluster does not have, and an order of a tenant whose cluster it is not."""
    harness.settings = changes
    harness.engine = harness.reopened()
    harness.engine.start(order_of("echo never"))
    (rank,) = ended(harness).ranks
    assert (rank.state, rank.exit_code, rank.reason) == (RankState.EXITED, 126, "start_failed")
    assert said in rank.detail
    assert jobs_of(harness) == []


def test_a_python_that_has_no_ray_is_named(harness: RayHarness) -> None:
    """What the operator has to change is in the end of what was ordered."""
    harness.settings = {"ray_python": sys.executable}
    harness.engine = harness.reopened()
    harness.engine.start(order_of("echo never"))
    (rank,) = ended(harness).ranks
    assert (rank.state, rank.exit_code, rank.running_ms) == (RankState.LOST, None, 0)
    assert "is FAILED (ModuleNotFoundError: No module named 'ray'), and its runner never began" in rank.detail


def test_what_ray_loses_ends_and_says_so(harness: RayHarness) -> None:
    """A job that is stopped behind our back takes its ranks along: lost, for it is no doing of theirs, and with exact times."""
    harness.kind = Elsewhere
    harness.engine = harness.reopened()
    harness.engine.start(order_of("trap 'echo asked; exit 0' TERM", "echo on", "sleep 30 & wait", nodes=2))
    harness.until(lambda: read_all(harness.engine, FIRST, 1) == "on\n")
    (job,) = jobs_of(harness)
    harness.site.stop(job.id)
    for rank in ended(harness).ranks:
        assert (rank.state, rank.exit_code, rank.estimated) == (RankState.LOST, None, False)
        assert rank.detail == "what launched it is gone"
    # They were asked, not just killed.
    assert read_all(harness.engine, FIRST, 1) == "on\nasked\n"


def test_a_runner_that_vanishes_on_another_host_is_known(harness: RayHarness) -> None:
    """What launched it says so, and ends what it left behind; the other rank goes on."""
    harness.kind = Elsewhere
    harness.engine = harness.reopened()
    harness.engine.start(order_of("setsid sleep 98765 &", "sleep 30", nodes=2))
    become(harness, RankState.RUNNING, RankState.RUNNING)
    harness.kill_runner(FIRST, 1)
    become(harness, RankState.RUNNING, RankState.LOST)
    harness.until(lambda: running("sleep", "98765") == 1)
    harness.engine.stop(FIRST, 500)
    assert [rank.exit_code for rank in ended(harness).ranks] == [143, None]


def running(*command: str) -> int:
    """How many processes run a command."""
    wanted, count = "\0".join((*command, "")).encode(), 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                count += (entry / "cmdline").read_bytes() == wanted
            except OSError:
                continue
    return count


_HOLD = """
import ray, time
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
ray.init()
node = next(one["NodeID"] for one in ray.nodes() if one["NodeName"] == "lab-0-0")
class Holder:
    def ready(self): pass
kept = ray.remote(Holder).options(
    num_cpus=0, resources={"lab": 4}, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
).remote()
ray.get(kept.ready.remote())
time.sleep(300)
"""


def test_what_others_run_is_seen_and_a_gang_waits_for_all_of_its_nodes(harness: RayHarness) -> None:
    """Somebody else has one of its two nodes: nothing begins on the other one, and a stop leaves nothing to begin later."""
    script = harness.root / "hold.py"
    script.write_text(_HOLD)
    theirs = harness.site.submit(f"{harness.site.python} {script}")
    nodes = [NodeId(f"glomfjord/a/lab-0-{number}") for number in range(4)]

    def foreign() -> list[str]:
        return [one.foreign for one in harness.engine.nodes(nodes)]

    harness.until(lambda: foreign() == [theirs, "", "", ""])
    harness.engine.start(order_of("echo never", nodes=2))
    harness.until(lambda: [job.status for job in jobs_of(harness)] == ["RUNNING"])
    harness.pass_ms(3_000)
    assert states(harness.engine) == [RankState.STARTING, RankState.STARTING]
    assert foreign() == [theirs, "", "", ""]
    harness.engine.stop(FIRST, LONG_GRACE_MS)
    assert [(rank.exit_code, rank.running_ms) for rank in ended(harness).ranks] == [(143, 0), (143, 0)]
    harness.until(lambda: not any(job.is_alive for job in jobs_of(harness)))
    harness.site.stop(theirs)
    harness.until(lambda: foreign() == ["", "", "", ""])


def test_a_drained_node_gets_nothing_of_ours_until_it_may_again(harness: RayHarness) -> None:
    """The order waits; it is not refused, and no other waits for it."""
    node = NodeId("glomfjord/a/lab-0-0")
    harness.engine.cordon({node: "a fan"})
    harness.until(lambda: any(one.is_drained for one in harness.engine.inventory() or ()))
    (drained,) = [one for one in harness.engine.inventory() or () if one.is_drained]
    assert (drained.name, drained.is_up, drained.accelerators, drained.cpu_milli) == (
        "lab-0-0",
        True,
        SLOTS,
        4_000,
    )
    assert re.fullmatch(r"headrace [0-9a-f]{8}: a fan", drained.reason)
    harness.engine.start(order_of("echo late"))
    harness.pass_ms(500)
    assert states(harness.engine) == [RankState.STARTING]
    assert jobs_of(harness) == []
    harness.engine.cordon({})
    assert ended(harness).ranks[0].exit_code == 0


def test_a_node_that_is_lost_takes_its_gang_along_and_is_reported(harness: RayHarness) -> None:
    """No half of it runs on, though nobody is left there to say so; what is ordered meanwhile waits for it to come back."""
    harness.kind = Elsewhere
    harness.engine = harness.reopened()
    node = NodeId("glomfjord/a/lab-0-1")
    harness.engine.start(order_of("sleep 300", nodes=2))
    become(harness, RankState.RUNNING, RankState.RUNNING)
    record = harness.record(FIRST, 1)
    found = runner.read_stat(record["runner"][0])
    assert found is not None
    # All that is on it: Ray's own, what launched the runner, the runner, and what that runs.
    harness.site.kill("lab-0-1")
    for one in (found[1], record["runner"][0]):
        os.kill(one, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.killpg(record["child"][0], signal.SIGKILL)
    first, second = ended(harness).ranks
    assert (first.state, first.estimated, first.detail) == (RankState.LOST, False, "what launched it is gone")
    assert (second.state, second.estimated, second.detail) == (RankState.LOST, True, "its runner vanished")
    harness.until(lambda: not harness.engine.nodes([node])[0].up)
    (report,) = harness.engine.nodes([node])
    assert report.reason.startswith("Ray says that it is dead: ")
    assert all(one.is_up for one in harness.engine.inventory() or () if one.name != "lab-0-1")
    harness.engine.start(order_of("echo back", nodes=2, placement=SECOND))
    harness.pass_ms(500)
    assert states(harness.engine, SECOND) == [RankState.STARTING, RankState.STARTING]
    harness.site.start_node("lab-0-1")
    assert [rank.exit_code for rank in ended(harness, SECOND).ranks] == [0, 0]


def test_a_head_that_is_killed_and_comes_back_knowing_nothing_loses_nothing_of_ours(
    harness: RayHarness,
) -> None:
    """What ran is lost with its reason as soon as nothing of it runs; what is ordered meanwhile starts, once."""
    harness.kind = Elsewhere
    harness.engine = harness.reopened()
    harness.engine.start(order_of("sleep 98764", nodes=2))
    become(harness, RankState.RUNNING, RankState.RUNNING)
    harness.site.kill(HEAD)
    harness.until(lambda: harness.made[-1].trouble != "")
    assert "`ray status` on the cluster's head" in harness.made[-1].trouble
    harness.engine.start(order_of("echo late", placement=SECOND))
    assert states(harness.engine, SECOND) == [RankState.STARTING]
    # Its raylets end when they have waited long enough for the head that they knew.
    for rank in ended(harness).ranks:
        assert (rank.state, rank.exit_code, rank.detail) == (RankState.LOST, None, "what launched it is gone")
    harness.site.restart()
    assert ended(harness, SECOND).ranks[0].exit_code == 0
    assert read_all(harness.engine, SECOND, 0) == "late\n"
    assert len(jobs_of(harness, SECOND)) == 1
    assert running("sleep", "98764") == 0


# --- what its dashboard says ----------------------------------------------------------------------------------------


class Answers(BaseHTTPRequestHandler):
    """Answers each path as it is told; one that it does not know, with a page for people."""

    told: dict[str, tuple[int, str]]
    never: threading.Event

    def do_GET(self) -> None:
        """Answer."""
        status, text = self.told.get(self.path.partition("?")[0], (200, "<html>welcome</html>"))
        if not status:
            self.never.wait(PATIENCE_S)
            return
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    do_POST = do_GET  # noqa: N815 - as its base calls it

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as its base calls it
        """Nothing."""


@pytest.fixture
def dashboard() -> Iterator[Callable[[dict[str, tuple[int, str]]], str]]:
    """Something that listens and answers what it is told to, beside a version that is known."""
    servers, never = [], threading.Event()

    def serve(told: dict[str, tuple[int, str]]) -> str:
        known = {"/api/version": (200, json.dumps({"ray_version": "2.60.0"}))}
        handler = type("Told", (Answers,), {"told": known | told, "never": never})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    never.set()
    for server in servers:
        server.shutdown()
        server.server_close()


JOB = {
    "submission_id": "one", "job_id": None, "status": "RUNNING", "message": None, "metadata": None, "end_time": None,
}  # fmt: skip
NODE = {
    "node_id": "ab", "node_name": "lab-0-0", "node_ip": "127.0.0.1", "state": "ALIVE", "state_message": None,
    "resources_total": {"CPU": 4}, "start_time_ms": 1,
}  # fmt: skip


def rows(*found: object) -> str:
    """As the state API wraps them."""
    return json.dumps({"result": True, "msg": "", "data": {"result": {"result": found}}})


@pytest.mark.parametrize(
    ("path", "status", "text", "said"),
    [
        ("/api/version", 404, "Not Found", "/api/version says what is not understood: 'Not Found'; give the address"),
        ("/api/version", 200, "<html>", "what is not understood: '<html>'"),
        ("/api/version", 200, '{"ray_version": 2}', "what is not understood"),
        ("/api/version", 200, '{"ray_version": "2.9.3"}', "Ray 2.9.3, which is too old; upgrade the cluster to 2.51"),
        ("/api/version", 401, "Missing token", "refuses us: Missing token; put what `ray get-auth-token` prints into"),
        ("/api/jobs/", 500, "a\nTimeoutError: GCS", "answers /api/jobs/ with 500: TimeoutError: GCS; it is tried again"),
        ("/api/jobs/", 302, "", "answers /api/jobs/ with 302"),
        ("/api/jobs/", 200, '{"jobs": []}', "/api/jobs/ says what is not understood: \"{'jobs': []}\""),
        ("/api/jobs/", 200, '["one"]', "/api/jobs/ says what is not understood: 'one'"),
        ("/api/jobs/", 200, json.dumps([JOB | {"status": "DREAMING"}]), "what is not understood"),
        ("/api/jobs/", 200, json.dumps([JOB | {"metadata": "none"}]), "what is not understood"),
        ("/api/jobs/", 0, "", "did not answer /api/jobs/ in 0.5 s; it is tried again"),
        ("/api/v0/nodes", 200, "<html>", "/api/v0/nodes says what is not understood: '<html>'"),
        ("/api/v0/nodes", 200, '{"data": null}', "what is not understood"),
        ("/api/v0/nodes", 200, rows(NODE | {"resources_total": "4"}), "what is not understood"),
        ("/api/v0/nodes", 200, rows(NODE | {"node_name": ""}), "what is not understood"),
        ("/api/v0/actors", 200, rows({"name": "one"}), "/api/v0/actors says what is not understood"),
    ],
)  # fmt: skip
def test_an_answer_that_is_not_understood_is_a_named_error(
    dashboard: Callable[[dict[str, tuple[int, str]]], str], path: str, status: int, text: str, said: str
) -> None:
    """With the address, what it said and what to do; nothing is made of half a row."""
    sound = {
        "/api/jobs/": (200, json.dumps([JOB])),
        "/api/v0/nodes": (200, rows(NODE)),
        "/api/v0/actors": (200, rows()),
    }
    client = RayClient(dashboard(sound | {path: (status, text)}), timeout_s=0.5)

    def look() -> None:
        client.jobs()
        client.nodes()
        client.holders("actors")

    with pytest.raises(EngineError) as raised:
        look()
    client.close()
    assert said in str(raised.value)


def test_what_is_sound_is_read(dashboard: Callable[[dict[str, tuple[int, str]]], str]) -> None:
    """So that the table above can't be all refusals."""
    sound = {"/api/jobs/": (200, json.dumps([JOB])), "/api/v0/nodes": (200, rows(NODE))}
    client = RayClient(dashboard(sound))
    assert client.version() == "2.60.0"
    assert [(job.id, job.is_alive, job.number) for job in client.jobs()] == [("one", True, "")]
    assert [(one.name, one.is_alive, dict(one.resources)) for one in client.nodes()] == [
        ("lab-0-0", True, {"CPU": 4})
    ]
    client.close()


@pytest.mark.parametrize("address", ["head:8265", "http://", "ftp://head", "http://head:8265/api/jobs", ""])
def test_an_address_that_is_none_is_refused_at_once(address: str) -> None:
    """With an example of one."""
    with pytest.raises(
        EngineError, match=r"is no address of a Ray dashboard; write it like http://head:8265"
    ):
        RayClient(address)


def test_a_cluster_that_is_not_there_is_trouble_and_nothing_else(tmp_path: Path) -> None:
    """Orders are taken and wait; no node is made up."""
    client = RayClient("http://127.0.0.1:1", timeout_s=1)
    engine = RayEngine(tmp_path / "engine", client, RaySettings(tenant=None, poll_ms=10))
    engine.start(order_of("echo never"))
    give_up = time.monotonic() + PATIENCE_S
    while "can't be reached" not in engine.trouble:
        assert time.monotonic() < give_up, engine.trouble
        time.sleep(0.01)
    assert states(engine) == [RankState.STARTING]
    assert engine.inventory() is None
    assert engine.capabilities.isolation == "none"
    engine.close()
    assert report_of(engine) is not None
