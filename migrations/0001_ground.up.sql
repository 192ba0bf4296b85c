-- The service's role, and what row-level security compares rows with.
--
-- `paytrust_app` cannot log in and owns nothing: it carries the grants, and the service's login role is its member.
-- A transaction says whose rows it may see with SET LOCAL app.tenant, or that it works across tenants with
-- SET LOCAL app.scope = 'system', for which only a few tables have a policy (docs/adr/0013).

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'paytrust_app') THEN
        CREATE ROLE paytrust_app NOLOGIN;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;  -- another database of this server was quicker
END
$$;

GRANT USAGE ON SCHEMA paytrust TO paytrust_app;

CREATE FUNCTION paytrust.tenant() RETURNS uuid
    LANGUAGE sql STABLE PARALLEL SAFE
    -- After a SET LOCAL has ended the setting reads as '', not as NULL.
    RETURN nullif(current_setting('app.tenant', true), '')::uuid;

CREATE FUNCTION paytrust.is_system() RETURNS boolean
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN coalesce(current_setting('app.scope', true), '') = 'system';

CREATE FUNCTION paytrust.refuse() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % are append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;
