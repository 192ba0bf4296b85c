"""The command line."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
import pytest
from support.waiting import eventually, is_ready

from paytrust import development
from paytrust.cli import cli
from paytrust.commands import COMMANDS, Commands
from paytrust.infra import migrations

PAYTRUST = [str(Path(sys.executable).with_name("paytrust"))]
pytestmark = pytest.mark.timeout(300)  # a dozen processes, on a machine that may be busy


def commands(group=cli, path=()):
    for name, command in group.commands.items():
        yield (*path, name)
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))


def test_help_answers_quickly_and_names_every_command(run_process):
    started = time.monotonic()
    code, text = run_process("--help")
    assert code == 0
    assert time.monotonic() - started < 15  # a fraction of a second where nothing else run_processs
    for name in cli.commands:
        assert re.search(rf"^  {name}\b", text, re.MULTILINE), name


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_every_command_explains_itself(path):
    command = cli
    for name in path:
        command = command.commands[name]
    assert len(command.get_short_help_str(200)) > 10
    for parameter in command.params:
        assert parameter.param_type_name == "argument" or parameter.help, f"{path}: {parameter.name}"


def test_a_mistake_in_the_settings_is_one_clear_message_without_a_traceback(run_process):
    code, text = run_process("tenants", "list", changes={"PAYTRUST_PORT": "x", "PAYTRUST_PROT": "1"})
    assert code == 1
    assert "PAYTRUST_PORT: " in text
    assert "PAYTRUST_PROT: no such setting" in text
    assert "Traceback" not in text


def test_a_database_that_is_away_is_one_clear_message(run_process):
    code, text = run_process(
        "tenants", "list", changes={"PAYTRUST_DATABASE_URL": "postgresql://x@127.0.0.1:1/x"}
    )
    assert code == 1
    assert "PAYTRUST_DATABASE_URL" in text
    assert "Traceback" not in text


def test_tenants_and_keys_are_made_listed_and_revoked(run, settings):
    code, tenant_id = run("tenants", "create", "Toko Buku")
    assert code == 0, tenant_id
    tenant_id = tenant_id.strip()
    assert "Toko Buku" in run("tenants", "list")[1]
    code, key = run("keys", "create", tenant_id, "--description", "shop", "--scope", "read")
    assert (code, len(key.strip())) == (0, 64), key
    listed = run("keys", "list", "--tenant", tenant_id)[1]
    assert key[:4] + "..." in listed
    assert key.strip() not in listed
    key_id = re.search(r"[0-9a-f]{8}-[0-9a-f-]{27}", listed)[0]
    with development.serving(settings) as url:
        assert httpx.get(f"{url}/invoices", headers={"X-API-Key": key.strip()}).status_code == 200
        code, rotated = run("keys", "rotate", key_id)
        assert (code, len(rotated.strip())) == (0, 64), rotated
        assert httpx.get(f"{url}/invoices", headers={"X-API-Key": rotated.strip()}).status_code == 200
    code, text = run(
        "keys",
        "audit",
        "--key",
        key_id,
        "--tenant",
        tenant_id,
        "--from",
        "2020-01-01",
        "--to",
        "2999-12-31T23:59:59Z",
    )
    assert code == 0, text
    assert re.search(r"rotated +1 +local ", text)
    assert re.search(
        rf"used +[12] +api_key:{key_id} +127\.0\.0\.1 ", text
    )  # two when it was rotated before the first was written
    assert run("keys", "audit", "--to", "2020-01-01") == (0, "none\n")
    key = rotated
    assert run("keys", "revoke", key_id) == (0, "revoked\n")
    assert "revoked or expired" in run("keys", "rotate", key_id)[1]
    with development.serving(settings) as url:
        assert httpx.get(f"{url}/invoices", headers={"X-API-Key": key.strip()}).status_code == 401


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("tenants", "create", ""), "1 to 200"),
        (("keys", "create", "nonsense"), "not a valid UUID"),
        (("keys", "create", "00000000-0000-0000-0000-000000000001"), "there is no tenant"),
        (("keys", "revoke", "00000000-0000-0000-0000-000000000001"), "there is no API key"),
        (("keys", "rotate", "00000000-0000-0000-0000-000000000001"), "there is no API key"),
        (
            ("keys", "create", "00000000-0000-0000-0000-000000000001", "--allow", "10.0.0.1/8"),
            "#/allowed_addresses/0",
        ),
        (("migrate", "--down-to", "nothing", "--yes"), "no migration 'nothing'"),
        (("nonsense",), "No such command"),
    ],
)
def test_a_wrong_argument_is_said_clearly(run, args, message):
    code, text = run(*args)
    assert code in {1, 2}
    assert message in text
    assert "Traceback" not in text


def test_migrate_says_what_it_does_and_asks_before_it_destroys(run, run_process):
    assert "up to date" in run("migrate")[1]
    assert run("migrate", "--check") == (0, "missing: nothing\n")
    *_, previous, newest = (migration.name for migration in migrations.available())
    code, text = run("migrate", "--down-to", previous, given="n\n")
    assert code == 1
    assert "Aborted" in text
    assert run("migrate", "--down-to", previous, "--yes") == (0, f"undone: {newest}\n")
    assert run("migrate", "--check") == (1, f"missing: {newest}\n")
    code, text = run_process("serve")
    assert code == 1
    assert newest in text
    assert f"applied: {newest}" in run("migrate")[1]


def test_an_owner_without_the_needed_privileges_is_told_what_is_missing(run, settings):
    code, text = run(
        "migrate",
        "--down-to",
        "none",
        "--yes",
        changes={"PAYTRUST_DATABASE_OWNER_URL": settings.database_url.get_secret_value()},
    )
    assert code == 1
    assert "CREATEROLE" in text
    assert "Traceback" not in text


def test_serve_refuses_the_owner_of_the_tables(run_process, owner_url):
    code, text = run_process("serve", changes={"PAYTRUST_DATABASE_URL": owner_url})
    assert code == 1
    assert "superuser" in text or "owns the tables" in text


def test_serve_says_that_its_port_is_taken(run_process):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for args, changes in ((("--port", port), {}), ((), {"PAYTRUST_PORT": port})):
            code, text = run_process("serve", *args, changes=changes)
            assert code == 1
            assert text.splitlines()[-1].startswith(
                f"Error: cannot listen on port {port} of 127.0.0.1: Address already in use; "
            )
            assert "Traceback" not in text


def test_plugins_shows_what_is_installed(run):
    code, text = run("plugins")
    assert code == 0
    assert re.search(r"xendit +paytrust-xendit 0\.1\.0 +loaded +gateway xendit", text)


def test_plugins_are_disabled_wherever_settings_are_read(run, tmp_path):
    disabled = re.compile(r"xendit +paytrust-xendit 0\.1\.0 +disabled")
    assert not disabled.search(run("plugins")[1])
    assert disabled.search(run("plugins", changes={"PAYTRUST_DISABLED_PLUGINS": "xendit"})[1])
    (tmp_path / "paytrust.toml").write_text('disabled_plugins = ["xendit"]\n')
    assert disabled.search(run("plugins")[1])
    (tmp_path / ".env").write_text("PAYTRUST_DISABLED_PLUGINS=midtrans\n")
    assert not disabled.search(run("plugins")[1]), ".env beats the TOML file"
    (tmp_path / "paytrust.toml").write_text("disabled_plugins = [\n")
    code, text = run("plugins")
    assert code == 1
    assert "paytrust.toml cannot be read" in text


def test_a_gateway_account_is_added_from_json_and_listed_without_its_credentials(run):
    tenant_id = run("tenants", "create", "T")[1].strip()
    account = {
        "gateway": "xendit",
        "name": "My shop",
        "tenant_id": tenant_id,
        "credentials": {"secret_key": "canary-secret", "callback_token": "canary-token"},
        "currencies": {"IDR": {"percentage": "0.029", "fixed": "2000"}},
    }
    code, added = run("gateways", "add", "-", given=json.dumps(account))
    assert code == 0, added
    assert "/webhooks/xendit/" in added
    code, listed = run("gateways", "list")
    assert code == 0
    assert "My shop" in listed
    assert "canary" not in added + listed


def test_a_mistyped_gateway_account_is_removed(run):
    body = {"gateway": "xendit", "name": "Mistyped", "credentials": {}, "currencies": {"IDR": {}}}
    body["credentials"] = {"secret_key": "x", "callback_token": "y"}
    gateway_id = json.loads(run("gateways", "add", "-", given=json.dumps(body))[1])["gateway_id"]
    assert run("gateways", "remove", gateway_id) == (0, "removed\n")
    assert "Mistyped" not in run("gateways", "list")[1]
    code, text = run("gateways", "remove", gateway_id)
    assert (code, text) == (1, f"Error: there is no gateway account {gateway_id}\n")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{", "not valid JSON"),
        ("{}", "#/gateway"),
        (
            '{"gateway": "none", "name": "x", "credentials": {}, "currencies": {"IDR": {}}}',
            "installed gateways: ",
        ),
        ('{"gateway": "xendit", "name": "x", "credentials": {}, "currencies": {"IDR": {}}}', "#/credentials"),
    ],
)
def test_a_wrong_gateway_account_is_refused_with_the_reason(run, body, message):
    code, text = run("gateways", "add", "-", given=body)
    assert code == 1
    assert message in text
    assert "Traceback" not in text


def test_reconcile_says_what_it_leaves_out(run):
    code, said = run("reconcile")
    assert code == 0
    assert "left out: payments of the last 15 minutes" in said


def test_books_verify_proves_an_empty_ledger(run):
    run("tenants", "create", "T")
    assert run("books", "verify") == (0, "1 tenants checked, 0 disagreements\n")


def test_books_verify_names_what_was_changed_behind_their_back(run, settings, sandbox, owner_url):
    currencies = {"IDR": {}}
    body = {"gateway": "xendit", "name": "x", "base_url": sandbox.xendit.url, "currencies": currencies}
    body["credentials"] = {"secret_key": sandbox.xendit.key, "callback_token": sandbox.xendit.callback_token}
    tenant_id = run("tenants", "create", "T")[1].strip()
    key = run("keys", "create", tenant_id)[1].strip()
    with development.serving(settings) as url, httpx.Client(base_url=url, timeout=30) as http:
        admin = {"X-Admin-Key": settings.admin_api_key.get_secret_value()}
        account = http.post("/gateway-accounts", json=body | {"tenant_id": tenant_id}, headers=admin).json()
        order = {"gateway_id": account["gateway_id"], "currency": "IDR"}
        order["line_items"] = [{"product_name": "Tea", "quantity": 1, "unit_price": "1000"}]
        assert http.post("/invoices", json=order, headers={"X-API-Key": key}).status_code == 201
    assert run("books", "verify") == (0, "1 tenants checked, 0 disagreements\n")
    asyncio.run(as_owner(owner_url, "UPDATE paytrust.book_accounts SET debits = debits + 1"))
    code, text = run("books", "verify")
    assert code == 1
    assert f"tenant {tenant_id}: " in text
    assert "1 tenants checked, 0 disagreements" not in text


async def as_owner(url, statement):
    """Run a statement that no trigger and no policy holds back."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"SET session_replication_role = replica; {statement}")
    finally:
        await connection.close()


