"""What Xendit accepts as the body of a new invoice, and the errors it answers otherwise."""

import re
from collections.abc import Callable, Collection, Mapping
from decimal import Decimal
from typing import Any

from paytrust_sandbox.http import Refusal, Response, json_response
from paytrust_sandbox.money import EXPONENTS, LIMIT, truncated
from paytrust_sandbox.xendit.channels import LARGEST, SMALLEST, offered

YEAR_S = 31_536_000
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
REMINDER_LIMITS = {"days": 30, "hours": 24}
MAX_ITEMS, MAX_FEES, MAX_METADATA = 75, 10, 50
TRUNCATED = frozenset({"IDR", "VND"})
Body = dict[str, Any]


def error(status: int, code: str, message: str, errors: list[Any] | None = None) -> Response:
    return json_response(
        {"error_code": code, "message": message, **({"errors": errors} if errors else {})}, status
    )


def refuse(code: str, message: str, status: int = 400) -> Refusal:
    return Refusal(error(status, code, message))


def number(value: object) -> Decimal | None:
    """Return a JSON number as Decimal, None for anything else and for what is beyond LIMIT."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = Decimal(value)
    return value if isinstance(value, Decimal) and abs(value) < LIMIT else None


def checked(body: object, currencies: Collection[str], minimums: Mapping[str, Decimal]) -> Body:
    """
    Return a valid *body* with its amount as the gateway books it and its currency filled in. Raises Refusal.
    """
    if not isinstance(body, dict):
        raise refuse("API_VALIDATION_ERROR", "The body must be an object")
    if problems := [text for text in _problems(body) if text]:
        raise Refusal(
            error(
                400,
                "API_VALIDATION_ERROR",
                "There was an error with the format submitted to the server.",
                problems,
            )
        )
    _check_emails(body)
    _check_reminder(body)
    currency = body.get("currency") or next(iter(currencies))
    if currency not in currencies or currency not in EXPONENTS:
        raise refuse("UNSUPPORTED_CURRENCY", f"The currency {currency} is not supported for this account")
    amount = _booked(number(body["amount"]) or Decimal(0), currency, {**SMALLEST, **minimums})
    if not offered(currency, body.get("payment_methods")):
        raise refuse("UNAVAILABLE_PAYMENT_METHOD_ERROR", "The payment methods requested are not available")
    return {**body, "currency": currency, "amount": amount}


def _booked(amount: Decimal, currency: str, minimums: Mapping[str, Decimal]) -> Decimal:
    booked = truncated(amount, currency)
    if booked <= 0 or (booked != amount and currency not in TRUNCATED):
        raise refuse("API_VALIDATION_ERROR", f"amount {amount} is not an amount in {currency}")
    if booked < minimums.get(currency, booked):
        raise refuse("MINIMAL_TRANSFER_AMOUNT_ERROR", f"The minimum amount is {minimums[currency]}")
    if booked > LARGEST.get(currency, booked):
        raise refuse("MAXIMUM_TRANSFER_AMOUNT_ERROR", f"The maximum amount is {LARGEST[currency]}")
    return booked


def _problems(body: Body) -> list[str | None]:
    amount = number(body.get("amount"))
    return [
        None if body.get("external_id") is not None else "external_id is required",
        _text(body, "external_id", 255),
        None if amount is not None and amount > 0 else "amount must be a number greater than 0",
        _text(body, "description"),
        _text(body, "payer_email"),
        _text(body, "currency"),
        _text(body, "success_redirect_url", 255),
        _text(body, "failure_redirect_url", 255),
        _within(body, "invoice_duration", YEAR_S),
        _check(body, "locale", lambda value: value in ("en", "id")),
        _check(
            body,
            "payment_methods",
            lambda value: isinstance(value, list) and all(isinstance(code, str) for code in value),
        ),
        _check(body, "metadata", lambda value: isinstance(value, dict) and len(value) <= MAX_METADATA),
        _check(body, "should_send_email", lambda value: isinstance(value, bool)),
        _check(body, "customer", lambda value: isinstance(value, dict) and "" not in value.values()),
        _check(body, "items", lambda value: _all(value, MAX_ITEMS, _is_item)),
        _check(body, "fees", lambda value: _all(value, MAX_FEES, _is_fee)),
    ]


def _check(body: Body, name: str, valid: Callable[[Any], bool]) -> str | None:
    return f"{name} is invalid" if body.get(name) is not None and not valid(body[name]) else None


def _text(body: Body, name: str, longest: int | None = None) -> str | None:
    value = body.get(name)
    if value is None or (isinstance(value, str) and 1 <= len(value) <= (longest or len(value))):
        return None
    return f"{name} must be a string of 1 to {longest or 'any number of'} characters"


def _within(body: Body, name: str, most: int) -> str | None:
    value = number(body.get(name))
    return (
        None
        if body.get(name) is None or (value is not None and 1 <= value <= most)
        else f"{name} must be a number from 1 to {most}"
    )


def _all(value: object, most: int, valid: Callable[[Body], bool]) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= most
        and all(isinstance(one, dict) and valid(one) for one in value)
    )


def _is_item(item: Body) -> bool:
    quantity, name = number(item.get("quantity")), item.get("name")
    sound_name = isinstance(name, str) and 1 <= len(name) <= 256
    return (
        sound_name
        and quantity is not None
        and 0 < quantity <= 510_000
        and number(item.get("price")) is not None
    )


def _is_fee(fee: Body) -> bool:
    return isinstance(fee.get("type"), str) and number(fee.get("value")) is not None


def _check_emails(body: Body) -> None:
    given = [body.get("payer_email"), (body.get("customer") or {}).get("email")]
    if any(email is not None and not (isinstance(email, str) and EMAIL.fullmatch(email)) for email in given):
        raise refuse("EMAIL_FORMAT_ERROR", "The email format is invalid")


def _check_reminder(body: Body) -> None:
    if body.get("reminder_time") is None and body.get("reminder_time_unit") is None:
        return
    time, unit = number(body.get("reminder_time")), body.get("reminder_time_unit")
    if (
        not isinstance(unit, str)
        or unit not in REMINDER_LIMITS
        or time is None
        or not 1 <= time <= REMINDER_LIMITS[unit]
    ):
        raise refuse("INVALID_REMINDER_TIME", "reminder_time must be 1 to 30 days or 1 to 24 hours")
