"""
Functions that read what anonymous send, each fuzzed by itself: whatever comes, it is taken or refused in
words of ours, within 50 ms of CPU.

Inputs are true ones that were damaged, and soup. Where an input is taken, a second way to the same answer is
asked. They are made by a seeded generator and not by coverage: bodies are decoded in C, of which a
coverage-guided fuzzer sees one edge.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from ipaddress import IPv4Address, IPv6Address, ip_address
from random import Random
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec
from paytrust_midtrans import MidtransCredentials, MidtransGateway, MidtransOptions
from paytrust_xendit import XenditCredentials, XenditGateway

from paytrust import InvalidSignature, Money, UnreadableWebhook, Webhook
from paytrust.api import bodies, pagination, problems
from paytrust.errors import CardNumber, Invalid
from paytrust.installments.model import AdjustInstallments
from paytrust.invoices.model import CreateInvoice
from paytrust.money import EXPONENT, parse_percentage, parse_rate
from paytrust.security import access, urls

CPU_S: Final = 0.050
TAKEN, REFUSED = "taken", "refused"

Make = Callable[[Random], Any]


class Target(NamedTuple):
    """
    *read* takes what *make* made, and returns when it was taken. What it raises, but for *refusals*, is a
    bug.
    """

    name: str
    make: Make
    read: Callable[[Any], None]
    refusals: tuple[type[Exception], ...]


class Seen(msgspec.Struct):
    """What came of one target: how many inputs were taken and refused, and the slowest one."""

    name: str
    outcomes: Counter[str]
    slowest_ms: float = 0.0
    failure: str = ""


# --- soup -----------------------------------------------------------------------------------------------------------------

KILLERS: Final = [
    *[
        "1e999",
        "-1e999",
        "1E+1000000",
        "1E-1000000",
        "NaN",
        "sNaN",
        "Infinity",
        "-0",
        "1_000",
        " 12 ",
        "\u0661\u0662",
        "0x10",
        "007",
        "+1",
    ],
    *[
        "9" * 400,
        "0." + "0" * 4_000 + "1",
        "1" * 5_000,
        "",
        "\x00",
        "a\x00b",
        "\ud800",
        "\u202e",
        "\ufffe",
        "\ufeff",
        "%00",
        "'--",
        "${7*7}",
    ],
    *["a" * 70_000, "|" * 300, '"' * 300, "\\" * 301, "\u0130" * 200, "\U0001f4a9" * 90, ".5", "5."],
]
ALPHABETS: Final = [
    "0123456789.,eE+-_ ",
    "0123456789",
    "abcXYZ-_/:.",
    "\u0661\u00b2\uff11\u2028\ud800\udfff\x00\x7f\xff\u0131",
    '{}[]",:\\ntf1',
]
DAMAGE: Final = [
    b"\xff",
    b"\x00",
    b'"',
    b"\\",
    b"{",
    b"}",
    b"[",
    b"{" * 40,
    b"\xed\xa0\x80",
    b"\\ud800",
    b"1e999",
    b",",
    b":",
    b"NaN",
    b'\\"',
    b'"a":1,',
]
LARGE: Final = 250_000


def text(random: Random) -> str:
    kind = random.random()
    if kind < 0.3:
        return random.choice(KILLERS)
    length = int(random.expovariate(0.08))
    if kind < 0.8:
        return "".join(random.choices(random.choice(ALPHABETS), k=length))
    return "".join(chr(random.randrange(0x110000)) for _ in range(length))


def numeral(random: Random) -> str:
    whole, part = (
        str(random.randrange(10 ** random.randrange(1, 22))),
        "".join(random.choices("0123456789", k=random.randrange(6))),
    )
    return (
        random.choice(["", "", "", "", "-", "+", " ", "0"])
        + whole
        + random.choice(["", ".", ",", "e"])
        + part
    )


def number(random: Random) -> Any:
    return random.choice(
        [
            numeral,
            text,
            lambda r: r.randrange(-(10**3), 10 ** r.randrange(1, 30)),
            lambda r: Decimal(r.randrange(10**9)).scaleb(r.randrange(-40, 40)),
        ]
    )(random)


def value(random: Random, depth: int = 0) -> Any:
    kind = random.randrange(9 if depth < 4 else 7)
    if kind < 4:
        return text(random) if kind < 2 else numeral(random)
    if kind < 7:
        return random.choice([None, True, False, -1, 0, 10**30, 1.5, 1e300, float("nan"), float("inf")])
    size = random.randrange(4)
    return (
        [value(random, depth + 1) for _ in range(size)]
        if kind == 7
        else {text(random): value(random, depth + 1) for _ in range(size)}
    )


def damaged(random: Random, true: dict[str, Any]) -> bytes:
    """
    The JSON of *true* with fields changed, dropped, doubled or added, and in half of all cases its bytes
    broken.
    """
    body, names = dict(true), sorted(true)
    for _ in range(random.choice([0, 0, 1, 1, 2, 3])):
        body[random.choice(names)] = value(random)
    if random.random() < 0.2:
        body.pop(random.choice(names))
    if random.random() < 0.2:
        body[text(random)] = value(random)
    written = json.dumps(body, ensure_ascii=random.random() < 0.5)
    if random.random() < 0.1:
        written = f"{written[:-1]}, {json.dumps(random.choice(names))}: {json.dumps(value(random))}}}"
    raw = written.encode("utf-8", "surrogatepass")
    for _ in range(random.choice([0, 0, 0, 1, 1, 4])):
        at, piece = random.randrange(len(raw) + 1), random.choice(DAMAGE)
        if random.random() < 0.02:
            piece *= random.randrange(LARGE // len(piece))
        raw = raw[:at] + piece + raw[at + random.randrange(9) :]
    return raw[: problems.MAX_BODY_BYTES]  # more does not get this far


def broken(true: dict[str, Any]) -> Make:
    def make(random: Random) -> bytes:
        kind = random.random()
        if kind < 0.9:
            return damaged(random, true)
        return (
            random.randbytes(random.randrange(300))
            if kind < 0.95
            else json.dumps(value(random)).encode("utf-8", "surrogatepass")
        )

    return make


# --- money ----------------------------------------------------------------------------------------------------------------

CURRENCIES: Final = [*EXPONENT, "XXX", "", "idr", "ID\u0280", "\x00"]


def amount(random: Random) -> tuple[str, str]:
    return random.choice([numeral, text])(random), random.choice(CURRENCIES)


def gateway_amount(random: Random) -> tuple[Any, str]:
    return number(random), random.choice(CURRENCIES)


def read_amount(given_: tuple[str, str]) -> None:
    text, currency = given_
    money = Money.parse(text, currency)
    assert Decimal(text) * 10 ** EXPONENT[currency] == money.minor
    assert Money.parse(money.major, currency) == money


def read_gateway_amount(given_: tuple[Any, str]) -> None:
    value, currency = given_
    money = Money.from_major(value, currency)
    assert Decimal(value) * 10 ** EXPONENT[currency] == money.minor


def read_rate(text: str) -> None:
    assert 0 <= parse_rate(text) <= 1
    assert parse_percentage(text) == parse_rate(text)


# --- webhooks -------------------------------------------------------------------------------------------------------------

SERVER_KEY: Final = "SB-Mid-server-TESTKEY"
TOKEN: Final = "callback-token-0123456789"
NOTIFICATION: Final = {
    "transaction_status": "settlement",
    "transaction_id": "be03df7d-2f97-4c8c-a53c-8959f1b67295",
    "status_code": "200",
    "signature_key": hashlib.sha512(f"PT-20300101-0001x200154000.00{SERVER_KEY}".encode()).hexdigest(),
    "order_id": "PT-20300101-0001x",
    "merchant_id": "G812785002",
    "gross_amount": "154000.00",
    "fraud_status": "accept",
    "refund_amount": "5000.00",
    "refunds": [{"refund_key": "ref-1", "refund_amount": "5000.00"}],
}
CALLBACK: Final = {
    "id": "6f1d2c3b4a59687766554433",
    "external_id": "PT-1001-1x",
    "status": "PAID",
    "amount": 150000,
    "currency": "IDR",
    "payment_id": "ewc_3f6b1c0e-6c0e-4f5a-8f5d-0a8e7c3b2a11",
    "paid_at": "2030-01-01T03:20:00.123Z",
}
midtrans = MidtransGateway(MidtransCredentials(SERVER_KEY), MidtransOptions(), None)  # type: ignore[arg-type]
xendit = XenditGateway(XenditCredentials("xnd_development_TESTKEY", TOKEN), None, None)  # type: ignore[arg-type]
TOKENS: Final = [TOKEN, TOKEN[:-1], TOKEN + " ", TOKEN.upper(), "", "\udcff", "t\xf6ken", TOKEN * 1000]


def headers(random: Random) -> dict[str, str]:
    names = ["x-callback-token", "x-callback-token", "webhook-id", text(random)]
    return {
        random.choice(names): random.choice(TOKENS) if random.random() < 0.6 else text(random)
        for _ in range(random.randrange(4))
    }


def read_notice(gateway: Any, body: bytes) -> None:
    notice = gateway.read_webhook(Webhook({}, body))
    assert 1 <= len(notice.event_key) <= 200
    assert notice.event
    assert notice.event_key.isprintable()


def verify_midtrans(body: bytes) -> None:
    midtrans.verify_webhook(Webhook({}, body))
    told = json.loads(body.decode(errors="replace"))  # what is not looked at may be anything
    signed = f"{told['order_id']}{told['status_code']}{told['gross_amount']}{SERVER_KEY}"
    assert hashlib.sha512(signed.encode()).hexdigest() == told["signature_key"]


def verify_xendit(sent: dict[str, str]) -> None:
    xendit.verify_webhook(Webhook(sent, b"{}"))
    assert sent["x-callback-token"] == TOKEN


# --- requests -------------------------------------------------------------------------------------------------------------

LINE: Final = {
    "product_name": "Sleeve",
    "quantity": 3,
    "unit_price": "150000",
    "tax_rate": 0.11,
    "tax_category": "VAT",
    "country_code": "ID",
}
INVOICE: Final = {
    "gateway_id": "01935c1e-0000-7000-8000-000000000000",
    "currency": "IDR",
    "line_items": [LINE, LINE],
    "installments": {"amounts": ["100", 200], "due_dates": ["2030-01-01T00:00:00Z", "2030-02-01T00:00:00Z"]},
    "customer": {"name": "Siti", "email": "siti@example.com"},
    "metadata": {"cart": "a1c7"},
    "expires_at": "2030-01-01T00:00:00+07:00",
    "external_id": "order-1",
}
SCHEDULE: Final = {"installments": [{"number": 1, "amount": "100"}, {"number": 2, "amount": 1.5}]}
ADDRESSES: Final = [
    "unknown",
    "[::1]:80",
    "1.2.3.4:5",
    "::ffff:10.0.0.1",
    "fe80::1%eth0",
    "1" * 5000,
    "::1",
    "10.1.2.3",
]


def address(random: Random) -> str:
    kinds: list[Make] = [
        text,
        lambda r: r.choice(ADDRESSES),
        lambda r: str(IPv4Address(r.getrandbits(32))),
        lambda r: str(IPv6Address(r.getrandbits(128))),
    ]
    return str(random.choice(kinds)(random))


def forwarded(random: Random) -> tuple[str | None, list[str]]:
    hops = [
        ", ".join(address(random) for _ in range(random.randrange(4))) for _ in range(random.randrange(4))
    ]
    return random.choice([None, "::1", "10.0.0.9", address(random)]), hops


def cursor(random: Random) -> str:
    return (
        text(random)
        if random.random() < 0.5
        else "".join(random.choices("AZaz09_-", k=random.choice([22, 22, 21, 23, random.randrange(40)])))
    )


TRUSTED: Final = (access.network("10.0.0.0/8"), access.network("::1"))


def read_body(type_: Any, body: bytes) -> None:
    bodies.decode(type_, body)
    json.loads(body)  # what we take, everybody takes


def read_cursor(text: str) -> None:
    assert pagination.decode_cursor(text) is not None


def read_client(given_: tuple[str | None, list[str]]) -> None:
    peer, hops = given_
    client = access.client_address(peer, hops, TRUSTED)
    if client is None:
        raise LookupError("nobody we can name")
    assert str(ip_address(client)) == client
    access.subnet(client)


PIECES: Final = [
    *[
        "https",
        "http",
        "HTTPS",
        "javascript",
        "data",
        "://",
        ":",
        "//",
        "/",
        "\\",
        "@",
        "#",
        "?",
        "user:pw",
        "[::1]",
        "[fe80::1%25eth0]",
        "127.0.0.1",
    ],
    *[
        "0x7f.1",
        "2130706433",
        "0177.0.0.1",
        "localhost",
        "shop.example",
        "xn--",
        ".",
        "..",
        "%00",
        "%2f",
        "\t",
        "\n",
        " ",
        ":65536",
        ":0",
        ":443",
        "\uff0f",
    ],
]


def url(random: Random) -> str:
    if random.random() < 0.3:
        return "https://shop.example" + random.choice(PIECES) + text(random)
    return "".join(
        random.choice(PIECES) if random.random() < 0.8 else text(random)
        for _ in range(random.randrange(1, 9))
    )


def read_url(text_: str) -> None:
    form = urls.parse(text_, insecure=True)
    same = urlsplit(text_)
    assert (form.scheme, form.host, form.port) == (same.scheme, same.hostname, same.port)
    assert same.username is None
    assert text_.isascii()
    assert text_.isprintable()
    assert " " not in text_


TARGETS: Final = [
    Target("money: an amount of a request", amount, read_amount, (ValueError,)),
    Target("money: an amount of a gateway", gateway_amount, read_gateway_amount, (ValueError,)),
    Target("money: a rate", lambda random: amount(random)[0], read_rate, (ValueError,)),
    Target(
        "webhook of xendit: what it is about",
        broken(CALLBACK),
        functools.partial(read_notice, xendit),
        (UnreadableWebhook,),
    ),
    Target(
        "webhook of midtrans: what it is about",
        broken(NOTIFICATION),
        functools.partial(read_notice, midtrans),
        (UnreadableWebhook,),
    ),
    Target("webhook of xendit: the token", headers, verify_xendit, (InvalidSignature,)),
    Target("webhook of midtrans: the signature", broken(NOTIFICATION), verify_midtrans, (InvalidSignature,)),
    Target(
        "body of an invoice",
        broken(INVOICE),
        functools.partial(read_body, CreateInvoice),
        (Invalid, CardNumber),
    ),
    Target(
        "body of a schedule",
        broken(SCHEDULE),
        functools.partial(read_body, AdjustInstallments),
        (Invalid, CardNumber),
    ),
    Target("cursor of a list", cursor, read_cursor, (Invalid,)),
    Target("URL that comes in", url, read_url, (ValueError,)),
    Target("who forwarded a request", forwarded, read_client, (LookupError,)),
]


# --- fuzzing --------------------------------------------------------------------------------------------------------------


def fuzzed(name: str, *, seconds: float, seed: int) -> Seen:
    """Send inputs to the target *name* for *seconds*, or until one breaks the promise."""
    one = next(one for one in TARGETS if one.name == name)
    seen, random, until_s = Seen(name, Counter()), Random(f"{seed} {name}"), time.monotonic() + seconds
    while time.monotonic() < until_s:
        made = one.make(random)
        try:
            outcome, took_s = _timed(one, made)
        except Exception as exc:  # noqa: BLE001 - reported with the input, whatever it is
            seen.failure = (
                f"{type(exc).__name__}: {exc}\nwith {len(repr(made))} characters of input: {made!r:.3000}"
            )
            break
        seen.outcomes[outcome] += 1
        seen.slowest_ms = max(seen.slowest_ms, took_s * 1000)
    return seen


def _timed(one: Target, made: Any) -> tuple[str, float]:
    """
    What came of *made*, and its CPU time. A slow one is tried again: the garbage of others may have been
    collected meanwhile.
    """
    best_s = float("inf")
    for _ in range(4):
        started_s = time.thread_time()
        outcome = REFUSED
        with contextlib.suppress(*one.refusals):
            one.read(made)
            outcome = TAKEN
        best_s = min(best_s, time.thread_time() - started_s)
        if best_s < CPU_S:
            return outcome, best_s
    raise AssertionError(f"takes {best_s * 1000:.0f} ms of CPU")
