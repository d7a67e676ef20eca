"""A live control plane: opens the state, starts the engines and the planner, serves the API, runs the loop."""

import asyncio
import contextlib
import gc
import secrets
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import uvicorn
import uvloop

import headrace
from headrace.actuate import USUAL, Actuator, Pace
from headrace.api.app import create_app
from headrace.api.head_limit import BoundedHeads
from headrace.clock import WallClock
from headrace.control import SYSTEM, Batch, Control
from headrace.core import commands as c
from headrace.core.authority import Role
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.scheduling.proposal import Plan
from headrace.devices.declared import hall_of, load_devices, without_hall
from headrace.engines.connect import connect, connect_miners
from headrace.engines.declared import load_engines
from headrace.engines.local import LocalEngine, LocalSettings
from headrace.engines.miners import machines_of
from headrace.engines.runner import boot_id
from headrace.journal.keys import Keys
from headrace.journal.sqlite import SqliteStore
from headrace.meters import TokenMeter
from headrace.mover import Mover
from headrace.planner import PlannerProcess
from headrace.policy.engine import policies
from headrace.ports import Clock, Engine
from headrace.reconcile import Reconciler
from headrace.service import Service
from headrace.signals.declared import load_signals
from headrace.signals.follow import Following
from headrace.state import ClientFile, StateDirectory
from headrace.stores.declared import connect_stores, load_stores

TOKEN_PREFIX = "hr_"  # noqa: S105 - what a token begins with, so that a leaked one is found
TICK_S = 0.1
"""How often the loop looks at its engines."""
REPORTED_AT_ONCE = 200
"""Ranks whose reports are decided on before somebody else has a turn: a few milliseconds."""
ACT_S = 0.003
"""So long the loop asks engines for things before requests have their turn."""
REST_S = 0.006
"""How long their turn is."""
PARTS_ON_THEIR_WAY = 2
"""So many parts of a plan are decided and not yet durable while the next is decided."""
SWITCH_S = 0.0005
"""A thread that wants the interpreter gets it after this long: a commit takes it some four times."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to run: ``port`` 0 takes a free one; ``isolate`` false lets tenants share this process's Unix user.

    ``keep_records`` leaves the runners' records of what ended on disk (see ``LocalSettings``). ``engines``: the file that
    declares clusters to drive; ``signals``: the one that declares the grid operators' servers to follow; ``devices``: the one
    that declares meters, servers' controllers and miners;
    ``stores``: the one that says where sites keep data.
    ``countries``: from where the holder of the first token has access; ``at``: the country that the state directory
    is in. ``tick_s``: how often the loop looks at its engines.
    """

    state: Path
    host: str = "127.0.0.1"
    port: int = 7400
    isolate: bool = True
    meter_every_ms: int = 3_600_000
    keep_records: bool = False
    engines: Path | None = None
    signals: Path | None = None
    devices: Path | None = None
    stores: Path | None = None
    countries: tuple[str, ...] = ()
    at: str = ""
    tick_s: float = TICK_S


