"""`paytrust doctor`, and what it looks at."""

from __future__ import annotations

import asyncio
import sys
from typing import Final

import click
import msgspec

from paytrust.commands.base import chosen_registry, chosen_settings, json_option, print_json
from paytrust.errors import PayTrustError
from paytrust.infra import db
from paytrust.infra.db import Database
from paytrust.infra.settings import Settings
from paytrust.keys.model import WRONG_PEPPER, fingerprint
from paytrust.keys.service.pepper import Pepper
from paytrust.plugins.registry import PluginState
from paytrust.secrets import jobs
from paytrust.services import Services


class Finding(msgspec.Struct, frozen=True):
    """One thing looked at: *ok* is None for a remark that is no fault."""

    what: str
    ok: bool | None = True


async def run_checks() -> list[Finding]:
    """Look at settings, plugins and database, as far as each allows the next."""
    try:
        settings = chosen_settings()
    except PayTrustError as exc:
        return [Finding(exc.detail, ok=False)]
    return [
        Finding("the settings are complete"),
        *_settings(settings),
        *_plugins(),
        *await _database(settings),
    ]


def _settings(settings: Settings) -> list[Finding]:
    pepper = settings.key_pepper.get_secret_value()
    names = " and ".join(f"admin:{fingerprint(pepper, key)}" for key in settings.admin_keys())
    findings: list[Finding] = [Finding(f"the audit calls the admin key {names}")]
    if settings.admin_api_key_previous is not None:
        findings.append(
            Finding(
                "PAYTRUST_ADMIN_API_KEY_PREVIOUS is set: remove it when that key is no longer used",
                ok=None,
            )
        )
    if settings.insecure_gateways:
        findings.append(Finding("PAYTRUST_INSECURE_GATEWAYS is on: calls to gateways may use http", ok=None))
    if not settings.public_url.startswith("https://"):
        findings.append(
            Finding(
                f"PAYTRUST_PUBLIC_URL is {settings.public_url}: no gateway on the internet can deliver there",
                ok=None,
            )
        )
    elif not settings.trusted_proxies:
        remark = "PAYTRUST_TRUSTED_PROXIES is not set: behind a proxy all clients have its address, and without a valid key one limit together"
        findings.append(Finding(remark, ok=None))
    return findings


def _plugins() -> list[Finding]:
    registry = chosen_registry()
    findings = [
        Finding(f"plugin {plugin.name} is quarantined: {plugin.reason}", ok=False)
        for plugin in registry.plugins
        if plugin.state is PluginState.QUARANTINED
    ]
    gateways = ", ".join(sorted(registry.gateways))
    findings.append(
        Finding(
            f"gateways installed: {gateways}" if gateways else "no gateway is installed", ok=bool(gateways)
        )
    )
    return findings


async def _database(settings: Settings) -> list[Finding]:
    database = Database(settings.database_url.get_secret_value(), size=2, name="paytrust doctor")
    try:
        await database.open()
    except PayTrustError as exc:
        return [Finding(exc.detail, ok=False)]
    try:
        found = [Finding("the database answers"), await _version(database), *await _durability(database)]
        for look in (_role, _schema):
            found.append(await look(database))
            if found[-1].ok is False:
                return found  # what comes after it cannot be read
        return [*found, *await _secrets(settings), *await _pepper(settings, database)]
    finally:
        await database.close()


async def _version(database: Database) -> Finding:
    async with database.transaction(system=True, readonly=True) as tx:
        number = await tx.fetchval("SELECT current_setting('server_version_num')::int / 10000")
    return Finding(
        f"PostgreSQL {number}" + ("" if number >= 14 else ": 14 or newer is needed"), ok=number >= 14
    )


async def _role(database: Database) -> Finding:
    try:
        await db.check_service_role(database)
    except PayTrustError as exc:
        return Finding(exc.detail, ok=False)
    return Finding("the service's role owns nothing and cannot bypass row-level security")


async def _schema(database: Database) -> Finding:
    try:
        await db.check_schema(database)
    except PayTrustError as exc:
        return Finding(exc.detail, ok=False)
    return Finding("the database has every migration of this version, and the service's role its grants")


async def _secrets(settings: Settings) -> list[Finding]:
    """Which master keys are there, which are needed, and which may go."""
    services = Services(settings, chosen_registry())
    await services.db.open()
    try:
        wrong = await services.secrets.openable()
        needed = await jobs.needed(services.secrets, services.sealed_stores)
    finally:
        await services.db.close()
    first, *others = services.secrets.master_keys
    findings = [Finding(what, ok=False) for what in wrong.values() if what]
    for master_key, uses in sorted(needed.items()):
        if master_key not in services.secrets.master_keys:
            if master_key not in wrong:
                findings.append(
                    Finding(
                        f"PAYTRUST_ENCRYPTION_KEYS lacks the master key {master_key}, which stored secrets need: {jobs.describe(uses)}",
                        ok=False,
                    )
                )
        elif wrong.get(master_key) is None:
            findings.append(Finding(f"the master key {master_key} is needed for {jobs.describe(uses)}"))
    if any(master_key != first or uses.keys() - {"data keys"} for master_key, uses in needed.items()):
        findings.append(
            Finding(
                f"run `paytrust secrets rotate`: then only {first} is needed, and only for data keys",
                ok=None,
            )
        )
    findings += [
        Finding(
            f"the master key {key} is not needed: remove it when {first} comes first in the settings of every process",
            ok=None,
        )
        for key in others
        if key not in needed
    ]
    return findings


async def _pepper(settings: Settings, database: Database) -> list[Finding]:
    """Whether the API keys are made with the pepper of the settings."""
    fits = await Pepper(database, settings.key_pepper.get_secret_value()).fits()
    if fits is None:
        return [Finding("no process has started yet: the first one adopts PAYTRUST_KEY_PEPPER", ok=None)]
    if not fits:
        return [Finding(WRONG_PEPPER, ok=False)]
    return [Finding("the API keys are made with PAYTRUST_KEY_PEPPER")]


async def _durability(database: Database) -> list[Finding]:
    async with database.transaction(system=True, readonly=True) as tx:
        rows = await tx.fetch(
            "SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit')"
        )
    return [
        Finding(
            f"{row['name']} is off: a crash of the server can lose payments that were acknowledged",
            ok=False,
        )
        for row in rows
        if row["setting"] == "off"
    ]


MARKS: Final = {
    True: click.style("ok  ", fg="green"),
    False: click.style("no  ", fg="red"),
    None: click.style("note", fg="yellow"),
}


@click.command()
@json_option
def doctor(as_json: bool) -> None:  # noqa: FBT001 - a flag
    """Check settings, plugins and database, and say what to do about what is wrong."""
    findings = asyncio.run(run_checks())
    for finding in findings:
        if as_json:
            print_json(finding)
        else:
            click.echo(f"{MARKS[finding.ok]} {finding.what}")
    sys.exit(any(finding.ok is False for finding in findings))
