"""The rooms of the house: data moves one way, and nobody reaches upstairs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import voltscreen

ROOMS = [
    "cli", "web", "report", "campaign", "cluster", "explain", "screening", "train", "sources",
    "store", "potentials", "model", "graph", "structures",
]  # fmt: skip
"""From the top floor down; the single modules are the ground floor."""
GROUND_FLOOR = {
    "errors",
    "failpoints",
    "ions",
    "logs",
    "masking",
    "process",
    "resources",
    "settings",
    "__init__",
}
PACKAGE = Path(voltscreen.__file__).parent
DATABASE_PACKAGES = {"pymongo", "bson", "gridfs", "fireworks"}
WITHOUT_DATABASE = ["screening", "potentials", "model", "graph", "structures", "sources", "train"]


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "_data" not in path.parts)


def floor(parts: tuple[str, ...]) -> int:
    """Height of a module: index from the bottom; 0 is the ground floor."""
    return 0 if parts[0] in GROUND_FLOOR else len(ROOMS) - ROOMS.index(parts[0])


def imported(path: Path) -> set[str]:
    """Every absolute module name that a file imports, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return names


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_only_from_rooms_below(path: Path) -> None:
    own = path.relative_to(PACKAGE).with_suffix("").parts
    if own in (("__main__",), ("__init__",)):
        return
    for name in imported(path):
        parts = tuple(name.split("."))[1:]
        if not name.startswith("voltscreen.") or parts[0] == "__version__":
            continue
        if parts[0] != own[0] and parts[0] not in GROUND_FLOOR:
            assert floor(parts) < floor(own), f"{'/'.join(own)} imports {name} from above"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_store_campaign_and_cluster_know_the_database(path: Path) -> None:
    if path.relative_to(PACKAGE).parts[0] in WITHOUT_DATABASE:
        packages = {name.split(".")[0] for name in imported(path)}
        assert not packages & DATABASE_PACKAGES


def test_every_folder_is_a_known_room() -> None:
    folders = {p.parent.relative_to(PACKAGE).parts[0] for p in PACKAGE.glob("*/__init__.py")}
    assert folders <= set(ROOMS)


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        # `voltscreen --help`.
        ("voltscreen.cli.app", "torch numpy pymatgen pydantic fireworks pymongo"),
        # Commands that predict nothing, and what FireWorks imports to read a Firework.
        (
            "voltscreen.campaign.worker,voltscreen.campaign.control,voltscreen.campaign.firetasks",
            "torch numba scipy sklearn pymatgen pandas",
        ),
    ],
)
def test_what_need_not_wait_does_not_wait_for_heavy_imports(modules: str, heavy: str) -> None:
    code = f"import sys, {modules}; print(*(m for m in {heavy.split()} if m in sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == ""
