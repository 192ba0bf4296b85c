-- Workers claim account by account, the oldest of each first: a pile of one account holds up no other.

CREATE INDEX webhooks_waiting ON paytrust.webhooks (gateway_account_id, next_attempt_at) WHERE status = 'received';
DROP INDEX paytrust.webhooks_due;
CREATE INDEX payments_waiting ON paytrust.payments (gateway_account_id, next_check_at) WHERE next_check_at IS NOT NULL;
DROP INDEX paytrust.payments_to_check;
