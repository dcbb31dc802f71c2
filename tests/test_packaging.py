"""What is built and published: the sources, the README where packages are shown, the bounds, the files of a release."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

import polylogit
from polylogit._extras import EXTRAS, command

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
README = (ROOT / "README.md").read_text()
SHOWN = runpy.run_path(str(ROOT / "tools" / "where_shown.py"))
CHANGELOG = runpy.run_path(str(ROOT / "tools" / "changelog.py"))
SUPPORTED = ("dependencies", "torch", "tensorflow", "jax", "flax", "array-api", "conformance", "search", "dask")
SUPPORTED += ("xarray", "dataframes", "onnx", "hdf5")  # not what only tests need


def pins(name: str) -> dict[str, str]:
    """The versions in a file of constraints, by canonical name."""
    lines = (ROOT / "tests" / name).read_text().splitlines()
    found = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {package.replace("_", "-").lower(): version for package, version in found}


def bounds(*extras: str) -> dict[str, str]:
    """The lower bounds that the metadata state."""
    lists = PROJECT["optional-dependencies"] | {"dependencies": PROJECT["dependencies"]}
    found = {}
    for requirement in (one for extra in extras for one in lists[extra]):
        name, operator, bound = re.match(r"([\w.-]+)(?:\[[\w,-]+\])?(>=)?([\d.]*)$", requirement).groups()  # type: ignore[union-attr]
        if operator:
            found[name.replace("_", "-").lower()] = bound
    return found


# --- versions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("package", "bound"), bounds(*SUPPORTED).items())
def test_the_lower_bound_is_what_the_oldest_environment_has(package: str, bound: str) -> None:
    if package != "setuptools":  # builds, and is not run with
        pinned = pins("constraints-oldest.txt")[package]
        assert f"{pinned}.0".startswith(f"{bound}.")


@pytest.mark.parametrize("extra", EXTRAS)
def test_errors_name_what_the_extra_brings(extra: str) -> None:
    def flat(name: str) -> list[str]:
        found = []
        for one in PROJECT["optional-dependencies"][name]:
            found += flat(one[len("polylogit[") : -1]) if one.startswith("polylogit[") else [one]
        return found

    assert list(EXTRAS[extra]) == flat(extra)
    assert all(f'"{requirement}"' in command(extra) for requirement in flat(extra))


def test_the_page_of_versions_says_what_is_tested() -> None:
    rows = dict(
        re.findall(r"^\| ([\w ]+) \| ([\d., +]+?) \|", (ROOT / "docs" / "versions.md").read_text(), re.MULTILINE)
    )
    oldest, packages = pins("constraints-oldest.txt"), {"PyTorch": "torch", "ONNX Runtime": "onnxruntime"}
    assert rows.pop("Python") == PROJECT["requires-python"].removeprefix(">=")
    assert len(rows) >= 9
    for title, version in rows.items():
        assert f"{oldest[packages.get(title, title.replace('ml_', 'ml-').lower())]}.".startswith(f"{version}.")


def test_the_recipe_has_the_bounds_of_the_package() -> None:
    recipe = (ROOT / "recipe" / "recipe.yaml").read_text()
    names = {"torch": "pytorch", "ml-dtypes": "ml_dtypes"}
    for package, bound in bounds("dependencies", "torch", "tensorflow", "jax", "conformance").items():
        assert f"- {names.get(package, package)} >={bound}\n" in recipe
    assert f'version: "{polylogit.__version__}"' in recipe
    assert f'match(python, "<{PROJECT["requires-python"].removeprefix(">=")}")' in recipe
    assert PROJECT["description"] in recipe


def test_the_version_to_cite_and_of_the_linter_are_those_in_use() -> None:
    assert f"\nversion: {polylogit.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"rev: v{pins('constraints.txt')['ruff']}\n" in (ROOT / ".pre-commit-config.yaml").read_text()


# --- the README where packages are shown ------------------------------------------------------------------------------


def test_links_and_pictures_are_absolute_where_the_repository_is_known() -> None:
    text = SHOWN["readme"](README, "https://example.org/a/b", "v1")
    targets = re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"", text)
    assert len(targets) >= len(re.findall(r"\]\(", README))
    assert all(first.startswith("#") or "://" in (first or second) for first, second in targets)
    assert 'src="https://example.org/a/b/raw/v1/docs/' in text or "](https://example.org/a/b/raw/v1/docs/" in text


def test_without_a_repository_nothing_leads_nowhere() -> None:
    text = SHOWN["readme"](README, "", "v1")
    targets = re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"", text)
    assert all(first.startswith("#") or "://" in (first or second) for first, second in targets)
    assert SHOWN["addresses"]("", "v1") == {}


def test_code_in_the_readme_is_left_as_it_is() -> None:
    code = "```python\nx[0](relative)\n```\n"
    assert (
        SHOWN["readme"](f"[a](b)\n{code}", "https://example.org", "v1") == f"[a](https://example.org/blob/v1/b)\n{code}"
    )


# --- what is built ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[str], str]:
    """The names in the sources and in the wheel of pure Python, without the first folder, and the wheel's metadata."""
    folder = tmp_path_factory.mktemp("built")
    checkout = folder / "checkout"
    left = shutil.ignore_patterns(".git", ".venv", ".tox", ".*_cache", "_build", "build", "*.egg-info", "*.so")
    shutil.copytree(ROOT, checkout, ignore=left)
    code = (
        "from setuptools import build_meta as build; import sys; folder = sys.argv[1]; "
        "build.build_sdist(folder); build.build_wheel(folder)"
    )
    environment = {"POLYLOGIT_PURE": "1", "POLYLOGIT_REPOSITORY": "https://example.org/a/b", "PATH": "/usr/bin:/bin"}
    call = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(call, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with tarfile.open(next(folder.glob("*.tar.gz"))) as sources:
        inside = [one.name.partition("/")[2] for one in sources.getmembers() if one.isfile()]
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        names = wheel.namelist()
        metadata = wheel.read(next(name for name in names if name.endswith(".dist-info/METADATA"))).decode()
    return inside, names, metadata


def test_the_sources_hold_every_file_of_the_repository(built: tuple[list[str], list[str], str]) -> None:
    kept = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if kept.returncode == 0:  # a checkout, and not the unpacked sources
        assert set(kept.stdout.split("\n")) - {""} - set(built[0]) == set()
    assert {".ci/run", "tests/constraints.txt", "docs/contract.md", "recipe/recipe.yaml"} <= set(built[0])
    assert not [name for name in built[0] if name.endswith((".so", ".pyc"))]


def test_the_wheel_holds_the_package_and_nothing_else(built: tuple[list[str], list[str], str]) -> None:
    assert {name.partition("/")[0] for name in built[1]} == {
        "polylogit",
        f"polylogit-{polylogit.__version__}.dist-info",
    }
    modules = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*.py")}
    assert modules <= set(built[1])
    assert not [name for name in built[1] if name.endswith((".c", ".h", ".so", ".pyc"))]
    assert "polylogit/py.typed" in built[1]


def test_the_metadata_lead_to_the_repository(built: tuple[list[str], list[str], str]) -> None:
    for line in ("Project-URL: Source, https://example.org/a/b", "License-Expression: Apache-2.0", "Keywords: softmax"):
        assert f"\n{line}" in built[2]
    assert f"(https://example.org/a/b/blob/v{polylogit.__version__}/docs/contract.md)" in built[2]


# --- the changelog at a release ---------------------------------------------------------------------------------------

TEXT = "# Changelog\n\n## Unreleased\n\n### Added\n\n- A thing.\n"


def test_a_release_dates_what_is_unreleased_and_its_notes_say_it() -> None:
    text = CHANGELOG["released"](TEXT, "0.1.0", "2027-01-31")
    assert "## Unreleased\n\n## 0.1.0 - 2027-01-31\n\n### Added" in text
    assert CHANGELOG["notes"](text, "0.1.0", "0.1.0") == "Released 2027-01-31.\n\n### Added\n\n- A thing.\n"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CHANGELOG["notes"](TEXT, "0.1.0", "0.1.0"), "changelog.py release 0.1.0"),
        (lambda: CHANGELOG["notes"](TEXT, "0.2.0", "0.1.0"), "they have to agree"),
        (lambda: CHANGELOG["released"]("## Unreleased\n\n## 0.1.0 - 2027-01-31\n", "0.1.0", "2027-02-01"), "already"),
        (lambda: CHANGELOG["released"]("## Unreleased\n", "0.1.0", "2027-02-01"), "would say nothing"),
    ],
)
def test_a_release_that_is_not_ready_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_the_changelog_of_this_checkout_can_be_released() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert "### Added" in CHANGELOG["notes"](CHANGELOG["released"](text, "999.0.0", "2027-01-31"), "999.0.0", "999.0.0")


