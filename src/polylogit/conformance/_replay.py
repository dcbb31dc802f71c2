"""One failing call with all its numbers, as Python code to paste or as a file of arrays.

Knows the numbers of a comparison; neither how cases are chosen nor how results are printed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from polylogit.conformance._snippet import paste

if TYPE_CHECKING:
    from os import PathLike

    from polylogit._spec.dtypes import Array, Finfo
    from polylogit.conformance._compare import Seen
    from polylogit.conformance._request import Subject

__all__ = ["Replayed"]


@dataclass(frozen=True, slots=True, eq=False)
class Replayed:
    """A failing call: the implementation, the numbers of the comparison, and the dtype of the logits."""

    implementation: Subject
    seen: Seen
    dtype: Finfo

    def python(self, saved: str = "") -> str:
        """The call as Python to paste, with large arrays loaded from the file `saved`."""
        return paste(self.implementation, self.seen, self.dtype, saved)

    def save(self, path: str | PathLike[str]) -> None:
        """Write ``x``, ``expected``, ``got`` and ``wrong``, the cotangent ``g`` and the mask ``where`` as an ``.npz``.

        All have the shape of the logits. Numbers of 16 or 8 bits are written as float32, which holds them all.
        """
        call, seen = self.seen.call, self.seen
        arrays = {name: self._shaped(rows) for name, rows in (("expected", seen.expected), ("got", seen.got))}
        arrays["wrong"] = self._shaped(seen.over)
        given = self.dtype.dtype if self.dtype.precision >= 24 else np.dtype(np.float32)
        arrays["x"] = np.asarray(call["x"]).astype(given)
        arrays.update({name: np.asarray(one).astype(given) for name, one in zip("gh", call["g"], strict=False)})
        if call["where"] is not None:
            arrays["where"] = np.asarray(call["where"])
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    def _shaped(self, rows: Any) -> Array:
        """Rows as an array in the shape of the logits."""
        flat = np.asarray(rows).ravel()
        shaped = np.empty(flat.size, dtype=flat.dtype)
        shaped[self.seen.call["places"].ravel()] = flat
        return shaped.reshape(np.shape(self.seen.call["x"]))
