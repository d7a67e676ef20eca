"""ASIC miners through pyasic, which knows some thirty makes. MicroBT's Whatsminer is done in full, against its protocol.

pyasic answers where it should fail: a miner that doesn't answer is "not mining" to it, and a power limit that went nowhere is
"set". So for a Whatsminer the commands are sent through pyasic's own protocol layer and each answer is looked at here;
for other makes nothing is taken for a state that has no watts with it.

The protocol (API 2.0.5): JSON on TCP port 4028, one connection a command. Reading is free; writing is encrypted under the
administrator's password with a token of 30 minutes, and must be enabled with MicroBT's tool after changing that password.
"""

import asyncio
import warnings
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Literal, TypeVar

from headrace.core.ids import NodeId, PowerNodeId
from headrace.devices import DeviceError, DeviceFault, MinerState
from headrace.devices.credentials import Login
from headrace.ports import Clock

T = TypeVar("T")

DEADLINE_S = 6.0
"""pyasic makes a connection for each command, and takes a token first."""
IDENTIFY_S = 15.0
"""To find out a make it knocks at several ports, one after another."""
LARGEST = 1 << 20
DONE = 131
"""The code with which a Whatsminer says that a command was carried out."""
_STEP = "Count it at nameplate; look at its control board and its network."
Make = Literal["whatsminer", "auto"]


@dataclass(frozen=True, slots=True)
class MinerAddress:
    """Where a miner is. ``host`` must be an address; ``port`` 0: its make's own. ``nameplate_w``: the most that it draws.

    ``node``: the node of the estate that it is, which the engine of miners then drives; None: it is watched alone.
    """

    name: str
    hall: str
    element: PowerNodeId
    host: str
    nameplate_w: int
    make: Make = "whatsminer"
    port: int = 0
    login: Login | None = None
    node: NodeId | None = None


def library() -> Any:
    """pyasic. It takes a second to import, and is imported where miners are, and nowhere else."""
    with warnings.catch_warnings():
        # It imports what is deprecated for later Pythons and pydantics; nothing there is ours to mend.
        warnings.simplefilter("ignore")
        pyasic = import_module("pyasic")
        import_module("pyasic.miners.backends.btminer")
    warnings.filterwarnings("ignore", message="passing settings to md5_crypt", category=DeprecationWarning)
    return pyasic


@cache
def whatsminer_class() -> Any:
    """pyasic's Whatsminer of API 2, with connections that end with the question.

    Its own go on reading for 100 s after nobody waits any more, and what could not be reached answers ``{}`` there.
    """
    own = import_module("pyasic.miners.backends.btminer")
    machine: Any = own.BTMinerV2
    protocol: Any = own.BTMinerRPCAPI

    class Protocol(protocol):  # type: ignore[misc]
        """One connection a command, closed whatever comes."""

        async def _send_bytes(self, data: bytes, *, port: int | None = None, timeout: int = 0) -> bytes:
            reader, writer = await asyncio.open_connection(str(self.ip), port or self.port)
            try:
                writer.write(data)
                await writer.drain()
                found = b""
                while len(found) < LARGEST and (more := await reader.read(LARGEST)):
                    found += more
            finally:
                writer.close()
            if not found:
                raise ConnectionResetError("it closed the connection without an answer")
            return found

    class Whatsminer(machine):  # type: ignore[misc]
        """As above."""

        _rpc_cls = Protocol

    return Whatsminer


async def _within(work: Coroutine[Any, Any, T], deadline_s: float) -> T:
    """The result of pyasic's work, or TimeoutError; in a task of its own, for it takes being cancelled for an answer."""
    task = asyncio.create_task(work)
    # What it makes of being cancelled is looked at, so that nobody reports it as never looked at.
    task.add_done_callback(lambda done: None if done.cancelled() else done.exception())
    try:
        await asyncio.wait({task}, timeout=deadline_s)
        if not task.done():
            raise TimeoutError
        return task.result()
    finally:
        task.cancel()


