"""The exceptions of polylogit: one hierarchy, each also the built-in that a caller would catch.

Every message names the value that was given, the rule that it breaks and what to do about it. This module knows no
framework and imports nothing.
"""

__all__ = [
    "ArgumentError",
    "AxisError",
    "AxisTypeError",
    "BackendUnavailableError",
    "ComparisonError",
    "ConformanceError",
    "ConversionError",
    "DTypeError",
    "DifferentiationError",
    "MaskError",
    "MixedBackendsError",
    "OutputError",
    "PolylogitError",
    "RecordingWarning",
    "SettingError",
    "TemperatureError",
    "UnknownBackendError",
    "UnknownOperationError",
    "UnsupportedArrayError",
]


class PolylogitError(Exception):
    """Base of every exception that polylogit raises on purpose."""

    # TensorFlow's AutoGraph replaces an exception that it does not know by one of its own, unless this is set.
    ag_pass_through = True


class ArgumentError(PolylogitError, TypeError):
    """A call names an argument that the function does not have, or lacks its array."""


class UnsupportedArrayError(PolylogitError, TypeError):
    """The object is not an array that a backend can serve without losing its meaning."""


class DTypeError(PolylogitError, TypeError):
    """The dtype (of the logits, of a mask, or asked for by ``dtype=``) cannot hold what the operation needs."""


class AxisError(PolylogitError, ValueError, IndexError):
    """An axis is out of range for the array, or named twice."""


class AxisTypeError(PolylogitError, TypeError):
    """An axis is neither an integer, nor a tuple of integers, nor None."""


class MaskError(PolylogitError, ValueError):
    """The shape of ``where`` does not broadcast to the shape of the logits."""


class TemperatureError(PolylogitError, ValueError):
    """A temperature is not a positive finite number, or its shape does not broadcast to the shape of the logits."""


class OutputError(PolylogitError, ValueError):
    """What was given as ``out`` cannot take the result: another shape, read-only, or elements that share memory."""


class MixedBackendsError(PolylogitError, TypeError):
    """Arrays of different frameworks were given to one call."""


class SettingError(PolylogitError, ValueError):
    """A setting of the whole process, the number of threads or the engine of NumPy, was given a value that it lacks."""


class BackendUnavailableError(PolylogitError, ImportError):
    """The framework is not installed, or its import failed."""


class UnknownBackendError(PolylogitError, ValueError):
    """No backend of that name is registered."""


class UnknownOperationError(PolylogitError, ValueError):
    """No operation of that name exists, or the backend does not serve it."""


class DifferentiationError(PolylogitError, TypeError):
    """The backend cannot differentiate what it was given."""


class ConversionError(PolylogitError, TypeError, ValueError):
    """The array cannot be moved to the other framework as asked."""


class ConformanceError(PolylogitError, ValueError):
    """The conformance kit was asked for something it cannot run."""


class ComparisonError(PolylogitError, ValueError):
    """Two outputs cannot be compared: shapes, names, files or callables that do not fit."""


class RecordingWarning(UserWarning):
    """A model was recorded and nothing but its output was seen."""
