"""Merchants: everything that belongs to one carries its id."""
