-- What gateways told us, byte for byte. The inbox is also the queue: workers claim its rows (docs/adr/0006).

CREATE TABLE paytrust.webhooks (
    id uuid PRIMARY KEY,
    tenant_id uuid REFERENCES paytrust.tenants,  -- NULL: came in on a shared account, not matched yet
    gateway_account_id uuid NOT NULL REFERENCES paytrust.gateway_accounts,
    event_key text NOT NULL,
    event text NOT NULL,
    reference text,
    headers jsonb NOT NULL,
    body bytea NOT NULL,
    status text NOT NULL DEFAULT 'received' CONSTRAINT webhooks_status_known CHECK (status IN ('received', 'applied', 'ignored', 'failed')),
    attempts smallint NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    first_failed_at timestamptz,
    lease_until timestamptz,
    error_code text,
    error_detail text,
    received_at timestamptz NOT NULL DEFAULT now(),
    processed_at timestamptz,
    CONSTRAINT webhooks_event_unique UNIQUE (gateway_account_id, event_key)
);
CREATE INDEX webhooks_due ON paytrust.webhooks (next_attempt_at) WHERE status = 'received';
CREATE INDEX webhooks_of_reference ON paytrust.webhooks (gateway_account_id, reference);
ALTER TABLE paytrust.webhooks ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON paytrust.webhooks USING (tenant_id = paytrust.tenant());
CREATE POLICY system ON paytrust.webhooks USING (paytrust.is_system());
GRANT SELECT, INSERT, UPDATE (tenant_id, status, attempts, next_attempt_at, first_failed_at, lease_until, error_code, error_detail, processed_at)
    ON paytrust.webhooks TO paytrust_app;

CREATE TABLE paytrust.webhook_attempts (
    webhook_id uuid NOT NULL REFERENCES paytrust.webhooks,
    number smallint NOT NULL,
    outcome text NOT NULL,
    error_code text,
    error_detail text,
    ended_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (webhook_id, number)
);
ALTER TABLE paytrust.webhook_attempts ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY system ON paytrust.webhook_attempts USING (paytrust.is_system());
GRANT SELECT, INSERT ON paytrust.webhook_attempts TO paytrust_app;
