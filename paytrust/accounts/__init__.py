"""Gateway accounts: a gateway, its credentials, currencies and fees."""
