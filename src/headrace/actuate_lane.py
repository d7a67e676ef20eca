"""Who is attended to next, and by how many at once."""

import asyncio
from collections.abc import Awaitable, Callable

from headrace.core.ids import NodeId


class Lane:
    """A queue of nodes that so many workers attend to at once; a node stands in it once."""

    def __init__(self, attend: Callable[[NodeId], Awaitable[None]], at_once: int) -> None:
        self._attend, self._at_once = attend, at_once
        self._waiting: dict[NodeId, None] = {}
        self._workers: set[asyncio.Task[None]] = set()

    def add(self, node: NodeId) -> None:
        """Let it wait, if it does not already."""
        self._waiting[node] = None
        if len(self._workers) < min(self._at_once, len(self._waiting)):
            worker = asyncio.create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    async def _work(self) -> None:
        while self._waiting:
            node = next(iter(self._waiting))
            del self._waiting[node]
            await self._attend(node)

    async def close(self) -> None:
        """Attend to nobody any more."""
        self._waiting.clear()
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
