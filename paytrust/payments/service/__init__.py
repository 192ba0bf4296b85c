"""Payments: the verbs."""

from paytrust.payments.service.collection import Collection
from paytrust.payments.service.payments import Payments

__all__ = ["Collection", "Payments"]
