"""What a simulated site draws, as columns over its nodes, miners and power elements.

Time is an argument, in milliseconds of the plant's own clock; chance comes from a seed. Power flows up the estate's tree, and
at a connection the PUE is on top. What the model has:

- a load ramps to its demand; a cap acts after a delay, and then with a lag (first order); below its floor a cap sheds nothing;
- a node that is told to shut down goes on drawing until it is off, and takes a minute to be back;
- a miner ramps down over seconds and up over a minute, and starts anew after a new power limit;
- caps, resets and miners may fail, each in its way (:class:`Failure`);
- what a meter shows is what was drawn a while ago (``lag_ms``), with its counters (:mod:`headrace.plant.meters`).
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.core.fleet import Fleet

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I8 = npt.NDArray[np.int8]
Mask = npt.NDArray[np.bool_]

LONGEST_STEP_MS = 500
"""A longer time is gone through in several steps: ramps and lags are then as exact at 20 times the speed."""
NEVER = np.float64(1e18)
HISTORY, LEAST_HISTORY, MOST_REMEMBERED = 4_096, 512, 8_000_000
"""Steps that are remembered, for meters that lag and for whoever looks back; fewer where there are very many elements."""
MINER_IDLE_W = 25
"""What a stopped miner's control board draws."""


class Failure(IntEnum):
    """How a device fails when told. ``GONE``: closes each connection. ``IGNORES``: confirms, shows it, and does nothing."""

    NONE = 0
    SILENT = 1
    REFUSES = 2
    IGNORES = 3
    SLOW = 4
    GONE = 5


class Power(IntEnum):
    """Whether a node is on; the names of Redfish's PowerState."""

    OFF = 0
    ON = 1
    TURNING_ON = 2
    TURNING_OFF = 3


@dataclass(frozen=True, slots=True)
class Speeds:
    """How fast things happen, in milliseconds; ``noise_permille``: the standard deviation of a load from step to step."""

    load_ramp_ms: int = 2_000
    cap_delay_ms: int = 300
    cap_lag_ms: int = 400
    slow_ms: int = 8_000
    shutdown_ms: int = 10_000
    force_off_ms: int = 500
    boot_ms: int = 60_000
    miner_down_ms: int = 8_000
    miner_up_ms: int = 60_000
    noise_permille: int = 3


@dataclass(frozen=True, slots=True)
class MinerPlace:
    """A miner: its name, the index of the power element that it hangs at, and the most that it draws.

    ``node``: the number of the node of the fleet that it is, -1 for one that is none. ``mj_per_th``: what a terahash takes.
    """

    name: str
    element: int
    nameplate_w: int
    node: int = -1
    mj_per_th: int = 26_000


