-- What a data key has sealed cannot be opened afterwards: credentials of gateway accounts have to be given anew.
DROP TABLE paytrust.data_keys;
DROP FUNCTION paytrust.data_key_of(bytea);
DROP FUNCTION paytrust.master_key_of(bytea);
