from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from paytrust.accounts.model import Account, Fee, ListedAccount
from paytrust.accounts.tables import GatewayAccountCurrencies, GatewayAccounts
from paytrust.infra.db import Record, Transaction, one_of
from paytrust.secrets.model import Sealed

_SELECT = """
SELECT a.id, a.tenant_id, a.gateway, a.name, a.base_url, a.options, a.credentials, a.webhook_token, a.created_at, a.updated_at,
       a.disabled_at, now() AS read_at,
       (SELECT jsonb_object_agg(c.currency, jsonb_build_array(c.fee_percentage::text, c.fee_fixed, c.fee_minimum, c.fee_cap))
        FROM paytrust.gateway_account_currencies c
        WHERE c.scope = a.scope AND c.gateway_account_id = a.id AND c.enabled) AS fees,
       (SELECT k.wrapped FROM paytrust.data_keys k WHERE k.scope = a.scope AND k.id = paytrust.data_key_of(a.credentials)) AS wrapped_key
FROM paytrust.gateway_accounts a
"""


async def insert(tx: Transaction, account: Account) -> None:
    """
    Write an account and its fees down. One that an earlier try of the same request wrote stays as it is.
    """
    written = await tx.execute(
        "INSERT INTO paytrust.gateway_accounts (id, tenant_id, gateway, name, base_url, options, credentials, webhook_token)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING",
        account.id,
        account.tenant_id,
        account.gateway,
        account.name,
        account.base_url,
        _json(account.options),
        account.sealed_credentials.value,
        account.webhook_token,
    )
    if written:
        await save_fees(tx, account)


async def update(tx: Transaction, account: Account, *, disabled: bool) -> None:
    await tx.execute(
        "UPDATE paytrust.gateway_accounts SET name = $2, base_url = $3, options = $4, credentials = $5, updated_at = clock_timestamp(),"
        " disabled_at = CASE WHEN $6 THEN coalesce(disabled_at, now()) END WHERE id = $1",
        account.id,
        account.name,
        account.base_url,
        _json(account.options),
        account.sealed_credentials.value,
        disabled,
    )
    await save_fees(tx, account)


async def save_fees(tx: Transaction, account: Account) -> None:
    """
    Make the enabled currencies exactly those of *account*. Rows are never deleted: invoices refer to them.
    """
    currencies = sorted(account.fees)
    await tx.execute(
        "UPDATE paytrust.gateway_account_currencies SET enabled = false"
        " WHERE scope = $1 AND gateway_account_id = $2 AND NOT currency = ANY($3::text[])",
        account.scope,
        account.id,
        currencies,
    )
    await tx.execute(
        "INSERT INTO paytrust.gateway_account_currencies (scope, gateway_account_id, currency, fee_percentage, fee_fixed,"
        " fee_minimum, fee_cap) SELECT $1, $2, * FROM unnest($3::text[], $4::numeric[], $5::bigint[], $6::bigint[], $7::bigint[])"
        " ON CONFLICT (scope, gateway_account_id, currency)"
        " DO UPDATE SET fee_percentage = excluded.fee_percentage, fee_fixed = excluded.fee_fixed, fee_minimum = excluded.fee_minimum,"
        " fee_cap = excluded.fee_cap, enabled = true",
        account.scope,
        account.id,
        currencies,
        [account.fees[code].percentage for code in currencies],
        [account.fees[code].fixed.minor for code in currencies],
        [account.fees[code].minimum.minor for code in currencies],
        [None if (cap := account.fees[code].cap) is None else cap.minor for code in currencies],
    )


async def lock(tx: Transaction, account_id: UUID) -> Account | None:
    row = await tx.fetchrow(_SELECT + " WHERE a.id = $1 FOR UPDATE OF a", account_id)
    return _account(row) if row else None


async def find(tx: Transaction, account_id: UUID) -> Account | None:
    """The account, if this transaction may see it."""
    row = await tx.fetchrow(_SELECT + " WHERE a.id = $1", account_id)
    return _account(row) if row else None


async def find_by_token(tx: Transaction, gateway: str, token: str) -> Account | None:
    row = await tx.fetchrow(_SELECT + " WHERE a.webhook_token = $1 AND a.gateway = $2", token, gateway)
    return _account(row) if row else None


async def page(
    tx: Transaction, *, limit: int, after: UUID | None, tenant_id: UUID | None
) -> list[ListedAccount]:
    """Oldest first: ids are ordered by time."""
    query = (
        GatewayAccounts.select(
            GatewayAccounts.id,
            GatewayAccounts.tenant_id,
            GatewayAccounts.scope,
            GatewayAccounts.gateway,
            GatewayAccounts.name,
            GatewayAccounts.base_url,
            GatewayAccounts.options,
            GatewayAccounts.webhook_token,
            GatewayAccounts.created_at,
            GatewayAccounts.updated_at,
            GatewayAccounts.disabled_at,
        )
        .order_by(GatewayAccounts.id)
        .limit(limit)
    )
    if after is not None:
        query = query.where(GatewayAccounts.id > after)
    if tenant_id is not None:
        query = query.where(GatewayAccounts.tenant_id == tenant_id)
    rows = await tx.select(query)
    fees = await _fees(tx, rows)
    return [ListedAccount(**_terms(row), fees=fees[row["id"]]) for row in rows]


async def _fees(tx: Transaction, accounts: list[Record]) -> dict[UUID, dict[str, Fee]]:
    """The fee schedules of the enabled currencies of these accounts."""
    query = GatewayAccountCurrencies.select(
        GatewayAccountCurrencies.gateway_account_id,
        GatewayAccountCurrencies.currency,
        GatewayAccountCurrencies.fee_percentage,
        GatewayAccountCurrencies.fee_fixed,
        GatewayAccountCurrencies.fee_minimum,
        GatewayAccountCurrencies.fee_cap,
    ).where(
        one_of(GatewayAccountCurrencies.scope, [row["scope"] for row in accounts]),
        one_of(GatewayAccountCurrencies.gateway_account_id, [row["id"] for row in accounts]),
        GatewayAccountCurrencies.enabled.eq(True),
    )
    fees: dict[UUID, dict[str, Fee]] = defaultdict(dict)
    for account_id, currency, *terms in await tx.select(query):
        fees[account_id][currency] = Fee.in_minor_units(currency, *terms)
    return fees


async def ids(tx: Transaction, gateway: str | None) -> list[UUID]:
    """Every account: as many as administrators made."""
    query = GatewayAccounts.select(GatewayAccounts.id).order_by(GatewayAccounts.id)
    if gateway is not None:
        query = query.where(GatewayAccounts.gateway == gateway)
    return [row["id"] for row in await tx.select(query)]


async def claim_comparison(tx: Transaction, again_after: timedelta) -> tuple[UUID, datetime | None] | None:
    row = await tx.fetchrow(
        """
        UPDATE paytrust.gateway_accounts SET compare_at = now() + $1
        WHERE id = (SELECT id FROM paytrust.gateway_accounts WHERE compare_at <= now() AND disabled_at IS NULL
                    ORDER BY compare_at LIMIT 1 FOR UPDATE SKIP LOCKED)
        RETURNING id, compared_until
        """,
        again_after,
    )
    return (row["id"], row["compared_until"]) if row else None


async def compared(tx: Transaction, account_id: UUID, until: datetime) -> None:
    await tx.execute(
        "UPDATE paytrust.gateway_accounts SET compared_until = greatest(compared_until, $2),"
        " compare_at = now() + interval '1 day' - random() * interval '10 minutes' WHERE id = $1",
        account_id,
        until,
    )


async def sealed_before(tx: Transaction, after: UUID, limit: int) -> list[Record]:
    """Accounts whose credentials another key has sealed than the one that seals for them now."""
    return await tx.fetch(
        """
        SELECT a.id, a.scope, a.credentials, (SELECT k.wrapped FROM paytrust.data_keys k WHERE k.scope = a.scope AND k.id = sealer) AS wrapped_key
        FROM paytrust.gateway_accounts a, LATERAL (SELECT paytrust.data_key_of(a.credentials) AS sealer) s
        WHERE a.id > $1
          AND NOT EXISTS (SELECT FROM paytrust.data_keys k WHERE k.scope = a.scope AND k.id = sealer AND k.retired_at IS NULL)
        ORDER BY a.id LIMIT $2
        """,
        after,
        limit,
    )


async def replace_sealed(tx: Transaction, account_id: UUID, was: bytes, sealed: bytes) -> bool:
    """
    Write the credentials as sealed anew, only if nobody gave others meanwhile. For their readers nothing
    changes.
    """
    return bool(
        await tx.execute(
            "UPDATE paytrust.gateway_accounts SET credentials = $3 WHERE id = $1 AND credentials = $2",
            account_id,
            was,
            sealed,
        )
    )


async def under_master_keys(tx: Transaction) -> list[Record]:
    """How many accounts' credentials each master key has sealed by itself."""
    return await tx.fetch(
        "SELECT paytrust.master_key_of(credentials) AS master_key, count(*) AS values FROM paytrust.gateway_accounts"
        " WHERE paytrust.master_key_of(credentials) IS NOT NULL GROUP BY 1"
    )


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _account(row: Record) -> Account:
    fees = msgspec.json.decode(row["fees"] or "{}", type=dict[str, tuple[Decimal, int, int, int | None]])
    return Account(
        **_terms(row),
        sealed_credentials=Sealed(row["credentials"], row["wrapped_key"]),
        fees={code: Fee.in_minor_units(code, *terms) for code, terms in fees.items()},
        read_at=row["read_at"],
    )


def _terms(row: Record) -> dict[str, Any]:
    """The columns that a list and a look-up share."""
    return {
        "id": row["id"],
        "tenant_id": row["tenant_id"],
        "gateway": row["gateway"],
        "name": row["name"],
        "base_url": row["base_url"],
        "options": msgspec.json.decode(row["options"]),
        "webhook_token": row["webhook_token"],
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
        "disabled_at": row["disabled_at"],
    }


async def remove(tx: Transaction, account: Account) -> None:
    """Raises asyncpg's `ForeignKeyViolationError` while anything refers to it."""
    await tx.execute(
        "DELETE FROM paytrust.gateway_account_currencies WHERE scope = $1 AND gateway_account_id = $2",
        account.scope,
        account.id,
    )
    await tx.execute("DELETE FROM paytrust.gateway_accounts WHERE id = $1", account.id)
