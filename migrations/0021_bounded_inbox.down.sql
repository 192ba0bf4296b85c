DROP INDEX paytrust.webhooks_failed_of_account;
DROP INDEX paytrust.webhooks_ignored;
ALTER TABLE paytrust.webhook_attempts
    DROP CONSTRAINT webhook_attempts_webhook_id_fkey,
    ADD CONSTRAINT webhook_attempts_webhook_id_fkey FOREIGN KEY (webhook_id) REFERENCES paytrust.webhooks;
DROP POLICY prune ON paytrust.webhooks;
REVOKE DELETE ON paytrust.webhooks FROM paytrust_app;
