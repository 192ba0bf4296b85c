-- Unpaid parts of a schedule may change, an invoice may follow another, and what happened to an invoice is kept.

-- Parts -----------------------------------------------------------------------------------------------------------------

GRANT UPDATE (amount, tax, fee) ON paytrust.installments TO paytrust_app;

CREATE FUNCTION paytrust.keep_paid_installment() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'installment % of invoice % was paid at % and cannot change', OLD.number, OLD.invoice_id, OLD.paid_at
        USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER installments_paid_are_kept BEFORE UPDATE ON paytrust.installments FOR EACH ROW
    WHEN (OLD.paid_at IS NOT NULL AND (NEW.amount, NEW.tax, NEW.fee, NEW.paid_at) IS DISTINCT FROM (OLD.amount, OLD.tax, OLD.fee, OLD.paid_at))
    EXECUTE FUNCTION paytrust.keep_paid_installment();

-- The parts of an invoice always sum to it, in amount, tax and fee.
CREATE FUNCTION paytrust.check_schedule() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM (SELECT DISTINCT tenant_id, invoice_id FROM changed) AS c
        JOIN paytrust.invoices i ON i.tenant_id = c.tenant_id AND i.id = c.invoice_id
        CROSS JOIN LATERAL (
            SELECT sum(s.amount) AS amount, sum(s.tax) AS tax, sum(s.fee) AS fee
            FROM paytrust.installments s WHERE s.tenant_id = i.tenant_id AND s.invoice_id = i.id
        ) AS s
        WHERE (s.amount, s.tax, s.fee) IS DISTINCT FROM (i.total, i.tax, i.fee)
    ) THEN
        RAISE EXCEPTION 'the installments of an invoice must sum to it' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER installments_sum_on_insert AFTER INSERT ON paytrust.installments
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION paytrust.check_schedule();
CREATE TRIGGER installments_sum_on_update AFTER UPDATE ON paytrust.installments
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION paytrust.check_schedule();

-- Lines: as before, and their subtotals and taxes sum to the invoice's.
CREATE OR REPLACE FUNCTION paytrust.keep_initiated_lines() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM (SELECT tenant_id, invoice_id, sum(subtotal) AS subtotal, sum(tax) AS tax FROM added GROUP BY 1, 2) AS a
        JOIN paytrust.invoices i ON i.tenant_id = a.tenant_id AND i.id = a.invoice_id
        WHERE i.payment_initiated_at IS NOT NULL OR (a.subtotal, a.tax) IS DISTINCT FROM (i.subtotal, i.tax)
    ) THEN
        RAISE EXCEPTION 'an invoice takes all its lines at once, they sum to it, and no more follow once its payment was initiated'
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END
$$;

-- Books: moving a claim from one part of an invoice to another; and what each cause may post.
ALTER TABLE paytrust.transfers
    DROP CONSTRAINT transfers_cause_known,
    ADD CONSTRAINT transfers_cause_known CHECK (cause IN ('issue', 'receipt', 'adjust')),
    ADD CONSTRAINT transfers_fit_their_cause CHECK (CASE cause
        WHEN 'issue' THEN starts_with(debit, 'receivable:' || invoice_id || ':') AND credit IN ('revenue', 'tax', 'fee')
        WHEN 'receipt' THEN starts_with(debit, 'clearing:')
            AND (starts_with(credit, 'receivable:' || invoice_id || ':') OR credit = 'overpaid:' || invoice_id)
        ELSE starts_with(debit, 'receivable:' || invoice_id || ':') AND starts_with(credit, 'receivable:' || invoice_id || ':')
    END);

-- Supplementary invoices ------------------------------------------------------------------------------------------------

CREATE INDEX invoices_of_original ON paytrust.invoices (tenant_id, original_invoice_id) WHERE original_invoice_id IS NOT NULL;

CREATE FUNCTION paytrust.check_original() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM paytrust.invoices o
        WHERE o.tenant_id = NEW.tenant_id AND o.id = NEW.original_invoice_id AND o.original_invoice_id IS NULL
          AND o.status IN ('pending', 'partially_paid', 'paid') AND o.gateway_account_id = NEW.gateway_account_id
    ) THEN
        RAISE EXCEPTION 'invoice % cannot supplement invoice %', NEW.id, NEW.original_invoice_id USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER invoices_supplement BEFORE INSERT ON paytrust.invoices
    FOR EACH ROW WHEN (NEW.original_invoice_id IS NOT NULL) EXECUTE FUNCTION paytrust.check_original();

-- What happened ---------------------------------------------------------------------------------------------------------

-- Why money needs a look: it came after the invoice had expired, was cancelled, or was paid.
ALTER TABLE paytrust.receipts
    ADD COLUMN flag text CONSTRAINT receipts_flag_known CHECK (flag IN ('late', 'after_cancel', 'after_paid'));
ALTER TABLE paytrust.payments ADD COLUMN opened_at timestamptz;
GRANT UPDATE (opened_at) ON paytrust.payments TO paytrust_app;

-- What no other row remembers. Creation, opened pages and money are read from their own tables.
CREATE TABLE paytrust.invoice_history (
    tenant_id uuid NOT NULL,
    invoice_id uuid NOT NULL,
    id uuid NOT NULL,
    happened_at timestamptz NOT NULL DEFAULT now(),
    event text NOT NULL CONSTRAINT invoice_history_event_length CHECK (length(event) BETWEEN 1 AND 50),
    reason text CONSTRAINT invoice_history_reason_length CHECK (length(reason) <= 500),
    details jsonb NOT NULL,
    PRIMARY KEY (tenant_id, invoice_id, id),
    CONSTRAINT invoice_history_invoice FOREIGN KEY (tenant_id, invoice_id) REFERENCES paytrust.invoices (tenant_id, id)
);
ALTER TABLE paytrust.invoice_history ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON paytrust.invoice_history USING (tenant_id = paytrust.tenant());
GRANT SELECT, INSERT ON paytrust.invoice_history TO paytrust_app;
CREATE TRIGGER invoice_history_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON paytrust.invoice_history
    FOR EACH STATEMENT EXECUTE FUNCTION paytrust.refuse();
