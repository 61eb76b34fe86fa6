"""The voids of a host: which are alike, and how ions fill them.

`voltscreen.structures.insertion_sites` finds the largest void, thousands of hosts a second; here
all voids of one host are wanted, with those that symmetry makes equal taken together. They are
told by what they see, elements and distances, so that a supercell has the voids of its cell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voltscreen.errors import StructureError
from voltscreen.structures import PackedStructure, refuse_overlap
from voltscreen.structures.insertion_sites import ANIONS, CATION_MARGIN, insertion_sites

SMALLEST = 1.3
"""Angstrom to the nearest atom; a lithium ion has 1.7 or more in any crystal."""
SAME = 0.7
"""Angstrom; places nearer than this are one void."""
IONS_APART = 2.0
"""Angstrom; ions nearer than this are never put in together."""
SIGHT = 5.0
"""Angstrom, atoms this near decide whether two voids are alike."""
ALIKE = 5e-3
"""Relative difference of what they see, up to which they are; 0.01 angstrom make about that."""
_REACH = 9.0
"""Angstrom around the cell; no host has a void of half this radius that ions stay in."""


@dataclass(frozen=True, eq=False)
class Void:
    """A void and those like it.

    frac_coords: (k, 3) float64, fractional, the void itself first. distance: angstrom, to the
    nearest atom. clearance: angstrom, see `voltscreen.structures.insertion_sites`.
    """

    frac_coords: NDArray[np.float64]
    distance: float
    clearance: float


def distinct_voids(host: PackedStructure, most: int) -> list[Void]:
    """The voids of a host that no symmetry makes equal, largest clearance first.

    Args:
        most: so many at most.

    Raises:
        StructureError: overlapping atoms, or no void wide enough for an ion.
    """
    refuse_overlap(host)
    places, distance, clearance, view = _vertices(host)
    wide = distance >= SMALLEST
    if not wide.any():
        widest = f"{distance.max():.2f} angstrom from the nearest atom" if len(distance) else "none"
        raise StructureError(f"no void: the widest is {widest}")
    found: list[Void] = []
    views: list[NDArray[np.float64]] = []
    for v in np.argsort(-clearance, kind="stable"):
        if not wide[v]:
            continue
        if len(found) > most and clearance[v] < found[most - 1].clearance - SAME:
            break
        if any(gaps(host.lattice, places[v], void.frac_coords).min() < SAME for void in found):
            continue
        like = [k for k, seen in enumerate(views) if np.allclose(view[v], seen, rtol=ALIKE, atol=0)]
        if like:
            known = found[like[0]]
            orbit = np.vstack((known.frac_coords, places[v]))
            found[like[0]] = Void(orbit, known.distance, known.clearance)
        else:
            found.append(Void(places[v][None], float(distance[v]), float(clearance[v])))
            views.append(view[v])
    return found[:most]


def fill(
    host: PackedStructure, void: Void, count: int, atomic_number: int
) -> PackedStructure | None:
    """A host with so many ions: in a void and those like it, far apart, then in what is left.

    Args:
        void: where the first goes. count: ions, at least 1.

    Returns:
        The ions in the last places, or None where the host has no room for so many.
    """
    ions = void.frac_coords[:1]
    while len(ions) < count:
        free = void.frac_coords
        apart = np.array([gaps(host.lattice, place, ions).min() for place in free])
        best = int(apart.argmax())
        if apart[best] >= IONS_APART:
            ions = np.vstack((ions, free[best]))
            continue
        filled = with_ions(host, ions, atomic_number)
        sites = insertion_sites([filled])
        at = int(sites.best()[0])
        place = sites.frac_coords[at]
        near = gaps(host.lattice, place, ions).min()
        if sites.distance[at] < SMALLEST or near < IONS_APART:
            return None
        ions = np.vstack((ions, place))
    return with_ions(host, ions, atomic_number)


def with_ions(
    host: PackedStructure, ions: NDArray[np.float64], atomic_number: int
) -> PackedStructure:
    """The host with ions at these places, (k, 3) fractional, after its own atoms."""
    return PackedStructure.from_arrays(
        host.lattice,
        np.vstack((host.frac_coords, ions)),
        np.append(host.atomic_numbers, np.full(len(ions), atomic_number)),
    )


def gaps(
    lattice: NDArray[np.float64], place: NDArray[np.float64], others: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(k,): angstrom from a place (3,) to the nearest image of each of others (k, 3)."""
    from pymatgen.core import Lattice

    distances: NDArray[np.float64] = Lattice(lattice).get_all_distances(place, others)[0]
    return distances


def _vertices(
    host: PackedStructure,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Vertices of the Voronoi diagram in the cell.

    Returns:
        (v, 3) fractional, (v,) distances, (v,) clearances, (v, 2) what they see.
    """
    from scipy.spatial import QhullError, Voronoi, cKDTree

    images, numbers = _images(host)
    try:
        vertices = Voronoi(images).vertices
    except QhullError:
        raise StructureError("no void: the host has no Voronoi diagram") from None
    frac = vertices @ np.linalg.inv(host.lattice)
    inside = ((frac >= -1e-6) & (frac < 1 - 1e-6)).all(axis=1)
    frac, vertices = frac[inside], vertices[inside]
    tree = cKDTree(images)
    distance, _ = tree.query(vertices)
    cation = ~np.isin(numbers, ANIONS)
    near = cKDTree(images[cation]).query(vertices)[0] if cation.any() else np.inf
    # As in `insertion_sites`: the multiples of the golden ratio tell elements apart.
    marks = 0.5 + (numbers * 0.6180339887498949) % 1.0
    view = np.empty((len(vertices), 2))
    for v, around in enumerate(tree.query_ball_point(vertices, SIGHT)):
        fade = 1.0 - ((images[around] - vertices[v]) ** 2).sum(axis=1) / SIGHT**2
        view[v] = (marks[around] * fade**2).sum(), (marks[around] * fade**6).sum()
    return frac % 1.0, distance, np.minimum(distance, near - CATION_MARGIN), view


def _images(host: PackedStructure) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(m, 3) places of the atoms within reach of the cell, (m,) their atomic numbers."""
    spacing = 1.0 / np.linalg.norm(np.linalg.inv(host.lattice), axis=0)
    beyond = _REACH / spacing
    frac = host.frac_coords % 1.0
    counts = np.ceil(beyond).astype(int)
    grid = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in counts), indexing="ij"), -1)
    every = frac[:, None] + grid.reshape(-1, 3)
    kept = ((every > -beyond) & (every < 1 + beyond)).all(axis=2)
    atom = np.broadcast_to(np.arange(len(host))[:, None], kept.shape)[kept]
    return every[kept] @ host.lattice, host.atomic_numbers[atom].astype(np.int64)
