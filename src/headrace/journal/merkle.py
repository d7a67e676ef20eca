"""The Merkle tree of RFC 9162 (Certificate Transparency), so that heads and proofs are a known format.

Leaf hash: SHA-256(0x00 ‖ data); inner node: SHA-256(0x01 ‖ left ‖ right). The left subtree of n leaves holds the
largest power of two below n.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256

EMPTY_ROOT = sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """Hash of a leaf (RFC 9162, 2.1.1)."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node."""
    return sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge of a growing tree: the roots of its complete subtrees, largest first; appending costs O(1) amortised."""

    __slots__ = ("peaks", "size")

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        self.size = size
        self.peaks = list(peaks)

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        peaks, size = self.peaks, self.size
        while size & 1:
            leaf = sha256(b"\x01" + peaks.pop() + leaf).digest()
            size >>= 1
        peaks.append(leaf)
        self.size += 1

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Add many leaf hashes: the same as one by one, level by level."""
        peaks, size, nodes = self.peaks, self.size, list(leaves)
        self.size += len(nodes)
        rest: list[bytes] = []
        inner = sha256(b"\x01").copy
        while nodes:
            if size & 1:
                nodes.insert(0, peaks.pop())
            if len(nodes) & 1:
                rest.append(nodes.pop())
            size >>= 1
            pairs, nodes = iter(nodes), []
            for left in pairs:
                # A copy of a begun hash costs less than a new one.
                node = inner()
                node.update(left)
                node.update(next(pairs))
                nodes.append(node.digest())
        peaks.extend(reversed(rest))

    def root(self) -> bytes:
        """The root of all leaves so far."""
        if not self.peaks:
            return EMPTY_ROOT
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = node_hash(peak, root)
        return root

    def copy(self) -> "Frontier":
        """An independent copy."""
        return Frontier(self.size, self.peaks)


def _split(size: int) -> int:
    return 1 << (size - 1).bit_length() - 1


def subtree_root(leaf: Callable[[int], bytes], start: int, end: int) -> bytes:
    """Root over leaf hashes ``start`` to ``end`` (exclusive); ``leaf(i)`` gives a leaf's hash."""
    frontier = Frontier()
    for index in range(start, end):
        frontier.append(leaf(index))
    return frontier.root()


def inclusion_proof(leaf: Callable[[int], bytes], index: int, size: int) -> list[bytes]:
    """Audit path of leaf ``index`` in the tree of ``size`` leaves (RFC 9162, 2.1.3.1)."""
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not in a tree of {size}")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(subtree_root(leaf, middle, end))
            end = middle
        else:
            path.append(subtree_root(leaf, start, middle))
            start = middle
    return path[::-1]


def root_from_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The root that an audit path leads to, or None when the path has the wrong length (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return None
    fn, sn, root = index, size - 1, leaf
    for sibling in path:
        if sn == 0:
            return None
        if fn & 1 or fn == sn:
            root = node_hash(sibling, root)
            while not fn & 1 and fn:
                fn >>= 1
                sn >>= 1
        else:
            root = node_hash(root, sibling)
        fn >>= 1
        sn >>= 1
    return root if sn == 0 else None


def consistency_proof(leaf: Callable[[int], bytes], old: int, new: int) -> list[bytes]:
    """Proof that the tree of ``new`` leaves begins with that of ``old`` (RFC 9162, 2.1.4.1)."""
    if not 0 < old <= new:
        raise ValueError(f"no consistency proof from {old} to {new} leaves")
    return _consistency(leaf, old, 0, new, whole=True)


def _consistency(leaf: Callable[[int], bytes], old: int, start: int, end: int, *, whole: bool) -> list[bytes]:
    size = end - start
    if old == size:
        return [] if whole else [subtree_root(leaf, start, end)]
    split = _split(size)
    if old <= split:
        rest = _consistency(leaf, old, start, start + split, whole=whole)
        return [*rest, subtree_root(leaf, start + split, end)]
    rest = _consistency(leaf, old - split, start + split, end, whole=False)
    return [*rest, subtree_root(leaf, start, start + split)]


def is_consistent(old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Check a consistency proof (RFC 9162, 2.1.4.2)."""
    if old == new:
        return old_root == new_root and not proof
    if not 0 < old < new:
        return False
    path = list(proof) if old & (old - 1) else [old_root, *proof]
    if not path:
        return False
    fn, sn = old - 1, new - 1
    while fn & 1:
        fn >>= 1
        sn >>= 1
    first = second = path[0]
    for sibling in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while not fn & 1 and fn:
                fn >>= 1
                sn >>= 1
        else:
            second = node_hash(second, sibling)
        fn >>= 1
        sn >>= 1
    return sn == 0 and first == old_root and second == new_root
