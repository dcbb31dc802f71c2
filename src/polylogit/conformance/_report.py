"""`Report`: the results of a run, with methods that write reports.

Knows the renderers, and imports each only when it is used; the renderers know only `Results`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polylogit._io import write_whole
from polylogit.conformance._results import Results

if TYPE_CHECKING:
    from os import PathLike


class Report(Results):
    __doc__ = Results.__doc__
    __slots__ = ()

    def __repr__(self) -> str:
        """One line."""
        counts = ", ".join(f"{count} {name}" for name, count in sorted(self.counts.items()))
        return f"<Report {self.outcome}: {counts or 'nothing was run'}>"

    def _repr_html_(self) -> str:
        """The table, for notebooks."""
        from polylogit.conformance._reports import html

        return html.table(self)

    def summary(self) -> str:
        """A few lines of text: the verdict, the counts, and the failures by cause, with the smallest case of each."""
        from polylogit.conformance._verdict import summary

        return summary(self)

    __str__ = summary

    # A renderer is imported only if its format is used: HTML needs jinja2.

    def to_json(self, path: str | PathLike[str]) -> None:
        """Write the report as JSON; the schema is ``SCHEMA``."""
        from polylogit.conformance._reports import json_report

        write_whole(path, json_report.render(self))

    def to_junit(self, path: str | PathLike[str]) -> None:
        """Write the report as JUnit XML, for continuous-integration services."""
        from polylogit.conformance._reports import junit

        write_whole(path, junit.render(self))

    def to_html(self, path: str | PathLike[str]) -> None:
        """Write the report as one self-contained HTML file."""
        from polylogit.conformance._reports import html

        write_whole(path, html.render(self))

    def to_markdown(self) -> str:
        """The report as Markdown, for a job summary."""
        from polylogit.conformance._reports import markdown

        return markdown.render(self)
