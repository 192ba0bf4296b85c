DROP TABLE paytrust.receipts, paytrust.payments, paytrust.installments, paytrust.line_items, paytrust.invoices;
DROP FUNCTION paytrust.keep_initiated_lines();
DROP FUNCTION paytrust.keep_initiated_invoice();
