-- A payment page has an end of its own, which may come long before its invoice's; and it is known when the gateway was asked last.
ALTER TABLE paytrust.payments
    ADD COLUMN expires_at timestamptz,
    ADD COLUMN asked_at timestamptz;
GRANT UPDATE (expires_at, asked_at) ON paytrust.payments TO paytrust_app;

-- An invoice ends on a schedule of its own, whatever becomes of its payments. The column is not the invoice's end but when a worker
-- looks whether it has come: NULL once it is over. The index names no status, so that a change of status need not touch it.
ALTER TABLE paytrust.invoices ADD COLUMN end_check_at timestamptz;
CREATE INDEX invoices_to_end ON paytrust.invoices (end_check_at) WHERE end_check_at IS NOT NULL;
CREATE POLICY system ON paytrust.invoices FOR SELECT USING (paytrust.is_system());
CREATE POLICY claim ON paytrust.invoices FOR UPDATE USING (paytrust.is_system());
-- Row-level security holds the owner too: without a scope it would see no row.
SELECT set_config('app.scope', 'system', true);
UPDATE paytrust.invoices SET end_check_at = expires_at WHERE status IN ('draft', 'pending', 'partially_paid');
SELECT set_config('app.scope', '', true);
GRANT UPDATE (end_check_at) ON paytrust.invoices TO paytrust_app;
