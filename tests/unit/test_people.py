"""E-mail addresses and telephone numbers, as gateways take them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paytrust.invoices.model import people


@pytest.mark.parametrize(
    ("text", "country", "sent"),
    [
        ("+62 812 3456 7890", None, "+6281234567890"),
        ("+62 (812) 3456-7890", "MY", "+6281234567890"),
        ("+62 (0)812 3456 7890", None, "+6281234567890"),
        ("0812-3456-7890", "ID", "+6281234567890"),
        ("012-345 6789", "MY", "+60123456789"),
        ("0917 123 4567", "PH", "+639171234567"),
        ("0812-3456-7890", None, None),
    ],
)
def test_a_phone_number_is_written_in_e164(text, country, sent):
    assert people.phone(text, country) == sent


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("siti@example.com", "siti@example.com"),
        ("Siti.Nur+x@mail.example.co.id", "Siti.Nur+x@mail.example.co.id"),
        ("siti@shop.test", "siti@shop.test"),
        ("siti@b\u00fccher.example", "siti@xn--bcher-kva.example"),
    ],
)
def test_an_email_address_is_written_in_ascii(text, sent):
    assert people.email(text) == sent


@given(
    st.text(max_size=40) | st.from_regex(r"\+?[0-9 ()-]{1,32}", fullmatch=True),
    st.sampled_from(["ID", "MY", "AQ", None]),
)
def test_no_text_is_sent_as_a_phone_number_but_in_e164(text, country):
    with contextlib.suppress(ValueError):
        sent = people.phone(text, country)
        assert sent is None or (sent[0] == "+" and sent[1:].isdigit())


@given(st.text(max_size=40) | st.emails())
def test_no_text_is_sent_as_an_email_address_but_in_ascii(text):
    with contextlib.suppress(ValueError):
        assert people.email(text).isascii()
