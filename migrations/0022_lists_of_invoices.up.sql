-- Every filter of GET /invoices has an index in the order of the list, so that a page reads about as many rows as it shows,
-- whatever the tenant has. Currency and gateway account never change: their indexes cost one entry for each invoice.
CREATE INDEX invoices_of_currency ON paytrust.invoices (tenant_id, currency, created_at DESC, id DESC);
CREATE INDEX invoices_of_account ON paytrust.invoices (tenant_id, gateway_account_id, created_at DESC, id DESC);
-- The status changes two or three times in an invoice's life. From now on each change writes new entries in all indexes of the
-- table, which PostgreSQL could leave out while no index named the status: the price of finding the few pending ones among many paid.
CREATE INDEX invoices_of_status ON paytrust.invoices (tenant_id, status, created_at DESC, id DESC);
-- In the order of the list, for an invoice with many supplementary ones.
CREATE INDEX invoices_of_original_newest ON paytrust.invoices (tenant_id, original_invoice_id, created_at DESC, id DESC)
    WHERE original_invoice_id IS NOT NULL;
DROP INDEX paytrust.invoices_of_original;
-- Only the few receipts that need a look are in it: all others cost nothing.
CREATE INDEX receipts_flagged ON paytrust.receipts (tenant_id, flag) INCLUDE (invoice_id) WHERE flag IS NOT NULL;
