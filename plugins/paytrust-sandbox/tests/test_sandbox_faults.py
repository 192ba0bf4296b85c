"""Every fault does on the wire what its name says, and whether the work was done is known."""

import gzip
import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import httpx
import pytest
from paytrust_sandbox.faults import REQUEST_FAULTS, WEBHOOK_FAULTS

ORDER = {"external_id": "ORD-1", "amount": 150_000}


def head_and_body(raw: bytes) -> tuple[bytes, bytes]:
    head, _, body = raw.partition(b"\r\n\r\n")
    return head, body


@pytest.mark.parametrize(("name", "stored"), [("reset_before", 0), ("reset_after", 1)])
def test_a_reset_is_a_real_one_and_says_nothing_of_what_was_done(xendit, wire, name, stored):
    xendit.fault(name)
    with pytest.raises(ConnectionResetError):
        wire().read()
    assert len(xendit.payments) == stored
    assert xendit.requests[-1].status is None


@pytest.mark.parametrize(("name", "stored"), [("hang_before", 0), ("hang_after", 1)])
def test_a_hang_keeps_the_connection_open_without_a_byte(xendit, wire, name, stored):
    xendit.fault(name)
    connection = wire()
    assert connection.read(0.3) == b""
    assert len(xendit.payments) == stored
    xendit.clear_faults()
    assert connection.read() == b""


def test_a_late_answer_is_whole_and_comes_after_the_work(xendit, wire):
    xendit.fault("late_answer", seconds=0.5)
    connection = wire()
    assert connection.read(0.2) == b""
    assert len(xendit.payments) == 1
    head, body = head_and_body(connection.read(3))
    assert head.startswith(b"HTTP/1.1 200")
    assert json.loads(body)["external_id"] == "ORD-1"


def test_a_drip_sends_byte_by_byte_and_never_lets_a_read_time_out(xendit, wire):
    xendit.fault("slow_drip", seconds=0.05)
    connection = wire()
    started = time.monotonic()
    raw = b"".join(connection.read(0.04) for _ in range(10))
    head, body = head_and_body(raw)
    assert b"content-length" in head.lower()
    assert 2 <= len(body) <= 20
    assert time.monotonic() - started < 2
    assert len(xendit.payments) == 1


def test_a_truncated_body_is_shorter_than_announced(xendit, wire):
    xendit.fault("truncated")
    head, body = head_and_body(wire().read())
    announced = int(dict(line.split(b": ") for line in head.split(b"\r\n")[1:])[b"content-length"])
    assert 0 < len(body) < announced
    with pytest.raises(ValueError, match="line 1"):
        json.loads(body)
    assert len(xendit.payments) == 1


def test_a_truncated_body_is_a_protocol_error_to_a_client(xendit, xendit_api):
    xendit.fault("truncated", times=1)
    with pytest.raises(httpx.RemoteProtocolError):
        xendit_api.post("/v2/invoices", json=ORDER)


def test_malformed_json_arrives_whole_and_does_not_parse(xendit, xendit_api):
    xendit.fault("malformed_json")
    answer = xendit_api.post("/v2/invoices", json=ORDER)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    with pytest.raises(ValueError, match="line 1"):
        answer.json()
    assert len(xendit.payments) == 1


def test_a_wrong_schema_is_valid_json_without_the_fields(xendit, xendit_api):
    xendit.fault("wrong_schema")
    answer = xendit_api.post("/v2/invoices", json=ORDER)
    assert answer.status_code == 200
    assert list(answer.json()) == ["result"]


def test_wrong_types_are_the_right_fields_with_other_values(xendit, xendit_api, invoices):
    true = invoices.create()
    xendit.fault("wrong_types", on="any")
    invoice = invoices.create()
    assert set(invoice) == set(true)
    assert (invoice["id"], invoice["amount"]) == (1, "one")
    assert xendit_api.get("/v2/invoices?external_id=ORD-9").json() == {}


