"""
The verbs: map, send, map back. Snap opens pages at one host; the Core API, at another, charges, tells and
ends payments of both.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, ClassVar, Final

import msgspec

from paytrust import (
    Answer,
    Credentials,
    Gateway,
    GatewayPayment,
    GatewayRejected,
    GatewayUnavailable,
    Limits,
    Money,
    PaymentLookup,
    PaymentRequest,
    PaymentStatus,
    UnreadableWebhook,
    Webhook,
    WebhookNotice,
)
from paytrust_midtrans import answers, requests, webhooks
from paytrust_midtrans.requests import MidtransOptions

Key = Annotated[str, msgspec.Meta(pattern=r"\A[!-~]+\Z")]

SNAP_HOSTS: Final = {
    "https://api.midtrans.com": "https://app.midtrans.com",
    "https://api.sandbox.midtrans.com": "https://app.sandbox.midtrans.com",
}


SNAP_API: Final = {"transaction-source": "SNAP_API"}
"""For a status by the id of a transaction of a BI-SNAP channel: DANA, and some banks' virtual accounts."""


class MidtransCredentials(Credentials, frozen=True):
    """With *merchant_id*, notifications of any other merchant are refused."""

    server_key: Key
    merchant_id: Key | None = None


class MidtransGateway(Gateway[MidtransCredentials, MidtransOptions]):
    """Midtrans: Snap's hosted page, or one Core API charge."""

    code: ClassVar[str] = "midtrans"
    display_name: ClassVar[str] = "Midtrans"
    base_url: ClassVar[str] = "https://api.midtrans.com"
    currencies: ClassVar[frozenset[str]] = frozenset({"IDR"})
    credentials_type: ClassVar[type[Credentials]] = MidtransCredentials
    options_type: ClassVar[type[msgspec.Struct]] = MidtransOptions

    @classmethod
    def headers(cls, credentials: MidtransCredentials) -> dict[str, str]:
        return {"authorization": "Basic " + b64encode(f"{credentials.server_key}:".encode()).decode()}

    @classmethod
    def explain(cls, answer: Answer) -> str | None:
        return answer.json(answers.Verdict).reason

    def limits(self, currency: str) -> Limits:
        assert currency == "IDR"
        return requests.limits(self.options)

    def page_hosts(self) -> Collection[str]:
        """
        Snap's pages are at app.midtrans.com and app.sandbox.midtrans.com. A wallet that was charged has a
        page of its own.
        """
        return ("midtrans.com",) if self.options.product == "snap" else ()

    async def create_payment(self, request: PaymentRequest) -> GatewayPayment:
        return await (self._charge(request) if self.options.product == "core" else self._open_page(request))

    async def find_payments(self, lookup: PaymentLookup) -> Sequence[GatewayPayment]:
        transaction = await self._find(lookup.reference, lookup.amount, lookup.hints)
        return [] if transaction is None else [self._payment(transaction, lookup.reference)]

    async def expire_payment(self, payment: GatewayPayment) -> None:
        transaction = await self._find(payment.reference, payment.amount, (payment.gateway_payment_id,))
        ended = transaction is not None and await self._end(payment, transaction)
        if self.options.product == "snap":
            await self._close_page(payment, transaction, is_last_hope=not ended)

    def verify_webhook(self, webhook: Webhook) -> None:
        webhooks.verify(
            webhook, server_key=self.credentials.server_key, merchant_id=self.credentials.merchant_id
        )

    def read_webhook(self, webhook: Webhook) -> WebhookNotice:
        return webhooks.notice(webhook)

    @property
    def _snap_url(self) -> str:
        return SNAP_HOSTS.get(self.http.base_url, self.http.base_url)

    async def _charge(self, request: PaymentRequest) -> GatewayPayment:
        body, headers = requests.charge_body(request, self.options), requests.charge_headers(request)
        answer = await self.http.post("/v2/charge", json=body, headers=headers, answers=(404, 406))
        return answers.charged_payment(answer, request)

    async def _open_page(self, request: PaymentRequest) -> GatewayPayment:
        body, headers = requests.snap_body(request), requests.notify_headers(request)
        try:
            # This URL always exists, so a 404 comes from a proxy: the page may have been created.
            answer = await self.http.post(
                "/snap/v1/transactions", json=body, headers=headers, base_url=self._snap_url, answers=(404,)
            )
        except GatewayRejected as exc:
            if answers.SNAP_ORDER_TAKEN.search(exc.detail):
                raise answers.order_taken(request) from exc
            raise
        return answers.opened_page(answer, request)

    async def _find(self, reference: str, amount: Money, ids: Collection[str]) -> answers.Transaction | None:
        """
        The transaction of a payment, by its order; of BI-SNAP channels, which may not know that, by its id.
        """
        transaction = await self._transaction(reference, ids=ids)
        if transaction is not None and transaction.order_id == reference:
            return transaction
        for name in ids:
            by_id = await self._transaction(name, headers=SNAP_API)
            if by_id is not None and answers.is_of(by_id, reference, amount, self.credentials.merchant_id):
                return by_id
        return None

    async def _transaction(
        self, name: str, *, ids: Collection[str] = (), headers: Mapping[str, str] | None = None
    ) -> answers.Transaction | None:
        """The transaction that has *name* as its order or its id, or one of *ids*."""
        answer = await self.http.get(f"/v2/{name}/status", headers=headers, answers=(404, 407))
        return answers.found_transaction(answer, {name, *ids})

    def _payment(self, transaction: answers.Transaction, reference: str | None = None) -> GatewayPayment:
        retryable = self.options.product == "snap"
        return answers.payment_from(transaction, retryable=retryable, reference=reference)

    def _can_be_paid(self, transaction: answers.Transaction) -> bool:
        """Raises `GatewayRejected` when it has been paid, which a refund or chargeback implies."""
        try:
            status = self._payment(transaction).status
        except UnreadableWebhook as exc:
            raise GatewayRejected(exc.detail) from exc
        if status is PaymentStatus.PAID:
            raise GatewayRejected(f"midtrans: transaction {transaction.transaction_id} has been paid")
        return status is PaymentStatus.OPEN

    async def _end(self, payment: GatewayPayment, transaction: answers.Transaction) -> bool:
        """
        End this try to pay, or see that it has ended. False for a refused one: the page would take another.
        """
        if not self._can_be_paid(transaction):
            return True
        word = answers.ending(transaction)
        if word is None:
            return False
        try:
            await self._say(transaction, word)
        except GatewayRejected:
            # It may have moved between our look and our word.
            again = await self._find(payment.reference, payment.amount, (transaction.transaction_id,))
            if again is None or self._can_be_paid(again):
                raise
        return True

    async def _say(self, transaction: answers.Transaction, word: str) -> None:
        """End *transaction* by "expire" or "cancel"; BI-SNAP channels know only the second."""
        answer = await self.http.post(f"/v2/{transaction.transaction_id}/{word}", json={}, answers=(407, 412))
        if word == "expire" and answers.cannot_modify(answer):
            await self._say(transaction, "cancel")
        else:
            answers.read(answer, answers.Verdict)

    async def _close_page(
        self, payment: GatewayPayment, transaction: answers.Transaction | None, *, is_last_hope: bool
    ) -> None:
        """Cancel the Snap token, which *payment* goes by unless it was found again by its transaction."""
        if transaction is not None and payment.gateway_payment_id == transaction.transaction_id:
            if is_last_hope:
                raise GatewayRejected(
                    f"midtrans: the page of order {payment.reference} can only be left to expire: its token is not known"
                )
            return
        try:
            await self.http.post(
                f"/snap/v1/transactions/{payment.gateway_payment_id}/cancel", json={}, base_url=self._snap_url
            )
        except GatewayRejected as exc:
            why = exc.detail.lower()
            if is_last_hope and "on progress" in why:
                raise GatewayUnavailable("midtrans: the payer has just picked a method; try again") from exc
            # No such token: of an order with a transaction, *payment* then goes by an earlier one, and the
            # page is open still.
            gone = "already cancel" in why or ("not found" in why and transaction is None)
            if is_last_hope and not gone:
                raise
