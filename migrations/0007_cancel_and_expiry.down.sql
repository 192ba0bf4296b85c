DROP POLICY claim ON paytrust.payments;
ALTER TABLE paytrust.payments DROP COLUMN next_check_at;
ALTER TABLE paytrust.invoices
    DROP CONSTRAINT invoices_initiated,
    ADD CONSTRAINT invoices_initiated CHECK (status = 'draft' OR payment_initiated_at IS NOT NULL);