@pytest.mark.parametrize(
    ("seconds", "days"), [(86_400.5, 1), (-172_800, -2), (1e12, 2_900_000), (-1e12, -730_000)]
)
def test_a_wrong_clock_moves_every_time_in_an_answer(
    xendit, xendit_api, invoices, midtrans, transactions, seconds, days
):
    true = invoices.create()
    xendit.fault("wrong_clock", on="get", seconds=seconds)
    told = xendit_api.get(f"/v2/invoices/{true['id']}").json()
    for name in ("created", "expiry_date"):
        moved = datetime.fromisoformat(told[name]) - datetime.fromisoformat(true[name])
        assert moved.days == days if abs(days) < 10 else abs(moved.days) > abs(days)
    assert {
        name: value for name, value in told.items() if name not in ("created", "updated", "expiry_date")
    } == {name: value for name, value in true.items() if name not in ("created", "updated", "expiry_date")}
    transactions.charge()
    true = transactions.status()
    midtrans.fault("wrong_clock", on="status", seconds=60)
    told = transactions.status()
    assert datetime.fromisoformat(told["transaction_time"]) - datetime.fromisoformat(
        true["transaction_time"]
    ) == timedelta(minutes=1)


@pytest.mark.parametrize(
    ("name", "field", "lie"),
    [
        ("wrong_amount", "amount", 151_000),
        ("wrong_currency", "currency", "USD"),
        ("wrong_reference", "external_id", "ORD-1-not"),
    ],
)
def test_a_wrong_amount_currency_or_reference_is_in_the_answer_only(
    xendit, xendit_api, invoices, name, field, lie
):
    xendit.fault(name, on="any")
    invoice = invoices.create()
    assert invoice[field] == lie
    assert xendit_api.get(f"/v2/invoices/{invoice['id']}").json()[field] == lie
    assert xendit_api.get("/v2/invoices?external_id=ORD-1").json()[0][field] == lie
    assert xendit_api.post(f"/invoices/{invoice['id']}/expire!").json()[field] == lie
    payment = xendit.payment("ORD-1")
    assert (payment.amount, payment.currency) == ("150000", "IDR")


def test_a_huge_body_is_50_megabytes_without_a_length(xendit, xendit_client):
    xendit.fault("huge_body")
    with xendit_client.stream("POST", "/v2/invoices", json=ORDER) as answer:
        assert "content-length" not in answer.headers
        assert sum(len(chunk) for chunk in answer.iter_bytes()) > 50_000_000


def test_a_gzip_bomb_is_small_on_the_wire_and_huge_unpacked(xendit, wire):
    xendit.fault("gzip_bomb")
    connection = wire()
    connection.socket.settimeout(5)
    raw = b""
    while b"\r\n\r\n" not in raw:
        raw += connection.socket.recv(65536)
    head, body = head_and_body(raw)
    assert b"content-encoding: gzip" in head
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    assert length < 200_000
    while len(body) < length:
        body += connection.socket.recv(65536)
    assert len(gzip.decompress(body)) > 50_000_000
    assert json.loads(gzip.decompress(body)[:20_000])["external_id"] == "ORD-1"


def test_a_redirect_leads_elsewhere_and_shows_its_followers(xendit, xendit_api):
    xendit.fault("redirect", times=1)
    answer = xendit_api.post("/v2/invoices", json=ORDER)
    assert (answer.status_code, answer.headers["location"]) == (302, f"{xendit.url}/_sandbox/elsewhere")
    assert xendit.payments == []
    assert [request.operation for request in xendit.requests] == ["create"]
    xendit_api.get(answer.headers["location"])
    assert xendit.requests[-1].operation == "elsewhere"


