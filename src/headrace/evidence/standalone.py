"""Verify an evidence pack offline, with nothing of who made it: python standalone.py PACK KEY [CHECKPOINT...]

KEY: the operator's public key, 64 hexadecimal digits, from anywhere but the pack. CHECKPOINT: a file that you kept: a head of the
journal, or what `headrace evidence checkpoint` wrote. Exit status 0: nothing is wrong. The lines of a pack are the leaves of the
journal's Merkle tree (RFC 9162) in order: `event` shows one whole, `header` all but its payload, and a `gap` folds others into as
few hashes as there can be. Field by field: docs/rfd/0020-evidence-packs.md."""

import json
import struct
import sys
from base64 import b64decode
from binascii import unhexlify
from collections.abc import Iterable, Iterator
from functools import reduce
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

FORMAT, SEAL, HEAD = b"headrace evidence pack 1 ", b"headrace evidence pack 1\0", b"headrace journal head 1\0"
OPENED, DECIDED, REFUSED, PLACED = 1, 3, 9, 10
NOTHING = "that nothing was rewritten before this was made: you gave no CHECKPOINT"
WITHHELD = {13, 17, 18}  # An end, an eviction, a return to the queue: their text may name others.
BAD = (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, struct.error)


class Wrong(SystemExit):
    """The pack is not what it says it is: ends the program with the reason, and status 1."""


def check(holds: bool, otherwise: str) -> None:
    """Go on only if it holds."""
    if not holds:
        raise Wrong(otherwise)


def compact(value: Any) -> bytes:
    """JSON in the one way in which it is digested and signed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def root_of(head: dict[str, Any], key: Ed25519PublicKey) -> bytes:
    """The root in a head of the journal, if it is signed."""
    root = b64decode(head["root"], validate=True)
    message = HEAD + struct.pack(">QQ", head["size"], head["at_ms"]) + root
    key.verify(b64decode(head["signature"], validate=True), message)
    return root


class Pack:
    """What was read so far; ``count``, ``leaf``, ``last_ms`` are of the last event of the tenant's stream that was shown."""

    def __init__(self, said: dict[str, Any]) -> None:
        is_form = sorted(said) == ["from_ms", "tenant", "to_ms"] and said["from_ms"] < said["to_ms"]
        check(is_form and type(said["from_ms"]) is type(said["to_ms"]) is int, "its first line is wrong")
        self.said, self.stream = said, sha256(b"tenant:" + said["tenant"].encode()).digest()[:16]
        self.size, self.peaks, self.at_ms, self.journal = 0, list[bytes](), 0, ""
        self.count, self.leaf, self.last_ms = 0, bytes(32), -1
        self.events = self.decisions = self.withheld = 0
        self.verdicts, self.needed, self.texts = dict[str, Any](), set[str](), set[str]()
        self.roots, self.leaves = dict[int, bytes](), dict[int, bytes]()  # Kept outside, and not met yet.

    def keep(self, kept: dict[str, Any], key: Ed25519PublicKey) -> None:
        """A head of the journal that somebody kept, or the closing of an earlier pack."""
        closing = kept.get("closing") or {"head": kept.get("head") or kept, "tenant": ""}
        if "closing" in kept:
            message = SEAL + unhexlify(kept["pack"]) + b"closing " + compact(closing) + b"\n"
            key.verify(unhexlify(kept["signature"]), message)
        self.roots[closing["head"]["size"]] = root_of(closing["head"], key)
        if closing["tenant"] == self.said["tenant"] and closing["count"]:
            self.leaves[closing["count"]] = unhexlify(closing["leaf"])

    def add(self, node: bytes, height: int) -> None:
        """Add the root of the next 2**height leaves; ``peaks`` are those of the complete subtrees so far."""
        place, self.size = self.size >> height, self.size + (1 << height)
        while place & 1:
            node, place = sha256(b"\1" + self.peaks.pop() + node).digest(), place >> 1
        self.peaks.append(node)

    def fold(self, end: int, nodes: list[bytes]) -> None:
        """Add all leaves up to ``end``, each time the largest subtree that begins here and goes no further."""
        for node in nodes:
            check(end > self.size and len(node) == 32, "a gap has more hashes than it should")
            most = (end - self.size).bit_length() - 1
            self.add(node, min(most, (self.size & -self.size).bit_length() - 1) if self.size else most)
        check(self.size == end and bool(nodes), "a gap has fewer hashes than it should")

    def root(self) -> bytes:
        """The root of all leaves so far."""
        return reduce(lambda root, peak: sha256(b"\1" + peak + root).digest(), reversed(self.peaks))

    def take(self, header: bytes, body: bytes, payload: bytes | None) -> None:
        """An event: its leaf into the tree, its place in the tenant's stream, what it says."""
        version, streams, kind, seq, at_ms = struct.unpack_from(">BBH4xQQ", header)
        check((version, len(header), len(body)) == (1, 48 + 56 * streams, 32), "a header has not its form")
        check(seq == self.size and at_ms >= self.at_ms, f"event {seq} is not at its place")
        self.at_ms, leaf = at_ms, sha256(b"\0" + header + body).digest()
        self.add(leaf, 0)
        is_in = self.said["from_ms"] <= at_ms < self.said["to_ms"]
        own = [
            header[at : at + 56] for at in range(48, len(header), 56) if header.startswith(self.stream, at)
        ]
        for link in own:
            self.follow(seq, at_ms, int.from_bytes(link[16:24]), link[24:], leaf)
            self.events, self.withheld = self.events + is_in, self.withheld + (is_in and payload is None)
            check(not is_in or payload is not None or kind in WITHHELD, f"what event {seq} says is hidden")
        if payload is not None:
            self.judge(seq, kind, json.loads(payload), bool(own) and is_in)

    def follow(self, seq: int, at_ms: int, number: int, before: bytes, leaf: bytes) -> None:
        """The tenant's stream goes on: what is not shown of it must lie outside of the time that was asked for."""
        is_outside = at_ms < self.said["from_ms"] or self.last_ms >= self.said["to_ms"]
        is_next = number == self.count
        check(is_next or (number > self.count and is_outside), f"events before {seq} are left out")
        check(not is_next or before == self.leaf, f"event {seq} does not follow the one before it")
        self.count, self.leaf, self.last_ms = number + 1, leaf, at_ms
        check(self.leaves.pop(number + 1, leaf) == leaf, f"event {seq} is not the one that was kept")

    def judge(self, seq: int, kind: int, says: dict[str, Any], counts: bool) -> None:
        """Keep a verdict, which is named by the digest of its values; what rests on verdicts must be as they say."""
        if kind == DECIDED:
            self.verdicts[sha256(compact(list(says["verdict"].values()))).hexdigest()] = says["verdict"]
            self.needed |= {says["verdict"]["policy"], says["verdict"]["facts"]}
            return
        names = says.get("verdicts") or [one for one in [says.get("verdict")] if one]
        for name in names:
            check(name in self.verdicts, f"event {seq} rests on a verdict that is not shown")
            check(self.verdicts[name]["allowed"] is (kind != REFUSED), f"event {seq} is against its verdict")
        if kind == PLACED:
            one, tenant, place = self.verdicts[says["verdict"]], self.said["tenant"], f"site:{says['site']}"
            is_its = (one["action"], one["place"], says["tenant"]) == ("workload.place", place, tenant)
            check(is_its and one["subject"].endswith("@" + tenant), f"event {seq} has another's verdict")
        self.journal = says["journal"] if (seq, kind) == (0, OPENED) else self.journal
        self.decisions += counts and bool(names)

    def line(self, word: bytes, rest: bytes) -> None:
        """A line. A text is a policy, or facts, or what these name: by the digest of its JSON, or of the words in that."""
        first, *more = rest.split(b" ", -1 if word == b"gap" else 2)
        if word == b"event":
            self.take(unhexlify(first), sha256(unhexlify(more[0]) + more[1]).digest(), more[1])
        elif word == b"header":
            self.take(unhexlify(first), unhexlify(more[0]), None)
        elif word == b"gap":
            self.fold(int(first), [unhexlify(one) for one in more])
        else:
            said, ways = json.loads(more[1]), {more[1]}
            ways |= {said.encode()} if isinstance(said, str) else set()
            self.texts |= self.needed & {first.decode()} & {sha256(one).hexdigest() for one in ways}
            check(word == b"text" and first.decode() in self.texts, f"nothing names the text {first!r}")
            self.needed |= {one for one in said if isinstance(one, str) and len(one) == 64}
        if self.size in self.roots:
            check(self.roots.pop(self.size) == self.root(), "the head that was kept is of another past")

    def close(self, closing: dict[str, Any], key: Ed25519PublicKey) -> None:
        """The end: the tree is that of the signed head, and all that the closing says is so."""
        size, root = closing["head"]["size"], root_of(closing["head"], key)
        check((size, root) == (self.size, self.root()), "it is not of the journal whose head it names")
        told = self.said | {"journal": self.journal, "key": key.public_bytes_raw().hex()}
        told |= {"count": self.count, "leaf": self.leaf.hex(), "head": closing["head"]}
        told |= {"events": self.events, "decisions": self.decisions, "withheld": self.withheld}
        check(closing == told and self.journal != "", "it closes with other figures than it shows")
        check(not self.roots and not self.leaves, "it was not made for what was kept: see --checkpoint")


