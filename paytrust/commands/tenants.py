"""`paytrust tenants`."""

from __future__ import annotations

import click

from paytrust.commands.base import PAGE, Listing, json_option, pages, print_json, show, with_services
from paytrust.services import Services
from paytrust.tenants.model import CreateTenant, Tenant


@click.group()
def tenants() -> None:
    """Create and list merchants."""


@tenants.command("create")
@click.argument("name")
@json_option
def create_tenant(name: str, as_json: bool) -> None:  # noqa: FBT001 - a flag
    """Create a tenant called NAME and print its id."""
    if not 1 <= len(name) <= 200:
        raise click.BadParameter("a name has 1 to 200 characters")
    tenant = with_services(lambda services: services.tenants.create(CreateTenant(name)))
    if as_json:
        print_json(tenant)
    else:
        click.echo(tenant.tenant_id)


@tenants.command("list")
@json_option
def list_tenants(as_json: bool) -> None:  # noqa: FBT001 - a flag
    """List tenants, oldest first."""
    listing = Listing[Tenant](
        "tenant_id", "name", "created_at", row=lambda t: (t.tenant_id, t.name, t.created_at), as_json=as_json
    )

    async def list_(services: Services) -> None:
        every = pages(lambda after: services.tenants.page(limit=PAGE, after=after), lambda t: t.tenant_id)
        await show(listing, every)

    with_services(list_)
