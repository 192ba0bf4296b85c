"""The books: append-only transfers, from which every balance and status is derived."""
