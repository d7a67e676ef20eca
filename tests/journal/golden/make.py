"""Makes a golden journal: ``python -m tests.journal.golden.make FOLDER``.

Those beside this script are never made again: they are what versions of headrace once wrote, and every later one has to
read. A new kind of event gets a golden journal of its own beside the old ones: ``2`` has ``RequestAnswered``, ``3``
``NodesReserved``, ``4`` ``EngineDeclared`` and ``NodeIntruded``, ``5`` instructions of the grid, ``6`` caps and
what meters see, ``45`` (called by the number of its event) an export of evidence, and what was sold in its tenant's stream,
``7`` data sets and their copies.
"""

import json
import sqlite3
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from headrace.core.state import State
from tests.journal.small import (
    SetClock,
    ask_by_keys,
    begun,
    cap_a_node,
    drive_a_cluster,
    export_evidence,
    follow_the_grid,
    keep_data,
    live_a_life,
    reserve,
)


def make(folder: Path) -> None:
    """Write ``journal.sqlite``, ``signing.pub``, ``state.json`` and ``digest.txt``."""
    folder.mkdir(parents=True, exist_ok=True)
    clock = SetClock()
    control = begun(folder, seed="golden", clock=clock)
    live_a_life(control, clock)
    ask_by_keys(control)
    reserve(control, clock)
    drive_a_cluster(control)
    follow_the_grid(control, clock)
    cap_a_node(control, clock)
    export_evidence(control)
    keep_data(control)
    control.store.close()
    # One file, whole: no log beside it.
    with sqlite3.connect(folder / "journal.sqlite") as db:
        db.execute("pragma journal_mode=delete")
    db.close()
    (folder / "signing.pub").write_text(control.keys.public.hex() + "\n")
    (folder / "state.json").write_text(state_json(control.world.state))
    (folder / "digest.txt").write_text(digest(control.world.state) + "\n")


def state_json(state: State) -> str:
    """What a state says, without what is empty or zero: a field that is added later, with such a default, changes nothing."""
    return json.dumps(_without_defaults(msgspec.to_builtins(state)), indent=1, sort_keys=True) + "\n"


def digest(state: State) -> str:
    """SHA-256 of that."""
    return sha256(state_json(state).encode()).hexdigest()


def _without_defaults(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {name: _without_defaults(one) for name, one in value.items()}
        return {name: one for name, one in kept.items() if one}
    if isinstance(value, list | tuple):
        return [_without_defaults(one) for one in value]
    return value


if __name__ == "__main__":
    make(Path(sys.argv[1]))
