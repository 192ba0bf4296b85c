"""
One Idempotency-Key, one effect, one answer: however often, however concurrently, on whatever node, and
whoever dies meanwhile.

The crashes are real: a service in a process of its own is killed while it works, and another one goes on.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from support.waiting import eventually

from paytrust import development
from paytrust.api import routing
from paytrust.idempotency import routes as idempotency
from paytrust.litestar import ROUTES

REPLAYED = "idempotent-replayed"
PAYTRUST = str(Path(sys.executable).with_name("paytrust"))


@pytest.fixture
def key():
    return str(uuid4())


def with_key(key):
    return {"Idempotency-Key": key}


def body_of(merchant, **changes):
    return json.dumps(merchant.body(**changes)).encode()


def post(api, path, key, body=b"", **headers):
    return api.post(
        path, content=body, headers={"content-type": "application/json", **with_key(key), **headers}
    )


def invoices_of(merchant):
    return merchant.api.get("/invoices", params={"limit": 200}).json()["invoices"]


def rows_of(database):
    """How many rows each table has, but for those that workers write meanwhile."""
    return {
        table: rows
        for table, rows in database.count().items()
        if table not in {"key_audit", "webhook_attempts"}
    }


def same(answer, first):
    """Whether *answer* is the stored *first*, byte for byte."""
    assert answer.content == first.content
    assert answer.status_code == first.status_code
    assert answer.headers["content-type"] == first.headers["content-type"]
    assert REPLAYED not in first.headers
    return answer.headers[REPLAYED] == "true"


# --- by construction ----------------------------------------------------------------------------------------------------


HANDLERS = [routing.ours(handler) for room in ROUTES.values() for handler in room]


def handlers():
    return HANDLERS


def test_every_route_that_changes_something_takes_the_header():
    """All but the intake of webhooks."""
    changing = {handler for handler in handlers() if handler.http_methods & {"POST", "PATCH"}}
    without = {path for handler in changing if not idempotency.applies_to(handler) for path in handler.paths}
    assert without == {"/webhooks/{gateway:str}/{token:str}"}
    assert not [
        handler for handler in handlers() if idempotency.applies_to(handler) and handler not in changing
    ]


def test_every_route_that_makes_something_makes_it_under_the_id_of_its_claim():
    """Or a request that goes on after a crash would make a second one."""
    making = [
        handler
        for handler in handlers()
        if idempotency.applies_to(handler) and handler.status_code in {None, 201}
    ]
    making = [handler for handler in making if "POST" in handler.http_methods]
    assert len(making) >= 4
    assert [
        handler.handler_name for handler in making if "claim_of" not in handler.fn.__code__.co_names
    ] == []


def test_the_header_is_documented_on_every_route_that_takes_it(anonymous):
    for path, operations in anonymous.get("/openapi.json").json()["paths"].items():
        for method, operation in operations.items():
            named = [p["name"] for p in operation.get("parameters", []) if p["in"] == "header"]
            takes = method in {"post", "patch"} and not path.startswith("/webhooks/{gateway}")
            assert named == (["Idempotency-Key"] if takes else []), path
            assert not takes or {"400", "409", "422"} <= operation["responses"].keys()


# --- replays ------------------------------------------------------------------------------------------------------------


def takes_the_header(route):
    return route.method in {"POST", "PATCH"} and route.audience != "public"


def test_on_every_route_a_repeat_gets_the_same_bytes_and_has_no_effect(
    merchant, sandbox, database, routes, samples
):
    sandbox.xendit.fault("lost", on="webhook")  # or work in the background would count as an effect
    asked = [samples.request(merchant, route) for route in routes if takes_the_header(route)]
    assert len(asked) == len([handler for handler in handlers() if idempotency.applies_to(handler)])
    for api, method, path, body in asked:
        key = str(uuid4())
        first = api.request(method, path, json=body, headers=with_key(key))
        assert first.is_success, first.text
        before, at_gateway = rows_of(database), len(sandbox.xendit.requests)
        assert same(api.request(method, path, json=body, headers=with_key(key)), first), path
        assert (rows_of(database), len(sandbox.xendit.requests)) == (before, at_gateway)


def test_the_bare_and_the_quoted_key_are_the_same(merchant, key):
    body = body_of(merchant)
    first = post(merchant.api, "/invoices", key, body)
    assert same(post(merchant.api, "/invoices", f'"{key}"', body), first)


def test_a_replay_shows_what_was_answered_not_what_is_now(merchant, sandbox, key):
    body = body_of(merchant)
    first = post(merchant.api, "/invoices", key, body)
    sandbox.xendit.pay(merchant.reference(first.json()))
    merchant.wait(first.json(), "paid")
    assert same(post(merchant.api, "/invoices", key, body), first)
    assert first.json()["status"] == "pending"


def test_without_the_header_nothing_is_kept_and_every_request_counts(merchant, database):
    before = database.count()["idempotency_keys"]
    made = {merchant.invoice()["invoice_id"] for _ in range(2)}
    assert len(made) == 2
    assert database.count()["idempotency_keys"] == before


def test_the_header_means_nothing_on_other_routes(merchant, key, database, outside):
    before = database.count()["idempotency_keys"]
    for _ in range(2):
        assert merchant.api.get("/invoices", headers=with_key(key)).status_code == 200
        assert merchant.api.get("/invoices", headers=with_key('"')).status_code == 200
    made = merchant.admin.post("/api-keys", json={"tenant_id": merchant.tenant_id}).json()
    assert merchant.admin.delete(f"/api-keys/{made['key_id']}", headers=with_key(key)).status_code == 204
    answers = [
        outside.post(merchant.accounts["xendit"]["webhook_url"], content=b"{}", headers=with_key(key))
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert database.count()["idempotency_keys"] == before


# --- another request under the same key ------------------------------------------------------------------------------------


def test_another_body_is_422_and_nothing_is_executed(merchant, sandbox, key, problem, database):
    body = body_of(merchant)
    post(merchant.api, "/invoices", key, body)
    before, at_gateway = rows_of(database), len(sandbox.xendit.requests)
    for other in (body + b" ", body_of(merchant, description="other"), b"", b"{", b"\xff" * 1000):
        problem(post(merchant.api, "/invoices", key, other), 422, "idempotency_key_reused")
    assert (rows_of(database), len(sandbox.xendit.requests)) == (before, at_gateway)


def test_another_route_object_or_query_is_422(merchant, key, problem):
    one, two = merchant.invoice(), merchant.invoice()
    assert post(merchant.api, f"/invoices/{one['invoice_id']}/payment-url", key).status_code == 200
    for path in (
        f"{two['invoice_id']}/payment-url",
        f"{one['invoice_id']}/cancel",
        f"{one['invoice_id']}/payment-url?installment=1",
    ):
        problem(post(merchant.api, f"/invoices/{path}", key), 422, "idempotency_key_reused")
    assert {merchant.get(invoice)["status"] for invoice in (one, two)} == {"pending"}


def test_the_same_object_written_in_capitals_is_the_same_request(merchant, key):
    invoice_id = merchant.invoice()["invoice_id"]
    first = post(merchant.api, f"/invoices/{invoice_id}/payment-url", key)
    assert same(post(merchant.api, f"/invoices/{invoice_id.upper()}/payment-url", key), first)


# --- at the same time ------------------------------------------------------------------------------------------------------


def test_eight_at_once_make_one_invoice(merchant, sandbox, key, problem):
    body = body_of(merchant)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: post(merchant.api, "/invoices", key, body), range(8)))
    made = [answer for answer in answers if answer.status_code == 201]
    assert made
    assert len({answer.content for answer in made}) == 1
    assert sum(REPLAYED not in answer.headers for answer in made) == 1
    for answer in answers:
        if answer not in made:
            problem(answer, 409, "request_in_progress")
            assert answer.headers["retry-after"] == "1"
    assert [invoice["invoice_id"] for invoice in invoices_of(merchant)] == [made[0].json()["invoice_id"]]
    assert len(sandbox.xendit.payments) == 1


def test_while_the_first_waits_for_its_gateway_the_second_is_409_at_once(merchant, sandbox, key, problem):
    body = body_of(merchant, currency="USD")  # a short answer, given byte by byte
    sandbox.xendit.fault("slow_drip", on="create", times=1, seconds=0.001)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(post, merchant.api, "/invoices", key, body)
        eventually(lambda: sandbox.xendit.payments)
        again = post(merchant.api, "/invoices", key, body)
        assert not slow.done()
        problem(again, 409, "request_in_progress")
        problem(post(merchant.api, "/invoices", key, body + b" "), 422, "idempotency_key_reused")
        assert slow.result().status_code == 201
    assert same(post(merchant.api, "/invoices", key, body), slow.result())


def test_a_client_that_hangs_up_finds_its_answer_waiting(merchant, service, sandbox, key):
    body = body_of(merchant, currency="USD")
    sandbox.xendit.fault("slow_drip", on="create", times=1, seconds=0.001)
    head = f"POST /invoices HTTP/1.1\r\nHost: x\r\nX-API-Key: {merchant.api.headers['x-api-key']}\r\nIdempotency-Key: {key}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((service.host, service.port), timeout=5) as connection:
        connection.sendall(head.encode() + body)
        eventually(lambda: sandbox.xendit.payments)
    eventually(lambda: post(merchant.api, "/invoices", key, body).status_code == 201)
    assert post(merchant.api, "/invoices", key, body).headers[REPLAYED] == "true"
    assert len(invoices_of(merchant)) == len(sandbox.xendit.payments) == 1


# --- who may ---------------------------------------------------------------------------------------------------------------


def test_the_same_key_of_a_tenant_and_of_administration_names_two_requests(merchant, key):
    assert post(merchant.api, "/invoices", key, body_of(merchant)).status_code == 201
    assert post(merchant.admin, "/tenants", key, b'{"name": "T"}').status_code == 201


def test_a_replay_is_only_for_those_who_may_make_the_request(merchant, service, key, problem, anonymous):
    body = body_of(merchant)
    made = merchant.admin.post("/api-keys", json={"tenant_id": merchant.tenant_id}).json()
    reader = merchant.admin.post(
        "/api-keys", json={"tenant_id": merchant.tenant_id, "scopes": ["read"]}
    ).json()["api_key"]
    with httpx.Client(base_url=service.public_url, headers={"X-API-Key": made["api_key"]}, timeout=30) as api:
        first = post(api, "/invoices", key, body)
        assert first.status_code == 201
        merchant.admin.delete(f"/api-keys/{made['key_id']}")
        problem(post(api, "/invoices", key, body), 401, "unauthenticated")
    problem(post(anonymous, "/invoices", key, body), 401, "unauthenticated")
    problem(post(anonymous, "/invoices", key, body, **{"x-api-key": reader}), 403, "forbidden")
    assert same(post(merchant.api, "/invoices", key, body), first)  # another key of the tenant


def test_what_is_refused_at_the_door_claims_nothing(merchant, key, problem, anonymous, database):
    before = rows_of(database)
    problem(post(anonymous, "/tenants", key, b'{"name": "T"}'), 401)
    problem(post(merchant.admin, "/tenants", key, b"x" * 300_000), 413)
    problem(post(merchant.admin, "/tenants?limit=1", key, b'{"name": "T"}'), 400)
    assert rows_of(database) == before
    assert post(merchant.admin, "/tenants", key, b'{"name": "T"}').status_code == 201


# --- hostile keys ------------------------------------------------------------------------------------------------------------

HOSTILE = [
    b"", b" ", b'"', b'""', b'"a', b"a b", b'"a b"', b'"a";x=1', b"x" * 256, b'"' + b"x" * 256 + b'"', b"\xc3\xa9", b"\xff", b"\x01",
    b'"\\a"', b"\\" * 30_000, b"a\tb",
]  # fmt: skip


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda value: repr(value[:20]))
def test_a_malformed_key_is_400_with_a_pointer(raw, seller, problem, nothing_written, hostile):
    head = f"POST /invoices HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-API-Key: {seller.api.headers['x-api-key']}\r\n".encode()
    answer = raw(
        head
        + b"Idempotency-Key: "
        + hostile
        + b"\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    )
    if answer is None or "malformed_request" in answer.text:
        assert hostile == b"\x01"  # the server itself refuses it
        return
    problem(answer, 400, "invalid_request", ["#/Idempotency-Key"])


def test_two_keys_are_400(seller, problem, nothing_written):
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "a")]
    problem(
        seller.api.post("/invoices", json=seller.body(), headers=headers),
        400,
        "invalid_request",
        ["#/Idempotency-Key"],
    )


@pytest.mark.parametrize(
    "odd", ["';DROP/**/TABLE/**/tenants;--", "%00", "../../x", "${jndi:ldap://x}", "a" * 255, "-1", "null"]
)
def test_an_odd_key_is_a_key(seller, odd):
    body = body_of(seller, description=odd)
    first = post(seller.api, "/invoices", odd, body)
    assert first.status_code == 201, first.text
    assert same(post(seller.api, "/invoices", odd, body), first)


# --- what is not a success -----------------------------------------------------------------------------------------------------


def test_after_a_request_that_was_refused_the_key_is_free(merchant, key, problem):
    for wrong in (b"{", body_of(merchant, currency="XXX"), b"[]"):
        problem(post(merchant.api, "/invoices", key, wrong), 400)
    problem(post(merchant.api, f"/invoices/{uuid4()}/cancel", key), 404)
    problem(post(merchant.api, "/invoices", key, body_of(merchant), **{"content-encoding": "gzip"}), 415)
    body = body_of(merchant)
    first = post(merchant.api, "/invoices", key, body)
    assert first.status_code == 201, first.text
    assert same(post(merchant.api, "/invoices", key, body), first)


def test_after_a_conflict_the_same_request_may_try_again_and_no_other(merchant, sandbox, key, problem):
    invoice = merchant.invoice()
    sandbox.xendit.pay(merchant.reference(invoice))
    merchant.wait(invoice, "paid")
    for _ in range(2):
        problem(
            post(merchant.api, f"/invoices/{invoice['invoice_id']}/cancel", key), 409, "illegal_transition"
        )
    problem(post(merchant.api, "/invoices", key, body_of(merchant)), 422, "idempotency_key_reused")


@pytest.mark.parametrize("fault", ["reset_before", "reset_after", "http_500_html", "http_400", "http_429"])
def test_after_a_gateways_failure_the_repeat_finishes_the_same_invoice(
    merchant, sandbox, key, problem, payable, fault
):
    body = body_of(merchant)
    sandbox.xendit.fault(fault, on="create", times=1)
    problem(post(merchant.api, "/invoices", key, body), {502, 503, 504})
    [draft] = invoices_of(merchant)
    problem(post(merchant.api, "/invoices", key, body + b" "), 422, "idempotency_key_reused")
    again = post(merchant.api, "/invoices", key, body)
    assert again.status_code == 201, again.text
    assert REPLAYED not in again.headers
    assert again.json()["invoice_id"] == draft["invoice_id"]
    assert same(post(merchant.api, "/invoices", key, body), again)
    assert len(invoices_of(merchant)) == payable(sandbox.xendit) == 1


def test_an_external_id_made_elsewhere_is_200_and_replayed_as_200(merchant, key):
    invoice = merchant.invoice(external_id="order-1")
    body = body_of(merchant, external_id="order-1")
    first = post(merchant.api, "/invoices", key, body)
    assert (first.status_code, first.json()["invoice_id"]) == (200, invoice["invoice_id"])
    assert same(post(merchant.api, "/invoices", key, body), first)


# --- restarts and crashes --------------------------------------------------------------------------------------------------------


def test_an_answer_survives_the_service_that_gave_it(settings_for, session_owner_url, merchant, key):
    body = body_of(merchant)
    settings = settings_for(session_owner_url)
    with (
        development.serving(settings) as url,
        httpx.Client(base_url=url, headers=merchant.api.headers, timeout=30) as elsewhere,
    ):
        first = post(elsewhere, "/invoices", key, body)
        assert first.status_code == 201, first.text
    assert same(post(merchant.api, "/invoices", key, body), first)
    with (
        development.serving(settings) as url,
        httpx.Client(base_url=url, headers=merchant.api.headers, timeout=30) as restarted,
    ):
        assert same(post(restarted, "/invoices", key, body), first)


@pytest.fixture
def doomed(service, merchant, tmp_path):
    """
    A service in a process of its own, on the same database: `api` speaks to it as the merchant, `kill()`
    kills it.
    """
    port = development.free_port()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PAYTRUST_")} | {
        "PAYTRUST_DATABASE_URL": service.database_url.get_secret_value(),
        "PAYTRUST_ADMIN_API_KEY": service.admin_api_key.get_secret_value(),
        "PAYTRUST_KEY_PEPPER": service.key_pepper.get_secret_value(),
        "PAYTRUST_ENCRYPTION_KEYS": ",".join(
            f"{k}:{v.get_secret_value()}" for k, v in service.encryption_keys.items()
        ),
        "PAYTRUST_INSECURE_GATEWAYS": "true",
        "PAYTRUST_PUBLIC_URL": service.public_url,
        "PAYTRUST_WORKER": "false",
    }
    process = subprocess.Popen(
        [PAYTRUST, "serve", "--port", str(port)], env=environ, cwd=tmp_path, stderr=subprocess.DEVNULL
    )
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers=merchant.api.headers, timeout=30
        ) as api:
            eventually(lambda: process.poll() is None and is_ready(api), timeout_s=40)
            process.api = api
            yield process
    finally:
        process.kill()
        process.wait()


def is_ready(api):
    with contextlib.suppress(httpx.TransportError):
        return api.get("/health/ready").status_code == 200
    return False


def crash(doomed, merchant, key, body, when):
    """Send the request to the doomed service and kill it when *when* holds; then let a minute pass."""
    with ThreadPoolExecutor(1) as pool:
        lost = pool.submit(post, doomed.api, "/invoices", key, body)
        eventually(when)
        doomed.send_signal(signal.SIGKILL)
        with pytest.raises(httpx.TransportError):
            lost.result()


def a_minute_passes(database, key):
    database.value(
        "UPDATE paytrust.idempotency_keys SET lease_until = now() - interval '1 second' WHERE key = $1", key
    )
    database.value(
        "UPDATE paytrust.payments SET updated_at = now() - interval '2 minutes' WHERE status = 'creating'"
    )


def goes_on(merchant, sandbox, database, key, body, problem, payable):
    """
    A repeat elsewhere is told to wait while the lease runs, then makes the one invoice, which can be paid
    once.
    """
    problem(post(merchant.api, "/invoices", key, body), 409, "request_in_progress")
    a_minute_passes(database, key)
    made = post(merchant.api, "/invoices", key, body)
    assert made.status_code == 201, made.text
    [invoice] = invoices_of(merchant)
    assert made.json()["invoice_id"] == invoice["invoice_id"]
    assert invoice["invoice_id"] == str(
        database.value("SELECT object_id FROM paytrust.idempotency_keys WHERE key = $1", key)
    )
    assert same(post(merchant.api, "/invoices", key, body), made)
    assert payable(sandbox.xendit) == 1
    sandbox.xendit.pay(merchant.reference(invoice))
    merchant.wait(invoice, "paid")
    assert merchant.get(invoice, "/overpayment")["overpayment_amount"] == "0"


def test_killed_before_anything_was_made(doomed, merchant, sandbox, database, key, problem, payable):
    body = body_of(merchant)

    def waits_for_the_lock():
        return database.value(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'paytrust.invoices'::regclass"
        )

    with database.holding("LOCK TABLE paytrust.invoices IN SHARE MODE"):
        crash(doomed, merchant, key, body, waits_for_the_lock)
    eventually(lambda: not waits_for_the_lock())
    assert invoices_of(merchant) == []
    goes_on(merchant, sandbox, database, key, body, problem, payable)


@pytest.mark.parametrize("fault", ["hang_before", "hang_after"])
def test_killed_while_the_gateway_was_asked(
    doomed, merchant, sandbox, database, key, problem, payable, fault
):
    body = body_of(merchant)
    sandbox.xendit.fault(fault, on="create", times=1)
    crash(
        doomed,
        merchant,
        key,
        body,
        lambda: any(asked.operation == "create" for asked in sandbox.xendit.requests),
    )
    assert [invoice["status"] for invoice in invoices_of(merchant)] == ["draft"]
    assert len(sandbox.xendit.payments) == (fault == "hang_after")
    goes_on(merchant, sandbox, database, key, body, problem, payable)


@contextlib.contextmanager
def unable_to_keep_answers(database, key):
    """The database loses its connection whenever the answer for *key* is to be kept."""
    database.execute(f"""
        CREATE FUNCTION paytrust.lose() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'gone' USING ERRCODE = 'admin_shutdown'; END $$;
        CREATE TRIGGER lose BEFORE UPDATE OF answer ON paytrust.idempotency_keys FOR EACH ROW WHEN (new.key = '{key}')
            EXECUTE FUNCTION paytrust.lose();""")
    try:
        yield
    finally:
        database.execute("DROP FUNCTION paytrust.lose CASCADE")


def test_an_answer_that_could_not_be_kept_is_not_sent_and_a_repeat_gets_another_secret(
    merchant, database, key, problem, service
):
    body = json.dumps({"tenant_id": merchant.tenant_id, "description": key}).encode()
    with unable_to_keep_answers(database, key):
        lost = post(merchant.admin, "/api-keys", key, body)
    problem(lost, 503, "unavailable")
    assert lost.headers["retry-after"] == "1"
    a_minute_passes(database, key)
    made = post(merchant.admin, "/api-keys", key, body)
    assert made.status_code == 201
    assert same(post(merchant.admin, "/api-keys", key, body), made)
    assert database.value("SELECT count(*) FROM paytrust.api_keys WHERE description = $1", key) == 1
    answer = merchant.api.get("/invoices", headers={"X-API-Key": made.json()["api_key"]})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/tenants", "/gateway-accounts", "/api-keys", "/invoices", "/invoices/{invoice_id}/supplementary"],
)
def test_what_a_lost_try_made_is_what_the_repeat_answers_with(merchant, database, key, path, routes, samples):
    [route] = [route for route in routes if repr(route) == f"POST {path}"]
    api, _, url, body = samples.request(merchant, route)
    body = json.dumps(body).encode()
    with unable_to_keep_answers(database, key):
        assert post(api, url, key, body).status_code == 503
    before = rows_of(database)
    a_minute_passes(database, key)
    made = post(api, url, key, body)
    assert made.status_code == 201, made.text
    assert rows_of(database) == before
    object_id = str(database.value("SELECT object_id FROM paytrust.idempotency_keys WHERE key = $1", key))
    assert object_id in {
        made.json().get(name) for name in ("tenant_id", "gateway_id", "invoice_id", "key_id")
    }
    assert same(post(api, url, key, body), made)


# --- what is kept, and for how long ------------------------------------------------------------------------------------------------


def test_a_dump_shows_neither_the_secret_of_an_answer_nor_its_body(merchant, database, key):
    made = post(
        merchant.admin, "/api-keys", key, json.dumps({"tenant_id": merchant.tenant_id}).encode()
    ).json()
    [row] = database.rows(
        "SELECT k::text AS dumped, answer FROM paytrust.idempotency_keys k WHERE key = $1", key
    )
    for secret in (made["api_key"], made["key_id"] + '"'):
        assert secret.encode() not in row["answer"]
        assert secret not in row["dumped"]
        assert secret.encode().hex() not in row["dumped"]
    for table in [name for name, rows in database.count().items() if rows]:
        for line in database.rows(f"SELECT t::text AS dumped FROM paytrust.{table} t"):
            assert made["api_key"] not in line["dumped"]
            assert made["api_key"].encode().hex() not in line["dumped"]


def test_a_day_later_a_service_forgets_the_key(merchant, database, key, settings_for, session_owner_url):
    body = body_of(merchant)
    young = str(uuid4())
    first = post(merchant.api, "/invoices", key, body)
    kept = post(merchant.api, "/invoices", young, body)
    database.value(
        "UPDATE paytrust.idempotency_keys SET created_at = now() - interval '25 hours' WHERE key = $1", key
    )
    with development.serving(settings_for(session_owner_url)):
        eventually(lambda: not database.rows("SELECT 1 FROM paytrust.idempotency_keys WHERE key = $1", key))
    assert post(merchant.api, "/invoices", key, body).json()["invoice_id"] != first.json()["invoice_id"]
    assert same(post(merchant.api, "/invoices", young, body), kept)
