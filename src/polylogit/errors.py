"""The exceptions of polylogit: one hierarchy, in which each is also the built-in exception that a caller would catch.

Every message names the value, the rule that it breaks and a remedy. This module knows no framework and imports nothing.
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

    # Without this, TensorFlow's AutoGraph replaces an exception that it does not know by one of its own.
    ag_pass_through = True


class ArgumentError(PolylogitError, TypeError):
    """A call passes an argument that the function does not have, or no array."""


class UnsupportedArrayError(PolylogitError, TypeError):
    """No backend can compute with the object without losing its meaning."""


class DTypeError(PolylogitError, TypeError):
    """The dtype of the logits, of a mask, or of ``dtype=`` does not suit the operation."""


class AxisError(PolylogitError, ValueError, IndexError):
    """An axis is out of range for the array, or given twice."""


class AxisTypeError(PolylogitError, TypeError):
    """An axis is not an integer, a tuple of integers, or None."""


class MaskError(PolylogitError, ValueError):
    """The shape of ``where`` does not broadcast to the shape of the logits."""


class TemperatureError(PolylogitError, ValueError):
    """A temperature is not a positive finite number, or its shape does not broadcast to the shape of the logits."""


class OutputError(PolylogitError, ValueError):
    """The ``out`` array cannot hold the result: its shape is wrong, it is read-only, or its elements share memory."""


class MixedBackendsError(PolylogitError, TypeError):
    """A call mixes arrays of different frameworks."""


class SettingError(PolylogitError, ValueError):
    """A setting of the whole process, the number of threads or the engine of NumPy, was given a value that it lacks."""


class BackendUnavailableError(PolylogitError, ImportError):
    """The framework is not installed, or its import failed."""


class UnknownBackendError(PolylogitError, ValueError):
    """No backend of that name is registered."""


class UnknownOperationError(PolylogitError, ValueError):
    """No operation of that name exists, or the backend does not support it."""


class DifferentiationError(PolylogitError, TypeError):
    """The backend cannot differentiate the function, or the cotangent or tangent has a wrong shape."""


class ConversionError(PolylogitError, TypeError, ValueError):
    """The array cannot be converted to the other framework in the requested way."""


class ConformanceError(PolylogitError, ValueError):
    """The conformance kit cannot run the request, or a verified implementation fails."""


class ComparisonError(PolylogitError, ValueError):
    """Two outputs cannot be compared, because of their shapes, names, files or callables."""


class RecordingWarning(UserWarning):
    """A recording of a model observed only its output."""
