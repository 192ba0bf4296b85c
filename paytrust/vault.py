"""
Secrets at rest: AES-256-GCM under keys that are not in the database.

A sealed value is bound to its context (which row, which field): moved to another row it does not open.
"""

from __future__ import annotations

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from paytrust.errors import ConfigurationError
from paytrust.settings import Settings, decode_key

VERSION: Final = b"\x01"
NONCE_BYTES: Final = 12


class Vault:
    """Seals with the first key of the settings and opens with any of them."""

    def __init__(self, settings: Settings) -> None:
        self._keys = {key_id: AESGCM(decode_key(key)) for key_id, key in settings.encryption_keys.items()}
        self._primary = next(iter(self._keys))

    def seal(self, plain: bytes, *, context: str) -> bytes:
        """Layout: version, length of the key id, key id, nonce, ciphertext with tag."""
        key_id = self._primary.encode()
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._keys[self._primary].encrypt(nonce, plain, context.encode())
        return VERSION + bytes([len(key_id)]) + key_id + nonce + sealed

    def open(self, sealed: bytes, *, context: str) -> bytes:
        """Raises `ConfigurationError` when the key is not ours or the value was moved or changed."""
        end = 2 + sealed[1]
        key = self._keys.get(sealed[2:end].decode())
        if sealed[:1] != VERSION or key is None:
            raise ConfigurationError("a stored secret was encrypted with a key that PAYTRUST_ENCRYPTION_KEYS does not hold")
        try:
            return key.decrypt(sealed[end : end + NONCE_BYTES], sealed[end + NONCE_BYTES :], context.encode())
        except InvalidTag as exc:
            raise ConfigurationError("a stored secret does not open: it was changed, moved, or encrypted with another key") from exc
