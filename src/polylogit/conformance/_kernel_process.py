"""A user's kernel in a separate process: ``python -m polylogit.conformance._kernel_process``.

It answers the judge's requests on standard input and output until that closes. It knows neither the expected values nor
the name, the check or the seed of a case. Whatever the kernel does to this interpreter, the judge reads only bytes.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from polylogit._spec.dtypes import Array
    from polylogit.conformance._implementation import Implementation


def main() -> None:
    """Answer requests until there are no more."""
    # The conversation goes on over copies that nobody else knows; prints of the kernel go to standard error.
    asked, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull) as nothing:  # noqa: PTH123  a descriptor is what is needed
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    _end_with_the_judge()

    from polylogit.conformance._wire import error_as_plain, receive, send
    from polylogit.errors import PolylogitError

    answer = _Answers().answer
    while (frame := receive(asked)) is not None:
        header, arrays = frame
        try:
            reply, blobs = answer(header["ask"], header, arrays)
        except BaseException as error:  # noqa: BLE001  nothing but the judge ends this process in a regular way
            reply, blobs = {"raised": error_as_plain(error), "wrong use": isinstance(error, PolylogitError)}, []
        send(answers, {"number": header["number"], **reply}, blobs)
    os._exit(0)


class _Answers:
    """The requests, by their names in the header."""

    def __init__(self) -> None:
        from polylogit.conformance import _wire

        self._wire = _wire
        self._backend: Any = None
        self._implementation: Any = None

    def answer(self, asked: str, header: dict[str, Any], arrays: list[Array]) -> tuple[dict[str, Any], list[Array]]:
        """The header and the arrays of the reply."""
        ways: dict[str, Callable[..., Any]] = {
            "backend": self._of_backend,
            "kernel": self._of_kernel,
            "one": self._one,
            "in turn": self._in_turn,
            "at once": self._at_once,
            "changed": self._changed,
        }
        found: tuple[dict[str, Any], list[Array]] = ways[asked](header, arrays)
        return found

    def _of_backend(self, header: dict[str, Any], _: list[Array]) -> tuple[dict[str, Any], list[Array]]:
        """The facts about the backend, read before any code of the kernel is loaded."""
        import polylogit
        from polylogit._spec.dtypes import DTYPES
        from polylogit.conformance._implementation import Implementation

        self._backend = backend = polylogit.get_backend(header["backend"])
        bare = Implementation(backend, header["operation"], device=header["device"])
        return {
            "name": backend.name,
            "version": backend.version,
            "differentiates": backend.differentiates,
            "always_compiles": backend.always_compiles,
            "slow_compilers": list(backend.slow_compilers),
            "compilers": list(backend.compilers()),
            "devices": list(backend.devices()),
            "capabilities": backend.capabilities(),
            "spelling": backend.spelling,
            "on_numpy": bare.on_numpy,
            "layouts": list(bare.layouts),
            "lacking": {name: said for name, dtype in DTYPES.items() if (said := bare.lacks(dtype))},
        }, []

    def _of_kernel(self, header: dict[str, Any], _: list[Array]) -> tuple[dict[str, Any], list[Array]]:
        """The arguments that the kernel's signature has."""
        from polylogit._spec.dtypes import DTYPES
        from polylogit.conformance._implementation import implementation_of

        what = (header[name] for name in ("operation", "function", "vjp", "name", "device"))
        found: Implementation = implementation_of(self._backend.name, *what)
        found.widens = False
        self._implementation = found
        signature = ("offers_axis", "offers_where", "offers_dtype", "default_axis", "default_vjp_axis")
        offered = (*signature, "offers_vjp_where", "axis_name", "conventions")
        return {
            **{name: getattr(found, name) for name in offered},
            "declined": {name: said for name, dtype in DTYPES.items() if (said := found.declines(dtype))},
        }, []

    def _said(self, answers: list[Any]) -> tuple[list[Any], list[Array]]:
        blobs: list[Array] = []
        return [self._wire.answer_as_plain(one, blobs) for one in answers], blobs

    def _one(self, header: dict[str, Any], arrays: list[Array]) -> tuple[dict[str, Any], list[Array]]:
        answer = self._implementation.ask(self._wire.request_of(header["requests"][0], arrays))
        said, blobs = self._said([answer])
        return {"answers": said}, blobs

    def _in_turn(self, header: dict[str, Any], arrays: list[Array]) -> tuple[dict[str, Any], list[Array]]:
        requests = [self._wire.request_of(one, arrays) for one in header["requests"]]
        answers, changed = self._implementation.ask_in_turn(requests)
        said, blobs = self._said(answers)
        return {"answers": said, "changed": changed}, blobs

    def _at_once(self, header: dict[str, Any], arrays: list[Array]) -> tuple[dict[str, Any], list[Array]]:
        requests = [self._wire.request_of(one, arrays) for one in header["requests"]]
        answers = self._implementation.ask_at_once(requests, header["calls"])
        said, blobs = self._said([one for known in answers for one in known])
        return {"answers": said, "of": [len(known) for known in answers]}, blobs

    def _changed(self, header: dict[str, Any], arrays: list[Array]) -> tuple[dict[str, Any], list[Array]]:
        first, second = (self._wire.request_of(one, arrays) for one in header["requests"])
        said, blobs = self._said([self._implementation.ask_changed(first, second)])
        return {"answers": said}, blobs


def _end_with_the_judge() -> None:
    """Make this process end with the judge, so that a hanging kernel does not outlive it; if the system can."""
    if sys.platform == "linux":
        import ctypes
        import signal

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))


if __name__ == "__main__":
    main()
