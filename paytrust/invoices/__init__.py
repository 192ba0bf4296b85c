"""Invoices: what a payer owes."""