# --- commands that work before anything is published ------------------------------------------------------------------

# Names of extras stand in tables of documentation and in metadata, which pip resolves; nothing says to install by name.
_BY_NAME = re.compile(r"pip3? install[^\n`]*?[\s\"']polylogit(?:[\[\"'`]|$)", re.MULTILINE)


@pytest.mark.parametrize("folder", ["src", "docs", "tools", "plugins", ".github", ".ci"])
def test_no_command_installs_polylogit_from_an_index(folder: str) -> None:
    kinds = {".py", ".md", ".txt", ".yml", ".toml", ".ipynb", ""}
    files = [one for one in (ROOT / folder).rglob("*") if one.is_file() and one.suffix in kinds]
    texts = {one: one.read_text() for one in files if not {"_build", "_static", "__pycache__"} & set(one.parts)}
    assert texts
    assert [one.relative_to(ROOT).as_posix() for one, text in texts.items() if _BY_NAME.search(text)] == []


def test_a_command_that_would_install_it_by_name_is_found() -> None:
    assert _BY_NAME.search('run: python -m pip install "polylogit[search]" pytest')
    assert _BY_NAME.search("pip install polylogit\n")
    assert not _BY_NAME.search('pip install "$(echo wheels/polylogit-*.whl)[search]" ./plugins/polylogit-mlx')
