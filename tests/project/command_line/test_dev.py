"""`paytrust dev`, run as people run it: what it prints works, and the next start finds everything again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import asyncpg
import httpx
import pytest
from support.waiting import eventually, is_ready

from paytrust import development
from paytrust.errors import ConfigurationError

PAYTRUST = str(Path(sys.executable).with_name("paytrust"))
DEMO = Path(__file__).parents[3] / "examples/run_the_service/demo.py"
pytestmark = pytest.mark.timeout(300)  # a dozen processes, on a machine that may be busy
READY = re.compile(r"^(curl .*|  no sandbox plugin .*)$", re.MULTILINE)


@pytest.fixture
def environ(owner_url):
    """A newcomer's environment; the PostgreSQL is there already, or each test would wait for a new one."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PAYTRUST_")}
    return clean | {"PAYTRUST_DATABASE_URL": owner_url, "COLUMNS": "240"}


@pytest.fixture
def dev(environ, tmp_path):
    """Run `paytrust dev` while a `with` block runs; gives what it printed until it was ready."""

    @contextlib.contextmanager
    def run(**changes):
        command = [PAYTRUST, "dev", "--port", "0", "--data", str(tmp_path / "data")]
        with (tmp_path / "errors").open("w+") as errors:
            process = subprocess.Popen(
                command, env=environ | changes, cwd=tmp_path, stdout=subprocess.PIPE, stderr=errors, text=True
            )
            try:
                printed = ""
                while not READY.search(printed):
                    line = process.stdout.readline()
                    assert line, printed + (tmp_path / "errors").read_text()
                    printed += line
                wait_until_ready(re.search(r"runs at (\S+),", printed)[1])
                yield printed
            finally:
                process.send_signal(signal.SIGINT)
                process.stdout.close()
                assert process.wait(30) == 0, (tmp_path / "errors").read_text()

    return run


def wait_until_ready(url):
    eventually(lambda: is_ready(url), "the service is ready", timeout_s=60)


def key(printed):
    return re.search(r"X-API-Key +([0-9a-f]{64})", printed)[1]


def gateway_ids(printed):
    return dict(re.findall(r"^  (\w+) +gateway_id ([0-9a-f-]{36}), sandbox at http", printed, re.MULTILINE))


