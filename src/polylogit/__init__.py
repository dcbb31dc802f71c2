"""One softmax, log_softmax and sigmoid for NumPy, PyTorch, TensorFlow and JAX, and the proof that they agree.

The public face: names only. Importing it imports no framework, NumPy included; what is heavy is imported when its name
is first used.
"""

from __future__ import annotations

from polylogit.__about__ import __version__
from polylogit.functions import log_softmax, sigmoid, softmax
from polylogit.registry import get_backend, register_backend, use_backend

TYPE_CHECKING = False  # as in polylogit.registry
if TYPE_CHECKING:
    from typing import Any

    from polylogit import backends, conformance, errors, porting
    from polylogit._convert import convert
    from polylogit.backends.numpy.threads import set_num_threads
    from polylogit.derivatives import gradient, jvp, vjp
    from polylogit.errors import PolylogitError
    from polylogit.info import BackendInfo
    from polylogit.overrides import ImplementationHandle, register_implementation

__all__ = [
    "BackendInfo",
    "ImplementationHandle",
    "PolylogitError",
    "__version__",
    "backends",
    "conformance",
    "convert",
    "errors",
    "get_backend",
    "gradient",
    "jvp",
    "log_softmax",
    "porting",
    "register_backend",
    "register_implementation",
    "set_num_threads",
    "sigmoid",
    "softmax",
    "use_backend",
    "vjp",
]

# name -> the module it comes from; a name that is its module is the module itself.
_LAZY = {
    "BackendInfo": "polylogit.info",
    "ImplementationHandle": "polylogit.overrides",
    "PolylogitError": "polylogit.errors",
    "backends": "polylogit.backends",
    "conformance": "polylogit.conformance",
    "convert": "polylogit._convert",
    "errors": "polylogit.errors",
    "gradient": "polylogit.derivatives",
    "jvp": "polylogit.derivatives",
    "porting": "polylogit.porting",
    "register_implementation": "polylogit.overrides",
    "set_num_threads": "polylogit.backends.numpy.threads",
    "vjp": "polylogit.derivatives",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        message = f"module 'polylogit' has no attribute {name!r}"
        raise AttributeError(message)
    import importlib  # noqa: PLC0415  only when a lazy name is first used

    module = importlib.import_module(_LAZY[name])
    value = module if _LAZY[name] == f"polylogit.{name}" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
