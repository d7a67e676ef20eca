"""The production API in the simulated world: called in-process, stepped by hand, without an event loop."""

from collections.abc import Callable
from random import Random

from fastapi import FastAPI

from headrace.api.app import create_app
from headrace.api.inline import Exchange, Pause
from headrace.api.proofs import Leaves
from headrace.journal.codec import Head
from headrace.service import InlineService

_apps: list[FastAPI] = []
"""One for the process: to build it takes longer than a short world does; the service behind it changes."""


class SharedCommits(InlineService):
    """Requests wait for a commit that the plant makes, and share it: as with the live service, without its tasks."""

    async def settled(self) -> Head | None:
        """Wait until all that is applied by now is durable. Raises what the exchange goes on with when it was lost."""
        if self.control.has_pending:
            await Pause()
        return self.control.head

    def commit(self) -> None:
        """Make what is decided durable, as the inline service does within a call. Raises JournalUnavailable."""
        steps = super().settled()
        try:
            steps.send(None)
        except StopIteration:
            return
        steps.close()
        raise RuntimeError("a commit waits for an event loop")


class Web:
    """The API of one control plane. What the process remembers is gone with it: a new one begins with nothing."""

    def __init__(self, service: SharedCommits, random: Callable[[int], bytes]) -> None:
        self.service = service
        self._random = random
        self._audited: dict[tuple[int, str, int], None] = {}
        self._leaves = Leaves()

    def open(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Exchange:
        """A request that is not looked at before its first step."""
        return Exchange(self._app(), method, path, headers, body)

    def _app(self) -> FastAPI:
        if not _apps:
            _apps.append(create_app(self.service))
        state = _apps[0].state
        state.service, state.random = self.service, self._random
        state.audited, state.leaves = self._audited, self._leaves
        return _apps[0]


def some_path(chance: Random, tenant: str, workload: str) -> str:
    """Something that a tenant may want to see."""
    return chance.choice(
        (
            f"/v1/workloads/{workload}",
            f"/v1/workloads/{workload}/explain",
            f"/v1/workloads?tenant={tenant}",
            f"/v1/invoices?tenant={tenant}",
            "/v1/workloads",
            "/v1/documents",
            "/v1/sites",
            "/v1/tokens",
            "/v1/status",
            "/v1/whoami",
        )
    )
