"""The engine of mining machines: a placement has machines that are its nodes, and runs by their mining.

There is nothing to run: to start is to let them mine, and to stop is to see that they draw no more than they count with when
nobody mines. What a machine says is asked for again and again by one thread of its own, with an event loop; calls of the
engine read what it last saw, and say what is wanted. A machine that mines and that nobody ordered to is told to stop, and counts
at nameplate until it has: machines begin by themselves when power comes back.

A machine can't be fenced: it does what anybody says who has its password. So it is the directory of this engine that is
fenced, as a spool is: give one to each hall.
"""

import asyncio
import contextlib
import fcntl
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from headrace.core.errors import HeadraceError, ProblemCode
from headrace.core.ids import Epoch, NodeId, PlacementId
from headrace.core.units import MS_PER_SECOND
from headrace.devices import Miner, MinerState
from headrace.engines import runner
from headrace.engines.mining import NOT_STARTED, Held, Mining, Seen, Wish, load, save, seen_of
from headrace.engines.orders import why_never
from headrace.engines.problems import (
    as_engine_error,
    engine_error,
    refuse_superseded,
    refuse_writable,
)
from headrace.engines.spool import take_over
from headrace.ports import (
    Capabilities,
    Engine,
    EngineError,
    EngineNode,
    LogChunk,
    NodeReport,
    PlacementReport,
    RankState,
    StartOrder,
)

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")
STREAMS = ("stdout", "stderr")
UNORDERED_W = 500
"""A machine of which no order said what it counts with stopped is taken to mine above this."""
UNORDERED = "it mines, and nobody ordered it"
UNKNOWN = "it does not answer, and may mine: machines begin by themselves"
CLOSING_S = 0.05
NODES_S = 0.5
"""What is said of nodes is worked out anew after this."""


@dataclass(frozen=True, slots=True)
class MinerPace:
    """How often machines are asked, in seconds of this machine. ``look_s``: one of which all is as it is wanted.

    ``soon_s``: one of which it is not, and twice as late each time that it does not answer, up to ``look_s``. ``again_s``: so
    long after an order that it took, and that does not show, it is given again; after ``odd_s`` that is said. ``silent_s``: who
    has said nothing for so long is down. ``at_once``: so many are asked at the same time, and as many again of those that did
    not answer last.
    """

    round_s: float = 0.1
    look_s: float = 10.0
    soon_s: float = 0.7
    again_s: float = 5.0
    odd_s: float = 15.0
    silent_s: float = 30.0
    at_once: int = 64


@dataclass(slots=True)
class Machine:
    """A machine, and what it said last; times are of this process's own clock, in seconds.

    ``wanted`` of it since ``wanted_at``: ``mine``, ``rest``, or "" (it is left as it is). ``ordered``: what it was told last
    ("": nothing since the start). ``heard``: when it answered last. ``failing``: how often it has not since.
    """

    node: NodeId
    miner: Miner
    said: MinerState | None = None
    wanted: str = ""
    wanted_at: float = 0.0
    ordered: str = ""
    ordered_at: float = 0.0
    heard: float | None = None
    due: float = 0.0
    failing: int = 0
    trouble: str = ""
    is_busy: bool = False


