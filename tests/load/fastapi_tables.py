"""PayTrust's tables as SQLAlchemy ORM classes, for the FastAPI application the bench compares with."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    DateTime,
    ForeignKeyConstraint,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    Text,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, column_property, mapped_column, relationship

INVOICE = ["paytrust.invoices.tenant_id", "paytrust.invoices.currency", "paytrust.invoices.id"]
INSTALLMENT = [f"paytrust.installments.{name}" for name in ("tenant_id", "currency", "invoice_id", "number")]


class Base(DeclarativeBase):
    metadata = MetaData(schema="paytrust")
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own way
        int: BigInteger,
        str: Text,
        bytes: LargeBinary,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        list[str]: ARRAY(Text),
    }


class ApiKey(Base):
    __tablename__ = "api_keys"

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    lookup: Mapped[bytes]
    hash: Mapped[str]
    scopes: Mapped[list[str]]
    revoked_at: Mapped[datetime | None]


class DataKey(Base):
    __tablename__ = "data_keys"

    scope: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    wrapped: Mapped[bytes | None]


class GatewayAccount(Base):
    __tablename__ = "gateway_accounts"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID | None]
    scope: Mapped[UUID]
    gateway: Mapped[str]
    base_url: Mapped[str | None]
    credentials: Mapped[bytes]
    webhook_token: Mapped[str]
    updated_at: Mapped[datetime]
    disabled_at: Mapped[datetime | None]
    currencies: Mapped[list[GatewayAccountCurrency]] = relationship(lazy="raise")


GatewayAccount.wrapped_key = column_property(
    select(DataKey.wrapped)
    .where(
        DataKey.scope == GatewayAccount.scope,
        DataKey.id == func.paytrust.data_key_of(GatewayAccount.credentials),
    )
    .scalar_subquery()
)


class GatewayAccountCurrency(Base):
    __tablename__ = "gateway_account_currencies"
    __table_args__ = (
        ForeignKeyConstraint(
            ["scope", "gateway_account_id"],
            ["paytrust.gateway_accounts.scope", "paytrust.gateway_accounts.id"],
        ),
    )

    scope: Mapped[UUID] = mapped_column(primary_key=True)
    gateway_account_id: Mapped[UUID] = mapped_column(primary_key=True)
    currency: Mapped[str] = mapped_column(primary_key=True)
    fee_percentage: Mapped[Decimal] = mapped_column(Numeric(7, 6))
    fee_fixed: Mapped[int]
    enabled: Mapped[bool]


class Invoice(Base):
    __tablename__ = "invoices"

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    external_id: Mapped[str | None]
    content_hash: Mapped[bytes]
    account_scope: Mapped[UUID]
    gateway_account_id: Mapped[UUID]
    gateway: Mapped[str]
    currency: Mapped[str]
    status: Mapped[str]
    subtotal: Mapped[int]
    tax: Mapped[int]
    fee: Mapped[int]
    total: Mapped[int]
    fee_percentage: Mapped[Decimal] = mapped_column(Numeric(7, 6))
    fee_fixed: Mapped[int]
    description: Mapped[str | None]
    customer: Mapped[dict[str, Any]]
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata")
    success_url: Mapped[str | None]
    failure_url: Mapped[str | None]
    original_invoice_id: Mapped[UUID | None]
    payment_initiated_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    line_items: Mapped[list[LineItem]] = relationship(lazy="raise", order_by="LineItem.number")
    installments: Mapped[list[Installment]] = relationship(lazy="raise", order_by="Installment.number")


class LineItem(Base):
    __tablename__ = "line_items"
    __table_args__ = (ForeignKeyConstraint(["tenant_id", "currency", "invoice_id"], INVOICE),)

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    invoice_id: Mapped[UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    id: Mapped[UUID]
    currency: Mapped[str]
    product_name: Mapped[str]
    quantity: Mapped[int]
    unit_price: Mapped[int]
    tax_rate: Mapped[Decimal] = mapped_column(Numeric(5, 4))
    tax_category: Mapped[str | None]
    country_code: Mapped[str | None]
    subtotal: Mapped[int]
    tax: Mapped[int]


class Installment(Base):
    __tablename__ = "installments"
    __table_args__ = (ForeignKeyConstraint(["tenant_id", "currency", "invoice_id"], INVOICE),)

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    invoice_id: Mapped[UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    currency: Mapped[str]
    due_at: Mapped[datetime]
    amount: Mapped[int]
    tax: Mapped[int]
    fee: Mapped[int]
    payments: Mapped[list[Payment]] = relationship(lazy="raise")


class Payment(Base):
    __tablename__ = "payments"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "currency", "invoice_id", "installment_number"], INSTALLMENT),
    )
    __mapper_args__ = {"eager_defaults": False}  # noqa: RUF012 - SQLAlchemy's own way

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    invoice_id: Mapped[UUID]
    installment_number: Mapped[int] = mapped_column(SmallInteger)
    currency: Mapped[str]
    gateway_account_id: Mapped[UUID]
    attempt: Mapped[int] = mapped_column(SmallInteger)
    reference: Mapped[str]
    amount: Mapped[int]
    status: Mapped[str]
    gateway_payment_id: Mapped[str | None]
    payment_url: Mapped[str | None]
    error_code: Mapped[str | None]
    error_detail: Mapped[str | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class BookAccount(Base):
    __tablename__ = "book_accounts"

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    currency: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    invoice_id: Mapped[UUID]
    installment_number: Mapped[int | None] = mapped_column(SmallInteger)
    debited: Mapped[list[Transfer]] = relationship(lazy="raise")


class Transfer(Base):
    __tablename__ = "transfers"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "currency", "debit"],
            [
                "paytrust.book_accounts.tenant_id",
                "paytrust.book_accounts.currency",
                "paytrust.book_accounts.name",
            ],
        ),
    )

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    cause: Mapped[str] = mapped_column(primary_key=True)
    cause_id: Mapped[UUID] = mapped_column(primary_key=True)
    leg: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    currency: Mapped[str]
    invoice_id: Mapped[UUID]
    debit: Mapped[str]
    credit: Mapped[str]
    amount: Mapped[int]
