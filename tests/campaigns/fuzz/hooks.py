"""
What schemathesis loads into its own process: it makes requests that get past the front door, and counts what
came back.

Left to chance, no invoice would name a gateway account that exists, and no webhook would be signed.
Schemathesis looks at a request again after this, so one that was broken on purpose and became whole here
counts as whole.
"""

from __future__ import annotations

import atexit
import copy
import hashlib
import itertools
import os
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import schemathesis
from campaigns.fuzz.fixture import Fixture

from paytrust.invoices.model import NewLineItem
from paytrust.payments.model import LineItemOut

fixture = msgspec.json.decode(Path(os.environ["PAYTRUST_FUZZ_FIXTURE"]).read_bytes(), type=Fixture)
counts: Counter[str] = Counter()
turns = itertools.count()
repeatable: dict[str, Any] = {}
READ_ONLY = set(LineItemOut.__struct_fields__) - set(NewLineItem.__struct_fields__)
WHOLE_KEY = re.compile(r"[0-9A-Za-z]{1,100}")

NOTIFICATION = {
    "transaction_status": "settlement",
    "transaction_id": "be03df7d-2f97-4c8c-a53c-8959f1b67295",
    "status_code": "200",
    "order_id": "PT-nobodys-1x",
    "gross_amount": "154000.00",
    "fraud_status": "accept",
}
CALLBACK = {
    "id": "6f1d2c3b4a59687766554433",
    "external_id": "PT-nobodys-1x",
    "status": "PAID",
    "amount": 150000,
    "currency": "IDR",
}


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """
    Give a request that may have them the ids of things that exist, and keep it off those the campaign needs.
    """
    turn = next(turns)
    for name, value in list((case.path_parameters or {}).items()):
        case.path_parameters[name] = fixture.kept.get(
            value, _known(case, name, turn) if _is_uuid(value) else value
        )
    if case.path == "/invoices" and case.method == "POST":
        _payable(case.body, turn)
    elif case.path.endswith("/supplementary") and case.method == "POST":
        _priced(case.body, turn)
    elif case.path == "/invoices/{invoice_id}/installments" and case.method == "PATCH" and turn % 3:
        _adjusted(case.body, turn)
    elif case.path.startswith("/gateway-accounts") and case.method in {"POST", "PATCH"} and turn % 3:
        _configured(case.body)
    elif case.path == "/webhooks/{gateway}/{token}" and case.method == "POST" and turn % 4:
        _delivered(case, turn)
    _repeated(case, turn)


def _known(case: Any, name: str, turn: int) -> Any:
    """
    Something that exists in place of what cannot. A step of a story keeps its own, and what would end a thing
    for good gets none.
    """
    given = case.path_parameters[name]
    if (
        name not in fixture.known
        or turn % 4 == 0
        or case.path.endswith("/cancel")
        or case.meta is None
        or case.meta.phase.name.value == "stateful"
    ):
        return given
    return fixture.known[name][turn % len(fixture.known[name])]


def _payable(body: Any, turn: int) -> None:
    """An invoice of an account that exists."""
    if not isinstance(body, dict):
        return
    gateway = ("xendit", "midtrans")[turn % 2]
    if _is_uuid(body.get("gateway_id")) and turn % 5:
        body["gateway_id"] = fixture.accounts[gateway]
    if turn % 7:
        _replace(body, "currency", "IDR")
    _priced(body, turn)


def _priced(body: Any, turn: int) -> None:
    """Amounts that a gateway takes and times that are near, in most requests."""
    if not isinstance(body, dict) or turn % 6 == 0:
        return
    lines = body.get("line_items")
    if isinstance(lines, list) and len(lines) < 4:
        for line in lines:
            for name in READ_ONLY & set(
                line if isinstance(line, dict) else ()
            ):  # schemathesis sends the lines of an answer
                del line[name]
            _replace(line, "unit_price", str(10_000 + turn % 1000))
            _replace(line, "quantity", 1 + turn % 5, kind=int)
            _replace(line, "country_code", ("ID", "MY", "SG")[turn % 3])
    _replace(body, "external_id", f"fuzz-{turn}-{os.getpid()}")
    _replace(body, "expires_at", (datetime.now(UTC) + timedelta(days=1)).isoformat())
    _replace(body, "success_url", "https://shop.example/thanks")
    _replace(body, "failure_url", "https://shop.example/sorry")
    if turn % 3:
        _replace(body, "installments", {"count": 2 + turn % 3}, kind=dict)
        for name, value in {"email": "siti@example.com", "phone": "+628123456789", "country": "ID"}.items():
            _replace(body.get("customer"), name, value)


