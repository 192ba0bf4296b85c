"""
Bytes that no HTTP client sends: the service refuses them, closes what it cannot understand, and goes on
serving.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import time

import psutil
import pytest
from support.waiting import eventually

from paytrust import development, server
from paytrust.api import context, problems

pytestmark = pytest.mark.usefixtures("nothing_written")

BAD_REQUESTS = {
    "no HTTP at all": b"GARBAGE\r\n\r\n",
    "all bytes": bytes(range(256)),
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "an unknown method": b"BREW /invoices HTTP/1.1\r\nhost: x\r\n\r\n",
    "a raw byte in the path": b"GET /inv\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n",
    "a space in a header's name": b"GET /invoices HTTP/1.1\r\nho st: x\r\n\r\n",
    "a NUL in a header": b"GET /invoices HTTP/1.1\r\nx-api-key: a\x00b\r\n\r\n",
    "a length that is no number": b"POST /invoices HTTP/1.1\r\ncontent-length: abc\r\n\r\n",
    "a negative length": b"POST /invoices HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
    "a length over 64 bits": b"POST /invoices HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n{}",
    "two lengths": b"POST /invoices HTTP/1.1\r\ncontent-length: 2\r\ncontent-length: 5\r\n\r\n{}",
    "a length and chunks": b"POST /invoices HTTP/1.1\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a chunk without a size": b"POST /invoices HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n",
    "a chunk over 64 bits": b"POST /invoices HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello\r\n",
}


@pytest.fixture
def head(shop):
    """The head of a POST /invoices with a good key."""

    def make(*headers):
        lines = [
            "POST /invoices HTTP/1.1",
            "host: x",
            f"x-api-key: {shop.api.headers['x-api-key']}",
            "content-type: application/json",
        ]
        return "\r\n".join([*lines, "connection: close", *headers, "", ""]).encode()

    return make


@pytest.mark.parametrize("request_", BAD_REQUESTS.values(), ids=BAD_REQUESTS)
def test_what_is_no_http_is_answered_400_and_the_connection_ends(raw, problem, request_):
    problem(raw(request_), 400, "malformed_request")


@pytest.mark.parametrize(
    "headers", [(), ("content-length: 0",), ("transfer-encoding: gzip, chunked",)], ids=str
)
def test_a_post_without_a_body_is_told_that_one_is_needed(raw, head, problem, headers):
    end = b"0\r\n\r\n" if "chunked" in str(headers) else b""
    problem(raw(head(*headers) + end), 400, "invalid_request", ["#"])


def test_a_body_that_claims_ten_gigabytes_is_refused_before_it_comes(raw, head, problem):
    problem(raw(head("content-length: 9999999999") + b"{}"), 413, "body_too_large")


def test_chunks_that_never_end_are_cut_off(raw, head, problem):
    chunk = b"10000\r\n" + b"[" * 65_536 + b"\r\n"
    answer = raw(head("transfer-encoding: chunked"), *[chunk] * 100)
    if answer is not None:  # the connection may be reset before the answer is read
        problem(answer, 413, "body_too_large")


def test_a_body_in_many_small_pieces_is_read_whole(raw, head, problem, shop):
    body = json.dumps(shop.body(currency="XXX")).encode()
    pieces = [f"{1:x}\r\n".encode() + bytes([byte]) + b"\r\n" for byte in body]
    problem(
        raw(head("transfer-encoding: chunked"), *pieces, b"0\r\n\r\n"),
        400,
        "invalid_currency",
        ["#/currency"],
    )


def test_a_whole_body_cut_off_at_any_point_writes_nothing(raw, head, shop):
    body = json.dumps(shop.body()).encode()
    for sent in (0, 1, len(body) // 2, len(body) - 1):
        raw(head(f"content-length: {len(body)}") + body[:sent], hurry=True)
    time.sleep(0.2)  # nothing shall happen in this time


def test_a_sender_who_goes_away_in_the_middle_is_no_error_of_ours(raw, head, logged):
    """
    Anybody can do it as often as he likes: an error with its stack would fill the log, and wake somebody.
    """
    errors, requests = logged(problems), logged(context)
    for path in (b"/invoices", b"/webhooks/xendit/" + b"a" * 32):
        raw(head("content-length: 1000").replace(b"/invoices", path) + b"{", hurry=True)
    eventually(lambda: len(requests) >= 2, "the requests have not ended")
    assert [request["status"] for request in requests] == [400, 400]
    assert [entry for entry in errors if entry["log_level"] == "error"] == []


def test_slow_senders_do_not_keep_others_waiting(raw, head, anonymous, shop):
    done = threading.Event()
    body = json.dumps(shop.body()).encode()

    def drip():
        done.wait(10)
        yield b""

    def send():
        raw(head(f"content-length: {len(body)}"), body[:10], *drip(), hurry=True)

    slow = [threading.Thread(target=send) for _ in range(50)]
    for thread in slow:
        thread.start()
    try:
        for _ in range(20):
            answer = anonymous.get("/health/ready")
            assert (answer.status_code, answer.elapsed.total_seconds() < 1) == (200, True)
    finally:
        done.set()
        for thread in slow:
            thread.join()


GET = b"GET /invoices HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
POST = b"POST /invoices HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
UP_TO_THE_BOUND = {
    "a URL": b"GET /invoices?x="
    + b"u" * (server.MAX_URL_BYTES - 12)
    + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    "a header": GET + b"x-a: " + b"v" * (server.MAX_HEAD_BYTES - 100) + b"\r\n\r\n",
    "many headers": GET + b"a: b\r\n" * (server.MAX_HEADERS - 2) + b"\r\n",
}
BEYOND_IT = {
    "a URL": (b"GET /invoices?x=" + b"u" * server.MAX_URL_BYTES + b" HTTP/1.1\r\n", 414, "url_too_long"),
    "a URL without an end": (b"GET /" + b"u" * 1_000_000, 414, "url_too_long"),
    "a header": (GET + b"x-a: " + b"v" * server.MAX_HEAD_BYTES + b"\r\n\r\n", 431, "head_too_large"),
    "a header without an end": (GET + b"x-a: " + b"v" * 1_000_000, 431, "head_too_large"),
    "a name without an end": (GET + b"x" * 1_000_000, 431, "head_too_large"),
    "many headers": (GET + b"a: b\r\n" * server.MAX_HEADERS + b"\r\n", 431, "head_too_large"),
    "headers without an end": (GET + b"a: b\r\n" * 400_000, 431, "head_too_large"),
    "headers that are large together": (GET + b"x-a: %b\r\n" % (b"v" * 1_000) * 40, 431, "head_too_large"),
    "trailers without an end": (POST + b"0\r\n" + b"a: b\r\n" * 400_000, 431, "head_too_large"),
    "a trailer without an end": (POST + b"0\r\na: " + b"v" * 1_000_000, 431, "head_too_large"),
    "empty lines without an end": (b"\r\n" * 500_000, 431, "head_too_large"),
}


@pytest.mark.parametrize("head", UP_TO_THE_BOUND.values(), ids=UP_TO_THE_BOUND)
def test_a_head_within_the_bounds_reaches_the_api(raw, problem, head):
    problem(raw(head), 401, "unauthenticated")


@pytest.mark.parametrize(("head", "status", "code"), BEYOND_IT.values(), ids=BEYOND_IT)
def test_a_head_beyond_the_bounds_is_refused_and_not_kept(raw, problem, head, status, code):
    """The answer comes while most of it is still under way, so the connection may end before it is read."""
    answer = raw(head)
    if answer is not None:
        problem(answer, status, code)


def test_a_large_head_is_refused_before_64_kib_of_it_are_taken(service, problem):
    """What the service does not take stays with the sender: nothing of it is held."""
    with socket.create_connection((service.host, service.port), timeout=10) as connection:
        connection.sendall(GET + b"x-a: " + b"v" * 60_000)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 431 ")


def test_a_trailer_changes_nothing_about_its_request(raw, problem, shop):
    body = json.dumps(shop.body()).encode()
    chunk = b"%x\r\n%b\r\n0\r\n" % (len(body), body)
    head = POST.replace(b"\r\n\r\n", b"\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n")
    key = shop.api.headers["x-api-key"].encode()
    problem(raw(head + chunk + b"x-api-key: " + key + b"\r\n\r\n"), 401, "unauthenticated")


def test_large_heads_do_not_keep_others_waiting(raw, anonymous):
    done = threading.Event()

    def attack():
        while not done.is_set():
            raw(GET + b"a: b\r\n" * 100_000, hurry=True)

    attackers = [threading.Thread(target=attack) for _ in range(4)]
    for thread in attackers:
        thread.start()
    try:
        for _ in range(20):
            assert anonymous.get("/health/live").elapsed.total_seconds() < 1
    finally:
        done.set()
        for thread in attackers:
            thread.join()


def test_garbage_is_one_line_a_minute_in_the_log(raw, caplog):
    for _ in range(20):
        raw(b"GARBAGE\r\n\r\n")
    said = [record for record in caplog.records if "Invalid HTTP request" in record.getMessage()]
    assert len(said) <= 1


@pytest.fixture
def deaf(settings_for, module_owner_url):
    """A service that waits a second for its readers."""
    settings = settings_for(module_owner_url, send_timeout_s=1.0, keep_alive_s=60)
    with development.serving(settings):
        yield settings


def closed_after_s(connection, port, limit_s=20):
    """When the service, which runs in this process, has given the connection up."""
    _, ours = connection.getsockname()

    def held():
        known = psutil.Process().net_connections("tcp")
        return any(one.laddr.port == port and one.raddr and one.raddr.port == ours for one in known)

    eventually(held, timeout_s=limit_s)  # until then it is the system's
    started = time.monotonic()
    eventually(lambda: not held(), timeout_s=limit_s)
    return time.monotonic() - started


def test_a_client_that_never_reads_is_given_up(deaf):
    ask = b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n"
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((deaf.host, deaf.port))
        connection.sendall(ask * 200)
        assert 0.5 < closed_after_s(connection, deaf.port) < 15


def test_a_client_that_reads_slowly_gets_all_of_it(deaf):
    """Slower than the time-out in all, but never idle for as long."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((deaf.host, deaf.port))
        ask = b"GET /openapi.json HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        connection.sendall(ask)
        received = b""
        while data := connection.recv(8192):
            received += data
            time.sleep(0.01)
    head, _, body = received.partition(b"\r\n\r\n")
    assert int(re.search(rb"content-length: (\d+)", head)[1]) == len(body)


def test_requests_sent_in_one_go_are_answered_one_by_one(raw):
    many = (
        b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n" * 20
        + b"GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    )
    assert raw(many).content.count(b"HTTP/1.1 200 OK") == 20  # the first is the answer itself


def test_clients_that_do_not_wait_for_their_answer_harm_nobody(raw, shop):
    for _ in range(20):
        raw(
            f"GET /invoices HTTP/1.1\r\nhost: x\r\nx-api-key: {shop.api.headers['x-api-key']}\r\n\r\n".encode(),
            hurry=True,
        )


def test_a_websocket_is_not_to_be_had(raw):
    upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    assert raw(f"GET /invoices HTTP/1.1\r\nhost: x\r\n{upgrade}\r\n".encode()).status_code == 403
