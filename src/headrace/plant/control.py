"""The plant's control channel: HTTP on loopback, with a token. It sets loads, makes things fail, and tells the truth.

It belongs to whoever plays the world (tests, judges, a newcomer at the keyboard), and never to a control plane.
"""

import secrets
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from headrace.core.errors import HeadraceError, Problem, ProblemCode, did_you_mean, unknown
from headrace.plant.meters import MeterFault, PlantMeter
from headrace.plant.physics import Failure, Physics, Power

Handler = Callable[[dict[str, Any]], Any]
MOST = 1e12
"""No number that is said is larger."""
_EXAMPLES = "docs/guide/plant.md has an example of each."
_STATUS = {ProblemCode.NOT_FOUND: 404, ProblemCode.UNAUTHENTICATED: 401}


class Truth:
    """What the channel can do."""

    def __init__(
        self, physics: Physics, meters: list[PlantMeter], lag_ms: int, speed: int, token: str
    ) -> None:
        self.physics, self.meters, self.lag_ms, self.speed = physics, meters, lag_ms, speed
        self._token = token
        fleet = physics.fleet
        self._nodes = {str(name): number for number, name in enumerate(fleet.node_ids)}
        self._elements = {str(name): number for number, name in enumerate(fleet.power_ids)}
        self._miners = {one.name: number for number, one in enumerate(physics.miners)}
        self._by_name = {one.name: one for one in meters}

    def app(self) -> Starlette:
        """Its routes: GET to look, POST to act."""
        looks: dict[str, Handler] = {
            "state": self.state,
            "nodes": self.nodes,
            "miners": self.miners,
            "trace": self.trace,
        }
        acts: dict[str, Handler] = {
            "load": self.load,
            "fail": self.fail,
            "trip": self.trip,
            "mark": self.mark,
            "outdoor": self.outdoor,
        }
        routes = [Route(f"/{name}", self._wrap(one, with_body=False)) for name, one in looks.items()]
        routes += [
            Route(f"/{name}", self._wrap(one, with_body=True), methods=["POST"]) for name, one in acts.items()
        ]
        return Starlette(routes=routes)

    def _wrap(self, handle: Handler, *, with_body: bool) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            given = request.headers.get("authorization", "")
            if not secrets.compare_digest(given, f"Bearer {self._token}"):
                return _problem(
                    _bad(
                        "no token of this plant;",
                        "Send what stands in its file `token`.",
                        ProblemCode.UNAUTHENTICATED,
                    )
                )
            asked: Any = dict(request.query_params)
            try:
                if with_body:
                    asked = await request.json()
                if not isinstance(asked, dict):
                    return _problem(_bad("the body is no JSON object;", "Send one."))
                return JSONResponse(handle(asked))
            except HeadraceError as error:
                return _problem(error)
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                return _problem(_bad(f"{error};", _EXAMPLES))

        return answer

    # -- looking --------------------------------------------------------------------------------------------

    def state(self, _asked: dict[str, Any]) -> Any:
        """True watts of every element above the racks, its worst since the last mark, and its most."""
        physics = self.physics
        fleet = physics.fleet
        found = {
            name: {
                "kind": fleet.power_kind[number],
                "true_w": round(float(physics.element_w[number])),
                "worst_w": round(float(physics.worst_w[number])),
                "worst_ms": int(physics.worst_ms[number]),
                "most_w": round(float(physics.most_w[number])),
                "tripped": bool(physics.tripped[number]),
            }
            for name, number in self._elements.items()
            if fleet.power_kind[number] != "rack"
        }
        return {"now_ms": physics.now_ms, "speed": self.speed, "simulated": True, "elements": found}

    def nodes(self, asked: dict[str, Any]) -> Any:
        """What nodes want, draw and are capped at; all, or one with ``node``."""
        physics = self.physics
        names = [asked["node"]] if "node" in asked else list(self._nodes)
        found = {}
        for name, number in self._numbers(names, self._nodes, "node"):
            cap_w = float(physics.cap_w[number])
            found[name] = {
                "drawn_w": round(float(physics.drawn_w[number])),
                "demand_w": round(float(physics.demand_w[number])),
                "cap_w": None if cap_w == np.inf else round(cap_w),
                "floor_w": round(float(physics.floor_w[number])),
                "power": Power(int(physics.power[number])).name.lower(),
                "failure": Failure(int(physics.failure[number])).name.lower(),
            }
        return found

    def miners(self, _asked: dict[str, Any]) -> Any:
        """What miners draw, what they say, and how they fail."""
        physics = self.physics
        return {
            name: {
                "drawn_w": round(float(physics.miner_w[number])),
                "says_mining": bool(physics.miner_said_on[number]),
                "limit_w": round(float(physics.miner_limit_w[number])),
                "failure": Failure(int(physics.miner_failure[number])).name.lower(),
            }
            for name, number in self._miners.items()
        }

    def trace(self, asked: dict[str, Any]) -> Any:
        """An element's true watts step by step: ``element``, ``since_ms``."""
        ((_, number),) = self._numbers([_text(asked, "element")], self._elements, "power element")
        since_ms = str(asked.get("since_ms", 0))
        if not since_ms.isascii() or not since_ms.isdigit() or len(since_ms) > 15:
            raise _bad(
                f"since_ms: {since_ms!r} is no time in milliseconds;", "Write a whole number from 0 up."
            )
        return self.physics.trace(number, int(since_ms))

    # -- acting ---------------------------------------------------------------------------------------------

    def load(self, asked: dict[str, Any]) -> Any:
        """What nodes want: ``{"nodes": [...] or "all", "watts": N}`` or ``"permille"`` of nameplate."""
        physics = self.physics
        chosen = [
            number
            for _, number in self._numbers(self._chosen(asked, "nodes", self._nodes), self._nodes, "node")
        ]
        if "watts" in asked:
            wanted = np.full(len(chosen), _number(asked, "watts"))
        else:
            wanted = physics.nameplate_w[chosen] * _number(asked, "permille") / 1_000
        physics.demand_w[chosen] = wanted.clip(physics.idle_w[chosen], physics.nameplate_w[chosen])
        return {"nodes": len(chosen)}

    def fail(self, asked: dict[str, Any]) -> Any:
        """``{"kind": "node", "names": [...] or "all", "as": "silent"}``; miners likewise; meters with a ``value``."""
        kind, how = _text(asked, "kind"), _text(asked, "as")
        match kind:
            case "node" | "miner":
                known = self._nodes if kind == "node" else self._miners
                column = self.physics.failure if kind == "node" else self.physics.miner_failure
                names = [one.name.lower() for one in Failure]
                if how not in names:
                    raise _bad(f"no failure {how!r};", did_you_mean(how, names))
                chosen = self._numbers(self._chosen(asked, "names", known), known, kind)
                column[[number for _, number in chosen]] = Failure[how.upper()]
                return {"failed": len(chosen)}
            case "meter":
                if how not in list(MeterFault):
                    raise _bad(f"no failure {how!r};", did_you_mean(how, [one.value for one in MeterFault]))
                wanted = self._chosen(asked, "names", self._by_name)
                for name in wanted:
                    if name not in self._by_name:
                        raise HeadraceError(unknown("meter", name, self._by_name))
                    value = _number(asked, "value") if "value" in asked else 0.5
                    self._by_name[name].fail(MeterFault(how), value, self.physics, self.lag_ms)
                return {"failed": len(wanted)}
        raise _bad(f"no kind of device {kind!r};", did_you_mean(kind, ["node", "miner", "meter"]))

    def trip(self, asked: dict[str, Any]) -> Any:
        """Open or close an element's breaker: ``{"element": E, "tripped": true}``."""
        ((_, number),) = self._numbers([_text(asked, "element")], self._elements, "power element")
        tripped = _field(asked, "tripped")
        if not isinstance(tripped, bool):
            raise _bad(f"tripped: {tripped!r} is neither true nor false;", _EXAMPLES)
        self.physics.tripped[number] = tripped
        return {"tripped": bool(self.physics.tripped[number])}

    def mark(self, _asked: dict[str, Any]) -> Any:
        """Forget the worst so far."""
        self.physics.mark()
        return {"now_ms": self.physics.now_ms}

    def outdoor(self, asked: dict[str, Any]) -> Any:
        """The temperature outside: ``{"celsius": 25}``."""
        self.physics.outdoor_celsius = _number(asked, "celsius")
        return {"celsius": self.physics.outdoor_celsius}

    def _chosen(self, asked: dict[str, Any], field: str, known: Iterable[str]) -> list[str]:
        names = _field(asked, field)
        if names == "all":
            return list(known)
        if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
            raise _bad(f"{field} is no list of names;", 'Write a list, or "all".')
        return names

    def _numbers(self, names: Iterable[str], known: dict[str, int], what: str) -> list[tuple[str, int]]:
        wanted = list(names)
        for name in wanted:
            if name not in known:
                raise HeadraceError(unknown(what, name, known))
        return [(name, known[name]) for name in wanted]


def _field(asked: dict[str, Any], name: str) -> Any:
    """What somebody says of a field; HeadraceError where it is missing."""
    if name not in asked:
        raise _bad(f"the field {name!r} is missing;", _EXAMPLES)
    return asked[name]


def _text(asked: dict[str, Any], name: str) -> str:
    found = _field(asked, name)
    if not isinstance(found, str):
        raise _bad(f"{name}: {found!r} is no text;", _EXAMPLES)
    return found


def _number(asked: dict[str, Any], name: str) -> float:
    """A number that can be reckoned with: what is none would spread through all that the plant draws."""
    found = _field(asked, name)
    if isinstance(found, bool) or not isinstance(found, int | float) or not abs(found) <= MOST:
        raise _bad(f"{name}: {str(found)[:40]!r} is no number from -{MOST:g} to {MOST:g};", _EXAMPLES)
    return float(found)


def _bad(message: str, step: str, code: ProblemCode = ProblemCode.BAD_INPUT) -> HeadraceError:
    return HeadraceError(Problem(code, message, step))


def _problem(error: HeadraceError) -> Response:
    return JSONResponse({"problem": error.problem.line()}, _STATUS.get(error.problem.code, 400))
