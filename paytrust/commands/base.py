"""
What the commands share: errors as one clear message, times, lists that are printed as they are read, and
services that are connected to the database.
"""

from __future__ import annotations

import asyncio
import re
import unicodedata
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from datetime import datetime
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

import click
import msgspec

from paytrust import times
from paytrust.commands import SERVICES
from paytrust.infra import logs
from paytrust.infra.settings import Settings, disabled_plugins, load
from paytrust.plugins.registry import Registry
from paytrust.services import Services

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
PAGE: Final = 500
"""Rows that a list reads at once: what a command holds in memory does not grow with the database."""


EXAMPLES: Final = (
    "2026-11-22T10:00:00Z or 2026-11-22T17:00:00+07:00 (with an offset or Z), or a date: 00:00 of it in UTC"
)
TIMES: Final = f"A TIME is written as {EXAMPLES}."
"""A sentence for the help of each command that takes times."""


def read_time(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    """
    A time with an offset or Z, which means the same on every machine, or a date: the beginning of that day in
    UTC.
    """
    if value is None:
        return None
    text = f"{value}T00:00:00Z" if re.fullmatch(r"\d{4}-\d\d-\d\d", value) else value
    try:
        return times.read(text)
    except ValueError as exc:
        raise click.BadParameter(f"{value!r} is not a time such as {EXAMPLES}", ctx, param) from exc


def time_option(*names: str, help: str) -> Callable[[F], F]:  # noqa: A002 - click's word
    """An option that takes a time, by the one rule for all commands."""
    return click.option(*names, callback=read_time, metavar="TIME", default=None, help=help)


gateway_option = click.option(
    "--gateway-id", type=click.UUID, default=None, help="Only this gateway account's."
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object a line, for programs."
)


def chosen_settings() -> Settings:
    """The settings of the application whose command line this is, else those of the environment."""
    application = _application()
    return load() if application is None else application.settings


def chosen_registry() -> Registry:
    """The plugins of that application, else those that are installed and not disabled."""
    application = _application()
    return Registry(disabled=disabled_plugins()) if application is None else application.registry


def _application() -> Services | None:
    context = click.get_current_context(silent=True)
    services: Services | None = None if context is None else context.meta.get(SERVICES)
    return services


def with_services(work: Callable[[Services], Awaitable[T]]) -> T:
    """Run *work* with services connected to the database."""
    settings = chosen_settings()
    logs.configure(settings.model_copy(update={"log_format": "console", "log_level": "warning"}))
    registry = chosen_registry()

    async def run() -> T:
        services = Services(settings, registry)
        await services.db.open()
        try:
            return await work(services)
        finally:
            await services.db.close()

    return asyncio.run(run())


async def pages(
    read: Callable[[UUID | None], Awaitable[list[T]]], last: Callable[[T], UUID]
) -> AsyncIterator[list[T]]:
    """All that *read* gives, page by page: it is asked for what follows the *last* of the page before."""
    found = await read(None)
    while found:
        yield found
        found = await read(last(found[-1]))


async def at_most(limit: int, found: AsyncIterator[list[T]]) -> AsyncIterator[list[T]]:
    """The first *limit*; where more follow, standard error says so."""
    left = limit
    async for page in found:
        yield page[:left]
        if len(page) > left:
            click.echo(f"only the first {limit} are shown; --limit shows more", err=True)
            return
        left -= len(page)


class Listing(Generic[T]):
    """
    Prints things as they come: each as a line of a table, or as a line of JSON.

    Nothing is ever cut: an id without its end is no id. Columns are as wide as what was seen so far.
    """

    def __init__(self, *columns: str, row: Callable[[T], tuple[object, ...]], as_json: bool) -> None:
        self.count = 0
        self._columns, self._row, self._as_json = columns, row, as_json
        self._widths = [len(column) for column in columns]

    def add(self, things: Iterable[T]) -> None:
        if self._as_json:
            for thing in things:
                self.count += 1
                print_json(thing)
            return
        lines = [[_cell(value) for value in self._row(thing)] for thing in things]
        for line in lines:
            self._widths = [max(width, _width(cell)) for width, cell in zip(self._widths, line, strict=True)]
        if lines and not self.count:
            self._print(self._columns)
        for line in lines:
            self.count += 1
            self._print(line)

    def end(self) -> None:
        if not (self.count or self._as_json):
            click.echo("none")

    def _print(self, cells: Iterable[str]) -> None:
        padded = (
            cell + " " * (width - _width(cell)) for cell, width in zip(cells, self._widths, strict=True)
        )
        click.echo("  ".join(padded).rstrip())


async def show(listing: Listing[T], found: AsyncIterator[list[T]]) -> int:
    """Print a whole list, and return how long it was."""
    async for page in found:
        listing.add(page)
    listing.end()
    return listing.count


def print_json(thing: object) -> None:
    click.echo(msgspec.json.encode(thing))


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    # A line break would end the row, and an escape sequence would be obeyed by the terminal.
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value))


def _width(text: str) -> int:
    """How many columns of a terminal it takes: many scripts of Asia take two for each character."""
    return sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in text if not unicodedata.combining(c))