def test_doctor_finds_what_is_wrong(run, owner_url):
    code, text = run("doctor")
    assert "the settings are complete" in text
    assert "the database has every migration" in text
    assert "cannot bypass row-level security" in text
    assert code == ("is off" in text)  # the tests' own server runs without fsync, and doctor says so
    code, text = run("doctor", changes={"PAYTRUST_DATABASE_URL": owner_url})
    assert code == 1
    code, text = run("doctor", changes={"PAYTRUST_KEY_PEPPER": "short"})
    assert code == 1
    assert "PAYTRUST_KEY_PEPPER" in text


def test_doctor_tells_what_is_risky_and_what_is_missing(run):
    code, text = run(
        "doctor", changes={"PAYTRUST_INSECURE_GATEWAYS": "1", "PAYTRUST_PUBLIC_URL": "https://pay.example"}
    )
    assert "PAYTRUST_INSECURE_GATEWAYS is on" in text
    assert "no gateway on the internet" not in text
    code, text = run("doctor", changes={"PAYTRUST_DATABASE_URL": "postgresql://x@127.0.0.1:1/x"})
    assert (code, "cannot connect to PostgreSQL with PAYTRUST_DATABASE_URL" in text) == (1, True)
    newest = migrations.available()[-1].name
    run("migrate", "--down-to", migrations.available()[-2].name, "--yes")
    code, text = run("doctor")
    assert (code, f"the database lacks {newest}: run" in text) == (1, True)


