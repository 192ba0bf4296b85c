-- Why a line has its tax rate, and the bounds of a service fee.

ALTER TABLE paytrust.line_items
    -- NULL: the merchant gave the rate, or no rule had anything to say.
    ADD COLUMN tax_basis jsonb;

ALTER TABLE paytrust.gateway_account_currencies
    ADD COLUMN fee_minimum bigint NOT NULL DEFAULT 0 CONSTRAINT gateway_account_currencies_minimum CHECK (fee_minimum >= 0),
    ADD COLUMN fee_cap bigint CONSTRAINT gateway_account_currencies_cap CHECK (fee_cap >= fee_minimum);
GRANT UPDATE (fee_minimum, fee_cap) ON paytrust.gateway_account_currencies TO paytrust_app;

-- Frozen with the percentage and the fixed part.
ALTER TABLE paytrust.invoices
    ADD COLUMN fee_minimum bigint NOT NULL DEFAULT 0,
    ADD COLUMN fee_cap bigint;

CREATE OR REPLACE FUNCTION paytrust.keep_initiated_invoice() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.external_id, NEW.account_scope, NEW.gateway_account_id, NEW.gateway, NEW.currency, NEW.subtotal, NEW.tax, NEW.fee, NEW.total,
        NEW.fee_percentage, NEW.fee_fixed, NEW.fee_minimum, NEW.fee_cap, NEW.original_invoice_id, NEW.payment_initiated_at, NEW.created_at)
       IS DISTINCT FROM
       (OLD.external_id, OLD.account_scope, OLD.gateway_account_id, OLD.gateway, OLD.currency, OLD.subtotal, OLD.tax, OLD.fee, OLD.total,
        OLD.fee_percentage, OLD.fee_fixed, OLD.fee_minimum, OLD.fee_cap, OLD.original_invoice_id, OLD.payment_initiated_at, OLD.created_at) THEN
        RAISE EXCEPTION 'invoice % cannot change: its payment was initiated at %', OLD.id, OLD.payment_initiated_at
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;
