"""What is one request, and what its answer says about a repeat."""

from __future__ import annotations

from uuid import UUID

import pytest

from paytrust.errors import Invalid
from paytrust.idempotency.model import Answer, Claim, did_nothing, fingerprint, is_final, read_key

ASKED = {
    "method": "POST",
    "route": "/invoices/{invoice_id:uuid}/cancel",
    "parameters": {"invoice_id": UUID(int=7)},
    "query": b"",
    "body": b"",
}


@pytest.mark.parametrize(
    "given",
    ["8e03978e-40d5-43dd-bc93-6894a57f9324", "a", "x" * 255, "~!#$%&'()*+,-./:;<=>?@[]^_`{|}", 'a"b', "a\\b"],
)
def test_a_bare_key_is_taken_as_it_is(given):
    assert read_key([given]) == given


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ('"abc"', "abc"),
        (' "abc"\t', "abc"),
        (r'"a\"b\\c"', r'a"b\c'),
        ('"' + "x" * 255 + '"', "x" * 255),
        (" abc ", "abc"),
    ],
)
def test_the_quoted_form_means_the_same_key(given, key):
    assert read_key([given]) == key


@pytest.mark.parametrize(
    "given",
    [
        [""],
        ["  "],
        ['""'],
        ['"'],
        ['"abc'],
        ['"abc";a=1'],
        ['"abc", "def"'],
        ['"a b"'],
        ["a b"],
        ['"a\\x"'],
        ["x" * 256],
        ['"' + "x" * 256 + '"'],
        ["ключ"],
        ["caf\xe9"],
        ["a\x00b"],
        ["a\x7f"],
        ["a\n"],
        ["abc", "abc"],
        ["\\" * 100_000],
        ['"' + "\\" * 100_001 + '"'],
    ],
)
def test_anything_else_is_refused_with_a_pointer(given):
    with pytest.raises(Invalid) as refused:
        read_key(given)
    assert [error.pointer for error in refused.value.errors] == ["#/Idempotency-Key"]
    assert len(refused.value.detail) < 200


@pytest.mark.parametrize(
    "change",
    [
        {"method": "PATCH"},
        {"route": "/invoices/{invoice_id:uuid}/payment-url"},
        {"parameters": {"invoice_id": UUID(int=8)}},
        {"parameters": {"other_id": UUID(int=7)}},
        {"query": b"installment=1"},
        {"body": b" "},
        {"query": b"a", "body": b"\n"},
    ],
)
def test_whatever_differs_is_another_request(change):
    assert fingerprint(**ASKED) != fingerprint(**ASKED | change)


def test_nothing_can_be_moved_from_one_part_of_a_request_to_the_next():
    assert fingerprint("POST", "/a", {}, b"", b'"]\nx') != fingerprint("POST", "/a", {}, b'"]\nx', b"")


def answer(status):
    return Answer(status, [], b"")


def claim(attempt):
    return Claim(UUID(int=1), "k", UUID(int=2), attempt)


@pytest.mark.parametrize("status", [200, 201, 204])
def test_a_success_is_final(status):
    assert is_final(answer(status))
    assert not did_nothing(answer(status), claim(1))


@pytest.mark.parametrize("status", [400, 404, 413, 415, 422])
def test_a_refusal_of_the_first_try_did_nothing(status):
    assert not is_final(answer(status))
    assert did_nothing(answer(status), claim(1))


@pytest.mark.parametrize("status", [409, 500, 502, 503, 504])
def test_what_may_have_come_half_way_is_neither_final_nor_nothing(status):
    assert not is_final(answer(status))
    assert not did_nothing(answer(status), claim(1))


def test_a_refusal_of_a_later_try_says_nothing_about_the_first():
    assert not did_nothing(answer(400), claim(2))
