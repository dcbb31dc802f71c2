"""Converts or refuses the arguments of a call that are not arrays of its backend: Python values, NumPy arrays, masks.

The rules are the same for all backends. Knows the registry, and no framework.
"""

from __future__ import annotations

import sys

from polylogit._registry import PYTHON_TYPES, SPECIFICATIONS, default_backend, get_backend, owner, owner_of, told
from polylogit.errors import AxisError, DTypeError, MixedBackendsError, UnknownBackendError, UnsupportedArrayError

_Module = type(sys)

TYPE_CHECKING = False  # as in polylogit._registry
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from polylogit._backends.base import Backend

__all__ = [
    "backend_named",
    "backend_of",
    "check_axis_name",
    "check_out",
    "direction_of",
    "mask_of",
    "moved",
    "python_array",
    "temperature_of",
]


def _leaf_types(value: Any) -> Iterator[type]:
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaf_types(item)
    else:
        yield type(value)


def _leaves(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """The items of a nested sequence, each with its place as Python writes it."""
    if isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{place}[{index}]")
    else:
        yield place, value


def python_array(
    backend: Backend, value: Any, operation: str = "softmax", argument: str = "x", *, beside: Any = None
) -> Any:
    """Convert a Python number or nested sequence to an array of the backend, on the device of `beside` if given.

    A number without `beside`, the logits themselves, becomes whatever the backend uses for scalars.

    Raises
    ------
    ConversionError
        For sequences of unequal lengths.
    MixedBackendsError
        For a sequence of another framework's arrays.
    UnsupportedArrayError
        For a sequence with elements that are neither arrays nor numbers.
    DTypeError
        For values that are not numbers.
    """
    if not set(_leaf_types(value)).issubset(PYTHON_TYPES):
        _check_leaves(value, operation, argument)
    if beside is None and not isinstance(value, (list, tuple, range)):
        return backend.number(value)
    return backend.asarray(value, device=None if beside is None else backend.device_of(beside))


def _check_leaves(value: Any, operation: str, argument: str) -> None:
    """Raise an error for items other than numbers and NumPy arrays, with their place; slower than a glance."""
    seen = set()
    for place, leaf in _leaves(value, argument):
        cls = type(leaf)
        if cls in PYTHON_TYPES or cls in seen:
            continue
        seen.add(cls)
        if cls is str or (hasattr(cls, "__float__") and not hasattr(cls, "__array__")):
            message = f"{place} is the {cls.__name__} {leaf!r}; pass numpy.array({argument}, dtype=float)."
            raise DTypeError(message)
        if leaf is None:
            numbers = f"numpy.array({argument}, dtype=float)"
            message = (
                f"{place} is None; pass {numbers}, in which it is NaN, and to have it take no part "
                f"where=~numpy.isnan({numbers}) besides."
            )
            raise DTypeError(message)
        try:
            found = owner_of(cls)
        except UnsupportedArrayError as error:
            raise _of_strangers(error, leaf, place, operation, argument) from None
        if found.name != "numpy":
            raise _of_arrays(found, value, operation, argument)


def _of_strangers(
    error: UnsupportedArrayError, leaf: Any, place: str, operation: str, argument: str
) -> UnsupportedArrayError:
    """The error for a sequence of objects that no backend supports: names an item, and how to convert all of them."""
    message = str(told(error, leaf, operation=operation, argument=place))
    each = str(told(error, leaf, operation=operation, argument="one")).partition("; pass ")[2].rstrip(".")
    if each and place.count("[") == 1:
        message += f" For all items: [{each} for one in {argument}]."
    return UnsupportedArrayError(message)


def _of_arrays(backend: Backend, value: Any, operation: str, argument: str) -> MixedBackendsError:
    """The error for a sequence of a framework's arrays: how to stack them."""
    held = [one for _, one in _leaves(value, argument)]
    shapes = {str(getattr(one, "shape", None)) for one in value}
    dtypes = [str(getattr(one, "dtype", "")) for one in value]
    if any(isinstance(one, (list, tuple)) for one in value):
        remedy = f"Stack them with {backend.name} first, and pass {backend.spell('stack rows', x=argument)}."
    elif len(value) == 2 and len(shapes) == 1 and "float" in dtypes[0] and "int" in dtypes[1]:
        remedy = f"They look like values and their indices, as of a top k; pass {argument}[0]."
    elif all(type(one) in PYTHON_TYPES or not getattr(one, "shape", ()) for one in held):
        remedy = f"Stack them with {backend.name} first, and pass {backend.spell('stack numbers', x=argument)}."
    elif len(shapes) > 1:
        remedy = f"They have several shapes; call once for each: [polylogit.{operation}(one) for one in {argument}]."
    else:
        remedy = f"Stack them with {backend.name} first, and pass {backend.spell('stack', x=argument)}."
    message = (
        f"a {type(value).__name__} that holds arrays of {backend.name} was given; gathering them silently would cut "
        f"gradients and move data. {remedy}"
    )
    return MixedBackendsError(message)


def _served(x: Any, operation: str, argument: str) -> Backend:
    """The backend that owns an array, or an error with a remedy."""
    try:
        return owner(type(x))
    except UnsupportedArrayError as error:
        raise told(error, x, operation=operation, argument=argument) from None


def backend_of(x: Any, operation: str = "softmax") -> Backend:
    """The backend for logits; unlike `get_backend`, it accepts no name, so a string is no array."""
    return default_backend() if type(x) in PYTHON_TYPES else _served(x, operation, "x")


def backend_named(backend: Any) -> Backend:
    """The backend that ``backend=`` names, as a name, a framework's module, or a `Backend`."""
    if isinstance(backend, (str, _Module)):
        return get_backend(backend)
    if hasattr(backend, "owns"):
        return backend  # type: ignore[no-any-return]
    message = f"backend={backend!r} is no backend; pass a name, one of {', '.join(SPECIFICATIONS)}."
    raise UnknownBackendError(message)


def moved(backend: Backend, value: Any, argument: str, operation: str = "softmax") -> Any:
    """`value` as an array of `backend`: Python values and NumPy arrays are converted, other arrays raise an error."""
    if type(value) in PYTHON_TYPES:
        return python_array(backend, value, operation, argument)
    source = _served(value, operation, argument)
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
    """The mask as an array of `backend`, for logits `x`; a NumPy mask is converted if NumPy logits would be."""
    return _beside(backend, where, x, "where", "where=", "the mask", convert_numpy)


def direction_of(backend: Backend, given: Any, x: Any, argument: str, *, convert_numpy: bool) -> Any:
    """The tangent or cotangent as an array of `backend`, like `mask_of`."""
    return _beside(backend, given, x, argument, f"the {argument}", "it", convert_numpy)


def _beside(backend: Backend, given: Any, x: Any, argument: str, called: str, it: str, convert_numpy: bool) -> Any:
    """An array that goes with logits `x`, as an array of their backend."""
    if type(given) in PYTHON_TYPES:
        if backend.takes_numpy_masks:  # labels of its own would be compared
            return python_array(get_backend("numpy"), given, argument=argument)
        return python_array(backend, given, argument=argument, beside=x)
    source = _served(given, "softmax", argument)
    if source.name == backend.name or (source.name == "numpy" and backend.takes_numpy_masks):
        return given
    if convert_numpy and source.name == "numpy":
        return backend.asarray(given, device=backend.device_of(x))
    message = (
        f"x is an array of {backend.name} and {called} one of {source.name}; one call takes one framework's. "
        f'Convert {it} first: polylogit.convert({argument}, "{backend.name}").'
    )
    raise MixedBackendsError(message)


def temperature_of(backend: Backend, temperature: Any, x: Any, *, convert_numpy: bool) -> Any:
    """The temperature as a float or an array of the backend; a value on the host is checked.

    The values of a framework's own arrays are not inspected: they may lie on a device, or be known only when a compiled
    program runs.
    """
    from polylogit._backends.base import seen_temperature  # importing polylogit does not need it

    if not backend.takes_temperature:
        message = (
            f"temperature= was given with an array of {backend.name}, whose backend does not take it; divide the "
            "logits, for example polylogit.softmax(x / temperature)."
        )
        raise UnsupportedArrayError(message)
    cls = type(temperature)
    source = None if cls in PYTHON_TYPES else _served(temperature, "softmax", "temperature")
    if source is not None and source.name != "numpy":
        if source.name == backend.name:
            return temperature
    else:
        seen = seen_temperature(temperature)
        if isinstance(seen, float) or backend.takes_numpy_masks or backend.name == "numpy":
            return seen
        if source is None or convert_numpy:
            return backend.asarray(seen, device=backend.device_of(x))
    message = (
        f"x is an array of {backend.name} and temperature= one of {'numpy' if source is None else source.name}; one "
        f'call takes one framework\'s. Convert it first: polylogit.convert(temperature, "{backend.name}").'
    )
    raise MixedBackendsError(message)


def check_out(backend: Backend, out: Any) -> None:
    """Raise an error for ``out=`` if the framework's arrays cannot be written, or if it is another framework's."""
    if not backend.takes_out:
        message = (
            f"out= was given with an array of {backend.name}, whose results are arrays of their own; leave it out and "
            "use what is returned."
        )
        raise UnsupportedArrayError(message)
    cls = type(out)
    source = "Python" if cls in PYTHON_TYPES else _served(out, "softmax", "out").name
    if source != backend.name:
        message = (
            f"x is an array of {backend.name} and out= is one of {source}; pass an array of {backend.name}, for "
            "example numpy.empty_like(x)."
        )
        raise MixedBackendsError(message)


def check_axis_name(backend: Backend, axis_name: Any) -> None:
    """Raise an error for ``axis_name=`` if the framework has no named axes."""
    if not backend.names_axes:
        message = (
            f"axis_name={axis_name!r} was given with an array of {backend.name}, which has no mapped axes with names. "
            f"Leave axis_name out; for rows that are split over devices: {backend.spell('split rows')}."
        )
        raise AxisError(message)
