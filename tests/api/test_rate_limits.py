"""How often somebody may ask, over HTTP: each test has a service of its own, with small limits."""

from __future__ import annotations

import contextlib
import http.client
import re
import secrets
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from paytrust import development
from paytrust.api import context

LIMITS = {
    "key_limit_per_minute": 20,
    "admin_limit_per_minute": 1000,
    "address_limit_per_minute": 5,
    "webhook_limit_per_minute": 5,
}
EVERYWHERE = {"trusted_proxies": "127.0.0.1"}
"""Lets a test be at any address: X-Forwarded-For is believed."""


class Client:
    """Asks one service, over one connection for each of 40 threads."""

    def __init__(self, settings):
        self.settings = settings
        self.http = httpx.Client(
            base_url=settings.public_url, timeout=30, verify=False, limits=httpx.Limits(max_connections=40)
        )

    def get(self, path="/invoices", key=None, address=None, **headers):
        given = {"x-api-key": key, "x-forwarded-for": address} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        return self.http.get(
            path, headers={name: value for name, value in given.items() if value is not None}
        )

    def admin(self, method, path, **more):
        answer = self.http.request(
            method, path, headers={"x-admin-key": self.settings.admin_api_key.get_secret_value()}, **more
        )
        assert answer.is_success, answer.text
        return answer.json()

    def key(self, tenant_id=None):
        tenant_id = tenant_id or self.admin("POST", "/tenants", json={"name": "Shop"})["tenant_id"]
        return self.admin("POST", "/api-keys", json={"tenant_id": tenant_id})["api_key"]

    def burst(self, number, ask):
        with ThreadPoolExecutor(40) as pool:
            return list(pool.map(lambda _: ask(), range(number)))


@pytest.fixture
def serve(owner_url, settings_for):
    """Run a service on this test's own database: `serve(key_limit_per_minute=3)`."""

    @contextlib.contextmanager
    def run(**changes):
        settings = settings_for(owner_url, **(LIMITS | changes))
        with development.serving(settings):
            client = Client(settings)
            yield client
            client.http.close()

    return run


def statuses(answers):
    return sorted(answer.status_code for answer in answers)


def refused(answer):
    """The answer is a proper 429."""
    assert answer.status_code == 429, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "too_many_requests"
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert "r=0;" in answer.headers["ratelimit"]


# --- keys -------------------------------------------------------------------------------------------------------------------


def test_a_key_has_its_limit_however_many_ask_at_once_and_every_answer_says_what_is_left(serve):
    with serve() as service:
        key = service.key()
        first = service.get(key=key)
        assert first.headers["ratelimit-policy"] == '"api-key";q=20;w=60'
        assert first.headers["ratelimit"] == '"api-key";r=19;t=60'
        answers = service.burst(60, lambda: service.get(key=key))
        assert statuses(answers) == [200] * 19 + [429] * 41
        for answer in answers:
            if answer.status_code == 429:
                refused(answer)
        left = {
            int(a.headers["ratelimit"].split("r=")[1].split(";")[0]) for a in answers if a.status_code == 200
        }
        assert left == set(range(19))


def test_every_key_of_a_tenant_has_a_limit_of_its_own(serve):
    with serve(key_limit_per_minute=2) as service:
        one = service.key()
        tenant_id = service.admin("GET", "/tenants")["tenants"][0]["tenant_id"]
        other, stranger = service.key(tenant_id), service.key()
        assert statuses([service.get(key=one) for _ in range(4)]) == [200, 200, 429, 429]
        for key in (other, stranger):
            assert [service.get(key=key).status_code for _ in range(3)] == [200, 200, 429]


def test_a_request_that_fails_counts_as_well(serve):
    with serve(key_limit_per_minute=3) as service:
        key = service.key()
        assert service.get("/invoices?no_such=1", key=key).status_code == 400
        assert service.get("/invoices/01935c1e-0000-7000-8000-000000000000", key=key).status_code == 404
        assert service.get(key=key).status_code == 200
        refused(service.get(key=key))


def test_the_admin_key_has_a_limit_of_its_own(serve):
    with serve(admin_limit_per_minute=3) as service:
        key = service.key()  # two requests
        service.admin("GET", "/tenants")
        answer = service.get("/tenants", x_admin_key=service.settings.admin_api_key.get_secret_value())
        refused(answer)
        assert answer.headers["ratelimit-policy"] == '"admin-key";q=3;w=60'
        assert service.get(key=key).status_code == 200


