"""The texts behind the digests of verdicts: policies and facts, each found by its digest, with the document that it is from.

A verdict names its policy and its facts by digest. What is put into a pack is a text with that digest, or with one that such a
text names in its turn: nothing else can be. What nobody finds again is said to be not shown.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from headrace.core.authority import Verdict
from headrace.core.sovereignty import plain
from headrace.evidence.pack import canonical
from headrace.evidence.pack_law import Grounds

HEX_DIGEST = 64
OWNED = frozenset({"contract", "reservation", "dataset"})
"""Kinds of document that name the tenant they are about."""
SHOWN = frozenset({"facts", "policy"})
"""Kinds of document that are shown whole where a verdict of the tenant's rests on them."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document as it was applied by event ``seq``."""

    seq: int
    kind: str
    name: str
    verdict: str = ""


Texts = dict[str, tuple[bytes, int | None]]
"""A text by its digest, as it stands in a pack, with the event that has it (None: it is part of the program)."""


def texts_for(verdicts: Sequence[Verdict], grounds: Sequence[Grounds]) -> Texts:
    """The texts that the verdicts name, and those that these name in their turn; each after the one that names it."""
    proposed = [*_rights(), *_roles(verdicts), *_of(grounds)]
    wanted = {str(digest) for one in verdicts for digest in (one.policy, one.facts)}
    found: Texts = {}
    while True:
        new: Texts = {}
        for digest, text, seq in proposed:
            if digest in wanted and digest not in found:
                new.setdefault(digest, (text, seq))
        if not new:
            return found
        found |= new
        wanted = {name for text, _ in new.values() for name in named_in(text)}


def named_in(text: bytes) -> set[str]:
    """The digests that a text names: a list's, or an object's keys."""
    said = json.loads(text)
    parts = said if isinstance(said, list | dict) else ()
    return {one for one in parts if isinstance(one, str) and len(one) == HEX_DIGEST}


Proposed = Iterator[tuple[str, bytes, int | None]]


def _proposed(value: object, seq: int | None = None) -> Proposed:
    """A value's text under its digest; a text in words also under that of the words."""
    text = canonical(value)
    yield sha256(text).hexdigest(), text, seq
    if isinstance(value, str):
        yield sha256(value.encode()).hexdigest(), text, seq


def _of(grounds: Sequence[Grounds]) -> Proposed:
    for one in grounds:
        yield from _proposed(one.facts, one.facts_seq)
        for value in one.policy:
            yield from _proposed(value, one.policy_seq)


def _rights() -> Proposed:
    """The table of rights, as the program has it now; one of an older version is not known any more."""
    actions, admins = plain.ACTIONS, plain._TENANT_ADMIN_ONLY
    yield from _proposed([{name: actions[name] for name in sorted(actions)}, sorted(admins)])


def _roles(verdicts: Sequence[Verdict]) -> Proposed:
    """The facts of a right: who asked as what, about what, and whose that was."""
    for verdict in verdicts:
        role, _, tenant = verdict.subject.partition("@")
        kind, _, whose = verdict.place.partition(":")
        owner = {"own": tenant or None, "operator": None}.get(whose, whose)
        yield from _proposed([role, tenant or None, kind, owner])


def is_disclosed(kind: str, name: str, document: dict[str, Any], tenant: str) -> bool:
    """Whether a tenant's pack shows a document whole: its own, and what was sold to it."""
    if kind == "tenant":
        return name == tenant
    return kind in OWNED and document.get("tenant") == tenant
