CREATE OR REPLACE FUNCTION paytrust.keep_initiated_invoice() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.external_id, NEW.account_scope, NEW.gateway_account_id, NEW.gateway, NEW.currency, NEW.subtotal, NEW.tax, NEW.fee, NEW.total,
        NEW.fee_percentage, NEW.fee_fixed, NEW.original_invoice_id, NEW.payment_initiated_at, NEW.created_at)
       IS DISTINCT FROM
       (OLD.external_id, OLD.account_scope, OLD.gateway_account_id, OLD.gateway, OLD.currency, OLD.subtotal, OLD.tax, OLD.fee, OLD.total,
        OLD.fee_percentage, OLD.fee_fixed, OLD.original_invoice_id, OLD.payment_initiated_at, OLD.created_at) THEN
        RAISE EXCEPTION 'invoice % cannot change: its payment was initiated at %', OLD.id, OLD.payment_initiated_at
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;
ALTER TABLE paytrust.invoices DROP COLUMN fee_cap, DROP COLUMN fee_minimum;
ALTER TABLE paytrust.gateway_account_currencies DROP COLUMN fee_cap, DROP COLUMN fee_minimum;
ALTER TABLE paytrust.line_items DROP COLUMN tax_basis;
