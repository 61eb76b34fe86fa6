from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pymatgen.core import Lattice, Structure

from tests.model.helpers import random_crystal
from voltscreen.errors import FileFormatError, VoltscreenError
from voltscreen.train.dataset import LabelledElectrodes, load_electrodes, write_dataset
from voltscreen.train.filters import FILTERS

CHROMATE = Structure(Lattice.cubic(5.0), ["Mg", "Cr", "O", "O"],
                     [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5]])  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten Mg electrodes on hosts of Mn, Fe and O, without folds."""
    hosts = [random_crystal(seed, 6, (8, 25, 26)) for seed in range(10)]
    pd.DataFrame(
        {
            "structure_id": [f"mp-{i}" for i in range(10)],
            "lattice": [host.lattice.ravel() for host in hosts],
            "atomic_numbers": [host.atomic_numbers.astype(int) for host in hosts],
            "frac_coords": [host.frac_coords.ravel() for host in hosts],
        }
    ).to_parquet(tmp_path / "electrode_hosts.parquet")
    rows = pd.DataFrame(
        {
            "battery_id": [f"mp-{i}_Mg" for i in range(10)],
            "working_ion": "Mg",
            "charged_id": [f"mp-{i}" for i in range(10)],
            "formula_charge": [host.formula for host in hosts],
            "formula_discharge": [f"Mg({host.formula})" for host in hosts],
            "average_voltage": np.linspace(2.0, 3.0, 10),
            "capacity_grav": 100.0,
            "max_delta_volume": 0.05,
            "multi_step": [0, 1] * 5,
        }
    )
    rows.to_csv(tmp_path / "electrodes.csv", index=False)
    return tmp_path


def edit(folder: Path, column: str, row: int, value: object) -> None:
    rows = pd.read_csv(folder / "electrodes.csv")
    rows.loc[row, column] = value
    rows.to_csv(folder / "electrodes.csv", index=False)


def same(one: LabelledElectrodes, other: LabelledElectrodes) -> bool:
    names = ("host_of_row", "ion", "voltage", "group", "row_id", "multi_step", "provenance")
    return (
        one.hosts == other.hosts
        and one.host_ids == other.host_ids
        and one.filters == other.filters
        and all(np.array_equal(getattr(one, n), getattr(other, n)) for n in names)
        and all(np.array_equal(one.folds[n], other.folds[n]) for n in ("grouped", "random"))
        and np.array_equal(one.paper_prediction, other.paper_prediction, equal_nan=True)
        and one.sha256 == other.sha256
    )


def test_rows_know_their_id_and_origin_and_folds_are_drawn_without_a_file(folder) -> None:
    data = load_electrodes(folder)
    assert data.row_id[3] == "mp-3_Mg"
    assert data.provenance[3] == "electrodes.csv:mp-3_Mg electrode_hosts.parquet:mp-3"
    assert data.multi_step.sum() == 5
    assert data.filters == []
    assert set(data.folds) == {"grouped", "random"}
    assert np.isnan(data.paper_prediction).all()


def test_the_ion_left_in_a_host_is_its_share_of_the_atoms() -> None:
    hosts = [random_crystal(0, 8, (3,)), random_crystal(1, 8, (8,))]
    one = np.ones(3)
    data = LabelledElectrodes(
        hosts, np.array([0, 1, 0]), np.array(["Li", "Li", "Mg"]), one, one.astype(str), one, {}
    )
    assert data.ion_left.tolist() == [1.0, 0.0, 0.0]
    assert data.row_id.tolist() == ["0", "1", "2"]
    assert data.host_ids == ["0", "1"]


def test_a_training_set_reads_back_as_it_was_written(folder, tmp_path) -> None:
    written = write_dataset(folder, tmp_path / "set.parquet", ["multi_step"])
    read = load_electrodes(tmp_path / "set.parquet")
    assert same(written, read)
    assert len(read) == 5
    metadata = pq.read_schema(tmp_path / "set.parquet").metadata
    assert metadata[b"format"] == b"voltscreen-electrodes-1"
    assert b"CC BY 4.0" in metadata[b"attribution"]
    assert metadata[b"sha256"].decode() == read.sha256
    assert json.loads(metadata[b"filters"])[0]["removed"] == 5


def test_the_hash_depends_on_the_rows_and_not_on_the_order_of_filters(folder, tmp_path) -> None:
    one = write_dataset(folder, tmp_path / "1.parquet", ["outliers", "multi_step"])
    other = write_dataset(folder, tmp_path / "2.parquet", ["multi_step", "outliers"])
    assert one.sha256 == other.sha256
    assert (tmp_path / "1.parquet").read_bytes() == (tmp_path / "2.parquet").read_bytes()
    assert one.sha256 != load_electrodes(folder).sha256


def test_an_edited_training_set_is_refused(folder, tmp_path) -> None:
    path = tmp_path / "set.parquet"
    write_dataset(folder, path)
    table = pq.read_table(path)
    column = table.schema.get_field_index("voltage")
    edited = table.set_column(column, "voltage", pa.array([9.0] + [2.0] * 9))
    pq.write_table(edited, path)
    with pytest.raises(FileFormatError, match="sha256"):
        load_electrodes(path)
    path.write_bytes(b"PAR1 no more")
    with pytest.raises(FileFormatError, match="cannot read the training set"):
        load_electrodes(path)
    pd.DataFrame({"a": [1]}).to_parquet(path)
    with pytest.raises(FileFormatError, match="make it again"):
        load_electrodes(path)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("capacity_grav", 0.0),
        ("max_delta_volume", -0.1),
        ("max_delta_volume", 1.5),
        ("formula_discharge", "MgCr2O4"),
        ("formula_discharge", None),
    ],
)
def test_inconsistent_rows_are_counted_and_unknown_values_are_not(folder, column, value) -> None:
    edit(folder, column, 4, value)
    data = load_electrodes(folder, ["inconsistent"])
    (applied,) = data.filters
    wrong = value is not None
    assert (applied.name, applied.rows, applied.removed) == ("inconsistent", 10, int(wrong))
    assert ("mp-4_Mg" in data.row_id) is not wrong


def test_one_host_with_two_far_voltages_loses_both(folder) -> None:
    table = pd.read_parquet(folder / "electrode_hosts.parquet")
    for column in ("lattice", "atomic_numbers", "frac_coords"):
        table[column] = [table[column][0], *table[column][:1], *table[column][2:]]
    table.to_parquet(folder / "electrode_hosts.parquet")
    rows = pd.read_csv(folder / "electrodes.csv")
    for column in ("formula_charge", "formula_discharge"):
        rows.loc[1, column] = rows.loc[0, column]
    rows.loc[1, "average_voltage"] = 3.5
    rows.to_csv(folder / "electrodes.csv", index=False)
    data = load_electrodes(folder, ["inconsistent"])
    assert data.filters[0].removed == 2
    assert not {"mp-0_Mg", "mp-1_Mg"} & set(data.row_id)


def test_outliers_lie_outside_the_window(folder) -> None:
    edit(folder, "average_voltage", 0, 12.0)
    edit(folder, "average_voltage", 1, -1.5)
    data = load_electrodes(folder, ["outliers"])
    assert data.filters[0].removed == 2
    assert data.voltage.max() <= 6


def test_filters_are_named_and_applied_once(folder, tmp_path) -> None:
    with pytest.raises(VoltscreenError, match=r"unknown filter 'trim'.*paper_trim"):
        load_electrodes(folder, ["trim"])
    write_dataset(folder, tmp_path / "set.parquet", ["paper_trim"])
    with pytest.raises(VoltscreenError, match="before"):
        load_electrodes(tmp_path / "set.parquet", ["paper_trim"])
    edit(folder, "average_voltage", slice(0, 9), 99.0)
    with pytest.raises(FileFormatError, match="no labelled electrode is left"):
        load_electrodes(folder, ["outliers"])


def document(number: int, **changes: object) -> dict[str, object]:
    """An insertion-electrode document with the fields that the Materials Project's API gives."""
    stripped = CHROMATE.copy()
    stripped.remove_species(["Mg"])
    return {
        "working_ion": "Mg",
        "average_voltage": 2.5,
        "id_charge": f"mp-{number}",
        "id_discharge": f"mp-{number + 50}",
        "formula_charge": "MgCrO2",
        "formula_discharge": "Mg2CrO2",
        "capacity_grav": 200,
        "max_delta_volume": 0.1,
        "num_steps": 2,
        "material_ids": ["mp-300", "mvc-1", f"mp-{number}"],
        "host_structure": stripped.as_dict(),
        **changes,
    }


