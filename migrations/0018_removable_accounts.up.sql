-- A mistyped gateway account may go as long as nothing refers to it: the foreign keys of invoices, payments, receipts, webhooks and
-- differences keep every other one.
GRANT DELETE ON paytrust.gateway_accounts, paytrust.gateway_account_currencies TO paytrust_app;
