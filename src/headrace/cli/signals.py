"""``headrace grid``: what grid operators say now, and a grid operator's server for this machine to try it with."""

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import typer
import uvicorn

from headrace.cli.common import print_json, print_table, say
from headrace.cli.operator import AS_JSON
from headrace.clock import WallClock
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.power.instruction import Instruction
from headrace.core.power.openadr import EMERGENCY, FOLLOWED, SIMPLE
from headrace.core.units import format_watts, parse_duration_ms, parse_watts
from headrace.lab.vtn import Client, Vtn, two_clients
from headrace.signals.declared import VtnModel, is_loopback, load_signals, read_secret
from headrace.signals.openadr import Ven, VenState
from headrace.signals.openadr_http import VtnError

app = typer.Typer(rich_markup_mode=None)
grid = typer.Typer(rich_markup_mode=None, help="What grid operators say now, and a server to try it with.")
app.add_typer(grid, name="grid")
HOST = "127.0.0.1"
PROGRAM = "flex"
OPERATOR_SUFFIX = ".operator"
_VTN = typer.Option("http://127.0.0.1:8480", "--vtn", help="Where the server is.")
_SECRET = typer.Option(
    Path("vtn.secret.operator"), "--token-file", help="The operator's secret, by `grid vtn`."
)


@app.callback()
def group() -> None:
    """Grid signals."""


@grid.callback()
def grid_group() -> None:
    """What grid operators say now, and a server to try it with."""


@grid.command()
def listen(
    signals: Path = typer.Option(help="The file that declares VTNs, like examples/signals.yaml."),
    as_json: bool = AS_JSON,
) -> None:
    """Ask each declared VTN once what holds for our sites, and print it. We are registered there; no reports are sent."""
    now_ms = WallClock().now_ms()
    states = [asyncio.run(_heard(vtn)) for vtn in load_signals(signals)]
    if as_json:
        print_json([_as_json(state) for state in states])
    else:
        rows = [_row(one, now_ms) for state in states for one in state.instructions(now_ms)]
        columns = ("SITE", "LIMIT", "FROM", "UNTIL", "NOW", "URGENCY", "WHY")
        print_table(columns, rows, "no instructions.", ("LIMIT",))
        for state in states:
            say(state.line(now_ms))
            for finding in state.findings:
                say(f"  {finding.line()}")
    silent = [f"{state.vtn}: {state.trouble}" for state in states if state.trouble]
    if silent:
        step = "look at url, client and secret in the file."
        raise HeadraceError(
            *(Problem(ProblemCode.ENGINE_UNAVAILABLE, f"{text};", step, str(signals)) for text in silent)
        )


async def _heard(vtn: VtnModel) -> VenState:
    try:
        ven = Ven(vtn, WallClock())
    except VtnError as error:
        return VenState(vtn.name, vtn.poll, trouble=str(error))
    await ven.listen()
    await ven.aclose()
    return ven.state


def _moment(at_ms: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)).isoformat(timespec="seconds")


def _row(one: Instruction, now_ms: int) -> tuple[str, ...]:
    until = _moment(one.until_ms) if one.until_ms else "withdrawn"
    holds = "holds" if one.is_active(now_ms) else "to come"
    return one.site, format_watts(one.limit_w), _moment(one.from_ms), until, holds, one.urgency, one.note


def _as_json(state: VenState) -> dict[str, Any]:
    return {
        "vtn": state.vtn,
        "heard": _moment(state.heard_ms) if state.heard_ms else None,
        "trouble": state.trouble,
        "poll_ms": state.poll_ms,
        "skew_ms": state.skew_ms,
        "events": state.heard.events,
        "instructions": [
            {
                "id": one.id,
                "site": one.site,
                "limit_w": one.limit_w,
                "from": _moment(one.from_ms),
                "until": _moment(one.until_ms) if one.until_ms else None,
                "urgency": one.urgency,
                "note": one.note,
            }
            for one in state.heard.instructions
        ],
        "findings": [
            {
                "code": one.code,
                "event": one.event,
                "interval": one.interval,
                "message": one.message,
                "effect": one.effect,
            }
            for one in state.findings
        ],
    }