def verify(lines: Iterator[bytes], public: bytes, kept: Iterable[bytes] = ()) -> Pack:
    """What was read; raises Wrong at the first thing that is wrong."""
    try:
        key, first = Ed25519PublicKey.from_public_bytes(public), next(lines, b"")
        check(first.startswith(FORMAT), "this is no evidence pack")
        found, body = Pack(json.loads(first[len(FORMAT) :])), sha256(first)
        for one in kept:
            found.keep(json.loads(one), key)
        while not (line := next(lines, b"")).startswith(b"closing "):
            check(line.endswith(b"\n"), "it is cut: ask for it again")
            body.update(line)
            found.line(*line[:-1].split(b" ", 1))
        seal, after = next(lines, b""), next(lines, b"")
        check(seal == b"seal %b\n" % seal[5:-1].lower() and not after, "it is cut, or goes on after its seal")
        key.verify(unhexlify(seal[5:-1]), SEAL + body.digest() + line)
        found.close(json.loads(line[8:]), key)
        return found
    except InvalidSignature:
        raise Wrong(f"it, or what you kept, is not signed by the key {public.hex()[:16]}...") from None
    except BAD as error:
        raise Wrong(f"it has not its form, or was cut: {type(error).__name__}: {error}") from None


def main(name: str, key: str, *kept: str) -> None:
    """Say what holds and what is not proven, or what is wrong."""
    with open(name, "rb") as lines:
        found = verify(lines, unhexlify(key), [Path(one).read_bytes() for one in kept])
    print(f"{found.said}: {found.events} events, {found.decisions} decisions, none left out or changed")
    print(f"not shown: what {found.withheld} events and {len(found.needed - found.texts)} texts say")
    print("not proven: that the last event is the last;", "what the CHECKPOINT has not" if kept else NOTHING)


if __name__ == "__main__":
    main(*sys.argv[1:])
