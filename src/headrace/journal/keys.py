"""The operator's keys: one signs heads and checkpoints, one wraps the vault's keys. Files of mode 0600."""

import os
import secrets
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from headrace.core.errors import HeadraceError, Problem, ProblemCode

_CHECKPOINT_CONTEXT = b"headrace checkpoint 1\x00"


class Keys:
    """Signs with Ed25519; ``master`` (32 bytes) wraps the vault's data keys."""

    def __init__(self, signing: bytes, master: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(signing)
        self._public = self._private.public_key()
        self.master = master

    @classmethod
    def open(cls, folder: Path) -> "Keys":
        """The keys in ``folder``, made at the first opening; raises HeadraceError when a file is not a key."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        signing = _load_or_make(folder / "signing.key")
        master = _load_or_make(folder / "master.key")
        keys = cls(signing, master)
        public = folder / "signing.pub"
        if not public.exists():
            _write(public, keys.public.hex().encode() + b"\n", 0o644)
        return keys

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        return self._public.public_bytes_raw()

    @property
    def id(self) -> str:
        """A short name of the key."""
        return sha256(self.public).hexdigest()[:16]

    def sign(self, message: bytes) -> bytes:
        """Signature of a message, 64 bytes."""
        return self._private.sign(message)

    def sign_checkpoint(self, digest: bytes) -> bytes:
        """Signature of a checkpoint's SHA-256."""
        return self._private.sign(_CHECKPOINT_CONTEXT + digest)

    def is_checkpoint(self, digest: bytes, signature: bytes) -> bool:
        """Whether a checkpoint of that SHA-256 was signed by this key."""
        return is_signed(self.public, _CHECKPOINT_CONTEXT + digest, signature)


def is_signed(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` over ``message`` is by the key ``public``."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _load_or_make(path: Path) -> bytes:
    if not path.exists():
        _write(path, secrets.token_bytes(32).hex().encode() + b"\n", 0o600)
    try:
        key = bytes.fromhex(path.read_text("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != 32:
        step = "Put the operator's own file back; a new key can't open what the old one sealed."
        raise HeadraceError(
            Problem(ProblemCode.BROKEN, f"{path.name} is not a key of 32 bytes in hexadecimal.", step)
        )
    return key


def _write(path: Path, data: bytes, mode: int) -> None:
    # Written beside and renamed, so that a crash never leaves half a key.
    temporary = path.with_suffix(f".{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        os.write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