@grid.command()
def vtn(
    token_file: Path = typer.Option(
        Path("vtn.secret"),
        help="Where the VEN's secret is written; the operator's goes beside it (.operator).",
    ),
    port: int = typer.Option(8480, min=0, max=65_535, help="On which port of this machine; 0: a free one."),
) -> None:
    """Run an OpenADR 3.1 server on loopback, in memory, with one program: a grid operator to try things with."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, port))
        except OSError as error:
            step = "Choose another --port; 0 takes a free one."
            text = f"port {port} can't be had: {error.strerror}."
            raise HeadraceError(Problem(ProblemCode.CONFLICT, text, step, "--port")) from None
        url = f"http://{HOST}:{listening.getsockname()[1]}"
        server, clients = _started(url)
        listening.listen()
        _write(token_file.with_name(token_file.name + OPERATOR_SUFFIX), clients["operator"].secret)
        _write(token_file, clients["ven"].secret)
        say(f"an OpenADR 3.1 VTN for trying things out, on {url}; Ctrl-C ends it, and nothing is kept")
        say(f"client ven, its secret in {token_file}; client operator, in {token_file}{OPERATOR_SUFFIX}")
        asyncio.run(_serve(server, listening))


def _started(url: str) -> tuple[Vtn, dict[str, Client]]:
    """A server with its one program, and its clients."""
    clients = two_clients()
    server = Vtn(clients, base_url=url)
    server.put("programs", {"programName": PROGRAM})
    return server, clients


class _Web(uvicorn.Server):
    """uvicorn without its own signal handlers: a stop is an ordinary end here."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None are captured."""
        yield


async def _serve(server: Vtn, listening: socket.socket) -> None:
    config = uvicorn.Config(
        server.app, log_level="warning", access_log=False, date_header=False, lifespan="off"
    )
    running = _Web(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, lambda: setattr(running, "should_exit", True))
    await running.serve(sockets=[listening])


def _write(path: Path, secret: str) -> None:
    """A file that its user alone may read."""
    try:
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(secret + "\n")
    except OSError as error:
        text = f"can't write {path}: {error.strerror}."
        raise HeadraceError(
            Problem(ProblemCode.BAD_INPUT, text, "Name another place.", "--token-file")
        ) from None


class _Operator:
    """The grid operator's side of a server on this machine, as a script would use it."""

    def __init__(self, url: str, token_file: Path) -> None:
        if not is_loopback(url):
            text = f"{url} is not on this machine."
            step = "This is for trying things out; a grid operator has its own tools."
            raise HeadraceError(Problem(ProblemCode.BAD_INPUT, text, step, "--vtn"))
        secret = read_secret(token_file.absolute())
        self._form = {"grant_type": "client_credentials", "client_id": "operator", "client_secret": secret}
        self._http = httpx.Client(base_url=url, trust_env=False, timeout=10)

    def __enter__(self) -> "_Operator":
        try:
            token = self.ask("POST", "/auth/token", data=self._form)["access_token"]
        except HeadraceError:
            self._http.close()
            raise
        self._http.headers["Authorization"] = f"Bearer {token}"
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def ask(self, method: str, path: str, **more: Any) -> Any:
        """One call; HeadraceError with what the server says."""
        try:
            answer = self._http.request(method, path, **more)
            found = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            text = f"no VTN answers on {self._http.base_url}: {error}."
            step = "Start one with `headrace grid vtn`."
            raise HeadraceError(Problem(ProblemCode.ENGINE_UNAVAILABLE, text, step, "--vtn")) from None
        if answer.is_error:
            code = ProblemCode.NOT_FOUND if answer.status_code == 404 else ProblemCode.BAD_INPUT
            raise HeadraceError(Problem(code, f"the VTN says: {found.get('detail', answer.status_code)}."))
        return found

    def program(self) -> str:
        """The id of the one program."""
        return next(str(one["id"]) for one in self.ask("GET", "/programs") if one["programName"] == PROGRAM)

    def grant(self, targets: list[str]) -> None:
        """Let the VENs that are registered see what means ``targets``; HeadraceError when there is none."""
        found = self.ask("GET", "/vens")
        if not found:
            step = "`headrace grid listen` registers one."
            raise HeadraceError(Problem(ProblemCode.NOT_FOUND, "no VEN is registered;", step, "--target"))
        for one in found:
            granted = sorted({*(one.get("targets") or ()), *targets})
            body = {**one, "objectType": "BL_VEN_REQUEST", "targets": granted}
            self.ask("PUT", f"/vens/{one['id']}", json=body)


