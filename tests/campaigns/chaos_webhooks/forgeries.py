"""
What forgers send. Each way is a function that makes one attack, out of what somebody may know who reads
along.

A forged webhook proves nothing and has to be refused. A lie proves itself (a stolen token, a signature that
covers three fields, another tenant's own secret), so it is acknowledged, and moves nothing because the
gateway is asked. The header x-forged marks both in the inbox.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

from campaigns.chaos_webhooks.fixture import Account, Fixture
from campaigns.chaos_webhooks.scenarios import Sale
from campaigns.chaos_webhooks.sender import request, text_of

MARK: Final = "x-forged"
REFUSED: Final = frozenset({"401"})
TAKEN: Final = frozenset({"200"})
EITHER: Final = REFUSED | TAKEN
HUGE: Final = 10 * 1024 * 1024
BOMB: Final = 20 * 1024 * 1024
ARABIC: Final = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")
FULLWIDTH: Final = str.maketrans("0123456789", "".join(chr(0xFF10 + digit) for digit in range(10)))
JSON: Final = ("content-type", "application/json")


@dataclass(frozen=True)
class Attack:
    """What is sent, and how it may be answered."""

    pieces: Sequence[bytes | float | None]
    answers: frozenset[str]


@dataclass(frozen=True)
class Way:
    """*lies*: it proves itself, and is only not true."""

    make: Callable[[Forger], Attack]
    lies: bool


WAYS: dict[str, Way] = {}


def forged(make: Callable[[Forger], Attack]) -> Callable[[Forger], Attack]:
    WAYS[make.__name__] = Way(make, lies=False)
    return make


def lie(make: Callable[[Forger], Attack]) -> Callable[[Forger], Attack]:
    WAYS[make.__name__] = Way(make, lies=True)
    return make


class Forger:
    """
    What a forger knows when he makes one attack: every true webhook so far, what can be bought, and what can
    be guessed.
    """

    def __init__(
        self,
        fixture: Fixture,
        bystanders: Sequence[Sale],
        chance: random.Random,
        way: str,
        receive_timeout_s: float,
    ) -> None:
        self.fixture, self.chance, self.way, self.receive_timeout_s = fixture, chance, way, receive_timeout_s
        self.bystanders = bystanders

    def account(
        self, gateway: str, *, owner: str | None = None, other_than: Account | None = None
    ) -> Account:
        return self.chance.choice(
            [
                each
                for each in self.fixture.accounts
                if each.gateway == gateway and owner in {None, each.owner} and each is not other_than
            ]
        )

    def unpaid(self, account: Account) -> Sale:
        """An invoice that nobody has paid or will pay."""
        return self.chance.choice([sale for sale in self.bystanders if sale.account is account])

    def overheard(self, account: Account, **fields: str) -> dict[str, Any]:
        """What a true webhook of the account said that has these *fields*."""
        told = [text_of(news) for news in self.fixture.overheard[account]]
        return dict(
            self.chance.choice(
                [each for each in told if all(each.get(name) == value for name, value in fields.items())]
            )
        )

    def pending(self, account: Account) -> dict[str, Any]:
        """Midtrans' true word that an unpaid invoice is pending, with its signature."""
        reference = self.unpaid(account).reference
        return self.overheard(account, order_id=reference, transaction_status="pending")

    def paid(self, account: Account, sale: Sale | None = None) -> dict[str, Any]:
        """
        Xendit's word that an unpaid invoice is paid: all of it is known but what Xendit would call the
        payment.
        """
        pattern = self.overheard(account, status="PAID")
        reference = (sale or self.unpaid(account)).reference
        return pattern | {
            "external_id": reference,
            "id": secrets.token_hex(12),
            "payment_id": f"py-{uuid4()}",
        }

    def to(self, account: Account, body: object, *headers: tuple[str, str], path: str | None = None) -> bytes:
        """An HTTP request for the account's own address, or another *path*."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.request(path or urlsplit(account.webhook_url).path, content, JSON, *headers)

    def request(
        self, path: str, content: bytes, *headers: tuple[str, str], announced: int | None = None
    ) -> bytes:
        return request(path, content, (MARK, self.way), *headers, announced=announced)


def token_of(account: Account) -> tuple[str, str]:
    """Xendit's proof, for which there is one per account."""
    return ("x-callback-token", account.secret)


