"""One softmax, log_softmax and sigmoid for NumPy, PyTorch, TensorFlow and JAX, and a kit that proves they agree.

``softmax``, ``log_softmax`` and ``sigmoid`` take any array and return one of the same framework. ``vjp`` and ``jvp``
differentiate them, ``convert`` moves arrays between frameworks, and ``backends()`` lists the available backends.
`polylogit.conformance` tests kernels, `polylogit.porting` compares ports, and `polylogit.extend` is for authors of
backends.

>>> import polylogit
>>> polylogit.softmax([[1.0, 2.0], [3.0, 3.0]]).round(3)
array([[0.269, 0.731],
       [0.5  , 0.5  ]])
"""

from __future__ import annotations

# This imports no framework, not even NumPy: a heavy module is imported when one of its names is first used. Private
# modules have names that begin with an underscore.
from polylogit.__about__ import __version__
from polylogit._functions import log_softmax, sigmoid, softmax
from polylogit._registry import get_backend, register_backend, use_backend

TYPE_CHECKING = False  # as in polylogit._registry
if TYPE_CHECKING:
    from typing import Any

    from polylogit import conformance, errors, extend, porting
    from polylogit._backends.numpy.threads import set_num_threads
    from polylogit._convert import convert
    from polylogit._derivatives import gradient, jvp, vjp
    from polylogit._info import BackendInfo, backends
    from polylogit._overrides import ImplementationHandle, register_implementation
    from polylogit.errors import PolylogitError

__all__ = [
    "BackendInfo",
    "ImplementationHandle",
    "PolylogitError",
    "__version__",
    "backends",
    "conformance",
    "convert",
    "errors",
    "extend",
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

# name -> the module that defines it; the public modules stand for themselves.
_LAZY = {
    "BackendInfo": "polylogit._info",
    "ImplementationHandle": "polylogit._overrides",
    "PolylogitError": "polylogit.errors",
    "backends": "polylogit._info",
    "conformance": "polylogit.conformance",
    "convert": "polylogit._convert",
    "errors": "polylogit.errors",
    "extend": "polylogit.extend",
    "gradient": "polylogit._derivatives",
    "jvp": "polylogit._derivatives",
    "porting": "polylogit.porting",
    "register_implementation": "polylogit._overrides",
    "set_num_threads": "polylogit._backends.numpy.threads",
    "vjp": "polylogit._derivatives",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        message = f"module 'polylogit' has no attribute {name!r}"
        raise AttributeError(message)
    import importlib  # only when a lazy name is first used

    module = importlib.import_module(_LAZY[name])
    value = module if _LAZY[name] == f"polylogit.{name}" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
