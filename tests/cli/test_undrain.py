"""``headrace undrain``: what the cluster itself keeps closed is said, with the next step."""

from collections.abc import Iterator
from typing import Any

from headrace.cli.operator import _still_closed
from headrace.sdk import Client


class One:
    """A node as the control plane shows it."""

    def __init__(self, ident: str, state: str, reason: str) -> None:
        self.id, self.state, self.reason = ident, state, reason


class Told(Client):
    """A control plane's answers."""

    def __init__(self, *nodes: One) -> None:
        self._nodes = nodes

    def nodes(self, site: str = "") -> Iterator[Any]:
        """All of them."""
        assert not site
        yield from self._nodes


def test_a_node_that_its_cluster_keeps_drained_is_not_called_ready() -> None:
    """With why, and with what to do there; others, and nodes that nobody took back, are left out."""
    told = Told(
        One("a", "down", "drained in its cluster: new disks"),
        One("b", "ready", ""),
        One("c", "down", "Slurm says down"),
        One("d", "draining", "a fan"),
    )
    found = _still_closed(told, ["a", "b", "c"])
    assert list(found) == ["a", "c"]
    assert found["a"].startswith(
        "down: drained in its cluster: new disks; take it back there: in Slurm `sinfo -R`"
    )
    assert found["c"] == "down: Slurm says down"
