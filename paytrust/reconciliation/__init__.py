"""Reconciliation: our books beside what gateways list, and beside what our invoices say."""
