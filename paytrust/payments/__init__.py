"""Payments: attempts to collect at a gateway, and the money that came."""
