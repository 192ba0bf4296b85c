DROP TABLE paytrust.invoice_history;
ALTER TABLE paytrust.payments DROP COLUMN opened_at;
ALTER TABLE paytrust.receipts DROP COLUMN flag;
DROP TRIGGER invoices_supplement ON paytrust.invoices;
DROP FUNCTION paytrust.check_original();
DROP INDEX paytrust.invoices_of_original;
ALTER TABLE paytrust.transfers
    DROP CONSTRAINT transfers_fit_their_cause,
    DROP CONSTRAINT transfers_cause_known,
    ADD CONSTRAINT transfers_cause_known CHECK (cause IN ('issue', 'receipt'));
CREATE OR REPLACE FUNCTION paytrust.keep_initiated_lines() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM added JOIN paytrust.invoices i ON i.tenant_id = added.tenant_id AND i.id = added.invoice_id
        WHERE i.payment_initiated_at IS NOT NULL
    ) THEN
        RAISE EXCEPTION 'an invoice takes no more lines once its payment was initiated' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END
$$;
DROP TRIGGER installments_sum_on_update ON paytrust.installments;
DROP TRIGGER installments_sum_on_insert ON paytrust.installments;
DROP FUNCTION paytrust.check_schedule();
DROP TRIGGER installments_paid_are_kept ON paytrust.installments;
DROP FUNCTION paytrust.keep_paid_installment();
REVOKE UPDATE (amount, tax, fee) ON paytrust.installments FROM paytrust_app;
