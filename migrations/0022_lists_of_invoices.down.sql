DROP INDEX paytrust.receipts_flagged;
CREATE INDEX invoices_of_original ON paytrust.invoices (tenant_id, original_invoice_id) WHERE original_invoice_id IS NOT NULL;
DROP INDEX paytrust.invoices_of_original_newest, paytrust.invoices_of_status, paytrust.invoices_of_account, paytrust.invoices_of_currency;
