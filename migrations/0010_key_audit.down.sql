DROP TABLE paytrust.key_audit;
DROP TRIGGER api_keys_told ON paytrust.api_keys;
DROP FUNCTION paytrust.tell_key_changed();
REVOKE UPDATE (prefix, lookup, hash, rotated_at) ON paytrust.api_keys FROM paytrust_app;
ALTER TABLE paytrust.api_keys DROP COLUMN allowed_addresses, DROP COLUMN rotated_at, DROP COLUMN expires_at;
