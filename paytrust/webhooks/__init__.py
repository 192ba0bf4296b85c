"""Webhooks: what gateways tell us."""
