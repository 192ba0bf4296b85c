-- The index that keeps a second payable page away no longer names the status.
--
-- Every payment goes from creating to open, which leaves it live. While the index's condition named the status, that update
-- wrote all six indexes anew; now PostgreSQL can keep it within the page (a heap-only update).

ALTER TABLE paytrust.payments
    ADD COLUMN live boolean NOT NULL GENERATED ALWAYS AS (status IN ('creating', 'open', 'unavailable', 'unknown')) STORED;
DROP INDEX paytrust.payments_one_live;
CREATE UNIQUE INDEX payments_one_live ON paytrust.payments (tenant_id, invoice_id, installment_number) WHERE live;