def write_lines(path: Path, items: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(item) + "\n" for item in items))


def test_documents_of_the_materials_project_with_charged_structures_beside_them(tmp_path) -> None:
    write_lines(
        tmp_path / "insertion_electrodes.jsonl",
        [
            document(1),
            document(2, battery_id="mp-7_Mg", num_steps=1),
            document(3, average_voltage=None),
            document(4, working_ion="Ag"),
            document(5, host_structure=None),
        ],
    )
    write_lines(
        tmp_path / "structures.jsonl",
        [{"material_id": "mp-1", "structure": CHROMATE.as_dict()}, {"material_id": "mp-99",
         "structure": {}}],
    )  # fmt: skip
    data = load_electrodes(tmp_path)
    assert data.row_id.tolist() == ["mp-1_Mg", "mp-7_Mg"]
    assert data.ion_left.tolist() == [0.25, 0.0]
    assert data.multi_step.tolist() == [True, False]
    assert data.provenance[0] == "insertion_electrodes.jsonl:mp-1_Mg structures.jsonl:mp-1"
    assert data.provenance[1].endswith("insertion_electrodes.jsonl:mp-7_Mg.host_structure")
    assert [(f.name, f.removed) for f in data.filters] == [("unreadable", 2), ("ion", 1)]
    assert data.group.tolist() == ["Cr-O", "Cr-O"]
    by_file = load_electrodes(tmp_path / "insertion_electrodes.jsonl")
    assert by_file.sha256 == data.sha256


