"""Run the kit on other projects' implementations: ``python tools/wild.py`` tests all that are installed.

Each implementation runs in a separate process, which is ended if it takes too long. Then each finding of
`wild_findings` is run as the few lines that the page shows, and the result is compared with the exact value. The
results are stored in ``docs/_static/wild.json``, from which `wild_page` writes the page. ``pip install ".[wild]"``
installs most of the packages; missing ones are reported and left out.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

TOOLS = Path(__file__).resolve().parent
STORED = TOOLS.parent / "docs" / "_static" / "wild.json"
SECONDS = 900.0
_SHOWN = 40  # causes that are kept of one implementation

sys.path.insert(0, str(TOOLS))
from wild_adapters import ADAPTERS, Adapter  # noqa: E402
from wild_findings import FINDINGS, judged  # noqa: E402


def version(package: str) -> str:
    """Of what is installed; empty where it is not."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def checked(adapter: Adapter, level: str = "quick") -> dict[str, Any]:
    """What the kit says of one implementation, in this process."""
    from polylogit import conformance

    report = conformance.check(
        adapter.make(), adapter.operation, backend=adapter.backend, level=level, name="it",
        skip=None if adapter.threads else ["threads"], max_size=adapter.largest, conventions=adapter.conventions,
    )  # fmt: skip
    causes: dict[tuple[str, str, str], dict[str, Any]] = {}
    for result in report.results:
        if result.verdict in ("failed", "convention", "inaccurate", "inconclusive"):
            key = (result.verdict, result.check, result.dtype)
            cause = causes.setdefault(key, {"count": 0, "case": result.case, "message": result.message, "error": 0.0})
            cause["count"] += 1
            cause["convention"] = result.convention
            if result.error is not None and result.error < 1e300:
                cause["error"] = max(cause["error"], result.error)
    kept = [dict(zip(("verdict", "check", "dtype"), key, strict=True), **cause) for key, cause in causes.items()]
    return {
        "verdicts": dict(Counter(result.verdict for result in report.results)),
        "conventions": sorted({result.convention for result in report.results if result.convention}),
        "once": report.rounded_once,
        "causes": kept[:_SHOWN],
    }


def run(adapter: Adapter, seconds: float = SECONDS, level: str = "quick") -> dict[str, Any]:
    """The same in a process of its own."""
    about = {"operation": adapter.operation, "backend": adapter.backend, "declared": adapter.conventions}
    about["versions"] = {package: version(package) for package in adapter.packages}
    missing = [package for package, found in about["versions"].items() if not found]
    if missing:
        return {**about, "missing": missing}
    start = time.monotonic()
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "found.json")
        command = [sys.executable, str(Path(__file__)), "--one", adapter.name, "--level", level, "--json", str(out)]
        try:
            done = subprocess.run(
                command, env={**os.environ, **quiet, **adapter.environment}, capture_output=True, text=True,
                timeout=seconds, check=False,
            )  # fmt: skip
            ended = "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["?"])[-1][:300]
            if done.returncode < 0:
                ended = f"ended by signal {-done.returncode}"
        except subprocess.TimeoutExpired:
            ended = f"no end within {seconds:g} s"
        found = json.loads(out.read_text()) if not ended else {"ended": ended}
    return {**about, **found, "seconds": round(time.monotonic() - start)}


def shown(finding: Any) -> dict[str, Any]:
    """What the lines of a finding print, and how far that is from what is exact."""
    missing = [package for package in finding.packages if not version(package)]
    if missing:
        return {"missing": missing}
    ending = (
        "\nimport json as _j, numpy as _n\nprint('#' + _j.dumps(_n.asarray(y).astype(float).ravel().tolist()[:64]))"
    )
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", **finding.environment}
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", finding.code + ending], env=environment, capture_output=True,
            text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"holds": False, "printed": "no end"}
    if done.returncode < 0:
        return {"holds": finding.crashes, "printed": f"(the process ends by signal {-done.returncode})"}
    lines = done.stdout.splitlines()
    if not lines or not lines[-1].startswith("#"):
        return {"holds": False, "printed": (done.stderr.strip().splitlines() or ["nothing"])[-1]}
    printed = "\n".join(line.rstrip() for line in lines[:-1])
    return {**judged(finding, json.loads(lines[-1][1:])), "printed": printed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("names", nargs="*", help="implementations, by a part of their name; all by default")
    parser.add_argument("--level", default="quick")
    parser.add_argument("--one", help="run this one here and now")
    parser.add_argument("--json", type=Path, default=STORED)
    parser.add_argument("--findings", action="store_true", help="run the findings alone")
    asked = parser.parse_args()
    if asked.one:
        asked.json.write_text(json.dumps(checked(ADAPTERS[asked.one], asked.level)))
        return
    found: dict[str, Any] = json.loads(asked.json.read_text()) if asked.json.exists() else {}
    found.setdefault("implementations", {})
    for name, adapter in ADAPTERS.items():
        if asked.findings or (asked.names and not any(part in name for part in asked.names)):
            continue
        found["implementations"][name] = one = run(adapter, level=asked.level)
        print(name, one.get("verdicts") or one.get("missing") or one.get("ended"), one.get("seconds"), flush=True)
        _write(asked.json, found, asked.level)
    for finding in FINDINGS if asked.findings or not asked.names else ():
        found.setdefault("findings", {})
        found["findings"][finding.name] = one = shown(finding)
        print(finding.name, one, flush=True)
    _write(asked.json, found, asked.level)


def _write(path: Path, found: dict[str, Any], level: str) -> None:
    from polylogit.conformance._machine import machine

    found["implementations"] = {
        name: found["implementations"][name] for name in ADAPTERS if name in found["implementations"]
    }
    found["machine"] = {"python": platform.python_version(), **machine(), "level": level}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
