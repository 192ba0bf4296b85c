"""
How a transaction looks in answers and in notifications, and which status_code goes with which status where.
"""

from decimal import Decimal
from typing import Any

from paytrust_sandbox.midtrans.channels import IN_NOTIFICATION
from paytrust_sandbox.midtrans.orders import Order, Transaction
from paytrust_sandbox.midtrans.signature import signature
from paytrust_sandbox.midtrans.state import MidtransSettings
from paytrust_sandbox.midtrans.times import wib
from paytrust_sandbox.odd import with_odd_fields
from paytrust_sandbox.records import Fault, Payment

Fields = dict[str, Any]
EXPIRED = "407"  # what a successful expire answers
NOTIFICATION_CODES = {"pending": "201", "deny": "202", "cancel": "202", "expire": "202", "failure": "202"}
STATUS_CODES = {"pending": "201", "deny": "202", "failure": "202", "expire": EXPIRED}
CUSTOM = ("custom_field1", "custom_field2", "custom_field3", "metadata")
SURPLUS = 1000


def status_code(transaction: Transaction, codes: dict[str, str]) -> str:
    return "201" if transaction.challenged else codes.get(transaction.status, "200")


def answer(transaction: Transaction, merchant_id: str, code: str, message: str) -> Fields:
    """Return the fields every answer about *transaction* has, nulls left out."""
    fields = {
        "status_code": code,
        "status_message": message,
        "transaction_id": transaction.transaction_id,
        "order_id": transaction.order_id,
        "merchant_id": merchant_id,
        "gross_amount": transaction.amount_text,
        "currency": transaction.currency,
        "payment_type": transaction.payment_type,
        "transaction_time": wib(transaction.created_at),
        "transaction_status": transaction.status,
        "fraud_status": transaction.fraud_status,
    }
    return {name: value for name, value in fields.items() if value is not None}


def charged(transaction: Transaction, merchant_id: str, code: str, message: str) -> Fields:
    """Return the answer to a charge. The QRIS one spells its expiry in its own way."""
    expiry = "expire_time" if transaction.payment_type == "qris" else "expiry_time"
    return {
        **answer(transaction, merchant_id, code, message),
        **transaction.shown,
        expiry: wib(transaction.expires_at),
    }


def detailed(transaction: Transaction, merchant_id: str, server_key: str, code: str, message: str) -> Fields:
    """Return *transaction* as the status call and notifications show it, signed over its own *code*."""
    refunds = (
        {"refund_amount": f"{transaction.refunded}.00", "refunds": transaction.refunds}
        if transaction.refunds
        else {}
    )
    settled = {"settlement_time": wib(transaction.settled_at)} if transaction.settled_at else {}
    paid = (
        {"payment_amounts": transaction.payments}
        if transaction.payments or transaction.payment_type == "bank_transfer"
        else {}
    )
    return {
        **answer(transaction, merchant_id, code, message),
        **{name: value for name, value in transaction.shown.items() if name in IN_NOTIFICATION},
        **settled,
        **paid,
        **refunds,
        **_fee_info(transaction),
        "expiry_time": wib(transaction.expires_at),
        **{name: transaction.body[name] for name in CUSTOM if transaction.body.get(name) is not None},
        "signature_key": signature(transaction.order_id, code, transaction.amount_text, server_key),
    }


def _fee_info(transaction: Transaction) -> Fields:
    """
    Return what was asked for, and what the payer paid on top. The types differ, as they do in the
    documentation.
    """
    if not transaction.imposed_fee:
        return {}
    amounts = {
        "original_amount": str(transaction.original_amount),
        "gross_amount": transaction.gross_amount,
        "customer_imposed_payment_fee": str(transaction.imposed_fee),
    }
    return {"extra_info": {"gross_amount_info": amounts}}


def dressed(body: Fields, settings: MidtransSettings) -> Fields:
    """Return *body* with the variations that are switched on."""
    if settings.uppercase_status and "transaction_status" in body:
        body = {**body, "transaction_status": body["transaction_status"].upper()}
    if settings.fee_info == "metadata" and "extra_info" in body:
        body = {**body, "metadata": {**body.get("metadata", {}), "extra_info": body["extra_info"]}}
        del body["extra_info"]
    if settings.omit_fraud_status:
        body = {name: value for name, value in body.items() if name != "fraud_status"}
    return {**body, "a_field_of_tomorrow": {"yes": [1, None]}} if settings.extra_fields else body


def tampered(fault: Fault, value: Any, server_key: str) -> Any:
    """
    Return *value* as *fault* shows it, correctly signed all the same; other faults, and errors, change
    nothing.
    """
    if fault.name == "odd_fields":
        return value if _is_error(value) else _odd(fault, value, server_key)
    if not isinstance(value, dict) or "gross_amount" not in value:
        return value
    if fault.name == "wrong_currency":
        return {**value, "currency": "USD"}
    if fault.name == "wrong_reference":
        return signed({**value, "order_id": f"{value['order_id']}-not"}, server_key)
    if fault.name != "wrong_amount":
        return value
    return signed({**value, "gross_amount": f"{Decimal(value['gross_amount']) + SURPLUS:.2f}"}, server_key)


def _odd(fault: Fault, body: Fields, server_key: str) -> Fields:
    odd: Fields = with_odd_fields(body, fault)
    return odd if "signature_key" in fault.fields else signed(odd, server_key)


def _is_error(body: Fields) -> bool:
    code = str(body.get("status_code", ""))
    return "error_messages" in body or (code >= "400" and code != EXPIRED)


def signed(body: Fields, server_key: str) -> Fields:
    """Return *body* with the signature that belongs to its fields, if it carries one."""
    if "signature_key" not in body:
        return body
    order_id, code, amount = (str(body.get(name, "")) for name in ("order_id", "status_code", "gross_amount"))
    return {**body, "signature_key": signature(order_id, code, amount, server_key)}


def described(order: Order, base_url: str) -> Payment:
    """
    Return *order* as the control API shows it: "unchosen" is an order whose payer has not picked a method.

    Its amount is what was asked for, its paid amount what the payer paid, a fee on top included.
    """
    transaction, session = order.transaction, order.session
    latest = transaction or session
    assert latest is not None
    paid = sum(int(Decimal(payment["amount"])) for payment in transaction.payments) if transaction else 0
    was_paid = transaction is not None and transaction.was_paid
    return Payment(
        id=transaction.transaction_id if transaction else session.token if session else "",
        reference=order.order_id,
        status=transaction.status if transaction else "unchosen",
        amount=str(transaction.original_amount if transaction else latest.gross_amount),
        currency="IDR",
        page_url=session.url
        if session
        else f"{base_url}/simulator/{transaction.transaction_id if transaction else ''}",
        created_at=latest.created_at.isoformat(),
        paid_amount=str(paid or latest.gross_amount) if was_paid else None,
        paid_currency=transaction.currency if transaction and was_paid else None,
        refunded_amount=str(transaction.refunded) if transaction and transaction.refunded else None,
        charged_back_amount=str(transaction.charged_back)
        if transaction and transaction.charged_back
        else None,
        details={
            "fraud_status": transaction.fraud_status if transaction else None,
            "tokens": [
                {"token": one.token, "state": one.state, "expires_at": one.page_expires_at.isoformat()}
                for one in order.sessions
            ],
            "attempts": [
                {"transaction_id": one.transaction_id, "channel": one.channel, "status": one.status}
                for one in order.transactions
            ],
        },
    )
