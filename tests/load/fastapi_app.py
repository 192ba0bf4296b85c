"""
Create-invoice once more, as a careful team would write it in FastAPI, pydantic and SQLAlchemy 2 (async ORM,
asyncpg).

The same schema, role and row-level security, two transactions around the gateway call, the same rows with the
books, the same answer, headers and log line. Only what POST /invoices needs.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Annotated, Any, Final
from uuid import UUID

import anyio.to_thread
import httpx
import structlog
from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi_tables import (
    ApiKey,
    BookAccount,
    GatewayAccount,
    GatewayAccountCurrency,
    Installment,
    Invoice,
    LineItem,
    Payment,
    Transfer,
)
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic_core import from_json
from sqlalchemy import event, func, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, joinedload
from sqlalchemy.orm.attributes import set_committed_value

from paytrust.accounts.model import place_of_credentials
from paytrust.infra import logs
from paytrust.infra.ids import new_id
from paytrust.infra.settings import Settings, load
from paytrust.money import EXPONENT
from paytrust.payments.model import payment_reference
from paytrust.secrets.model import Sealed
from paytrust.secrets.service import Secrets
from paytrust.security.encryption import MasterKeys

KEY_TTL_S: Final = 30.0
HEADERS: Final = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
]
SET_TENANT: Final = text(
    "SELECT set_config('app.tenant', :tenant, true), set_config('app.scope', :scope, true),"
    " set_config('statement_timeout', '15000', true), set_config('lock_timeout', '5000', true)"
)

log = structlog.stdlib.get_logger("bench.access")

# --- what comes and goes --------------------------------------------------------------------------------------------------


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


Amount = Annotated[Decimal, Field(gt=0, max_digits=19, decimal_places=4)]
Rate = Annotated[Decimal, Field(ge=0, le=1, decimal_places=4)]
Country = Annotated[str, Field(min_length=2, max_length=2)]
Short = Annotated[str, Field(min_length=1, max_length=255)]


class NewLine(Strict):
    product_name: Short
    quantity: Annotated[int, Field(ge=1, le=10**12)]
    unit_price: Amount
    tax_rate: Rate = Decimal(0)
    tax_category: Annotated[str, Field(min_length=1, max_length=50)] | None = None
    country_code: Country | None = None


class Customer(Strict):
    name: Short | None = None
    email: Annotated[str, Field(max_length=254, pattern=r"^[^@\s]+@[^@\s]+$")] | None = None
    phone: Annotated[str, Field(max_length=32, pattern=r"^\+?[0-9 ()\-]+$")] | None = None
    country: Country | None = None


class NewInvoice(Strict):
    gateway_id: UUID
    currency: Annotated[str, Field(min_length=1, max_length=10)]
    line_items: Annotated[list[NewLine], Field(min_length=1, max_length=500)]
    external_id: Short | None = None
    expires_at: AwareDatetime | None = None
    customer: Customer = Customer()
    description: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    metadata: dict[str, str] = {}
    success_url: Short | None = None
    failure_url: Short | None = None


class LineOut(BaseModel):
    line_item_id: UUID
    product_name: str
    quantity: int
    unit_price: str
    tax_rate: str
    tax_category: str | None
    country_code: str | None
    subtotal_amount: str
    tax_amount: str


class InvoiceOut(BaseModel):
    invoice_id: UUID
    external_id: str | None
    status: str
    currency: str
    gateway_id: UUID
    gateway: str
    subtotal_amount: str
    total_tax_amount: str
    total_service_fee_amount: str
    total_amount: str
    payment_url: str | None
    payment_instructions: dict[str, str] | None
    payment_initiated_at: datetime | None
    created_at: datetime
    expires_at: datetime
    original_invoice_id: UUID | None
    line_items: list[LineOut]
    customer: dict[str, Any]
    description: str | None
    metadata: dict[str, str]
    success_url: str | None
    failure_url: str | None


class GatewayInvoice(BaseModel):
    """Xendit's answer, as far as it matters."""

    id: str
    external_id: str
    status: str
    amount: Decimal
    currency: str
    invoice_url: str
    created: AwareDatetime
    expiry_date: AwareDatetime


# --- money ----------------------------------------------------------------------------------------------------------------


def to_minor(amount: Decimal, currency: str) -> int:
    minor = amount.scaleb(EXPONENT[currency])
    if minor != minor.to_integral_value():
        raise HTTPException(400, f"{currency} has {EXPONENT[currency]} decimals")
    return int(minor)


