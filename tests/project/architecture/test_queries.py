"""
The typed queries of the stores (docs/adr/0028): each has the filters that were given and no others, an end,
and no secret among its columns. The tests hear the statements that PostgreSQL is sent.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from paytrust.accounts import store as accounts
from paytrust.infra.db import Database
from paytrust.keys import store as keys
from paytrust.keys.model import AuditFilters
from paytrust.tenants import store as tenants
from paytrust.webhooks import store as webhooks
from paytrust.webhooks.model import FailedFilters

ROOT = Path(__file__).parents[3]
ID, TIME = UUID("01900000-0000-7000-8000-000000000000"), datetime(2026, 1, 1, tzinfo=UTC)
SECRETS = {"hash", "lookup", "credentials", "old_hash", "wrapped", "answer"}
UNBOUNDED = {accounts.ids}
"""A reconciliation visits every account; administrators make them, one by one."""

INNER = {"accounts._fees", "webhooks._attempts", "tenants.insert"}
"""Called by the others, or reading back the one row it has written."""


async def audit(tx, *, limit, before=None, **filters):
    return await keys.audit(tx, AuditFilters(**filters), limit=limit, before=before)


async def failed(tx, *, limit, before=None, **filters):
    return await webhooks.failed(tx, FailedFilters(**filters), limit=limit, before=before)


async def replay_failed(tx, *, limit, after=None, **filters):
    return await webhooks.replay_failed(tx, FailedFilters(**filters), limit=limit, after=after)


@dataclass
class Read:
    """
    A function of a store: how to call it, its filters with a value and a condition each, and the conditions
    that it always has, with their number of parameters.
    """

    function: Callable[..., Any]
    call: Callable[..., Any]
    filters: dict[str, tuple[object, str]] = field(default_factory=dict)
    always: dict[str, int] = field(default_factory=dict)
    arguments: dict[str, object] = field(default_factory=lambda: {"limit": 7})

    @property
    def name(self):
        return f"{self.function.__module__.split('.')[1]}.{self.function.__name__}"


LAST = 'SELECT ALL "key_audit"."at" AS "at", "key_audit"."id" AS "id" FROM "paytrust"."key_audit" WHERE "key_audit"."id" = $'
FAILED = {
    "account_id": (ID, '"webhooks"."gateway_account_id" = $'),
    "code": ("code", '"webhooks"."error_code" = $'),
    "received_from": (TIME, '"webhooks"."received_at" >= $'),
    "received_to": (TIME, '"webhooks"."received_at" < $'),
}
GIVEN_UP = {'"webhooks"."status" = \'failed\'': 0}
READS = [
    Read(tenants.page, tenants.page, {"after": (ID, '"tenants"."id" > $')}),
    Read(tenants.exists, tenants.exists, {}, {'"tenants"."id" = $': 1}, {"tenant_id": ID}),
    Read(
        keys.page,
        keys.page,
        {"after": (ID, '"api_keys"."id" > $'), "tenant_id": (ID, '"api_keys"."tenant_id" = $')},
    ),
    Read(
        keys.audit,
        audit,
        {
            "tenant_id": (ID, '"key_audit"."tenant_id" = $'),
            "key_id": (ID, '"key_audit"."key_id" = $'),
            "created_from": (TIME, '"key_audit"."at" >= $'),
            "created_to": (TIME, '"key_audit"."at" < $'),
            "before": (ID, f'"key_audit"."at", "key_audit"."id" < {LAST}'),
        },
    ),
    Read(
        accounts.page,
        accounts.page,
        {
            "after": (ID, '"gateway_accounts"."id" > $'),
            "tenant_id": (ID, '"gateway_accounts"."tenant_id" = $'),
        },
    ),
    Read(
        accounts.ids, accounts.ids, {"gateway": ("xendit", '"gateway_accounts"."gateway" = $')}, arguments={}
    ),
    Read(webhooks.failed, failed, FAILED | {"before": (ID, '"webhooks"."id" < $')}, GIVEN_UP),
    Read(webhooks.replay_failed, replay_failed, FAILED | {"after": (ID, '"webhooks"."id" > $')}, GIVEN_UP),
    Read(webhooks.find, webhooks.find, {}, {'"webhooks"."id" = $': 1}, {"webhook_id": ID}),
    Read(webhooks.contents, webhooks.contents, {}, {'"webhooks"."id" = $': 1}, {"webhook_id": ID}),
]


@pytest.fixture(scope="module")
async def db(module_owner_url, settings_for):
    database = Database(settings_for(module_owner_url).database_url.get_secret_value(), size=2)
    await database.open()
    yield database
    await database.close()


async def said(db, read, given):
    """The typed queries that a call with these filters sends, with their arguments."""
    heard = []
    nothing = dict.fromkeys(read.filters)
    async with db.transaction(system=True) as tx:
        tx.connection.add_query_logger(lambda one: heard.append((one.query, one.args)))
        try:
            await read.call(tx, **nothing | read.arguments | {name: read.filters[name][0] for name in given})
        except ValueError:
            assert read.function is webhooks.contents  # of a webhook that a worker holds
    return [(sql, args) for sql, args in heard if sql.startswith("SELECT ALL ")]


def conditions(sql):
    """The conditions after the first WHERE, without brackets and the numbers of parameters."""
    where = re.search(r" WHERE (.*?)(?: ORDER BY .*)?(?: LIMIT \d+)?(?: FOR UPDATE)?$", sql)
    plain = re.sub(r"\$\d+", "$", re.sub(r"[()]", "", where[1])) if where else ""
    return sorted(plain.split(" AND ")) if plain else []


@pytest.mark.parametrize("read", READS, ids=lambda read: read.name)
async def test_a_query_has_the_filters_that_were_given_and_no_others(db, read):
    every = [given for n in range(len(read.filters) + 1) for given in combinations(read.filters, n)]
    for given in every:
        (sql, args), *_ = await said(db, read, given)
        assert conditions(sql) == sorted([*(read.filters[name][1] for name in given), *read.always])
        assert len(args) == len(given) + sum(read.always.values())


@pytest.mark.parametrize("read", READS, ids=lambda read: read.name)
async def test_a_query_has_an_end(db, read):
    """A limit, or ids of which a page has at most as many."""
    for sql, _ in await said(db, read, read.filters):
        named = re.search(r'"(?:\w*_)?id" = (?:\$|ANY\()', sql)
        assert read.function in UNBOUNDED or named or re.search(r" LIMIT 7\b", sql), sql


@pytest.mark.parametrize("read", READS, ids=lambda read: read.name)
async def test_a_query_reads_no_secret(db, read):
    """Hashes, look-ups and sealed credentials stay where they are checked or opened."""
    for sql, _ in await said(db, read, read.filters):
        assert SECRETS.isdisjoint(re.findall(r'"(\w+)"', sql)), sql


def test_every_function_of_a_store_with_a_typed_query_is_tested_here():
    found = set()
    for path in (ROOT / "paytrust").glob("*/store.py"):
        for function in ast.parse(path.read_text()).body:
            if isinstance(function, ast.AsyncFunctionDef) and "tx.select(" in ast.unparse(function):
                found.add(f"{path.parent.name}.{function.name}")
    assert found - INNER == {read.name for read in READS}


@pytest.mark.parametrize("room", ["secrets", "idempotency", "tenants", "keys", "accounts", "webhooks"])
def test_no_statement_asks_whether_a_filter_was_given(room, statements):
    """`$1 IS NULL OR ...` makes PostgreSQL choose one plan for all filters."""
    for line, sql in statements(ROOT / "paytrust" / room / "store.py"):
        assert not re.search(r"\$\d+(::\w+)? IS NULL OR", sql), f"{room}/store.py:{line}"


# --- plans --------------------------------------------------------------------------------------------------------------------

PLANS = [
    (audit, [], "key_audit_by_time"),
    (audit, ["created_from", "created_to"], "key_audit_by_time"),
    (audit, ["tenant_id"], "key_audit_of_tenant"),
    (audit, ["tenant_id", "created_from", "before"], "key_audit_of_tenant"),
    (audit, ["key_id"], "key_audit_of_key"),
    (failed, [], "webhooks_failed"),
    (failed, ["account_id", "code", "before"], "webhooks_failed"),
    (replay_failed, ["received_from", "received_to", "after"], "webhooks_failed"),
]


@pytest.fixture(scope="module")
async def filled(module_owner_url):
    """The owner's connection, on tables with enough rows for an index to pay."""
    owner = await asyncpg.connect(module_owner_url)
    await owner.execute("SET session_replication_role = replica")  # no keys, no triggers
    await owner.execute(
        "INSERT INTO paytrust.key_audit (id, tenant_id, key_id, action, actor, times, first_at, at)"
        " SELECT gen_random_uuid(), md5((n % 100)::text)::uuid, md5((n % 500)::text)::uuid, 'used', 'a', 1, t, t"
        " FROM generate_series(1, 10000) n, LATERAL (SELECT now() - n * interval '1 minute' AS t) s"
    )
    await owner.execute(
        "INSERT INTO paytrust.webhooks (id, gateway_account_id, event_key, event, headers, body, status, error_code)"
        " SELECT gen_random_uuid(), $1, n::text, 'paid', '{}', '', CASE WHEN n % 20 = 0 THEN 'failed' ELSE 'applied' END,"
        " CASE WHEN n % 20 = 0 THEN 'unknown_reference' END FROM generate_series(1, 10000) n",
        uuid4(),
    )
    await owner.execute("ANALYZE paytrust.key_audit, paytrust.webhooks")
    await owner.execute("SET plan_cache_mode = force_generic_plan")
    yield owner
    await owner.execute("TRUNCATE paytrust.key_audit, paytrust.webhooks, paytrust.webhook_attempts")
    await owner.close()


@pytest.mark.parametrize(
    ("call", "given", "index"), PLANS, ids=lambda value: getattr(value, "__name__", str(value))
)
async def test_a_list_is_read_through_the_index_of_its_filters(db, filled, call, given, index):
    """Also by the plan that PostgreSQL makes before it knows a value."""
    (read,) = [read for read in READS if read.call is call]
    (sql, args), *_ = await said(db, read, given)
    await filled.execute(f"PREPARE list AS {sql}")
    try:
        nulls = f"({', '.join(['NULL'] * len(args))})" if args else ""
        plan = "\n".join(row[0] for row in await filled.fetch(f"EXPLAIN EXECUTE list{nulls}"))
    finally:
        await filled.execute("DEALLOCATE list")
    assert re.search(rf" (on|using) {index}\b", plan), plan
