"""Many devices at once: bounded, within one deadline, and one that fails spoils nothing for the others."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Self, TypeVar

from headrace.core.ids import NodeId
from headrace.core.power.telemetry import Judgement
from headrace.devices import DeviceError, DeviceFault, LimitReading, MinerState
from headrace.devices.declared import SiteDevices
from headrace.devices.miners import PyasicMiner, library
from headrace.devices.modbus import Gateway, ModbusMeter
from headrace.devices.redfish import RedfishServer
from headrace.devices.web import Web
from headrace.ports import Clock

AT_ONCE = 200
"""Servers that are asked at the same time. More make each wait for the others: one core answers them all."""
MINERS_AT_ONCE = 64
LOG_OUT_S = 2.0
READ_BACK_AFTER_S = 0.2
"""Controllers take a limit a little after they accepted it; a first look that finds the old one is followed by another."""
T = TypeVar("T")

Outcome = Literal["confirmed", "differs", "refused", "unanswered"]


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What became of one limit: ``confirmed`` when the device says that it enforces it, and not because it was sent.

    ``differs``: it says that it enforces something else (``reading``). ``unanswered``: nothing is known, and what it enforced
    before may hold. ``problem`` names what went wrong.
    """

    node: NodeId
    wanted_w: int | None
    outcome: Outcome
    reading: LimitReading | None = None
    problem: DeviceError | None = None


