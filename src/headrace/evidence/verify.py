"""Verify settlement evidence offline. It stands alone: the standard library and `cryptography`, nothing of the control plane.

The signature says that the operator wrote these bytes. All that can be computed is computed again, here and in `figures`,
by the rules of docs/rfd/0017-settlement.md: who signs what does not add up is found too. The rest is said to be unproven.
"""

import json
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from struct import error as struct_error
from struct import pack, unpack_from
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from headrace.evidence.figures import (
    windows_of,
    wrong_baseline,
    wrong_intervals,
    wrong_totals,
    wrong_windows,
)

FORMAT, CONTEXT = "headrace settlement evidence 2", b"headrace settlement evidence 2\x00"
HEAD_CONTEXT = b"headrace journal head 1\x00"
KINDS = {
    1: "JournalOpened",
    13: "PlacementEnded",
    16: "PauseObserved",
    17: "EvictionRequested",
    25: "AlarmRaised",
    30: "InstructionReceived",
    31: "InstructionWithdrawn",
    32: "CurtailmentOrdered",
    33: "CurtailmentLifted",
}
"""Numbers of the kinds of event in their headers."""
MOST_NAMED = 10
"""Other instructions that a line names."""
SOURCES = ("measured", "modelled", "nameplate", "stale")
INTERVALS_MS, HOLD_MS = (300_000, 900_000, 1_800_000, 3_600_000), 60_000
UNPROVEN = (
    "times are by the operator's clock, bounded by the journal's head: compare that with one that you kept",
    "which workloads were told to go, and for which instruction, is not shown: 'headrace journal proof' shows it",
    "that no event and no other instruction was left out: 'headrace journal verify' of the whole journal shows it",
    "the site's zone and country, the watts of its connection and its ramp are the operator's own word: no event of it is shown",
)
BAD = (ValueError, KeyError, TypeError, IndexError, AttributeError, ArithmeticError, OSError, struct_error)
"""What an operation raises on a document that has not its form."""


@dataclass(slots=True)
class Found:
    """What holds, what can't be proven by this file, and what is wrong (empty: it verifies)."""

    verified: list[str] = field(default_factory=list)
    unproven: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def canonical(value: Any) -> bytes:
    """The one way to write a value: sorted keys, no blanks, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def verify(data: bytes, public: bytes) -> Found:
    """Verify a file's bytes with the operator's public key (32 bytes). Never raises: what can't be read is wrong."""
    found = Found()
    try:
        sealed = json.loads(data)
        document, key, signature = sealed["document"], sealed["key"], sealed["signature"]
        is_plain = sorted(sealed) == ["document", "key", "signature"] and canonical(sealed) + b"\n" == data
    except (*BAD, RecursionError) as error:
        found.wrong.append(f"the file is cut, or is no evidence at all ({type(error).__name__}: {error})")
        return found
    if not is_plain:
        found.wrong.append("the file is not written in the one way that is signed")
    checks: dict[str, Callable[[], list[str]]] = {
        "the document is signed by the operator's key": lambda: _seal(document, key, signature, public),
        "each part has its digest": lambda: _parts(document),
        "its events are in the journal, under its signed head": lambda: _events(document),
        "limits and times are those of the instruction's own events": lambda: _instruction(document),
        "each interval follows from the readings and limits given; what was delivered is attributed once": lambda: (
            _lengths(document) + wrong_intervals(document)
        ),
        "each baseline is the mean of the windows given": lambda: wrong_baseline(document),
        "each of these windows is where, and as long as, its method has it": lambda: wrong_windows(document),
        "the totals are the sums of the intervals": lambda: wrong_totals(document),
    }
    for says, check in checks.items():
        try:
            wrong = check()
        except BAD as error:
            wrong = [f"something has not its form ({type(error).__name__}: {error}), so not: {says}"]
        found.wrong += wrong
        found.verified += [] if wrong else [says]
    found.unproven += [_readings(document), *_baseline(document), *UNPROVEN]
    if others := meanwhile(document):
        text = f"the limits and times of {others}; their own evidence shows them, and adds up with this"
        found.unproven.insert(0, text)
    return found


def meanwhile(document: Any) -> str:
    """Which other instructions held at the site meanwhile; "" for none."""
    try:
        held: dict[str, list[int]] = {}
        for one in document["overlapping"]:
            held.setdefault(str(one["id"]), []).append(int(one["limit_w"]))
        named = [f"{name} (at most {min(limits)} W)" for name, limits in held.items()]
    except BAD:
        return ""
    if not named:
        return ""
    more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
    others = "1 other" if len(named) == 1 else f"{len(named)} others"
    return f"{others} held meanwhile: {', '.join(named[:MOST_NAMED])}{more}"


def _lengths(document: dict[str, Any]) -> list[str]:
    """Intervals are of a length that there is, and a measured reading holds for as long as the rules have it."""
    wrong = []
    if document["interval_ms"] not in INTERVALS_MS:
        wrong.append(f"interval_ms: {document['interval_ms']!r} is none of 5, 15, 30 and 60 minutes")
    if document["hold_ms"] != HOLD_MS:
        wrong.append(f"hold_ms: {document['hold_ms']!r} is not {HOLD_MS}")
    return wrong


