ALTER TABLE paytrust.payments DROP COLUMN hint;
ALTER TABLE paytrust.webhooks DROP COLUMN gateway_payment_id;