@grid.command()
def announce(
    kind: str = typer.Argument(help=f"One of {', '.join(FOLLOWED)}."),
    value: str = typer.Argument(help="A power like 12MW, a level from 0 to 3, or the alert's words."),
    token_file: Path = typer.Option(
        Path("vtn.secret.operator"), help="The operator's secret, by `grid vtn`."
    ),
    url: str = _VTN,
    for_: str = typer.Option("", "--for", help="How long, like 2h [default: until it is withdrawn]."),
    target: list[str] = typer.Option(
        [], help="Whom it means; may stand more than once [default: everybody]."
    ),
) -> None:
    """Say something as the grid operator, on a server that `headrace grid vtn` runs; from now on."""
    said = _payload(kind, value)
    length = f"PT{_length_ms(for_) / 1_000:g}S" if for_ else "P9999Y"
    event: dict[str, Any] = {
        "intervalPeriod": {"start": _moment(WallClock().now_ms()), "duration": length},
        "intervals": [{"id": 0, "payloads": [{"type": kind, "values": [said]}]}],
    }
    if kind not in (SIMPLE, EMERGENCY):
        unit = {"objectType": "EVENT_PAYLOAD_DESCRIPTOR", "payloadType": kind, "units": "KW"}
        event["payloadDescriptors"] = [unit]
    with _Operator(url, token_file) as operator:
        if target:
            event["targets"] = target
            operator.grant(target)
        event["programID"] = operator.program()
        say(f"announced {operator.ask('POST', '/events', json=event)['id']}")


def _payload(kind: str, value: str) -> str | int | float:
    if kind not in FOLLOWED:
        text = f"no signal {kind!r};"
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, text, f"known: {', '.join(FOLLOWED)}.", "KIND"))
    if kind == EMERGENCY:
        return value
    try:
        return int(value) if kind == SIMPLE else parse_watts(value) / 1_000
    except ValueError:
        text = f"{value!r} is no value for {kind}."
        step = "Write a level from 0 to 3." if kind == SIMPLE else "Write a power like 12MW."
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, text, step, "VALUE")) from None


def _length_ms(text: str) -> int:
    try:
        return parse_duration_ms(text)
    except ValueError as error:
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, f"{error}.", "", "--for")) from None


@grid.command()
def recall(
    event: str = typer.Argument(help="The event's id, as `grid announce` printed it."),
    token_file: Path = typer.Option(
        Path("vtn.secret.operator"), help="The operator's secret, by `grid vtn`."
    ),
    url: str = _VTN,
) -> None:
    """Take back what was announced."""
    if event.strip(".") == "":
        step = "`grid announce` printed it."
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, f"{event!r} is no event's id.", step, "EVENT"))
    with _Operator(url, token_file) as operator:
        # As one step of the path, whatever is in it: it is an event that is taken back, and nothing beside.
        operator.ask("DELETE", f"/events/{quote(event, safe='')}")
    say(f"recalled {event}")
