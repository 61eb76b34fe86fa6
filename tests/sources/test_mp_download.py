"""Documents of the Materials Project as files to train on."""

from __future__ import annotations

import json

import pytest

from tests.mp_stand_in.records import electrode, material, oxide
from tests.mp_stand_in.server import ELECTRODES, SUMMARY
from voltscreen.sources.mp import MPClient
from voltscreen.sources.mp.download import download_electrodes, download_structures
from voltscreen.sources.mp.session import Patience
from voltscreen.train.dataset import load_electrodes

QUICK = Patience(tries=4, first=0.02, longest=0.05, timeout=5.0)
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def served(materials_project):
    """Electrodes on mp-1, on mvc-2 and on a host that the summary endpoint does not have."""
    hosts = {"mp-1": oxide(1), "mvc-2": oxide(2)}
    ends = (("mp-1", "mp-1"), ("mp-2", "mvc-2"), ("mp-3", "mp-3"))
    materials_project.materials = [material(key, packed) for key, packed in hosts.items()]
    materials_project.electrodes = [
        electrode(
            {"battery_id": f"{number}_Mg", "working_ion": "Mg", "average_voltage": 2.0 + i,
             "charged_id": charged, "discharged_id": "mp-9", "formula_charge": None,
             "formula_discharge": None},
            host_structure=material("mp-0", oxide(i))["structure"],
        )
        for i, (number, charged) in enumerate(ends)
    ]  # fmt: skip
    return materials_project


def test_electrodes_become_a_folder_that_can_be_trained_on(served, tmp_path) -> None:
    heard = []
    with MPClient(QUICK) as client:
        folder = download_electrodes(client, tmp_path, lambda *numbers: heard.append(numbers))
    assert folder == tmp_path / "2025.02.12"
    assert heard == [(0, 3), (3, 3)]
    data = load_electrodes(folder)
    assert list(data.row_id) == ["mp-1_Mg", "mp-2_Mg", "mp-3_Mg"]
    assert list(data.voltage) == [2.0, 3.0, 4.0]
    hosts = [data.hosts[i].content_hash for i in data.host_of_row]
    assert hosts == [oxide(i).content_hash for i in (1, 2, 2)]

    asked = len(served.asked(ELECTRODES))
    with MPClient(QUICK) as client:
        download_electrodes(client, tmp_path, lambda *_: None)
    assert len(served.asked(ELECTRODES)) == asked


def test_a_download_that_died_in_a_line_goes_on_after_the_line_before(served, tmp_path) -> None:
    file = tmp_path / "structures.jsonl"
    with MPClient(QUICK) as client:
        assert download_structures(client, ["mp-1", "mvc-2"], file, lambda *_: None) == []
        whole = file.read_text()
        file.write_text(whole[: len(whole) * 3 // 4])
        before = len(served.asked(SUMMARY))
        assert download_structures(client, ["mp-1", "mvc-2", "mp-3"], file, lambda *_: None) == [
            "mp-3"
        ]
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert sorted(line["material_id"] for line in lines) == ["mp-1", "mvc-2"]
    assert "mp-1" not in served.asked(SUMMARY)[before].params["material_ids"].split(",")