@dataclass(slots=True)
class _Lane:
    """Machines that wait to be asked, so many at once."""

    gate: asyncio.Semaphore
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class MinerEngine:
    """Implements :class:`headrace.ports.Engine`; end it with :meth:`close`. ``miners``: by the node of the estate."""

    def __init__(self, root: Path, miners: Mapping[NodeId, Miner], pace: MinerPace = MinerPace()) -> None:
        self._root, self.pace = root.absolute(), pace
        self._begun = time.monotonic()
        self._machines = {node: Machine(node, miner) for node, miner in miners.items()}
        self._held: dict[PlacementId, Held] = {}
        self._on: dict[NodeId, tuple[Held, Mining]] = {}
        self._idle_w: dict[NodeId, int] = {}
        self._estate: frozenset[NodeId] = frozenset()
        self._reports: list[PlacementReport] | None = None
        self._told: tuple[Sequence[NodeId], float, list[NodeReport]] = ((), 0.0, [])
        self._epoch: Epoch | None = None
        self._superseded = self._defect = ""
        self._mutex = threading.RLock()
        self._prepare()
        self._loop = asyncio.new_event_loop()
        self._wake = asyncio.Event()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="miners", daemon=True)
        self._thread.start()

    # --- what a control plane asks ------------------------------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:
        """Machines that mine by themselves, each for one tenant at a time; nothing of anybody's runs there."""
        return Capabilities(
            isolation="none", pause=True, ports=False, parts=False, pause_sheds=True, mines=True
        )

    @property
    def trouble(self) -> str:
        """That another control plane has taken over, or a defect; a machine's own trouble is its node's."""
        return self._superseded or self._defect

    def fence(self, epoch: Epoch, owner: str = "") -> None:
        """See :class:`headrace.ports.Engine`. Until then no machine is told anything."""
        with self._mutex, runner.epoch_lock(str(self._root), fcntl.LOCK_EX) as fenced:
            take_over(self._root, epoch, owner, fenced)
            self._epoch = epoch
        self._stir()

    def start(self, order: StartOrder) -> None:
        """Let every machine of an order mine, or nothing. What can never be ends at once with ``start_failed``."""
        if not _SAFE_NAME.fullmatch(order.placement):
            text, step = f"{order.placement!r} can't name a placement;", "use an id from the journal."
            raise engine_error(ProblemCode.BAD_INPUT, text, step)
        with self._mutex, runner.epoch_lock(str(self._root), fcntl.LOCK_SH) as fenced:
            refuse_superseded(order.epoch, fenced)
            if (self._root / "ended" / order.placement).exists():
                text = f"placement {order.placement} has ended;"
                raise engine_error(ProblemCode.CONFLICT, text, "make a new one.")
            held = self._held.get(order.placement)
            with as_engine_error(f"placement {order.placement} can't be started now"):
                if held is None:
                    self._accept(order)
                elif held.epoch < order.epoch:
                    held.epoch = order.epoch
                    self._save(held, durable=True)
        self._stir()

    def stop(self, placement: PlacementId, grace_ms: int) -> None:
        """Stop every machine at once: they lose nothing by it, and need no grace."""
        self._want(placement, Wish.STOP)

    def pause(self, placement: PlacementId) -> None:
        """Stop every machine, and keep it."""
        self._want(placement, Wish.PAUSE)

    def resume(self, placement: PlacementId) -> None:
        """Let paused machines mine again."""
        self._want(placement, Wish.MINE)

    def observe(self) -> Sequence[PlacementReport]:
        """Reports of all placements, by the last looks at their machines; the very list of before when all is as it was."""
        with self._mutex:
            self._refuse_superseded()
            if self._reports is None:
                self._reports = [held.report for held in self._held.values()]
            return self._reports

    def forget(self, placement: PlacementId) -> None:
        """Drop the file of an ended placement; EngineError while it mines."""
        with self._mutex:
            self._refuse_superseded()
            held = self._held.get(placement)
            if held is None:
                return
            if not held.final:
                text = f"placement {placement} still runs;"
                raise engine_error(ProblemCode.IN_USE, text, "stop it and wait for its end.")
            with as_engine_error(f"placement {placement} can't be forgotten now"):
                (self._root / "ended" / placement).touch(mode=0o600)
                (self._root / "placements" / f"{placement}.json").unlink(missing_ok=True)
            del self._held[placement]
            self._reports = None

    def nodes(self, of: Sequence[NodeId]) -> Sequence[NodeReport]:
        """Of each node whether its machine answers, and whether it mines for nobody."""
        with self._mutex:
            of_whom, at, before = self._told
            now = time.monotonic()
            if of_whom is of and now - at < NODES_S:
                return before
            self._estate = frozenset(of)
            found = [self._node(node) for node in of]
            # The very list of before says that there is no news.
            self._told = of, now, before if of_whom is of and found == before else found
            return self._told[2]

    def host_of(self, node: NodeId) -> str:
        """The node itself: the devices file calls its machine so."""
        return node

    def inventory(self) -> Sequence[EngineNode]:
        """The machines of the devices file."""
        return [EngineNode(node, accelerators=1) for node in self._machines]

    def cordon(self, nodes: Mapping[NodeId, str]) -> None:
        """Nothing: nobody else gives work to these machines."""

    def logs(self, placement: PlacementId, rank: int, stream: str, offset: int, limit: int) -> LogChunk:
        """Nothing, and its end: what runs no commands writes none."""
        if stream not in STREAMS:
            text, step = f"no stream {stream!r};", f"use {' or '.join(STREAMS)}."
            raise engine_error(ProblemCode.BAD_INPUT, text, step)
        return LogChunk(b"", offset, offset, True)

    def erase_logs(self, placement: PlacementId) -> None:
        """There are none; that it has ended need not be remembered any longer either."""
        if _SAFE_NAME.fullmatch(placement):
            (self._root / "ended" / placement).unlink(missing_ok=True)

    def close(self) -> None:
        """Ask machines nothing any more; they go on as they are."""
        self._ending.set()
        self._stir()
        self._thread.join(10.0)

    def machines(self) -> list[Machine]:
        """The machines, for whoever looks: what each said last."""
        return list(self._machines.values())

    # --- what is kept ---------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        with as_engine_error(f"the directory {self._root} can't be used"):
            for name in ("placements", "ended"):
                (self._root / name).mkdir(mode=0o700, parents=True, exist_ok=True)
            self._root.chmod(0o700)
            refuse_writable(self._root)
            for held in load(self._root / "placements"):
                self._hold(held)

    def _hold(self, held: Held) -> None:
        self._held[held.placement] = held
        self._reports = None
        for rank in held.ranks:
            if rank.final:
                continue
            self._idle_w[rank.node] = rank.idle_w
            if rank.node in self._machines:
                self._on[rank.node] = held, rank
            else:
                detail = f"no miner of the devices file is {rank.node} any more"
                rank.end(RankState.LOST, None, detail=detail)

    def _accept(self, order: StartOrder) -> None:
        """Make the order durable: from here on it is what is wanted of its machines."""
        why = why_never(order, None) or self._why_never(order)
        if not why:
            taken = [place.node for place in order.ranks if NodeId(place.node) in self._on]
            if taken:
                text = f"{taken[0]} has not ended what it did before;"
                raise engine_error(ProblemCode.ENGINE_UNAVAILABLE, text, "it is tried again.")
        idle_w = order.node_idle_w or (UNORDERED_W,) * len(order.ranks)
        ranks = [Mining(NodeId(place.node), watts) for place, watts in zip(order.ranks, idle_w, strict=True)]
        held = Held(order.placement, order.epoch, ranks, order.max_duration_ms)
        if why:
            for rank in ranks:
                rank.end(RankState.EXITED, NOT_STARTED, "start_failed", why)
        self._save(held, durable=True)
        self._hold(held)
        self._due(ranks)

    def _why_never(self, order: StartOrder) -> str:
        names = [place.node for place in order.ranks]
        if order.commands or order.ports:
            return "mining machines run nothing of anybody's: leave out commands and ports"
        missing = [name for name in names if NodeId(name) not in self._machines]
        if missing:
            return f"no miner of the devices file is {missing[0]}"
        return "" if len(set(names)) == len(names) else "two ranks on one machine"

    def _want(self, placement: PlacementId, wish: Wish) -> None:
        with self._mutex:
            self._refuse_superseded()
            held = self._held.get(placement)
            if held is None or held.final or held.wish in (wish, Wish.STOP):
                return
            held.wish, self._reports = wish, None
            for rank in held.ranks:
                rank.count(runner.boot_ms())
            with as_engine_error(f"placement {placement} can't be told now"):
                self._save(held, durable=False)
            self._due(held.ranks)
        self._stir()

    def _save(self, held: Held, *, durable: bool) -> None:
        save(self._root / "placements", held, durable=durable)

    def _due(self, ranks: Iterable[Mining]) -> None:
        """Something else is wanted of these machines: they are asked at once."""
        for rank in ranks:
            machine = self._machines.get(rank.node)
            if machine is not None and not machine.failing:
                machine.due = 0.0

    def _refuse_superseded(self) -> None:
        """EngineError once a later control plane has fenced this directory."""
        if self._epoch is None:
            return
        try:
            refuse_superseded(self._epoch, int(runner.read_json(str(self._root / "epoch")) or 0))
        except EngineError as error:
            self._superseded = error.problem.line()
            raise

    def _node(self, node: NodeId) -> NodeReport:
        machine = self._machines.get(node)
        if machine is None:
            return NodeReport(node, False, "no miner of the devices file is this node")
        now = time.monotonic()
        if now - (machine.heard or self._begun) >= self.pace.silent_s:
            # Of what is placed on it it counts in full anyway; of one with nothing on it nothing is known.
            trouble = machine.trouble or "it was not asked"
            return NodeReport(node, False, trouble, "" if node in self._on else UNKNOWN)
        if machine.said is None:
            return NodeReport(node, not machine.trouble, machine.trouble)
        return NodeReport(node, True, "", UNORDERED if self._mines_for_nobody(machine) else "")

    def _mines_for_nobody(self, machine: Machine) -> bool:
        """Whether a machine that is nobody's draws what one that rests does not."""
        said = machine.said
        if said is None or machine.node in self._on:
            return False
        return said.is_mining is True or (said.power_w or 0) > self._idle_w.get(machine.node, UNORDERED_W)

    # --- what machines are asked ----------------------------------------------------------------------------------------

    def _stir(self) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._wake.set)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._ask_forever())
        finally:
            self._loop.close()

    async def _ask_forever(self) -> None:
        # Who did not answer last waits in a lane of its own, and nobody else behind it.
        lanes = tuple(_Lane(asyncio.Semaphore(self.pace.at_once)) for _ in range(2))
        while not self._ending.is_set():
            try:
                self._round(lanes)
                self._defect = ""
            except EngineError:
                pass  # Superseded: nothing is asked any more, and `trouble` says so.
            except Exception as error:  # noqa: BLE001 - whatever a machine makes us stumble over ends no control plane
                self._defect = f"a defect of ours, which should be reported: {error!r}"
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.pace.round_s):
                    await self._wake.wait()
            self._wake.clear()
        await _end_all()

    def _round(self, lanes: Sequence[_Lane]) -> None:
        if self._epoch is None:
            return
        self._refuse_superseded()
        now = time.monotonic()
        for machine in self._machines.values():
            if machine.is_busy or now < machine.due:
                continue
            machine.is_busy = True
            lane = lanes[machine.failing > 0]
            task = self._loop.create_task(self._attend(machine, lane.gate))
            lane.tasks.add(task)
            task.add_done_callback(lane.tasks.discard)

    async def _attend(self, machine: Machine, gate: asyncio.Semaphore) -> None:
        """Tell a machine what is wanted of it, if it does not do it, and look what it does."""
        async with gate:
            wanted = self._wanted(machine)
            if wanted != machine.wanted:
                machine.wanted, machine.wanted_at = wanted, time.monotonic()
            try:
                await self._tell(machine, wanted)
                said = await machine.miner.state()
            except HeadraceError as error:
                self._miss(machine, error.problem.line())
            except Exception as error:  # noqa: BLE001 - as in `_ask_forever`
                self._miss(machine, f"a defect of ours, which should be reported: {error!r}")
            else:
                self._hear(machine, said, wanted)
            finally:
                machine.is_busy = False

    def _wanted(self, machine: Machine) -> str:
        """``mine``, ``rest``, or "" for a machine that is no node of the estate: it is left as it is."""
        with self._mutex:
            found = self._on.get(machine.node)
            if found is not None:
                return "mine" if found[0].wish is Wish.MINE else "rest"
            return "rest" if machine.node in self._estate else ""

    async def _tell(self, machine: Machine, wanted: str) -> None:
        said, now = machine.said, time.monotonic()
        does = {True: "mine", False: "rest", None: ""}[None if said is None else said.is_mining]
        if not wanted:
            return
        if said is None and (wanted == "mine" or machine.node not in self._on):
            return  # It is looked at first: most do already what is wanted.
        # What it says it does is not asked of it, unless it was told otherwise after that, or does not show it.
        shows = wanted == "mine" or self._rests(machine)
        is_told = machine.ordered == wanted and now - machine.ordered_at < self.pace.again_s
        if is_told or (does == wanted and shows and machine.ordered in ("", wanted)):
            return
        order: Callable[[], object] = machine.miner.resume if wanted == "mine" else machine.miner.stop
        machine.ordered, machine.ordered_at = wanted, now
        await order()  # type: ignore[misc]

    def _rests(self, machine: Machine) -> bool:
        idle_w = self._idle_w.get(machine.node, UNORDERED_W)
        return machine.said is not None and seen_of(machine.said, idle_w) is Seen.RESTS

    def _hear(self, machine: Machine, said: MinerState, wanted: str) -> None:
        """A machine said what it does."""
        now = time.monotonic()
        with self._mutex:
            machine.said, machine.heard, machine.failing, machine.trouble = said, now, 0, ""
            found = self._on.get(machine.node)
            left_ms = None
            if found is not None:
                held, rank = found
                is_due = held.look(rank, said, runner.boot_ms())
                left_ms = held.left_ms(rank)
                if rank.final:
                    del self._on[machine.node]
                if is_due:
                    with contextlib.suppress(OSError):
                        self._save(held, durable=False)
                self._reports = None
            machine.trouble = self._at_odds(machine, said, wanted)
            is_other = self._wanted(machine) != wanted
            self._plan(machine, now, is_other=is_other, left_ms=left_ms)

    def _at_odds(self, machine: Machine, said: MinerState, wanted: str) -> str:
        """That a machine says one thing and draws as if it were another, once it had time."""
        if not wanted or time.monotonic() - machine.wanted_at < self.pace.odd_s:
            return ""
        drawn = "an unknown power" if said.power_w is None else f"{said.power_w} W"
        if wanted == "rest" and not self._rests(machine):
            return f"it was told to stop, says that it {_does(said)} and draws {drawn}; look at it."
        idle_w = self._idle_w.get(machine.node, UNORDERED_W)
        if wanted == "mine" and seen_of(said, idle_w) is not Seen.MINES:
            return f"it was told to mine, says that it {_does(said)} and draws {drawn}; look at it."
        return ""

    def _plan(self, machine: Machine, now: float, *, is_other: bool, left_ms: int | None) -> None:
        """When it is asked next: at once where something else is wanted by now, soon where it does not do it yet."""
        pace, said = self.pace, machine.said
        found = self._on.get(machine.node)
        is_settled = said is not None and (
            self._rests(machine)
            if found is None or found[0].wish is not Wish.MINE
            else said.is_mining is True
        )
        if found is not None and found[1].state is RankState.STARTING:
            is_settled = False
        wait_s = pace.look_s if is_settled else pace.soon_s
        if left_ms is not None:
            wait_s = min(wait_s, left_ms / MS_PER_SECOND)
        machine.due = 0.0 if is_other else now + wait_s

    def _miss(self, machine: Machine, trouble: str) -> None:
        # Whether it took what it was told is not known: it is told again.
        machine.failing, machine.trouble, machine.ordered_at = machine.failing + 1, trouble, 0.0
        wait_s = min(self.pace.look_s, self.pace.soon_s * 2 ** min(machine.failing - 1, 8))
        machine.due = time.monotonic() + wait_s


async def _end_all() -> None:
    """End all that still goes on in this loop, connections of pyasic's own tasks among it, and let them close."""
    # pyasic takes being cancelled for an answer, and may go on to the next question.
    while left := asyncio.all_tasks() - {asyncio.current_task()}:
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
    # A connection that was closed is let go by the loop's next turns, once what it has still to send is sent.
    await asyncio.sleep(CLOSING_S)


def machines_of(engines: Mapping[str, Engine]) -> Callable[[], list[Machine]]:
    """What shows the machines of all engines that drive any."""
    halls = [one for one in engines.values() if isinstance(one, MinerEngine)]
    return lambda: [machine for hall in halls for machine in hall.machines()]


def _does(said: MinerState) -> str:
    return {True: "mines", False: "is off", None: "does neither"}[said.is_mining]
