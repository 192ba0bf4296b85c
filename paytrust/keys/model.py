"""API keys: who may call, for which tenant, and what is written down about it."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final
from uuid import UUID

import msgspec

from paytrust import times
from paytrust.errors import FieldError, Invalid, pointer
from paytrust.security import access
from paytrust.security.access import Caller, Scope

KEY: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
WINDOW_S: Final = 3600.0


class CreateKey(msgspec.Struct, forbid_unknown_fields=True):
    tenant_id: UUID
    description: Annotated[str, msgspec.Meta(max_length=200)] = ""
    scopes: Annotated[list[Scope], msgspec.Meta(min_length=1, max_length=2)] = msgspec.field(
        default_factory=lambda: [Scope.READ, Scope.WRITE]
    )
    expires_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    allowed_addresses: Annotated[
        list[Annotated[str, msgspec.Meta(max_length=43)]], msgspec.Meta(max_length=50)
    ] = msgspec.field(default_factory=list)


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key as we may show it: the key itself is gone."""

    key_id: UUID
    tenant_id: UUID
    prefix: str
    description: str
    scopes: list[Scope]
    allowed_addresses: list[str]
    created_at: datetime
    rotated_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None


class ShownKey(Key, frozen=True, kw_only=True):
    """The one answer that shows the key."""

    api_key: str


def check_end(expires_at: datetime | None) -> None:
    """Raises `Invalid` for an end that nothing can be calculated with, such as the year 9999."""
    if expires_at is not None and not times.is_sane(expires_at):
        detail = f"must be before the year {times.LATEST.year}; leave it out for a key without an end"
        raise Invalid(f"#/expires_at: {detail}", errors=(FieldError(pointer("expires_at"), detail),))


def new_key() -> str:
    """256 random bits in hex."""
    return secrets.token_hex(32)


def lookup(pepper: str, key: str) -> bytes:
    """What the database is searched by: useless without the pepper, which it does not hold."""
    return hmac.digest(pepper.encode(), key.encode(), hashlib.sha256)


def fingerprint(pepper: str, admin_key: str) -> str:
    """
    Eight hex digits that tell one admin key from another, and from which nobody without the pepper can guess
    it.
    """
    return hmac.digest(pepper.encode(), b"admin:" + admin_key.encode(), hashlib.sha256).hex()[:8]


WRONG_PEPPER: Final = (
    "PAYTRUST_KEY_PEPPER is not the one that the API keys of this database are made with, so every key would be"
    " unknown: set that one again, or if it is lost, run `paytrust keys accept-pepper`"
)


def pepper_digest(pepper: str) -> bytes:
    """What tells one pepper from another, and from which nobody can compute it."""
    return hmac.digest(pepper.encode(), b"the key pepper of this database", hashlib.sha256)


def normalised(addresses: list[str]) -> list[str]:
    """Networks in CIDR notation, each once. Raises `Invalid` with a pointer to the first that is none."""
    found = []
    for index, text in enumerate(addresses):
        try:
            found.append(str(access.network(text)))
        except ValueError as exc:
            at = pointer("allowed_addresses", index)
            raise Invalid(f"{at}: {_NO_NETWORK}", errors=(FieldError(at, _NO_NETWORK),)) from exc
    return list(dict.fromkeys(found))


_NO_NETWORK: Final = (
    "expected an address or a network such as 203.0.113.0/24 or 2001:db8::/32, without bits beyond the prefix"
)


# --- the audit ------------------------------------------------------------------------------------------------------------


class Action(StrEnum):
    """What happened to a key, or was tried with one."""

    CREATED = "created"
    ROTATED = "rotated"
    REVOKED = "revoked"
    USED = "used"
    FAILED = "failed"


