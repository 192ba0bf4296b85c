from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar
from uuid import UUID

import aiohttp
import asyncpg
import msgspec

from paytrust.accounts import model, store
from paytrust.accounts.model import (
    Account,
    AccountOut,
    CreateAccount,
    Fee,
    FeeOut,
    ListedAccount,
    UpdateAccount,
)
from paytrust.contract.gateways import Gateway, Limits
from paytrust.contract.http import GatewayHTTP, new_client
from paytrust.errors import Conflict, FieldError, GatewayUnavailable, Invalid, NotFound
from paytrust.idempotency.model import Claim
from paytrust.infra import logs
from paytrust.infra.db import Database, Transaction
from paytrust.infra.ids import new_id
from paytrust.plugins.registry import Registry
from paytrust.secrets.model import NO_TENANT, Outdated, Sealed
from paytrust.secrets.service import Secrets
from paytrust.security import redaction, urls
from paytrust.security.urls import Reach
from paytrust.tenants import service as tenants

GATEWAYS_KEPT: Final = 1_000
RESEALED_AT_ONCE: Final = 100
T = TypeVar("T")

log = logs.get_logger("paytrust.accounts")


class AccountInUse(Conflict):
    """Something refers to the gateway account, so it can be disabled and not deleted."""

    code = "gateway_account_in_use"


