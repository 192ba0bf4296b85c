from __future__ import annotations

from piccolo.columns import JSONB, UUID, BigInt, Bytea, Text, Timestamptz
from piccolo.table import Table

from paytrust.infra.db import ENGINE


class Webhooks(Table, tablename="webhooks", schema="paytrust", db=ENGINE):
    id = UUID(primary_key=True, default=None)
    tenant_id = UUID(default=None, null=True)
    gateway_account_id = UUID(default=None)
    event_key = Text(default=None)
    event = Text(default=None)
    reference = Text(default=None, null=True)
    headers = JSONB(default=None)
    gateway_payment_id = Text(default=None, null=True)
    body = Bytea(default=None)
    status = Text(default=None)
    attempts = BigInt(default=None)
    attempts_before = BigInt(default=None)
    next_attempt_at = Timestamptz(default=None)
    first_failed_at = Timestamptz(default=None, null=True)
    lease_until = Timestamptz(default=None, null=True)
    error_code = Text(default=None, null=True)
    error_detail = Text(default=None, null=True)
    received_at = Timestamptz(default=None)
    processed_at = Timestamptz(default=None, null=True)


class WebhookAttempts(Table, tablename="webhook_attempts", schema="paytrust", db=ENGINE):
    webhook_id = UUID(primary_key=True, default=None)
    number = BigInt(default=None)
    outcome = Text(default=None)
    error_code = Text(default=None, null=True)
    error_detail = Text(default=None, null=True)
    ended_at = Timestamptz(default=None)