def _baseline(document: Any) -> list[str]:
    """What of the baseline is the operator's own word."""
    try:
        found = []
        allowed_w, windows = document["site"]["allowed_w"], windows_of(document)
        if document["baseline"]["method"].startswith("high"):
            found.append(
                "that the days of the baseline are the last comparable ones, and none of the last was left out"
            )
        if document["baseline"]["reasons"]:
            found.append("that the methods of the baseline that were passed over were not available")
        high = {tuple(one) for one in windows if one[2] > allowed_w * one[3]}
        if high:
            found.append(
                f"{len(high)} windows of the baseline are above the {allowed_w} W of the connection: no such draw was allowed"
            )
    except BAD:
        return []
    return found


def _readings(document: Any) -> str:
    try:
        given = [one[2] for one in document["readings"]]
        counts = ", ".join(f"{given.count(one)} {one}" for one in SOURCES if one in given) or "none"
    except BAD:
        counts = "not readable"
    return f"the readings ({counts}) and those behind the baseline are the operator's own word: no meter signed them"


def is_signed(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether a signature over a message is by a key."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _seal(document: dict[str, Any], key: str, signature: str, public: bytes) -> list[str]:
    wrong = []
    if document["format"] != FORMAT:
        wrong.append(
            f"format: {document['format']!r} is not {FORMAT!r}: its own version of headrace verifies it"
        )
    if not key == public.hex() == document["journal"]["key"]:
        wrong.append(f"key: the document names another one than the operator's {public.hex()[:16]}...")
    given = bytes.fromhex(signature)
    if given.hex() != signature or not is_signed(public, CONTEXT + canonical(document), given):
        wrong.append("signature: it is not by this key over this document")
    return wrong


def _parts(document: dict[str, Any]) -> list[str]:
    """Says which part was changed."""
    ours = {name: sha256(canonical(one)).hexdigest() for name, one in document.items() if name != "parts"}
    names = sorted(ours.keys() | document["parts"].keys())
    return [f"{one}: not as it was signed" for one in names if ours.get(one) != document["parts"].get(one)]


def root_of(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes | None:
    """The root that a path leads to from a leaf (RFC 9162, 2.1.3.2); None when it has not the length that it should."""
    at, last = index, size - 1
    for other in path:
        if last == 0:
            return None
        is_right = at & 1 or at == last
        leaf = sha256(b"\x01" + (other + leaf if is_right else leaf + other)).digest()
        while is_right and not at & 1 and at:
            at, last = at >> 1, last >> 1
        at, last = at >> 1, last >> 1
    return leaf if last == 0 and 0 <= index < size else None


def _events(document: dict[str, Any]) -> list[str]:
    journal, events = document["journal"], document["events"]
    head, wrong = journal["head"], []
    root, public = b64decode(head["root"]), bytes.fromhex(journal["key"])
    message = HEAD_CONTEXT + pack(">QQ", head["size"], head["at_ms"]) + root
    if not is_signed(public, message, b64decode(head["signature"])):
        wrong.append("journal: its head is not signed by the operator's key")
    for one in events:
        wrong += [f"event {one['seq']} ({one['kind']}): {text}" for text in _event(one, head["size"], root)]
    numbers = [one["seq"] for one in events]
    if numbers != sorted(set(numbers)):
        wrong.append("events: they are not in the journal's order, or one comes twice")
    if numbers[0] != 0 or payload(events[0])["journal"] != journal["name"]:
        wrong.append(f"journal: its first event does not name it {journal['name']}")
    return wrong


def _event(one: dict[str, Any], size: int, root: bytes) -> list[str]:
    """leaf = SHA-256(0 | header | body), body = SHA-256(salt | payload); the header has kind, number and time."""
    wrong, header, body = [], b64decode(one["header"]), b64decode(one["body"])
    kind, seq, at_ms = unpack_from(">2xH4xQQ", header)
    if (KINDS.get(kind), seq, at_ms) != (one["kind"], one["seq"], one["at_ms"]):
        wrong.append("its header says another kind, number or time")
    if one["payload"] and sha256(b64decode(one["salt"]) + b64decode(one["payload"])).digest() != body:
        wrong.append("its payload is not what the journal holds")
    leaf = sha256(b"\x00" + header + body).digest()
    if leaf != b64decode(one["leaf"]):
        wrong.append("its leaf is not that of its header and body")
    if root_of(leaf, seq, size, [b64decode(part) for part in one["path"]]) != root:
        wrong.append("it is not in the journal whose head this is")
    return wrong


def payload(event: dict[str, Any]) -> Any:
    """What an event says, where it is shown; its own proof covers it."""
    return json.loads(b64decode(event["payload"]))


def _instruction(document: dict[str, Any]) -> list[str]:
    """Every version is what one event says, word by word; the next one, or its withdrawal, ended it."""
    told, wrong = document["instruction"], []
    own = [
        one for one in document["events"] if one["kind"] in ("InstructionReceived", "InstructionWithdrawn")
    ]
    expected: list[dict[str, Any]] = []
    for event in own:
        said = payload(event)["instruction"]
        if expected and not expected[-1]["ended_ms"]:
            expected[-1] |= {"ended_ms": event["at_ms"], "ended_by": event["seq"]}
        if event["kind"] == "InstructionReceived":
            ended = {"ended_ms": 0, "ended_by": None}
            expected.append({**said, "seq": event["seq"], "received_ms": event["at_ms"], **ended})
        if (said if isinstance(said, str) else said["id"]) != told["id"]:
            wrong.append(f"event {event['seq']}: it is about another instruction")
    whole = {"id": told["id"], "site": document["site"]["id"]}
    if [{**whole, **one} for one in told["versions"]] != expected:
        wrong.append("instruction: it is not what its events say")
    return wrong
