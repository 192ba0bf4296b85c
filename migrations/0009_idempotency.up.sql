-- Requests that carry an Idempotency-Key: who is at one, what it makes, and how it was answered (docs/adr/0019).

CREATE TABLE paytrust.idempotency_keys (
    scope uuid NOT NULL,  -- the tenant; the nil UUID for administration
    key text NOT NULL CONSTRAINT idempotency_keys_visible CHECK (key ~ '^[!-~]{1,255}$'),
    fingerprint bytea NOT NULL CONSTRAINT idempotency_keys_fingerprint_length CHECK (length(fingerprint) = 32),
    object_id uuid NOT NULL,  -- under this id every try makes the same object
    attempt bigint NOT NULL DEFAULT 1,
    lease_until timestamptz NOT NULL,
    answer bytea,  -- encrypted (paytrust/vault.py): the answer to POST /api-keys holds a key
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (scope, key)
);
CREATE INDEX idempotency_keys_by_age ON paytrust.idempotency_keys (created_at);
ALTER TABLE paytrust.idempotency_keys ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON paytrust.idempotency_keys USING (scope = paytrust.tenant());
CREATE POLICY system ON paytrust.idempotency_keys USING (paytrust.is_system());
GRANT SELECT, INSERT, DELETE, UPDATE (attempt, lease_until, answer) ON paytrust.idempotency_keys TO paytrust_app;
