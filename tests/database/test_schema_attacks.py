"""
Every constraint, trigger and policy of the schema refuses an attack, and is the one that does.

Each object has an attack: a statement that exactly this object refuses, run as the service's role or, where
its grants are in the way already, as the owner. Then the object is dropped, in a transaction that is rolled
back, and the same attack succeeds. So nobody can drop one unnoticed, and no attack can succeed or fail for
another reason than the one it is written for.

A new object needs a line in ATTACKS; `new(table, ...)` is a valid row with something wrong about it. A new
table needs a line in ROWS and in POLICIES, and a row in WORLD.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import asyncpg
import pytest

# --- the world under attack: SQL expressions --------------------------------------------------------------------------------


def uuid(number):
    return f"'00000000-0000-0000-0000-{number:012d}'"


SHARED = uuid(0)  # the scope of accounts that belong to nobody
A, B, NO_TENANT = uuid(1), uuid(2), uuid(99)
ACCOUNT, ACCOUNT_OF_B, SHARED_ACCOUNT, KEY = uuid(11), uuid(12), uuid(13), uuid(14)
DRAFT, ISSUED, PAID = uuid(21), uuid(22), uuid(23)
BARE_DRAFT, BARE_ISSUED, TAXED = uuid(24), uuid(25), uuid(26)  # without lines and parts
PAYMENT, UNUSED_PAYMENT, RECEIPT, WEBHOOK, EVENT, AUDIT = (
    uuid(31),
    uuid(32),
    uuid(33),
    uuid(34),
    uuid(35),
    uuid(36),
)
DATA_KEY = uuid(41)


def receivable(invoice, number=1):
    return f"'receivable:' || {invoice} || ':{number}'"


def overpaid(invoice):
    return f"'overpaid:' || {invoice}"


# For each table a row that could be added any time.
ROWS = {
    "tenants": {"id": "gen_random_uuid()", "name": "'x'"},
    "api_keys": {
        "tenant_id": A, "id": "gen_random_uuid()", "prefix": "'abcd'", "lookup": "sha256(gen_random_uuid()::text::bytea)",
        "hash": "'$argon2id$'", "description": "''", "scopes": "'{read}'",
    },
    "key_audit": {"id": "gen_random_uuid()", "tenant_id": A, "key_id": KEY, "action": "'created'", "actor": "'local'"},
    "key_peppers": {"id": "gen_random_uuid()", "digest": "sha256('x')"},
    "gateway_accounts": {
        "id": "gen_random_uuid()", "tenant_id": A, "gateway": "'xendit'", "name": "'x'", "options": "'{}'", "credentials": "''",
        "webhook_token": "md5(gen_random_uuid()::text)",
    },
    "gateway_account_currencies": {"scope": A, "gateway_account_id": ACCOUNT, "currency": "'USD'"},
    "data_keys": {
        "tenant_id": A, "id": "gen_random_uuid()", "wrapped": r"'\x0104' || 'test'::bytea || decode(repeat('00', 60), 'hex')",
        "retired_at": "now()",
    },
    "idempotency_keys": {
        "scope": A, "key": "gen_random_uuid()::text", "fingerprint": "sha256('x')", "object_id": "gen_random_uuid()", "lease_until": "now()",
    },
    "invoices": {
        "tenant_id": A, "id": "gen_random_uuid()", "content_hash": "''", "account_scope": A, "gateway_account_id": ACCOUNT,
        "gateway": "'xendit'", "currency": "'IDR'", "subtotal": "100", "tax": "0", "fee": "0", "total": "100", "fee_percentage": "0",
        "fee_fixed": "0", "customer": "'{}'", "metadata": "'{}'", "expires_at": "now() + interval '1 day'",
    },
    "line_items": {
        "tenant_id": A, "invoice_id": BARE_DRAFT, "number": "1", "id": "gen_random_uuid()", "currency": "'IDR'", "product_name": "'x'",
        "quantity": "2", "unit_price": "50", "tax_rate": "0", "subtotal": "100", "tax": "0",
    },
    "installments": {
        "tenant_id": A, "invoice_id": BARE_DRAFT, "number": "1", "currency": "'IDR'", "due_at": "now()", "amount": "100", "tax": "0",
        "fee": "0",
    },
    "payments": {
        "tenant_id": A, "id": "gen_random_uuid()", "invoice_id": DRAFT, "installment_number": "1", "currency": "'IDR'",
        "gateway_account_id": ACCOUNT, "attempt": "2", "reference": "'PT-2x'", "amount": "100", "status": "'expired'",
    },
    "receipts": {
        "tenant_id": A, "id": "gen_random_uuid()", "invoice_id": DRAFT, "payment_id": PAYMENT, "currency": "'IDR'",
        "gateway_account_id": ACCOUNT, "gateway_payment_id": "'second'", "amount": "1", "paid_at": "now()",
    },
    "book_accounts": {"tenant_id": A, "currency": "'IDR'", "name": overpaid(DRAFT), "invoice_id": DRAFT, "installment_number": "NULL"},
    "transfers": {
        "tenant_id": A, "cause": "'receipt'", "cause_id": "gen_random_uuid()", "leg": "0", "currency": "'IDR'", "invoice_id": DRAFT,
        "debit": "'clearing:x'", "credit": receivable(DRAFT), "amount": "1",
    },
    "webhooks": {
        "id": "gen_random_uuid()", "tenant_id": A, "gateway_account_id": ACCOUNT, "event_key": "gen_random_uuid()", "event": "'x'",
        "headers": "'{}'", "body": "''",
    },
    "webhook_attempts": {"webhook_id": WEBHOOK, "number": "2", "outcome": "'x'"},
    "differences": {
        "gateway_account_id": ACCOUNT, "kind": "'not_applied'", "reference": "gen_random_uuid()::text", "gateway_payment_id": "''",
        "tenant_id": A, "ours": "''", "theirs": "''",
    },
    "invoice_history": {"tenant_id": A, "invoice_id": DRAFT, "id": "gen_random_uuid()", "event": "'x'", "details": "'{}'"},
}  # fmt: skip


def new(table, *more, **changes):
    """
    A valid row with *changes*, which are SQL expressions; *more* are the changes of more rows of the same
    statement.
    """
    rows = [ROWS[table] | {name: str(value) for name, value in one.items()} for one in (changes, *more)]
    return f"INSERT INTO {table} ({', '.join(rows[0])}) VALUES " + ", ".join(
        f"({', '.join(row.values())})" for row in rows
    )


WORLD = [
    new("tenants", id=A),
    new("tenants", id=B),
    new("api_keys", id=KEY, lookup="sha256('known')"),
    new("key_audit", id=AUDIT),
    new("key_peppers", id=AUDIT),
    new("gateway_accounts", id=ACCOUNT, webhook_token="repeat('0', 32)"),
    new("gateway_accounts", id=ACCOUNT_OF_B, tenant_id=B),
    new("gateway_accounts", id=SHARED_ACCOUNT, tenant_id="NULL"),
    new("idempotency_keys", key="'known'"),
    new("data_keys", id=DATA_KEY, retired_at="NULL"),
    new("gateway_account_currencies", currency="'IDR'"),
    new("gateway_account_currencies", currency="'MYR'"),
    new("gateway_account_currencies", scope=B, gateway_account_id=ACCOUNT_OF_B, currency="'IDR'"),
    new("gateway_account_currencies", scope=SHARED, gateway_account_id=SHARED_ACCOUNT, currency="'IDR'"),
    new("invoices", id=DRAFT, external_id="'known'"),
    new("invoices", id=ISSUED, status="'pending'", payment_initiated_at="now()"),
    new("invoices", id=BARE_DRAFT),
    new("invoices", id=BARE_ISSUED, status="'pending'", payment_initiated_at="now()"),
    new("invoices", id=PAID, status="'paid'", payment_initiated_at="now()"),
    new("invoices", id=TAXED, subtotal=60, tax=40),
    new("line_items", invoice_id=DRAFT),
    new("installments", invoice_id=DRAFT),
    new(
        "installments",
        {"number": 2, "invoice_id": ISSUED, "amount": 50},
        number=1,
        invoice_id=ISSUED,
        amount=50,
    ),
    new("installments", invoice_id=PAID),
    f"UPDATE installments SET paid_at = now() WHERE invoice_id = {PAID}",
    new("payments", id=PAYMENT, attempt=1, reference="'PT-1x'", status="'creating'"),
    new("payments", id=UNUSED_PAYMENT, invoice_id=ISSUED, attempt=7, reference="'PT-7x'"),
    new("receipts", id=RECEIPT, gateway_payment_id="'first'"),
    new("book_accounts", name=receivable(DRAFT), installment_number=1),
    new("book_accounts", name=receivable(ISSUED, 1), invoice_id=ISSUED, installment_number=1),
    new("book_accounts", name=receivable(ISSUED, 2), invoice_id=ISSUED, installment_number=2),
    new("book_accounts", name=overpaid(ISSUED), invoice_id=ISSUED),
    new(
        "transfers", cause="'issue'", cause_id=DRAFT, debit=receivable(DRAFT), credit="'revenue'", amount=100
    ),
    new(
        "transfers",
        cause="'issue'",
        cause_id=ISSUED,
        invoice_id=ISSUED,
        debit=receivable(ISSUED, 2),
        credit="'revenue'",
        amount=50,
    ),
    new("webhooks", id=WEBHOOK, event_key="'known'"),
    new("webhook_attempts", number=1),
    new("differences", reference="'known'"),
    new("invoice_history", id=EVENT),
]


# --- the attacks ----------------------------------------------------------------------------------------------------------


class Attack(NamedTuple):
    """
    Statements that are refused one by one. *by*: what says no, if not the object. *then*: what says no when
    the object is gone.
    """

    statements: tuple[str, ...]
    by: str | None = None
    then: str | None = None


def attack(*statements, by=None, then=None):
    return Attack(statements, by, then)


OVERPAY = new("transfers", amount=101)  # 100 are owed
ATTACKS = {
    "tenants_pkey": attack(new("tenants", id=A)),
    "tenants_name_length": attack(new("tenants", name="''"), new("tenants", name="repeat('x', 201)")),
    # keys
    "api_keys_pkey": attack(new("api_keys", id=KEY)),
    "api_keys_tenant_id_fkey": attack(new("api_keys", tenant_id=NO_TENANT)),
    "api_keys_lookup_unique": attack(new("api_keys", lookup="sha256('known')")),
    "api_keys_lookup_length": attack(new("api_keys", lookup="'short'")),
    "api_keys_prefix_length": attack(new("api_keys", prefix="'abcde'")),
    "api_keys_hash_argon2id": attack(new("api_keys", hash="'the key itself'")),
    "api_keys_description_length": attack(new("api_keys", description="repeat('x', 201)")),
    "api_keys_scopes_known": attack(new("api_keys", scopes="'{admin}'"), new("api_keys", scopes="'{}'")),
    "api_keys_allowed_addresses": attack(new("api_keys", allowed_addresses="array_fill('192.0.2.1'::text, ARRAY[51])")),
    "key_audit_pkey": attack(new("key_audit", id=AUDIT)),
    "key_audit_action_known": attack(new("key_audit", action="'forgotten'")),
    "key_audit_reason_of_failure": attack(new("key_audit", reason="'x'"), new("key_audit", action="'failed'")),
    "key_audit_hash_of_rotation": attack(new("key_audit", old_hash="'x'"), new("key_audit", action="'rotated'")),
    "key_audit_times_positive": attack(new("key_audit", times=0)),
    "key_audit_whole_key": attack(new("key_audit", tenant_id="NULL"), new("key_audit", key_id="NULL")),
    "key_audit_key": attack(new("key_audit", key_id=NO_TENANT), new("key_audit", tenant_id=B)),
    "key_audit_append_only": attack("UPDATE key_audit SET actor = 'x'", "DELETE FROM key_audit", "TRUNCATE key_audit"),
    "key_peppers_pkey": attack(new("key_peppers", id=AUDIT)),
    "key_peppers_digest_length": attack(new("key_peppers", digest="'the pepper itself'")),
    # idempotency keys
    "idempotency_keys_pkey": attack(new("idempotency_keys", key="'known'")),
    "idempotency_keys_visible": attack(
        *(new("idempotency_keys", key=key) for key in ("''", "'a b'", "repeat('x', 256)", "chr(233)", "chr(9)"))
    ),
    "idempotency_keys_fingerprint_length": attack(new("idempotency_keys", fingerprint="'short'")),
    # data keys
    "data_keys_pkey": attack(new("data_keys", id=DATA_KEY)),
    "data_keys_tenant_id_fkey": attack(new("data_keys", tenant_id=NO_TENANT)),
    "data_keys_one_current": attack(new("data_keys", retired_at="NULL")),
    "data_keys_wrapped": attack(
        new("data_keys", wrapped="sha256('a key in plain')"),
        new("data_keys", wrapped="''"),
        new("data_keys", wrapped=r"'\x01ff'"),
        new("data_keys", wrapped=r"'\x0104' || 'test'::bytea || decode(repeat('00', 59), 'hex')"),
    ),
    "data_keys_kept": attack("DELETE FROM data_keys", "TRUNCATE data_keys"),
    # gateway accounts
    "gateway_accounts_pkey": attack(new("gateway_accounts", id=ACCOUNT, tenant_id=B)),
    "gateway_accounts_tenant_id_fkey": attack(new("gateway_accounts", tenant_id=NO_TENANT)),
    "gateway_accounts_token_unique": attack(new("gateway_accounts", webhook_token="repeat('0', 32)")),
    "gateway_accounts_token_length": attack(new("gateway_accounts", webhook_token="'guessed'")),
    "gateway_accounts_name_length": attack(new("gateway_accounts", name="''")),
    "gateway_account_currencies_pkey": attack(new("gateway_account_currencies", currency="'IDR'")),
    "gateway_account_currencies_account": attack(new("gateway_account_currencies", scope=B)),
    "gateway_account_currencies_code": attack(new("gateway_account_currencies", currency="'idr'")),
    "gateway_account_currencies_percentage": attack(new("gateway_account_currencies", fee_percentage="1.000001")),
    "gateway_account_currencies_fixed": attack(new("gateway_account_currencies", fee_fixed=-1)),
    "gateway_account_currencies_minimum": attack(new("gateway_account_currencies", fee_minimum=-1)),
    "gateway_account_currencies_cap": attack(new("gateway_account_currencies", fee_minimum=2, fee_cap=1)),
    # invoices
    "invoices_pkey": attack(new("invoices", id=DRAFT, currency="'MYR'")),
    "invoices_tenant_id_fkey": attack(new("invoices", tenant_id=NO_TENANT, account_scope=SHARED, gateway_account_id=SHARED_ACCOUNT)),
    "invoices_account": attack(new("invoices", currency="'USD'"), new("invoices", gateway_account_id=ACCOUNT_OF_B)),
    "invoices_account_scope": attack(new("invoices", account_scope=B, gateway_account_id=ACCOUNT_OF_B)),
    "invoices_original": attack(new("invoices", original_invoice_id=ISSUED, currency="'MYR'")),
    "invoices_supplement": attack(
        new("invoices", original_invoice_id=DRAFT),
        new("invoices", original_invoice_id=ISSUED, account_scope=SHARED, gateway_account_id=SHARED_ACCOUNT),
    ),
    "invoices_external_id_unique": attack(new("invoices", external_id="'known'")),
    "invoices_external_id_length": attack(new("invoices", external_id="''"), new("invoices", external_id="repeat('x', 256)")),
    "invoices_status_known": attack(new("invoices", status="'settled'", payment_initiated_at="now()")),
    "invoices_initiated": attack(new("invoices", status="'paid'")),
    "invoices_subtotal_positive": attack(new("invoices", subtotal=0, fee=100)),
    "invoices_tax_not_negative": attack(new("invoices", tax=-1, fee=1)),
    "invoices_fee_not_negative": attack(new("invoices", tax=1, fee=-1)),
    "invoices_total_is_sum": attack(new("invoices", total=99)),
    "invoices_expiry": attack(new("invoices", expires_at="now()")),
    "invoices_immutable": attack(
        f"UPDATE invoices SET payment_initiated_at = now() + interval '1 hour' WHERE id = {BARE_ISSUED}",
        f"UPDATE invoices SET payment_initiated_at = NULL, status = 'draft' WHERE id = {BARE_ISSUED}",
        *(
            f"UPDATE invoices SET {change} WHERE id = {BARE_ISSUED}"
            for change in (
                "currency = 'MYR'", "subtotal = 99, fee = 1", "subtotal = 99, tax = 1", "total = 101, fee = 1", "gateway = 'other'",
                f"account_scope = {SHARED}, gateway_account_id = {SHARED_ACCOUNT}", "external_id = 'another'", "fee_percentage = 0.5",
                "fee_fixed = 1", "fee_minimum = 1", "fee_cap = 1", f"original_invoice_id = {DRAFT}", "created_at = created_at - interval '1 day'",
            )
        ),
    ),
    "invoices_kept": attack(f"DELETE FROM invoices WHERE id = {BARE_DRAFT}"),
    # lines
    "line_items_pkey": attack(new("line_items", {"quantity": 1, "subtotal": 50}, quantity=1, subtotal=50)),
    "line_items_invoice": attack(new("line_items", invoice_id=NO_TENANT), new("line_items", currency="'MYR'")),
    "line_items_number_positive": attack(new("line_items", number=0)),
    "line_items_product_name_length": attack(new("line_items", product_name="''"), new("line_items", product_name="repeat('x', 256)")),
    "line_items_quantity_positive": attack(new("line_items", {"number": 2, "quantity": 0, "subtotal": 0})),
    "line_items_unit_price_positive": attack(new("line_items", {"number": 2, "unit_price": 0, "subtotal": 0})),
    "line_items_tax_rate": attack(new("line_items", tax_rate="1.0001"), new("line_items", tax_rate="-0.0001")),
    "line_items_tax_not_negative": attack(
        new("line_items", {"number": 2, "quantity": 1, "subtotal": 50, "tax": 1}, quantity=1, subtotal=50, tax=-1)
    ),
    "line_items_subtotal_is_product": attack(new("line_items", unit_price=49)),
    "line_items_immutable": attack(
        new("line_items", invoice_id=BARE_ISSUED),
        new("line_items", quantity=1, subtotal=50),
        new("line_items", tax=1),
        new("line_items", invoice_id=DRAFT, number=2),
    ),
    "line_items_kept": attack("UPDATE line_items SET product_name = 'y'", "DELETE FROM line_items", "TRUNCATE line_items"),
    # installments
    "installments_pkey": attack(new("installments", invoice_id=DRAFT), then="installments_currency_key"),
    "installments_invoice": attack(new("installments", invoice_id=NO_TENANT), new("installments", currency="'MYR'")),
    "installments_number": attack(new("installments", number=0), new("installments", number=13)),
    "installments_amount_positive": attack(new("installments", {"number": 2, "amount": 0})),
    "installments_tax_not_negative": attack(new("installments", {"number": 2, "amount": 50, "tax": 1}, amount=50, tax=-1)),
    "installments_fee_not_negative": attack(new("installments", {"number": 2, "amount": 50, "fee": 1}, amount=50, fee=-1)),
    "installments_parts": attack(
        new("installments", {"number": 2, "invoice_id": TAXED, "amount": 70}, invoice_id=TAXED, amount=30, tax=40)
    ),
    "installments_sum_on_insert": attack(
        new("installments", amount=99), new("installments", tax=1), new("installments", fee=1), new("installments", {"number": 2})
    ),
    "installments_sum_on_update": attack(
        *(f"UPDATE installments SET {column} = {column} + 1 WHERE invoice_id = {DRAFT}" for column in ("amount", "tax", "fee"))
    ),
    "installments_paid_are_kept": attack(f"UPDATE installments SET paid_at = NULL WHERE invoice_id = {PAID}"),
    "installments_kept": attack(f"DELETE FROM installments WHERE invoice_id = {PAID}"),
    # payments
    "payments_pkey": attack(new("payments", id=PAYMENT, invoice_id=ISSUED)),
    "payments_gateway_account_id_fkey": attack(new("payments", gateway_account_id=NO_TENANT)),
    "payments_installment": attack(new("payments", installment_number=2), new("payments", currency="'MYR'")),
    "payments_attempt_unique": attack(new("payments", attempt=1)),
    "payments_attempt_positive": attack(new("payments", attempt=0)),
    "payments_reference_unique": attack(new("payments", reference="'PT-1x'")),
    "payments_reference_legal": attack(new("payments", reference="'PT/1x'"), new("payments", reference="'PT-1'")),
    "payments_hint_length": attack(new("payments", hint="repeat('x', 201)")),
    "payments_amount_positive": attack(new("payments", amount=0)),
    "payments_status_known": attack(new("payments", status="'settled'")),
    "payments_open_has_id": attack(new("payments", invoice_id=ISSUED, status="'open'")),
    "payments_one_live": attack(
        *(new("payments", status=f"'{status}'", gateway_payment_id="'x'") for status in ("creating", "open", "unavailable", "unknown"))
    ),
    "payments_kept": attack(f"DELETE FROM payments WHERE id = {UNUSED_PAYMENT}"),
    # receipts
    "receipts_pkey": attack(new("receipts", id=RECEIPT)),
    "receipts_one_effect": attack(new("receipts", gateway_payment_id="'first'")),
    "receipts_payment": attack(new("receipts", payment_id=NO_TENANT), new("receipts", currency="'MYR'"), new("receipts", invoice_id=ISSUED)),
    "receipts_gateway_account_id_fkey": attack(new("receipts", gateway_account_id=NO_TENANT)),
    "receipts_flag_known": attack(new("receipts", flag="'odd'")),
    "receipts_amount_positive": attack(new("receipts", amount=0)),
    "receipts_append_only": attack("UPDATE receipts SET amount = 2", "DELETE FROM receipts", "TRUNCATE receipts"),
    # books
    "book_accounts_pkey": attack(new("book_accounts", name=receivable(DRAFT), installment_number=1)),
    "book_accounts_invoice": attack(new("book_accounts", name=overpaid(NO_TENANT), invoice_id=NO_TENANT), new("book_accounts", currency="'MYR'")),
    "book_accounts_installment": attack(new("book_accounts", name=receivable(DRAFT, 9), installment_number=9)),
    "book_accounts_name": attack(new("book_accounts", name="'pocket'"), new("book_accounts", name=receivable(DRAFT, 2), installment_number=1)),
    "book_accounts_debits_not_negative": attack(new("book_accounts", debits=-1)),
    "book_accounts_credits_not_negative": attack(
        new("book_accounts", name=receivable(PAID), invoice_id=PAID, installment_number=1, credits=-1)
    ),
    "book_accounts_receivable_bound": attack(OVERPAY),
    "book_accounts_overpaid_bound": attack(new("book_accounts", debits=1)),
    "book_accounts_kept": attack(f"DELETE FROM book_accounts WHERE name = {overpaid(ISSUED)}"),
    "transfers_pkey": attack(new("transfers", cause="'issue'", cause_id=DRAFT, debit=receivable(DRAFT), credit="'revenue'")),
    "transfers_cause_known": attack(
        new("transfers", cause="'gift'", invoice_id=ISSUED, debit=receivable(ISSUED, 1), credit=receivable(ISSUED, 2))
    ),
    "transfers_fit_their_cause": attack(
        new("transfers", credit="'revenue'"),
        new("transfers", credit=receivable(ISSUED, 2)),
        new("transfers", cause="'issue'", debit="'clearing:x'", credit="'revenue'"),
        new("transfers", cause="'adjust'", credit=receivable(DRAFT)),
    ),
    "transfers_amount_positive": attack(new("transfers", amount=0)),
    "transfers_two_accounts": attack(new("transfers", cause="'adjust'", debit=receivable(DRAFT), credit=receivable(DRAFT))),
    "transfers_accounts_known": attack(
        new("transfers", debit="'pocket'"), new("transfers", credit="'pocket'"), then="transfers_fit_their_cause"
    ),
    "transfers_invoice": attack(new("transfers", invoice_id=NO_TENANT, credit=receivable(NO_TENANT)), then="transfers_credit"),
    "transfers_debit": attack(new("transfers", cause="'issue'", debit=receivable(DRAFT, 9), credit="'revenue'")),
    "transfers_credit": attack(new("transfers", credit=receivable(DRAFT, 9))),
    "transfers_post": attack(OVERPAY, by="book_accounts_receivable_bound"),
    "transfers_append_only": attack("UPDATE transfers SET amount = 2", "DELETE FROM transfers", "TRUNCATE transfers"),
    # webhooks
    "webhooks_gateway_payment_id_length": attack(new("webhooks", gateway_payment_id="repeat('x', 201)")),
    "webhooks_pkey": attack(new("webhooks", id=WEBHOOK)),
    "webhooks_tenant_id_fkey": attack(new("webhooks", tenant_id=NO_TENANT)),
    "webhooks_gateway_account_id_fkey": attack(new("webhooks", gateway_account_id=NO_TENANT)),
    "webhooks_event_unique": attack(new("webhooks", event_key="'known'")),
    "webhooks_status_known": attack(new("webhooks", status="'lost'")),
    "webhook_attempts_pkey": attack(new("webhook_attempts", number=1)),
    "webhook_attempts_webhook_id_fkey": attack(new("webhook_attempts", webhook_id=NO_TENANT)),
    # comparisons
    "differences_pkey": attack(new("differences", reference="'known'")),
    "differences_kind_known": attack(new("differences", kind="'odd'")),
    "differences_gateway_account_id_fkey": attack(new("differences", gateway_account_id=NO_TENANT)),
    "differences_tenant_id_fkey": attack(new("differences", tenant_id=NO_TENANT)),
    # history
    "invoice_history_pkey": attack(new("invoice_history", id=EVENT)),
    "invoice_history_invoice": attack(new("invoice_history", invoice_id=NO_TENANT)),
    "invoice_history_event_length": attack(new("invoice_history", event="''")),
    "invoice_history_reason_length": attack(new("invoice_history", reason="repeat('x', 501)")),
    "invoice_history_append_only": attack(
        "UPDATE invoice_history SET reason = 'y'", "DELETE FROM invoice_history", "TRUNCATE invoice_history"
    ),
    # ground
    "migrations_pkey": attack("INSERT INTO migrations SELECT * FROM migrations"),
}  # fmt: skip

# Wider than the primary key, so they can refuse nothing by themselves: they are what a foreign key with the
# currency refers to.
TARGETS = {
    "gateway_accounts_scope_unique": "gateway_account_currencies_account",
    "invoices_currency_key": "line_items_invoice",
    "installments_currency_key": "payments_installment",
    "payments_currency_key": "receipts_payment",
}

# Refuses nothing: it tells every process that a key was changed, which
# tests/api/keys/test_key_lifecycle.py waits for.
TELLING = {"api_keys_told"}

POLICIES = [
    *(
        f"tenant ON {table}"
        for table in ROWS
        if table not in {"webhook_attempts", "differences", "key_peppers"}
    ),
    *(
        f"system ON {table}"
        for table in ("data_keys", "tenants", "api_keys", "gateway_accounts", "gateway_account_currencies")
    ),
    *(
        f"system ON {table}"
        for table in (
            "invoices",
            "payments",
            "webhooks",
            "webhook_attempts",
            "key_audit",
            "key_peppers",
            "idempotency_keys",
            "differences",
        )
    ),
    "claim ON payments",
    "claim ON invoices",
]
NARROWING = ["prune ON webhooks"]
"""Policies that let nothing through by themselves: they take from what the others let through."""
# What shows whom a policy lets through, where that is not a SELECT.
PROBES = {
    "claim ON payments": "UPDATE payments SET next_check_at = now()",
    "claim ON invoices": "UPDATE invoices SET end_check_at = now()",
}

OBJECTS = """
SELECT c.conname AS name, c.conrelid::regclass::text AS tablename,
       format('ALTER TABLE %s DROP CONSTRAINT %I CASCADE', c.conrelid::regclass, c.conname) AS removal
