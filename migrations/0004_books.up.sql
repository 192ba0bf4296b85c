-- The books: one row is one transfer, from a debit account to a credit account, so any set of rows is balanced.
--
-- An account is a name inside (tenant, currency), both columns of the transfer itself: no row can mix tenants or currencies.
-- Only accounts whose balance is bounded have a row of their own, kept by trigger; the others are sums, so that payments
-- never queue on a shared row (docs/adr/0003, docs/adr/0014).

CREATE TABLE paytrust.book_accounts (
    tenant_id uuid NOT NULL,
    currency text NOT NULL,
    name text NOT NULL,
    invoice_id uuid NOT NULL,
    installment_number smallint,
    debits bigint NOT NULL DEFAULT 0 CONSTRAINT book_accounts_debits_not_negative CHECK (debits >= 0),
    credits bigint NOT NULL DEFAULT 0 CONSTRAINT book_accounts_credits_not_negative CHECK (credits >= 0),
    PRIMARY KEY (tenant_id, currency, name),
    CONSTRAINT book_accounts_name CHECK (
        name = CASE WHEN installment_number IS NULL THEN 'overpaid:' || invoice_id
                    ELSE 'receivable:' || invoice_id || ':' || installment_number END),
    -- An installment can never be credited above what it is owed.
    CONSTRAINT book_accounts_receivable_bound CHECK (installment_number IS NULL OR credits <= debits),
    CONSTRAINT book_accounts_overpaid_bound CHECK (installment_number IS NOT NULL OR debits <= credits),
    CONSTRAINT book_accounts_invoice FOREIGN KEY (tenant_id, currency, invoice_id) REFERENCES paytrust.invoices (tenant_id, currency, id),
    CONSTRAINT book_accounts_installment FOREIGN KEY (tenant_id, currency, invoice_id, installment_number)
        REFERENCES paytrust.installments (tenant_id, currency, invoice_id, number)
);
CREATE INDEX book_accounts_of_invoice ON paytrust.book_accounts (tenant_id, invoice_id);
ALTER TABLE paytrust.book_accounts ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON paytrust.book_accounts USING (tenant_id = paytrust.tenant());
-- The balances are the trigger's alone.
GRANT SELECT, INSERT (tenant_id, currency, name, invoice_id, installment_number) ON paytrust.book_accounts TO paytrust_app;
CREATE TRIGGER book_accounts_kept BEFORE DELETE OR TRUNCATE ON paytrust.book_accounts FOR EACH STATEMENT EXECUTE FUNCTION paytrust.refuse();


CREATE TABLE paytrust.transfers (
    tenant_id uuid NOT NULL,
    cause text NOT NULL CONSTRAINT transfers_cause_known CHECK (cause IN ('issue', 'receipt')),
    cause_id uuid NOT NULL,  -- issue: the invoice; receipt: the receipt
    leg smallint NOT NULL,
    currency text NOT NULL,
    invoice_id uuid NOT NULL,
    debit text NOT NULL,
    credit text NOT NULL,
    amount bigint NOT NULL CONSTRAINT transfers_amount_positive CHECK (amount > 0),
    posted_at timestamptz NOT NULL DEFAULT now(),
    bounded_debit text GENERATED ALWAYS AS (CASE WHEN split_part(debit, ':', 1) IN ('receivable', 'overpaid') THEN debit END) STORED,
    bounded_credit text GENERATED ALWAYS AS (CASE WHEN split_part(credit, ':', 1) IN ('receivable', 'overpaid') THEN credit END) STORED,
    -- One cause is posted once.
    PRIMARY KEY (tenant_id, cause, cause_id, leg),
    CONSTRAINT transfers_two_accounts CHECK (debit <> credit),
    CONSTRAINT transfers_accounts_known CHECK (
        split_part(debit, ':', 1) IN ('receivable', 'overpaid', 'clearing', 'revenue', 'tax', 'fee')
        AND split_part(credit, ':', 1) IN ('receivable', 'overpaid', 'clearing', 'revenue', 'tax', 'fee')),
    CONSTRAINT transfers_invoice FOREIGN KEY (tenant_id, currency, invoice_id) REFERENCES paytrust.invoices (tenant_id, currency, id),
    CONSTRAINT transfers_debit FOREIGN KEY (tenant_id, currency, bounded_debit) REFERENCES paytrust.book_accounts (tenant_id, currency, name),
    CONSTRAINT transfers_credit FOREIGN KEY (tenant_id, currency, bounded_credit) REFERENCES paytrust.book_accounts (tenant_id, currency, name)
);
CREATE INDEX transfers_of_invoice ON paytrust.transfers (tenant_id, invoice_id);
ALTER TABLE paytrust.transfers ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON paytrust.transfers USING (tenant_id = paytrust.tenant());
GRANT SELECT, INSERT ON paytrust.transfers TO paytrust_app;

CREATE FUNCTION paytrust.post_transfers() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    UPDATE paytrust.book_accounts a SET debits = a.debits + p.debits, credits = a.credits + p.credits
    FROM (
        SELECT tenant_id, currency, name, sum(debits) AS debits, sum(credits) AS credits
        FROM (
            SELECT tenant_id, currency, bounded_debit AS name, amount AS debits, 0 AS credits FROM posted WHERE bounded_debit IS NOT NULL
            UNION ALL
            SELECT tenant_id, currency, bounded_credit, 0, amount FROM posted WHERE bounded_credit IS NOT NULL
        ) AS legs
        GROUP BY tenant_id, currency, name
    ) AS p
    WHERE a.tenant_id = p.tenant_id AND a.currency = p.currency AND a.name = p.name;
    RETURN NULL;
END
$$;
CREATE TRIGGER transfers_post AFTER INSERT ON paytrust.transfers
    REFERENCING NEW TABLE AS posted FOR EACH STATEMENT EXECUTE FUNCTION paytrust.post_transfers();
CREATE TRIGGER transfers_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON paytrust.transfers
    FOR EACH STATEMENT EXECUTE FUNCTION paytrust.refuse();
