"""`paytrust tenants`."""

from __future__ import annotations

import click

from paytrust.commands.base import out, table, with_services
from paytrust.tenants.model import CreateTenant


@click.group()
def tenants() -> None:
    """Create and list merchants."""


@tenants.command("create")
@click.argument("name")
def create_tenant(name: str) -> None:
    """Create a tenant called NAME and print its id."""
    if not 1 <= len(name) <= 200:
        raise click.BadParameter("a name has 1 to 200 characters")
    tenant = with_services(lambda services: services.tenants.create(CreateTenant(name)))
    out.print(str(tenant.tenant_id))


@tenants.command("list")
def list_tenants() -> None:
    """List tenants, oldest first."""
    found = with_services(lambda services: services.tenants.page(limit=10_000, after=None))
    table("tenant_id", "name", "created_at", rows=[(t.tenant_id, t.name, t.created_at) for t in found])
