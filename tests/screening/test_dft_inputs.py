"""DFT inputs: valid by pymatgen's own checks, without POTCARs, and read back as labels."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.potentials.helpers import layered_host
from voltscreen.campaign.export_dft import write_workflow
from voltscreen.errors import FileFormatError, VoltscreenError
from voltscreen.screening.dft_inputs import DftElectrode, write_dft_inputs
from voltscreen.sources import candidates
from voltscreen.sources.dft_results import read_dft_results, write_electrodes
from voltscreen.structures import PackedStructure

NAMES = (
    "mno2-lambda", "coo2-o3", "fepo4-olivine", "mno2-beta", "mno2-delta", "mno2-ramsdellite",
    "coo2-o1", "coo2-p2", "co2o4-spinel", "cro2-rutile",
)  # fmt: skip


def filled(host: PackedStructure, number: int = 12) -> PackedStructure:
    from voltscreen.potentials.voids import distinct_voids, with_ions

    return with_ions(host, distinct_voids(host, 1)[0].frac_coords[:1], number)


@pytest.fixture(scope="module")
def electrodes() -> list[DftElectrode]:
    found = {c.ref.id: c.structure for c in candidates("hosts", list(NAMES), Path("/"))}
    return [
        DftElectrode(host.content_hash, name, host, filled(host), 2.5)
        for name, host in found.items()
    ]


@pytest.mark.filterwarnings("ignore")  # pymatgen warns of its own sets
def test_the_inputs_of_ten_candidates_pass_pymatgens_validation(electrodes, tmp_path) -> None:
    pytest.importorskip("pymatgen.io.validation")
    from pymatgen.io.validation.common import PotcarSummaryStats, VaspFiles, VaspInputSafe
    from pymatgen.io.validation.validation import VaspValidator
    from pymatgen.io.vasp.inputs import Incar, Kpoints, Poscar

    manifest = json.loads(write_dft_inputs(electrodes, "Mg", tmp_path).read_text())
    assert len(manifest["electrodes"]) == 10
    assert len(manifest["potcars"]) == 21
    for name, symbols in manifest["potcars"].items():
        folder = tmp_path / name
        assert {path.name for path in folder.iterdir() if path.is_file()} == {
            "INCAR", "KPOINTS", "POSCAR", "POTCAR.spec",
        }  # fmt: skip
        poscar = Poscar.from_file(folder / "POSCAR", check_for_potcar=False)
        assert (folder / "POTCAR.spec").read_text().split() == symbols
        assert [symbol.split("_")[0] for symbol in symbols] == poscar.site_symbols
        files = VaspFiles(
            user_input=VaspInputSafe(
                incar=Incar.from_file(folder / "INCAR"),
                kpoints=Kpoints.from_file(folder / "KPOINTS"),
                structure=poscar.structure,
                potcar=[PotcarSummaryStats(titel=f"PAW_PBE {s}", lexch="PE") for s in symbols],
                potcar_functional="PBE",
            )
        )
        checked = VaspValidator.from_vasp_input(vasp_files=files, check_potcar=False)
        assert checked.reasons == [], name


def test_the_workflow_is_one_that_fireworks_reads(electrodes, tmp_path) -> None:
    write_workflow(write_dft_inputs(electrodes[:2], "Mg", tmp_path), "mpirun vasp_std")
    # On its own, as `lpad` does: inside pytest FireWorks would import its own tests.
    script = """
import json, sys
from fireworks import Workflow
found = Workflow.from_file(sys.argv[1])
above = found.links.parent_links
print(json.dumps([[fw.name, len(above.get(fw.fw_id, [])), fw.spec["_launch_dir"],
                   str(fw.tasks[0]["script"])] for fw in found.fws]))
