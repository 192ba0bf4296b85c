-- What a payer owes, in which parts, and every attempt to collect it.
--
-- Composite keys carry tenant and currency: a line, a part or an attempt of another tenant or currency cannot be written.

CREATE TABLE paytrust.invoices (
    tenant_id uuid NOT NULL REFERENCES paytrust.tenants,
    id uuid NOT NULL,
    external_id text CONSTRAINT invoices_external_id_length CHECK (length(external_id) BETWEEN 1 AND 255),
    content_hash bytea NOT NULL,  -- of the request: the same external_id with other content is a conflict
    account_scope uuid NOT NULL
        CONSTRAINT invoices_account_scope CHECK (account_scope IN (tenant_id, '00000000-0000-0000-0000-000000000000')),
    gateway_account_id uuid NOT NULL,
    gateway text NOT NULL,
    currency text NOT NULL,
    status text NOT NULL DEFAULT 'draft'
        CONSTRAINT invoices_status_known CHECK (status IN ('draft', 'pending', 'partially_paid', 'paid', 'failed', 'expired', 'cancelled')),
    subtotal bigint NOT NULL CONSTRAINT invoices_subtotal_positive CHECK (subtotal > 0),
    tax bigint NOT NULL CONSTRAINT invoices_tax_not_negative CHECK (tax >= 0),
    fee bigint NOT NULL CONSTRAINT invoices_fee_not_negative CHECK (fee >= 0),
    total bigint NOT NULL,
    fee_percentage numeric(7, 6) NOT NULL,  -- frozen from the gateway account
    fee_fixed bigint NOT NULL,
    description text,
    customer jsonb NOT NULL,
    metadata jsonb NOT NULL,
    success_url text,
    failure_url text,
    original_invoice_id uuid,
    payment_initiated_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT invoices_currency_key UNIQUE (tenant_id, currency, id),
    CONSTRAINT invoices_external_id_unique UNIQUE (tenant_id, external_id),
    CONSTRAINT invoices_total_is_sum CHECK (total = subtotal + tax + fee),
    CONSTRAINT invoices_expiry CHECK (expires_at > created_at),
    CONSTRAINT invoices_initiated CHECK (status = 'draft' OR payment_initiated_at IS NOT NULL),
    CONSTRAINT invoices_account FOREIGN KEY (account_scope, gateway_account_id, currency)
        REFERENCES paytrust.gateway_account_currencies (scope, gateway_account_id, currency),
    CONSTRAINT invoices_original FOREIGN KEY (tenant_id, currency, original_invoice_id) REFERENCES paytrust.invoices (tenant_id, currency, id)
);
CREATE INDEX invoices_newest ON paytrust.invoices (tenant_id, created_at DESC, id DESC);
ALTER TABLE paytrust.invoices ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON paytrust.invoices USING (tenant_id = paytrust.tenant());
GRANT SELECT, INSERT, UPDATE (status, payment_initiated_at, updated_at) ON paytrust.invoices TO paytrust_app;

CREATE FUNCTION paytrust.keep_initiated_invoice() RETURNS trigger
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
CREATE TRIGGER invoices_immutable BEFORE UPDATE ON paytrust.invoices
    FOR EACH ROW WHEN (OLD.payment_initiated_at IS NOT NULL) EXECUTE FUNCTION paytrust.keep_initiated_invoice();
CREATE TRIGGER invoices_kept BEFORE DELETE OR TRUNCATE ON paytrust.invoices FOR EACH STATEMENT EXECUTE FUNCTION paytrust.refuse();


CREATE TABLE paytrust.line_items (
    tenant_id uuid NOT NULL,
    invoice_id uuid NOT NULL,
    number smallint NOT NULL CONSTRAINT line_items_number_positive CHECK (number > 0),
    id uuid NOT NULL,
    currency text NOT NULL,
    product_name text NOT NULL CONSTRAINT line_items_product_name_length CHECK (length(product_name) BETWEEN 1 AND 255),
    quantity bigint NOT NULL CONSTRAINT line_items_quantity_positive CHECK (quantity > 0),
    unit_price bigint NOT NULL CONSTRAINT line_items_unit_price_positive CHECK (unit_price > 0),
    tax_rate numeric(5, 4) NOT NULL CONSTRAINT line_items_tax_rate CHECK (tax_rate BETWEEN 0 AND 1),
    tax_category text,
    country_code text,
    subtotal bigint NOT NULL,
    tax bigint NOT NULL CONSTRAINT line_items_tax_not_negative CHECK (tax >= 0),
    PRIMARY KEY (tenant_id, invoice_id, number),
    CONSTRAINT line_items_subtotal_is_product CHECK (subtotal::numeric = quantity::numeric * unit_price::numeric),
    CONSTRAINT line_items_invoice FOREIGN KEY (tenant_id, currency, invoice_id) REFERENCES paytrust.invoices (tenant_id, currency, id)
);
ALTER TABLE paytrust.line_items ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON paytrust.line_items USING (tenant_id = paytrust.tenant());
GRANT SELECT, INSERT ON paytrust.line_items TO paytrust_app;

CREATE FUNCTION paytrust.keep_initiated_lines() RETURNS trigger
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
CREATE TRIGGER line_items_immutable AFTER INSERT ON paytrust.line_items
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION paytrust.keep_initiated_lines();
CREATE TRIGGER line_items_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON paytrust.line_items
    FOR EACH STATEMENT EXECUTE FUNCTION paytrust.refuse();


