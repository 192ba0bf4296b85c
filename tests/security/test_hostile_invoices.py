"""
POST /invoices: every rule of sections 2 and 3 of the product has a refusal with an exact pointer, and nothing
is written.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

PRICE, QUANTITY, RATE = "#/line_items/0/unit_price", "#/line_items/0/quantity", "#/line_items/0/tax_rate"
NUMBERS = [
    *[
        b"-1",
        b"-0",
        b"-0.0",
        b"0",
        b"1e3",
        b"1E3",
        b"1e999",
        b"-1e999",
        b"1E+1000000",
        b"1e-2",
        b"1" * 20,
        b"9" * 400,
        b"true",
        b"null",
    ],
    *[b"[]", b"{}", b"[1]", b'{"amount": 1}', b"9223372036854775808"],
]
TEXTS = [
    *[
        "",
        " ",
        "0",
        "-1",
        "-0",
        "+5",
        "1_000",
        "1,000",
        " 12 ",
        "12 ",
        "1.",
        ".5",
        "1..5",
        "0x10",
        "007",
        "1e3",
        "1e999",
        "1E+1000000",
    ],
    *[
        "NaN",
        "sNaN",
        "Infinity",
        "-Infinity",
        "1" * 20,
        "9" * 400,
        "9223372036854775808",
        "\u0661\u0662",
        "\uff15",
        "\u00bd",
        "1\u00a0000",
    ],
    *["Rp 5", "5 IDR", "1\n", "1\t", "\\u0031", "12345.6789012", "None", "true"],
]


@pytest.fixture
def refused(shop, problem, nothing_written):
    """Post a body that must be refused, and check where the blame is put."""

    def refuse(body, *pointers, code="invalid_request", status=400):
        return problem(shop.api.post("/invoices", json=body), status, code, list(pointers))

    return refuse


@pytest.fixture
def refused_line(shop, refused):
    def refuse(change, *pointers, currency="IDR", code="invalid_request"):
        body = shop.body(currency=currency)
        body["line_items"][0] |= change
        return refused(body, *pointers, code=code)

    return refuse


# --- money ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number.decode()[:30])
def test_a_price_that_is_no_exact_amount_is_refused_as_a_number(shop, problem, nothing_written, number):
    body = shop.body(currency="USD")
    body["line_items"][0]["unit_price"] = "@"
    content = shop.api.build_request("POST", "/invoices", json=body).content.replace(b'"@"', number)
    answer = shop.api.post("/invoices", content=content, headers={"content-type": "application/json"})
    problem(answer, 400, "invalid_request", [PRICE])


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: ascii(text)[:30])
def test_a_price_that_is_no_exact_amount_is_refused_as_a_string(refused_line, text):
    refused_line({"unit_price": text}, PRICE, currency="USD")


@pytest.mark.parametrize(
    ("currency", "price"),
    [
        ("IDR", "1.5"),
        ("IDR", "1.0"),
        ("IDR", 1.5),
        ("USD", "1.999"),
        ("USD", 1.999),
        ("MYR", "0.001"),
        ("USD", "1.990"),
        ("USD", "0.00"),
    ],
)
def test_more_decimals_than_the_currency_has_are_refused_and_never_rounded(refused_line, currency, price):
    refused_line({"unit_price": price}, PRICE, currency=currency)


@pytest.mark.parametrize("quantity", [0, -1, 10**12 + 1, 2**63, 10**30])
def test_a_quantity_is_a_whole_number_from_one(refused_line, quantity):
    refused_line({"quantity": quantity}, QUANTITY)


@pytest.mark.parametrize(("quantity", "price"), [(2, 2**63 - 1), (10**12, "9223373"), (2**31, str(2**32))])
def test_a_line_over_the_range_of_bigint_is_refused(refused_line, quantity, price):
    refused_line({"quantity": quantity, "unit_price": price}, QUANTITY)


def test_lines_whose_sum_is_over_the_range_of_bigint_are_refused(shop, refused):
    line = shop.body()["line_items"][0] | {"quantity": 1, "unit_price": str(2**62)}
    refused(shop.body() | {"line_items": [line, line]}, "#/line_items")


@pytest.mark.parametrize(("rate", "price"), [("1", 2**62), ("0.11", 2**63 - 1), ("0", 2**63 - 1)])
def test_a_total_with_tax_and_fee_over_the_range_of_bigint_is_refused(shop, refused, rate, price):
    line = shop.body()["line_items"][0] | {"quantity": 1, "unit_price": price, "tax_rate": rate}
    refused(shop.body() | {"line_items": [line]}, "#/line_items")


@pytest.mark.parametrize(
    "rate",
    [
        "",
        "1.0001",
        "1.1",
        "2",
        "-0.1",
        "0.12345",
        "11%",
        "NaN",
        "1e-2",
        " 0.1",
        ".1",
        1.5,
        -1,
        True,
        [],
        {},
        "\u0661",
    ],
)
def test_a_tax_rate_is_from_zero_to_one_with_at_most_four_decimals(refused_line, rate):
    refused_line({"tax_rate": rate}, RATE)


@pytest.mark.parametrize(
    "currency", ["XXX", "idr", "IDR ", "RP", "", "US$", "USDT", "\u0130DR", "ABCDEFGHIJK"]
)
def test_an_unknown_currency_has_its_own_code(shop, problem, nothing_written, currency):
    too_long = not 1 <= len(currency) <= 10
    answer = shop.api.post("/invoices", json=shop.body() | {"currency": currency})
    problem(answer, 400, "invalid_request" if too_long else "invalid_currency", ["#/currency"])


@pytest.mark.parametrize("gateway", ["midtrans", "xendit"])
def test_a_currency_that_the_gateway_account_does_not_collect_is_refused(shop, refused, gateway):
    refused(shop.body(gateway, currency="PHP"), "#/currency", code="invalid_currency")


# --- the rest of a line and of an invoice --------------------------------------------------------------------------------------


@pytest.mark.parametrize("country", ["XX", "id", "ZZ", "1D", "  ", "\u0130D"])
def test_an_unknown_country_is_refused(shop, refused, refused_line, country):
    refused_line({"country_code": country}, "#/line_items/0/country_code")
    refused(shop.body(customer={"country": country}), "#/customer/country")


@pytest.mark.parametrize(
    "change",
    [
        {"product_name": ""},
        {"product_name": "x" * 256},
        {"tax_category": ""},
        {"tax_category": "x" * 51},
        {"country_code": "IDN"},
        {"country_code": ""},
        {"unit_price": "1" * 200},
    ],
)
def test_a_text_of_a_line_has_limits(refused_line, change):
    refused_line(change, f"#/line_items/0/{next(iter(change))}")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("external_id", ""),
        ("external_id", "x" * 256),
        ("description", ""),
        ("description", "x" * 1001),
        ("line_items", []),
        ("metadata", {f"key {n}": "x" for n in range(51)}),
        ("metadata", ["x"]),
        ("gateway_id", "xendit"),
        ("gateway_id", "{01935c1e-0000-7000-8000-000000000000}"),
        ("gateway_id", "01935c1e-0000-7000-8000-00000000beef"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_field_over_its_limits_is_refused(shop, refused, field, value):
    refused(shop.body() | {field: value}, f"#/{field}")


@pytest.mark.parametrize(
    ("name", "value"),
    [("", "x"), ("x" * 41, "x"), ("x", "x" * 501), ("x", 1), ("x", None), ("x", {"y": "z"})],
    ids=lambda value: str(value)[:20],
)
def test_a_key_of_metadata_that_is_refused_is_pointed_at(shop, refused, name, value):
    refused(shop.body() | {"metadata": {"key": "x", name: value}}, f"#/metadata/{name}")


@pytest.mark.parametrize("field", ["success_url", "failure_url"])
@pytest.mark.parametrize(
    "url",
    [
        *[
            "",
            "javascript:alert(1)",
            "JAVASCRIPT:alert(1)",
            "data:text/html,x",
            "vbscript:x",
            "file:///etc/passwd",
            "ftp://example.com",
        ],
        *[
            "//example.com",
            "/thanks",
            "example.com",
            "https://",
            "https:///x",
            "http://[",
            "http://[::1",
            "https://ex ample.com",
            "https:\\x",
        ],
        *[
            "https://example.com/\n",
            "\thttps://example.com",
            " https://example.com",
            "https://ex\u00e4mple.com",
            "https://example.com/" + "x" * 250,
        ],
    ],
    ids=lambda url: ascii(url)[:40],
)
def test_a_payer_is_only_ever_sent_to_web_addresses(shop, refused, field, url):
    refused(shop.body() | {field: url}, f"#/{field}")


@pytest.mark.parametrize(
    "email",
    [
        "x",
        "a@",
        "@b",
        "a@b",
        "a b@c.d",
        "a@b@c.d",
        "a@b.c\n",
        "\na@b.c",
        "a@b..c",
        "a@.c",
        "a@b.",
        "x" * 250 + "@b.cd",
        "a@b.c\u2028d e",
        "siti..nur@example.com",
        "siti.@example.com",
        "a,b@example.com",
        "siti@localhost",
        "siti@test",
        "siti@shop.local",
        "s\u00efti@example.com",
        "x" * 65 + "@example.com",
    ],
    ids=lambda email: ascii(email)[:20],
)
def test_an_email_address_has_the_form_of_one(shop, refused, email):
    refused(shop.body(customer={"email": email}), "#/customer/email")


@pytest.mark.parametrize(
    "phone",
    [
        "",
        "12",
        "abc",
        "+",
        "+++",
        "---",
        "0812\n",
        "0812x34",
        "\u0660\u0661\u0662\u0663",
        "1" * 33,
        "+62;drop",
        "+62 1",
        "+999 812 3456 7890",
        "+62 812 3456 7890 1234 5",
    ],
    ids=ascii,
)
def test_a_phone_number_has_the_form_of_one(shop, refused, phone):
    refused(shop.body(customer={"phone": phone}), "#/customer/phone")


def test_a_national_phone_number_has_a_length_of_its_country(shop, refused):
    refused(shop.body(customer={"phone": "08123", "country": "ID"}), "#/customer/phone")


def ago(**delta):
    return (datetime.now(UTC) + timedelta(**delta)).isoformat()


@pytest.mark.parametrize(
    "expires_at",
    [
        *[
            "soon",
            "",
            "2026-11-22",
            "2030-01-01T00:00:00",
            "2030-02-30T00:00:00Z",
            "10000-01-01T00:00:00Z",
            1_900_000_000,
            1e999,
            True,
            [],
        ],
        *[
            "0001-01-01T00:00:00Z",
            "0001-01-01T00:00:00+14:00",
            "9999-12-31T23:59:59-12:00",
            "9999-12-31T23:59:59Z",
        ],
        *[
            lambda: ago(minutes=59),
            lambda: ago(days=-1),
            lambda: ago(days=30, minutes=1),
            lambda: ago(seconds=0),
        ],
    ],
    ids=lambda value: "relative" if callable(value) else str(value),
)
def test_an_invoice_expires_in_one_hour_to_thirty_days(shop, problem, nothing_written, expires_at):
    value = expires_at() if callable(expires_at) else expires_at
    body = shop.api.build_request("POST", "/invoices", json=shop.body(expires_at="@")).content
    content = body.replace(
        b'"@"',
        b"1e999"
        if value == 1e999
        else f'"{value}"'.encode()
        if isinstance(value, str)
        else str(value).lower().encode(),
    )
    problem(
        shop.api.post("/invoices", content=content, headers={"content-type": "application/json"}),
        400,
        "invalid_request",
        ["#/expires_at"],
    )


# --- accounts -------------------------------------------------------------------------------------------------------------


def test_another_tenants_gateway_account_is_as_unknown_as_none(shop, make_merchant, problem, database):
    other = make_merchant()
    before = database.count()
    answers = [
        shop.api.post("/invoices", json=shop.body() | {"gateway_id": one})
        for one in (other.xendit_id, str(uuid4()))
    ]
    first, second = (problem(answer, 400, "invalid_request", ["#/gateway_id"]) for answer in answers)
    assert first | {"request_id": ""} == second | {"request_id": ""}
    assert database.count() == before


def test_a_disabled_gateway_account_takes_no_new_invoices(make_merchant, admin, problem):
    merchant = make_merchant()
    admin.patch(f"/gateway-accounts/{merchant.xendit_id}", json={"disabled": True}).raise_for_status()
    problem(merchant.api.post("/invoices", json=merchant.body()), 400, "invalid_request", ["#/gateway_id"])
    admin.patch(f"/gateway-accounts/{merchant.xendit_id}", json={"disabled": False}).raise_for_status()
    assert merchant.invoice()["status"] == "pending"


def test_a_currency_taken_from_an_account_is_refused_from_then_on(make_merchant, admin, problem):
    merchant = make_merchant()
    admin.patch(
        f"/gateway-accounts/{merchant.xendit_id}", json={"currencies": {"USD": {}}}
    ).raise_for_status()
    problem(merchant.api.post("/invoices", json=merchant.body()), 400, "invalid_currency", ["#/currency"])


# --- all at once ------------------------------------------------------------------------------------------------------------


def test_all_mistakes_are_reported_at_once(shop, refused):
    line = shop.body()["line_items"][0]
    body = shop.body() | {
        "gateway_id": str(uuid4()),
        "line_items": [
            line | {"unit_price": "1.5", "tax_rate": "2", "country_code": "XX"},
            line,
            line | {"unit_price": "0"},
            line | {"quantity": 10**12, "unit_price": str(10**9)},
        ],
        "expires_at": ago(minutes=1),
        "customer": {"email": "x@y", "phone": "abc", "country": "YY"},
        "success_url": "javascript:1",
        "failure_url": "nowhere",
    }
    refused(
        body,
        "#/gateway_id",
        "#/line_items/0/unit_price",
        "#/line_items/0/tax_rate",
        "#/line_items/0/country_code",
        "#/line_items/2/unit_price",
        "#/line_items/3/quantity",
        "#/expires_at",
        "#/customer/country",
        "#/customer/email",
        "#/customer/phone",
        "#/success_url",
        "#/failure_url",
    )


def test_a_wrong_currency_does_not_hide_the_other_mistakes(shop, refused):
    body = shop.body(currency="XXX", expires_at=ago(minutes=1), success_url="nowhere")
    refused(body, "#/currency", "#/expires_at", "#/success_url", code="invalid_currency")


def test_five_hundred_wrong_lines_are_reported_in_one_answer(shop, problem, nothing_written):
    lines = [{"product_name": "x", "quantity": 1, "unit_price": "0"}] * 500
    told = shop.api.post("/invoices", json=shop.body() | {"line_items": lines}).json()
    assert len(told["errors"]) == 500


# --- and what is just inside the limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"unit_price": 150000}, "150000"),
        ({"unit_price": "1"}, "1"),
        ({"unit_price": "19.99"}, "19.99"),
        ({"unit_price": 19.99}, "19.99"),
        ({"unit_price": 19.9}, "19.90"),
        ({"unit_price": "20"}, "20.00"),
        ({"unit_price": 0.01}, "0.01"),
    ],
)
def test_an_amount_is_exact_however_it_was_written(shop, change, shown):
    currency = "USD" if "." in shown else "IDR"
    body = shop.body(currency=currency)
    body["line_items"][0] |= change
    answer = shop.api.post("/invoices", json=body)
    assert answer.status_code == 201, answer.text
    assert answer.json()["line_items"][0]["unit_price"] == shown


@pytest.mark.parametrize("gateway", ["xendit", "midtrans"])
def test_five_hundred_lines_are_accepted(shop, gateway):
    lines = [
        {"product_name": f"Item {n}", "quantity": n, "unit_price": "1000", "tax_rate": "0.11"}
        for n in range(1, 501)
    ]
    answer = shop.api.post("/invoices", json=shop.body(gateway) | {"line_items": lines})
    assert answer.status_code == 201, answer.text
    assert answer.json()["subtotal_amount"] == "125250000"
    assert [line["quantity"] for line in answer.json()["line_items"]] == list(range(1, 501))


def test_everything_at_its_limit_is_accepted(shop):
    body = shop.body(
        external_id="x" * 255,
        description="\u00e9" * 1000,
        metadata={f"{n:040}": "\U0001f600" * 500 for n in range(50)},
        customer={
            "name": "\u540d" * 255,
            "email": "siti+x@mail.example.co.id",
            "phone": "+62 (812) 3456-7890",
            "country": "ID",
        },
        success_url="https://example.com/" + "x" * 235,
        failure_url="http://127.0.0.1:8000/?a=b#c",
        expires_at=ago(days=29, hours=23, minutes=59),
    )
    body["line_items"][0] |= {
        "product_name": "\u540d" * 255,
        "tax_rate": "1.0000",
        "tax_category": "x" * 50,
        "country_code": "ID",
    }
    answer = shop.api.post("/invoices", json=body)
    assert answer.status_code == 201, answer.text
    told = answer.json()
    assert told["line_items"][0]["tax_rate"] == "1"
    assert {name: told[name] for name in ("metadata", "customer", "description", "success_url")} == {
        name: body[name] for name in ("metadata", "customer", "description", "success_url")
    }


@pytest.mark.parametrize(
    "text",
    [
        "\u202egnp.exe",
        "\u200b",
        "'; DROP TABLE invoices; --",
        "<script>",
        "\U0001f469\u200d\U0001f680",
        "a\tb\nc",
        "{}%s\\u0000",
        "\x85",
    ],
)
def test_a_text_comes_back_as_it_was_given(shop, text):
    body = shop.body(description=text, metadata={"x": text}, external_id=f"{text}{uuid4()}")
    body["line_items"][0]["product_name"] = text
    made = shop.api.post("/invoices", json=body)
    assert made.status_code == 201, made.text
    told = shop.get(made.json())
    assert (told["description"], told["metadata"], told["line_items"][0]["product_name"]) == (
        text,
        {"x": text},
        text,
    )
    found = shop.api.get("/invoices", params={"external_id": body["external_id"]}).json()["invoices"]
    assert [one["invoice_id"] for one in found] == [told["invoice_id"]]