"""
    command = [sys.executable, "-c", script, str(tmp_path / "workflow.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    fireworks = {name: rest for name, *rest in json.loads(done.stdout)}
    assert len(fireworks) == 6
    assert fireworks["dft labels"][0] == 5
    for name, (_, folder, script) in fireworks.items():
        assert Path(folder).is_dir()
        assert ("pmg potcar --symbols" in script) == (name != "dft labels")


def test_nothing_is_written_over_or_for_nothing(electrodes, tmp_path) -> None:
    with pytest.raises(VoltscreenError, match="no electrode"):
        write_dft_inputs([], "Mg", tmp_path)
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(VoltscreenError, match="not empty"):
        write_dft_inputs(electrodes, "Mg", tmp_path)


def vasprun(structure: PackedStructure, energy: float, steps: int = 3) -> str:
    """A short vasprun.xml as VASP 6 writes it: one ionic step, its electronic ones and the end."""
    cell = "".join(f"<v>{' '.join(f'{x:.8f}' for x in row)}</v>" for row in structure.lattice)
    places = "".join(f"<v>{' '.join(f'{x:.8f}' for x in row)}</v>" for row in structure.frac_coords)
    forces = "<v>0 0 0</v>" * len(structure)
    atoms = "".join(f"<rc><c>{s}</c><c>1</c></rc>" for s in structure.symbols)
    crystal = (
        f'<crystal><varray name="basis">{cell}</varray><i name="volume">{structure.volume}</i>'
        f'<varray name="rec_basis">{cell}</varray></crystal>'
        f'<varray name="positions">{places}</varray>'
    )
    energies = "".join(
        f'<i name="{name}">{energy}</i>' for name in ("e_fr_energy", "e_wo_entrp", "e_0_energy")
    )
    step = f"<scstep><energy>{energies}</energy></scstep>"
    return f"""<?xml version="1.0" encoding="ISO-8859-1"?>
<modeling>
<generator>
<i name="program" type="string">vasp</i><i name="version" type="string">6.4.2</i>
</generator>
<incar>
<i type="int" name="NSW">99</i><i type="int" name="IBRION">2</i><i type="int" name="NELM">100</i>
</incar>
<kpoints>
<generation param="Gamma">
<v type="int" name="divisions">1 1 1</v><v name="usershift">0 0 0</v>
</generation>
<varray name="kpointlist"><v>0 0 0</v></varray><varray name="weights"><v>1</v></varray>
</kpoints>
<parameters>
<i type="int" name="NSW">99</i><i type="int" name="NELM">100</i><i name="EDIFFG">-0.01</i>
<i type="int" name="IBRION">2</i>
</parameters>
<atominfo>
<atoms>{len(structure)}</atoms><types>1</types>
<array name="atoms"><set>{atoms}</set></array>
<array name="atomtypes"><set>
<rc><c>1</c><c>X</c><c>1</c><c>1</c><c>PAW_PBE X 01Jan2000</c></rc>
</set></array>
</atominfo>
<structure name="initialpos">{crystal}</structure>
<calculation>
{step * steps}<structure>{crystal}</structure><varray name="forces">{forces}</varray>
<varray name="stress"><v>0 0 0</v><v>0 0 0</v><v>0 0 0</v></varray>
<energy>{energies}</energy>
</calculation>
<structure name="finalpos">{crystal}</structure>
</modeling>
"""


@pytest.mark.filterwarnings("ignore")
def test_results_come_back_as_labels_to_train_on(tmp_path) -> None:
    from voltscreen.train.dataset import load_electrodes

    host = layered_host()
    full = filled(host, 3)
    doubled = PackedStructure.from_pymatgen(full.to_pymatgen() * (2, 1, 1))
    electrodes = [
        DftElectrode("a" * 32, "mp-1", host, doubled, 2.0),
        DftElectrode("b" * 32, "mp-2", layered_host(23), filled(layered_host(23), 3), 2.0),
        DftElectrode("c" * 32, "mp-3", layered_host(24), filled(layered_host(24), 3), 2.0),
    ]
    manifest = json.loads(write_dft_inputs(electrodes, "Li", tmp_path).read_text())
    with pytest.raises(FileFormatError, match="not computed yet"):
        read_dft_results(tmp_path)
    metal = PackedStructure.from_arrays(3.4 * np.eye(3), [[0, 0, 0]], [3])
    (tmp_path / manifest["metal"] / "vasprun.xml").write_text(vasprun(metal, -1.9))
    first, second, _ = manifest["electrodes"]
    for folder, cell, energy in (
        (first["host"], host, -20.0),
        (first["discharged"], doubled, -48.0),
        (second["host"], layered_host(23), -20.0),
    ):
        with gzip.open(tmp_path / folder / "vasprun.xml.gz", "wt") as file:
            file.write(vasprun(cell, energy))
    (tmp_path / second["discharged"] / "vasprun.xml").write_text(
        vasprun(filled(layered_host(23), 3), -24.0, steps=100)
    )
    results = read_dft_results(tmp_path)
    (label,) = results.labels
    assert label.voltage == pytest.approx(4.0 - 1.9)
    assert label.volume_change == pytest.approx(0, abs=1e-6)
    assert "not converged" in results.failed["mp-2"]
    assert "not computed yet" in results.failed["mp-3"]

    assert write_electrodes(results, tmp_path / "labels") == 1
    data = load_electrodes(tmp_path / "labels")
    assert data.voltage.tolist() == pytest.approx([2.1])
    assert data.ion.tolist() == ["Li"]
    assert data.hosts[0].formula == "TiS2"
