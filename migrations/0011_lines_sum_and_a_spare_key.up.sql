-- Wider than the primary key and referred to by nothing, so it refused nothing and cost every receipt an index entry.
ALTER TABLE paytrust.receipts DROP CONSTRAINT receipts_currency_key;

-- All the lines of an invoice sum to it, not only those of one statement: a draft took the same lines twice.
CREATE OR REPLACE FUNCTION paytrust.keep_initiated_lines() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM (SELECT DISTINCT tenant_id, invoice_id FROM added) AS a
        JOIN paytrust.invoices i ON i.tenant_id = a.tenant_id AND i.id = a.invoice_id
        CROSS JOIN LATERAL (
            SELECT sum(l.subtotal) AS subtotal, sum(l.tax) AS tax
            FROM paytrust.line_items l WHERE l.tenant_id = i.tenant_id AND l.invoice_id = i.id
        ) AS l
        WHERE i.payment_initiated_at IS NOT NULL OR (l.subtotal, l.tax) IS DISTINCT FROM (i.subtotal, i.tax)
    ) THEN
        RAISE EXCEPTION 'an invoice takes all its lines at once, they sum to it, and no more follow once its payment was initiated'
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END
$$;
