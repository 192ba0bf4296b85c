"""The hosted invoice page, `/web/{id}`."""

from decimal import Decimal

from paytrust_sandbox.commands import Act
from paytrust_sandbox.http import Refusal, Request, Response, Router, html_response, see_other
from paytrust_sandbox.money import shown, wire
from paytrust_sandbox.page import Bill, Line, render
from paytrust_sandbox.xendit.acts import Acts
from paytrust_sandbox.xendit.invoices import Invoice
from paytrust_sandbox.xendit.state import XenditState


class Pages:
    """Shows an invoice to its payer and does what the payer presses."""

    def __init__(self, state: XenditState, acts: Acts) -> None:
        self._state = state
        self._acts = acts

    def add_to(self, router: Router) -> None:
        router.add("GET", "/web/{id}", "page", self.show)
        router.add("POST", "/web/{id}", "page", self.press)

    def show(self, request: Request) -> Response:
        return html_response(render(bill(self._invoice(request))))

    def press(self, request: Request) -> Response:
        """Pay or let expire, then show the page again; on a page gone stale, only show it."""
        invoice, form = self._invoice(request), request.form
        if invoice.status == "PENDING":
            try:
                self._do(invoice, form)
            except ValueError as exc:
                return html_response(render(bill(invoice, problem=str(exc))), 400)
        return see_other(request.path)

    def _do(self, invoice: Invoice, form: dict[str, str]) -> None:
        if form.get("do") == "expire":
            self._acts.expire(invoice.id, Act())
        else:
            amount = form.get("amount", "") if form.get("do") == "pay_other" else "full"
            self._acts.pay(invoice.id, Act(amount=amount, channel=form.get("channel") or None))

    def _invoice(self, request: Request) -> Invoice:
        invoice = self._state.invoices.by_id.get(request.params["id"])
        if invoice is None:
            raise Refusal(
                html_response("<!doctype html><title>Not found</title><p>There is no such invoice.</p>", 404)
            )
        return invoice


def bill(invoice: Invoice, problem: str = "") -> Bill:
    """Return what the page of *invoice* shows."""
    currency = invoice.body["currency"]
    items = [
        (f"{item['name']} x {wire(Decimal(item['quantity']))}", item["price"] * item["quantity"])
        for item in invoice.body.get("items") or ()
    ]
    fees = [(fee["type"], fee["value"]) for fee in invoice.body.get("fees") or ()]
    paid = invoice.status in ("PAID", "SETTLED")
    return Bill(
        gateway="Xendit",
        merchant=invoice.merchant_name,
        reference=invoice.external_id,
        description=invoice.body.get("description") or "",
        amount=shown(invoice.amount, currency),
        status=invoice.status,
        action=f"/web/{invoice.id}",
        channels=list(invoice.channels),
        lines=[Line(label, shown(Decimal(value), currency)) for label, value in items + fees],
        result=_result(invoice),
        paid=paid,
        return_url=invoice.body.get("success_redirect_url" if paid else "failure_redirect_url") or "",
        expiry=f"Expires {invoice.expires_at:%Y-%m-%d %H:%M:%S} UTC.",
        hints=[problem] if problem else [],
    )


def _result(invoice: Invoice) -> str:
    if invoice.status == "EXPIRED":
        return "This invoice has expired."
    if invoice.paid_amount is None:
        return ""
    return f"Paid {shown(invoice.paid_amount, invoice.currency)} with {invoice.payment['payment_channel']}."
