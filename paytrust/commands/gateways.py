"""`paytrust gateways`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import click
import msgspec

from paytrust.accounts.model import AccountOut, CreateAccount
from paytrust.api.bodies import decode
from paytrust.commands.base import PAGE, Listing, chosen_registry, json_option, pages, show, with_services
from paytrust.contract.gateways import Gateway
from paytrust.services import Services


@click.group()
def gateways() -> None:
    """List gateways and their accounts, and add or remove accounts."""


@gateways.command("list")
@json_option
def list_gateways(as_json: bool) -> None:  # noqa: FBT001 - a flag
    """List the installed gateways and the accounts configured at them; with --json only the accounts."""
    if not as_json:
        installed = Listing[type[Gateway[Any, Any]]](
            "gateway",
            "name",
            "currencies",
            row=lambda g: (g.code, g.display_name, " ".join(sorted(g.currencies))),
            as_json=False,
        )
        installed.add(chosen_registry().gateways.values())
        installed.end()
        click.echo()
    accounts = Listing[AccountOut](
        "gateway_id",
        "gateway",
        "name",
        "tenant_id",
        "currencies",
        "",
        "webhook_url",
        row=lambda a: (
            a.gateway_id,
            a.gateway,
            a.name,
            a.tenant_id or "shared",
            " ".join(a.currencies),
            "disabled" if a.disabled else "",
            a.webhook_url,
        ),
        as_json=as_json,
    )

    async def list_(services: Services) -> None:
        every = pages(
            lambda after: services.accounts.page(limit=PAGE, after=after, tenant_id=None),
            lambda a: a.gateway_id,
        )
        await show(accounts, every)

    with_services(list_)


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
    click.echo(msgspec.json.format(msgspec.json.encode(made)))


@gateways.command("remove")
@click.argument("gateway_id", type=click.UUID)
def remove_gateway(gateway_id: UUID) -> None:
    """Delete the gateway account GATEWAY_ID, as long as nothing refers to it."""
    with_services(lambda services: services.accounts.remove(gateway_id))
    click.echo("removed")
