DROP TABLE paytrust.idempotency_keys;
