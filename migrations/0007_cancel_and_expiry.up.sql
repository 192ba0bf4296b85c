-- A draft may be cancelled; and an attempt knows when somebody has to look whether its time is up.

ALTER TABLE paytrust.invoices
    DROP CONSTRAINT invoices_initiated,
    ADD CONSTRAINT invoices_initiated CHECK (status IN ('draft', 'cancelled') OR payment_initiated_at IS NOT NULL);

ALTER TABLE paytrust.payments ADD COLUMN next_check_at timestamptz;
CREATE INDEX payments_to_check ON paytrust.payments (next_check_at) WHERE next_check_at IS NOT NULL;
CREATE POLICY claim ON paytrust.payments FOR UPDATE USING (paytrust.is_system());
GRANT UPDATE (next_check_at) ON paytrust.payments TO paytrust_app;
