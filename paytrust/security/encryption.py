"""
The master keys of the settings: AES-256-GCM under keys that are not in the database.

They seal the data keys of `paytrust.secrets`, which seal everything else. A sealed value is bound to its
context (which row, which field): moved to another row it does not open.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from paytrust.errors import ConfigurationError

VERSION: Final = b"\x01"
NONCE_BYTES: Final = 12


class DecryptionFailed(ConfigurationError):
    """
    A stored secret is of no use: its key is missing, or it was changed, cut off, or moved to another row.
    """


class MasterKeys:
    """Seals with the first of *keys*, each of 32 bytes, and opens with any of them."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._keys = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self.primary = next(iter(self._keys))
        """The id of the key that seals."""

    @property
    def ids(self) -> list[str]:
        """The ids of the keys, the one that seals first."""
        return list(self._keys)

    def seal(self, plain: bytes, *, context: str) -> bytes:
        """Layout: version, length of the key id, key id, nonce, ciphertext with tag."""
        key_id = self.primary.encode()
        return (
            VERSION
            + bytes([len(key_id)])
            + key_id
            + encrypt(self._keys[self.primary], plain, context.encode())
        )

    def open(self, sealed: bytes, *, context: str) -> bytes:
        """Raises `DecryptionFailed`."""
        end = 2 + sealed[1] if sealed[:1] == VERSION and len(sealed) > 1 else 0
        key_id = sealed[2:end].decode(errors="replace")
        key = self._keys.get(key_id)
        if key is None:
            named = f"with the master key {key_id!r}, which" if key_id.isalnum() else "with a key that"
            raise DecryptionFailed(
                f"a stored secret was encrypted {named} PAYTRUST_ENCRYPTION_KEYS does not hold"
            )
        return decrypt(key, sealed[end:], context.encode())


def encrypt(key: AESGCM, plain: bytes, bound_to: bytes) -> bytes:
    """A fresh nonce, then the ciphertext with its tag."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + key.encrypt(nonce, plain, bound_to)


def decrypt(key: AESGCM, sealed: bytes, bound_to: bytes) -> bytes:
    """Raises `DecryptionFailed`."""
    try:
        return key.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound_to)
    except (InvalidTag, ValueError) as exc:  # a ValueError: cut off within the nonce
        raise DecryptionFailed(
            "a stored secret cannot be decrypted: it was changed, moved, or encrypted with another key"
        ) from exc
