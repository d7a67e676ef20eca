"""A small control plane that the grid has instructed: with a miner that ended for it, and a job that paused and went on."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from headrace.control import SYSTEM
from headrace.core import commands as c
from headrace.core.observation import Capabilities
from headrace.core.units import MS_PER_HOUR, MS_PER_MINUTE, MS_PER_SECOND
from headrace.evidence.document import seal
from headrace.evidence.verify import canonical
from tests.api.small import JOB, Answer, Small, small

LONG = ["sleep 900000"]
ABLE = Capabilities("none", pause=True, ports=True, pause_sheds=True)
WHOLE = dict(JOB, commands=LONG, resources={"gpu": "lab:4"}, policy={"countries": ["NO"]})


def running(folder: Path) -> Small:
    """A control plane with a miner and a pausable job at Glomfjord, an hour old: at its meter 3,080 W."""
    world = small(folder)
    world.control.execute(SYSTEM, c.DeclareEngines({"local": ABLE}))
    world.submit(dict(WHOLE, name="mine", type="filler"), dict(WHOLE, name="train", flex="pausable"))
    world.run(5)
    later(world, MS_PER_HOUR)
    return world


def later(world: Small, passed_ms: int, steps: int = 3) -> None:
    """Let time pass, and the loop look at the grid."""
    world.clock.at_ms += passed_ms
    for _ in range(steps):
        world.control.execute(SYSTEM, c.FollowGrid())
        world.control.commit()
        world.run(1)


def instruct(world: Small, limit: str = "2kW", name: str = "evening", **more: Any) -> Answer:
    """Limit Glomfjord."""
    body = {"site": "glomfjord", "limit": limit, "id": name, **more}
    answer = world.ask("POST", "/v1/grid/instructions", body)
    assert answer.status == 200, answer.body
    return answer


def evidence(world: Small, name: str = "evening", query: str = "") -> Answer:
    """Ask for the evidence of an instruction."""
    return world.ask("GET", f"/v1/grid/instructions/{name}/evidence{query}")


def settled(folder: Path) -> tuple[Small, bytes]:
    """An instruction of 20 minutes that is over, and its evidence."""
    world = running(folder)
    instruct(world)
    later(world, MS_PER_SECOND, 15)
    later(world, 20 * MS_PER_MINUTE)
    assert world.ask("POST", "/v1/grid/instructions/evening/withdraw").status == 200
    later(world, MS_PER_SECOND, 5)
    later(world, 30 * MS_PER_MINUTE)
    answer = evidence(world, query="?interval=5m")
    assert answer.status == 200, answer.body
    return world, answer.body


def resealed(world: Small, document: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> bytes:
    """A document that the operator itself changed, with digests and a signature that are right."""
    change(document)
    parts = {name: one for name, one in document.items() if name != "parts"}
    digests = {name: sha256(canonical(one)).hexdigest() for name, one in parts.items()}
    keys = world.control.keys
    return seal(parts | {"parts": digests}, keys.public, keys.sign)
