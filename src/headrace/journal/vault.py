"""Secrets and what concerns a person: outside the journal, encrypted under a key per tenant and subject.

Destroying a tenant's keys (``erase``) makes every value of it unreadable for good, in every copy of the store, while
events that refer to a value still verify. Values are AES-256-GCM; a data key is wrapped by the operator's master key.
"""

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from headrace.core.errors import HeadraceError, Problem, ProblemCode

_NONCE = 12
_DIGEST_CONTEXT = b"headrace digest 1\x00"


@dataclass(frozen=True, slots=True)
class VaultKey:
    """A data key of a (tenant, subject), wrapped."""

    tenant: str
    subject: str
    wrapped: bytes


@dataclass(frozen=True, slots=True)
class VaultEntry:
    """An encrypted value; ``ref`` is what events hold."""

    ref: str
    tenant: str
    subject: str
    sealed: bytes


class Vault:
    """Seals and opens values. What it makes is stored by the journal in the transaction of the events that refer to it.

    ``random`` gives random bytes (a simulation passes its own).
    """

    def __init__(self, master: bytes, random: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self._master = AESGCM(master)
        self._random = random
        self._keys: dict[tuple[str, str], AESGCM] = {}
        self._digest_keys: dict[tuple[str, str], bytes] = {}

    def load_key(self, key: VaultKey) -> None:
        """Take a stored data key."""
        context = f"{key.tenant}/{key.subject}".encode()
        try:
            plain = self._master.decrypt(key.wrapped[:_NONCE], key.wrapped[_NONCE:], context)
        except InvalidTag:
            step = "Put the master.key back that this state was made with."
            raise HeadraceError(
                Problem(ProblemCode.BROKEN, "the master key does not open this state's vault.", step)
            ) from None
        self._take(key.tenant, key.subject, plain)

    def _take(self, tenant: str, subject: str, plain: bytes) -> AESGCM:
        self._digest_keys[tenant, subject] = hmac.digest(plain, _DIGEST_CONTEXT, "sha256")
        cipher = self._keys[tenant, subject] = AESGCM(plain)
        return cipher

    def seal(self, tenant: str, subject: str, value: str) -> tuple[VaultEntry, VaultKey | None]:
        """Encrypt a value; also the new wrapped key when the subject had none."""
        made = None
        cipher = self._keys.get((tenant, subject))
        if cipher is None:
            plain, nonce = self._random(32), self._random(_NONCE)
            wrapped = nonce + self._master.encrypt(nonce, plain, f"{tenant}/{subject}".encode())
            made = VaultKey(tenant, subject, wrapped)
            cipher = self._take(tenant, subject, plain)
        ref = f"vault:{self._random(16).hex()}"
        nonce = self._random(_NONCE)
        return VaultEntry(
            ref, tenant, subject, nonce + cipher.encrypt(nonce, value.encode(), ref.encode())
        ), made

    def open(self, entry: VaultEntry) -> str:
        """Decrypt a value; raises HeadraceError when its key was destroyed, or the value is not what was sealed."""
        cipher = self._keys.get((entry.tenant, entry.subject))
        if cipher is None:
            raise erased(entry.ref)
        try:
            plain = cipher.decrypt(entry.sealed[:_NONCE], entry.sealed[_NONCE:], entry.ref.encode())
        except InvalidTag:
            step = "Restore a backup of the store, or submit again with the secret."
            message = f"the value behind {entry.ref} does not open: it is not what was sealed."
            raise HeadraceError(Problem(ProblemCode.BROKEN, message, step)) from None
        return plain.decode()

    def digest(self, tenant: str, subject: str, value: str) -> str:
        """A digest of what holds secrets: nobody can try guesses on it without the data key, nor after its end.

        Raises KeyError when nothing was sealed for the subject yet.
        """
        key = self._digest_keys[tenant, subject]
        return hmac.digest(key, value.encode(), "sha256").hex()

    def forget(self, tenant: str) -> None:
        """Drop a tenant's data keys from memory."""
        for key in [key for key in self._keys if key[0] == tenant]:
            del self._keys[key], self._digest_keys[key]


def erased(ref: str) -> HeadraceError:
    """The error of a value whose key is gone."""
    return HeadraceError(
        Problem(ProblemCode.NOT_FOUND, f"the value behind {ref} was erased.", "Submit again with the secret.")
    )
