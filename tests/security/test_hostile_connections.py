"""
Bytes that no HTTP client sends: the service refuses them, closes what it cannot understand, and goes on
serving.
"""

from __future__ import annotations

import json
import threading
import time

import pytest
from support.waiting import eventually

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
def test_what_is_no_http_is_answered_400_and_the_connection_ends(raw, request_):
    answer = raw(request_)
    assert answer.status_code == 400
    assert len(answer.content) < 100


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


@pytest.mark.parametrize("size", [8_000, 60_000, 200_000])
def test_a_huge_header_harms_nobody(anonymous, problem, size):
    problem(anonymous.get("/invoices", headers={"x-api-key": "a" * size}), 400, "malformed_key")
    problem(anonymous.get("/tenants", headers={"x-admin-key": "a" * size}), 401, "unauthenticated")


def test_ten_thousand_headers_harm_nobody(raw, problem):
    lines = "".join(f"x-{n}: y\r\n" for n in range(10_000))
    problem(
        raw(f"GET /invoices HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{lines}\r\n".encode()),
        401,
        "unauthenticated",
    )


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
