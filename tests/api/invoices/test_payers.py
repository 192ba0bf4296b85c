"""What a gateway gets of a payer, and what the merchant sees of it."""

from __future__ import annotations

import json

import pytest


@pytest.mark.parametrize("gateway", ["xendit", "midtrans"])
def test_a_gateway_gets_a_phone_number_in_e164(merchant, sandbox, gateway):
    customer = {"name": "Siti", "email": "siti@example.com", "phone": "0812-3456-7890", "country": "ID"}
    invoice = merchant.invoice(gateway, customer=customer)
    assert invoice["customer"] == customer
    (asked,) = [one for one in getattr(sandbox, gateway).requests if one.method == "POST"]
    body = json.loads(asked.body)
    sent = body["customer"] if gateway == "xendit" else body["customer_details"]
    assert sent["mobile_number" if gateway == "xendit" else "phone"] == "+6281234567890"
    assert sent["email"] == "siti@example.com"
