-- Every tenant has a data key of its own, which seals its secrets and is itself sealed by a master key of the settings
-- (paytrust/secrets, docs/adr/0025).

-- A value under a master key: 01, the length of the key's id, the id, 12 bytes of nonce, ciphertext and tag. What is none has no
-- master key.
CREATE FUNCTION paytrust.master_key_of(sealed bytea) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN length(sealed) < 2 THEN NULL WHEN get_byte(sealed, 0) <> 1 THEN NULL
                ELSE encode(substring(sealed FROM 3 FOR get_byte(sealed, 1)), 'escape') END;

-- A value under a data key: 02, the key's id, 12 bytes of nonce, ciphertext and tag.
CREATE FUNCTION paytrust.data_key_of(sealed bytea) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN length(sealed) < 17 THEN NULL WHEN get_byte(sealed, 0) <> 2 THEN NULL
                ELSE encode(substring(sealed FROM 2 FOR 16), 'hex')::uuid END;


CREATE TABLE paytrust.data_keys (
    tenant_id uuid REFERENCES paytrust.tenants,  -- NULL: of administration and of accounts that all tenants share
    scope uuid NOT NULL GENERATED ALWAYS AS (coalesce(tenant_id, '00000000-0000-0000-0000-000000000000')) STORED,
    id uuid NOT NULL,
    -- The key under a master key, never in plain. NULL: this scope still seals with the master key itself.
    wrapped bytea,
    master_key text GENERATED ALWAYS AS (paytrust.master_key_of(wrapped)) STORED,
    created_at timestamptz NOT NULL DEFAULT now(),
    wrapped_at timestamptz NOT NULL DEFAULT now(),
    retired_at timestamptz,  -- from then on it opens and does not seal
    PRIMARY KEY (scope, id),
    -- 32 bytes of key with its 16 of tag, behind a header of 14 bytes and the id.
    CONSTRAINT data_keys_wrapped CHECK (coalesce(length(wrapped) = 62 + length(master_key), wrapped IS NULL))
);
CREATE UNIQUE INDEX data_keys_one_current ON paytrust.data_keys (scope) WHERE retired_at IS NULL;
CREATE INDEX data_keys_of_tenant ON paytrust.data_keys (tenant_id);
-- Without its key a secret is lost for good.
CREATE TRIGGER data_keys_kept BEFORE DELETE OR TRUNCATE ON paytrust.data_keys
    FOR EACH STATEMENT EXECUTE FUNCTION paytrust.refuse();
ALTER TABLE paytrust.data_keys ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON paytrust.data_keys FOR SELECT
    USING (scope = paytrust.tenant() OR (tenant_id IS NULL AND paytrust.tenant() IS NOT NULL));
CREATE POLICY system ON paytrust.data_keys USING (paytrust.is_system());
GRANT SELECT, INSERT, UPDATE (wrapped, wrapped_at, retired_at) ON paytrust.data_keys TO paytrust_app;


-- Processes of the version before this one cannot read what a data key sealed. So whoever is here already goes on as before, until
-- `paytrust secrets rotate` is run after the last of them has stopped.
SELECT set_config('app.scope', 'system', true);
INSERT INTO paytrust.data_keys (tenant_id, id) SELECT id, gen_random_uuid() FROM paytrust.tenants;
INSERT INTO paytrust.data_keys (tenant_id, id) SELECT NULL, gen_random_uuid() WHERE EXISTS (SELECT FROM paytrust.tenants);
SELECT set_config('app.scope', '', true);
