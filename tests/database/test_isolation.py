"""The database refuses what a forgotten filter or wrong code would let through."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import asyncpg
import msgspec
import pytest

from paytrust.accounts.model import CreateAccount, NewFee
from paytrust.invoices import model, store
from paytrust.payments import model as payments
from paytrust.payments import store as payments_store
from paytrust.plugins.registry import Registry
from paytrust.services import Services
from paytrust.tenants.model import CreateTenant


@pytest.fixture
async def two(settings, db):
    """Two tenants with an account and a draft invoice each: (tenant_id, account_id, invoice)."""
    services = Services(settings, Registry())
    services.db = services.accounts._db = services.tenants._db = services.idempotency._db = (
        services.secrets._db
    ) = db
    made = []
    for name in ("A", "B"):
        tenant = await services.tenants.create(CreateTenant(name))
        account = await services.accounts.create(
            CreateAccount(
                gateway="xendit",
                name=name,
                tenant_id=tenant.tenant_id,
                credentials={"secret_key": "k" * 20, "callback_token": "t" * 20},
                currencies={"IDR": NewFee(), "MYR": NewFee()},
            )
        )
        await services.idempotency.claim(tenant.tenant_id, "k", b"f" * 32)
        made.append(
            (tenant.tenant_id, account.gateway_id, await draft(db, tenant.tenant_id, account.gateway_id))
        )
    return made


async def draft(db, tenant_id, account_id):
    from paytrust.accounts import service as accounts

    async with db.transaction(tenant=tenant_id) as tx:
        account = await accounts.find(tx, account_id)
        body = {
            "gateway_id": str(account_id),
            "currency": "IDR",
            "line_items": [{"product_name": "x", "quantity": 1, "unit_price": "100"}],
        }
        data = msgspec.json.decode(msgspec.json.encode(body), type=model.CreateInvoice)
        terms = model.Terms(account=account, now=account.read_at, new_id=uuid4)
        invoice = model.draft(data, terms, invoice_id=uuid4(), tenant_id=tenant_id)
        assert await write(tx, invoice)
    return invoice


async def write(tx, invoice):
    attempt = payments.new_attempt(
        invoice, invoice.installments[0], 1, payment_id=uuid4(), now=invoice.created_at
    )
    return await payments_store.create(tx, invoice, attempt)


async def test_a_row_forged_for_another_tenant_is_refused(db, two):
    (a, _, _), (b, account_b, invoice_b) = two
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        async with db.transaction(tenant=a) as tx:
            await tx.execute(
                "INSERT INTO paytrust.receipts (tenant_id, id, invoice_id, payment_id, currency, gateway_account_id, gateway_payment_id,"
                " amount, paid_at) VALUES ($1, $2, $3, $2, 'IDR', $4, 'x', 1, now())",
                b,
                uuid4(),
                invoice_b.id,
                account_b,
            )


async def test_an_update_of_another_tenants_invoice_touches_nothing(db, two):
    (a, _, _), (_, _, invoice_b) = two
    async with db.transaction(tenant=a) as tx:
        assert (
            await tx.execute("UPDATE paytrust.invoices SET status = 'paid' WHERE id = $1", invoice_b.id) == 0
        )


async def test_an_invoice_cannot_use_another_tenants_account(db, two):
    (a, _, _), (_, account_b, _) = two
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        async with db.transaction(tenant=a) as tx:
            mine = await store.find(tx, a, two[0][2].id)
            stolen = msgspec.structs.replace(mine, id=uuid4(), account_id=account_b)
            await write(tx, stolen)


async def test_an_invoice_cannot_name_another_tenants_scope(db, two):
    (a, _, _), (b, account_b, _) = two
    with pytest.raises(asyncpg.CheckViolationError, match="invoices_account_scope"):
        async with db.transaction(tenant=a) as tx:
            mine = await store.find(tx, a, two[0][2].id)
            stolen = msgspec.structs.replace(mine, id=uuid4(), account_id=account_b, account_scope=b)
            await write(tx, stolen)


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("UPDATE paytrust.invoices SET total = 1", asyncpg.InsufficientPrivilegeError),
        ("UPDATE paytrust.invoices SET currency = 'MYR'", asyncpg.InsufficientPrivilegeError),
        ("DELETE FROM paytrust.invoices", asyncpg.InsufficientPrivilegeError),
        ("TRUNCATE paytrust.invoices", asyncpg.InsufficientPrivilegeError),
        ("UPDATE paytrust.line_items SET quantity = 2", asyncpg.InsufficientPrivilegeError),
        ("UPDATE paytrust.transfers SET amount = 2", asyncpg.InsufficientPrivilegeError),
        ("DELETE FROM paytrust.transfers", asyncpg.InsufficientPrivilegeError),
        ("UPDATE paytrust.book_accounts SET credits = 2", asyncpg.InsufficientPrivilegeError),
        ("DELETE FROM paytrust.receipts", asyncpg.InsufficientPrivilegeError),
        ("ALTER TABLE paytrust.invoices DISABLE ROW LEVEL SECURITY", asyncpg.InsufficientPrivilegeError),
        ("DROP TABLE paytrust.transfers", asyncpg.InsufficientPrivilegeError),
        ("CREATE TABLE paytrust.mine ()", asyncpg.InsufficientPrivilegeError),
    ],
)
async def test_the_services_role_may_not(db, two, statement, error):
    with pytest.raises(error):
        async with db.transaction(tenant=two[0][0]) as tx:
            await tx.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE paytrust.invoices SET total = total + 1, fee = fee + 1 WHERE payment_initiated_at IS NOT NULL",
        "UPDATE paytrust.invoices SET currency = 'MYR'",
        "UPDATE paytrust.invoices SET gateway = 'other'",
        "UPDATE paytrust.invoices SET payment_initiated_at = NULL, status = 'draft'",
        "DELETE FROM paytrust.invoices",
        "UPDATE paytrust.line_items SET product_name = 'y'",
        "DELETE FROM paytrust.line_items",
        "INSERT INTO paytrust.line_items SELECT tenant_id, invoice_id, 2, id, currency, 'y', 1, 1, 0, NULL, NULL, 1, 0 FROM paytrust.line_items",
        "DELETE FROM paytrust.installments",
        "DELETE FROM paytrust.payments",
        "UPDATE paytrust.transfers SET amount = amount + 1",
        "DELETE FROM paytrust.transfers",
        "TRUNCATE paytrust.transfers",
        "DELETE FROM paytrust.receipts",
        "DELETE FROM paytrust.book_accounts",
    ],
)
async def test_not_even_the_owner_may_change_an_initiated_invoice_or_the_books(db, two, owner, statement):
    tenant_id, _, invoice = two[0]
    await issue(db, tenant_id, invoice)
    with pytest.raises((asyncpg.RestrictViolationError, asyncpg.ForeignKeyViolationError)):
        await owner.execute(statement)


async def issue(db, tenant_id, invoice):
    from paytrust.books import service as books
    from paytrust.invoices import service as invoices

    async with db.transaction(tenant=tenant_id) as tx:
        assert await invoices.initiate(tx, tenant_id, invoice.id)
        await books.post(tx, tenant_id, *payments.issue(invoice))


async def post(db, tenant_id, invoice_id, debit, credit, amount, *, currency="IDR", cause_id=None):
    async with db.transaction(tenant=tenant_id) as tx:
        await tx.execute(
            "INSERT INTO paytrust.transfers (tenant_id, cause, cause_id, leg, currency, invoice_id, debit, credit, amount)"
            " VALUES ($1, 'receipt', $2, 0, $3, $4, $5, $6, $7)",
            tenant_id,
            cause_id or uuid4(),
            currency,
            invoice_id,
            debit,
            credit,
            amount,
        )


async def test_the_books_refuse(db, two):
    (a, _, invoice), (_, _, other) = two
    await issue(db, a, invoice)
    receivable = f"receivable:{invoice.id}:1"
    cause = uuid4()
    await post(db, a, invoice.id, "clearing:g", receivable, 60, cause_id=cause)
    attacks = {
        "posting one cause twice": (
            {"cause_id": cause},
            ("clearing:g", receivable, 1),
            asyncpg.UniqueViolationError,
        ),
        "crediting an installment above what it is owed": (
            {},
            ("clearing:g", receivable, 41),
            asyncpg.CheckViolationError,
        ),
        "another currency": (
            {"currency": "MYR"},
            ("clearing:g", receivable, 1),
            asyncpg.ForeignKeyViolationError,
        ),
        "an installment that does not exist": (
            {},
            ("clearing:g", f"receivable:{invoice.id}:2", 1),
            asyncpg.ForeignKeyViolationError,
        ),
        "another tenant's installment": (
            {},
            ("clearing:g", f"receivable:{other.id}:1", 1),
            asyncpg.CheckViolationError,
        ),
        "spending an overpayment": (
            {},
            (f"overpaid:{invoice.id}", "clearing:g", 1),
            asyncpg.CheckViolationError,
        ),
        "revenue out of nothing": ({}, ("clearing:g", "revenue", 1), asyncpg.CheckViolationError),
        "nothing": ({}, ("clearing:g", receivable, 0), asyncpg.CheckViolationError),
        "a negative amount": ({}, ("clearing:g", receivable, -1), asyncpg.CheckViolationError),
        "one account on both sides": ({}, (receivable, receivable, 1), asyncpg.CheckViolationError),
        "an account of no known kind": ({}, ("pocket", receivable, 1), asyncpg.CheckViolationError),
    }
    for what, (options, (debit, credit, amount), error) in attacks.items():
        with pytest.raises(error):
            await post(db, a, invoice.id, debit, credit, amount, **options)
            pytest.fail(what)
    async with db.transaction(tenant=a) as tx:
        row = await tx.fetchrow(
            "SELECT debits, credits FROM paytrust.book_accounts WHERE name = $1", receivable
        )
    assert tuple(row) == (100, 60)


async def test_concurrent_credits_never_exceed_what_is_owed(db, two):
    a, _, invoice = two[0]
    await issue(db, a, invoice)
    results = await asyncio.gather(
        *(post(db, a, invoice.id, "clearing:g", f"receivable:{invoice.id}:1", 30) for _ in range(8)),
        return_exceptions=True,
    )
    assert sum(result is None for result in results) == 3
    assert all(isinstance(result, asyncpg.CheckViolationError) for result in results if result is not None)


async def test_a_second_live_attempt_for_an_installment_is_refused(db, two):
    a, account_id, invoice = two[0]
    with pytest.raises(asyncpg.UniqueViolationError, match="payments_one_live"):
        async with db.transaction(tenant=a) as tx:
            await tx.execute(
                "INSERT INTO paytrust.payments (tenant_id, id, invoice_id, installment_number, currency, gateway_account_id, attempt,"
                " reference, amount, status) VALUES ($1, $2, $3, 1, 'IDR', $4, 2, 'PT-2x', 100, 'creating')",
                a,
                uuid4(),
                invoice.id,
                account_id,
            )
