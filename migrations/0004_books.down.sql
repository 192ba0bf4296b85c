DROP TABLE paytrust.transfers, paytrust.book_accounts;
DROP FUNCTION paytrust.post_transfers();
