from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from paytrust.security.encryption import DecryptionFailed, decrypt, encrypt

VERSION: Final = b"\x02"
KEY_BYTES: Final = 32
NO_TENANT: Final = UUID(int=0)
"""The scope of what belongs to no tenant: accounts that all share, and answers to administrators."""


class EncryptionContext(msgspec.Struct, frozen=True):
    """Where a secret is kept. It opens there and nowhere else."""

    scope: UUID
    """The tenant, or `NO_TENANT`."""
    table: str
    field: str
    row: str

    @property
    def under_master_key(self) -> str:
        """The context of values that no data key sealed, which versions before migration 0015 wrote."""
        return f"{self.table}/{self.row}/{self.field}"


class Sealed(msgspec.Struct, frozen=True):
    """
    A secret as the database keeps it, with the data key it names, as that is kept; None when it names none
    that is there.
    """

    value: bytes
    wrapped_key: bytes | None = None


class Outdated(msgspec.Struct, frozen=True):
    """A secret that another key has sealed than the one that seals for its scope now."""

    context: EncryptionContext
    sealed: Sealed
    at: tuple[Any, ...]
    """The row's key; `after` for those that follow."""


class DataKey:
    """The key of one scope, in plain. It has no way to be shown, stored or compared."""

    def __init__(self, scope: UUID, key_id: UUID, key: bytes) -> None:
        assert len(key) == KEY_BYTES
        self._scope, self._header, self._key = scope, VERSION + key_id.bytes, AESGCM(key)

    def seal(self, plain: bytes, context: EncryptionContext) -> bytes:
        """
        Layout: version, id of the data key, nonce, ciphertext with tag. Bound to version, key and context.
        """
        return self._header + encrypt(self._key, plain, self._bound_to(context))

    def open(self, value: bytes, context: EncryptionContext) -> bytes:
        """Raises `DecryptionFailed`."""
        if not value.startswith(self._header):
            raise DecryptionFailed("a stored secret was encrypted with another data key")
        return decrypt(self._key, value[len(self._header) :], self._bound_to(context))

    def _bound_to(self, context: EncryptionContext) -> bytes:
        # Only a row's name may hold any character: what comes before it cannot be mistaken for part of it.
        return self._header + f"{self._scope}|{context.table}|{context.field}|{context.row}".encode()


def key_id_of(value: bytes) -> UUID | None:
    """The data key that a value names; None for one that no data key sealed."""
    return UUID(bytes=value[1:17]) if value[:1] == VERSION and len(value) >= 17 else None


def wrapping(scope: UUID, key_id: UUID) -> str:
    """The context of a wrapped data key: its purpose, its tenant and its id."""
    return f"data_keys/{scope}/{key_id}"
