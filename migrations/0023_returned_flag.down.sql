DROP INDEX paytrust.invoice_history_returned;