@pytest.mark.parametrize(
    ("name", "status", "kind", "stored"),
    [
        ("http_500_html", 500, "text/html", 0),
        ("http_503", 503, "text/plain", 0),
        ("http_502_after", 502, "text/html", 1),
        ("http_429", 429, "application/json", 0),
        ("http_400", 400, "application/json", 0),
        ("http_401", 401, "application/json", 0),
        ("http_403", 403, "application/json", 0),
        ("not_found_though_created", 404, "application/json", 1),
    ],
)
def test_an_error_status_has_its_body_and_says_if_it_was_stored(
    xendit, xendit_api, name, status, kind, stored
):
    xendit.fault(name)
    answer = xendit_api.post("/v2/invoices", json=ORDER)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith(kind)
    assert len(xendit.payments) == stored
    assert ("retry-after" in answer.headers) == (name in ("http_429", "http_503"))
    if kind == "application/json":
        assert set(answer.json()) >= {"error_code", "message"}


@pytest.mark.parametrize(
    ("name", "snap", "core"),
    [
        ("http_400", (400, "error_messages"), (400, "validation_messages")),
        ("http_401", (401, "error_messages"), (401, "status_message")),
        ("http_429", (429, "message"), (429, "message")),
    ],
)
def test_snap_and_core_reject_in_their_own_words(midtrans, transactions, midtrans_api, name, snap, core):
    midtrans.fault(name, on="any")
    answer, status = transactions.snap(), midtrans_api.get("/v2/ORD-1/status")
    assert (answer.status_code, snap[1] in answer.json()) == (snap[0], True)
    assert (status.status_code, core[1] in status.json()) == (core[0], True)


def test_a_key_can_be_refused_from_now_on(xendit, xendit_api, invoices, midtrans, transactions, midtrans_api):
    invoice = invoices.create()
    transactions.charge()
    xendit.fault("http_401", on="any")
    midtrans.fault("http_401", on="any")
    answers = [
        *(
            xendit_api.get(path)
            for path in (f"/v2/invoices/{invoice['id']}", "/v2/invoices", "/refunds", "/v1/disputes")
        ),
        *(xendit_api.post(path) for path in ("/v2/invoices", f"/invoices/{invoice['id']}/expire!")),
        *(midtrans_api.post(path) for path in ("/snap/v1/transactions", "/v2/charge", "/v2/ORD-1/cancel")),
        midtrans_api.get("/v2/ORD-1/status"),
    ]
    assert {answer.status_code for answer in answers} == {401}
    xendit.clear_faults()
    assert xendit_api.get(f"/v2/invoices/{invoice['id']}").json()["status"] == "PENDING"


def test_slow_answers_of_one_operation_leave_the_others_quick(midtrans, transactions, xendit, invoices):
    transactions.charge()
    midtrans.fault("late_answer", on="status", seconds=0.5)

    def timed(ask) -> float:
        started = time.monotonic()
        ask()
        return time.monotonic() - started

    with ThreadPoolExecutor(4) as pool:
        started = time.monotonic()
        slow = list(pool.map(timed, [transactions.status] * 4))
        assert time.monotonic() - started < 1.5
    assert min(slow) >= 0.5
    assert (
        max(timed(ask) for ask in (lambda: transactions.charge("ORD-2"), transactions.snap, invoices.create))
        < 0.5
    )


def test_not_found_though_created_hides_what_exists(xendit, xendit_api, invoices):
    invoice = invoices.create()
    xendit.fault("not_found_though_created", on="get")
    xendit.fault("not_found_though_created", on="list")
    assert xendit_api.get(f"/v2/invoices/{invoice['id']}").status_code == 404
    assert xendit_api.get("/v2/invoices?external_id=ORD-1").json() == []


def test_a_duplicated_create_makes_two_invoices_at_xendit(xendit, invoices):
    xendit.fault("duplicate")
    answered = invoices.create()
    assert [payment.id == answered["id"] for payment in xendit.payments] == [False, True]


def test_a_duplicated_request_at_midtrans_is_answered_as_there(midtrans, transactions):
    """A duplicated create replaces its own token, and a duplicated charge conflicts."""
    midtrans.fault("duplicate")
    token = transactions.snap().json()["token"]
    last = midtrans.payment("ORD-1").details["tokens"][-1]
    assert (last["token"], last["state"]) == (token, "open")
    assert transactions.charge("ORD-2")["status_code"] == "406"
    assert midtrans.payment("ORD-2").status == "pending"