def to_major(minor: int, currency: str) -> str:
    return f"{Decimal(minor).scaleb(-EXPONENT[currency]):f}"


def part_of(minor: int, rate: Decimal) -> int:
    return int((minor * rate).quantize(Decimal(1), rounding=ROUND_HALF_UP))


# --- what the application holds -------------------------------------------------------------------------------------------


class Services:
    """Engine, sessions, the HTTP client and the caches of one process."""

    def __init__(self, settings: Settings) -> None:
        url = settings.database_url.get_secret_value().replace("postgresql://", "postgresql+asyncpg://", 1)
        self.engine = create_async_engine(url, pool_size=settings.pool_size, max_overflow=0)
        # The lines of an invoice in one statement: the database wants all of them at once, and it is quicker.
        self.engine.dialect.use_insertmanyvalues_wo_returning = True
        self.sessions = async_sessionmaker(self.engine, expire_on_commit=False)
        self.http = httpx.AsyncClient(
            timeout=10,
            trust_env=False,
            limits=httpx.Limits(max_connections=100, max_keepalive_connections=50),
        )
        self.secrets = Secrets(None, MasterKeys(settings.master_keys()))  # opening asks the database nothing
        self.pepper = settings.key_pepper.get_secret_value().encode()
        self.hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self.keys: dict[bytes, tuple[float, ApiKey]] = {}
        self.credentials: dict[UUID, tuple[datetime, dict[str, str]]] = {}

    def session(self, tenant_id: UUID | None) -> AsyncSession:
        return self.sessions(info={"tenant": str(tenant_id or ""), "scope": "" if tenant_id else "system"})

    def credentials_of(self, account: GatewayAccount) -> dict[str, str]:
        known = self.credentials.get(account.id)
        if known is None or known[0] != account.updated_at:
            sealed = Sealed(account.credentials, account.wrapped_key)
            opened = self.secrets.open(sealed, place_of_credentials(account.scope, account.id))
            known = self.credentials[account.id] = (account.updated_at, from_json(opened))
        return known[1]


@event.listens_for(Session, "after_begin")
def _set_tenant(session: Session, _: Any, connection: Any) -> None:
    connection.execute(SET_TENANT, session.info)


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings = load()
    logs.configure(settings)
    app.state.services = services = Services(settings)
    yield
    await services.http.aclose()
    await services.engine.dispose()


def get_services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def authenticated(
    services: Annotated[Services, Depends(get_services)],
    x_api_key: Annotated[str, Header(min_length=64, max_length=64)],
) -> UUID:
    """
    Return the tenant of the key: found by its HMAC, verified once by Argon2id, then remembered for 30 s.
    """
    lookup = hmac.digest(services.pepper, x_api_key.encode(), hashlib.sha256)
    known = services.keys.get(lookup)
    if known is None or known[0] < time.monotonic():
        async with services.session(None) as session, session.begin():
            found = await session.scalar(
                select(ApiKey).where(ApiKey.lookup == lookup, ApiKey.revoked_at.is_(None))
            )
        if found is None:
            raise HTTPException(401, "unknown key")
        if known is None or known[1].hash != found.hash:
            try:
                await anyio.to_thread.run_sync(services.hasher.verify, found.hash, x_api_key)
            except VerificationError as exc:
                raise HTTPException(401, "unknown key") from exc
        known = services.keys[lookup] = (time.monotonic() + KEY_TTL_S, found)
    if "write" not in known[1].scopes:
        raise HTTPException(403, "this key may not write")
    return known[1].tenant_id


# --- the job --------------------------------------------------------------------------------------------------------------


async def create(services: Services, tenant_id: UUID, data: NewInvoice) -> InvoiceOut:
    async with services.session(tenant_id) as session:
        try:
            async with session.begin():
                account, terms = await find_account(session, data)
                invoice = draft(tenant_id, data, account, terms)
                session.add(invoice)
        except IntegrityError as exc:
            raise HTTPException(409, "this external_id is taken") from exc
        payment = invoice.installments[0].payments[0]
        opened = await open_payment(services, account, invoice, payment)
        async with session.begin():
            await issue(session, invoice, payment, opened)
    return answer(invoice, opened.invoice_url)


async def find_account(
    session: AsyncSession, data: NewInvoice
) -> tuple[GatewayAccount, GatewayAccountCurrency]:
    query = (
        select(GatewayAccount)
        .options(joinedload(GatewayAccount.currencies))
        .where(GatewayAccount.id == data.gateway_id)
    )
    account = (await session.scalars(query)).unique().one_or_none()
    if account is None or account.disabled_at is not None:
        raise HTTPException(400, "unknown gateway account")
    terms = next((one for one in account.currencies if one.currency == data.currency and one.enabled), None)
    if terms is None:
        raise HTTPException(400, "this gateway account does not collect that currency")
    return account, terms


