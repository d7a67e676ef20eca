"""How events about data change the world."""

from collections.abc import Callable
from typing import Any

from headrace.core import events as ev
from headrace.core.data import events as of_data
from headrace.core.data.model import Copy, CopyState
from headrace.core.state import AuditRow, Row
from headrace.core.world import World


def _audit(committed: ev.Committed, subject: str, verdict: str) -> list[Row]:
    kind = type(committed.event).__name__
    return [AuditRow(committed.seq, committed.at_ms, committed.actor, kind, subject, verdict)]


def _stores(world: World, _: ev.Committed, event: of_data.StoresDeclared) -> list[Row]:
    world.state.stores = dict.fromkeys(event.sites)
    return []


def _requested(world: World, committed: ev.Committed, event: of_data.CopyRequested) -> list[Row]:
    copies = world.state.copies.setdefault(event.data, {})
    copies[event.site] = Copy(
        event.site,
        CopyState.COPYING,
        committed.at_ms,
        source=event.source,
        wanted_seq=committed.seq,
        verdict=event.verdicts[-1] if event.verdicts else "",
    )
    return _audit(committed, f"{event.data}@{event.site}", event.verdicts[0] if event.verdicts else "")


def _moved(world: World, committed: ev.Committed, copy: Copy, state: CopyState) -> None:
    """A copy is in another state: where data lies decides where work may be placed."""
    copy.state, copy.since_ms, copy.wanted_seq = state, committed.at_ms, committed.seq
    world.memory.clear()


def _finished(world: World, committed: ev.Committed, event: of_data.CopyFinished) -> list[Row]:
    copy = world.state.copies[event.data][event.site]
    copy.digest, copy.problem = event.digest, ""
    _moved(world, committed, copy, CopyState.PRESENT)
    return _audit(committed, f"{event.data}@{event.site}", copy.verdict)


def _failed(world: World, committed: ev.Committed, event: of_data.CopyFailed) -> list[Row]:
    copy = world.state.copies[event.data][event.site]
    copy.problem = event.problem
    if event.ended:
        _moved(world, committed, copy, CopyState.FAILED)
    return _audit(committed, f"{event.data}@{event.site}", copy.verdict)


def _judged(world: World, committed: ev.Committed, event: of_data.CopyJudged) -> list[Row]:
    world.state.copies[event.data][event.site].unlawful = event.unlawful
    return _audit(committed, f"{event.data}@{event.site}", event.judged)


def _removal(world: World, committed: ev.Committed, event: of_data.RemovalRequested) -> list[Row]:
    copy = world.state.copies[event.data][event.site]
    copy.problem, copy.not_before_ms = event.reason, event.not_before_ms
    _moved(world, committed, copy, CopyState.REMOVING)
    return _audit(committed, f"{event.data}@{event.site}", event.verdict)


def _removed(world: World, committed: ev.Committed, event: of_data.CopyRemoved) -> list[Row]:
    copy = world.state.copies[event.data][event.site]
    copy.problem, copy.unlawful = event.reason or copy.problem, ""
    _moved(world, committed, copy, CopyState.GONE)
    return _audit(committed, f"{event.data}@{event.site}", copy.verdict)


def _read(_: World, committed: ev.Committed, event: of_data.DataRead) -> list[Row]:
    verdict = event.verdicts[0] if event.verdicts else ""
    return _audit(committed, f"{event.data}@{event.site} {event.file}", verdict)


APPLY: dict[type, Callable[[World, ev.Committed, Any], list[Row]]] = {
    of_data.StoresDeclared: _stores,
    of_data.CopyRequested: _requested,
    of_data.CopyFinished: _finished,
    of_data.CopyFailed: _failed,
    of_data.CopyJudged: _judged,
    of_data.RemovalRequested: _removal,
    of_data.CopyRemoved: _removed,
    of_data.DataRead: _read,
}
"""What applies each of these events."""