FROM pg_constraint c WHERE c.connamespace = 'paytrust'::regnamespace AND c.contype IN ('c', 'f', 'p', 'u', 'x')
UNION ALL
SELECT i.relname, x.indrelid::regclass::text, format('DROP INDEX paytrust.%I', i.relname)
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
WHERE i.relnamespace = 'paytrust'::regnamespace AND x.indisunique AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = i.oid)
UNION ALL
SELECT t.tgname, t.tgrelid::regclass::text, format('DROP TRIGGER %I ON %s', t.tgname, t.tgrelid::regclass)
FROM pg_trigger t JOIN pg_class r ON r.oid = t.tgrelid WHERE r.relnamespace = 'paytrust'::regnamespace AND NOT t.tgisinternal
"""

# --- the arena --------------------------------------------------------------------------------------------------------------

TENANT = f"SELECT set_config('app.tenant', {A}, true)"
SYSTEM = "SELECT set_config('app.scope', 'system', true)"
SERVICE = "SET LOCAL ROLE paytrust_app"
ROLES = {"tenant": (TENANT, SERVICE), "system": (SYSTEM, SERVICE), "owner": ()}
NOBODY_IN_PARTICULAR = (SERVICE,)


class Arena:
    """One connection of the owner, inside a transaction with the world in it that is never committed."""

    def __init__(self, url):
        self._runner = asyncio.Runner()
        self._connection = self._runner.run(asyncpg.connect(url, server_settings={"search_path": "paytrust"}))
        self.run("BEGIN")
        self.run(*WORLD)

    def run(self, *statements):
        for statement in statements:
            self._runner.run(self._connection.execute(statement))

    def rows(self, sql):
        return self._runner.run(self._connection.fetch(sql))

    def attempt(self, statement, setting):
        """How many rows *statement* touches, or the error; either way it is undone."""
        self.run("SAVEPOINT attempt", *setting)
        try:
            status = self._runner.run(self._connection.execute(statement))
            return int(status.split()[-1]) if status.split()[-1].isdigit() else 1
        except asyncpg.PostgresError as exc:
            return exc
        finally:
            self.run("ROLLBACK TO attempt", "RELEASE attempt")

    def without(self, removal, statement, setting):
        """What becomes of *statement* where *removal* took something away."""
        self.run("SAVEPOINT without")
        try:
            self.run(removal)
            return self.attempt(statement, setting)
        finally:
            self.run("ROLLBACK TO without", "RELEASE without")

    def close(self):
        self._runner.run(self._connection.close())
        self._runner.close()


@pytest.fixture(scope="module")
def arena(module_owner_url):
    made = Arena(module_owner_url)
    yield made
    made.close()


@pytest.fixture(scope="module")
def objects(arena):
    return {row["name"]: row for row in arena.rows(OBJECTS)}


def refused_by(outcome):
    """The constraint that said no, or what else did."""
    if isinstance(outcome, asyncpg.RestrictViolationError | asyncpg.CheckViolationError):
        return outcome.constraint_name or "a trigger"
    return getattr(outcome, "constraint_name", None) or outcome


def first_to_be_allowed(arena, statement):
    """Who may try this at all: the service's role if it can, otherwise the owner."""
    for name, setting in ROLES.items():
        outcome = arena.attempt(statement, setting)
        if not isinstance(outcome, asyncpg.InsufficientPrivilegeError):
            return name, outcome
    raise AssertionError(f"nobody may {statement}")


