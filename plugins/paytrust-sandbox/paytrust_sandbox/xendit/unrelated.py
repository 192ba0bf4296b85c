"""Authentic webhooks that are about no invoice of this shop, by the names the control API has for them."""

import secrets
import uuid
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

from paytrust_sandbox.commands import Act
from paytrust_sandbox.xendit.acts import Acts
from paytrust_sandbox.xendit.invoices import USER_ID, stamp
from paytrust_sandbox.xendit.notices import Notices
from paytrust_sandbox.xendit.state import XenditState

AMOUNT = 25_000
ACCOUNT = {"bank_code": "BNI", "merchant_code": "8808", "account_number": "8808999939380502"}


class Unrelated:
    """
    Sends what the dashboard, other products and other shops of the same account send, all with the right
    token.
    """

    def __init__(self, state: XenditState, acts: Acts, notices: Notices) -> None:
        self._state = state
        self._acts = acts
        self._notices = notices

    def by_name(self) -> dict[str, Callable[[], None]]:
        return {
            "ping": self.ping,
            "other_shop": self.other_shop,
            "payout": self.payout,
            "disbursement": self.disbursement,
            "virtual_account_created": self.virtual_account_created,
            "virtual_account_paid": self.virtual_account_paid,
        }

    def ping(self) -> None:
        """The dashboard's button "Test and save": an invoice that looks paid and does not exist."""
        body: dict[str, Any] = {
            "id": "579c8d61f23fa4ca35e52da4",
            "external_id": "invoice_123124123",
            "user_id": USER_ID,
            "is_high": True,
            "payment_method": "BANK_TRANSFER",
            "status": "PAID",
            "merchant_name": self._state.merchant_name,
            "amount": 50_000,
            "paid_amount": 50_000,
            "adjusted_received_amount": 47_500,
            "fees_paid_amount": 0,
            "bank_code": "PERMATA",
            "payment_channel": "PERMATA",
            "payment_destination": "888888888888",
            "currency": "IDR",
            "paid_at": "2016-10-12T08:15:03.404Z",
            "created": "2016-10-10T08:15:03.404Z",
            "updated": "2016-10-10T08:15:03.404Z",
        }
        self._notices.send("ping", body["external_id"], body)

    def other_shop(self) -> None:
        """A payment at another shop of the account. It exists: its invoice can be asked for."""
        state = self._state
        terms = {
            "external_id": f"SHOP-{uuid.uuid4()}",
            "amount": Decimal(AMOUNT),
            "currency": state.currencies[0],
        }
        invoice = state.invoices.create(
            terms,
            at=state.clock.now(),
            base_url=state.base_url,
            user_id=USER_ID,
            merchant=state.merchant_name,
        )
        self._acts.pay(invoice.id, Act())

    def payout(self) -> None:
        reference, now = f"payout-{uuid.uuid4()}", self._now()
        payout = {
            "payout_id": f"po-{uuid.uuid4()}",
            "status": "SUCCEEDED",
            "reference_id": reference,
            "type": "B2C",
            "source_currency": "IDR",
            "source_amount": AMOUNT,
            "destination_currency": "IDR",
            "destination_amount": AMOUNT,
            "sender": {"type": "BUSINESS", "business_name": self._state.merchant_name},
            "recipient": {"type": "INDIVIDUAL", "given_name": "Ani", "relationship": "CUSTOMER"},
            "created": now,
            "updated": now,
            "business_id": USER_ID,
        }
        self._notices.send(
            "payout.succeeded",
            reference,
            {"event": "v3_payout.succeeded", "business_id": USER_ID, "created": now, "data": payout},
        )

    def disbursement(self) -> None:
        """A payout as the older product tells of it: bare, and with an external_id."""
        body: dict[str, Any] = {
            "id": secrets.token_hex(12),
            "user_id": USER_ID,
            "external_id": f"disbursement-{uuid.uuid4()}",
            "amount": AMOUNT,
            "bank_code": "BNI",
            "account_holder_name": "ANI",
            "disbursement_description": "Payout",
            "is_instant": True,
            "status": "COMPLETED",
            "created": self._now(),
            "updated": self._now(),
        }
        self._notices.send("disbursement.completed", body["external_id"], body)

    def virtual_account_created(self) -> None:
        """A fixed virtual account is there: bare, with an external_id and a status."""
        body: dict[str, Any] = {
            "id": secrets.token_hex(12),
            "owner_id": USER_ID,
            "external_id": f"va-{uuid.uuid4()}",
            **ACCOUNT,
            "name": "ANI",
            "is_closed": False,
            "is_single_use": False,
            "status": "ACTIVE",
            "expiration_date": stamp(self._state.clock.now() + timedelta(days=365)),
            "created": self._now(),
            "updated": self._now(),
        }
        self._notices.send("virtual_account.created", body["external_id"], body)

    def virtual_account_paid(self) -> None:
        """
        Money came in on a fixed virtual account: bare, with an external_id and an amount, and without a
        status.
        """
        body: dict[str, Any] = {
            "id": secrets.token_hex(12),
            "payment_id": f"{uuid.uuid4()}",
            "callback_virtual_account_id": secrets.token_hex(12),
            "owner_id": USER_ID,
            "external_id": f"va-{uuid.uuid4()}",
            **ACCOUNT,
            "amount": AMOUNT,
            "transaction_timestamp": self._now(),
            "created": self._now(),
            "updated": self._now(),
        }
        self._notices.send("virtual_account.paid", body["external_id"], body)

    def _now(self) -> str:
        return stamp(self._state.clock.now())