def type_in(curl):
    done = subprocess.run(
        ["bash", "-c", f"{curl} --silent --fail"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_request_that_it_prints_makes_an_invoice_that_can_be_paid(dev):
    with dev() as printed:
        invoice = json.loads(type_in(READY.search(printed)[1]))
        assert (invoice["status"], invoice["total_amount"]) == ("pending", "53450")
        assert httpx.get(invoice["payment_url"]).status_code == 200
        assert set(gateway_ids(printed)) == {"xendit", "midtrans"}


def test_the_next_start_knows_key_and_accounts_and_what_was_made(dev, tmp_path):
    with dev() as first:
        type_in(READY.search(first)[1])
    with dev() as second:
        assert (key(second), gateway_ids(second)) == (key(first), gateway_ids(first))
        url = re.search(r"runs at (\S+),", second)[1]
        type_in(READY.search(second)[1])
        assert len(httpx.get(f"{url}/invoices", headers={"X-API-Key": key(second)}).json()["invoices"]) == 2
    assert (tmp_path / "data/development.json").stat().st_mode & 0o077 == 0


def test_the_next_start_knows_them_among_many_others(dev, owner_url):
    others = """
        INSERT INTO paytrust.tenants (id, name) SELECT lpad(to_hex(n), 32, '0')::uuid, 'x' FROM generate_series(1, 1000) n;
        INSERT INTO paytrust.gateway_accounts (id, tenant_id, gateway, name, options, credentials, webhook_token)
        SELECT lpad(to_hex(n), 32, '0')::uuid, t.id, 'xendit', 'other', '{}', '\\x00', lpad(n::text, 32, '0')
        FROM generate_series(1, 1000) n, (SELECT id FROM paytrust.tenants ORDER BY id DESC LIMIT 1) t
    """
    with dev() as first:
        pass
    asyncio.run(as_owner(owner_url, others))
    with dev() as second:
        assert (key(second), gateway_ids(second)) == (key(first), gateway_ids(first))


async def as_owner(url, statement):
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"SET session_replication_role = replica; {statement}")
    finally:
        await connection.close()


def test_on_another_database_it_starts_afresh(dev, another_owner_url):
    with dev() as first:
        pass
    with dev(PAYTRUST_DATABASE_URL=another_owner_url) as second:
        assert key(second) != key(first)
        type_in(READY.search(second)[1])


@pytest.mark.parametrize("second", ["dev", "demo"])
def test_a_second_one_in_the_same_data_is_refused(dev, environ, tmp_path, second):
    """It would point the accounts of the first at its own sandboxes, which end with it."""
    command = (
        [PAYTRUST, "dev", "--port", "0", "--data", "data"] if second == "dev" else [sys.executable, DEMO]
    )
    with dev() as first:
        done = run_to_its_end(command, environ | {"PAYTRUST_DATA": "data"}, tmp_path)
        assert done.returncode == 1
        assert re.search(
            r"^Error: another `paytrust dev` or demo \(process \d+\) works in data: ", done.stderr
        )
        assert "runs at" not in done.stdout
        invoice = json.loads(type_in(READY.search(first)[1]))
        assert httpx.get(invoice["payment_url"]).status_code == 200
    with dev() as again:
        assert key(again) == key(first), "the lock went with its holder"


@pytest.mark.parametrize("given", ["--port", "PAYTRUST_PORT"])
def test_a_taken_port_is_said_before_anything_is_announced(environ, tmp_path, given):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [PAYTRUST, "dev", *(["--port", port] if given == "--port" else [])]
        done = run_to_its_end(command, environ | {"PAYTRUST_PORT": port}, tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        f"Error: cannot listen on port {port} of 127.0.0.1: Address already in use; "
    )
    assert not (tmp_path / ".data").exists()


def run_to_its_end(command, environ, folder):
    return subprocess.run(
        command, env=environ, cwd=folder, capture_output=True, text=True, check=False, timeout=100
    )


def test_without_sandboxes_it_says_what_to_install(dev):
    with dev(PAYTRUST_DISABLED_PLUGINS="sandbox,xendit,midtrans") as printed:
        assert "pip install paytrust-sandbox" in printed
        assert gateway_ids(printed) == {}


def test_a_file_of_it_that_was_spoilt_is_named_and_not_overwritten(environ, tmp_path):
    spoilt = tmp_path / "development.json"
    spoilt.write_text('{"admin_api_key": 1}')
    done = subprocess.run(
        [PAYTRUST, "dev", "--port", "0", "--data", str(tmp_path)],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert f"{spoilt} cannot be read" in done.stderr
    assert "Traceback" not in done.stderr
    assert spoilt.read_text() == '{"admin_api_key": 1}'


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"
)  # uvicorn leaves its thread by sys.exit
def test_a_service_that_cannot_start_is_said_to_whoever_waits_for_it(settings, owner_url):
    unsafe = settings.model_copy(update={"database_url": type(settings.database_url)(owner_url)})
    with pytest.raises(ConfigurationError, match="did not start"), development.serving(unsafe):
        pass


async def test_a_database_that_is_there_is_kept(postgres):
    name = "paytrust_kept"
    try:
        for _ in range(2):
            url = await asyncio.to_thread(development.create_database, postgres, name)
            connection = await asyncpg.connect(url)
            await connection.execute("CREATE TABLE IF NOT EXISTS kept (); INSERT INTO kept DEFAULT VALUES")
            rows = await connection.fetchval("SELECT count(*) FROM kept")
            await connection.close()
        assert rows == 2, "the second time found what the first had written"
    finally:
        connection = await asyncpg.connect(postgres)
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await connection.close()
