"""The Merkle tree against the words of RFC 9162, written down naively here."""

from collections.abc import Sequence
from hashlib import sha256
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.journal.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    is_consistent,
    leaf_hash,
    root_from_inclusion,
    subtree_root,
)


def mth(data: Sequence[bytes]) -> bytes:
    """MTH of RFC 9162, 2.1.1."""
    if not data:
        return sha256(b"").digest()
    if len(data) == 1:
        return sha256(b"\0" + data[0]).digest()
    k = _split(len(data))
    return sha256(b"\x01" + mth(data[:k]) + mth(data[k:])).digest()


def path(m: int, data: Sequence[bytes]) -> list[bytes]:
    """PATH of RFC 9162, 2.1.3.1."""
    if len(data) == 1:
        return []
    k = _split(len(data))
    return [*path(m, data[:k]), mth(data[k:])] if m < k else [*path(m - k, data[k:]), mth(data[:k])]


def subproof(m: int, data: Sequence[bytes], whole: bool) -> list[bytes]:
    """SUBPROOF of RFC 9162, 2.1.4.1."""
    if m == len(data):
        return [] if whole else [mth(data)]
    k = _split(len(data))
    if m <= k:
        return [*subproof(m, data[:k], whole), mth(data[k:])]
    return [*subproof(m - k, data[k:], False), mth(data[:k])]


def _split(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def _leaves(data: Sequence[bytes]) -> list[bytes]:
    return [leaf_hash(one) for one in data]


DATA = st.lists(st.binary(max_size=4), min_size=1, max_size=70)


@given(st.lists(st.binary(max_size=4), max_size=140))
def test_the_root_is_that_of_the_definition(data: list[bytes]) -> None:
    """However many leaves there are, appended one by one."""
    frontier = Frontier()
    for leaf in _leaves(data):
        frontier.append(leaf)
    assert frontier.root() == mth(data)
    assert frontier.size == len(data)
    assert subtree_root(_leaves(data).__getitem__, 0, len(data)) == mth(data)


def test_the_root_of_nothing_is_the_hash_of_nothing() -> None:
    """RFC 9162: MTH({}) = HASH()."""
    assert Frontier().root() == EMPTY_ROOT == sha256(b"").digest()


@given(DATA, st.data())
def test_an_audit_path_is_that_of_the_definition_and_leads_to_the_root(
    data: list[bytes], draw: st.DataObject
) -> None:
    """For any leaf of any tree; for any other leaf, place or size it leads elsewhere."""
    index = draw.draw(st.integers(0, len(data) - 1))
    leaves = _leaves(data)
    proof = inclusion_proof(leaves.__getitem__, index, len(data))
    assert proof == path(index, data)
    assert root_from_inclusion(leaves[index], index, len(data), proof) == mth(data)
    assert root_from_inclusion(leaf_hash(b"another leaf"), index, len(data), proof) != mth(data)
    for longer in ([*proof, bytes(32)], proof[:-1]):
        if longer != proof:
            assert root_from_inclusion(leaves[index], index, len(data), longer) != mth(data)


@given(DATA, st.data())
def test_a_consistency_proof_is_that_of_the_definition_and_holds(
    data: list[bytes], draw: st.DataObject
) -> None:
    """Between any two sizes; a changed root, proof or size is not believed."""
    old = draw.draw(st.integers(1, len(data)))
    new = len(data)
    proof = consistency_proof(_leaves(data).__getitem__, old, new)
    assert proof == subproof(old, data, whole=True)
    assert is_consistent(old, mth(data[:old]), new, mth(data), proof)
    assert not is_consistent(old, bytes(32), new, mth(data), proof)
    assert not is_consistent(old, mth(data[:old]), new, bytes(32), proof)
    assert not is_consistent(old, mth(data[:old]), new, mth(data), [*proof, bytes(32)])
    for index in range(len(proof)):
        assert not is_consistent(
            old, mth(data[:old]), new, mth(data), [*proof[:index], bytes(32), *proof[index + 1 :]]
        )


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 40])
def test_a_rewritten_past_is_consistent_with_nothing(size: int) -> None:
    """A tree in which one old leaf is another has no proof from the old head."""
    data = [bytes([number]) for number in range(size + 5)]
    other = [b"rewritten", *data[1:]]
    proof = consistency_proof(_leaves(other).__getitem__, size, len(other))
    assert not is_consistent(size, mth(data[:size]), len(other), mth(other), proof)


def test_what_is_not_there_has_no_proof() -> None:
    """A leaf beyond the tree, a tree that is smaller than the old one: ValueError, and no proof is believed."""
    leaves = _leaves([b"a", b"b"])
    for index, size in ((2, 2), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match="is not in a tree"):
            inclusion_proof(leaves.__getitem__, index, size)
        assert root_from_inclusion(leaves[0], index, size, []) is None
    for old, new in ((0, 2), (3, 2)):
        with pytest.raises(ValueError, match="no consistency proof"):
            consistency_proof(leaves.__getitem__, old, new)
        assert not is_consistent(old, EMPTY_ROOT, new, EMPTY_ROOT, [])


@pytest.mark.parametrize("seed", range(20))
def test_many_leaves_at_once_are_as_many_one_by_one(seed: int) -> None:
    """However they are cut into batches: the same peaks, the same root."""
    chance = Random(seed)
    one_by_one, at_once = Frontier(), Frontier()
    for size in [chance.choice((0, 1, 2, 3, 7, 8, 31, 64, 100)) for _ in range(12)]:
        leaves = [chance.randbytes(32) for _ in range(size)]
        for leaf in leaves:
            one_by_one.append(leaf)
        at_once.extend(leaves)
        assert (at_once.size, at_once.peaks) == (one_by_one.size, one_by_one.peaks)
        assert at_once.root() == one_by_one.root()