class PyasicMiner:
    """A :class:`~headrace.devices.Miner`."""

    def __init__(self, address: MinerAddress, clock: Clock, deadline_s: float = DEADLINE_S) -> None:
        self.address, self._clock, self.deadline_s = address, clock, deadline_s
        self._miner: Any = None
        # One command at a time: a miner serves few connections, and pyasic keeps one token for all.
        self._turn = asyncio.Lock()

    @property
    def name(self) -> str:
        """See :class:`~headrace.devices.Miner`."""
        return self.address.name

    async def stop(self) -> None:
        """See :class:`~headrace.devices.Miner`."""
        await self._do(
            "to stop", lambda one: one.rpc.power_off(respbefore=True), lambda one: one.stop_mining()
        )

    async def resume(self) -> None:
        """See :class:`~headrace.devices.Miner`."""
        await self._do("to resume", lambda one: one.rpc.power_on(), lambda one: one.resume_mining())

    async def set_limit(self, watts: int) -> None:
        """See :class:`~headrace.devices.Miner`. A Whatsminer starts anew after it, and draws next to nothing for a while."""
        await self._do(
            f"a limit of {watts} W",
            lambda one: one.rpc.adjust_power_limit(watts),
            lambda one: one.set_power_limit(watts),
        )

    async def state(self) -> MinerState:
        """See :class:`~headrace.devices.Miner`."""
        return await self._within(self._whatsminer if self.address.make == "whatsminer" else self._any)

    async def _do(
        self, what: str, own: Callable[[Any], Awaitable[Any]], other: Callable[[Any], Awaitable[Any]]
    ) -> None:
        async def run(miner: Any) -> None:
            if self.address.make != "whatsminer":
                if not await other(miner):
                    raise self._error(
                        DeviceFault.REFUSED, f"refuses {what};", "Look at the miner's own page."
                    )
                return
            answer = await own(miner)
            if answer["Code"] != DONE:
                raise self._refused(what, str(answer.get("Msg", "")))

        await self._within(run, what)

    async def _within(self, run: Callable[[Any], Coroutine[Any, Any, T]], what: str = "to answer") -> T:
        """Run a command of its own within the deadline, with all that pyasic raises as a DeviceError."""
        try:
            async with self._turn:
                miner = await self._connected()
                return await _within(run(miner), self.deadline_s)
        except TimeoutError:
            self._forget()
            text = f"no answer from the miner at {self.address.host} within {self.deadline_s:g} s;"
            raise self._error(DeviceFault.TIMEOUT, text, _STEP) from None
        except OSError as error:
            self._forget()
            reason = (error.strerror or str(error)).split(" [")[0].lower()
            text = f"no connection to the miner at {self.address.host}: {reason};"
            raise self._error(DeviceFault.UNREACHABLE, text, _STEP) from None
        except DeviceError:
            self._forget()
            raise
        except Exception as error:
            self._forget()
            # An answer of another shape surfaces in pyasic as whatever its parsing stumbles over.
            is_odd = isinstance(error, LookupError | TypeError | ValueError | AttributeError)
            if type(error).__name__ == "APIError":
                if not str(error).startswith("Decode Error"):
                    raise self._refused(what, str(error)) from error
                is_odd = True
            if is_odd:
                step = "Check address and make: it may be another machine."
                raise self._error(
                    DeviceFault.UNEXPECTED, f"answers {what} in another shape;", step
                ) from error
            raise

    async def _connected(self) -> Any:
        if self._miner is None:
            pyasic = library()
            if self.address.make == "whatsminer":
                self._miner = whatsminer_class()(self.address.host)
                self._miner.rpc.port = self.address.port or self._miner.rpc.port
            else:
                self._miner = await _within(pyasic.get_miner(self.address.host), IDENTIFY_S)
            if self._miner is None:
                step = "Check its address, and whether pyasic knows the make."
                raise self._error(DeviceFault.UNREACHABLE, f"no known miner at {self.address.host};", step)
        if self.address.login is not None:
            password = self.address.login.secret.read(self.name)
            for layer in ("rpc", "web"):
                if getattr(self._miner, layer, None) is not None:
                    getattr(self._miner, layer).pwd = password
        return self._miner

    def _forget(self) -> None:
        """Take a new token next time: the miner may have been started anew."""
        if self._miner is not None and hasattr(self._miner.rpc, "token"):
            self._miner.rpc.token = None

    async def _whatsminer(self, miner: Any) -> MinerState:
        status, summary = await miner.rpc.status(), await miner.rpc.summary()
        found, told = status["Msg"], summary["SUMMARY"][0]
        off = str(found.get("mineroff", found.get("btmineroff"))).lower()
        power_w, limit_w = int(told["Power"]), told.get("Power Limit")
        return MinerState(
            is_mining={"true": False, "false": True}.get(off),
            # It says -1 while it doesn't know.
            power_w=None if power_w < 0 else power_w,
            limit_w=None if limit_w is None else int(limit_w),
            at_ms=self._clock.now_ms(),
        )

    async def _any(self, miner: Any) -> MinerState:
        power_w, is_mining = await miner.get_wattage(), await miner.is_mining()
        # No answer reads as "not mining" in pyasic: it counts only from a miner that says its watts too.
        known = None if power_w is None and not is_mining else is_mining
        return MinerState(known, power_w, await miner.get_wattage_limit(), self._clock.now_ms())

    def _error(self, fault: DeviceFault, message: str, step: str) -> DeviceError:
        return DeviceError(self.name, fault, message, step)

    def _refused(self, what: str, said: str) -> DeviceError:
        words = "".join(letter for letter in said[:120] if letter.isprintable())
        if "token" in said.lower():
            path = "none is declared" if self.address.login is None else self.address.login.secret.path
            text, step = (
                f"does not accept the password ({path}): {words};",
                "Correct the file; after many tries it waits 30 min.",
            )
            return self._error(DeviceFault.CREDENTIALS, text, step)
        if "write cmd" in said or "permission" in said.lower():
            step = "Enable its write API with MicroBT's tool, after changing the administrator's password."
            return self._error(DeviceFault.CREDENTIALS, f"takes no orders: {words};", step)
        return self._error(
            DeviceFault.REFUSED, f"refuses {what}: {words};", "Count it at nameplate until it takes it."
        )