class Accounts:
    """Administer gateway accounts, and make the `Gateway` that speaks for one."""

    def __init__(
        self, db: Database, registry: Registry, secrets: Secrets, *, public_url: str, reach: Reach
    ) -> None:
        self._db = db
        self._registry = registry
        self._secrets = secrets
        self._public_url = public_url
        self._reach = reach
        self._client: aiohttp.ClientSession | None = None
        self._gateways: dict[UUID, tuple[datetime, Gateway[Any, Any]]] = {}

    async def close(self) -> None:
        self._gateways.clear()
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    async def create(self, data: CreateAccount, *, claim: Claim | None = None) -> AccountOut:
        gateway = self._gateway_type(data.gateway)
        model.check_base_url(data.base_url, reach=self._reach)
        account_id, now = claim.object_id if claim else new_id(), datetime.now(UTC)
        options = _checked(data.options, gateway.options_type, "options")
        fees = model.read_fees(data.currencies, gateway=data.gateway, supported=gateway.currencies)
        account = Account(
            id=account_id,
            tenant_id=data.tenant_id,
            gateway=data.gateway,
            name=data.name,
            base_url=data.base_url,
            options=options,
            sealed_credentials=await self._seal(
                data.tenant_id or NO_TENANT, account_id, data.credentials, gateway
            ),
            webhook_token=model.new_webhook_token(),
            created_at=now,  # the database's clock decides; read back below
            updated_at=now,
            disabled_at=None,
            fees=fees,
            read_at=now,
        )
        async with self._db.transaction(system=True) as tx:
            if data.tenant_id is not None:
                await tenants.require(tx, data.tenant_id)
            await store.insert(tx, account)
            return self._out(await get(tx, account.id))

    async def update(self, account_id: UUID, data: UpdateAccount) -> AccountOut:
        sealed = (
            None
            if isinstance(data.credentials, msgspec.UnsetType)
            else await self._seal_for(account_id, data.credentials)
        )
        async with self._db.transaction(system=True) as tx:
            account = await store.lock(tx, account_id)
            if account is None:
                raise _unknown(account_id)
            changed = self._changed(account, data, sealed or account.sealed_credentials)
            await store.update(tx, changed, disabled=_either(data.disabled, account.disabled_at is not None))
            return self._out(await get(tx, account_id))

    async def _seal_for(self, account_id: UUID, credentials: dict[str, str]) -> Sealed:
        async with self._db.transaction(system=True, readonly=True) as tx:
            account = await store.find(tx, account_id)
        if account is None:
            raise _unknown(account_id)
        return await self._seal(account.scope, account_id, credentials, self._gateway_type(account.gateway))

    def _changed(self, account: Account, data: UpdateAccount, credentials: Sealed) -> Account:
        gateway = self._gateway_type(account.gateway)
        base_url = _either(data.base_url, account.base_url)
        model.check_base_url(base_url, reach=self._reach)
        name = _either(data.name, account.name)
        account = msgspec.structs.replace(
            account, name=name, base_url=base_url, sealed_credentials=credentials
        )
        if data.options is not msgspec.UNSET:
            account = msgspec.structs.replace(
                account, options=_checked(data.options, gateway.options_type, "options")
            )
        if data.currencies is not msgspec.UNSET:
            fees = model.read_fees(data.currencies, gateway=account.gateway, supported=gateway.currencies)
            account = msgspec.structs.replace(account, fees=fees)
        return account

    async def page(self, *, limit: int, after: UUID | None, tenant_id: UUID | None) -> list[AccountOut]:
        async with self._db.transaction(system=True, readonly=True, isolation="REPEATABLE READ") as tx:
            found = await store.page(tx, limit=limit, after=after, tenant_id=tenant_id)
        return [self._out(account) for account in found]

    def gateway(self, account: Account) -> Gateway[Any, Any]:
        """The gateway that speaks for *account*; made once and kept until the account changes."""
        known = self._gateways.get(account.id)
        if known is not None and known[0] == account.updated_at:
            return known[1]
        type_ = self._registry.gateways.get(account.gateway)
        if type_ is None:
            raise GatewayUnavailable(
                f"the gateway plugin {account.gateway} is not loaded; `paytrust plugins` says why"
            )
        if self._client is None:
            self._client = new_client(self._reach)
        made = self._make(account, type_, self._client)
        if len(self._gateways) >= GATEWAYS_KEPT:
            self._gateways.pop(next(iter(self._gateways)))
        self._gateways[account.id] = (account.updated_at, made)
        return made

    def limits(self, account: Account, currency: str) -> Limits:
        """What one payment may be. Raises `GatewayUnavailable` when the plugin cannot say."""
        gateway = self.gateway(account)
        try:
            limits = gateway.limits(currency)
            return model.check_limits(limits, currency)
        except (Exception, SystemExit) as exc:
            raise self._plugin_failed(account, exc) from exc

    def page_hosts(self, account: Account) -> frozenset[str]:
        """
        The hosts to which a payer may be sent; empty: any. Raises `GatewayUnavailable` when the plugin cannot
        say.
        """
        gateway = self.gateway(account)
        try:
            hosts = model.check_page_hosts(gateway.page_hosts())
            if hosts and account.base_url is not None:
                # A sandbox that stands in for the provider has its pages where it has its API.
                hosts |= {urls.parse(account.base_url, insecure=True).host}
        except (Exception, SystemExit) as exc:
            raise self._plugin_failed(account, exc) from exc
        return hosts

    def _plugin_failed(self, account: Account, exc: BaseException) -> GatewayUnavailable:
        log.error("gateway plugin failed", gateway=account.gateway, gateway_id=str(account.id), exc_info=exc)
        return GatewayUnavailable(f"the plugin of the gateway {account.gateway} failed: {type(exc).__name__}")

    def _make(
        self, account: Account, type_: type[Gateway[Any, Any]], client: aiohttp.ClientSession
    ) -> Gateway[Any, Any]:
        opened = self._secrets.open(
            account.sealed_credentials, model.place_of_credentials(account.scope, account.id)
        )
        redaction.register_secret(*msgspec.json.decode(opened, type=dict[str, Any]).values())
        try:
            credentials = msgspec.json.decode(opened, type=type_.credentials_type)
            http = GatewayHTTP(
                client,
                gateway=account.gateway,
                base_url=account.base_url or type_.base_url,
                headers=type_.headers(credentials),
                explain=type_.explain,
            )
            return type_(credentials, msgspec.convert(account.options, type_.options_type), http)
        except (Exception, SystemExit) as exc:
            log.exception("gateway cannot be made", gateway=account.gateway, gateway_id=str(account.id))
            raise GatewayUnavailable(
                f"the plugin of the gateway {account.gateway} failed to start: {type(exc).__name__}"
            ) from exc

    def webhook_url(self, account: ListedAccount) -> str:
        """Where the gateway delivers this account's webhooks. The token in it names the account."""
        return f"{self._public_url}/webhooks/{account.gateway}/{account.webhook_token}"

    def _gateway_type(self, code: str) -> type[Gateway[Any, Any]]:
        found = self._registry.gateways.get(code)
        if found is None:
            known = ", ".join(sorted(self._registry.gateways)) or "none"
            raise Invalid(
                "this gateway is not installed",
                errors=(FieldError("#/gateway", f"installed gateways: {known}"),),
            )
        return found

    async def _seal(
        self, scope: UUID, account_id: UUID, credentials: dict[str, str], gateway: type[Gateway[Any, Any]]
    ) -> Sealed:
        _checked(credentials, gateway.credentials_type, "credentials")
        return Sealed(
            await self._secrets.seal(
                msgspec.json.encode(credentials), model.place_of_credentials(scope, account_id)
            )
        )

    async def sealed_before(self, after: tuple[Any, ...] | None) -> list[Outdated]:
        """The next credentials that another key has sealed than the one that seals for their tenant now."""
        async with self._db.transaction(system=True, readonly=True) as tx:
            rows = await store.sealed_before(tx, after[0] if after else NO_TENANT, RESEALED_AT_ONCE)
        return [
            Outdated(
                model.place_of_credentials(row["scope"], row["id"]),
                Sealed(row["credentials"], row["wrapped_key"]),
                (row["id"],),
            )
            for row in rows
        ]

    async def replace_sealed(self, stale: Outdated, sealed: bytes) -> bool:
        """Keep the same credentials, sealed anew; False when they were changed meanwhile."""
        async with self._db.transaction(system=True) as tx:
            return await store.replace_sealed(tx, stale.at[0], stale.sealed.value, sealed)

    async def under_master_keys(self) -> dict[str, int]:
        """How many accounts' credentials each master key has sealed by itself."""
        async with self._db.transaction(system=True, readonly=True) as tx:
            return {row["master_key"]: row["values"] for row in await store.under_master_keys(tx)}

    def _out(self, account: ListedAccount) -> AccountOut:
        return AccountOut(
            gateway_id=account.id,
            tenant_id=account.tenant_id,
            gateway=account.gateway,
            name=account.name,
            base_url=account.base_url,
            options=account.options,
            currencies={code: _fee_out(fee) for code, fee in sorted(account.fees.items())},
            webhook_url=self.webhook_url(account),
            created_at=account.created_at,
            updated_at=account.updated_at,
            disabled=account.disabled_at is not None,
        )

    async def remove(self, account_id: UUID) -> None:
        """Delete an account that nothing refers to. Raises `NotFound` and `AccountInUse`."""
        try:
            async with self._db.transaction(system=True) as tx:
                account = await store.lock(tx, account_id)
                if account is None:
                    raise _unknown(account_id)
                await store.remove(tx, account)
        except asyncpg.ForeignKeyViolationError as exc:
            raise AccountInUse(
                f"invoices, webhooks or discrepancies refer to gateway account {account_id}; disable it instead"
            ) from exc
        self._gateways.pop(account_id, None)


