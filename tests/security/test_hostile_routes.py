"""
Bad input on every route of the OpenAPI document: always a problem with a code and a pointer, never a 500,
nothing written.
"""

from __future__ import annotations

import copy
import json
import re
from urllib.parse import quote

import pytest

pytestmark = pytest.mark.usefixtures("nothing_written")

JSON = {"content-type": "application/json"}
WRONG = {
    "string": [1, True, [], {}, 1.5],
    "integer": ["1", 1.5, True, [], {}, 1e300],
    "boolean": ["true", 0, [], {}],
    "array": ["x", 1, {}, False],
    "object": ["x", 1, [], False],
}
PYTHON = re.compile(r"`|\bstr\b|\bint\b|\bbool\b|\barray\b|\buuid\b|enum|RFC ?3339")
"""Words of a programming language, which those who call an API need not know."""
NOT_EVEN_JSON = {
    "white space": b" \n ",
    "text": b"hello",
    "single quotes": b"{'name': 'x'}",
    "a comment": b"{} // {}",
    "two values": b"{}{}",
    "a trailing comma": b'{"name": "x",}',
    "half an object": b'{"name": "x"',
    "NaN": b'{"name": NaN}',
    "Infinity": b'{"name": -Infinity}',
    "a leading zero": b'{"name": 007}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"name": "x"}'.encode("utf-16"),
    "invalid UTF-8": b'{"name": "\xff\xfe"}',
    "overlong UTF-8": b'{"name": "\xc0\xaf"}',
    "a raw surrogate": b'{"name": "\xed\xa0\x80"}',
    "a raw NUL": b'{"name": "\x00"}',
    "a raw DEL": b'{"name": "\x7f"}',
    "a raw U+FFFE": '{"name": "\ufffe"}'.encode(),
    "an escaped NUL": b'{"name": "a\\u0000b"}',
    "an escaped control character": b'{"name": "\\u001b[31m"}',
    "an escaped backspace": b'{"name": "\\b"}',
    "an escaped U+FFFF": b'{"name": "\\uFFFF"}',
    "a lone high surrogate": b'{"name": "\\ud800"}',
    "a lone low surrogate": b'{"name": "\\udc00 x"}',
    "an unknown escape": b'{"name": "\\x41"}',
    "arrays 100,000 deep": b"[" * 100_000 + b"]" * 100_000,
    "arrays that never close": b"[" * 200_000,
    "objects 40,000 deep": b'{"a":' * 40_000 + b"1" + b"}" * 40_000,
    "a deep value behind strings full of quotes": b'{"name": "'
    + b'\\"[' * 50
    + b'", "x": '
    + b"[" * 40
    + b"]" * 40
    + b"}",
}


@pytest.fixture
def with_body(routes):
    found = [route for route in routes if route.schema is not None]
    assert len(found) >= 5
    return found


def put(body, path, value):
    """A copy of *body* with *value* at *path*."""
    changed = copy.deepcopy(body)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


def without(body, path):
    changed = copy.deepcopy(body)
    place = changed
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    return changed


def at(path):
    return "#" + "".join(f"/{part}" for part in path)


# --- bodies ---------------------------------------------------------------------------------------------------------------


def test_a_value_of_the_wrong_type_is_refused_with_a_pointer_to_it(with_body, call, problem):
    for route in with_body:
        whole = route.sample()
        for path, schema, _ in route.fields():
            for wrong in WRONG.get(schema.get("type"), []):
                answer = call(route, json=put(whole, path, wrong))
                told = problem(answer, 400, "invalid_request", [at(path)])
                assert not PYTHON.search(told["errors"][0]["detail"]), told


def test_all_that_is_wrong_is_said_at_once_down_to_the_key(call, problem, routes):
    [route] = [route for route in routes if repr(route) == "POST /invoices"]
    line = {"product_name": "", "quantity": "1", "surprise": 1}
    body = {
        "gateway_id": "x",
        "currency": 1,
        "line_items": [line, 2],
        "metadata": {"cart": 1},
        "expires_at": "tomorrow",
    }
    errors = problem(call(route, json=body), 400, "invalid_request")["errors"]
    assert {error["pointer"]: error["detail"] for error in errors} == {
        "#/gateway_id": "expected a UUID",
        "#/currency": "expected a text of 1 to 10 characters, got a number",
        "#/line_items/0/product_name": "expected a text of 1 to 255 characters",
        "#/line_items/0/quantity": "expected a whole number from 1 to 1000000000000, got a text",
        "#/line_items/0/unit_price": "this field is required",
        "#/line_items/0/surprise": "there is no such field",
        "#/line_items/1": "expected an object, got a number",
        "#/metadata/cart": "expected a text of at most 500 characters, got a number",
        "#/expires_at": "expected a time such as 2026-11-22T10:00:00Z, with an offset or Z",
    }


