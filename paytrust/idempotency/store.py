from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from paytrust.idempotency.model import Claim
from paytrust.infra.db import Record, Transaction


async def claim(
    tx: Transaction, scope: UUID, key: str, *, fingerprint: bytes, object_id: UUID, lease: timedelta
) -> Claim | None:
    """
    Claim an unknown key, or take over one whose lease has run out; None when it is done, held, or another
    request's.
    """
    row = await tx.fetchrow(
        "INSERT INTO paytrust.idempotency_keys AS k (scope, key, fingerprint, object_id, lease_until)"
        " VALUES ($1, $2, $3, $4, now() + $5)"
        " ON CONFLICT (scope, key) DO UPDATE SET attempt = k.attempt + 1, lease_until = excluded.lease_until"
        " WHERE k.fingerprint = excluded.fingerprint AND k.answer IS NULL AND k.lease_until <= now()"
        " RETURNING object_id, attempt",
        scope,
        key,
        fingerprint,
        object_id,
        lease,
    )
    return Claim(scope, key, row["object_id"], row["attempt"]) if row else None


async def find(tx: Transaction, scope: UUID, key: str) -> Record | None:
    return await tx.fetchrow(
        "SELECT i.fingerprint, i.answer, (SELECT k.wrapped FROM paytrust.data_keys k WHERE k.scope = i.scope"
        " AND k.id = paytrust.data_key_of(i.answer)) AS wrapped_key FROM paytrust.idempotency_keys i WHERE i.scope = $1 AND i.key = $2",
        scope,
        key,
    )


async def lock(tx: Transaction, claim: Claim) -> bool:
    """Keep others from taking the claim over until this transaction ends. False when one has already."""
    held = await tx.fetchval(
        "SELECT true FROM paytrust.idempotency_keys" + _HELD + " FOR UPDATE",
        claim.scope,
        claim.key,
        claim.attempt,
    )
    return bool(held)


async def keep(tx: Transaction, claim: Claim, sealed: bytes) -> bool:
    """Keep the answer, only if no other request has taken the claim over."""
    return bool(
        await tx.execute(
            "UPDATE paytrust.idempotency_keys SET answer = $4, lease_until = now()" + _HELD,
            claim.scope,
            claim.key,
            claim.attempt,
            sealed,
        )
    )


async def give_back(tx: Transaction, claim: Claim) -> None:
    """End the lease: the next repeat goes on at once."""
    await tx.execute(
        "UPDATE paytrust.idempotency_keys SET lease_until = now()" + _HELD,
        claim.scope,
        claim.key,
        claim.attempt,
    )


async def release(tx: Transaction, claim: Claim) -> None:
    await tx.execute("DELETE FROM paytrust.idempotency_keys" + _HELD, claim.scope, claim.key, claim.attempt)


async def remove_older(tx: Transaction, age: timedelta, limit: int) -> int:
    """
    Remove keys first used longer ago than *age* and not at work now. Keys that another process is removing
    are left to it.
    """
    return await tx.execute(
        "DELETE FROM paytrust.idempotency_keys WHERE (scope, key) IN (SELECT scope, key FROM paytrust.idempotency_keys"
        " WHERE created_at < now() - $1::interval AND lease_until <= now() ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
        age,
        limit,
    )


async def sealed_before(tx: Transaction, after: tuple[UUID, str], limit: int) -> list[Record]:
    """Answers that another key has sealed than the one that seals for their scope now."""
    return await tx.fetch(
        """
        SELECT i.scope, i.key, i.answer, (SELECT k.wrapped FROM paytrust.data_keys k WHERE k.scope = i.scope AND k.id = sealer) AS wrapped_key
        FROM paytrust.idempotency_keys i, LATERAL (SELECT paytrust.data_key_of(i.answer) AS sealer) s
        WHERE (i.scope, i.key) > ($1, $2) AND i.answer IS NOT NULL
          AND NOT EXISTS (SELECT FROM paytrust.data_keys k WHERE k.scope = i.scope AND k.id = sealer AND k.retired_at IS NULL)
        ORDER BY i.scope, i.key LIMIT $3
        """,
        *after,
        limit,
    )


async def replace_sealed(tx: Transaction, scope: UUID, key: str, was: bytes, sealed: bytes) -> bool:
    """Write the answer as sealed anew, only if it still is the one that was read."""
    return bool(
        await tx.execute(
            "UPDATE paytrust.idempotency_keys SET answer = $4 WHERE scope = $1 AND key = $2 AND answer = $3",
            scope,
            key,
            was,
            sealed,
        )
    )


async def under_master_keys(tx: Transaction) -> list[Record]:
    """How many answers each master key has sealed by itself."""
    return await tx.fetch(
        "SELECT paytrust.master_key_of(answer) AS master_key, count(*) AS values FROM paytrust.idempotency_keys"
        " WHERE paytrust.master_key_of(answer) IS NOT NULL GROUP BY 1"
    )


_HELD = " WHERE scope = $1 AND key = $2 AND attempt = $3 AND answer IS NULL"
