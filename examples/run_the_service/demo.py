"""
The whole story on one machine, over real HTTP and a real PostgreSQL: `make demo`.

An invoice is created through the API, paid on the gateway's own page, and becomes paid when the gateway's
webhook has been verified and confirmed; then the books are proven. Once through Xendit, once through Midtrans
(local sandboxes).
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from paytrust import development
from paytrust.development import DevEnvironment
from paytrust.errors import PayTrustError
from paytrust.infra.db import Database
from paytrust.reconciliation.service import Proofs

WAIT_S = 20
LINES = [
    {"product_name": "Laptop sleeve", "quantity": 3, "unit_price": "150000", "tax_rate": "0.11"},
    {"product_name": "Sticker set", "quantity": 2, "unit_price": "12500", "tax_rate": "0.11"},
    {"product_name": "Gift wrapping", "quantity": 1, "unit_price": "10000"},
]


def say(step: str, detail: str = "") -> None:
    print(f"{step:<34} {detail}", flush=True)


def main() -> int:
    """Run the story and return the exit code."""
    data = Path(os.environ.get("PAYTRUST_DATA", ".data"))
    began = time.monotonic()
    print("PayTrust demo: an invoice, a payment page, a webhook, money in the books\n")
    with development.environment(data, port=development.free_port(), log_level="error") as ready:
        say(
            "PostgreSQL, migrations, sandboxes",
            f"ready after {time.monotonic() - began:.1f} s, data kept in {data}/",
        )
        with (
            development.serving(ready.settings) as url,
            httpx.Client(base_url=url, headers={"X-API-Key": ready.api_key}, timeout=30) as api,
        ):
            say("API", url)
            for gateway, gateway_id in ready.accounts.items():
                pay_one(api, gateway, str(gateway_id))
        mistakes = asyncio.run(prove(ready))
    say(
        "\nbooks",
        "every balance and status recomputed: all agree" if not mistakes else f"DISAGREE: {mistakes}",
    )
    say("done", f"{time.monotonic() - began:.1f} s; explore with `make dev`, read on in docs/index.md")
    return 1 if mistakes else 0


def pay_one(api: httpx.Client, gateway: str, gateway_id: str) -> None:
    """One invoice from creation to paid."""
    print(f"\n--- {gateway} ---")
    order, key = (
        {"gateway_id": gateway_id, "currency": "IDR", "line_items": LINES},
        {"Idempotency-Key": str(uuid4())},
    )
    answer = api.post("/invoices", json=order, headers=key)
    answer.raise_for_status()
    invoice = answer.json()
    say("1 POST /invoices", f"HTTP {answer.status_code}, invoice {invoice['invoice_id']}")
    for line in invoice["line_items"]:
        priced = f"{line['quantity']} x {line['unit_price']} = {line['subtotal_amount']}"
        say("", f"{line['product_name']:<14} {priced:<24} tax {line['tax_amount']}")
    say("  computed totals", f"subtotal {invoice['subtotal_amount']} + tax {invoice['total_tax_amount']}")
    say("", f"+ service fee {invoice['total_service_fee_amount']} = IDR {invoice['total_amount']}")
    again = api.post("/invoices", json=order, headers=key)
    assert again.content == answer.content
    say(
        "  sent again, same key",
        f"HTTP {again.status_code}, Idempotent-Replayed: {again.headers['Idempotent-Replayed']}, no second invoice",
    )
    say("2 status and payment page", f"{invoice['status']}, {invoice['payment_url']}")
    page = httpx.get(invoice["payment_url"])
    page.raise_for_status()
    paid = httpx.post(invoice["payment_url"], data={"do": "pay"}, follow_redirects=True)
    paid.raise_for_status()
    say(
        "3 the payer presses Pay there",
        f"{gateway} sandbox answers HTTP {paid.status_code} and sends its webhook",
    )
    invoice = wait_until_paid(api, invoice["invoice_id"])
    payment = api.get(f"/invoices/{invoice['invoice_id']}/payments").json()["payments"][0]
    say(
        "4 webhook verified, confirmed",
        f"gateway payment {payment['gateway_payment_id']}: IDR {payment['paid_amount']}",
    )
    say("5 GET /invoices/{id}", f"status {invoice['status']}")
    overpayment = api.get(f"/invoices/{invoice['invoice_id']}/overpayment").json()
    say(
        "6 books",
        f"owed {overpayment['total_amount']}, paid {overpayment['total_paid']}, over {overpayment['overpayment_amount']}",
    )


def wait_until_paid(api: httpx.Client, invoice_id: str) -> dict[str, Any]:
    """Poll as a shop would, if it did not listen to events."""
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        answer = api.get(f"/invoices/{invoice_id}")
        answer.raise_for_status()
        invoice: dict[str, Any] = answer.json()
        if invoice["status"] == "paid":
            return invoice
        time.sleep(0.05)
    raise SystemExit(f"invoice {invoice_id} was not paid within {WAIT_S} s")


async def prove(ready: DevEnvironment) -> list[str]:
    """Recompute every balance and status from the transfers."""
    database = Database(ready.settings.database_url.get_secret_value(), size=2)
    await database.open()
    try:
        return [mistake.what for mistake in await Proofs(database).verify(ready.tenant_id)]
    finally:
        await database.close()


if __name__ == "__main__":
    logging.getLogger().setLevel(logging.ERROR)
    try:
        sys.exit(main())
    except PayTrustError as problem:
        sys.exit(f"Error: {problem.detail}")
