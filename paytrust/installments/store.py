from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

import msgspec

from paytrust.infra.db import Transaction
from paytrust.invoices.model import Installment


async def save(tx: Transaction, tenant_id: UUID, invoice_id: UUID, parts: Iterable[Installment]) -> None:
    """
    Write new amounts. One statement, because the database checks after each that they still sum to the
    invoice.
    """
    written = [
        {
            "number": installment.number,
            "amount": installment.amount.minor,
            "tax": installment.tax.minor,
            "fee": installment.fee.minor,
        }
        for installment in parts
    ]
    await tx.execute(
        "UPDATE paytrust.installments i SET amount = p.amount, tax = p.tax, fee = p.fee"
        " FROM jsonb_to_recordset($3) AS p(number smallint, amount bigint, tax bigint, fee bigint)"
        " WHERE i.tenant_id = $1 AND i.invoice_id = $2 AND i.number = p.number",
        tenant_id,
        invoice_id,
        msgspec.json.encode(written).decode(),
    )