class Physics:
    """The columns; see the module. Nodes of a site are numbered as in its fleet."""

    def __init__(
        self,
        fleet: Fleet,
        miners: list[MinerPlace],
        speeds: Speeds,
        seed: int,
        now_ms: int,
    ) -> None:
        self.fleet, self.speeds, self.now_ms = fleet, speeds, now_ms
        self._chance = np.random.default_rng(seed)
        count = len(fleet.node_ids)
        types = [fleet.hardware[number] for number in fleet.node_hardware.tolist()]
        self.nameplate_w = np.array([one.nameplate_w for one in types], dtype=np.float64)
        self.idle_w = np.array([one.idle_w for one in types], dtype=np.float64)
        # With every accelerator at its lowest cap, and all else as it is.
        self.floor_w = np.array(
            [
                one.nameplate_w
                - one.accelerators * (one.accelerator_w - (one.cap_min_w or one.accelerator_w))
                for one in types
            ],
            dtype=np.float64,
        )
        self.standby_w = np.maximum(10.0, self.nameplate_w / 100)
        self.demand_w = self.idle_w.copy()
        self.load_w = self.idle_w.copy()
        self.cap_w = np.full(count, np.inf)
        self.next_cap_w = np.full(count, np.inf)
        self.cap_acts_ms = np.full(count, NEVER)
        self.acting_w = self.nameplate_w.copy()
        self.power = np.full(count, int(Power.ON), dtype=np.int8)
        self.changes_ms = np.full(count, NEVER)
        self.failure = np.zeros(count, dtype=np.int8)
        self.drawn_w = self.idle_w.copy()
        self.celsius = np.full(count, 30.0)

        self._install(miners)
        self._lay_out()
        self.outdoor_celsius = 10.0
        self.element_w = np.zeros(len(fleet.power_ids))
        self.energy_mj = np.zeros(len(fleet.power_ids))
        self.tripped = np.zeros(len(fleet.power_ids), dtype=np.bool_)
        self.worst_w = np.zeros(len(fleet.power_ids))
        self.worst_ms = np.zeros(len(fleet.power_ids), dtype=np.int64)
        elements = len(fleet.power_ids)
        self.history = max(LEAST_HISTORY, min(HISTORY, MOST_REMEMBERED // elements))
        self.times_ms = np.zeros(self.history, dtype=np.int64)
        self.past_w = np.zeros((self.history, elements), dtype=np.float32)
        self.past_mj = np.zeros((self.history, elements))
        self.steps = 0
        self._sum_up()
        self._remember()

    def _install(self, miners: list[MinerPlace]) -> None:
        """The miners' columns."""
        self.miners = miners
        # Nodes that are miners draw as such, and have no controller.
        self.is_server = np.ones(len(self.nameplate_w), dtype=np.bool_)
        self.is_server[[one.node for one in miners if one.node >= 0]] = False
        self.drawn_w[~self.is_server] = 0.0
        self.miner_element = np.array([one.element for one in miners], dtype=np.int64)
        self.miner_nameplate_w = np.array([one.nameplate_w for one in miners], dtype=np.float64)
        self.miner_limit_w = self.miner_nameplate_w.copy()
        self.miner_on = np.ones(len(miners), dtype=np.bool_)
        self.miner_said_on = np.ones(len(miners), dtype=np.bool_)
        self.miner_acts_ms = np.full(len(miners), NEVER)
        self.miner_failure = np.zeros(len(miners), dtype=np.int8)
        self.miner_w = self.miner_nameplate_w.copy()

    def _lay_out(self) -> None:
        """Elements by depth, so that sums go up level by level."""
        parent = self.fleet.power_parent.astype(np.int64)
        depth = np.zeros(len(parent), dtype=np.int64)
        for number, above in enumerate(parent.tolist()):
            depth[number] = 0 if above < 0 else depth[above] + 1
        deepest = int(depth.max()) if len(depth) else 0
        self.levels = [np.flatnonzero(depth == level) for level in range(deepest, 0, -1)]
        self.parent = parent
        self.roots = np.flatnonzero(parent < 0)
        site = self.fleet.power_site[self.roots].tolist()
        self.pue = np.array([self.fleet.sites[number].pue_permille / 1_000 for number in site])
        # The most below each element: what a meter there counts as when it isn't believed.
        most = _sums(self.fleet.node_leaf, self.nameplate_w * self.is_server, len(parent))
        if len(self.miners):
            most += _sums(self.miner_element, self.miner_nameplate_w, len(parent))
        for level in self.levels:
            most += _sums(parent[level], most[level], len(parent))
        most[self.roots] *= self.pue * _heat(45.0)
        self.most_w = most

    # -- orders ---------------------------------------------------------------------------------------------

    def set_cap(self, node: int, watts: float | None) -> None:
        """A controller took a limit (None: none). It acts after a while, unless the node only says so."""
        self.next_cap_w[node] = np.inf if watts is None else max(watts, self.floor_w[node])
        delay_ms = self.speeds.slow_ms if self.failure[node] == Failure.SLOW else self.speeds.cap_delay_ms
        self.cap_acts_ms[node] = NEVER if self.failure[node] == Failure.IGNORES else self.now_ms + delay_ms

    def reset(self, node: int, kind: str) -> None:
        """A controller took a reset: ``On``, ``ForceOff`` or ``GracefulShutdown``."""
        if self.failure[node] == Failure.IGNORES:
            return
        speeds = self.speeds
        if kind == "On":
            if self.power[node] in (Power.OFF, Power.TURNING_OFF):
                self.power[node], self.changes_ms[node] = Power.TURNING_ON, self.now_ms + speeds.boot_ms
        elif self.power[node] != Power.OFF:
            after_ms = speeds.force_off_ms if kind == "ForceOff" else speeds.shutdown_ms
            if self.power[node] != Power.TURNING_OFF or kind == "ForceOff":
                self.power[node], self.changes_ms[node] = Power.TURNING_OFF, self.now_ms + after_ms

    def set_mining(self, miner: int, on: bool) -> None:
        """A miner took the order to stop or to go on; one that ignores it says all the same that it did."""
        self.miner_said_on[miner] = on
        if self.miner_failure[miner] != Failure.IGNORES:
            if self.miner_on[miner] != on and self.miner_failure[miner] == Failure.SLOW:
                self.miner_acts_ms[miner] = self.now_ms + self.speeds.slow_ms
            self.miner_on[miner] = on

    def set_miner_limit(self, miner: int, watts: float) -> None:
        """A miner took a power limit, for which it starts anew: it falls to next to nothing and ramps up."""
        self.miner_limit_w[miner] = min(watts, self.miner_nameplate_w[miner])
        if self.miner_failure[miner] != Failure.IGNORES and self.miner_on[miner]:
            self.miner_w[miner] = MINER_IDLE_W

    def settle(self) -> None:
        """What is wanted now has been drawn for long: the past begins here."""
        self.load_w[:] = self.demand_w
        self.drawn_w[:] = np.minimum(self.demand_w, self.nameplate_w) * self.is_server
        self._sum_up()
        self.steps = 0
        self._remember()
        self.mark()

    def mark(self) -> None:
        """Forget the worst so far."""
        self.worst_w[:] = self.element_w
        self.worst_ms[:] = self.now_ms

    # -- time -----------------------------------------------------------------------------------------------

    def advance(self, now_ms: int) -> None:
        """Go on to ``now_ms``."""
        while self.now_ms < now_ms:
            step_ms = min(LONGEST_STEP_MS, now_ms - self.now_ms)
            self.now_ms += step_ms
            self._nodes(step_ms)
            self._miners(step_ms)
            self._sum_up()
            self.energy_mj += self.element_w * step_ms
            higher = self.element_w > self.worst_w
            self.worst_w[higher], self.worst_ms[higher] = self.element_w[higher], self.now_ms
            self._remember()

    def _nodes(self, step_ms: int) -> None:
        now = self.now_ms
        done = self.changes_ms <= now
        if done.any():
            turned_off = done & (self.power == Power.TURNING_OFF)
            self.power[done & (self.power == Power.TURNING_ON)] = Power.ON
            self.power[turned_off] = Power.OFF
            self.load_w[turned_off] = 0.0
            self.changes_ms[done] = NEVER
        acts = self.cap_acts_ms <= now
        if acts.any():
            self.cap_w[acts], self.cap_acts_ms[acts] = self.next_cap_w[acts], NEVER
        # Nothing runs while a node starts, and what ran is ended first when it shuts down.
        wanted = np.where(self.power == Power.ON, self.demand_w, self.idle_w)
        most = self.nameplate_w * (step_ms / self.speeds.load_ramp_ms)
        self.load_w += np.clip(wanted - self.load_w, -most, most)
        noise = 1.0 + self._chance.standard_normal(len(wanted)) * (self.speeds.noise_permille / 1_000)
        load = np.minimum(self.load_w * noise, self.nameplate_w)
        target = np.minimum(self.cap_w, self.nameplate_w)
        # Falling, it begins at what is drawn; the last percent is not waited for.
        start = np.where(
            target < self.acting_w, np.minimum(self.acting_w, np.maximum(load, target)), self.acting_w
        )
        moved = start + (target - start) * (1.0 - np.exp(-step_ms / self.speeds.cap_lag_ms))
        self.acting_w = np.where(np.abs(moved - target) < self.nameplate_w / 100, target, moved)
        self.drawn_w = np.minimum(load, np.maximum(self.acting_w, self.floor_w))
        self.drawn_w[self.power == Power.OFF] = self.standby_w[self.power == Power.OFF]
        dark = self.dark[self.fleet.node_leaf]
        self.drawn_w[dark | ~self.is_server] = 0.0
        aim = 25.0 + 45.0 * self.drawn_w / self.nameplate_w
        self.celsius += (aim - self.celsius) * min(1.0, step_ms / 60_000)

    def _miners(self, step_ms: int) -> None:
        if not len(self.miners):
            return
        acted = self.miner_acts_ms <= self.now_ms
        self.miner_acts_ms[acted] = NEVER
        hashes = self.miner_on ^ (self.miner_acts_ms < NEVER)
        honest = self.miner_failure != Failure.IGNORES
        limit = np.where(honest, self.miner_limit_w, self.miner_nameplate_w)
        target = np.where(hashes, limit, MINER_IDLE_W)
        down = self.miner_nameplate_w * (step_ms / self.speeds.miner_down_ms)
        up = self.miner_nameplate_w * (step_ms / self.speeds.miner_up_ms)
        self.miner_w += np.clip(target - self.miner_w, -down, up)
        dark = self.dark[self.miner_element]
        self.miner_w[dark] = 0.0
        # When power comes back they begin by themselves.
        self.miner_on[dark] = self.miner_said_on[dark] = True

    @property
    def dark(self) -> Mask:
        """Elements that are tripped, or hang below one."""
        found = self.tripped.copy()
        if found.any():
            for level in reversed(self.levels):
                found[level] |= found[self.parent[level]]
        return found

    def _sum_up(self) -> None:
        count = len(self.parent)
        total = _sums(self.fleet.node_leaf, self.drawn_w, count)
        if len(self.miners):
            total += _sums(self.miner_element, self.miner_w, count)
        for level in self.levels:
            total += _sums(self.parent[level], total[level], count)
        total[self.roots] *= self.pue * _heat(self.outdoor_celsius)
        self.element_w = total

    def _remember(self) -> None:
        row = self.steps % self.history
        self.times_ms[row], self.past_w[row], self.past_mj[row] = self.now_ms, self.element_w, self.energy_mj
        self.steps += 1

    # -- looking --------------------------------------------------------------------------------------------

    def row_at(self, at_ms: int) -> int:
        """Where the last step at or before ``at_ms`` is remembered; the oldest that is left for an earlier time."""
        kept = min(self.steps, self.history)
        first = self.steps - kept
        low, high = 0, kept - 1
        while low < high:
            middle = (low + high + 1) // 2
            if self.times_ms[(first + middle) % self.history] <= at_ms:
                low = middle
            else:
                high = middle - 1
        return (first + low) % self.history

    def trace(self, element: int, since_ms: int) -> list[tuple[int, int]]:
        """The element's true watts, step by step, from ``since_ms`` on: as many steps as are remembered."""
        kept = min(self.steps, self.history)
        order = (np.arange(self.steps - kept, self.steps)) % self.history
        times, watts = self.times_ms[order], self.past_w[order, element]
        chosen = times >= since_ms
        pairs = zip(times[chosen].tolist(), watts[chosen].tolist(), strict=True)
        return [(int(at_ms), round(watt)) for at_ms, watt in pairs]


def _heat(celsius: float) -> float:
    """How much more cooling takes when it is warm outside: 0.4 % of all for each degree above 15 (modelled)."""
    return 1.0 + 0.004 * max(0.0, celsius - 15.0)


def _sums(places: npt.NDArray[np.integer[Any]], watts: F64, count: int) -> F64:
    """Watts by place."""
    return np.bincount(places, weights=watts, minlength=count).astype(np.float64, copy=False)