def test_allowed_values_are_said(call, problem, routes):
    [create_key] = [route for route in routes if repr(route) == "POST /api-keys"]
    [list_invoices] = [route for route in routes if repr(route) == "GET /invoices"]
    body = create_key.sample() | {"scopes": ["raed"]}
    [error] = problem(call(create_key, json=body), 400, "invalid_request", ["#/scopes/0"])["errors"]
    assert error["detail"] == "expected one of read, write"
    [error] = problem(call(list_invoices, params={"status": "PAID"}), 400, "invalid_request")["errors"]
    assert error["parameter"] == "status"
    assert error["detail"].startswith("expected one of draft, pending, ")


def test_a_missing_field_is_refused_with_a_pointer_to_where_it_belongs(with_body, call, problem):
    for route in with_body:
        whole = route.sample()
        for path in [path for path, _, required in route.fields() if required]:
            problem(call(route, json=without(whole, path)), 400, "invalid_request", [at(path)])


def test_null_where_a_value_is_required_is_refused_with_a_pointer_to_it(with_body, call, problem):
    for route in with_body:
        whole = route.sample()
        for path in [path for path, schema, required in route.fields() if required and "type" in schema]:
            problem(call(route, json=put(whole, path, None)), 400, "invalid_request", [at(path)])


@pytest.mark.parametrize("name", ["surprise", "__proto__", "id", "a/b~c", "", "%00", "ä\n"])
def test_an_unknown_field_is_refused_at_every_depth(with_body, call, problem, name):
    for route in with_body:
        for path in route.objects():
            escaped = name.replace("~", "~0").replace("/", "~1")
            problem(
                call(route, json=put(route.sample(), (*path, name), 1)),
                400,
                "invalid_request",
                [at((*path, escaped))],
            )


def test_a_field_given_twice_is_refused_with_a_pointer_to_it(with_body, call, problem):
    for route in with_body:
        text = json.dumps(route.sample())
        for path in [path for path, _, _ in route.fields() if isinstance(path[-1], str)]:
            pair = f'"{path[-1]}": '
            if text.count(pair) == 1:
                answer = call(route, content=text.replace(pair, f"{pair}null, {pair}").encode(), headers=JSON)
                # A null that the field cannot be is noticed first.
                problem(answer, 400, "invalid_request", [at(path)])


def test_a_text_over_its_limit_is_refused_and_not_sent_back_whole(with_body, call, problem):
    for route in with_body:
        whole = route.sample()
        for path, schema, _ in route.fields():
            if schema.get("type") == "string" and "enum" not in schema:
                problem(call(route, json=put(whole, path, "x" * 200_000)), 400, "invalid_request", [at(path)])


def test_a_huge_name_of_an_unknown_field_is_not_sent_back(with_body, call, problem):
    for route in with_body:
        told = problem(call(route, json={"x" * 200_000: 1}), 400, "invalid_request")
        assert {"pointer": "#", "detail": "there is no such field"} in told["errors"]


def test_a_list_or_map_over_its_limit_is_refused(with_body, call, problem):
    for route in with_body:
        whole = route.sample()
        for path, schema, _ in route.fields():
            if schema.get("type") == "array":
                many = [route.sample(schema["items"])] * (schema.get("maxItems", 1_000) + 1)
                for wrong in [many, *([[]] if schema.get("minItems") else [])]:
                    problem(call(route, json=put(whole, path, wrong)), 400, "invalid_request", [at(path)])


@pytest.mark.parametrize(
    "number",
    [b"1e999", b"-1e999", b"1E+1000000", b"9" * 400, b"9" * 5_000, b"-" + b"9" * 30, b"-1", b"-0.5", b"0.1"],
)
def test_a_number_that_is_no_count_is_refused(with_body, call, problem, number):
    for route in with_body:
        whole = route.sample()
        for path in [path for path, schema, _ in route.fields() if schema.get("type") == "integer"]:
            body = json.dumps(put(whole, path, "@")).encode().replace(b'"@"', number)
            problem(call(route, content=body, headers=JSON), 400, "invalid_request", [at(path)])