class Reason(StrEnum):
    """Why a key was refused."""

    MALFORMED_KEY = "malformed_key"
    UNKNOWN_KEY = "unknown_key"
    REVOKED_KEY = "revoked_key"
    EXPIRED_KEY = "expired_key"
    ADDRESS_NOT_ALLOWED = "address_not_allowed"
    MISSING_SCOPE = "missing_scope"
    WRONG_ADMIN_KEY = "wrong_admin_key"


class Audited(msgspec.Struct, frozen=True):
    """What an entry is about. *tenant_id* and *key_id* are None where no API key is, or none that we know."""

    action: Action
    actor: str
    address: str | None = None
    tenant_id: UUID | None = None
    key_id: UUID | None = None
    reason: Reason | None = None


class Entry(msgspec.Struct, frozen=True):
    """
    An entry to be written: it happened *times* times, the first one *age_s* seconds ago, in the request
    *request_id*.
    """

    about: Audited
    request_id: str | None = None
    times: int = 1
    age_s: float = 0.0
    old_hash: str | None = None


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """
    An entry as it is shown. It happened *times* times from *first_at* to *at*; *request_id* is that of the
    first time.
    """

    audit_id: UUID
    at: datetime
    first_at: datetime
    times: int
    action: Action
    reason: Reason | None
    actor: str
    tenant_id: UUID | None
    key_id: UUID | None
    address: str | None
    request_id: str | None


class AuditFilters(msgspec.Struct, frozen=True):
    """Which entries: *created_from* is included, *created_to* is not."""

    tenant_id: UUID | None = None
    key_id: UUID | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None


class _Count(msgspec.Struct):
    number: int = 0
    first_s: float = 0.0
    request_id: str | None = None
    quiet_until_s: float = 0.0


class Tally:
    """
    Counts what happens often, so that it is written seldom: each thing at once, then at most once in
    *window_s*.

    It tells at most *limit* things apart in a window; beyond that, addresses are no longer told apart. So
    nobody can fill the memory or the disk by failing from many addresses. Times are seconds of a monotonic
    clock.
    """

    def __init__(self, *, limit: int, window_s: float = WINDOW_S) -> None:
        self._limit = limit
        self._window_s = window_s
        self._counts: dict[Audited, _Count] = {}

    def note(self, about: Audited, request_id: str | None, *, now_s: float) -> None:
        count = self._counts.get(about)
        if count is None:
            if len(self._counts) >= self._limit:
                about = msgspec.structs.replace(about, address=None)
            count = self._counts.setdefault(about, _Count())
        if count.number == 0:
            count.first_s, count.request_id = now_s, request_id
        count.number += 1

    def take(self, *, now_s: float, everything: bool = False) -> list[Entry]:
        """What is due to be written, which is then forgotten: `give_back` what could not be written."""
        due = []
        for about, count in list(self._counts.items()):
            open_window = now_s < count.quiet_until_s
            if count.number and (everything or not open_window):
                due.append(Entry(about, count.request_id, count.number, now_s - count.first_s))
                count.number, count.quiet_until_s = 0, now_s + self._window_s
            elif not count.number and not open_window:
                del self._counts[about]
        return due

    def give_back(self, entries: list[Entry], *, now_s: float) -> None:
        for entry in entries:
            count = self._counts.setdefault(entry.about, _Count())
            count.number += entry.times
            count.first_s, count.request_id, count.quiet_until_s = now_s - entry.age_s, entry.request_id, 0.0


def refused(
    reason: Reason, caller: Caller, *, tenant_id: UUID | None = None, key_id: UUID | None = None
) -> Audited:
    """A failure. An unknown caller's IPv6 address counts by its /64, which is what one subscriber has."""
    if key_id is not None:
        return Audited(Action.FAILED, f"api_key:{key_id}", caller.address, tenant_id, key_id, reason)
    return Audited(Action.FAILED, caller.actor, _subscriber(caller.address), reason=reason)


def _subscriber(address: str | None) -> str | None:
    if address is None or ":" not in address:
        return address
    return str(ipaddress.ip_network((address, 64), strict=False))
