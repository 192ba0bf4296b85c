from __future__ import annotations

from collections.abc import Collection
from typing import Final
from uuid import UUID

from piccolo.querystring import QueryString

from paytrust.infra.db import Record, Transaction
from paytrust.infra.ids import new_id
from paytrust.keys.model import Action, AuditEntry, AuditFilters, Entry, Key, Reason
from paytrust.keys.tables import ApiKeys, KeyAudit
from paytrust.security.access import Scope

CHANNEL: Final = "paytrust_keys"
"""Where a trigger on the table tells every process that a key was changed."""

_SHOWN: Final = (
    "tenant_id",
    "id",
    "prefix",
    "description",
    "scopes",
    "allowed_addresses",
    "created_at",
    "rotated_at",
    "expires_at",
    "revoked_at",
)
"""Never the hash, nor the HMAC that a key is looked up by."""
_RETURNED: Final = ", ".join(_SHOWN)


async def insert(tx: Transaction, key: Key, *, lookup: bytes, hash: str) -> Key:  # noqa: A002 - the column's name
    row = await tx.fetchrow(
        "INSERT INTO paytrust.api_keys (tenant_id, id, prefix, lookup, hash, description, scopes, expires_at, allowed_addresses)"
        f" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING {_RETURNED}",
        key.tenant_id,
        key.key_id,
        key.prefix,
        lookup,
        hash,
        key.description,
        list(key.scopes),
        key.expires_at,
        key.allowed_addresses,
    )
    assert row is not None
    return _key(row)


async def find(tx: Transaction, lookups: Collection[bytes]) -> dict[bytes, Record]:
    """The keys with these HMACs, live or not, in whatever tenant, by their HMACs."""
    found = await tx.fetch(
        "SELECT lookup, tenant_id, id, hash, scopes, allowed_addresses, revoked_at IS NOT NULL AS revoked,"
        " extract(epoch FROM expires_at - now())::float8 AS ends_in_s FROM paytrust.api_keys WHERE lookup = ANY($1)",
        lookups,
    )
    return {row["lookup"]: row for row in found}


async def get(tx: Transaction, key_id: UUID) -> Record | None:
    return await tx.fetchrow(
        "SELECT tenant_id, hash, revoked_at IS NOT NULL OR coalesce(expires_at <= now(), false) AS dead FROM paytrust.api_keys WHERE id = $1",
        key_id,
    )


async def page(tx: Transaction, *, limit: int, after: UUID | None, tenant_id: UUID | None) -> list[Key]:
    """Oldest first: ids are ordered by time."""
    query = ApiKeys.select(*_SHOWN).order_by(ApiKeys.id).limit(limit)
    if after is not None:
        query = query.where(ApiKeys.id > after)
    if tenant_id is not None:
        query = query.where(ApiKeys.tenant_id == tenant_id)
    return [_key(row) for row in await tx.select(query)]


async def rotate(
    tx: Transaction,
    key_id: UUID,
    *,
    prefix: str,
    lookup: bytes,
    hash: str,  # noqa: A002 - as above
    was: str,
) -> Key | None:
    """
    Put another secret in place of the one with the hash *was*. None when somebody rotated or revoked the key
    since that was read.
    """
    row = await tx.fetchrow(
        "UPDATE paytrust.api_keys SET prefix = $2, lookup = $3, hash = $4, rotated_at = now()"
        f" WHERE id = $1 AND hash = $5 AND revoked_at IS NULL RETURNING {_RETURNED}",
        key_id,
        prefix,
        lookup,
        hash,
        was,
    )
    return None if row is None else _key(row)


async def revoke(tx: Transaction, key_id: UUID) -> UUID | None:
    """The tenant of the key that was revoked; None when there is no such key, or it is revoked already."""
    tenant_id: UUID | None = await tx.fetchval(
        "UPDATE paytrust.api_keys SET revoked_at = now() WHERE id = $1 AND revoked_at IS NULL RETURNING tenant_id",
        key_id,
    )
    return tenant_id


