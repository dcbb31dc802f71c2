"""The forms a report is written in, one module each; all read the same plain data. None knows a framework."""

from __future__ import annotations

__all__ = ["replay_command"]


def replay_command(identifier: str) -> str:
    """What to type to run one case again."""
    return f"polylogit replay '{identifier}'"
