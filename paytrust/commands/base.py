"""
What the commands share: errors as one clear message, output, and services that are connected to the database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from paytrust.api.pagination import decode_timestamp
from paytrust.errors import PayTrustError
from paytrust.infra import logs
from paytrust.infra.settings import load
from paytrust.plugins.registry import Registry
from paytrust.services import Services

T = TypeVar("T")
out = Console(soft_wrap=True, highlight=False)


def read_time(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    """A time with its offset: without one it would mean another hour on every machine."""
    try:
        return decode_timestamp(param.name or "", value)
    except PayTrustError as exc:
        raise click.BadParameter(
            "expected a time such as 2026-11-22T10:00:00Z, with an offset or Z", ctx, param
        ) from exc


def with_services(work: Callable[[Services], Awaitable[T]]) -> T:
    """Run *work* with services connected to the database."""
    settings = load(log_format="console", log_level="warning")
    logs.configure(settings)

    async def run() -> T:
        services = Services(settings, Registry(disabled=settings.disabled_plugins))
        await services.db.open()
        try:
            return await work(services)
        finally:
            await services.db.close()

    return asyncio.run(run())


def table(*columns: str, rows: list[tuple[Any, ...]]) -> None:
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    out.print(table if rows else "none")


gateway_option = click.option(
    "--gateway-id", type=click.UUID, default=None, help="Only this gateway account's."
)
