DROP TABLE paytrust.webhook_attempts, paytrust.webhooks;