def _adjusted(body: Any, turn: int) -> None:
    if isinstance(body, dict) and isinstance(body.get("installments"), list):
        body["installments"] = body["installments"][:1]
        for part in body["installments"]:
            _replace(part, "number", 1, kind=int)
            _replace(part, "amount", str(150_000 + turn))


def _configured(body: Any) -> None:
    _replace(body, "gateway", "xendit")
    _replace(body, "credentials", {"secret_key": "x", "callback_token": "y"}, kind=dict)
    _replace(body, "currencies", {"IDR": {"percentage": "0.029", "fixed": "2000"}}, kind=dict)
    _replace(body, "options", {}, kind=dict)
    _replace(body, "base_url", "http://127.0.0.1:9")
    if isinstance(body, dict):
        body.pop("tenant_id", None)


def _repeated(case: Any, turn: int) -> None:
    """
    Now and then the last request that carried an Idempotency-Key, once more; otherwise a key that nobody has
    used, or nearly all are 422.
    """
    operation = f"{case.method} {case.path}"
    key = (case.headers or {}).get("Idempotency-Key")
    if key is None:
        return
    if turn % 8 and isinstance(key, str) and WHOLE_KEY.fullmatch(key):
        case.headers["Idempotency-Key"] = f"{key}-{turn}-{os.getpid()}"
    if turn % 5 == 0 and operation in repeatable:
        case.path_parameters, case.query, case.body, case.headers["Idempotency-Key"] = copy.deepcopy(
            repeatable[operation]
        )
    else:
        repeatable[operation] = copy.deepcopy(
            (case.path_parameters, case.query, case.body, case.headers["Idempotency-Key"])
        )


def _replace(body: Any, name: str, value: Any, *, kind: type = str) -> None:
    if isinstance(body, dict) and type(body.get(name)) is kind:
        body[name] = value


def _delivered(case: Any, turn: int) -> None:
    """
    A webhook for an account that exists: one in three has the right secret and a body that is none, two a
    body that is nearly one.
    """
    gateway = ("xendit", "midtrans")[turn % 2]
    path, secret = fixture.webhooks[gateway]
    case.path_parameters = dict(zip(("gateway", "token"), path.split("/")[2:], strict=True))
    fuzz = case.body if isinstance(case.body, dict) else {}
    if gateway == "xendit":
        case.headers["x-callback-token"] = secret
        if turn % 3:
            case.body = CALLBACK | fuzz | {"id": f"evt-{turn}"}
    elif turn % 3:
        body = NOTIFICATION | fuzz | {"transaction_id": f"evt-{turn}"}
        signed = f"{body['order_id']}{body['status_code']}{body['gross_amount']}{secret}"
        case.body = body | {"signature_key": hashlib.sha512(signed.encode(errors="replace")).hexdigest()}


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """
    What fails a check of schemathesis and is right all the same.

    A key that is not 64 hexadecimal digits is 400 `malformed_key` (product section 9), where the check on
    keys wants 401 or 403.
    """
    malformed = (
        failure.title == "Unexpected response to invalid authentication"
        and "got `400 Bad Request`" in failure.message
    )
    counts["malformed key"] += malformed
    return not malformed


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    operation = f"{case.method} {case.path}"
    counts[f"{operation} {response.status_code}"] += 1
    meta = case.meta
    if meta is not None:
        counts[f"phase {meta.phase.name.value}"] += 1
        counts[f"sent {meta.generation.mode.value}"] += 1
        if meta.generation.mode.is_negative and 400 <= response.status_code < 500:
            counts["refused"] += 1
    if "idempotent-replayed" in response.headers:
        counts["replayed"] += 1


@atexit.register
def _write() -> None:
    Path(os.environ["PAYTRUST_FUZZ_COUNTS"]).write_bytes(msgspec.json.encode(counts))


def _is_uuid(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(UUID(value))
    except ValueError:
        return False
