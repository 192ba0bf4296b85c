"""Which fault befalls which operation, and for how long."""

from paytrust_sandbox.effects import EFFECTS
from paytrust_sandbox.records import Fault

REQUEST_FAULTS = frozenset(EFFECTS)
WEBHOOK_FAULTS = frozenset(
    {
        *("duplicate", "reorder", "delay", "lost", "truncated", "reset"),
        *("wrong_signature", "missing_signature", "wrong_amount", "wrong_currency", "odd_fields"),
    }
)
UNTOUCHED = frozenset({"control", "page", "elsewhere", "unknown", "webhook"})

# Midtrans Core creates by charging; to a test, a create is a create.
KINDS = {"charge": "create"}


class Faults:
    """The faults that are on, oldest first. Each is used up after its `times`."""

    def __init__(self) -> None:
        self.active: list[Fault] = []

    def switch_on(self, fault: Fault) -> None:
        """
        Raises ValueError for a name that does not exist for that operation, and for fields where none or some
        are needed.
        """
        known = WEBHOOK_FAULTS if fault.on == "webhook" else REQUEST_FAULTS
        if fault.name not in known:
            raise ValueError(f"no fault {fault.name!r} on {fault.on!r}; there are {', '.join(sorted(known))}")
        if (fault.name == "odd_fields") != bool(fault.fields or fault.without):
            raise ValueError("fields and without belong to odd_fields, which needs one of them")
        self.active.append(fault)

    def switch_off(self, name: str | None = None) -> None:
        self.active = [fault for fault in self.active if name not in {None, fault.name}]

    def take(self, operation: str) -> Fault | None:
        """Return the fault that befalls this *operation* now, counting its use."""
        for fault in self.active:
            if fault.on in {operation, KINDS.get(operation)} or (
                fault.on == "any" and operation not in UNTOUCHED
            ):
                self._use(fault)
                return fault
        return None

    def _use(self, fault: Fault) -> None:
        if fault.times is None:
            return
        fault.times -= 1
        if fault.times <= 0:
            self.active.remove(fault)