@pytest.mark.parametrize("body", NOT_EVEN_JSON.values(), ids=NOT_EVEN_JSON)
def test_what_is_not_json_we_accept_is_malformed(with_body, call, problem, body):
    for route in with_body:
        # Where the mistake lies behind an unknown or missing field, that is noticed first.
        problem(call(route, content=body, headers=JSON), 400, {"malformed_body", "invalid_request"})


@pytest.mark.parametrize("body", [b"null", b"[]", b'"x"', b"1", b"true", b"9" * 5_000, b""])
def test_a_body_that_is_no_object_is_refused_as_a_whole(with_body, call, problem, body):
    for route in with_body:
        problem(call(route, content=body, headers=JSON), 400, "invalid_request", ["#"])


@pytest.mark.parametrize("size", [300_000, 1_000_000])
def test_a_body_over_the_limit_is_413(with_body, call, problem, size):
    for route in with_body:
        problem(call(route, content=b'{"name": "' + b"x" * size + b'"}', headers=JSON), 413, "body_too_large")


def test_a_large_body_that_streams_without_a_length_is_413(with_body, call, problem):
    for route in with_body:
        problem(call(route, content=iter([b"[" * 65_536] * 5), headers=JSON), 413, "body_too_large")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "application/msgpack"},
        {"content-type": ";;="},
        JSON | {"content-encoding": "gzip"},
        JSON | {"content-encoding": "br, identity"},
    ],
    ids=lambda headers: " ".join(headers.values()) or "none",
)
def test_a_body_that_does_not_say_it_is_plain_json_is_415(with_body, call, problem, headers):
    for route in with_body:
        problem(
            call(route, content=json.dumps(route.sample()).encode(), headers=headers),
            415,
            "unsupported_media_type",
        )


