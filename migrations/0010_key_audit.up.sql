-- Keys that end by themselves, that work from some addresses only, and that can be given a new secret;
-- word of every change to every process; and the audit.

ALTER TABLE paytrust.api_keys
    ADD COLUMN expires_at timestamptz,
    ADD COLUMN rotated_at timestamptz,
    -- Networks in CIDR notation; none: from everywhere. The cast refuses what is no network.
    ADD COLUMN allowed_addresses text[] NOT NULL DEFAULT '{}'
        CONSTRAINT api_keys_allowed_addresses CHECK (allowed_addresses::cidr[] IS NOT NULL AND cardinality(allowed_addresses) <= 50);
GRANT UPDATE (prefix, lookup, hash, rotated_at) ON paytrust.api_keys TO paytrust_app;

-- Processes remember keys they have verified; whoever changes one, even by hand, tells them all (docs/adr/0020).
CREATE FUNCTION paytrust.tell_key_changed() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('paytrust_keys', OLD.id::text);
    RETURN NULL;
END
$$;
CREATE TRIGGER api_keys_told AFTER UPDATE OR DELETE ON paytrust.api_keys FOR EACH ROW EXECUTE FUNCTION paytrust.tell_key_changed();


CREATE TABLE paytrust.key_audit (
    id uuid PRIMARY KEY,
    tenant_id uuid,  -- NULL, and key_id with it: about no API key that we know
    key_id uuid,
    action text NOT NULL CONSTRAINT key_audit_action_known CHECK (action IN ('created', 'rotated', 'revoked', 'used', 'failed')),
    reason text CONSTRAINT key_audit_reason_of_failure CHECK ((reason IS NOT NULL) = (action = 'failed')),
    actor text NOT NULL,
    address text,
    request_id text,
    old_hash text CONSTRAINT key_audit_hash_of_rotation CHECK ((old_hash IS NOT NULL) = (action = 'rotated')),
    -- How often it happened from first_at to at: use and failures are counted, and written at most once an hour.
    times bigint NOT NULL DEFAULT 1 CONSTRAINT key_audit_times_positive CHECK (times > 0),
    first_at timestamptz NOT NULL DEFAULT now(),
    at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT key_audit_whole_key CHECK ((tenant_id IS NULL) = (key_id IS NULL)),
    CONSTRAINT key_audit_key FOREIGN KEY (tenant_id, key_id) REFERENCES paytrust.api_keys
);
CREATE INDEX key_audit_by_time ON paytrust.key_audit (at, id);
CREATE INDEX key_audit_of_tenant ON paytrust.key_audit (tenant_id, at, id);
CREATE INDEX key_audit_of_key ON paytrust.key_audit (key_id, at, id);
CREATE TRIGGER key_audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON paytrust.key_audit
    FOR EACH STATEMENT EXECUTE FUNCTION paytrust.refuse();
ALTER TABLE paytrust.key_audit ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON paytrust.key_audit FOR SELECT USING (tenant_id = paytrust.tenant());
CREATE POLICY system ON paytrust.key_audit USING (paytrust.is_system());
GRANT SELECT, INSERT ON paytrust.key_audit TO paytrust_app;
