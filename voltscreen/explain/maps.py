"""Maps of environments: the last convolution's vectors on a plane (the paper's Fig. 3b and S2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voltscreen.explain.environments import N_BAGS
from voltscreen.explain.statistics import Definition, Environment
from voltscreen.model import VoltageModel
from voltscreen.model.vectors import atom_vectors
from voltscreen.store import Store, unpack
from voltscreen.store.connection import find_by_ids
from voltscreen.store.documents import StructureDocument
from voltscreen.structures import PackedStructure, make_host

MAX_HOSTS = 6000
"""Hosts that sites are drawn from."""
PERPLEXITY = 30.0


@dataclass(frozen=True, eq=False)
class EnvironmentMap:
    """Sites on the plane. n sites.

    symbols: n elements. formulas: n, of the host. voltage: (n,) local voltage, V.
    pca, tsne: (n, 2). explained: (2,) share of the variance on the principal components.
    r2: share of the local voltage's variance that a plane over the two components explains;
    direction: (2,) unit vector of its steepest rise on `pca`.
    """

    symbols: list[str]
    formulas: list[str]
    voltage: NDArray[np.float64]
    pca: NDArray[np.float64]
    tsne: NDArray[np.float64]
    explained: NDArray[np.float64]
    r2: float
    direction: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Site:
    structure_id: str
    formula: str
    index: int
    element: str
    voltage: float


def map_environments(
    store: Store,
    campaign: str,
    ion: str,
    model: VoltageModel,
    definition: Definition,
    environment: Environment,
    per_element: int,
) -> EnvironmentMap:
    """Sites drawn at random, at most so many of an element, on PCA and t-SNE.

    Args:
        campaign: one whose sites are on record (`ensure_environments`).
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    drawn = _draw(store, campaign, ion, model.id, definition, environment, per_element)
    vectors, sites = _vectors(store, drawn, ion, model)
    voltage = np.array([site.voltage for site in sites])
    pca = PCA(n_components=2).fit(vectors)
    plane = pca.transform(vectors)
    tsne = TSNE(
        perplexity=min(PERPLEXITY, (len(vectors) - 1) / 3), init="pca", random_state=0
    ).fit_transform(vectors)
    slope, r2 = _slope(plane, voltage)
    return EnvironmentMap(
        symbols=[site.element for site in sites],
        formulas=[site.formula for site in sites],
        voltage=voltage,
        pca=plane,
        tsne=tsne.astype(np.float64),
        explained=pca.explained_variance_ratio_,
        r2=r2,
        direction=slope / max(float(np.linalg.norm(slope)), 1e-12),
    )


def _slope(
    plane: NDArray[np.float64], voltage: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Slope of the voltage over the plane by least squares, and the share it explains."""
    design = np.column_stack((plane, np.ones(len(plane))))
    solution, *_ = np.linalg.lstsq(design, voltage, rcond=None)
    rest = voltage - design @ solution
    return np.asarray(solution[:2], np.float64), float(1 - rest.var() / max(voltage.var(), 1e-12))


def _draw(
    store: Store,
    campaign: str,
    ion: str,
    model_id: str,
    definition: Definition,
    environment: Environment,
    per_element: int,
) -> list[_Site]:
    """One site of every group of like sites, shuffled, at most so many of an element."""
    found: list[_Site] = []
    hosts = 0
    for bag in range(N_BAGS):
        rows = store.environments.find(
            {"campaigns": campaign, "ion": ion, "model_id": model_id, "bag": bag},
            {"structure_id": 1, "formula": 1, "sites": 1},
        )
        for row in rows:
            hosts += 1
            for group in row["sites"]:
                inside = all(group[k] == v for k, v in environment.condition.items())
                if inside and definition in group:
                    found.append(
                        _Site(row["structure_id"], row["formula"], group["sites"][0],
                              group["element"], group[definition])
                    )  # fmt: skip
        if hosts >= MAX_HOSTS:
            break
    counts: dict[str, int] = {}
    chosen = []
    for place in np.random.default_rng(0).permutation(len(found)):
        site = found[place]
        if counts.get(site.element, 0) < per_element:
            counts[site.element] = counts.get(site.element, 0) + 1
            chosen.append(site)
    return chosen


def _vectors(
    store: Store, drawn: list[_Site], ion: str, model: VoltageModel
) -> tuple[NDArray[np.float32], list[_Site]]:
    """(n, 64) of the sites whose structure is still there, and these sites."""
    by_host: dict[str, list[_Site]] = {}
    for site in drawn:
        by_host.setdefault(site.structure_id, []).append(site)
    hosts: list[PackedStructure] = []
    sites: list[_Site] = []
    rows: list[int] = []
    atoms = 0
    for row in find_by_ids(store.structures, by_host, ("packed", *_REQUIRED)):
        host = make_host(unpack(StructureDocument.from_mongo(row)), ion).structure
        sites += by_host[row["_id"]]
        rows += [atoms + site.index for site in by_host[row["_id"]]]
        hosts.append(host)
        atoms += len(host)
    return atom_vectors(model, hosts)[rows], sites


_REQUIRED = ("formula", "chemsys", "elements", "element_counts", "nsites", "sources")
"""What a structure's document always has."""