def _key(row: Record) -> Key:
    return Key(
        key_id=row["id"],
        tenant_id=row["tenant_id"],
        prefix=row["prefix"],
        description=row["description"],
        scopes=[Scope(scope) for scope in row["scopes"]],
        allowed_addresses=row["allowed_addresses"],
        created_at=row["created_at"],
        rotated_at=row["rotated_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
    )


# --- the audit ------------------------------------------------------------------------------------------------------------

_ENTRY: Final = (
    KeyAudit.id,
    KeyAudit.at,
    KeyAudit.first_at,
    KeyAudit.times,
    KeyAudit.action,
    KeyAudit.reason,
    KeyAudit.actor,
    KeyAudit.tenant_id,
    KeyAudit.key_id,
    KeyAudit.address,
    KeyAudit.request_id,
)


async def add_audit(tx: Transaction, entries: list[Entry]) -> None:
    await tx.connection.executemany(
        "INSERT INTO paytrust.key_audit (id, tenant_id, key_id, action, reason, actor, address, request_id, old_hash, times, first_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, now() - make_interval(secs => $11))",
        [
            (
                new_id(),
                entry.about.tenant_id,
                entry.about.key_id,
                entry.about.action,
                entry.about.reason,
                entry.about.actor,
                entry.about.address,
                entry.request_id,
                entry.old_hash,
                entry.times,
                entry.age_s,
            )
            for entry in entries
        ],
    )


async def audit(
    tx: Transaction, filters: AuditFilters, *, limit: int, before: UUID | None
) -> list[AuditEntry]:
    """Newest first; *before* is the last id of the page before."""
    query = KeyAudit.select(*_ENTRY).order_by(KeyAudit.at, KeyAudit.id, ascending=False).limit(limit)
    if filters.tenant_id is not None:
        query = query.where(KeyAudit.tenant_id == filters.tenant_id)
    if filters.key_id is not None:
        query = query.where(KeyAudit.key_id == filters.key_id)
    if filters.created_from is not None:
        query = query.where(KeyAudit.at >= filters.created_from)
    if filters.created_to is not None:
        query = query.where(KeyAudit.at < filters.created_to)
    if before is not None:
        last = KeyAudit.select(KeyAudit.at, KeyAudit.id).where(KeyAudit.id == before)
        query = query.where(QueryString("({}, {}) < ({})", KeyAudit.at, KeyAudit.id, *last.querystrings))
    return [_audit_entry(row) for row in await tx.select(query)]


def _audit_entry(row: Record) -> AuditEntry:
    return AuditEntry(
        audit_id=row["id"],
        at=row["at"],
        first_at=row["first_at"],
        times=row["times"],
        action=Action(row["action"]),
        reason=row["reason"] and Reason(row["reason"]),
        actor=row["actor"],
        tenant_id=row["tenant_id"],
        key_id=row["key_id"],
        address=row["address"],
        request_id=row["request_id"],
    )


# --- the pepper -----------------------------------------------------------------------------------------------------------


async def pepper_digest(tx: Transaction) -> bytes | None:
    """Of the pepper that this database's keys are made with; None before the first start."""
    digest: bytes | None = await tx.fetchval(
        "SELECT digest FROM paytrust.key_peppers ORDER BY adopted_at DESC, id DESC LIMIT 1"
    )
    return digest


async def lock_peppers(tx: Transaction) -> None:
    """Of several processes that start at once, one adopts its pepper and the others compare theirs with it."""
    await tx.execute("SELECT pg_advisory_xact_lock(hashtext('paytrust.key_peppers'))")


async def adopt_pepper(tx: Transaction, digest: bytes) -> None:
    await tx.execute("INSERT INTO paytrust.key_peppers (id, digest) VALUES ($1, $2)", new_id(), digest)
