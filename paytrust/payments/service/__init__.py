"""Payments: the verbs."""

from paytrust.payments.service.collection import Collection
from paytrust.payments.service.payments import Payments, asked_for, made_between, received

__all__ = ["Collection", "Payments", "asked_for", "made_between", "received"]
