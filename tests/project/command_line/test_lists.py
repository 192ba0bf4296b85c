"""What every command that lists has in common: whole ids, no silent end, JSON, and one rule for times."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import click
import pytest

from paytrust.cli import cli
from paytrust.commands import base

PAYTRUST = str(Path(sys.executable).with_name("paytrust"))
NO_LIST = {
    ("dev",),
    ("serve",),
    ("worker",),
    ("migrate",),
    ("gateways", "add"),  # prints JSON anyhow
    ("gateways", "remove"),
    ("keys", "accept-pepper"),
    ("keys", "revoke"),
    ("secrets", "rotate"),
    ("webhooks", "replay"),
}
"""They do something, and say in a sentence what they did."""


def commands(group=cli, path=()):
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def options(command):
    return {name: option for option in command.params for name in option.opts}


@pytest.fixture
def insert(owner_url):
    """Write many rows at once, as the database's owner."""

    def insert_(sql):
        async def run():
            connection = await asyncpg.connect(owner_url)
            try:
                await connection.execute(f"SET session_replication_role = replica; {sql}")
            finally:
                await connection.close()

        asyncio.run(run())

    return insert_


TENANTS = """
INSERT INTO paytrust.tenants (id, name)
SELECT lpad(to_hex(n), 32, '0')::uuid, 'tenant ' || n FROM generate_series(1, {count}) n
"""
KEYS = """
INSERT INTO paytrust.api_keys (tenant_id, id, prefix, lookup, hash, description, scopes)
SELECT '00000000-0000-0000-0000-000000000001', lpad(to_hex(n), 32, '0')::uuid, 'abcd', sha256(n::text::bytea), '$argon2id$', '', '{{read}}'
FROM generate_series(1, {count}) n
"""
ACCOUNTS = """
INSERT INTO paytrust.gateway_accounts (id, gateway, name, options, credentials, webhook_token)
SELECT lpad(to_hex(n), 32, '0')::uuid, 'xendit', 'x', '{{}}', '\\x00', lpad(n::text, 32, '0') FROM generate_series(1, {count}) n
"""
AUDIT = """
INSERT INTO paytrust.key_audit (id, action, actor, times, first_at, at)
SELECT lpad(to_hex(n), 32, '0')::uuid, 'used', 'local', 1, now(), now() FROM generate_series(1, {count}) n
"""
WEBHOOKS = """
INSERT INTO paytrust.webhooks (id, gateway_account_id, event_key, event, headers, body, status, error_code, processed_at)
SELECT lpad(to_hex(n), 32, '0')::uuid, '00000000-0000-0000-0000-000000000001', n::text, 'x', '{{}}', '', 'failed', 'x', now()
FROM generate_series(1, {count}) n
"""
LISTS = [
    pytest.param(TENANTS, ("tenants", "list"), "tenant_id", id="tenants list"),
    pytest.param(KEYS, ("keys", "list"), "key_id", id="keys list"),
    pytest.param(ACCOUNTS, ("gateways", "list"), "gateway_id", id="gateways list"),
    pytest.param(AUDIT, ("keys", "audit", "--limit", "50000"), "audit_id", id="keys audit"),
    pytest.param(
        WEBHOOKS,
        ("webhooks", "failed", "--limit", "50000"),
        "event_id",
        id="webhooks failed",
    ),
]


def ids(printed, name):
    return {json.loads(line)[name] for line in printed.splitlines()}


@pytest.mark.parametrize(("rows", "command", "name"), LISTS)
def test_a_list_has_no_silent_end(run, insert, rows, command, name):
    insert(rows.format(count=10_001))
    printed = run(*command, "--json")[1]
    assert len(ids(printed, name)) == len(printed.splitlines()) == 10_001


@pytest.mark.parametrize(
    ("rows", "command", "name"), [p for p in LISTS if p.id in {"keys audit", "webhooks failed"}]
)
def test_a_limit_that_leaves_something_out_is_said(run, insert, rows, command, name):
    insert(rows.format(count=6))
    for limit, said in (("5", True), ("6", False)):
        printed = run(*command[:-1], limit, "--json")[1].splitlines()
        assert ("only the first 5 are shown; --limit shows more" in printed) is said
        assert len(ids("\n".join(line for line in printed if line.startswith("{")), name)) == int(limit)


def test_books_verify_reaches_every_tenant(run, insert, monkeypatch):
    monkeypatch.setattr("paytrust.commands.books.PAGE", 2)
    insert(TENANTS.format(count=5))
    assert run("books", "verify") == (0, "5 tenants checked, 0 disagreements\n")


