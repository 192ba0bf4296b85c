"""Payments: the verbs."""

from paytrust.payments.service.checking import Checking
from paytrust.payments.service.collection import Collection
from paytrust.payments.service.invoicing import Invoicing
from paytrust.payments.service.payments import Payments
from paytrust.payments.service.reading import asked_for

__all__ = ["Checking", "Collection", "Invoicing", "Payments", "asked_for"]