def test_documents_make_a_training_set(tmp_path) -> None:
    write_lines(tmp_path / "insertion_electrodes.jsonl", [document(i) for i in range(3)])
    written = write_dataset(tmp_path, tmp_path / "set.parquet")
    assert same(written, load_electrodes(tmp_path / "set.parquet"))
    assert len(written) == 3


def test_both_forms_of_an_id_name_one_material(tmp_path) -> None:
    changes = {"id_charge": "mp-aaaaaaam", "material_ids": ["mp-aaaaaaam", "mp-zaaaaaaa"]}
    write_lines(tmp_path / "insertion_electrodes.jsonl", [document(0, **changes)])
    write_lines(
        tmp_path / "structures.jsonl", [{"material_id": "mp-12", "structure": CHROMATE.as_dict()}]
    )
    data = load_electrodes(tmp_path)
    assert data.row_id.tolist() == ["mp-12_Mg"]
    assert data.host_ids == ["mp-12"]
    assert data.ion_left.tolist() == [0.25]


def test_a_bad_line_is_named(tmp_path) -> None:
    (tmp_path / "insertion_electrodes.jsonl").write_text("\n{\n")
    with pytest.raises(FileFormatError, match="line 2"):
        load_electrodes(tmp_path)


def test_the_paper_trim_leaves_the_papers_rows(shared_data) -> None:
    data = load_electrodes(shared_data, ["paper_trim"])
    counts = {ion: len(data.rows_of(ion)) for ion in ("Li", "Mg", "Ca", "Zn", "Na")}
    assert counts == {"Li": 2190, "Mg": 387, "Ca": 471, "Zn": 378, "Na": 287}
    assert {ion: len(data.rows_of(ion)) for ion in ("Al", "K", "Y", "Rb", "Cs")} == {
        "Al": 149, "K": 125, "Y": 157, "Rb": 50, "Cs": 39,
    }  # fmt: skip


def test_every_filter_leaves_most_of_the_shared_data(shared_data) -> None:
    data = load_electrodes(shared_data, list(FILTERS))
    assert [applied.name for applied in data.filters] == list(FILTERS)
    assert all(0 < applied.removed < 0.2 * applied.rows for applied in data.filters)
    assert len(data) == 4401 - sum(applied.removed for applied in data.filters)


def test_the_command_writes_a_training_set_and_says_what_is_in_it(folder, tmp_path, run) -> None:
    output = tmp_path / "set.parquet"
    done = run("model", "dataset", "--data", folder, "--output", output,
               "--filter", "multi_step", "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["sha256"] == load_electrodes(output).sha256
    assert printed["rows"]["Mg"] == printed["rows"]["all"] == 5
    done = run("model", "dataset", "--data", output, "--output", tmp_path / "more.parquet")
    assert "multi_step" in done.stdout
    assert printed["sha256"] in done.stdout
    for wrong in (["--filter", "none"], ["--format", "csv"]):
        done = run("model", "dataset", "--data", folder, "--output", output, *wrong)
        assert done.returncode == 2
        assert "choose from" in done.stderr
