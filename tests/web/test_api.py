"""The REST API: what it answers, and what it refuses."""

from __future__ import annotations

import gzip
import io
import json
import logging
import time
import zipfile

import pytest

from tests.web.conftest import KEY
from tests.web.small_campaign import NAME
from voltscreen.store import ResultFilters

CIF = """data_x
_cell_length_a 4.2
_cell_length_b 4.2
_cell_length_c 4.2
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
"""
SITES = ("Mn Mn 0 0 0", "Mn Mn 0 .5 .5", "Mn Mn .5 0 .5", "Mn Mn .5 .5 0",
         "O O .5 .5 .5", "O O .5 0 0", "O O 0 .5 0", "O O 0 0 .5")  # fmt: skip
GOOD = (CIF + "\n".join(SITES) + "\n").encode()


def upload(client, name: str, data: bytes, **fields):
    return client.post("/api/predict", files={"file": (name, data)}, data=fields)


def test_an_uploaded_structure_gets_the_voltage_of_the_command_line(client, tmp_path) -> None:
    from pathlib import Path

    from voltscreen.model import load_model, predict_candidates
    from voltscreen.sources.files import read_structure

    path = Path(tmp_path / "mno.cif")
    path.write_bytes(GOOD)
    expected = predict_candidates(load_model("default"), [read_structure(path)], ["Mg", "Zn"])[0]
    answer = upload(client, "mno.cif", GOOD, ions=["Mg", "Zn"])
    assert answer.status_code == 200
    entries = {entry["ion"]: entry for entry in answer.json()["predictions"][0]["ions"]}
    assert set(entries) == {"Mg", "Zn"}
    for ion, entry in entries.items():
        assert entry["voltage"] == pytest.approx(expected.ions[ion].voltage, abs=1e-4)
        local = entry["local"]
        mean = sum(local["additive"]) / len(local["additive"])
        assert mean + local["site"] == pytest.approx(entry["voltage"], abs=1e-4)


def test_a_stored_structure_is_predicted_by_any_of_its_ids(client) -> None:
    answer = client.post("/api/predict", data={"structure": "mno2-lambda", "ions": "Mg"})
    assert answer.status_code == 200
    (entry,) = answer.json()["predictions"][0]["ions"]
    assert entry["known"]["voltage"] == 2.61
    assert entry["measured"][0]["ion"] == "Mg"
    near = answer.json()["nearest"]
    assert len(near) == 6
    assert [host["distance"] for host in near] == sorted(host["distance"] for host in near)
    stored = client.get("/api/structures/mno2-lambda").json()
    assert [host["host_id"] for host in stored["nearest"]] == [host["host_id"] for host in near]
    by_ion = {each["ion"]: each for each in stored["predictions"][0]["ions"]}
    assert by_ion["Mg"]["voltage"] == pytest.approx(entry["voltage"], abs=1e-4)


def test_an_id_that_is_not_stored_is_asked_of_the_materials_project(
    client, filled, materials_project
) -> None:
    from tests.mp_stand_in.records import material, oxide

    materials_project.materials = [material("mp-77", oxide(1))]
    before = filled.structures.count_documents({})
    answer = client.post("/api/predict", data={"structure": "mp-77", "ions": "Mg"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["structure_id"] == oxide(1).content_hash
    assert not answer.json()["stored"]
    assert filled.structures.count_documents({}) == before
    missing = client.post("/api/predict", data={"structure": "mp-78", "ions": "Mg"})
    assert missing.status_code == 404


def test_without_a_key_of_the_materials_project_only_stored_ids_are_known(client) -> None:
    answer = client.post("/api/predict", data={"structure": "mp-77", "ions": "Mg"})
    assert answer.status_code == 404
    assert "no key" in answer.json()["detail"]


def test_results_take_the_filters_of_the_command_line(client) -> None:
    path = f"/api/campaigns/{NAME}/results/Mg"
    every = client.get(path).json()
    voltages = [row["voltage"] for row in every["rows"]]
    assert every["total"] == every["ranked"] == len(voltages) >= 5
    middle = sorted(voltages)[2]
    some = client.get(path, params={"min_voltage": middle, "sort": "voltage"}).json()
    assert [row["voltage"] for row in some["rows"]] == sorted(v for v in voltages if v >= middle)
    second = client.get(path, params={"top": 2, "skip": 2}).json()
    assert [row["rank"] for row in second["rows"]] == [3, 4]
    assert [row["formula"] for row in client.get(path, params={"known": True}).json()["rows"]] == [
        "MnO2"
    ]
    described = client.get("/api/openapi.json").json()
    parameters = described["paths"]["/api/campaigns/{name}/results/{ion}"]["get"]["parameters"]
    assert {p["name"] for p in parameters if p["in"] == "query"} == set(ResultFilters.model_fields)


def test_campaigns_models_and_structures_are_there(client) -> None:
    (campaign,) = client.get("/api/campaigns").json()
    assert campaign == client.get(f"/api/campaigns/{NAME}").json()
    assert (campaign["state"], campaign["predicted"]) == ("done", campaign["structures"])
    (model,) = client.get("/api/models").json()
    assert client.get(f"/api/models/{model['id']}").json()["name"] == model["name"]
    cif = client.get("/api/structures/mno2-beta/cif")
    assert upload(client, "again.cif", cif.content, ions="Mg").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/api/campaigns/none", "/api/campaigns/none/results/Mg",
        f"/api/campaigns/{NAME}/results/Li", "/api/structures/none",
        "/api/structures/none/cif", "/api/models/none",
        "/api/structures/..%2F..%2Fetc%2Fpasswd", "/api/structures/%2Fetc%2Fpasswd",
        "/structures/..%2F..%2Fetc%2Fpasswd", "/static/..%2Fapp.py", "/models/%2e%2e",
    ],
)  # fmt: skip
def test_what_is_not_there_is_404_and_no_path_is_opened(client, path) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert "root:" not in answer.text