-- Every invoice has a schedule; a single payment is a schedule of one (docs/adr/0002).
CREATE TABLE paytrust.installments (
    tenant_id uuid NOT NULL,
    invoice_id uuid NOT NULL,
    number smallint NOT NULL CONSTRAINT installments_number CHECK (number BETWEEN 1 AND 12),
    currency text NOT NULL,
    due_at timestamptz NOT NULL,
    amount bigint NOT NULL CONSTRAINT installments_amount_positive CHECK (amount > 0),
    tax bigint NOT NULL CONSTRAINT installments_tax_not_negative CHECK (tax >= 0),
    fee bigint NOT NULL CONSTRAINT installments_fee_not_negative CHECK (fee >= 0),
    paid_at timestamptz,  -- when the books closed it; what is paid on it lies in the books
    PRIMARY KEY (tenant_id, invoice_id, number),
    CONSTRAINT installments_currency_key UNIQUE (tenant_id, currency, invoice_id, number),
    CONSTRAINT installments_parts CHECK (tax + fee <= amount),
    CONSTRAINT installments_invoice FOREIGN KEY (tenant_id, currency, invoice_id) REFERENCES paytrust.invoices (tenant_id, currency, id)
);
ALTER TABLE paytrust.installments ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON paytrust.installments USING (tenant_id = paytrust.tenant());
GRANT SELECT, INSERT, UPDATE (paid_at) ON paytrust.installments TO paytrust_app;
CREATE TRIGGER installments_kept BEFORE DELETE OR TRUNCATE ON paytrust.installments FOR EACH STATEMENT EXECUTE FUNCTION paytrust.refuse();


-- One attempt to collect one installment at a gateway. The row exists before the gateway is called.
CREATE TABLE paytrust.payments (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    invoice_id uuid NOT NULL,
    installment_number smallint NOT NULL,
    currency text NOT NULL,
    gateway_account_id uuid NOT NULL REFERENCES paytrust.gateway_accounts,
    attempt smallint NOT NULL CONSTRAINT payments_attempt_positive CHECK (attempt > 0),
    reference text NOT NULL CONSTRAINT payments_reference_legal CHECK (reference ~ '^[A-Za-z0-9][A-Za-z0-9-]{0,48}[A-Za-z]$'),
    amount bigint NOT NULL CONSTRAINT payments_amount_positive CHECK (amount > 0),
    status text NOT NULL CONSTRAINT payments_status_known
        CHECK (status IN ('creating', 'open', 'paid', 'expired', 'rejected', 'unavailable', 'unknown')),
    gateway_payment_id text,
    payment_url text,
    instructions jsonb,
    error_code text,
    error_detail text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT payments_attempt_unique UNIQUE (tenant_id, invoice_id, installment_number, attempt),
    CONSTRAINT payments_reference_unique UNIQUE (gateway_account_id, reference),
    CONSTRAINT payments_currency_key UNIQUE (tenant_id, currency, invoice_id, id),
    CONSTRAINT payments_open_has_id CHECK (status <> 'open' OR gateway_payment_id IS NOT NULL),
    CONSTRAINT payments_installment FOREIGN KEY (tenant_id, currency, invoice_id, installment_number)
        REFERENCES paytrust.installments (tenant_id, currency, invoice_id, number)
);
-- Never a second payable page while one is open, being made or unknown.
CREATE UNIQUE INDEX payments_one_live ON paytrust.payments (tenant_id, invoice_id, installment_number)
    WHERE status IN ('creating', 'open', 'unavailable', 'unknown');
ALTER TABLE paytrust.payments ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON paytrust.payments USING (tenant_id = paytrust.tenant());
CREATE POLICY system ON paytrust.payments FOR SELECT USING (paytrust.is_system());
GRANT SELECT, INSERT, UPDATE (status, gateway_payment_id, payment_url, instructions, error_code, error_detail, updated_at)
    ON paytrust.payments TO paytrust_app;
CREATE TRIGGER payments_kept BEFORE DELETE OR TRUNCATE ON paytrust.payments FOR EACH STATEMENT EXECUTE FUNCTION paytrust.refuse();


-- Money that a gateway confirmed. The unique constraint makes one gateway payment one effect, however often it is announced.
CREATE TABLE paytrust.receipts (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    invoice_id uuid NOT NULL,
    payment_id uuid NOT NULL,
    currency text NOT NULL,
    gateway_account_id uuid NOT NULL REFERENCES paytrust.gateway_accounts,
    gateway_payment_id text NOT NULL,
    amount bigint NOT NULL CONSTRAINT receipts_amount_positive CHECK (amount > 0),
    paid_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT receipts_one_effect UNIQUE (tenant_id, gateway_account_id, gateway_payment_id),
    CONSTRAINT receipts_currency_key UNIQUE (tenant_id, currency, id),
    CONSTRAINT receipts_payment FOREIGN KEY (tenant_id, currency, invoice_id, payment_id)
        REFERENCES paytrust.payments (tenant_id, currency, invoice_id, id)
);
CREATE INDEX receipts_of_invoice ON paytrust.receipts (tenant_id, invoice_id);
ALTER TABLE paytrust.receipts ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON paytrust.receipts USING (tenant_id = paytrust.tenant());
GRANT SELECT, INSERT ON paytrust.receipts TO paytrust_app;
CREATE TRIGGER receipts_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON paytrust.receipts
    FOR EACH STATEMENT EXECUTE FUNCTION paytrust.refuse();
