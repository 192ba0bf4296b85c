"""`paytrust gateways`."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from paytrust.accounts.model import CreateAccount
from paytrust.api.bodies import decode
from paytrust.commands.base import out, table, with_services
from paytrust.infra.settings import disabled_plugins
from paytrust.plugins.registry import Registry


@click.group()
def gateways() -> None:
    """List gateways and their accounts, and add accounts."""


@gateways.command("list")
def list_gateways() -> None:
    """List the installed gateways and the accounts configured at them."""
    installed = Registry(disabled=disabled_plugins()).gateways
    table(
        "gateway",
        "name",
        "currencies",
        rows=[(g.code, g.display_name, " ".join(sorted(g.currencies))) for g in installed.values()],
    )
    out.print()
    found = with_services(lambda services: services.accounts.page(limit=10_000, after=None, tenant_id=None))
    rows = [
        (
            a.gateway_id,
            a.gateway,
            a.name,
            a.tenant_id or "shared",
            " ".join(a.currencies),
            "disabled" if a.disabled else "",
            a.webhook_url,
        )
        for a in found
    ]
    table("gateway_id", "gateway", "name", "tenant_id", "currencies", "", "webhook_url", rows=rows)


@gateways.command("add")
@click.argument("file", type=click.File("rb"))
def add_gateway(file: Any) -> None:
    r"""
    Add a gateway account from the JSON in FILE ("-" reads standard input) and print it with its webhook URL.

    The JSON is the body of POST /gateway-accounts:

    \b
    {"gateway": "xendit", "name": "My shop", "tenant_id": "...",
     "credentials": {"secret_key": "...", "callback_token": "..."},
     "currencies": {"IDR": {"percentage": "0.029", "fixed": "2000"}}}
    """
    data: CreateAccount = decode(CreateAccount, file.read())
    made = with_services(lambda services: services.accounts.create(data))
    out.print(msgspec.json.format(msgspec.json.encode(made)).decode(), markup=False)