@pytest.mark.parametrize(
    ("params", "word"),
    [
        ({"min_voltage": 3, "max_voltage": 2}, "impossible window"),
        ({"elements": "Xx"}, "unknown element"),
        ({"formula": "<script>alert(1)</script>"}, "not a formula"),
        ({"sort": "colour"}, "sort"),
        ({"colour": "red"}, "colour"),
        ({"top": 100_000}, "top"),
        ({"min_voltage": "nan"}, "min_voltage"),
    ],
)
def test_filters_that_make_no_sense_are_refused_in_a_sentence(client, params, word) -> None:
    answer = client.get(f"/api/campaigns/{NAME}/results/Mg", params=params)
    assert answer.status_code == 422
    assert word in answer.json()["detail"]


def bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.cif", b"0" * 50_000_000)
    return buffer.getvalue()


def many_atoms() -> bytes:
    lines = (f"O O {i / 1e6:.6f} 0 0" for i in range(1_000_000))
    return (CIF + "\n".join(lines)).encode()


def by_symmetry() -> bytes:
    """10^6 atoms that a small file makes by its operations."""
    operations = "".join(f"'x+{i}/192,y,z'\n" for i in range(192))
    sites = "".join(f"O{i} O {i / 6000:.5f} {i / 7000:.5f} 0.3\n" for i in range(5200))
    head = CIF.replace("loop_", f"loop_\n_symmetry_equiv_pos_as_xyz\n{operations}loop_")
    return (head + sites).encode()


@pytest.mark.parametrize(
    ("name", "data", "statuses"),
    [
        ("big.cif", lambda: b"x" * 50_000_000, {413}),
        ("bomb.cif", bomb, {422}),
        ("bomb.cif", lambda: gzip.compress(b"0" * 50_000_000), {422}),
        ("million.cif", many_atoms, {413}),
        ("symmetric.cif", by_symmetry, {422}),
        ("empty.cif", lambda: b"", {422}),
        ("binary.cif", lambda: bytes(range(256)) * 100, {422}),
        ("nothing.exe", lambda: GOOD, {422}),
        ("deep.json", lambda: b'{"lattice":' + b"[" * 200_000, {422}),
    ],
)
def test_uploads_that_nobody_should_send_are_refused_soon(client, name, data, statuses) -> None:
    content = data()
    started = time.monotonic()
    answer = upload(client, name, content, ions="Mg")
    assert answer.status_code in statuses, answer.text
    assert time.monotonic() - started < 20
    assert len(answer.json()["detail"]) < 500
    # The server serves on.
    assert client.get("/api/health").status_code == 200


def test_a_body_without_a_length_is_cut_off_too(client) -> None:
    def pieces():
        for _ in range(100):
            yield b"x" * 100_000

    answer = client.post(
        "/api/predict",
        content=pieces(),
        headers={"content-type": "multipart/form-data; boundary=b"},
    )
    assert answer.status_code == 413


def test_the_reader_is_bounded_in_time_and_reads_on_afterwards(monkeypatch) -> None:
    from voltscreen.errors import FileFormatError
    from voltscreen.web import reading

    reader = reading.Reader()
    try:
        assert len(reader.read("x.cif", GOOD)) == 8
        monkeypatch.setattr(reading, "SECONDS", 0.0)
        with pytest.raises(FileFormatError, match="too long"):
            reader.read("x.cif", GOOD)
        monkeypatch.undo()
        assert len(reader.read("x.cif", GOOD)) == 8
    finally:
        reader.close()


def test_markup_in_names_and_formulas_stays_text(client) -> None:
    evil = "<img src=x onerror=alert(1)>.cif"
    page = client.post(
        "/predict",
        files={"file": (evil, GOOD)},
        data={"ions": "Mg"},
        headers={"accept": "text/html"},
    )
    assert page.status_code == 200
    assert "<img" not in page.text
    for path in (
        f"/campaigns/{NAME}/Mg?formula=%3Cscript%3Ealert(1)%3C/script%3E",
        f"/campaigns/{NAME}/Mg?elements=%22%3E%3Cscript%3E",
        "/structures/%3Cscript%3Ealert(1)%3C%2Fscript%3E",
        "/find?id=%3Cscript%3Ealert(1)%3C%2Fscript%3E",
    ):
        answer = client.get(path, headers={"accept": "text/html"})
        assert answer.status_code in {404, 422}
        assert "<script>alert" not in answer.text
        assert '"><script>' not in answer.text
        assert "default-src 'none'" in answer.headers["content-security-policy"]