@dataclass(slots=True)
class Devices:
    """All devices of one or several sites, with their connections; an asynchronous context manager, within one event loop."""

    servers: dict[NodeId, RedfishServer]
    meters: dict[str, ModbusMeter]
    miners: dict[str, PyasicMiner]
    web: Web
    gateways: list[Gateway]

    @classmethod
    def of(cls, sites: Iterable[SiteDevices], clock: Clock, web: Web | None = None) -> Self:
        """The devices that a file declares. Nothing is asked yet."""
        made = web or Web()
        declared = list(sites)
        gateways: dict[tuple[str, int], Gateway] = {}
        meters = {}
        for address in (meter for site in declared for meter in site.meters):
            at = address.host, address.port
            gateway = gateways.setdefault(at, Gateway(*at))
            meters[address.name] = ModbusMeter(address, gateway, clock)
        servers = (RedfishServer(one, made, clock) for site in declared for one in site.servers)
        miners = {one.name: PyasicMiner(one, clock) for site in declared for one in site.miners}
        if miners:
            # It takes a second to import: not when an instruction has come.
            library()
        return cls(
            {one.node: one for one in servers},
            meters,
            miners,
            made,
            list(gateways.values()),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End sessions and close all connections."""
        await each({node: one.log_out for node, one in self.servers.items()}, LOG_OUT_S)
        for gateway in self.gateways:
            gateway.close()
        await self.web.close()


async def each(
    ask: Mapping[str, Callable[[], Awaitable[T]]], deadline_s: float, at_once: int = AT_ONCE
) -> dict[str, T | DeviceError]:
    """Ask many, ``at_once`` at a time, until ``deadline_s`` from now. Every name gets its answer, or its error."""
    found: dict[str, T | DeviceError] = {}
    waiting = iter(ask.items())

    async def work() -> None:
        # Workers that take the next one cost less than a task for each that waits for a semaphore.
        for name, call in waiting:
            try:
                found[name] = await call()
            except DeviceError as error:
                found[name] = error

    workers = [asyncio.create_task(work()) for _ in range(min(at_once, len(ask)))]
    try:
        if workers:
            done, pending = await asyncio.wait(workers, timeout=deadline_s)
            for one in pending:
                one.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
            for one in done:
                one.result()
    finally:
        for one in workers:
            one.cancel()
    for name in ask.keys() - found.keys():
        text = f"no answer within the {deadline_s:g} s that all had together;"
        found[name] = DeviceError(name, DeviceFault.TIMEOUT, text, "Count it at nameplate, and ask again.")
    return {name: found[name] for name in ask}


async def discover(devices: Devices, deadline_s: float = 60.0) -> dict[str, DeviceError]:
    """Look once which limit each server has, so that no instruction waits for that; who could not be asked, and why."""
    found = await each({node: one.discover for node, one in devices.servers.items()}, deadline_s)
    return {name: one for name, one in found.items() if isinstance(one, DeviceError)}


async def set_limits(
    devices: Devices, wanted: Mapping[NodeId, int | None], deadline_s: float, at_once: int = AT_ONCE
) -> dict[NodeId, Confirmation]:
    """Set each node's limit in watts (None: none) and read back what it enforces; a confirmation for every one of ``wanted``."""
    asks: dict[str, Callable[[], Awaitable[LimitReading]]]
    asks = {node: _setting(devices, node, watts) for node, watts in wanted.items()}
    found = await _of_servers(devices, asks, deadline_s, at_once)
    return {node: _confirmation(node, watts, found[node]) for node, watts in wanted.items()}


async def set_limit(devices: Devices, node: NodeId, watts: int | None, deadline_s: float) -> Confirmation:
    """Set one node's limit (None: none) and read back what it enforces, within a deadline of its own."""
    found = await _within(node, _setting(devices, node, watts), deadline_s)
    return _confirmation(node, watts, found)


async def read_limit(devices: Devices, node: NodeId, deadline_s: float) -> LimitReading | DeviceError:
    """What one server says that it enforces, within a deadline of its own."""
    server = devices.servers.get(node)
    return await _within(node, _undeclared(node) if server is None else server.limit, deadline_s)


async def read_limits(
    devices: Devices, deadline_s: float, nodes: Collection[NodeId] | None = None
) -> dict[str, LimitReading | DeviceError]:
    """What servers say that they enforce: every one, or those of ``nodes``."""
    wanted = devices.servers if nodes is None else nodes
    return await _of_servers(
        devices,
        {
            node: devices.servers[node].limit if node in devices.servers else _undeclared(node)
            for node in wanted
        },
        deadline_s,
    )


async def read_meters(devices: Devices, deadline_s: float) -> dict[str, Judgement]:
    """Ask every meter once; what each counts for then, also those that did not answer."""
    asks = {name: one.read for name, one in devices.meters.items()}
    found = await each(asks, deadline_s)
    judged = {name: one.judgement for name, one in devices.meters.items()}
    for name, error in found.items():
        if isinstance(error, DeviceError) and not judged[name].is_believed:
            judged[name] = Judgement(
                judged[name].reading, judged[name].doubt, f"{judged[name].detail} {error}"
            )
    return judged


async def read_miners(devices: Devices, deadline_s: float) -> dict[str, MinerState | DeviceError]:
    """What every miner says of itself."""
    return await each({name: one.state for name, one in devices.miners.items()}, deadline_s, MINERS_AT_ONCE)


async def stop_miners(devices: Devices, names: Iterable[str], deadline_s: float) -> dict[str, DeviceError]:
    """Ask miners to stop; who did not take it, and why. That one took it shows only at a meter."""
    asks = {name: devices.miners[name].stop for name in names}
    found = await each(asks, deadline_s, MINERS_AT_ONCE)
    return {name: one for name, one in found.items() if isinstance(one, DeviceError)}


async def resume_miners(devices: Devices, names: Iterable[str], deadline_s: float) -> dict[str, DeviceError]:
    """Ask miners to hash again; who did not take it, and why."""
    asks = {name: devices.miners[name].resume for name in names}
    found = await each(asks, deadline_s, MINERS_AT_ONCE)
    return {name: one for name, one in found.items() if isinstance(one, DeviceError)}


async def _within(
    node: NodeId, ask: Callable[[], Awaitable[LimitReading]], deadline_s: float
) -> LimitReading | DeviceError:
    try:
        async with asyncio.timeout(deadline_s):
            return await ask()
    except TimeoutError:
        step = "Count it at nameplate, and ask again."
        return DeviceError(node, DeviceFault.TIMEOUT, f"no answer within {deadline_s:g} s;", step)
    except DeviceError as error:
        return error


async def _of_servers(
    devices: Devices,
    asks: Mapping[str, Callable[[], Awaitable[T]]],
    deadline_s: float,
    at_once: int = AT_ONCE,
) -> dict[str, T | DeviceError]:
    """As ``each``; who did not answer last time waits in a queue of its own, and nobody behind it."""
    slow = {node for node in asks if node in devices.servers and devices.servers[NodeId(node)].is_troubled}
    queues = await asyncio.gather(
        each({node: ask for node, ask in asks.items() if node not in slow}, deadline_s, at_once),
        each({node: ask for node, ask in asks.items() if node in slow}, deadline_s, at_once),
    )
    found = queues[0] | queues[1]
    return {node: found[node] for node in asks}


def _setting(devices: Devices, node: NodeId, watts: int | None) -> Callable[[], Awaitable[LimitReading]]:
    server = devices.servers.get(node)
    if server is None:
        return _undeclared(node)

    async def ask() -> LimitReading:
        await server.set_limit(watts)
        reading = await server.limit()
        if reading.limit_w != watts:
            await asyncio.sleep(READ_BACK_AFTER_S)
            reading = await server.limit()
        return reading

    return ask


def _undeclared(node: NodeId) -> Callable[[], Awaitable[LimitReading]]:
    async def ask() -> LimitReading:
        step = "Add it to the devices file; without, its watts can't be limited."
        raise DeviceError(node, DeviceFault.MISSING, "no management controller is declared for it;", step)

    return ask


def _confirmation(node: NodeId, wanted_w: int | None, found: LimitReading | DeviceError) -> Confirmation:
    if isinstance(found, DeviceError):
        silent = found.fault in (DeviceFault.TIMEOUT, DeviceFault.UNREACHABLE)
        return Confirmation(node, wanted_w, "unanswered" if silent else "refused", None, found)
    holds = found.limit_w == wanted_w and (found.enforced or wanted_w is None)
    if holds:
        return Confirmation(node, wanted_w, "confirmed", found)
    said = (
        "none"
        if found.limit_w is None
        else f"{found.limit_w} W" + ("" if found.enforced else ", not enforced")
    )
    text, step = f"took {wanted_w} W and says {said};", "Count it at nameplate, and look at its controller."
    return Confirmation(node, wanted_w, "differs", found, DeviceError(node, DeviceFault.REFUSED, text, step))
