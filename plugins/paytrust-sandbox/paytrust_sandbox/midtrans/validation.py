"""What Midtrans accepts as a transaction, for Snap and Core alike; each says no in its own words."""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from paytrust_sandbox.http import Request
from paytrust_sandbox.midtrans.fees import FIELD
from paytrust_sandbox.midtrans.orders import Recipients
from paytrust_sandbox.money import LIMIT

Fields = dict[str, Any]
ORDER_ID = re.compile(r"[A-Za-z0-9\-_~.]{1,50}")
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
MAX_URLS = 3
OBJECTS = ("callbacks", "credit_card", "expiry", "page_expiry", "custom_expiry", "metadata", FIELD)
CUSTOM_FIELDS = ("custom_field1", "custom_field2", "custom_field3")
LABELS = ("id", "brand", "category", "merchant_name", "url")
SUM_MISMATCH = "transaction_details.gross_amount is not equal to the sum of item_details"
ADDRESS_LIMITS = {
    "first_name": 255,
    "last_name": 255,
    "email": 255,
    "phone": 255,
    "address": 255,
    "city": 100,
    "postal_code": 10,
    "country_code": 10,
}


def problems(body: object, minimums: Mapping[str, Decimal]) -> list[str]:
    """Return every reason to refuse *body*."""
    fields = body if isinstance(body, dict) else {}
    return [
        *_details(fields, minimums.get("IDR", Decimal(1))),
        *_items(fields),
        *_customer(fields),
        *_rest(fields),
        *_imposed_fee(fields),
    ]


def recipients(request: Request) -> Recipients:
    """Read the notification headers. Raises ValueError for more than three addresses."""
    read = [_urls(request, name) for name in ("x-override-notification", "x-append-notification")]
    return Recipients(*read)


def whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _urls(request: Request, header: str) -> tuple[str, ...]:
    urls = tuple(url.strip() for url in request.headers.get(header, "").split(",") if url.strip())
    if len(urls) > MAX_URLS:
        raise ValueError(f"{header} takes at most {MAX_URLS} URLs")
    return urls


def _details(body: Fields, minimum: Decimal) -> Iterator[str]:
    details = body.get("transaction_details")
    if not isinstance(details, dict):
        yield "transaction_details is required"
        details = {}
    order_id, amount = details.get("order_id"), details.get("gross_amount")
    if not order_id:
        yield "transaction_details.order_id is required"
    elif not isinstance(order_id, str) or not ORDER_ID.fullmatch(order_id):
        yield "transaction_details.order_id must be at most 50 characters of A-Z a-z 0-9 - _ ~ ."
    if amount is None:
        yield "transaction_details.gross_amount is required"
    elif not whole(amount):
        yield "transaction_details.gross_amount must be an integer"
    elif not max(minimum, 1) <= amount < LIMIT:
        yield f"transaction_details.gross_amount must be greater than or equal to {minimum} and less than {LIMIT}"


def _items(body: Fields) -> Iterator[str]:
    items = body.get("item_details")
    if items is None:
        return
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        yield "item_details must be an array of objects"
        return
    for position, item in enumerate(items):
        yield from _item(item, f"item_details[{position}]")
    priced = [item for item in items if whole(item.get("price")) and whole(item.get("quantity"))]
    details = body.get("transaction_details")
    amount = details.get("gross_amount") if isinstance(details, dict) else None
    if (
        len(priced) == len(items)
        and items
        and sum(item["price"] * item["quantity"] for item in priced) != amount
    ):
        yield SUM_MISMATCH


def _item(item: Fields, where: str) -> Iterator[str]:
    if not whole(item.get("price")):
        yield f"{where}.price must be an integer"
    if not whole(item.get("quantity")) or item["quantity"] < 1:
        yield f"{where}.quantity must be an integer of at least 1"
    if not isinstance(item.get("name"), str) or not 1 <= len(item["name"]) <= 50:
        yield f"{where}.name is required and at most 50 characters"
    yield from _too_long(item, where, dict.fromkeys(LABELS, 50))


def _customer(body: Fields) -> Iterator[str]:
    customer = body.get("customer_details")
    if customer is None:
        return
    if not isinstance(customer, dict):
        yield "customer_details must be an object"
        return
    if customer.get("email") and not (
        isinstance(customer["email"], str) and EMAIL.fullmatch(customer["email"])
    ):
        yield "customer_details.email format is invalid"
    yield from _too_long(customer, "customer_details", ADDRESS_LIMITS)
    for name in ("billing_address", "shipping_address"):
        if isinstance(customer.get(name), dict):
            yield from _too_long(customer[name], f"customer_details.{name}", ADDRESS_LIMITS)


def _rest(body: Fields) -> Iterator[str]:
    yield from _too_long(body, "", dict.fromkeys(CUSTOM_FIELDS, 255))
    for name in OBJECTS:
        if body.get(name) is not None and not isinstance(body[name], dict):
            yield f"{name} must be an object"
    methods = body.get("enabled_payments") or []
    if not isinstance(methods, list) or not all(isinstance(method, str) for method in methods):
        yield "enabled_payments must be an array of strings"
    for name, most in (
        ("callbacks", {"finish": 255, "error": 255}),
        ("credit_card", {"token_id": 255, "type": 255}),
    ):
        if isinstance(body.get(name), dict):
            yield from _too_long(body[name], name, most)


def _imposed_fee(body: Fields) -> Iterator[str]:
    asked = body.get(FIELD)
    if not isinstance(asked, dict):
        return
    if not isinstance(asked.get("enable"), bool):
        yield f"{FIELD}.enable is required and must be a boolean"
    elif asked["enable"]:
        configs = asked.get("payment_fee_configs")
        if (
            not isinstance(configs, list)
            or not configs
            or not all(_is_fee_config(config) for config in configs)
        ):
            yield f"{FIELD}.payment_fee_configs needs payment_type and customer_percentage (0 to 100)"


def _is_fee_config(config: object) -> bool:
    if not isinstance(config, dict) or not isinstance(config.get("payment_type"), str):
        return False
    percentage = config.get("customer_percentage")
    return (
        isinstance(percentage, int | Decimal) and not isinstance(percentage, bool) and 0 <= percentage <= 100
    )


def _too_long(fields: Fields, where: str, limits: dict[str, int]) -> Iterator[str]:
    for name, most in limits.items():
        value = fields.get(name)
        if value is not None and not isinstance(value, str):
            yield f"{where}.{name} must be a string".lstrip(".")
        elif value and len(value) > most:
            yield f"{where}.{name} is too long (maximum is {most} characters)".lstrip(".")