class Server:
    """One control plane. ``open`` before ``serve``; ``close`` leaves what runs running.

    ``declared``: its clusters' engines; ``vtns``: the grid operators' servers that it follows; ``devices``: those of its sites.
    ``clock``: by what it goes; the machine's, but where a simulated site has its own. ``pace``: how often devices are asked.
    """

    def __init__(
        self,
        settings: Settings,
        engines: Mapping[str, Engine] | None = None,
        clock: Clock | None = None,
        pace: Pace = USUAL,
    ) -> None:
        self.settings = settings
        self.declared = load_engines(settings.engines) if settings.engines and engines is None else []
        self.vtns = load_signals(settings.signals) if settings.signals else []
        self.devices = load_devices(settings.devices) if settings.devices else []
        self.stores = connect_stores(load_stores(settings.stores) if settings.stores else [])
        self.directory = StateDirectory(settings.state)
        self.lock = self.directory.hold()
        self.control = Control(
            SqliteStore(self.directory.journal),
            Keys.open(self.directory.keys),
            clock or WallClock(),
            policies=policies(),
        )
        start = c.StartControl(secrets.token_hex(8), headrace.__version__, boot_id(), settings.at)
        self.control.execute(SYSTEM, start)
        if engines is None:
            source = Path(headrace.__file__).parent.parent
            local = LocalEngine(
                self.directory.engine,
                sys.executable,
                [source],
                isolate=settings.isolate,
                settings=LocalSettings(keep_records=settings.keep_records),
            )
            hall = connect_miners(self.directory.miners, hall_of(self.devices), self.control.clock)
            engines = {"local": local} | hall | connect(self.declared)
        self.reconciler = Reconciler(self.control, engines, settings.meter_every_ms)
        self.reconciler.declare()
        self.admin_token = self._admin_token()
        self.control.execute(SYSTEM, c.DeclareStores(tuple(self.stores)))
        self.control.commit()
        self.reconciler.fence()
        self.planner = PlannerProcess(self.directory.journal, self.control.clock)
        self._proposed: deque[Plan] = deque()
        self._adopting: asyncio.Task[None] | None = None
        self._more_to_come = False
        self._is_adopting = False
        self._is_told = True
        self.service = Service(self.control, self.reconciler)
        self.service.on_durable.append(self._tell_planner)
        self.following = Following(self.vtns, self.service)
        self.service.signals = self.following.states
        # Without a file too: what an earlier control plane declared is not declared any more.
        self.actuator = Actuator(without_hall(self.devices), self.service, pace, machines_of(engines))
        self.service.devices = self.actuator.states
        self.mover = Mover(self.service, self.stores)
        self.reconciler.stores = self.service.stores = self.stores
        self.meter = TokenMeter(self.control, self.service)
        self.reconciler.may_stop = self.meter.may_stop
        self.socket = _listen(settings.host, settings.port)
        self.url = f"http://{settings.host}:{self.socket.getsockname()[1]}"
        self._remember_client()

    def _admin_token(self) -> str | None:
        """The first admin token of a new journal, shown once; None when there is one."""
        if any(token.role is Role.OPERATOR_ADMIN for token in self.control.world.state.tokens.values()):
            return None
        value = TOKEN_PREFIX + secrets.token_urlsafe(32)
        # Before its hash is durable: a crash in between costs a token that nobody was told, not the only key to the state.
        self.directory.write_client(ClientFile("", value))
        self.control.execute(
            SYSTEM,
            c.IssueToken(
                sha256(value.encode()).hexdigest(),
                Role.OPERATOR_ADMIN,
                None,
                countries=self.settings.countries,
            ),
        )
        return value

    def _remember_client(self) -> None:
        known = self.directory.read_client()
        token = self.admin_token or (known.token if known else "")
        self.directory.write_client(ClientFile(self.url, token))

    def _tell_planner(self, batch: Batch) -> None:
        if batch.group is not None:
            self._tell(batch.group.head.size)

    # -- the loop --------------------------------------------------------------------------------------------------

    def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until SIGTERM or SIGINT, then close; ``ready`` is called once requests are answered."""
        # What the world is made of lives as long as it does: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        # Often and little: nothing waits longer for the collector than for a part of a plan.
        gc.set_threshold(5_000, 5, 200)
        sys.setswitchinterval(SWITCH_S)
        try:
            uvloop.run(self.serve(ready))
        finally:
            self.close()

    async def serve(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until SIGTERM or SIGINT."""
        config = uvicorn.Config(
            create_app(self.service),
            log_level="warning",
            access_log=False,
            loop="uvloop",
            http=BoundedHeads,
            lifespan="off",
            timeout_graceful_shutdown=2,
        )
        web = _Web(config)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        self._tell(self.control.durable)
        serving = asyncio.create_task(web.serve(sockets=[self.socket]))
        working = [asyncio.create_task(one) for one in self._runs()]
        for task in working:
            # One that answers and does nothing is worse than one that is gone: it ends, with the defect's traceback.
            task.add_done_callback(lambda _: stop.set())
        ready()
        await stop.wait()
        loop.remove_reader(self.planner.link)
        web.should_exit = True
        await serving
        for task in filter(None, (*working, self._adopting)):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.service.close()

    def _runs(self) -> tuple[Coroutine[None, None, None], ...]:
        """All that goes on for ever beside requests."""
        return (
            self._tick_forever(),
            self.meter.run(),
            self.following.run(),
            self.actuator.run(),
            self.mover.run(),
        )

    def _tell(self, size: int) -> None:
        # The last part too, until it is durable: told of the one before it alone, the planner would propose it again.
        adopting = self._is_adopting or bool(self._proposed) or self._more_to_come
        self._is_told = self.planner.tell(size, self.control.now_ms(), adopting=adopting)

    async def _tick_forever(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(self.planner.link, self._hear_planner)
        while True:
            if not self.planner.alive:
                loop.remove_reader(self.planner.link)
                self.planner.start()
                self._more_to_come = False
                loop.add_reader(self.planner.link, self._hear_planner)
                self._tell(self.control.durable)
            if not self._is_told:
                self._tell(self.control.durable)
            more = False
            with contextlib.suppress(HeadraceError):
                more = await self.tick()
            await asyncio.sleep(REST_S if more else self.settings.tick_s)

    async def tick(self) -> bool:
        """One round: what the engines say becomes durable, then what the world wants is asked of them.

        Whether the engines say more than was heard at once.
        """
        if self.control.broken is not None:
            return False
        more = self.reconciler.observe(at_most=REPORTED_AT_ONCE)
        await self.service.settled()
        while self.reconciler.act(_over(ACT_S)):
            await asyncio.sleep(REST_S)
        return more

    def _hear_planner(self) -> None:
        for message in self.planner.messages():
            try:
                if message.plan is not None:
                    self._proposed.append(message.plan)
                    self._more_to_come = message.more
                for promise, subject, detail in message.alarms:
                    self.control.execute(SYSTEM, c.RaiseAlarm(promise, subject, detail))
                if message.checkpoint is not None:
                    path, size = message.checkpoint
                    asyncio.get_running_loop().run_in_executor(
                        None, self.control.adopt_checkpoint, Path(path), size
                    )
            except HeadraceError:
                continue  # The journal is unavailable: the planner proposes again when it is back.
        if self._adopting is None or self._adopting.done():
            self._adopting = asyncio.ensure_future(self._adopt())

    async def _adopt(self) -> None:
        """Adopt what was proposed part by part, some while those before become durable, so that nobody waits long."""
        on_their_way: deque[asyncio.Task[object]] = deque()
        self._is_adopting = True
        try:
            while self._proposed or on_their_way:
                if self._proposed:
                    await self._adopt_part(self._proposed.popleft(), on_their_way)
                else:
                    await _end_of(on_their_way.popleft())
        finally:
            # The planner proposes nothing as long as something is left to adopt.
            self._proposed.clear()
            self._is_adopting = False
            self._tell(self.control.durable)

    async def _adopt_part(self, part: Plan, on_their_way: deque[asyncio.Task[object]]) -> None:
        """Adopt a part, and wait until few are on their way to be durable."""
        with contextlib.suppress(HeadraceError):
            self.control.execute(SYSTEM, c.AdoptPlan(part))
            if self.control.has_pending:
                on_their_way.append(asyncio.ensure_future(self.service.settled()))
                # Somebody else has a turn in any case.
                await asyncio.sleep(0)
                while len(on_their_way) > PARTS_ON_THEIR_WAY:
                    await _end_of(on_their_way.popleft())
                return
        # Nothing of it was right any more, or nothing can be decided now.
        await asyncio.sleep(REST_S)

    def close(self) -> None:
        """Stop planning and close the store; a checkpoint makes the next start short."""
        self.planner.stop()
        for engine in self.reconciler.engines.values():
            engine.close()
        if self.control.broken is None and not self.control.has_pending:
            with contextlib.suppress(HeadraceError):
                self.control.checkpoint()
        self.control.store.close()


async def _end_of(settling: asyncio.Task[object]) -> None:
    """Wait for a commit; that it was lost its waiters were told, and the planner proposes again."""
    with contextlib.suppress(HeadraceError):
        await settling


def _over(seconds: float) -> Callable[[], bool]:
    """Whether so long has passed since this call."""
    until = time.perf_counter() + seconds
    return lambda: time.perf_counter() >= until


class _Web(uvicorn.Server):
    """uvicorn without its own signal handlers: the loop decides when to stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(host: str, port: int) -> socket.socket:
    try:
        found = socket.create_server((host, port), backlog=1024)
    except OSError as error:
        step = "Choose another with --port (0 takes a free one)."
        raise HeadraceError(
            Problem(ProblemCode.CONFLICT, f"can't listen on {host}:{port}: {error.strerror}.", step)
        ) from None
    found.set_inheritable(False)
    return found
