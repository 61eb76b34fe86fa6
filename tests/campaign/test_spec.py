from __future__ import annotations

import pytest
import yaml

from tests.conftest import REPOSITORY
from voltscreen.campaign.spec import load_spec, parse_spec
from voltscreen.errors import SpecError

GOOD = {"name": "c", "ions": ["Mg"], "source": {"hosts": "all"}}


def test_the_starter_specs_are_valid() -> None:
    specs = sorted((REPOSITORY / "workflows").glob("*.yaml"))
    assert len(specs) >= 4
    kinds = {kind for path in specs for kind in load_spec(path).source.parts}
    assert kinds == {"hosts", "parquet", "files", "mp"}


def test_a_spec_takes_several_sources_together(tmp_path) -> None:
    several = {"hosts": ["spinel-mn2o4"], "files": "*.cif", "parquet": "pool.parquet"}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({**GOOD, "source": several}))
    spec = load_spec(tmp_path / "s.yaml")
    assert spec.source.parts == {
        "hosts": ["spinel-mn2o4"],
        "files": [str(tmp_path / "*.cif")],
        "parquet": {"path": str(tmp_path / "pool.parquet"), "start": 0},
    }
    assert parse_spec(spec.canonical()).hash == spec.hash


def test_paths_are_relative_to_the_spec(tmp_path) -> None:
    (tmp_path / "s.yaml").write_text(
        yaml.safe_dump({**GOOD, "source": {"parquet": {"path": "pool.parquet", "limit": 5}}})
    )
    spec = load_spec(tmp_path / "s.yaml")
    parquet = {"path": str(tmp_path / "pool.parquet"), "start": 0, "limit": 5}
    assert spec.source.parts == {"parquet": parquet}
    assert parse_spec(spec.canonical()).hash == spec.hash


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"sorce": {}}, "unknown key 'sorce': did you mean 'source'"),
        ({"rank": {"volltage": [1, 2]}}, r"unknown key 'rank\.volltage': did you mean 'voltage'"),
        ({"rank": {"voltage": [4, 2]}}, "'rank': voltage: the first number must be below"),
        ({"rank": {"objectives": ["beauty"]}}, r"'rank\.objectives\.0'.*'energy_density'"),
        ({"ions": ["Fe"]}, "'ions': unknown working ion Fe; choose from Li, Na"),
        ({"ions": []}, "'ions'"),
        ({"source": {}}, "'source': is empty, but needs at least one of mp, files, parquet, hosts"),
        ({"source": {"hosts": "all", "fles": "*.cif"}}, r"'source\.fles': did you mean 'files'"),
        ({"source": {"parquet": {"path": "x", "lmit": 3}}}, r"'source\.parquet\.lmit'.*'limit'"),
        ({"source": {"mp": {"elemnts": ["O"]}}}, r"'source\.mp': elemnts: unknown.*'elements'"),
        ({"source": {"mp": {"band_gap": [2, 1]}}}, r"'source\.mp': band_gap: the first"),
        ({"source": {"mp": {}}}, r"'source\.mp': give at least one filter"),
        ({"batch": {"max_atoms": 1}}, r"'batch\.max_atoms'"),
        ({"name": "a:b"}, "'name'"),
        ({"name": "../x"}, "'name'"),
        ({"version": 2, "sorce": {}}, "of version 2, .* reads version 1: use a newer voltscreen"),
        ({"version": 0}, r"'version': Input should be 1, got 0"),
        ({"version": "new"}, r"'version': Input should be 1, got 'new'"),
    ],
)
def test_a_wrong_key_or_value_is_named(change, sentence) -> None:
    with pytest.raises(SpecError, match=sentence):
        parse_spec({**GOOD, **change})


def test_a_spec_carries_its_version_and_asks_for_the_same_with_and_without_it() -> None:
    spec = parse_spec(GOOD)
    assert spec.canonical()["version"] == 1
    assert parse_spec({**GOOD, "version": 1}).hash == spec.hash


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name: [", "must be YAML"),
        ("- a\n- b\n", "not a campaign spec"),
        ("", "not a campaign spec"),
        ("name: c\nions: [Mg]\n", "'source' is missing"),
        ("!!python/object/apply:os.system ['true']", "must be YAML"),
    ],
)
def test_a_file_that_is_no_spec_is_one_sentence(tmp_path, text, sentence) -> None:
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(SpecError, match=sentence) as caught:
        load_spec(tmp_path / "s.yaml")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_sentence(tmp_path) -> None:
    with pytest.raises(SpecError, match="cannot read the spec"):
        load_spec(tmp_path / "none.yaml")