def test_every_object_of_the_schema_is_attacked_and_every_attack_names_an_object(arena, objects):
    assert len(objects) == len(arena.rows(OBJECTS)), "two objects share a name"
    attacked = ATTACKS.keys() | TARGETS.keys() | TELLING
    assert objects.keys() - attacked == set(), "write an attack for each of these"
    assert attacked - objects.keys() == set(), "these are not in the schema"


SYSTEMS = {
    "tenants",
    "data_keys",
    "gateway_accounts",
    "gateway_account_currencies",
    "webhook_attempts",
    "key_audit",
    "key_peppers",
    "differences",
}
"""Tables a tenant cannot write."""


@pytest.mark.parametrize("table", ROWS)
def test_a_row_without_anything_wrong_is_accepted(arena, table):
    """Or the attacks would prove nothing."""
    assert first_to_be_allowed(arena, new(table)) == (("system" if table in SYSTEMS else "tenant"), 1)


@pytest.mark.parametrize("name", ATTACKS)
def test_an_object_refuses_its_attack_and_without_it_the_attack_succeeds(arena, objects, name):
    _, by, then = ATTACKS[name]
    trigger = "DROP TRIGGER" in objects[name]["removal"]
    for statement in ATTACKS[name].statements:
        role, outcome = first_to_be_allowed(arena, statement)
        assert refused_by(outcome) == (by or ("a trigger" if trigger else name)), statement
        after = arena.without(objects[name]["removal"], statement, ROLES[role])
        if then is None:
            assert isinstance(after, int), f"{statement}: still refused, {after!r}"
            assert after > 0, f"{statement}: touches nothing"
        else:
            assert refused_by(after) == then, statement


