from __future__ import annotations

import itertools

import pytest
from pymatgen.analysis.local_env import CovalentRadius
from pymatgen.core import Composition
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer
from pymatgen.symmetry.groups import SpaceGroup

from voltscreen.errors import SpecError
from voltscreen.ions import WORKING_IONS
from voltscreen.sources import candidates, estimate
from voltscreen.sources.known_hosts import KnownHost, known_hosts
from voltscreen.structures import Candidate, refuse_overlap

EXPERIMENTS = [
    # The ten systems of the paper's Fig. 4: host, ion, first author of the reference.
    ("mno2-lambda", "Mg", "Yokozaki"),
    ("fesio4", "Mg", "Orikasa"),
    ("tise2-1t", "Mg", "Gu"),
    ("ti2s4-spinel", "Mg", "Sun"),
    ("coo2-p2", "Ca", "Park"),
    ("kfefe-cn6", "Ca", "Shiga"),
    ("mno2-ramsdellite", "Zn", "Shoji"),
    ("moo3-alpha", "Zn", "Wang"),
    ("graphite", "Al", "Lin"),
    ("mo6s8-chevrel", "Al", "Geng"),
]

each_host = pytest.mark.parametrize("host", known_hosts(), ids=lambda host: host.name)


@each_host
def test_composition_is_formula_times_formula_units(host: KnownHost) -> None:
    cell = host.conventional()
    assert cell.composition == Composition(host.formula) * host.formula_units


@each_host
@pytest.mark.filterwarnings("ignore:Full symbol not available")
def test_sites_generate_as_many_atoms_as_their_wyckoff_position(host: KnownHost) -> None:
    group = SpaceGroup(host.space_group)
    for site in host.sites:
        orbit = group.get_orbit([site.x, site.y, site.z])
        assert len(orbit) == int(site.wyckoff[:-1]), site


@each_host
def test_symmetry_is_the_declared_one(host: KnownHost, monkeypatch: pytest.MonkeyPatch) -> None:
    # spglib deprecates returning None on failure, pymatgen's way; ask it to raise instead.
    monkeypatch.setattr("spglib.error.OLD_ERROR_HANDLING", False)
    found = SpacegroupAnalyzer(host.conventional(), symprec=0.01)
    assert found.get_space_group_number() == host.space_group_number


@each_host
def test_no_two_atoms_are_too_close_and_no_cation_is_lost(host: KnownHost) -> None:
    structure = host.structure()
    radius = {site.element: CovalentRadius.radius[site.element] for site in host.sites}
    for i, neighbors in enumerate(structure.get_all_neighbors(4.0)):
        own = structure[i].specie.symbol
        assert neighbors, f"{own} has no neighbour within 4 angstrom"
        for neighbor in neighbors:
            bond = radius[own] + radius[neighbor.specie.symbol]
            # The vanadyl bond, 1.55 to 1.6 angstrom, is the shortest for its atoms' size.
            assert neighbor.nn_distance > 0.7 * bond, (own, neighbor)
        nearest = min(n.nn_distance - radius[n.specie.symbol] for n in neighbors)
        assert nearest < 1.5 * radius[own] + 0.15, f"{own} is not bound"


@each_host
def test_density_is_the_declared_one(host: KnownHost) -> None:
    assert host.conventional().density == pytest.approx(host.density, rel=0.02)
    primitive = host.structure()
    assert primitive.density == pytest.approx(host.density, rel=0.02)
    assert len(primitive) <= 120


@each_host
def test_measured_voltages_are_of_working_ions_and_possible(host: KnownHost) -> None:
    for measured in host.measured:
        assert measured.ion in WORKING_IONS
        assert 0 < measured.voltage < 5.5
        assert measured.reference


def test_there_are_at_least_sixty_with_unique_names_and_crystals() -> None:
    names = [host.name for host in known_hosts()]
    assert len(names) == len(set(names)) >= 60
    crystals = [c.structure.content_hash for c in candidates("hosts", "all", None)]
    assert len(set(crystals)) == len(names)


@pytest.mark.parametrize(("name", "ion", "author"), EXPERIMENTS)
def test_the_experiments_of_the_paper_are_there(name: str, ion: str, author: str) -> None:
    host = next(host for host in known_hosts() if host.name == name)
    references = [m.reference for m in host.measured if m.ion == ion]
    assert any(reference.startswith(author) for reference in references)


def test_graphite_with_aluminium_is_not_called_an_insertion() -> None:
    graphite = next(host for host in known_hosts() if host.name == "graphite")
    (aluminium,) = [m for m in graphite.measured if m.ion == "Al"]
    assert aluminium.kind == "other"


def test_hosts_are_candidates_without_overlap() -> None:
    found = list(candidates("hosts", "all", None))
    assert len(found) == estimate("hosts", "all", None) == len(known_hosts())
    for candidate in found:
        assert isinstance(candidate, Candidate)
        refuse_overlap(candidate.structure)
    by_name = {c.ref.id: c for c in found}
    ions = {m.ion for m in by_name["mo6s8-chevrel"].measured}
    assert {"Mg", "Al"} <= ions
    assert by_name["graphite"].measured[-1].insertion is False or any(
        not m.insertion for m in by_name["graphite"].measured
    )


def test_hosts_by_name_and_a_misspelt_name() -> None:
    found = [c.ref.id for c in candidates("hosts", ["graphite", "fesio4"], None)]
    assert found == ["graphite", "fesio4"]
    with pytest.raises(SpecError, match="did you mean fesio4"):
        list(candidates("hosts", ["fesio"], None))
    for wrong in ("graphite", 3, {"a": 1}):
        with pytest.raises(SpecError, match=r"source\.hosts"):
            list(candidates("hosts", wrong, None))


def test_polymorphs_differ() -> None:
    manganese = [h for h in known_hosts() if Composition(h.formula).reduced_formula == "MnO2"]
    for one, other in itertools.combinations(manganese, 2):
        assert one.space_group_number != other.space_group_number
