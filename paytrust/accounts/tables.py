from __future__ import annotations

from piccolo.columns import JSONB, UUID, BigInt, Boolean, Bytea, Numeric, Text, Timestamptz
from piccolo.table import Table

from paytrust.infra.db import ENGINE


class GatewayAccounts(Table, tablename="gateway_accounts", schema="paytrust", db=ENGINE):
    id = UUID(primary_key=True, default=None)
    tenant_id = UUID(default=None, null=True)
    scope = UUID(default=None)
    gateway = Text(default=None)
    name = Text(default=None)
    base_url = Text(default=None, null=True)
    options = JSONB(default=None)
    credentials = Bytea(default=None)
    webhook_token = Text(default=None)
    created_at = Timestamptz(default=None)
    updated_at = Timestamptz(default=None)
    disabled_at = Timestamptz(default=None, null=True)
    compare_at = Timestamptz(default=None)
    compared_until = Timestamptz(default=None, null=True)


class GatewayAccountCurrencies(Table, tablename="gateway_account_currencies", schema="paytrust", db=ENGINE):
    scope = UUID(default=None)
    gateway_account_id = UUID(default=None)
    currency = Text(primary_key=True, default=None)
    fee_percentage = Numeric(digits=(7, 6), default=None)
    fee_fixed = BigInt(default=None)
    enabled = Boolean(default=None)
    fee_minimum = BigInt(default=None)
    fee_cap = BigInt(default=None, null=True)