def test_a_wrong_amount_at_midtrans_is_signed_as_if_it_were_right(midtrans, transactions):
    transactions.charge()
    true = transactions.status()
    midtrans.fault("wrong_amount", on="status")
    lie = transactions.status()
    assert (true["gross_amount"], lie["gross_amount"]) == ("10400.00", "11400.00")
    assert lie["signature_key"] != true["signature_key"]


def test_a_wrong_reference_at_midtrans_is_signed_as_if_it_were_right(midtrans, transactions):
    transactions.charge()
    true = transactions.status()
    midtrans.fault("wrong_reference", on="status")
    lie = transactions.status()
    assert (lie["order_id"], lie["gross_amount"]) == ("ORD-1-not", true["gross_amount"])
    assert lie["signature_key"] != true["signature_key"]


def test_a_fault_is_used_up_after_its_times(xendit, xendit_api):
    xendit.fault("http_503", times=2)
    assert [xendit_api.post("/v2/invoices", json=ORDER).status_code for _ in range(3)] == [503, 503, 200]


def test_a_fault_befalls_only_its_operation_until_it_is_switched_off(xendit, xendit_api, invoices):
    xendit.fault("http_503", on="get")
    invoice = invoices.create()
    assert xendit_api.get(f"/v2/invoices/{invoice['id']}").status_code == 503
    xendit.clear_faults()
    assert xendit_api.get(f"/v2/invoices/{invoice['id']}").status_code == 200


def test_any_is_every_api_call_and_neither_page_nor_control(xendit, xendit_api, invoices, browser):
    invoice = invoices.create()
    xendit.fault("http_500_html", on="any")
    assert xendit_api.get("/v2/invoices").status_code == 500
    assert xendit_api.post(f"/invoices/{invoice['id']}/expire!").status_code == 500
    assert browser.get(invoice["invoice_url"]).status_code == 200


def test_what_befell_a_request_is_on_record(xendit, xendit_api):
    xendit.fault("http_503")
    xendit_api.post("/v2/invoices", json=ORDER)
    request = xendit.requests[-1]
    assert (request.operation, request.method, request.target, request.status, request.fault) == (
        "create",
        "POST",
        "/v2/invoices",
        503,
        "http_503",
    )


@pytest.mark.parametrize("name", ["hang_before", "hang_after", "slow_drip"])
def test_how_long_a_client_waited_is_on_record_as_soon_as_it_has_gone(xendit, xendit_api, wire, name):
    xendit.fault(name, seconds=60)
    connection = wire()
    connection.read(0.3)
    assert xendit.requests[-1].duration_s is None
    connection.close()
    until = time.monotonic() + 5
    while xendit.requests[-1].duration_s is None:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert xendit.requests[-1].duration_s >= 0.3
    xendit_api.get("/v2/invoices")
    assert 0 <= xendit.requests[-1].duration_s < 5


@pytest.mark.parametrize(
    ("name", "on"), [("flood", "create"), ("reorder", "create"), ("gzip_bomb", "webhook")]
)
def test_a_fault_that_does_not_exist_there_is_refused(xendit, name, on):
    with pytest.raises(httpx.HTTPStatusError, match=name):
        xendit.fault(name, on=on)


def test_a_gateway_that_is_down_refuses_connections_and_comes_back_with_what_it_knew(
    servers, xendit, invoices, browser
):
    invoices.create()
    servers.go_down("xendit")
    with pytest.raises(httpx.ConnectError):
        browser.get(xendit.url)
    servers.come_back("xendit")
    assert len(xendit.payments) == 1


def test_every_fault_is_documented(request):
    readme = (request.path.parents[1] / "README.md").read_text()
    for name in REQUEST_FAULTS | WEBHOOK_FAULTS:
        assert f"`{name}`" in readme, name
