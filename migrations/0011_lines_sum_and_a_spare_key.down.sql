ALTER TABLE paytrust.receipts ADD CONSTRAINT receipts_currency_key UNIQUE (tenant_id, currency, id);

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
