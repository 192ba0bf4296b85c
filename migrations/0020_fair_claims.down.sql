CREATE INDEX payments_to_check ON paytrust.payments (next_check_at) WHERE next_check_at IS NOT NULL;
DROP INDEX paytrust.payments_waiting;
CREATE INDEX webhooks_due ON paytrust.webhooks (next_attempt_at) WHERE status = 'received';
DROP INDEX paytrust.webhooks_waiting;
