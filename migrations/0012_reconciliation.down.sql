DROP TABLE paytrust.differences;
ALTER TABLE paytrust.gateway_accounts DROP COLUMN compare_at, DROP COLUMN compared_until;
DROP INDEX paytrust.webhooks_unmatched, paytrust.webhooks_failed;
REVOKE UPDATE (event, reference) ON paytrust.webhooks FROM paytrust_app;
ALTER TABLE paytrust.webhook_attempts ALTER COLUMN number TYPE smallint;
ALTER TABLE paytrust.webhooks DROP COLUMN attempts_before, ALTER COLUMN attempts TYPE smallint;
DROP INDEX paytrust.payments_of_account;
ALTER TABLE paytrust.payments ALTER COLUMN next_check_at DROP DEFAULT;
