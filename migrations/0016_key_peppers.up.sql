-- What the key pepper makes of a constant, so that a process with another pepper notices it at its start instead of calling every
-- API key unknown. The newest row counts; the first one is written by the first process that starts. Nobody can compute a pepper from it.
CREATE TABLE paytrust.key_peppers (
    id uuid PRIMARY KEY,
    digest bytea NOT NULL CONSTRAINT key_peppers_digest_length CHECK (length(digest) = 32),
    adopted_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE paytrust.key_peppers ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY system ON paytrust.key_peppers USING (paytrust.is_system());
GRANT SELECT, INSERT ON paytrust.key_peppers TO paytrust_app;
