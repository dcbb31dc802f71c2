"""The table of operations: the name of each, whether it takes an axis, and its value at masked entries.

Pure Python, so that the core, the kit, porting and the documentation read the same table; `polylogit._spec.operations`
adds the exact definition to each entry. Knows no framework and no arithmetic.
"""

from __future__ import annotations

from polylogit.errors import UnknownOperationError

TYPE_CHECKING = False  # as in polylogit._registry
if TYPE_CHECKING:
    from typing import Literal

    OperationName = Literal["softmax", "log_softmax", "sigmoid"]

__all__ = ["OPERATIONS", "Operation", "listed", "named"]


class Operation:
    """One operation.

    Attributes
    ----------
    name : str
        The name of the public function.
    takes_axis : bool
        Whether entries are normalised together along an axis, and may be masked; otherwise each is computed alone.
    masked : float
        The value of a masked entry, and the limit at a logit of -inf.
    domain : str
        The logits for which it is defined; others give NaN.
    """

    __slots__ = ("domain", "masked", "name", "takes_axis")

    def __init__(self, name: str, *, takes_axis: bool, masked: float, domain: str) -> None:
        self.name, self.takes_axis, self.masked, self.domain = name, takes_axis, masked, domain


_ROWS = "rows of real numbers and -inf with at least one real number"

OPERATIONS = {
    operation.name: operation
    for operation in (
        Operation("softmax", takes_axis=True, masked=0.0, domain=_ROWS),
        Operation("log_softmax", takes_axis=True, masked=float("-inf"), domain=_ROWS),
        Operation("sigmoid", takes_axis=False, masked=0.0, domain="real numbers, -inf and +inf"),
    )
}


def listed() -> str:
    """The names of all operations, as a phrase."""
    *others, last = OPERATIONS
    return f"{', '.join(others)} or {last}"


def named(name: str) -> Operation:
    """The operation of that name.

    Raises
    ------
    UnknownOperationError
        For a name that does not exist.
    """
    if name not in OPERATIONS:
        message = f"operation {name!r} does not exist; polylogit has {', '.join(OPERATIONS)}."
        raise UnknownOperationError(message)
    return OPERATIONS[name]