def test_counters_in_memory_end_with_the_process(serve, owner_url):
    with serve(key_limit_per_minute=1) as service:
        key = service.key()
        assert [service.get(key=key).status_code for _ in range(2)] == [200, 429]
    with serve(key_limit_per_minute=1) as again:
        assert [again.get(key=key).status_code for _ in range(2)] == [200, 429]


# --- anonymous --------------------------------------------------------------------------------------------------------------


def test_whoever_shows_no_valid_key_is_limited_on_every_route_but_health(serve):
    with serve() as service:
        ways = [
            service.get,
            lambda: service.get(key="nonsense"),
            lambda: service.get(key=secrets.token_hex(32)),
            lambda: service.get("/tenants", x_admin_key="wrong"),
            lambda: service.get("/nowhere"),
        ]
        assert [ask().status_code for ask in ways] == [401, 400, 401, 401, 404]
        for ask in [
            *ways,
            *(
                lambda path=path: service.get(path)
                for path in ("/docs", "/openapi.json", "/docs/assets/docs.js")
            ),
        ]:
            refused(ask())
        assert statuses(service.get("/health/ready") for _ in range(10)) == [200] * 10
        assert "ratelimit" not in service.get("/health/live").headers


OPEN = {"GET /health/live", "GET /health/ready", "POST /webhooks/{gateway}/{token}"}
"""Routes that no address is kept from. Webhooks have limits of their own, and are counted by those."""


def test_every_documented_route_is_limited_for_strangers_for_keys_and_for_the_admin(serve):
    with serve(key_limit_per_minute=1, admin_limit_per_minute=2, address_limit_per_minute=1) as service:
        key = service.key()  # two requests of the admin
        assert service.get(key=key).status_code == 200
        document = service.get("/openapi.json").json()
        seen = []
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                name, url = (
                    f"{method.upper()} {path}",
                    re.sub(r"\{\w+\}", "01935c1e-0000-7000-8000-000000000000", path),
                )
                headers = {"x-api-key": key, "x-admin-key": service.settings.admin_api_key.get_secret_value()}
                own = {name.lower(): value for name, value in headers.items() if operation.get("security")}
                stranger, holder = (service.http.request(method, url, headers=given) for given in ({}, own))
                seen.append(name)
                if name in OPEN:
                    assert stranger.status_code in {200, 404}
                    continue
                for answer in (stranger, holder):
                    refused(answer)
                assert stranger.headers["ratelimit-policy"] == '"address";q=1;w=60'
                assert holder.headers["ratelimit-policy"].startswith(('"api-key"', '"admin-key"'))
        assert set(seen) > OPEN


