"""Tokens by the replicas' own counters: read from time to time, and once more before a replica is stopped."""

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from headrace.control import SYSTEM, Control
from headrace.core import commands as c
from headrace.core.errors import HeadraceError
from headrace.core.ids import PlacementId
from headrace.core.workload import Placement
from headrace.payloads.counters import CountersUnreadableError, TokenCounters, read_counters
from headrace.reconcile import replica_key
from headrace.service import Service

EVERY_S = 5.0
TIMEOUT_S = 2.0
AT_ONCE = 16
"""Replicas read at the same time: one that is slow must not keep the others waiting."""
LAST_LOOK_MS = 3_000
"""A replica that is to stop and doesn't answer for so long is stopped without a last reading."""


class TokenMeter:
    """Reads ``llamacpp`` counters of replicas that declare them; each reading is one batch, so that none counts twice."""

    def __init__(self, control: Control, service: Service) -> None:
        self.control = control
        self.service = service
        self._last_look: dict[PlacementId, bool] = {}
        self._refused: dict[PlacementId, tuple[int, int]] = {}
        # Threads of its own: replicas that keep them waiting hold up nothing else that needs a thread.
        self._threads = ThreadPoolExecutor(AT_ONCE, "counters")

    def may_stop(self, placement: Placement) -> bool:
        """Whether a replica's last counters are in: until then it isn't stopped (for three seconds at most)."""
        if not self._is_metered(placement):
            return True
        if self._last_look.setdefault(placement.id, False):
            return True
        return self.control.now_ms() - placement.stop_since_ms > LAST_LOOK_MS

    def _is_metered(self, placement: Placement) -> bool:
        work = self.control.world.state.workloads[placement.workload]
        return (
            work.spec.counters == "llamacpp" and bool(placement.started_ms) and "http" in placement.endpoints
        )

    async def run(self) -> None:
        """Read counters until cancelled."""
        due = 0.0
        loop = asyncio.get_running_loop()
        while True:
            everything = loop.time() >= due
            if everything:
                due = loop.time() + EVERY_S
            await asyncio.gather(*map(self._try, self._metered(everything=everything)))
            await asyncio.sleep(0.1)

    def _metered(self, *, everything: bool) -> list[Placement]:
        placements = self.control.world.state.placements
        self._last_look = {ident: done for ident, done in self._last_look.items() if ident in placements}
        self._refused = {ident: reading for ident, reading in self._refused.items() if ident in placements}
        if everything:
            return [one for one in placements.values() if self._is_metered(one)]
        return [placements[ident] for ident, done in self._last_look.items() if not done]

    async def _try(self, placement: Placement) -> None:
        with contextlib.suppress(HeadraceError):
            await self.read(placement)

    async def read(self, placement: Placement) -> None:
        """Take one reading of a replica; a replica that does not answer is read again later."""
        stopping = placement.stop_reason is not None
        work = self.control.world.state.workloads[placement.workload]
        key = replica_key(self.control.reveal(work.spec.secrets["HEADRACE_API_KEY"]), placement.id)
        url = f"http://{placement.endpoints['http']}"
        try:
            found: TokenCounters = await asyncio.get_running_loop().run_in_executor(
                self._threads, partial(read_counters, url, key, timeout_s=TIMEOUT_S)
            )
        except CountersUnreadableError:
            return
        reading = (found.prompt, found.generated)
        if self._refused.get(placement.id) != reading:
            # Counters that went back raise one alarm, not one for each look at them.
            command = c.RecordTokens(placement.id, placement.token_batches, *reading)
            reply, _ = await self.service.run(SYSTEM, command)
            if isinstance(reply, c.Named) and not reply.changed:
                self._refused[placement.id] = reading
        if stopping:
            self._last_look[placement.id] = True
