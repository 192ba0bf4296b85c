"""Installments: the dated parts of an invoice."""