@pytest.mark.parametrize(
    "path", ["/invoices", "/nowhere", "/health", "/health/live/x", "/webhooks/xendit", "/docs"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS"])
def test_an_anonymous_client_over_the_limit_is_refused(serve, path, method):
    """With every method, and with the headers and the body that every refusal has."""
    with serve(address_limit_per_minute=1) as service:
        service.get()
        headers = {
            "x-request-id": "shop-17",
            "x-admin-key": "w\xf6rong".encode("latin-1"),
            "x-api-key": b"w\xf6rong",
        }
        answer = service.http.request(method, path, headers=headers, content=b"{" * 100_000)
        refused(answer)
        assert answer.json()["request_id"] == answer.headers["x-request-id"] == "shop-17"
        manners = {
            "x-content-type-options": "nosniff",
            "cache-control": "no-store",
            "referrer-policy": "no-referrer",
        }
        assert manners.items() <= dict(answer.headers).items()
        assert service.get("/health/live/").status_code == 200


def test_a_flood_is_one_line_in_the_log_for_each_address(serve, logged):
    lines = logged(context)
    with serve(**EVERYWHERE) as service:
        for _ in range(20):
            for address in ("203.0.113.7", "198.51.100.9"):
                service.get(key=secrets.token_hex(32), address=address)
    refusals = [line for line in lines if line.get("status") == 429]
    assert len(refusals) == 30
    assert [line["log_level"] for line in refusals] == ["info"] * 2 + ["debug"] * 28


def test_a_key_in_use_and_the_admin_key_do_not_suffer_from_a_bad_neighbour(serve):
    with serve() as service:
        used, unused = service.key(), service.key()
        assert service.get(key=used).status_code == 200
        for _ in range(8):
            service.get(key=secrets.token_hex(32))
        assert service.get(key=used).status_code == 200
        service.admin("GET", "/tenants")
        refused(service.get(key=unused))  # nothing tells it from a guess


def test_a_good_key_is_not_counted_against_its_address(serve):
    with serve(address_limit_per_minute=2) as service:
        for _ in range(6):
            assert service.get(key=service.key()).status_code == 200
        assert service.get().status_code == 401


def test_wrong_keys_beyond_the_limit_reach_neither_the_database_nor_the_audit(serve, own_database):
    with serve() as service:
        good = service.key()
        assert service.get("/nowhere", key=good).status_code == 404
        for _ in range(4):
            assert service.get(key=secrets.token_hex(32)).status_code == 401
        with own_database.holding("LOCK TABLE paytrust.api_keys IN ACCESS EXCLUSIVE MODE"):
            started = time.monotonic()
            for answer in service.burst(300, lambda: service.get(key=secrets.token_hex(32))):
                refused(answer)
            assert time.monotonic() - started < 20  # a look-up would have waited, and failed
    tried = own_database.value("SELECT sum(times)::int FROM key_audit WHERE reason = 'unknown_key'")
    assert tried == 4  # a stopped service has written all it counted


def test_a_crowd_with_wrong_keys_cannot_slip_through_together(serve):
    with serve() as service:
        answers = service.burst(100, lambda: service.get(key=secrets.token_hex(32)))
        assert statuses(answers) == [401] * 5 + [429] * 95


def test_a_key_that_many_use_for_the_first_time_at_once_is_no_crowd_of_strangers(serve):
    with serve(address_limit_per_minute=1, key_limit_per_minute=1000) as service:
        for key in (service.key(), service.key()):
            assert statuses(service.burst(100, lambda key=key: service.get(key=key))) == [200] * 100
        assert service.get().status_code == 401


def test_one_wrong_key_sent_by_many_at_once_is_a_crowd(serve):
    with serve() as service:
        key = secrets.token_hex(32)
        assert statuses(service.burst(100, lambda: service.get(key=key))) == [401] * 5 + [429] * 95


def test_a_known_key_used_wrongly_is_counted_against_the_address_and_not_the_key(serve):
    with serve(key_limit_per_minute=2, **EVERYWHERE) as service:
        tenant_id = service.admin("POST", "/tenants", json={"name": "Shop"})["tenant_id"]
        body = {"tenant_id": tenant_id, "allowed_addresses": ["192.0.2.1"]}
        key = service.admin("POST", "/api-keys", json=body)["api_key"]
        assert service.get(key=key, address="192.0.2.1").status_code == 200
        stolen = [service.get(key=key, address="198.51.100.1").status_code for _ in range(7)]
        assert stolen == [403] * 5 + [429] * 2
        assert service.get(key=key, address="192.0.2.1").status_code == 200


@pytest.mark.parametrize("method", ["OPTIONS", "HEAD", "TRACE", "PROPFIND", "PATCH"])
def test_methods_that_a_path_does_not_take_count_and_are_one_line_a_minute(serve, logged, method):
    lines = logged(context)
    with serve(**EVERYWHERE) as service:
        answers = [
            service.http.request(method, "/tenants/nothing" if method == "HEAD" else "/invoices")
            for _ in range(30)
        ]
    assert statuses(answers) == [404 if method == "HEAD" else 405] * 5 + [429] * 25
    loud = [line for line in lines if line["log_level"] == "info"]
    assert [line["status"] for line in loud if line["status"] == 429] == [429]
    assert all(line["code"] for line in lines if line["status"] >= 400)


def test_ids_that_are_none_count_too(serve):
    with serve(**EVERYWHERE) as service:
        assert statuses(service.get("/invoices/x") for _ in range(8)) == [404] * 5 + [429] * 3


# --- addresses --------------------------------------------------------------------------------------------------------------


def test_an_address_that_a_client_writes_is_not_believed(serve):
    with serve() as service:
        answers = [service.get(address=f"203.0.{n}.1") for n in range(8)]
        assert statuses(answers) == [401] * 5 + [429] * 3


def test_behind_a_trusted_proxy_clients_are_told_apart_and_cannot_choose_who_they_are(serve):
    with serve(**EVERYWHERE) as service:
        assert statuses(service.get(address="203.0.113.7") for _ in range(8)) == [401] * 5 + [429] * 3
        refused(service.get(address="198.51.100.9, 203.0.113.7"))  # what the client wrote stands on the left
        assert service.get(address="198.51.100.9").status_code == 401


def test_neighbours_in_a_24_and_a_64_count_together(serve):
    with serve(**EVERYWHERE) as service:
        assert statuses(service.get(address=f"203.0.113.{n}") for n in range(8)) == [401] * 5 + [429] * 3
        assert service.get(address="203.0.114.1").status_code == 401
        assert (
            statuses(service.get(address=f"2001:db8:0:1::{n:x}") for n in range(8)) == [401] * 5 + [429] * 3
        )
        assert service.get(address="2001:db8:0:2::1").status_code == 401


# --- webhooks ---------------------------------------------------------------------------------------------------------------


def test_a_burst_of_webhooks_is_told_to_come_again_and_one_account_does_not_stop_another(serve, sandbox):
    with serve() as service:
        tenant_id = service.admin("POST", "/tenants", json={"name": "Shop"})["tenant_id"]
        urls = [account(service, sandbox, tenant_id, f"account {n}") for n in range(2)]
        event = {"id": "evt", "external_id": "nobody's", "status": "PAID", "amount": 1, "currency": "IDR"}
        token = {"x-callback-token": sandbox.xendit.callback_token}
        answers = [
            service.http.post(urls[0], json=event | {"id": f"evt-{n}"}, headers=token) for n in range(7)
        ]
        assert [answer.status_code for answer in answers] == [200] * 5 + [503] * 2
        assert answers[-1].json()["code"] == "unavailable"
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
        assert service.http.post(urls[1], json=event, headers=token).status_code == 200


def test_addresses_that_are_no_webhooks_are_limited_by_sender_and_leave_the_true_ones_alone(serve, sandbox):
    with serve() as service:
        tenant_id = service.admin("POST", "/tenants", json={"name": "Shop"})["tenant_id"]
        url = account(service, sandbox, tenant_id, "account")
        event = {"id": "evt", "external_id": "nobody's", "status": "PAID", "amount": 1, "currency": "IDR"}
        token = {"x-callback-token": sandbox.xendit.callback_token}
        assert service.http.post(url, json=event, headers=token).status_code == 200
        guesses = [
            service.http.post(f"/webhooks/xendit/{secrets.token_urlsafe(16)}", json=event) for _ in range(8)
        ]
        assert [answer.status_code for answer in guesses] == [404] * 5 + [503] * 3
        assert service.http.post(url, json=event, headers=token).json() == {"status": "repeated"}
        assert (
            service.get().status_code == 401
        )  # a gateway with an old address does not lock its neighbours out


def account(service, sandbox, tenant_id, name):
    body = {
        "gateway": "xendit",
        "name": name,
        "tenant_id": tenant_id,
        "base_url": sandbox.xendit.url,
        "credentials": {"secret_key": sandbox.xendit.key, "callback_token": sandbox.xendit.callback_token},
        "currencies": {"IDR": {}},
    }
    return service.admin("POST", "/gateway-accounts", json=body)["webhook_url"]


# --- several processes ------------------------------------------------------------------------------------------------------


def test_services_that_share_a_store_share_the_limit_and_a_restart_changes_nothing(serve, valkey):
    with serve(rates_url=valkey.url) as one, serve(rates_url=valkey.url) as two:
        key = one.key()
        answers = [*one.burst(20, lambda: one.get(key=key)), *two.burst(20, lambda: two.get(key=key))]
        assert statuses(answers) == [200] * 20 + [429] * 20
        refused(two.get(key=key))
    with serve(rates_url=valkey.url) as again:
        refused(again.get(key=key))


def test_services_whose_store_is_away_go_on_and_each_keeps_the_limit_by_itself(serve):
    nobody = f"redis://127.0.0.1:{development.free_port()}"
    with serve(rates_url=nobody) as one, serve(rates_url=nobody) as two:
        key = one.key()
        for service in (one, two):
            assert (
                statuses(service.burst(30, lambda service=service: service.get(key=key)))
                == [200] * 20 + [429] * 10
            )


# --- what arrives slowly ----------------------------------------------------------------------------------------------------


def slowly(service, head, *, drip=b"1", pause_s=0.3, until_s=20.0):
    """
    Send *head* and then a byte now and then; the answer, and after how many seconds the connection was
    closed.
    """
    with socket.create_connection(
        (service.settings.host, service.settings.port), timeout=pause_s
    ) as connection:
        connection.sendall(head)
        started, received = time.monotonic(), b""
        while time.monotonic() - started < until_s:
            try:
                data = connection.recv(65_536)
                if not data:
                    break
                received += data
            except TimeoutError:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    connection.sendall(drip)
            except ConnectionResetError:
                break
        return received.decode(), time.monotonic() - started


def test_a_body_that_comes_slowly_is_408_and_the_connection_ends(serve):
    with serve(receive_timeout_s=1) as service:
        head = f"POST /invoices HTTP/1.1\r\nhost: x\r\nx-api-key: {service.key()}\r\ncontent-type: application/json\r\n"
        answer, took_s = slowly(service, f"{head}content-length: 500\r\n\r\n{{".encode())
        assert answer.startswith("HTTP/1.1 408 ")
        assert '"code":"request_timeout"' in answer
        assert "connection: close" in answer
        assert 0.9 < took_s < 10


def test_a_webhook_that_comes_slowly_is_408_too(serve):
    with serve(receive_timeout_s=1) as service:
        answer, _ = slowly(
            service, b"POST /webhooks/xendit/abc HTTP/1.1\r\nhost: x\r\ncontent-length: 500\r\n\r\n{"
        )
        assert answer.startswith("HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"GET /invoices HTTP/1.1\r\nhost: ",
        b"POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 500\r\n\r\n",
    ],
    ids=["nothing", "a head", "a body nobody reads"],
)
def test_a_connection_on_which_no_whole_request_comes_is_closed(serve, head):
    with serve(receive_timeout_s=1) as service:
        _, took_s = slowly(service, head, drip=b"1" if head else b"")
        assert 2.5 < took_s < 15


def test_a_request_that_takes_long_to_answer_is_not_cut_off(serve, own_database):
    with serve(receive_timeout_s=0.2) as service:
        key = service.key()
        assert service.get(key=key).status_code == 200
        with (
            own_database.holding("LOCK TABLE paytrust.invoices IN ACCESS EXCLUSIVE MODE"),
            ThreadPoolExecutor(1) as pool,
        ):
            waiting = pool.submit(service.get, "/invoices", key)
            time.sleep(3)
            assert not waiting.done()
            own_database._runner.run(own_database._connection.execute("COMMIT; BEGIN"))
            assert waiting.result().status_code == 200


def served_again(service, idle_s):
    """Whether a connection that served a request serves another when it was idle for so long."""
    with contextlib.closing(
        http.client.HTTPConnection(service.settings.host, service.settings.port, timeout=20)
    ) as connection:

        def status():
            connection.request("GET", "/health/live")
            answer = connection.getresponse()
            answer.read()
            return answer.status

        assert status() == 200
        time.sleep(idle_s)
        try:
            return status() == 200
        except ConnectionError:
            return False


def test_an_idle_connection_is_kept_for_those_who_keep_theirs_for_some_seconds(serve):
    with serve() as service:
        assert (
            service.settings.keep_alive_s > 60
        )  # nginx's and AWS's: whoever closes first must not be the service
        assert served_again(service, 7)  # most clients' is 5


def test_an_idle_connection_is_closed_after_the_time_that_is_set(serve):
    with serve(keep_alive_s=1) as service:
        assert not served_again(service, 3)


# --- manners ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/invoices", "/docs", "/health/live", "/nowhere", "/openapi.json"])
def test_no_answer_names_the_server_or_invites_other_origins(service, anonymous, path):
    headers = anonymous.get(path, headers={"origin": "https://evil.example"}).headers
    assert "server" not in headers
    assert not [name for name in headers if name.startswith("access-control-")]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "strict-transport-security" not in headers  # the session's service is reached by http
    preflight = {
        "origin": "https://evil.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "x-api-key",
    }
    answer = anonymous.request("OPTIONS", path, headers=preflight)
    assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_a_service_that_is_reached_by_https_says_so_on_every_answer(serve):
    with serve() as service:
        pass
    with serve(public_url="https://pay.example.com", docs=False) as service:
        service.http.base_url = f"http://{service.settings.host}:{service.settings.port}"
        for path, status in (
            ("/health/live", 200),
            ("/invoices", 401),
            ("/docs", 404),
            ("/openapi.json", 404),
        ):
            answer = service.get(path)
            assert (answer.status_code, answer.headers["strict-transport-security"]) == (
                status,
                "max-age=63072000",
            )
