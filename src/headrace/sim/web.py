"""The production API in the simulated world: called in-process, without an event loop."""

from collections.abc import Callable
from random import Random

from fastapi import FastAPI

from headrace.api.app import create_app
from headrace.api.inline import call
from headrace.control import Batch, Control
from headrace.service import InlineService

_apps: list[FastAPI] = []
"""One for the process: to build it takes longer than a short world does; the service behind it changes."""


def get(control: Control, token: str, path: str, told: Callable[[Batch], None]) -> tuple[int, bytes]:
    """Read as the holder of a token: status and body. ``told`` hears of what the reading committed."""
    service = InlineService(control)
    service.on_durable.append(told)
    if not _apps:
        _apps.append(create_app(service))
    _apps[0].state.service = service
    status, _, body = call(_apps[0], "GET", path, {"authorization": f"Bearer {token}"})
    return status, body


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
