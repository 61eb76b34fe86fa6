"""The eight released checkpoints against what the original code predicts on its 287 CIFs."""

from __future__ import annotations

import csv
import json
import zipfile

import pytest

from voltscreen.model import predict_candidates
from voltscreen.model.element_table import read_element_table
from voltscreen.model.paper_checkpoint import import_checkpoint
from voltscreen.sources.files import read_structure
from voltscreen.structures import HostState

IONS = ["Li", "Na", "K", "Mg", "Ca", "Zn", "Y", "Al"]


def checkpoint_name(ion: str) -> str:
    return "model_best.pth.tar" if ion == "Li" else f"model_best_{ion}.pth.tar"


@pytest.fixture(scope="module")
def cifs(shared_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("na287")
    with zipfile.ZipFile(shared_data / "paper" / "na287_cifs.zip") as archive:
        archive.extractall(folder)
    return {path.stem: path for path in folder.rglob("*.cif")}


@pytest.fixture(scope="module")
def oracle(shared_data):
    with (shared_data / "paper" / "na287_reference_predictions.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def structures(cifs, oracle):
    return [read_structure(cifs[row["id"]]) for row in oracle]


@pytest.mark.parametrize("ion", IONS)
def test_checkpoint_predicts_what_the_original_code_does(
    ion, shared_data, oracle, structures
) -> None:
    assert len(structures) == 287
    table = read_element_table(shared_data / "paper" / "atom_init.json")
    path = shared_data / "paper" / "checkpoints" / checkpoint_name(ion)
    model = import_checkpoint(path, table, ion, f"paper-{ion}")
    found = predict_candidates(model, structures, host_state=HostState.AS_GIVEN)
    for row, prediction in zip(oracle, found, strict=True):
        assert abs(prediction.ions[ion].voltage - float(row[f"pred_{ion}"])) < 1e-4, row["id"]


def test_import_and_predict_on_the_command_line(shared_data, cifs, oracle, run) -> None:
    paper = shared_data / "paper"
    done = run(
        "model", "import", str(paper / "checkpoints" / checkpoint_name("Mg")),
        "--element-table", str(paper / "atom_init.json"), "--ion", "Mg", "--name", "paper-Mg",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = oracle[:5]
    files = [str(cifs[row["id"]]) for row in rows]
    done = run(
        "predict", *files, "--model", "paper-Mg", "--ion", "Mg", "--host-state", "as_given",
        "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for row, file, item in zip(rows, files, found, strict=True):
        assert item["file"] == file
        assert item["model"] == "paper-Mg"
        assert item["host_state"] == "as_given"
        assert abs(item["voltage"] - float(row["pred_Mg"])) < 1e-4