def draft(
    tenant_id: UUID, data: NewInvoice, account: GatewayAccount, terms: GatewayAccountCurrency
) -> Invoice:
    lines = [line_item(number, new, data.currency) for number, new in enumerate(data.line_items, 1)]
    subtotal, tax = sum(line.subtotal for line in lines), sum(line.tax for line in lines)
    fee = part_of(subtotal, terms.fee_percentage) + terms.fee_fixed
    total = subtotal + tax + fee
    expires_at = data.expires_at or datetime.now(UTC) + timedelta(hours=24)
    invoice_id = new_id()
    payment = Payment(
        id=new_id(),
        gateway_account_id=account.id,
        attempt=1,
        reference=payment_reference(invoice_id, 1, 1),
        amount=total,
        status="creating",
    )
    return Invoice(
        tenant_id=tenant_id,
        id=invoice_id,
        external_id=data.external_id,
        content_hash=hashlib.sha256(data.model_dump_json().encode()).digest(),
        account_scope=account.scope,
        gateway_account_id=account.id,
        gateway=account.gateway,
        currency=data.currency,
        status="draft",
        subtotal=subtotal,
        tax=tax,
        fee=fee,
        total=total,
        fee_percentage=terms.fee_percentage,
        fee_fixed=terms.fee_fixed,
        description=data.description,
        customer=data.customer.model_dump(exclude_none=True),
        metadata_=data.metadata,
        success_url=data.success_url,
        failure_url=data.failure_url,
        expires_at=expires_at,
        line_items=lines,
        installments=[
            Installment(number=1, due_at=expires_at, amount=total, tax=tax, fee=fee, payments=[payment])
        ],
    )


def line_item(number: int, new: NewLine, currency: str) -> LineItem:
    price = to_minor(new.unit_price, currency)
    return LineItem(
        number=number,
        id=new_id(),
        product_name=new.product_name,
        quantity=new.quantity,
        unit_price=price,
        tax_rate=new.tax_rate,
        tax_category=new.tax_category,
        country_code=new.country_code,
        subtotal=price * new.quantity,
        tax=part_of(price * new.quantity, new.tax_rate),
    )


async def open_payment(
    services: Services, account: GatewayAccount, invoice: Invoice, payment: Payment
) -> GatewayInvoice:
    if account.gateway == "instant":
        return GatewayInvoice(
            id=f"instant-{payment.reference}",
            external_id=payment.reference,
            status="PENDING",
            amount=Decimal(to_major(payment.amount, payment.currency)),
            currency=payment.currency,
            invoice_url=f"http://127.0.0.1/{payment.reference}",
            created=invoice.created_at,
            expiry_date=invoice.expires_at,
        )
    secret_key = services.credentials_of(account)["secret_key"]
    response = await services.http.post(
        f"{account.base_url}/v2/invoices", json=gateway_body(invoice, payment), auth=(secret_key, "")
    )
    if response.status_code != 200:
        raise HTTPException(502, "the gateway refused")
    opened = GatewayInvoice.model_validate_json(response.content)
    if opened.external_id != payment.reference or to_minor(opened.amount, payment.currency) != payment.amount:
        raise HTTPException(504, "the gateway answered about something else")
    return opened


def gateway_body(invoice: Invoice, payment: Payment) -> dict[str, Any]:
    def number(minor: int) -> float:
        return float(to_major(minor, invoice.currency))

    lines = [(line.product_name, line.quantity, line.unit_price) for line in invoice.line_items]
    lines += [
        (name, 1, minor) for name, minor in (("Tax", invoice.tax), ("Service fee", invoice.fee)) if minor
    ]
    return {
        "external_id": payment.reference,
        "amount": number(payment.amount),
        "currency": invoice.currency,
        "invoice_duration": int((invoice.expires_at - invoice.created_at).total_seconds()),
        "items": [
            {"name": name, "quantity": quantity, "price": number(minor)} for name, quantity, minor in lines
        ],
        "should_send_email": False,
        "description": invoice.description or f"Invoice {invoice.external_id or invoice.id}",
        "customer": {"given_names": invoice.customer.get("name"), "email": invoice.customer.get("email")},
        "success_redirect_url": invoice.success_url,
        "failure_redirect_url": invoice.failure_url,
    }


