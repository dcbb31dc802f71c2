"""The formats of a comparison report: JSON, an HTML page, part of a notebook. Knows nothing of their content."""

from __future__ import annotations

import abc
import json
from typing import TYPE_CHECKING, Any

from polylogit._io import plain_json, write_whole

if TYPE_CHECKING:
    import os

__all__ = ["Written"]


class Written(abc.ABC):
    """A result with methods that write reports."""

    @abc.abstractmethod
    def _as_dict(self) -> dict[str, Any]: ...

    @abc.abstractmethod
    def _page(self, *, part: bool = False) -> str: ...

    def _repr_html_(self) -> str:
        """The verdict and the figures, for notebooks."""
        return self._page(part=True)

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write the results, without the arrays, as JSON; the file is written completely or not at all."""
        write_whole(path, json.dumps(plain_json(self._as_dict()), indent=2, allow_nan=False) + "\n")

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write one self-contained HTML page; the file is written completely or not at all."""
        write_whole(path, self._page())
