"""The names that recorders give to activations: softmax calls, outputs, inputs, entries of a tuple."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ROOT", "is_aside", "is_output", "is_tap_or_output", "operation_of", "softmax_call", "split"]

# How the model as a whole is called among its modules.
ROOT = "(the model itself)"
# A softmax call as the recorders name it.
_TAP = re.compile(
    r"(?:(?P<part>.+):)?(?P<call>(?P<operation>softmax|log_softmax|sigmoid):\d+\.(?P<what>scores|weights))"
)
# What follows a part's path: its inputs, what it computes before its activation, its second call, an entry of a tuple.
_SUFFIX = re.compile(r"(:input|:linear|#\d|\[)")
# What a part returns is matched by itself; these are there for whoever asks for them.
_ASIDE = (":input", ":linear")


def is_aside(name: str) -> bool:
    """Whether this activation is compared only on request."""
    return any(word in name for word in _ASIDE)


def split(name: str) -> tuple[str, str]:
    """The path of a module, and the rest of the name."""
    place = _SUFFIX.search(name)
    return (name[: place.start()], name[place.start() :]) if place else (name, "")


def softmax_call(name: str) -> Mapping[str, str]:
    """The parts of a softmax call's name; None for other names."""
    match = _TAP.fullmatch(name)
    return match.groupdict() if match else {}


def operation_of(name: str) -> str:
    """The operation whose call has this name; empty for other names."""
    return softmax_call(name).get("operation", "")


def is_output(name: str) -> bool:
    """Whether this is an output of the model."""
    return re.match(r"output($|[.\[#])", name) is not None


def is_tap_or_output(name: str) -> bool:
    """Whether this belongs to no module."""
    return bool(operation_of(name)) or is_output(name)
