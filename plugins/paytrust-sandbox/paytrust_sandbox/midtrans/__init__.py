"""A local Midtrans."""