@pytest.mark.parametrize(("name", "foreign_key"), TARGETS.items())
def test_a_key_with_the_currency_cannot_go_while_a_foreign_key_needs_it(arena, objects, name, foreign_key):
    outcome = arena.attempt(objects[name]["removal"].replace("CASCADE", ""), ())
    assert isinstance(outcome, asyncpg.DependentObjectsStillExistError)
    assert foreign_key in outcome.detail


# --- row-level security -----------------------------------------------------------------------------------------------------


def test_every_table_and_every_policy_is_listed_here(arena):
    tables = arena.rows(
        "SELECT tablename AS name FROM pg_tables WHERE schemaname = 'paytrust' AND tablename <> 'migrations'"
    )
    assert {row["name"] for row in tables} == set(ROWS)
    policies = arena.rows(
        "SELECT policyname || ' ON ' || tablename AS name FROM pg_policies WHERE schemaname = 'paytrust'"
    )
    assert {row["name"] for row in policies} == {*POLICIES, *NARROWING}


@pytest.mark.parametrize("table", ROWS)
def test_a_table_shows_nothing_to_nobody_because_of_row_level_security_alone(arena, table):
    read = f"SELECT FROM {table}"
    assert arena.attempt(read, NOBODY_IN_PARTICULAR) == 0
    assert arena.without(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY", read, NOBODY_IN_PARTICULAR) > 0


@pytest.mark.parametrize("table", ROWS)
def test_not_even_its_owner_sees_a_row_because_row_level_security_is_forced(arena, table):
    owner = "CREATE ROLE paytrust_owner_of_a_test; GRANT USAGE ON SCHEMA paytrust TO paytrust_owner_of_a_test"
    setting = (
        owner,
        f"ALTER TABLE {table} OWNER TO paytrust_owner_of_a_test",
        "SET LOCAL ROLE paytrust_owner_of_a_test",
    )
    assert arena.attempt(f"SELECT FROM {table}", setting) == 0
    assert (
        arena.without(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY", f"SELECT FROM {table}", setting) > 0
    )


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_lets_its_own_rows_through_and_by_its_condition_no_others(arena, policy):
    probe = PROBES.get(policy) or f"SELECT FROM {policy.partition(' ON ')[2]}"
    (rule,) = arena.rows(
        f"SELECT qual, with_check FROM pg_policies WHERE schemaname = 'paytrust' AND policyname || ' ON ' || tablename = '{policy}'"
    )
    assert arena.attempt(probe, NOBODY_IN_PARTICULAR) == 0
    for_all = " ".join(
        f"{part} (true)"
        for part, condition in (("USING", rule["qual"]), ("WITH CHECK", rule["with_check"]))
        if condition
    )
    assert arena.without(f"ALTER POLICY {policy} {for_all}", probe, NOBODY_IN_PARTICULAR) > 0
    settings = ROLES["tenant"], ROLES["system"]
    lost = [
        arena.attempt(probe, setting) - arena.without(f"DROP POLICY {policy}", probe, setting)
        for setting in settings
    ]
    assert max(lost) > 0, "dropping it takes nothing from anybody"


# --- every table, every command, for another tenant -------------------------------------------------------------------------------

AS_B = (f"SELECT set_config('app.tenant', {B}, true)", SERVICE)
OF_A = dict.fromkeys(ROWS, f"tenant_id = {A}") | {
    "tenants": f"id = {A}",
    "gateway_account_currencies": f"scope = {A}",
    "idempotency_keys": f"scope = {A}",
    "key_peppers": "digest IS NOT NULL",
    "webhook_attempts": f"webhook_id = {WEBHOOK}",
}
"""What finds A's rows."""
MAY_CHANGE = """
SELECT a.attname AS name FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = 'paytrust'::regnamespace AND c.relname = '{table}' AND a.attnum > 0 AND NOT a.attisdropped
  AND has_column_privilege('paytrust_app', c.oid, a.attnum, 'UPDATE')
"""


def commands(arena, table):
    """Everything that the service may do to the rows of A in a table, as far as its grants go."""
    yield f"SELECT FROM {table} WHERE {OF_A[table]}"
    yield new(table)
    for column in arena.rows(MAY_CHANGE.format(table=table)):
        yield f"UPDATE {table} SET {column['name']} = {column['name']} WHERE {OF_A[table]}"
    if arena.rows(f"SELECT WHERE has_table_privilege('paytrust_app', 'paytrust.{table}', 'DELETE')"):
        yield f"DELETE FROM {table} WHERE {OF_A[table]}"


def is_kept_away(outcome):
    return outcome == 0 or (
        isinstance(outcome, asyncpg.InsufficientPrivilegeError) and "row-level security" in str(outcome)
    )


@pytest.mark.parametrize("table", ROWS)
def test_another_tenant_can_do_nothing_to_a_row_because_of_row_level_security_alone(arena, table):
    for command in commands(arena, table):
        assert is_kept_away(arena.attempt(command, AS_B)), command
        assert not is_kept_away(
            arena.without(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY", command, AS_B)
        ), command


@pytest.mark.parametrize("table", [table for table in ROWS if f"system ON {table}" not in POLICIES])
def test_what_spans_tenants_can_do_nothing_to_a_row_where_no_policy_is_for_it(arena, table):
    for command in commands(arena, table):
        assert is_kept_away(arena.attempt(command, ROLES["system"])), command


@pytest.mark.parametrize("table", ROWS)
def test_no_grant_lets_the_service_change_whose_a_row_is_or_remove_it(arena, table):
    """
    But for webhooks, whose tenant is found later and which end when they came to nothing, idempotency keys,
    which end, and gateway accounts as long as nothing refers to them.
    """
    owner = OF_A[table].partition(" ")[0]
    forbidden = {f"UPDATE {table} SET {owner} = {owner}", f"DELETE FROM {table}", f"TRUNCATE {table}"}
    for statement in forbidden - {
        "UPDATE webhooks SET tenant_id = tenant_id",
        "DELETE FROM idempotency_keys",
        "DELETE FROM gateway_accounts",
        "DELETE FROM gateway_account_currencies",
        "DELETE FROM webhooks",
    }:
        outcome = arena.attempt(statement, ROLES["tenant"])
        assert isinstance(outcome, asyncpg.InsufficientPrivilegeError), statement
        assert "permission denied" in str(outcome), statement


@pytest.mark.parametrize(
    ("role", "status", "deleted"),
    [("system", "applied", 0), ("system", "ignored", 1), ("tenant", "ignored", 0)],
)
def test_only_webhooks_that_came_to_nothing_can_be_deleted(arena, role, status, deleted):
    command = (
        f"{new('webhooks', id=NO_TENANT, status=repr(status))}; DELETE FROM webhooks WHERE id = {NO_TENANT}"
    )
    assert arena.attempt(command, ROLES[role]) == deleted
    if not deleted:
        assert arena.without("DROP POLICY prune ON webhooks", command, ROLES[role]) == 1


def test_a_webhook_cannot_be_handed_to_another_tenant(arena):
    own = new("webhooks", tenant_id=B, gateway_account_id=ACCOUNT_OF_B)
    outcome = arena.attempt(f"{own}; UPDATE webhooks SET tenant_id = {A}", AS_B)
    assert isinstance(outcome, asyncpg.InsufficientPrivilegeError)
    assert "row-level security" in str(outcome)


# Their values are random and ours: nobody can ask whether one that he would like is taken.
RANDOM = {
    *("tenants_pkey", "gateway_accounts_pkey", "webhooks_pkey", "key_audit_pkey", "key_peppers_pkey"),
    *("api_keys_lookup_unique", "gateway_accounts_token_unique", "webhook_attempts_pkey"),
}


def test_no_unique_key_tells_a_tenant_what_another_has(arena):
    """C10. An account belongs to one tenant; what is unique in a shared one is made of our own ids."""
    keys = arena.rows(
        "SELECT i.relname AS name, a.attname AS first FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid"
        " JOIN pg_attribute a ON a.attrelid = i.oid AND a.attnum = 1 WHERE i.relnamespace = 'paytrust'::regnamespace AND x.indisunique"
    )
    apart = {"tenant_id", "scope", "gateway_account_id"}
    assert {row["name"] for row in keys if row["first"] not in apart} == RANDOM | {"migrations_pkey"}


def test_nothing_goes_around_row_level_security(arena):
    """
    C9: no view that reads as its owner, and one function that writes as its owner, with its search path
    pinned.
    """
    assert (
        arena.rows(
            "SELECT relname FROM pg_class WHERE relnamespace = 'paytrust'::regnamespace AND relkind IN ('v', 'm', 'f')"
        )
        == []
    )
    definer = arena.rows(
        "SELECT proname AS name, proconfig AS config FROM pg_proc WHERE pronamespace = 'paytrust'::regnamespace AND prosecdef"
    )
    assert [(row["name"], row["config"]) for row in definer] == [
        ("post_transfers", ["search_path=pg_catalog"])
    ]