async def find(tx: Transaction, account_id: UUID) -> Account | None:
    """The account, if this transaction may see it."""
    return await store.find(tx, account_id)


async def get(tx: Transaction, account_id: UUID) -> Account:
    """The account that another row names: a foreign key keeps it."""
    account = await store.find(tx, account_id)
    assert account is not None, "the foreign key keeps the account"
    return account


async def find_by_token(tx: Transaction, gateway: str, token: str) -> Account | None:
    """The one account a webhook token names. Needs a system transaction."""
    return await store.find_by_token(tx, gateway, token)


async def ids(tx: Transaction, *, gateway: str | None = None) -> list[UUID]:
    """Every gateway account, or every one of a gateway. Needs a system transaction."""
    return await store.ids(tx, gateway)


async def claim_comparison(
    tx: Transaction, *, again_after: timedelta
) -> tuple[Account, datetime | None] | None:
    """
    Take one account that is due to be compared with its gateway's list, and what the last comparison reached.

    Nobody else gets it before *again_after*, and `compared` puts it off to the next day. Needs a system
    transaction.
    """
    claimed = await store.claim_comparison(tx, again_after)
    if claimed is None:
        return None
    account_id, reached = claimed
    return await get(tx, account_id), reached


async def compared(tx: Transaction, account_id: UUID, *, until: datetime) -> None:
    """Note that an account was compared up to *until*."""
    await store.compared(tx, account_id, until)


def _fee_out(fee: Fee) -> FeeOut:
    cap = None if fee.cap is None else fee.cap.major
    return FeeOut(f"{fee.percentage.normalize():f}", fee.fixed.major, fee.minimum.major, cap)


def _unknown(account_id: UUID) -> NotFound:
    return NotFound(f"there is no gateway account {account_id}")


def _checked(value: dict[str, Any], type_: type[msgspec.Struct], field: str) -> dict[str, Any]:
    try:
        msgspec.convert(value, type_, strict=True)
    except msgspec.ValidationError as exc:
        raise Invalid(
            f"the {field} do not fit this gateway", errors=(FieldError(f"#/{field}", str(exc)),)
        ) from exc
    return value


def _either(value: T | msgspec.UnsetType, otherwise: T) -> T:
    return otherwise if isinstance(value, msgspec.UnsetType) else value