def test_a_list_that_grows_wider_stays_whole(capsys):
    listing = base.Listing("id", "name", row=tuple, as_json=False)
    listing.add([("1", "first")])
    listing.add([("1" * 40, "second"), ("2", "東京")])
    listing.end()
    assert capsys.readouterr().out.splitlines() == [
        "id  name",
        "1   first",
        "1" * 40 + "  second",
        "2" + " " * 41 + "東京",
    ]


@pytest.mark.parametrize("columns", ["40", "80"])
def test_no_id_and_no_url_is_cut_in_a_pipe(run, run_process, columns):
    tenant_id = run("tenants", "create", "T" * 100)[1].strip()
    for command in (("tenants", "list"), ("keys", "list"), ("gateways", "list")):
        run("keys", "create", tenant_id, "--description", "d" * 100)
        code, printed = run_process(*command, changes={"COLUMNS": columns})
        assert code == 0
        assert "…" not in printed
    assert f"{tenant_id}  {'T' * 100}" in run_process("tenants", "list", changes={"COLUMNS": columns})[1]


def test_no_id_is_cut_at_a_terminal_of_80_columns(run, environ, tmp_path):
    tenant_id = run("tenants", "create", "T" * 100)[1].strip()
    ours, theirs = pty.openpty()
    subprocess.run(
        [PAYTRUST, "tenants", "list"], env=environ, cwd=tmp_path, stdout=theirs, check=True, timeout=60
    )
    os.close(theirs)
    printed = os.read(ours, 65536).decode()
    os.close(ours)
    assert f"{tenant_id}  {'T' * 100}" in printed


def test_what_a_cell_holds_is_shown_and_not_obeyed(run):
    run("tenants", "create", "[bold]a[/] b\n\x1b[31mc")
    assert r"[bold]a[/] b\n\x1b[31mc" in run("tenants", "list")[1]
    assert json.loads(run("tenants", "list", "--json")[1])["name"] == "[bold]a[/] b\n\x1b[31mc"


@pytest.mark.parametrize("path", [path for path, _ in commands()], ids=" ".join)
def test_every_command_that_shows_something_has_json(path):
    command = dict(commands())[path]
    assert ("--json" in options(command)) is (path not in NO_LIST)


@pytest.mark.parametrize(
    "command", ["plugins", "doctor", "tenants list", "keys list", "keys audit", "reconcile --show"]
)
def test_json_is_one_object_a_line_and_nothing_else(run, command):
    run("tenants", "create", "T")
    printed = run(*command.split(), "--json")[1]
    assert all(isinstance(json.loads(line), dict) for line in printed.splitlines())


# --- times --------------------------------------------------------------------------------------------------------------------

TIMED = [
    ("keys create", "--expires-at"),
    ("keys audit", "--from"),
    ("keys audit", "--to"),
    ("webhooks replay", "--from"),
    ("webhooks replay", "--to"),
]


def test_times_are_read_by_one_rule_everywhere():
    found = [
        (" ".join(path), name)
        for path, command in commands()
        for name, option in options(command).items()
        if option.callback is base.read_time
    ]
    assert sorted(found) == sorted(TIMED)
    for path, command in commands():
        assert not any(isinstance(option.type, click.DateTime) for option in command.params), path


@pytest.mark.parametrize(("command", "option"), TIMED)
def test_the_rule_for_times_is_in_the_help(run, command, option):
    printed = " ".join(run(*command.split(), "--help")[1].split())
    assert f"{option} TIME" in printed
    assert "2026-11-22T10:00:00Z" in printed
    assert "00:00 of it in UTC" in printed


@pytest.mark.parametrize(("command", "option"), TIMED)
@pytest.mark.parametrize("text", ["2026-11-22T10:00:00", "2026-11-22 10:00", "yesterday", "", "2026-13-01"])
def test_a_time_without_an_offset_is_refused_everywhere(run, command, option, text):
    code, printed = run(*command.split(), option, text)
    assert code == 2
    assert "is not a time such as 2026-11-22T10:00:00Z" in printed or "Missing argument" in printed


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-11-22", datetime(2026, 11, 22, tzinfo=UTC)),
        ("2026-11-22T17:00:00+07:00", datetime(2026, 11, 22, 10, tzinfo=UTC)),
        ("2026-11-22T10:00:00Z", datetime(2026, 11, 22, 10, tzinfo=UTC)),
    ],
)
def test_a_date_is_its_beginning_in_utc_and_an_offset_counts(text, at):
    context, option = click.Context(cli), click.Option(["--from"])
    assert base.read_time(context, option, text) == at
