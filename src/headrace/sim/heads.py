"""What a client makes of the heads that it gets: each must contain all that the ones before it contained.

The leaves and the tree are computed here once more, from the bytes of each group and RFC 9162 alone.
"""

from hashlib import sha256

from headrace.core.scheduling.check import Violation
from headrace.journal.codec import Group, Head
from headrace.journal.keys import is_signed

_SIGNATURE_EVERY = 16
"""Checking a signature takes longer than the rest: one head in so many is checked."""


class HeadKeeper:
    """Follows the journal's groups as they are committed, and holds every acknowledged head against them."""

    def __init__(self, public: bytes) -> None:
        self.public = public
        self.size = 0
        self.peaks: list[tuple[int, bytes]] = []
        self.roots: dict[int, bytes] = {}
        self.told: list[Head] = []
        self.bytes = sha256()
        self.violations: list[Violation] = []

    def took(self, group: Group) -> None:
        """A group was committed: its head must be over all leaves so far."""
        if group.first != self.size:
            self._found(f"a group starts at event {group.first}, after {self.size}")
        for leaf in _leaves(group):
            self._append(leaf)
        root = self._root()
        if (group.head.size, group.head.root) != (self.size, root):
            self._found(
                f"the head of {group.head.size} events is not over the {self.size} that were committed"
            )
        self.roots[self.size] = root
        self.bytes.update(group.headers + group.bodies)
        if len(self.roots) % _SIGNATURE_EVERY == 1:
            self._signature(group.head)

    def acknowledged(self, head: Head | None) -> None:
        """A client got a head: not older than the last, of the same past, and signed."""
        if head is None:
            self._found("an acknowledgement came without a head")
            return
        if self.told and head.size < self.told[-1].size:
            self._found(f"a head of {head.size} events came after one of {self.told[-1].size}")
        if self.roots.get(head.size) != head.root:
            self._found(f"the head of {head.size} events is of another past than what was committed")
        if not self.told or self.told[-1].size != head.size:
            self.told.append(head)

    def _signature(self, head: Head) -> None:
        if not is_signed(self.public, head.signed_bytes(), head.signature):
            self._found(f"the head of {head.size} events is not signed")

    def _found(self, detail: str) -> None:
        self.violations.append(Violation(3, "head", detail, "head"))

    def _append(self, leaf: bytes) -> None:
        node, width = leaf, 1
        while self.peaks and self.peaks[-1][0] == width:
            node = sha256(b"\x01" + self.peaks.pop()[1] + node).digest()
            width *= 2
        self.peaks.append((width, node))
        self.size += 1

    def _root(self) -> bytes:
        root = b""
        for _, peak in reversed(self.peaks):
            root = sha256(b"\x01" + peak + root).digest() if root else peak
        return root


def _leaves(group: Group) -> list[bytes]:
    headers, bodies, leaves, at, offset = group.headers, group.bodies, [], 0, 0
    while at < len(headers):
        end = at + 48 + 56 * headers[at + 1]
        length = int.from_bytes(bodies[offset + 16 : offset + 20])
        payload = bodies[offset + 20 : offset + 20 + length]
        inner = sha256(bodies[offset : offset + 16] + payload).digest()
        leaves.append(sha256(b"\x00" + headers[at:end] + inner).digest())
        at, offset = end, offset + 20 + length
    return leaves