SPEC = {"name": "by-api", "ions": ["Mg"], "source": {"hosts": ["graphite"]}}


def test_nothing_is_written_without_a_key_or_with_a_wrong_one(client, filled, caplog) -> None:
    before = filled.structures.count_documents({})
    writes = (
        ("/api/structures", {"files": {"file": ("x.cif", GOOD)}}),
        ("/api/campaigns", {"json": SPEC}),
        (f"/api/campaigns/{NAME}/cancel", {}),
    )
    for path, content in writes:
        assert client.post(path, **content).status_code == 401
        for wrong in ("", "wrong", KEY[:-1], KEY + "x", KEY.upper()):
            answer = client.post(path, headers={"X-API-Key": wrong}, **content)
            assert answer.status_code == 403
    assert filled.structures.count_documents({}) == before
    assert filled.campaigns.count_documents({}) == 1


def test_with_the_key_a_structure_and_a_campaign_are_written(client, filled, caplog) -> None:
    headers = {"X-API-Key": KEY}
    with caplog.at_level(logging.DEBUG):
        stored = client.post("/api/structures", files={"file": ("x.cif", GOOD)}, headers=headers)
        submitted = client.post("/api/campaigns", json=SPEC, headers=headers)
    assert (stored.status_code, submitted.status_code) == (200, 202)
    assert filled.structures.find_one({"_id": stored.json()["structure_id"]}) is not None
    assert client.get("/api/campaigns/by-api").json()["state"] == "new"
    assert client.post("/api/campaigns/by-api/cancel", headers=headers).status_code == 200
    assert client.get("/api/campaigns/by-api").json()["state"] == "cancelled"
    filled.campaigns.delete_one({"_id": "by-api"})
    filled.structures.delete_one({"_id": stored.json()["structure_id"]})
    assert KEY not in caplog.text


@pytest.mark.parametrize(
    "source", [{"files": "/etc/*"}, {"parquet": "/etc/passwd"}, {"hosts": "all", "files": "/"}, {}]
)
def test_a_campaign_from_outside_names_no_file_of_the_server(client, source) -> None:
    answer = client.post(
        "/api/campaigns", json={**SPEC, "source": source}, headers={"X-API-Key": KEY}
    )
    assert answer.status_code == 422


def test_keys_are_compared_in_constant_time_each_of_them(monkeypatch) -> None:
    import hmac

    from voltscreen.web.limits import Keys

    compared = []
    true_compare = hmac.compare_digest
    monkeypatch.setattr(
        hmac, "compare_digest", lambda a, b: compared.append((a, b)) or true_compare(a, b)
    )
    keys = Keys(["first-key-0123456789", "second-key-0123456789"])
    assert keys.allow("first-key-0123456789")
    assert not keys.allow("third-key-0123456789")
    assert len(compared) == 4
    assert not Keys([]).allow("")
    assert "first" not in repr(vars(keys))


def test_more_requests_than_allowed_wait(filled) -> None:
    from fastapi.testclient import TestClient

    from voltscreen.web.app import ServerOptions, create_app

    app = create_app(ServerOptions(per_minute=20))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        answers = [client.get("/api/health") for _ in range(25)]
        late = answers[-1]
        assert [answer.status_code for answer in answers].count(200) in {20, 21}
        assert late.status_code == 429
        assert int(late.headers["retry-after"]) >= 1
        assert client.get("/static/style.css").status_code == 200


def test_a_name_that_is_not_the_servers_is_refused(client) -> None:
    assert client.get("/api/health", headers={"host": "evil.example"}).status_code == 400


def test_no_answer_holds_a_path_of_the_server(client, filled, server_home) -> None:
    filled.campaigns.insert_one(
        {
            **filled.campaigns.find_one({"_id": NAME}),
            "_id": "with-paths",
            "spec": {
                "name": "with-paths",
                "ions": ["Mg"],
                "source": {"files": [f"{server_home}/a/*.cif"]},
                "rank": {"objectives": ["voltage"]},
            },
            "errors": [{"stage": "ingest", "reason": f"cannot read {server_home}/a/x.cif: gone"}],
        }
    )
    try:
        for path in ("/api/campaigns", "/api/campaigns/with-paths", "/campaigns/with-paths"):
            answer = client.get(path)
            assert answer.status_code == 200
            assert str(server_home) not in answer.text
            assert "*.cif" in answer.text
    finally:
        filled.campaigns.delete_one({"_id": "with-paths"})
    broken = upload(client, "../../secret/x.cif", b"data_x\n")
    assert "secret" not in json.dumps(broken.json())
