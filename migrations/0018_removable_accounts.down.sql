REVOKE DELETE ON paytrust.gateway_accounts, paytrust.gateway_account_currencies FROM paytrust_app;
