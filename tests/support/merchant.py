"""A merchant, as tests and campaigns know one: a tenant with a key and accounts at both gateways."""

from __future__ import annotations

from support.waiting import eventually

FEE = {"percentage": "0.029", "fixed": "2000"}
CURRENCIES = {
    "xendit": {"IDR": FEE, "MYR": {}, "USD": {"percentage": "0.029", "fixed": "0.30"}},
    "midtrans": {"IDR": FEE},
}
"""What an account at each gateway takes, and for which fee."""


def sign_up(admin, name):
    """A new tenant's id, and a key of its own."""
    tenant_id = admin.post("/tenants", json={"name": name}).raise_for_status().json()["tenant_id"]
    key = admin.post("/api-keys", json={"tenant_id": tenant_id}).raise_for_status().json()
    return tenant_id, key["api_key"]


def account_body(gateway, remote, tenant_id, **changes):
    """The body of POST /gateway-accounts for an account at a sandbox; None as the tenant: all share it."""
    credentials = (
        {"secret_key": remote.key, "callback_token": remote.callback_token}
        if gateway == "xendit"
        else {"server_key": remote.key, "merchant_id": remote.merchant_id}
    )
    return {
        "gateway": gateway,
        "name": gateway,
        "tenant_id": tenant_id,
        "base_url": remote.url,
        "credentials": credentials,
        "currencies": CURRENCIES[gateway],
        **changes,
    }


def open_account(admin, body):
    answer = admin.post("/gateway-accounts", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


class Merchant:
    """A tenant with a key and an account at both gateways."""

    def __init__(self, admin, api, sandbox, tenant_id, accounts):
        self.admin, self.api, self.sandbox, self.tenant_id, self.accounts = (
            admin,
            api,
            sandbox,
            tenant_id,
            accounts,
        )
        self.xendit_id, self.midtrans_id = (
            accounts["xendit"]["gateway_id"],
            accounts["midtrans"]["gateway_id"],
        )

    def body(self, gateway="xendit", currency="IDR", **changes):
        """A valid POST /invoices: IDR 450,000 + 49,500 tax + 15,050 fee = 514,550."""
        line = {
            "product_name": "Laptop sleeve",
            "quantity": 3,
            "unit_price": "150000" if currency == "IDR" else "19.99",
            "tax_rate": "0.11",
        }
        return {
            "gateway_id": self.accounts[gateway]["gateway_id"],
            "currency": currency,
            "line_items": [line],
            **changes,
        }

    def invoice(self, gateway="xendit", **changes):
        answer = self.api.post("/invoices", json=self.body(gateway, **changes))
        assert answer.status_code == 201, answer.text
        return answer.json()

    def get(self, invoice, path=""):
        answer = self.api.get(f"/invoices/{invoice['invoice_id']}{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def reference(self, invoice):
        """What the newest attempt is called at the gateway."""
        return self.get(invoice, "/payments")["payments"][-1]["reference"]

    def wait(self, invoice, status, timeout_s=20):
        """Wait until the invoice has *status*."""
        eventually(lambda: self.get(invoice)["status"] == status, f"the invoice is {status}", timeout_s)
        return self.get(invoice)
