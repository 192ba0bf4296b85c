-- Merchants, their API keys, and their accounts at gateways.

CREATE TABLE paytrust.tenants (
    id uuid PRIMARY KEY,
    name text NOT NULL CONSTRAINT tenants_name_length CHECK (length(name) BETWEEN 1 AND 200),
    created_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE paytrust.tenants ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON paytrust.tenants USING (id = paytrust.tenant());
CREATE POLICY system ON paytrust.tenants USING (paytrust.is_system());
GRANT SELECT, INSERT ON paytrust.tenants TO paytrust_app;


CREATE TABLE paytrust.api_keys (
    tenant_id uuid NOT NULL REFERENCES paytrust.tenants,
    id uuid NOT NULL,
    prefix text NOT NULL CONSTRAINT api_keys_prefix_length CHECK (length(prefix) = 4),
    -- HMAC-SHA256 of the key under a pepper that is not in the database: finds the row, opens nothing.
    lookup bytea NOT NULL CONSTRAINT api_keys_lookup_unique UNIQUE CONSTRAINT api_keys_lookup_length CHECK (length(lookup) = 32),
    hash text NOT NULL CONSTRAINT api_keys_hash_argon2id CHECK (hash LIKE '$argon2id$%'),
    description text NOT NULL CONSTRAINT api_keys_description_length CHECK (length(description) <= 200),
    scopes text[] NOT NULL CONSTRAINT api_keys_scopes_known CHECK (scopes <@ ARRAY['read', 'write'] AND cardinality(scopes) > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz,
    PRIMARY KEY (tenant_id, id)
);
ALTER TABLE paytrust.api_keys ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON paytrust.api_keys USING (tenant_id = paytrust.tenant());
CREATE POLICY system ON paytrust.api_keys USING (paytrust.is_system());
GRANT SELECT, INSERT, UPDATE (revoked_at) ON paytrust.api_keys TO paytrust_app;


CREATE TABLE paytrust.gateway_accounts (
    id uuid PRIMARY KEY,
    tenant_id uuid REFERENCES paytrust.tenants,  -- NULL: shared by all tenants
    -- Never NULL, so that one foreign key can say "an account of this tenant or a shared one".
    scope uuid NOT NULL GENERATED ALWAYS AS (coalesce(tenant_id, '00000000-0000-0000-0000-000000000000')) STORED,
    gateway text NOT NULL,
    name text NOT NULL CONSTRAINT gateway_accounts_name_length CHECK (length(name) BETWEEN 1 AND 200),
    base_url text,
    options jsonb NOT NULL,
    credentials bytea NOT NULL,  -- encrypted (paytrust/vault.py)
    webhook_token text NOT NULL CONSTRAINT gateway_accounts_token_unique UNIQUE
        CONSTRAINT gateway_accounts_token_length CHECK (length(webhook_token) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    disabled_at timestamptz,
    CONSTRAINT gateway_accounts_scope_unique UNIQUE (scope, id)
);
CREATE INDEX gateway_accounts_of_tenant ON paytrust.gateway_accounts (tenant_id);
ALTER TABLE paytrust.gateway_accounts ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON paytrust.gateway_accounts FOR SELECT USING (tenant_id = paytrust.tenant() OR (tenant_id IS NULL AND paytrust.tenant() IS NOT NULL));
CREATE POLICY system ON paytrust.gateway_accounts USING (paytrust.is_system());
GRANT SELECT, INSERT, UPDATE (name, base_url, options, credentials, updated_at, disabled_at) ON paytrust.gateway_accounts TO paytrust_app;


CREATE TABLE paytrust.gateway_account_currencies (
    scope uuid NOT NULL,
    gateway_account_id uuid NOT NULL,
    currency text NOT NULL CONSTRAINT gateway_account_currencies_code CHECK (currency ~ '^[A-Z]{3}$'),
    fee_percentage numeric(7, 6) NOT NULL DEFAULT 0 CONSTRAINT gateway_account_currencies_percentage CHECK (fee_percentage BETWEEN 0 AND 1),
    fee_fixed bigint NOT NULL DEFAULT 0 CONSTRAINT gateway_account_currencies_fixed CHECK (fee_fixed >= 0),
    -- A currency is switched off, never deleted: invoices refer to it.
    enabled boolean NOT NULL DEFAULT true,
    PRIMARY KEY (scope, gateway_account_id, currency),
    CONSTRAINT gateway_account_currencies_account FOREIGN KEY (scope, gateway_account_id) REFERENCES paytrust.gateway_accounts (scope, id)
);
ALTER TABLE paytrust.gateway_account_currencies ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON paytrust.gateway_account_currencies FOR SELECT
    USING (scope = paytrust.tenant() OR (scope = '00000000-0000-0000-0000-000000000000' AND paytrust.tenant() IS NOT NULL));
CREATE POLICY system ON paytrust.gateway_account_currencies USING (paytrust.is_system());
GRANT SELECT, INSERT, UPDATE (fee_percentage, fee_fixed, enabled) ON paytrust.gateway_account_currencies TO paytrust_app;