async def issue(session: AsyncSession, invoice: Invoice, payment: Payment, opened: GatewayInvoice) -> None:
    """
    Note the payment page, only if nobody else settled the attempt; then issue the invoice and post it to the
    books.
    """
    noted = await session.execute(
        update(Payment)
        .where(Payment.tenant_id == payment.tenant_id, Payment.id == payment.id, Payment.status == "creating")
        .values(
            status="open", gateway_payment_id=opened.id, payment_url=opened.invoice_url, updated_at=func.now()
        )
        .execution_options(synchronize_session=False)
    )
    if noted.rowcount != 1:  # type: ignore[attr-defined]
        raise HTTPException(409, "somebody else settled this payment")
    initiated_at = await session.scalar(
        update(Invoice)
        .where(Invoice.tenant_id == invoice.tenant_id, Invoice.id == invoice.id, Invoice.status == "draft")
        .values(status="pending", payment_initiated_at=func.now(), updated_at=func.now())
        .returning(Invoice.payment_initiated_at)
        .execution_options(synchronize_session=False)
    )
    if initiated_at is None:
        raise HTTPException(409, "this invoice is no draft any more")
    session.add(books(invoice))
    set_committed_value(invoice, "status", "pending")
    set_committed_value(invoice, "payment_initiated_at", initiated_at)


def books(invoice: Invoice) -> BookAccount:
    (part,) = invoice.installments
    legs = [("revenue", part.amount - part.tax - part.fee), ("tax", part.tax), ("fee", part.fee)]
    return BookAccount(
        tenant_id=invoice.tenant_id,
        currency=invoice.currency,
        name=f"receivable:{invoice.id}:{part.number}",
        invoice_id=invoice.id,
        installment_number=part.number,
        debited=[
            Transfer(
                cause="issue",
                cause_id=invoice.id,
                leg=leg,
                invoice_id=invoice.id,
                credit=credit,
                amount=amount,
            )
            for leg, (credit, amount) in enumerate((credit, amount) for credit, amount in legs if amount)
        ],
    )


def answer(invoice: Invoice, payment_url: str) -> InvoiceOut:
    def major(minor: int) -> str:
        return to_major(minor, invoice.currency)

    return InvoiceOut(
        invoice_id=invoice.id,
        external_id=invoice.external_id,
        status=invoice.status,
        currency=invoice.currency,
        gateway_id=invoice.gateway_account_id,
        gateway=invoice.gateway,
        subtotal_amount=major(invoice.subtotal),
        total_tax_amount=major(invoice.tax),
        total_service_fee_amount=major(invoice.fee),
        total_amount=major(invoice.total),
        payment_url=payment_url,
        payment_instructions=None,
        payment_initiated_at=invoice.payment_initiated_at,
        created_at=invoice.created_at,
        expires_at=invoice.expires_at,
        original_invoice_id=None,
        line_items=[
            LineOut(
                line_item_id=line.id,
                product_name=line.product_name,
                quantity=line.quantity,
                unit_price=major(line.unit_price),
                tax_rate=f"{line.tax_rate.normalize():f}",
                tax_category=line.tax_category,
                country_code=line.country_code,
                subtotal_amount=major(line.subtotal),
                tax_amount=major(line.tax),
            )
            for line in invoice.line_items
        ],
        customer=invoice.customer,
        description=invoice.description,
        metadata=invoice.metadata_,
        success_url=invoice.success_url,
        failure_url=invoice.failure_url,
    )


# --- the application ------------------------------------------------------------------------------------------------------


class AccessLog:
    """
    Plain ASGI: our headers, a request id and one line in the log, without the cost of BaseHTTPMiddleware.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, request_id = time.perf_counter(), str(new_id())

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS, (b"x-request-id", request_id.encode())]
                ms = round((time.perf_counter() - started) * 1000, 1)
                log.info(
                    "request",
                    method=scope["method"],
                    route=scope["path"],
                    status=message["status"],
                    ms=ms,
                    request_id=request_id,
                )
            await send(message)

        await self.app(scope, receive, send_with_headers)


app = FastAPI(title="The same job in FastAPI", lifespan=lifespan)
app.add_middleware(AccessLog)


@app.post("/invoices", status_code=201)
async def create_invoice(
    data: NewInvoice,
    tenant_id: Annotated[UUID, Depends(authenticated)],
    services: Annotated[Services, Depends(get_services)],
) -> InvoiceOut:
    return await create(services, tenant_id, data)
