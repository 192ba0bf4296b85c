-- Nothing is lost when a webhook never comes: gateways are asked on a schedule, failed webhooks are replayed,
-- and once a day a gateway's own list is compared with ours.

-- The first look at an attempt. Jitter, so that what was made in one moment is not asked about in one moment.
ALTER TABLE paytrust.payments ALTER COLUMN next_check_at SET DEFAULT now() + interval '5 minutes' + random() * interval '30 seconds';
CREATE INDEX payments_of_account ON paytrust.payments (gateway_account_id, created_at);

ALTER TABLE paytrust.webhooks
    ALTER COLUMN attempts TYPE bigint,
    ADD COLUMN attempts_before bigint NOT NULL DEFAULT 0;  -- those of earlier cycles: a replay starts a new one
ALTER TABLE paytrust.webhook_attempts ALTER COLUMN number TYPE bigint;
-- A replay reads again what could not be read.
GRANT UPDATE (event, reference, attempts_before) ON paytrust.webhooks TO paytrust_app;
CREATE INDEX webhooks_failed ON paytrust.webhooks (id) WHERE status = 'failed';
CREATE INDEX webhooks_unmatched ON paytrust.webhooks (next_attempt_at) WHERE status = 'failed' AND error_code = 'unknown_reference';

ALTER TABLE paytrust.gateway_accounts
    ADD COLUMN compare_at timestamptz NOT NULL DEFAULT now() + interval '1 day',
    ADD COLUMN compared_until timestamptz;  -- what the last complete comparison reached
GRANT UPDATE (compare_at, compared_until) ON paytrust.gateway_accounts TO paytrust_app;

-- Where a gateway's list and our books say different things.
CREATE TABLE paytrust.differences (
    gateway_account_id uuid NOT NULL REFERENCES paytrust.gateway_accounts,
    kind text NOT NULL
        CONSTRAINT differences_kind_known CHECK (kind IN ('not_applied', 'unknown_here', 'missing_there', 'amount_differs')),
    reference text NOT NULL,
    gateway_payment_id text NOT NULL,  -- '' where the gateway knows nothing
    tenant_id uuid REFERENCES paytrust.tenants,  -- NULL: nobody of a shared account
    ours text NOT NULL,
    theirs text NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now(),
    settled_at timestamptz,  -- when it was applied after all
    PRIMARY KEY (gateway_account_id, kind, reference, gateway_payment_id)
);
CREATE INDEX differences_newest ON paytrust.differences (last_seen_at);
ALTER TABLE paytrust.differences ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY system ON paytrust.differences USING (paytrust.is_system());
GRANT SELECT, INSERT, UPDATE (ours, theirs, last_seen_at, settled_at) ON paytrust.differences TO paytrust_app;