# Quadratic scans have been here: 32 KB of these took minutes.
@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "filler", [b'\\"', b'"', b"\\", b'"\\', b"[]", b"{", b'"[', b"\\\\u0000", b"1e1,", b'"a":1,']
)
def test_no_body_takes_long_to_refuse(with_body, call, problem, filler):
    for route in with_body:
        body = b"[" * 33 + b'"' + filler * (250_000 // len(filler))
        answer = call(route, content=body, headers=JSON)
        problem(answer, 400, "malformed_body")
        assert answer.elapsed.total_seconds() < 1


# --- card numbers ---------------------------------------------------------------------------------------------------------

CARD = "4111 1111 1111 1111"


def with_a_card(route):
    """
    Every text field of the body but the external_id, with a card number in it; every map of texts, with one as
    a name and as a value.
    """
    whole = route.sample()
    for path, schema, _ in route.fields():
        if (
            schema.get("type") == "string"
            and path[-1] != "external_id"
            and not {"enum", "format"} & set(schema)
            and schema.get("maxLength", 100) >= len(CARD)
        ):
            yield path, put(whole, path, CARD)
        elif schema.get("type") == "object" and "properties" not in schema:
            inner = schema.get("additionalProperties", {})
            inner = route.resolve(inner) if inner else {"type": "string"}
            yield path, put(whole, path, {CARD: route.sample(inner)})
            if inner["type"] == "string":
                yield (*path, "x"), put(whole, path, {"x": CARD})


def test_a_card_number_is_refused_in_every_text_and_never_said_again(with_body, call, problem):
    """D16, on every field of every body that the OpenAPI document has."""
    tried = set()
    for route in with_body:
        for path, body in with_a_card(route):
            answer = call(route, json=body)
            problem(answer, 422, "card_number", [at(path)])
            assert CARD not in answer.text
            tried.add(path[-1] if isinstance(path[-1], str) else path[-2])
    assert {
        "name",
        "description",
        "product_name",
        "tax_category",
        "success_url",
        "metadata",
        "phone",
        "email",
    } <= tried


def test_a_card_number_is_not_said_again_whatever_else_is_wrong(with_body, call, problem):
    digits = CARD.replace(" ", "")
    for route in with_body:
        for body in ({digits: 1}, {CARD: {}}, route.sample() | {digits: CARD}):
            answer = call(route, json=body)
            problem(answer, 400, "invalid_request")
            assert digits not in answer.text
            assert CARD not in answer.text


def test_a_card_number_is_no_filter_no_idempotency_key_and_no_request_id(routes, call, problem):
    digits = CARD.replace(" ", "")
    for route in routes:
        for parameter in route.parameters["query"]:
            if (
                parameter["name"] != "external_id"
                and route.resolve(parameter["schema"]).get("type") == "string"
                and "format" not in route.resolve(parameter["schema"])
            ):
                answer = call(route, params={parameter["name"]: digits})
                problem(answer, 400, "invalid_request", [f"#/{parameter['name']}"])
                assert digits not in answer.text
        if route.method in {"POST", "PATCH"} and route.audience != "public":
            answer = call(
                route, json=route.sample() if route.schema else None, headers={"Idempotency-Key": digits}
            )
            problem(answer, 422, "card_number", ["#/Idempotency-Key"])
            assert digits not in answer.text
        assert call(route, headers={"x-request-id": digits}).headers["x-request-id"] != digits


# --- queries --------------------------------------------------------------------------------------------------------------

BAD_QUERY = {
    "integer": [
        "0",
        "-1",
        "1" + "0" * 30,
        "abc",
        "",
        "1.5",
        "1e999",
        "1E+1000000",
        "1_0",
        "+1",
        " 1",
        "NaN",
        "\u0661",
        "\x00",
        "0x10",
    ],
    "uuid": [
        "x",
        "",
        "\x00",
        "01935c1e-0000-7000-8000-00000000000",
        "{01935c1e-0000-7000-8000-000000000000}",
        "1" * 5_000,
    ],
    "date-time": [
        *[
            "junk",
            "",
            "\x00",
            "2026-01-01",
            "2026-01-01T00:00:00",
            "2026-02-30T00:00:00Z",
            "10000-01-01T00:00:00Z",
            "1700000000",
            "-1",
        ],
        *["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "NaN", "1e999", "9" * 5_000],
    ],
    "enum": ["", "x", "PAID", "\x00", "1" * 5_000],
    "string": ["\x00", "a\x00b", "\x1b[31m", "\ufffe", "x" * 5_000],
}


def test_a_bad_query_parameter_is_refused_with_a_pointer_to_it(routes, call, problem):
    refused = 0
    for route in routes:
        for parameter in route.parameters["query"]:
            schema, name = route.resolve(parameter["schema"]), parameter["name"]
            kind = "enum" if "enum" in schema else schema.get("format", schema["type"])
            for value in BAD_QUERY[kind]:
                told = problem(call(route, params={name: value}), 400, "invalid_request", [f"#/{name}"])
                assert told["errors"][0]["parameter"] == name
                assert not PYTHON.search(told["errors"][0]["detail"]), told
                refused += 1
    assert refused > 50


@pytest.mark.parametrize(
    "cursor", ["", "abc", "AAAA", "A" * 23, "%", "ä", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "../../etc"]
)
def test_a_cursor_we_did_not_make_is_refused(routes, call, problem, cursor):
    paged = [
        route
        for route in routes
        if any(parameter["name"] == "cursor" for parameter in route.parameters["query"])
    ]
    assert len(paged) >= 4
    for route in paged:
        problem(call(route, params={"cursor": cursor}), 400, "invalid_request", ["#/cursor"])


@pytest.mark.parametrize("name", ["stauts", "Limit", "limit[]", "", "$where", "a" * 3_000])
def test_an_unknown_parameter_is_refused_rather_than_passed_over(routes, call, problem, name):
    for route in routes:
        if route.method == "GET" and route.audience != "public":
            problem(call(route, params={name: "1"}), 400, "invalid_request", [f"#/{name[:300]}"])


def test_a_parameter_given_twice_is_refused(routes, call, problem):
    for route in routes:
        for parameter in route.parameters["query"]:
            name = parameter["name"]
            problem(call(route, params=[(name, "1"), (name, "2")]), 400, "invalid_request", [f"#/{name}"])


@pytest.mark.parametrize(
    "query", ["external_id=%FF", "external_id=%ED%A0%80", "external_id=%zz", "external_id='%20OR%201=1--"]
)
def test_a_filter_that_matches_nothing_finds_nothing(shop, query):
    answer = shop.api.get(f"/invoices?{query}")
    assert (answer.status_code, answer.json()) == (200, {"invoices": [], "next_cursor": None})


# --- paths and methods -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "junk",
    [
        *[
            "x",
            "0",
            "-1",
            "null",
            "%00",
            "%FF",
            "%E2%80%AE",
            "..%2f..",
            "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
            "'--",
            "{}",
            "%0d%0aX-A:1",
        ],
        *[
            "01935c1e-0000-7000-8000-00000000000g",
            "01935c1e-0000-7000-8000-0000000000000",
            "urn:uuid:x",
            "a" * 3_000,
        ],
    ],
    ids=lambda junk: junk[:40],
)
def test_an_id_that_cannot_exist_is_not_found(routes, call, problem, junk):
    # With a slash in it, it is another path, which may take other methods.
    expected = {404: "not_found", 405: "method_not_allowed"} if "%2f" in junk else {404: "not_found"}
    for route in routes:
        if route.parameters["path"]:
            problem(
                call(route, route.url(junk), **({"json": route.sample()} if route.schema else {})),
                set(expected),
                set(expected.values()),
            )


def test_an_id_that_does_not_exist_is_not_found(routes, call, problem):
    for route in routes:
        if route.parameters["path"]:
            problem(call(route, **({"json": route.sample()} if route.schema else {})), 404, "not_found")


@pytest.mark.parametrize(
    "method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT"]
)
def test_a_method_that_a_path_does_not_take_is_405_and_says_which_it_takes(
    routes, anonymous, problem, method
):
    paths = {route.path: route.url() for route in routes}
    for path, url in paths.items():
        taken = {route.method for route in routes if route.path == path}
        taken |= {"HEAD"} if "GET" in taken else set()
        if method not in taken:
            answer = anonymous.request(method, url)
            assert answer.status_code == 405
            assert taken <= set(answer.headers["allow"].split(", "))
            if method != "HEAD":
                problem(answer, 405, "method_not_allowed")


