"""`paytrust payments`."""

from __future__ import annotations

import sys

import click

from paytrust.commands.base import Listing, json_option, with_services
from paytrust.payments.model import CheckedInvoice, CheckedPayment, CheckResult
from paytrust.services import Services


@click.group()
def payments() -> None:
    """Ask gateways about payments now."""


@payments.command("check")
@click.argument("name", metavar="REFERENCE|INVOICE_ID")
@json_option
def check_payments(name: str, as_json: bool) -> None:  # noqa: FBT001 - a flag
    """
    Ask the gateway about the payments of an invoice, and book what it says.

    Says for each payment what was found, or why it was not asked about; exit code 1 if a call failed.
    """

    async def check(services: Services) -> CheckedInvoice:
        try:
            return await services.checking.check(*await services.checking.named(name))
        finally:
            await services.accounts.close()

    checked = with_services(check)
    listing = Listing[CheckedPayment](
        "reference",
        "result",
        "reason",
        "payment_id",
        row=lambda payment: (payment.reference, payment.result, payment.reason, payment.payment_id),
        as_json=as_json,
    )
    listing.add(checked.payments)
    listing.end()
    click.echo(f"invoice {checked.invoice_id} is {checked.status}", err=as_json)
    sys.exit(any(payment.result is CheckResult.FAILED for payment in checked.payments))
