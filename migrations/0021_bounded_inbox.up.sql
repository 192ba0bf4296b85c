-- Webhooks that came to nothing are kept within bounds, account by account: the oldest of them are deleted. What was applied stays.
GRANT DELETE ON paytrust.webhooks TO paytrust_app;
CREATE POLICY prune ON paytrust.webhooks AS RESTRICTIVE FOR DELETE USING (paytrust.is_system() AND status <> 'applied');
ALTER TABLE paytrust.webhook_attempts
    DROP CONSTRAINT webhook_attempts_webhook_id_fkey,
    ADD CONSTRAINT webhook_attempts_webhook_id_fkey FOREIGN KEY (webhook_id) REFERENCES paytrust.webhooks ON DELETE CASCADE;
CREATE INDEX webhooks_ignored ON paytrust.webhooks (gateway_account_id, id) WHERE status = 'ignored';
CREATE INDEX webhooks_failed_of_account ON paytrust.webhooks (gateway_account_id, id) WHERE status = 'failed';
