"""What attacks on the running service need: a shop they share, a look into its database, and one idea of a proper refusal."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import time

import asyncpg
import httpx
import pytest

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
    """A client without a key or a base, as gateways and forgers have: making one for each call would take longer than the call."""
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
        """How many rows each table has, but for the audit, which is there to be written when something is refused."""
        tables = self.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'paytrust' AND tablename <> 'key_audit' ORDER BY 1")
        sums = [f"SELECT '{t['tablename']}' AS name, count(*) AS rows FROM paytrust.{t['tablename']}" for t in tables]
        return {row["name"]: row["rows"] for row in self.rows(" UNION ALL ".join(sums))}

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
    assert seen.value("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = session_user"), "row-level security would hide rows"
    yield seen
    seen.close()


@pytest.fixture(autouse=True)
def _left_alone(request, database):
    """What a test leaves is left alone by work in the background, which would visit it while later tests look."""
    yield
    if "sandbox" in request.fixturenames:
        sandbox = request.getfixturevalue("sandbox")
        sandbox.xendit.reset()
        sandbox.midtrans.reset()
    database.execute("UPDATE payments SET next_check_at = NULL WHERE next_check_at IS NOT NULL")
    database.execute("UPDATE webhooks SET next_attempt_at = 'infinity' WHERE status = 'received' AND next_attempt_at <> 'infinity'")
    until = time.monotonic() + 20
    while database.value("SELECT count(*) FROM webhooks WHERE status = 'received' AND lease_until > now()"):
        assert time.monotonic() < until, "a webhook is still being processed"
        time.sleep(0.02)


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
    """One operation of the OpenAPI document, and which key opens it."""

    def __init__(self, document, method, path, operation, audience):
        self.document, self.method, self.path, self.audience = document, method, path, audience
        self.parameters = {place: [p for p in operation.get("parameters", []) if p["in"] == place] for place in ("path", "query")}
        self.documented = {int(status) for status in operation["responses"]}
        content = operation.get("requestBody", {}).get("content", {})
        self.schema = self.resolve(content["application/json"]["schema"]) if content else None

    def __repr__(self):
        return f"{self.method} {self.path}"

    def resolve(self, schema):
        """The schema behind a reference, without the null that many fields may be."""
        if "$ref" in schema:
            return self.resolve(self.document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
        for one in schema.get("oneOf", []):
            if one != {"type": "null"}:
                return self.resolve(one) | {key: value for key, value in schema.items() if key != "oneOf"}
        return schema

    def url(self, junk=None):
        """The path, with ids of nobody or with *junk* in place of them."""
        return re.sub(r"\{\w+\}", junk or "01935c1e-0000-7000-8000-000000000000", self.path)

    def sample(self, schema=None, name=""):
        """A value that fits, with every field there is."""
        schema = self.resolve(self.schema if schema is None else schema)
        kind = "map" if schema.get("type") == "object" and "properties" not in schema else schema.get("type")
        makers = {
            "object": lambda: {field: self.sample(inner, field) for field, inner in schema["properties"].items()},
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
    found = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            bare = anonymous.request(method.upper(), re.sub(r"\{\w+\}", "01935c1e-0000-7000-8000-000000000000", path))
            audience = "public"
            if bare.status_code == 401:
                audience = "admin" if "X-Admin-Key" in bare.text else "merchant"
            found.append(Route(document, method.upper(), path, operation, audience))
    assert {route.audience for route in found} == {"admin", "merchant", "public"}
    return found


@pytest.fixture(scope="session")
def call(admin, anonymous, shop):
    """Send a request to a route with the key that it wants."""
    clients = {"admin": admin, "merchant": shop.api, "public": anonymous}

    def send(route, url=None, **how):
        return clients[route.audience].request(route.method, url or route.url(), **how)

    return send


@pytest.fixture(scope="session")
def raw(service):
    """Send bytes to the service, whatever they are, and return the answer to them, or None when the connection just ends."""

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
