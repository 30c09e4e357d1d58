import ast
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
if not (ROOT / "pyproject.toml").is_file():
    pytest.skip("the tests run beside an installed package", allow_module_level=True)

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAPPED = PROJECT["tool"]["setuptools"]["package-dir"]
"""Package name to folder, for the folders beside ``pixelssr_geo``."""


def test_the_list_of_packages_is_the_tree():
    # A package that is forgotten in the list is silently absent from the wheel.
    folders = {folder: name for name, folder in MAPPED.items()} | {"pixelssr_geo": "pixelssr_geo"}
    found = set()
    for folder, name in folders.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            below = init.parent.relative_to(ROOT / folder).parts
            found.add(".".join((name, *below)))
    listed = PROJECT["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(found)
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize("folder", sorted(MAPPED.values()))
def test_a_mapped_folder_is_no_package_of_its_own(folder):
    done = subprocess.run(
        [sys.executable, "-c", f"import {folder}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"ImportError: import pixelssr_geo.{folder}" in done.stderr


@pytest.mark.parametrize("folder", sorted(MAPPED.values()))
def test_a_mapped_folder_is_seen_through_a_link(folder):
    # For type checkers and linters, which do not read the mapping.
    link = ROOT / "pixelssr_geo" / folder
    assert link.is_symlink()
    assert link.readlink() == Path("..", folder)
    assert link.resolve() == ROOT / folder
    assert not (ROOT / folder).is_symlink()


@pytest.mark.parametrize(
    "path",
    [path for folder in sorted(MAPPED.values()) for path in sorted((ROOT / folder).rglob("*.py"))],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_mapped_folders_import_other_packages_by_their_full_names(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level < 2, f"line {node.lineno} imports from a parent"
        names = [alias.name for alias in getattr(node, "names", [])]
        modules = (
            [getattr(node, "module", None) or ""] if isinstance(node, ast.ImportFrom) else names
        )
        if isinstance(node, (ast.Import, ast.ImportFrom)) and not getattr(node, "level", 0):
            assert not {module.split(".")[0] for module in modules} & set(MAPPED.values())


def test_every_data_file_is_shipped():
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["*"]
    data = [
        path
        for folder in ("pixelssr_geo", *MAPPED.values())
        for path in (ROOT / folder).rglob("data/*")
        if path.is_file()
    ]
    assert data
    for path in data:
        assert any(path.match(pattern) for pattern in patterns), f"{path} is not in package-data"


def test_the_command_is_installed():
    (command,) = entry_points(group="console_scripts", name="pixelssr-geo")
    assert command.value == "pixelssr_geo.cli.main:main"
    assert callable(command.load())
