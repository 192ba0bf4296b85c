-- Some channels of a gateway answer only to an id that their webhook named: it is kept with the webhook, and with the payment for
-- every later look-up. A hint, not a fact: it moves no money by itself.
ALTER TABLE paytrust.webhooks ADD COLUMN gateway_payment_id text
    CONSTRAINT webhooks_gateway_payment_id_length CHECK (length(gateway_payment_id) <= 200);
ALTER TABLE paytrust.payments ADD COLUMN hint text
    CONSTRAINT payments_hint_length CHECK (length(hint) <= 200);
GRANT UPDATE (hint) ON paytrust.payments TO paytrust_app;
