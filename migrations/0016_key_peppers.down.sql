DROP TABLE paytrust.key_peppers;
