DROP TABLE paytrust.gateway_account_currencies, paytrust.gateway_accounts, paytrust.api_keys, paytrust.tenants;