def test_migrate_needs_to_know_the_owner_and_makes_the_services_login(run, owner_url):
    changes = {"PAYTRUST_DATABASE_OWNER_URL": owner_url}
    name = f"paytrust_fresh_{uuid4().hex[:8]}"
    fresh = development.with_database(
        owner_url, owner_url.partition("?")[0].rpartition("/")[2], user=name, password="p"
    )
    try:
        assert (
            "created the service's login role"
            in run("migrate", changes=changes | {"PAYTRUST_DATABASE_URL": fresh})[1]
        )
        assert "created" not in run("migrate", changes=changes | {"PAYTRUST_DATABASE_URL": fresh})[1]
        assert run("tenants", "list", changes={"PAYTRUST_DATABASE_URL": fresh})[0] == 0
    finally:
        asyncio.run(as_owner(owner_url, f"DROP ROLE {name}"))
    code, text = run("migrate", changes={"PAYTRUST_DATABASE_OWNER_URL": None})
    assert (code, "set PAYTRUST_DATABASE_OWNER_URL" in text) == (1, True)


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_serve_stops_cleanly_on_a_signal(environ, tmp_path, stop):
    port = development.free_port()
    process = subprocess.Popen(
        [*PAYTRUST, "serve", "--port", str(port)],
        env=environ,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        eventually(lambda: process.poll() is not None or is_ready(url), "the service is ready")
        assert process.poll() is None, process.stderr.read()
        process.send_signal(stop)
        _, log = process.communicate(timeout=15)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    assert process.returncode in {0, -stop}
    assert '"level": "error"' not in log
    assert "Traceback" not in log


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_list_of_commands_says_what_each_says_of_itself(name):
    """`paytrust --help` shows the list, so that it need not load what it names."""
    command = Commands("paytrust").get_command(None, name)
    assert " ".join(command.help.split()).startswith(COMMANDS[name])