def test_head_works_where_get_does(routes, call, anonymous):
    pages = ["/docs", "/openapi.json", "/docs/assets/docs.js"]
    asked = [
        (route, route.url()) for route in routes if route.method == "GET" and not route.parameters["path"]
    ]
    answers = [
        (call(route), anonymous.head(url) if route.audience == "public" else None) for route, url in asked
    ]
    answers += [(anonymous.get(page), anonymous.head(page)) for page in pages]
    for got, head in answers:
        assert got.status_code == 200
        if head is not None:
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers.get("content-type", "") in got.headers["content-type"]


@pytest.mark.parametrize(
    "path",
    [
        *["/", "/nothing", "/INVOICES", "/invoices/x/y/z", "/%00", "/%FF", "/..", "/.env"],
        *[
            "/docs/assets/../app.py",
            "/docs/assets/..%2fapp.py",
            "/docs/assets/%2e%2e/app.py",
            "/docs/assets//etc/passwd",
        ],
        *[
            "/docs/assets/%00",
            "/docs/assets/" + "a" * 5_000,
            "/docs/assets/",
            "/docs/assets",
            "/webhooks",
            "/health",
        ],
    ],
    ids=lambda path: path[:40],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_there_is_nothing_at_any_other_path(service, problem, raw, method, path):
    problem(
        raw(
            f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode()
        ),
        {404, 405},
    )


def test_every_answer_to_bad_input_is_documented(routes, call):
    for route in routes:
        assert call(route, params={"cursor": "junk"}).status_code in route.documented | {404}, route
        if route.schema:
            assert {
                call(route, content=b"{", headers=JSON).status_code,
                call(route, content=b"x").status_code,
            } <= route.documented, route


@pytest.mark.parametrize("given", ["a" * 65, "a b", "a\tb", "<script>", "ä", ""])
def test_a_request_id_that_is_not_sane_is_replaced(anonymous, problem, given):
    answer = anonymous.get(f"/nothing?{quote(given)}", headers={"x-request-id": given.encode()})
    assert problem(answer, 404)["request_id"] != given


def test_a_sane_request_id_is_used(anonymous, problem):
    assert (
        problem(anonymous.get("/nothing", headers={"x-request-id": "shop-17.a_b"}), 404)["request_id"]
        == "shop-17.a_b"
    )


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/invoices?cursor=x", "cursor"),
        ("/invoices?created_from=yesterday", "created_from"),
        ("/invoices?limit=0", "limit"),
        ("/invoices?status=odd", "status"),
        ("/invoices?flag=odd", "flag"),
        ("/invoices?include=odd", "include"),
        ("/invoices?gateway_id=odd", "gateway_id"),
        ("/invoices?nothing=1", "nothing"),
        ("/invoices?limit=1&limit=2", "limit"),
    ],
)
def test_a_query_parameter_that_is_refused_is_named(shop, problem, path, name):
    told = problem(shop.api.get(path), 400, "invalid_request", [f"#/{name}"])
    assert [error["parameter"] for error in told["errors"]] == [name]
