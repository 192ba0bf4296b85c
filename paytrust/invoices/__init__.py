"""Invoices: lines, totals, schedules and status."""
