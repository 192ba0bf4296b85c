"""Requests that are safe to repeat: the header Idempotency-Key."""
