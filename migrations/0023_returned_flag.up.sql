-- Money that went back to the payer is a flag of its invoice; it is rare, and leads to the invoices (GET /invoices?flag=returned).
CREATE INDEX invoice_history_returned ON paytrust.invoice_history (tenant_id, invoice_id) WHERE event = 'payment_returned';
