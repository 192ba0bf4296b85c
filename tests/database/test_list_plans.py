"""
Every filter of GET /invoices has an index and a plan of its own: a page of a large tenant reads about as many rows
as it shows, though what it looks for lies at the far end of the list. So the number of its invoices does not matter;
with 200,000 of them the tests pass as well, and take minutes because the canary looks at every row.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import chain
from uuid import UUID

import asyncpg
import pytest

from paytrust.infra.db import Database
from paytrust.payments import store
from paytrust.payments.model import InvoiceFilters

MANY, FEW, LIMIT = 30_000, 1_000, 200
TENANT, RARE, USUAL = (UUID(int=number) for number in (1, 2, 3))
START = datetime(2026, 1, 1, tzinfo=UTC)

FILL = f"""
INSERT INTO paytrust.tenants (id, name) VALUES ('{TENANT}', 'Large');
INSERT INTO paytrust.invoices (tenant_id, id, external_id, content_hash, account_scope, gateway_account_id, gateway, currency, status,
    subtotal, tax, fee, total, fee_percentage, fee_fixed, fee_minimum, customer, metadata, original_invoice_id, payment_initiated_at,
    created_at, expires_at)
SELECT '{TENANT}', lpad(to_hex(n), 32, '0')::uuid, 'order-' || n, '\\x00', '{TENANT}',
    CASE WHEN n <= {FEW} THEN '{RARE}' ELSE '{USUAL}' END::uuid, 'xendit', CASE WHEN n <= {FEW} THEN 'USD' ELSE 'IDR' END,
    CASE WHEN n <= {FEW} THEN 'pending' ELSE 'paid' END, 1, 0, 0, 1, 0, 0, 0, '{{}}', '{{}}',
    CASE WHEN n BETWEEN 2 AND {FEW} THEN lpad('1', 32, '0')::uuid END, '{START}', at, at + interval '1 day'
FROM generate_series(1, {MANY}) n, LATERAL (SELECT '{START}'::timestamptz + n * interval '1 minute' AS at) t;
INSERT INTO paytrust.receipts (tenant_id, id, invoice_id, payment_id, currency, gateway_account_id, gateway_payment_id, amount, paid_at, flag)
SELECT tenant_id, id, id, id, currency, gateway_account_id, external_id, 1, created_at,
    CASE WHEN id <= lpad(to_hex({FEW}), 32, '0')::uuid THEN 'late' END
FROM paytrust.invoices;
INSERT INTO paytrust.invoice_history (tenant_id, invoice_id, id, event, details)
SELECT tenant_id, id, id, CASE WHEN id <= lpad(to_hex({FEW}), 32, '0')::uuid THEN 'payment_returned' ELSE 'payment_closed' END, '{{}}'
FROM paytrust.invoices;
"""

FILTERS = {
    "nothing": {},
    "status": {"status": "pending"},
    "a status that nothing has": {"status": "draft"},
    "currency": {"currency": "USD"},
    "a currency that nothing has": {"currency": "MYR"},
    "gateway account": {"account_id": RARE},
    "an unknown gateway account": {"account_id": TENANT},
    "external_id": {"external_id": "order-7"},
    "original": {"original_id": UUID(int=1)},
    "flag": {"flag": "late"},
    "a flag that nothing has": {"flag": "after_paid"},
    "money that went back": {"flag": "returned"},
    "created_from": {"created_from": START + timedelta(minutes=MANY - 5)},
    "created_to": {"created_to": START + timedelta(minutes=FEW)},
    "a period": {"created_from": START + timedelta(days=10), "created_to": START + timedelta(days=11)},
    "status, currency and period": {
        "status": "pending",
        "currency": "USD",
        "created_to": START + timedelta(minutes=FEW),
    },
}


@pytest.fixture(scope="module")
async def large(module_owner_url, settings_for):
    """A service's database with a large tenant."""
    owner = await asyncpg.connect(module_owner_url)
    async with owner.transaction():
        await owner.execute("SET LOCAL session_replication_role = replica")  # no triggers, no foreign keys
        await owner.execute(FILL)
    await owner.execute("VACUUM ANALYZE paytrust.invoices")
    await owner.execute("VACUUM ANALYZE paytrust.receipts")
    await owner.close()
    database = Database(settings_for(module_owner_url).database_url.get_secret_value(), size=1)
    await database.open()
    yield database
    await database.close()


def nodes(plan):
    yield plan
    yield from chain.from_iterable(map(nodes, plan.get("Plans", ())))


@pytest.mark.parametrize("before", [None, UUID(int=FEW)], ids=["first", "next"])
@pytest.mark.parametrize("given", FILTERS.values(), ids=FILTERS)
async def test_a_page_of_a_large_tenant_reads_what_it_shows(large, given, before):
    """As the service's role, under row-level security."""
    values = {"tenant_id": TENANT, "limit": LIMIT, "before": before} | dict.fromkeys(
        InvoiceFilters.__struct_fields__
    )
    sql, *args = store._PAGE.bind(values | given)
    async with large.transaction(tenant=TENANT, readonly=True) as tx:
        tries = [
            json.loads(await tx.fetchval("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + sql, *args))[0]
            for _ in range(5)
        ]
    explained = min(tries, key=lambda explained: explained["Execution Time"])
    plan = list(nodes(explained["Plan"]))
    at_invoices = [node for node in plan if node.get("Relation Name") == "invoices"]
    assert not [node for node in plan if node["Node Type"] == "Seq Scan"], plan
    assert sum(node.get("Rows Removed by Filter", 0) * node["Actual Loops"] for node in plan) <= LIMIT
    assert sum(node["Actual Rows"] * node["Actual Loops"] for node in at_invoices) <= max(LIMIT, FEW) + 1
    assert explained["Execution Time"] < 20, explained