def signed(body: dict[str, Any], server_key: str) -> dict[str, Any]:
    """Midtrans' proof, which covers three fields."""
    covered = "".join(str(body[name]) for name in ("order_id", "status_code", "gross_amount"))
    return body | {"signature_key": hashlib.sha512(f"{covered}{server_key}".encode()).hexdigest()}


def settled(body: dict[str, Any]) -> dict[str, Any]:
    return body | {"transaction_status": "settlement", "status_code": "200"}


# --- without a proof ------------------------------------------------------------------------------------------------------------


@forged
def no_token(forger: Forger) -> Attack:
    account = forger.account("xendit")
    return Attack([forger.to(account, forger.paid(account))], REFUSED)


@forged
def wrong_token(forger: Forger) -> Attack:
    account = forger.account("xendit")
    right = account.secret
    wrong = forger.chance.choice(
        ["", " ", right[:-1], right + "0", right.upper(), secrets.token_hex(24), "0" * 5_000]
    )
    return Attack([forger.to(account, forger.paid(account), ("x-callback-token", wrong))], REFUSED)


@forged
def other_tenants_token(forger: Forger) -> Attack:
    account = forger.account("xendit")
    return Attack(
        [forger.to(account, forger.paid(account), token_of(forger.account("xendit", other_than=account)))],
        REFUSED,
    )


@forged
def no_signature(forger: Forger) -> Attack:
    account = forger.account("midtrans")
    body = settled(forger.pending(account))
    del body["signature_key"]
    return Attack([forger.to(account, body)], REFUSED)


@forged
def wrong_signature(forger: Forger) -> Attack:
    account = forger.account("midtrans")
    body = settled(forger.pending(account))
    key = forger.chance.choice(["", secrets.token_hex(16), account.secret.lower()])
    bad = forger.chance.choice(
        ["0" * 128, "", None, [], body["signature_key"], signed(body, key)["signature_key"]]
    )
    return Attack([forger.to(account, body | {"signature_key": bad})], REFUSED)


@forged
def other_tenants_key(forger: Forger) -> Attack:
    account = forger.account("midtrans")
    body = signed(settled(forger.pending(account)), forger.account("midtrans", other_than=account).secret)
    return Attack([forger.to(account, body)], REFUSED)


@forged
def signed_for_another_order(forger: Forger) -> Attack:
    account = forger.account("midtrans")
    true = forger.overheard(account, transaction_status="settlement")
    unpaid = forger.pending(account)
    names = forger.chance.choice(
        [("order_id",), ("order_id", "transaction_id"), ("order_id", "gross_amount")]
    )
    return Attack([forger.to(account, true | {name: unpaid[name] for name in names})], REFUSED)


@forged
def doctored_status(forger: Forger) -> Attack:
    """A true signature, of a pending: it does not cover the transaction_status."""
    account = forger.account("midtrans")
    body = forger.pending(account) | {
        "transaction_status": forger.chance.choice(["settlement", "capture", "SETTLEMENT"])
    }
    body |= forger.chance.choice(
        [{}, {"fraud_status": "accept"}, {"status_code": "200"}, {"status_code": 200}]
    )
    return Attack([forger.to(account, body)], REFUSED)


@forged
def reordered_json(forger: Forger) -> Attack:
    account = forger.account("midtrans")
    body = list((forger.pending(account) | {"transaction_status": "settlement"}).items())
    forger.chance.shuffle(body)
    return Attack([forger.to(account, dict(body))], REFUSED)


