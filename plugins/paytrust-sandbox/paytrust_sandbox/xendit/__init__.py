"""A local Xendit."""
