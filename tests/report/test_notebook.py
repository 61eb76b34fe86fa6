"""The notebook of docs/ runs from the first cell to the last."""

from __future__ import annotations

import pytest

from tests.conftest import REPOSITORY

NOTEBOOK = REPOSITORY / "docs" / "from-spec-to-shortlist.ipynb"


def test_it_is_kept_without_outputs() -> None:
    import nbformat

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) >= 8
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)


@pytest.mark.filterwarnings("default")  # the Jupyter packages warn of each other
def test_it_runs(store, tmp_path) -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    text = str([cell.outputs for cell in cells])
    assert "notebook: Mg, best 3" in text
    pictures = [o for cell in cells for o in cell.outputs if "image/png" in o.get("data", {})]
    assert len(pictures) == 2
    assert (tmp_path / "dossier.html").stat().st_size > 20_000
    assert store.rankings.count_documents({"campaign": "notebook"}) == 24