@forged
def duplicate_keys(forger: Forger) -> Attack:
    """The true fields, signed, and behind them what the forger would rather have said."""
    account = forger.account("midtrans")
    true = json.dumps(forger.pending(account)).encode()
    other = forger.chance.choice(
        [
            b'"transaction_status": "settlement"',
            b'"status_code": "200"',
            b'"gross_amount": "1.00"',
            b'"order_id": "x"',
        ]
    )
    return Attack([forger.to(account, true[:-1] + b", " + other + b"}")], REFUSED)


@forged
def unicode_digits(forger: Forger) -> Attack:
    """Digits that other programs take for digits, signed as they stand."""
    account = forger.account("midtrans")
    body = settled(forger.pending(account))
    name = forger.chance.choice(["gross_amount", "status_code", "order_id"])
    body[name] = body[name].translate(forger.chance.choice([ARABIC, FULLWIDTH]))
    return Attack([forger.to(account, signed(body, forger.chance.choice(["", account.secret])))], REFUSED)


@forged
def not_json(forger: Forger) -> Attack:
    account = forger.account("midtrans")
    body = forger.chance.choice(
        [
            b"",
            b"{}",
            b"[]",
            b"null",
            b"\xff\xfe",
            b"[" * 100_000,
            b'{"order_id": 1e999}',
            b'{"order_id": "\\ud800"}',
            b"\0",
        ]
    )
    return Attack([forger.to(account, body)], REFUSED)


@forged
def wrong_content_type(forger: Forger) -> Attack:
    account = forger.account("xendit")
    kind = forger.chance.choice(
        [
            "text/xml",
            "multipart/form-data; boundary=x",
            "application/x-www-form-urlencoded",
            "application/json; charset=utf-16",
            "x",
        ]
    )
    content = json.dumps(forger.paid(account)).encode()
    return Attack(
        [forger.request(urlsplit(account.webhook_url).path, content, ("content-type", kind))], REFUSED
    )


# --- to the wrong address -----------------------------------------------------------------------------------------------------


@forged
def other_gateways_route(forger: Forger) -> Attack:
    """What one gateway sends, to the address of the other."""
    one, other = forger.chance.sample(["xendit", "midtrans"], 2)
    account = forger.account(one)
    body = (
        forger.paid(account) if one == "xendit" else signed(settled(forger.pending(account)), account.secret)
    )
    headers = [token_of(account)] if one == "xendit" else []
    return Attack([forger.to(forger.account(other, owner=account.owner), body, *headers)], REFUSED)


@forged
def no_such_address(forger: Forger) -> Attack:
    """A token that is none, or of another gateway's account."""
    account = forger.account("xendit")
    token = account.webhook_url.rpartition("/")[2]
    path = forger.chance.choice(
        [
            f"/webhooks/xendit/{secrets.token_hex(16)}",
            f"/webhooks/midtrans/{token}",
            f"/webhooks/xendit/{token.upper()}0",
            f"/webhooks/xendit/{token[:-1]}",
            f"/webhooks/xendit/{token}%00",
            f"/webhooks/%2e%2e/xendit/{token}",
        ]
    )
    return Attack(
        [forger.to(account, forger.paid(account), token_of(account), path=path)], frozenset({"404"})
    )


# --- heavy, slow, or no HTTP ----------------------------------------------------------------------------------------------------


@forged
def huge_body(forger: Forger) -> Attack:
    """10 MB, announced or in chunks. Its sender may not come to read the answer."""
    account = forger.account("xendit")
    path, answers = urlsplit(account.webhook_url).path, frozenset({"413", "none"})
    piece = b"x" * 65_536
    if forger.chance.random() < 0.5:
        return Attack(
            [
                forger.request(path, b"", token_of(account), JSON, announced=HUGE),
                *[piece] * (HUGE // len(piece)),
            ],
            answers,
        )
    head = forger.request(path, b"", token_of(account), ("transfer-encoding", "chunked")).replace(
        b"content-length: 0\r\n", b""
    )
    return Attack(
        [head, *[b"%x\r\n%s\r\n" % (len(piece), piece)] * (HUGE // len(piece)), b"0\r\n\r\n"], answers
    )


@forged
def gzip_body(forger: Forger) -> Attack:
    """A webhook that says it is compressed; now and then a small one that would become huge."""
    account = forger.account(forger.chance.choice(["xendit", "midtrans"]))
    body = (
        forger.paid(account) if account.gateway == "xendit" else signed(settled(forger.pending(account)), "")
    )
    content = gzip.compress(forger.chance.choice([json.dumps(body).encode(), b" " * BOMB]), 1)
    return Attack([forger.to(account, content, ("content-encoding", "gzip"))], REFUSED)


@forged
def slow_body(forger: Forger) -> Attack:
    """Drips, and sometimes for longer than a request may take."""
    account = forger.account("xendit")
    request = forger.to(account, forger.paid(account), ("x-callback-token", "wrong"))
    head, _, content = request.partition(b"\r\n\r\n")
    pause_s = forger.chance.uniform(0.2, forger.receive_timeout_s / 3)
    fourth = len(content) // 4
    pieces: list[bytes | float] = [head + b"\r\n\r\n"]
    for number in range(4):
        pieces += [pause_s, content[number * fourth : (number + 1) * fourth if number < 3 else None]]
    return Attack(pieces, REFUSED | {"408", "none"})


@forged
def cut_off(forger: Forger) -> Attack:
    """The sender goes away in the middle of what would have been believed to be from the gateway."""
    account = forger.account("xendit")
    content = json.dumps(forger.paid(account)).encode()
    request = forger.request(
        urlsplit(account.webhook_url).path,
        content[: len(content) // 2],
        token_of(account),
        announced=len(content),
    )
    return Attack([request, None], frozenset({"none", "400"}))


@forged
def header_injection(forger: Forger) -> Attack:
    """
    Line ends, NUL and folded lines in a header, or more headers than anybody needs: refused, or no HTTP at
    all.
    """
    account = forger.account("xendit")
    value = forger.chance.choice(
        [
            "a\r\nx-callback-token: b",
            "a\r\n folded",
            "a\nx-callback-token: b",
            "a\0b",
            "\x7f",
            "a\rb",
            "é" * 100,
            "a" * 100_000,
        ]
    )
    name = forger.chance.choice(["x-callback-token", "x-request-id", "x-callback-token ", "host"])
    return Attack([forger.to(account, forger.paid(account), (name, value))], REFUSED | {"400", "431", "none"})


@forged
def smuggled(forger: Forger) -> Attack:
    """Two lengths, of which the shorter leaves a second request in the body."""
    account = forger.account("xendit")
    inner = forger.to(account, forger.paid(account), token_of(account))
    chunked = ("transfer-encoding", "chunked")
    outer = forger.request(urlsplit(account.webhook_url).path, b"0\r\n\r\n" + inner, chunked)
    return Attack([outer, None], REFUSED | {"400", "none"})


# --- lies -----------------------------------------------------------------------------------------------------------------------


@lie
def stolen_token(forger: Forger) -> Attack:
    """
    Whoever knows Xendit's token can say anything in its name: that what nobody paid is paid, settled or
    expired.
    """
    account = forger.account("xendit")
    status = forger.chance.choice(["PAID", "PAID", "SETTLED", "EXPIRED", "PENDING"])
    return Attack([forger.to(account, forger.paid(account) | {"status": status}, token_of(account))], TAKEN)


@lie
def stolen_token_with_the_true_id(forger: Forger) -> Attack:
    """The same, and the invoice's own id at Xendit."""
    account = forger.account("xendit")
    sale = forger.unpaid(account)
    body = forger.paid(account, sale) | {
        "id": sale.invoice["payment_url"].rpartition("/")[2],
        "amount": 1,
        "paid_amount": 1,
    }
    return Attack([forger.to(account, body, token_of(account))], TAKEN)


@lie
def stolen_token_other_amount(forger: Forger) -> Attack:
    """About a payment that is true: another amount or currency, before or after the true word."""
    account = forger.account("xendit")
    change = forger.chance.choice(
        [
            {"paid_amount": 1},
            {"paid_amount": 10**15, "amount": 10**15},
            {"currency": "USD"},
            {"payment_id": str(uuid4())},
        ]
    )
    return Attack(
        [forger.to(account, forger.overheard(account, status="PAID") | change, token_of(account))], TAKEN
    )


@lie
def replay_with_another_status(forger: Forger) -> Attack:
    """An old true event, with what should have become of it since."""
    account = forger.account("xendit")
    body = forger.overheard(account) | {
        "status": forger.chance.choice(["EXPIRED", "PENDING", "PAID", "SETTLED", "REFUNDED", "paid"])
    }
    return Attack([forger.to(account, body, token_of(account))], TAKEN)


@lie
def doctored_unsigned_fields(forger: Forger) -> Attack:
    """
    A true settlement with other words where the signature does not look. What does not fit the signed code is
    refused.
    """
    account = forger.account("midtrans")
    change = forger.chance.choice(
        [
            {
                "transaction_status": forger.chance.choice(
                    ["capture", "refund", "chargeback", "failure", "authorize", "expire", "deny"]
                )
            },
            {"transaction_id": str(uuid4())},
            {"currency": "USD"},
            {"fraud_status": forger.chance.choice(["deny", "challenge"])},
            {"payment_amounts": [{"paid_at": "2026-01-01 00:00:00", "amount": "1.00"}]},
            {"refund_amount": "1.00", "refunds": []},
        ]
    )
    return Attack(
        [forger.to(account, forger.overheard(account, transaction_status="settlement") | change)], EITHER
    )


@lie
def other_tenants_reference(forger: Forger) -> Attack:
    """A tenant speaks, with its own good secret and at its own address, of another one's invoice."""
    gateway = forger.chance.choice(["xendit", "midtrans"])
    mine = forger.account(gateway, owner=forger.chance.choice(["first", "second"]))
    theirs = forger.account(gateway, other_than=mine)
    if gateway == "xendit":
        return Attack([forger.to(mine, forger.paid(theirs), token_of(mine))], TAKEN)
    body = settled(forger.pending(theirs)) | {"merchant_id": forger.overheard(mine)["merchant_id"]}
    return Attack([forger.to(mine, signed(body, mine.secret))], TAKEN)


@lie
def says_it_twice(forger: Forger) -> Attack:
    """The forger's word first and the true one behind it, where the last one counts."""
    account = forger.account("midtrans")
    true = json.dumps(forger.pending(account)).encode()
    return Attack(
        [forger.to(account, b'{"transaction_status": "settlement", "status_code": "200", ' + true[1:])], TAKEN
    )


@lie
def stolen_token_unreadable(forger: Forger) -> Attack:
    """In Xendit's name, and in no form that Xendit uses: kept for a person."""
    account = forger.account("xendit")
    sale = forger.unpaid(account)
    body = forger.paid(account, sale)
    content = forger.chance.choice(
        [
            json.dumps(body | {"external_id": sale.reference.translate(ARABIC)}, ensure_ascii=False).encode(),
            gzip.compress(json.dumps(body).encode()),
            json.dumps(body | {"external_id": [sale.reference]}).encode(),
            json.dumps(body | {"external_id": "x" * 300}).encode(),
            json.dumps(body | {"status": "PAID\n"}).encode(),
        ]
    )
    return Attack([forger.to(account, content, token_of(account))], TAKEN)


def deck(chance: random.Random, count: int) -> list[str]:
    """At least *count* ways: each once in a round, shuffled."""
    drawn: list[str] = []
    while len(drawn) < max(count, len(WAYS)):
        drawn += chance.sample(list(WAYS), len(WAYS))
    return drawn[: max(count, len(WAYS))]
