"""
What attacks on the running service need: a shop they share, a look into its database, and one idea of a
proper refusal.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket

import asyncpg
import httpx
import pytest

WHOSE = {
    "tenants": "t.id = $1::uuid",
    "key_audit": "t.tenant_id = $1::uuid AND t.action NOT IN ('used', 'failed')",
    "webhook_attempts": "t.webhook_id IN (SELECT w.id FROM webhooks w WHERE w.tenant_id = $1::uuid)",
}
"""
A tenant's rows, in tables that have no column `tenant_id` or `scope` to say so, or where that says too much.
"""
INTERNALS = re.compile(
    r"Traceback|File \"|\.py\b|asyncpg|msgspec|litestar|psycopg|SELECT |INSERT |UPDATE |paytrust\.\w|relation \"|constraint"
)
"""Words that have no business in an answer."""


@pytest.fixture(scope="session")
def shop(make_merchant):
    """A merchant for the tests that change nothing, or only what is theirs."""
    return make_merchant("Shop")


@pytest.fixture
def seller(shop, sandbox):
    """The shop, with both gateways as new, sending their webhooks to it."""
    for gateway in ("xendit", "midtrans"):
        far = getattr(sandbox, gateway)
        far.reset()
        far.webhook_url = shop.accounts[gateway]["webhook_url"]
    return shop


@pytest.fixture(scope="session")
def outside():
    """
    A client without a key or a base, as gateways and forgers have: making one for each call would take longer
    than the call.
    """
    with httpx.Client(trust_env=False, verify=False, timeout=30) as client:
        yield client


class Database:
    """The service's database, seen by its owner: row-level security does not hide anything."""

    def __init__(self, url):
        self._runner = asyncio.Runner()
        self._connection = self._runner.run(asyncpg.connect(url, server_settings={"search_path": "paytrust"}))

    def rows(self, sql, *args):
        return [dict(row) for row in self._runner.run(self._connection.fetch(sql, *args))]

    def value(self, sql, *args):
        return self._runner.run(self._connection.fetchval(sql, *args))

    def execute(self, sql):
        """Run statements as the owner."""
        self._runner.run(self._connection.execute(sql))

    def count(self):
        """
        How many rows each table has, but for the audit, which is there to be written when something is
        refused.
        """
        tables = self.rows(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'paytrust' AND tablename <> 'key_audit' ORDER BY 1"
        )
        sums = [
            f"SELECT '{t['tablename']}' AS name, count(*) AS rows FROM paytrust.{t['tablename']}"
            for t in tables
        ]
        return {row["name"]: row["rows"] for row in self.rows(" UNION ALL ".join(sums))}

    def fingerprint(self, tenant_id):
        """
        One value for all that a tenant has: the same exactly when each of its rows in every table is.

        Uses and refusals in the audit are left out: they say who tried.
        """
        hashes = [
            f"SELECT {table!r}, md5(string_agg(t::text, chr(10) ORDER BY t::text)) FROM {table} t WHERE {whose}"
            for table, whose in self._belonging().items()
        ]
        return self.rows(" UNION ALL ".join(hashes), tenant_id)

    def ids_of(self, tenant_id):
        """Every id that a row of the tenant names, but for those of what all tenants share."""
        texts = [
            f"SELECT t::text AS written FROM {table} t WHERE {whose}"
            for table, whose in self._belonging().items()
        ]
        written = " ".join(row["written"] for row in self.rows(" UNION ALL ".join(texts), tenant_id))
        return set(re.findall(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", written)) - {
            "00000000-0000-0000-0000-000000000000"
        }

    def _belonging(self):
        """
        Every table, and the condition of a tenant's rows in it. A table that does not say whose its rows are
        needs a line in WHOSE.
        """
        tables = self.rows(
            "SELECT t.tablename AS name, max(c.column_name) AS owner FROM pg_tables t LEFT JOIN information_schema.columns c"
            " ON c.table_schema = 'paytrust' AND c.table_name = t.tablename AND c.column_name IN ('tenant_id', 'scope')"
            " WHERE t.schemaname = 'paytrust' GROUP BY 1 ORDER BY 1"
        )
        return {
            table["name"]: WHOSE.get(table["name"]) or f"t.{table['owner']} = $1::uuid"
            for table in tables
            if table["name"] != "migrations"
        }

    @contextlib.contextmanager
    def holding(self, lock):
        """Hold a lock that the service comes up against."""
        self._runner.run(self._connection.execute(f"BEGIN; {lock}"))
        try:
            yield
        finally:
            self._runner.run(self._connection.execute("ROLLBACK"))

    def close(self):
        self._runner.run(self._connection.close())
        self._runner.close()


@pytest.fixture(scope="session")
def database(session_owner_url):
    seen = Database(session_owner_url)
    assert seen.value("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = session_user"), (
        "row-level security would hide rows"
    )
    yield seen
    seen.close()


@pytest.fixture
def own_database(owner_url):
    """The same look into a database of this test's own."""
    seen = Database(owner_url)
    yield seen
    seen.close()


@pytest.fixture
def nothing_written(database, anonymous):
    """Whatever the test sends leaves no row behind, and the service ready."""
    before = database.count()
    yield
    assert database.count() == before
    assert anonymous.get("/health/ready").status_code == 200


def _problem(answer, status=None, code=None, pointers=None):
    assert answer.status_code != 500, answer.text
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    told = answer.json()
    assert told["status"] == answer.status_code >= 400, answer.text
    assert set(told) <= {"type", "title", "status", "detail", "code", "request_id", "errors"}
    assert told["type"] == f"urn:paytrust:problem:{told['code']}"
    assert told["title"]
    assert told["request_id"] == answer.headers["x-request-id"]
    assert not INTERNALS.search(answer.text), answer.text
    assert len(answer.content) < 10_000
    for error in told.get("errors", []):
        assert error["pointer"].startswith("#")
        assert error["detail"]
    if status is not None:
        assert answer.status_code in (status if isinstance(status, set) else {status}), answer.text
    if code is not None:
        assert told["code"] in (code if isinstance(code, set) else {code}), answer.text
    if pointers is not None:
        assert [error["pointer"] for error in told.get("errors", [])] == pointers, answer.text
    return told


@pytest.fixture(scope="session")
def problem():
    """Check that an answer is a proper problem (RFC 9457) that gives nothing away, and return it."""
    return _problem


class Route:
    """
    One operation of the OpenAPI document, and which key with which scope opens it, as its security section
    says.
    """

    def __init__(self, document, method, path, operation):
        self.document, self.method, self.path = document, method, path
        [(key, scopes)] = operation["security"][0].items() or [(None, [])]
        self.audience = {"paytrustApiKey": "merchant", "paytrustAdminKey": "admin", None: "public"}[key]
        self.scope = scopes[0] if scopes else None
        self.parameters = {
            place: [p for p in operation.get("parameters", []) if p["in"] == place]
            for place in ("path", "query")
        }
        self.documented = {int(status) for status in operation["responses"]}
        content = operation.get("requestBody", {}).get("content", {})
        self.schema = (
            self.resolve(content["application/json"]["schema"]) if "application/json" in content else None
        )

    def __repr__(self):
        return f"{self.method} {self.path}"

    def resolve(self, schema):
        """The schema behind a reference, without the null that many fields may be."""
        if "$ref" in schema:
            return self.resolve(self.document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
        alternatives = [one for one in schema.get("oneOf", []) if one != {"type": "null"}]
        if len(alternatives) != 1:
            return schema
        return self.resolve(alternatives[0]) | {key: value for key, value in schema.items() if key != "oneOf"}

    def url(self, junk=None):
        """The path, with ids of nobody or with *junk* in place of them."""
        return re.sub(r"\{\w+\}", junk or "01935c1e-0000-7000-8000-000000000000", self.path)

    def sample(self, schema=None, name=""):
        """A value that fits, with every field there is."""
        schema = self.resolve(self.schema if schema is None else schema)
        kind = "map" if schema.get("type") == "object" and "properties" not in schema else schema.get("type")
        makers = {
            "object": lambda: {
                field: self.sample(inner, field) for field, inner in schema["properties"].items()
            },
            "map": lambda: {"IDR": self.sample(schema.get("additionalProperties", {}))},
            "array": lambda: [self.sample(schema["items"])] * schema.get("minItems", 1),
            "integer": lambda: int(schema.get("minimum", 1)),
            "boolean": lambda: False,
        }
        return makers.get(kind, lambda: self._text(schema, name))()

    def _text(self, schema, name):
        samples = {"uuid": "01935c1e-0000-7000-8000-000000000000", "date-time": "2030-01-01T00:00:00Z"}
        text = schema.get("enum", [samples.get(schema.get("format"), {"currency": "IDR"}.get(name, "1"))])[0]
        return text.ljust(schema.get("minLength", 0), "1")

    def fields(self, schema=None, at=()):
        """Every field of the body: its path, its schema, and whether it is required."""
        schema = self.resolve(self.schema if schema is None else schema)
        for name, inner in schema.get("properties", {}).items():
            yield (*at, name), self.resolve(inner), name in schema.get("required", [])
            yield from self.fields(inner, (*at, name))
        if schema.get("type") == "array":
            yield from self.fields(schema["items"], (*at, 0))

    def objects(self):
        """The path of every object of the body that has named fields."""
        inner = [path for path, schema, _ in self.fields() if "properties" in schema]
        lists = [
            (*path, 0)
            for path, schema, _ in self.fields()
            if schema.get("type") == "array" and "properties" in self.resolve(schema["items"])
        ]
        return [(), *inner, *lists]


@pytest.fixture(scope="session")
def routes(anonymous):
    """Every operation that the service documents: a new route is attacked without anybody adding it here."""
    document = anonymous.get("/openapi.json").json()
    found = [
        Route(document, method.upper(), path, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    assert {route.audience for route in found} == {"admin", "merchant", "public"}
    return found


# A thing of a merchant's own, for every name of a parameter in a path.
OWN = {
    "invoice_id": lambda merchant, _: merchant.invoice(installments={"count": 3})["invoice_id"],
    "gateway_id": lambda merchant, _: merchant.xendit_id,
    "key_id": lambda merchant, _: merchant.admin.post(
        "/api-keys", json={"tenant_id": merchant.tenant_id}
    ).json()["key_id"],
    "event_id": lambda merchant, database: str(
        database.value(
            "INSERT INTO webhooks (id, tenant_id, gateway_account_id, event_key, event, headers, body, status)"
            " VALUES (gen_random_uuid(), $1, $2, gen_random_uuid(), 'x', '{}', '{}', 'failed') RETURNING id",
            merchant.tenant_id,
            merchant.xendit_id,
        )
    ),
    "gateway": lambda *_: "xendit",
    "token": lambda merchant, _: merchant.accounts["xendit"]["webhook_url"].rpartition("/")[2],
}
# A body that is accepted, for every operation that takes one.
BODIES = {
    "POST /invoices": lambda merchant: merchant.body(),
    "POST /invoices/{invoice_id}/supplementary": lambda merchant: {
        "line_items": merchant.body()["line_items"]
    },
    "PATCH /invoices/{invoice_id}/installments": lambda _: {
        "installments": [{"number": 2, "amount": "100000"}]
    },
    "POST /webhooks/replay": lambda merchant: {
        "received_from": "2026-01-01T00:00:00Z",
        "received_to": "2026-01-01T00:00:01Z",
        "gateway_id": merchant.xendit_id,
    },
    "POST /tenants": lambda _: {"name": "T"},
    "POST /api-keys": lambda merchant: {"tenant_id": merchant.tenant_id},
    "POST /gateway-accounts": lambda merchant: {
        "gateway": "xendit",
        "name": "x",
        "tenant_id": merchant.tenant_id,
        "credentials": {"secret_key": "k" * 20, "callback_token": "t" * 20},
        "currencies": {"IDR": {}},
    },
    "PATCH /gateway-accounts/{gateway_id}": lambda _: {"name": "new"},
}


class Samples:
    """
    Valid requests, each about a thing of a merchant's own. A new route needs a line in OWN or BODIES, or the
    matrix fails.
    """

    def __init__(self, database):
        self._database = database

    def own(self, merchant, route):
        """What the path of a route needs."""
        return {
            parameter["name"]: OWN[parameter["name"]](merchant, self._database)
            for parameter in route.parameters["path"]
        }

    def body(self, merchant, route):
        return BODIES[repr(route)](merchant) if route.schema else None

    def request(self, merchant, route):
        """Who sends it, how, where, and what."""
        api = merchant.admin if route.audience == "admin" else merchant.api
        return api, route.method, route.path.format(**self.own(merchant, route)), self.body(merchant, route)


@pytest.fixture(scope="session")
def samples(database):
    return Samples(database)


@pytest.fixture(scope="session")
def call(admin, anonymous, shop):
    """Send a request to a route with the key that it wants."""
    clients = {"admin": admin, "merchant": shop.api, "public": anonymous}

    def send(route, url=None, **how):
        return clients[route.audience].request(route.method, url or route.url(), **how)

    return send


@pytest.fixture(scope="session")
def raw(service):
    """
    Send bytes to the service, whatever they are, and return the answer to them, or None when the connection
    just ends.
    """

    def send(*pieces, hurry=False):
        with socket.create_connection((service.host, service.port), timeout=5) as connection:
            received = bytearray()
            # The service may close before it has read everything.
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                for piece in pieces:
                    connection.sendall(piece)
            if hurry:
                return None
            with contextlib.suppress(ConnectionResetError):
                while data := connection.recv(65_536):
                    received += data
        return _parsed(bytes(received))

    return send


def _parsed(received):
    if not received:
        return None
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = [tuple(part.strip() for part in line.split(":", 1)) for line in lines]
    return httpx.Response(int(first.split()[1]), headers=headers, content=body)
