from __future__ import annotations

from datetime import timedelta
from typing import Final

from paytrust.accounts import service as accounts
from paytrust.errors import GatewayError
from paytrust.infra import logs
from paytrust.infra.db import Database
from paytrust.payments.service import Payments
from paytrust.reconciliation.service import Reconciliation

COMPARE_AGAIN: Final = timedelta(hours=1)
LOOKBACK_OVERLAP: Final = timedelta(days=1)
MAX_LOOKBACK: Final = timedelta(days=30)

log = logs.get_logger("paytrust.reconciliation")


class DailyReconciliation:
    """Compare every gateway account with its gateway's list, once a day."""

    def __init__(self, db: Database, payments: Payments) -> None:
        self._db = db
        self._reconciliation = Reconciliation(db, payments)

    async def step(self) -> int:
        """
        Compare one gateway account whose day is over; no other process takes the same one. Returns how many.
        """
        async with self._db.transaction(system=True) as tx:
            claimed = await accounts.claim_comparison(tx, again_after=COMPARE_AGAIN)
        if claimed is None:
            return 0
        account, reached = claimed
        now = account.read_at
        since = max((reached or now - LOOKBACK_OVERLAP) - LOOKBACK_OVERLAP, now - MAX_LOOKBACK)
        try:
            await self._reconciliation.compare(account, since, now)
        except GatewayError as exc:
            log.error(  # noqa: TRY400 - no fault of ours
                "comparison failed and will be tried again",
                gateway_id=str(account.id),
                code=exc.code,
                reason=exc.detail,
            )
            return 1
        async with self._db.transaction(system=True) as tx:
            await accounts.compared(tx, account.id, until=now)
        return 1
