"""What a call was given besides arrays of its backend: Python numbers and sequences, NumPy arrays, masks.

They are converted or refused by one rule, whatever the backend. Knows the registry, and no framework.
"""

from __future__ import annotations

from polylogit._registry import PYTHON_TYPES, SPECIFICATIONS, default_backend, get_backend, owner, owner_of
from polylogit.errors import AxisError, MixedBackendsError, UnknownBackendError

TYPE_CHECKING = False  # as in polylogit._registry
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from polylogit._backends.base import Backend

__all__ = ["backend_named", "backend_of", "check_axis_name", "mask_of", "moved", "python_array"]


def _leaf_types(value: Any) -> Iterator[type]:
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaf_types(item)
    else:
        yield type(value)


def python_array(backend: Backend, value: Any, *, beside: Any = None) -> Any:
    """A Python number or nested sequence as an array of the backend, on the device of `beside` where that is given.

    A number that is beside nothing, the logits themselves, is what the backend holds one as.

    Raises
    ------
    ConversionError
        For sequences of unequal lengths.
    MixedBackendsError
        For a sequence of another framework's arrays.
    DTypeError
        For values that are not numbers.
    """
    for cls in dict.fromkeys(_leaf_types(value)):
        if cls not in PYTHON_TYPES and cls is not str and (found := owner_of(cls)).name != "numpy":
            message = (
                f"a {type(value).__name__} that holds arrays of {found.name} was given; gathering them would cut "
                f"gradients and move data. Stack them with {found.name} first, then pass the one array."
            )
            raise MixedBackendsError(message)
    if beside is None and not isinstance(value, (list, tuple, range)):
        return backend.number(value)
    return backend.asarray(value, device=None if beside is None else backend.device_of(beside))


def backend_of(x: Any) -> Backend:
    """The backend that serves logits; unlike `get_backend` it takes no name, so that a string is no array."""
    return default_backend() if type(x) in PYTHON_TYPES else owner(type(x))


def backend_named(backend: Any) -> Backend:
    """What ``backend=`` names: a name, or a `Backend`."""
    if isinstance(backend, str):
        return get_backend(backend)
    if hasattr(backend, "owns"):
        return backend  # type: ignore[no-any-return]
    message = f"backend={backend!r} is no backend; pass a name, one of {', '.join(SPECIFICATIONS)}."
    raise UnknownBackendError(message)


def moved(backend: Backend, value: Any, argument: str) -> Any:
    """`value` as an array of `backend`: Python values and NumPy arrays are converted, other frameworks' are refused."""
    if type(value) in PYTHON_TYPES:
        return python_array(backend, value)
    source = owner(type(value))
    if source.name == backend.name:
        return value
    if source.name == "numpy":
        return backend.asarray(value)
    message = (
        f"{argument} is an array of {source.name} and the call runs on {backend.name}; moving it silently would cut "
        f'gradients. Convert it where you mean to: polylogit.convert({argument}, "{backend.name}").'
    )
    raise MixedBackendsError(message)


def mask_of(backend: Backend, where: Any, x: Any, *, convert_numpy: bool) -> Any:
    """A mask as an array of `backend`, for logits `x`; one of NumPy is converted where the logits might have been."""
    if type(where) in PYTHON_TYPES:
        return python_array(backend, where, beside=x)
    source = owner(type(where))
    if source.name == backend.name or (source.name == "numpy" and backend.takes_numpy_masks):
        return where
    if convert_numpy and source.name == "numpy":
        return backend.asarray(where, device=backend.device_of(x))
    message = (
        f"x is an array of {backend.name} and where= one of {source.name}; one call takes one framework's. "
        f'Convert the mask first: polylogit.convert(where, "{backend.name}").'
    )
    raise MixedBackendsError(message)


def check_axis_name(backend: Backend, axis_name: Any) -> None:
    """Refuse ``axis_name=`` where the framework has no axes with names."""
    if not backend.names_axes:
        message = (
            f"axis_name={axis_name!r} was given with an array of {backend.name}, which has no mapped axes with names. "
            f"Leave axis_name out; for rows that are split over devices: {backend.spell('split rows')}."
        )
        raise AxisError(message)
