"""
What one POST /invoices sends to PostgreSQL, recorded while the service handles it, as a script for pgbench.

The same statements in the same round trips with the same parameters. Different per transaction are the ids,
as they are in the service: pgbench counts, and the server makes ids of the number, which costs it some
microseconds that the service spends itself. The tenant is set by set_config, because SET takes no parameters
and every client has its own tenant.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import asyncpg
import httpx
import msgspec
from app import create
from asgi import calling
from drive import EXTERNAL_ID
from fixture import Fixture, Merchant

import paytrust.services
from paytrust.infra.db import Database

_PARAMETER: Final = re.compile(r"\$(\d+)")
_TENANT: Final = re.compile(r"SET LOCAL app\.tenant = '[^']*'")
NUMBER: Final = "(:k::bigint * 4096 + :client_id::bigint)"


class Statement(msgspec.Struct, frozen=True):
    """One round trip: *types* are those of its parameters."""

    sql: str
    arguments: tuple[Any, ...]
    types: tuple[str, ...]


class _Recorder(Database):
    """
    The service's database, listened to where it answers API calls: work in the background has a pool of its
    own.
    """

    heard: list[Any] = []  # noqa: RUF012 - one for all, emptied before it counts

    async def _acquire(self, tenant: UUID | None, within_s: float) -> Any:
        connection = await super()._acquire(tenant, within_s)
        if self._name == "paytrust api":
            connection.add_query_logger(self.heard.append)
        return connection

    async def _release(self, tenant: UUID | None, connection: Any, *, doubtful: bool) -> None:
        if self._name == "paytrust api":
            connection.remove_query_logger(self.heard.append)
        await super()._release(tenant, connection, doubtful=doubtful)


@contextlib.contextmanager
def _listening() -> Iterator[list[Any]]:
    original = paytrust.services.Database
    paytrust.services.Database = _Recorder  # type: ignore[misc]
    try:
        yield _Recorder.heard
    finally:
        paytrust.services.Database = original  # type: ignore[misc]


async def record(fixture: Fixture) -> tuple[list[Statement], dict[str, Any]]:
    """Let the service create an invoice and return its statements, and its answer."""
    merchant = fixture.merchants[0]
    with _listening() as heard:
        async with calling(create()) as http:
            logging.getLogger().setLevel(logging.WARNING)
            await _post(http, merchant, "recorded-before")  # the key is looked up, the gateway made
            heard.clear()
            answer = await _post(http, merchant, "recorded-invoice")
    connection = await asyncpg.connect(fixture.service_url)
    try:
        return [await _statement(connection, query) for query in heard], answer
    finally:
        await connection.close()


async def _post(http: httpx.AsyncClient, merchant: Merchant, external_id: str) -> dict[str, Any]:
    body = merchant.body("instant").replace(EXTERNAL_ID, external_id)
    headers = {"x-api-key": merchant.api_key, "content-type": "application/json"}
    response = await http.post("/invoices", content=body, headers=headers)
    assert response.status_code == 201, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def _statement(connection: asyncpg.Connection[asyncpg.Record], query: Any) -> Statement:
    if not query.args:
        return Statement(query.query, (), ())
    prepared = await connection.prepare(query.query)
    types = tuple(f"{type_.schema}.{type_.name}" for type_ in prepared.get_parameters())
    return Statement(query.query, tuple(query.args), types)


class Script(msgspec.Struct, frozen=True):
    """
    For pgbench: the script, and the constants given by `-D`. It also wants *k*, a number that no earlier run
    has counted up to.
    """

    text: str
    constants: dict[str, str]


def script(statements: list[Statement], answer: dict[str, Any], fixture: Fixture) -> Script:
    """Turn what was recorded into a pgbench script over all merchants."""
    own = _own(statements, answer, fixture.merchants[0])
    constants = {"ready": "0"}
    lines = [*_choice(fixture.merchants), "\\set k :k + 1"]
    for number, statement in enumerate(statements):
        lines += _round_trip(number, statement, own, constants)
    return Script("\n".join(lines) + "\n", constants)


def _own(statements: list[Statement], answer: dict[str, Any], merchant: Merchant) -> dict[str, str]:
    """
    Texts that differ between transactions, and what pgbench puts in their place. The longest first: a
    reference holds no id.
    """
    identifier = f"lpad(to_hex({NUMBER}), 32, '0')::uuid::text"
    texts = [str(argument) for statement in statements for argument in statement.arguments]
    reference = next(text for text in texts if text.startswith("PT-") and text.endswith("-1-1x"))
    new_ids = {text for text, type_ in _typed(statements) if type_ == "pg_catalog.uuid"}
    new_ids -= {str(merchant.tenant_id), str(merchant.accounts["instant"])}
    return {
        str(merchant.tenant_id): ":tenant",
        str(merchant.accounts["instant"]): ":account",
        reference: f"('PT-' || lpad(to_hex({NUMBER}), 26, '0') || '-1-1x')",
        str(answer["external_id"]): f"lpad(to_hex({NUMBER}), 24, '0')",
        **dict.fromkeys(sorted(new_ids), identifier),
    }


def _typed(statements: list[Statement]) -> Iterator[tuple[str, str]]:
    for statement in statements:
        yield from zip(map(str, statement.arguments), statement.types, strict=True)


def _choice(merchants: list[Merchant]) -> list[str]:
    """Each client serves one merchant, as each connection of the HTTP load does; asked once, then kept."""
    columns = {"tenant": [m.tenant_id for m in merchants], "account": [m.accounts["http"] for m in merchants]}
    chosen = ", ".join(
        f"('{{{','.join(map(str, values))}}}'::text[])[:client_id::int % {len(merchants)} + 1] AS {name}"
        for name, values in columns.items()
    )
    return ["\\if :ready = 0", f"SELECT {chosen} \\gset", "\\set ready 1", "\\endif"]


def _round_trip(
    number: int, statement: Statement, own: dict[str, str], constants: dict[str, str]
) -> list[str]:
    if not statement.arguments:
        parts = [
            _TENANT.sub("SELECT set_config('app.tenant', :tenant, true)", part).strip()
            for part in statement.sql.split(";")
        ]
        sent = [f"{part};" for part in parts if part]
        return sent if len(sent) == 1 else ["\\startpipeline", *sent, "\\endpipeline"]

    def parameter(match: re.Match[str]) -> str:
        index = int(match[1]) - 1
        text, type_ = _text(statement.arguments[index]), statement.types[index]
        return f"({_value(text, f's{number}_{match[1]}', own, constants)})::{type_}"

    return [_PARAMETER.sub(parameter, " ".join(statement.sql.split())) + ";"]


def _value(text: str | None, name: str, own: dict[str, str], constants: dict[str, str]) -> str:
    if text is None:
        return "NULL"
    if text in own:
        return own[text]
    constants[name] = text
    value = f":{name}::text"
    for old, new in own.items():
        if old in text:
            value = f"replace({value}, '{old}', {new})"
    return value


def _text(argument: Any) -> str | None:
    """Write *argument* as PostgreSQL reads it."""
    if argument is None:
        return None
    if isinstance(argument, bytes):
        return "\\x" + argument.hex()
    if isinstance(argument, datetime):
        return argument.isoformat()
    if isinstance(argument, str | int | Decimal | UUID):
        return str(argument)
    raise TypeError(f"pgbench cannot be given {argument!r}")
