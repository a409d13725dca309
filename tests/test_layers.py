"""Imports point one way: flows -> tasks -> models -> data_catalog."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ["data_catalog", "models", "tasks", "flows"]
OURS = [path for layer in LAYERS for path in sorted((ROOT / layer).rglob("*.py"))]
OWNERS = {"duckdb": "data_catalog/catalog_database.py", "open_clip": "models/clip.py", "mlflow": "tasks/tracking.py"}


def imported(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return names | {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}


def packages(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(path)}


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_imports_from_downstream(path):
    layer = path.relative_to(ROOT).parts[0]
    downstream = set(LAYERS[LAYERS.index(layer) + 1 :])
    assert not packages(path) & downstream


@pytest.mark.parametrize("package, owner", OWNERS.items())
def test_one_file_owns_each_engine(package, owner):
    assert [str(path.relative_to(ROOT)) for path in OURS if package in packages(path)] == [owner]


@pytest.mark.parametrize("layer, blocked", [
    ("models", ["prefect", "mlflow", "duckdb"]),
    ("data_catalog", ["prefect", "mlflow", "torch", "open_clip"]),
])  # fmt: skip
def test_a_layer_imports_where_the_upper_ones_are_not_installed(layer, blocked):
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sorted((ROOT / layer).rglob("*.py"))]
    program = f"import sys; sys.modules.update(dict.fromkeys({blocked})); import {', '.join(modules)}"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_every_module_opens_with_one_sentence_on_what_it_is_for():
    silent = [path for path in OURS if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []
