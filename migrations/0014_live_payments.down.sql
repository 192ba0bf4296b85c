DROP INDEX paytrust.payments_one_live;
ALTER TABLE paytrust.payments DROP COLUMN live;
CREATE UNIQUE INDEX payments_one_live ON paytrust.payments (tenant_id, invoice_id, installment_number)
    WHERE status IN ('creating', 'open', 'unavailable', 'unknown');
