DROP POLICY claim ON paytrust.invoices;
DROP POLICY system ON paytrust.invoices;
ALTER TABLE paytrust.invoices DROP COLUMN end_check_at;
ALTER TABLE paytrust.payments DROP COLUMN expires_at, DROP COLUMN asked_at;
