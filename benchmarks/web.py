"""How long the page lets a person wait: upload to voltage, pages of a ranking of 150,000.

    python benchmarks/web.py --rows 150000

Starts `voltscreen serve` on a database of its own, with a ranking of that many made-up candidates
(real formulas of the known hosts, drawn voltages and capacities), and asks over HTTP. The first
upload is the first request that the server gets.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

QUESTIONS = {
    "first page": "",
    "page 2,000": "skip=100000",
    "voltage window": "min_voltage=2&max_voltage=3",
    "elements": "elements=Mn&elements=O",
    "sorted by capacity": "sort=capacity&descending=true",
    "sorted by formula": "sort=formula",
    "six filters, sorted": (
        "min_voltage=2&max_interval_width=1.5&max_out_of_domain=90&min_capacity=200"
        "&exclude_elements=Pb&max_sites=40&sort=voltage&descending=true"
    ),
    "Pareto front": "pareto=true",
}


def fill(rows: int, ions: tuple[str, ...] = ("Mg",)) -> str:
    """A finished campaign with a ranking of so many candidates; its name."""
    import numpy as np

    from voltscreen.sources.hosts import read_hosts, select_hosts
    from voltscreen.store import connect
    from voltscreen.store.documents import CampaignDocument, CampaignState, RankingDocument
    from voltscreen.store.ranking_columns import put_columns
    from voltscreen.store.structures import ingest, structure_id

    draw = np.random.default_rng(0)
    with connect() as store:
        hosts = list(read_hosts(select_hosts("all")))
        for _ in ingest(store, hosts):
            pass
        counts = {"structures": rows, "predicted": rows, "failed": 0}
        spec = {"name": "bench", "ions": list(ions), "source": {"hosts": "all"}}
        store.campaigns.insert_one(
            CampaignDocument(
                id="bench", spec=spec, spec_hash="x", model_id="m", counts=counts,
                state=CampaignState.DONE,
            ).to_mongo()
        )  # fmt: skip
        for ion in ions:
            voltage, capacity = draw.normal(2, 1, rows), draw.gamma(4, 50, rows)
            order = np.argsort(-voltage * capacity)
            documents = []
            for rank, i in enumerate(order, start=1):
                host = hosts[i % len(hosts)]
                documents.append(
                    RankingDocument(
                        id=f"bench:{ion}:{rank}", campaign="bench", ion=ion, rank=rank,
                        structure_id=structure_id(host), model_id="m",
                        formula=host.structure.formula, pareto=rank % 5000 == 1,
                        chemsys="-".join(sorted(host.structure.element_counts)),
                        elements=sorted(host.structure.element_counts),
                        nsites=len(host.structure), voltage=voltage[i], sd=0.3,
                        lo90=voltage[i] - 0.5, hi90=voltage[i] + 0.5,
                        out_of_domain=float(draw.uniform(0, 100)), capacity=capacity[i],
                        energy_density=voltage[i] * capacity[i], score=voltage[i] * capacity[i],
                    ).to_mongo()
                )  # fmt: skip
            for start in range(0, rows, 1000):
                store.rankings.insert_many(documents[start : start + 1000], ordered=False)
            put_columns(store, "bench", ion, documents)
    return "bench"


def measure(address: str, campaign: str, repeats: int) -> list[dict[str, object]]:
    """Latencies in ms: the first upload, later ones, and the pages and API of the ranking."""
    import httpx

    results: list[dict[str, object]] = []
    with httpx.Client(base_url=address, timeout=120) as client:

        def timed(what: str, ask: object, times: int) -> None:
            taken = []
            for _ in range(times):
                started = time.perf_counter()
                answer = ask()  # type: ignore[operator]
                taken.append(1000 * (time.perf_counter() - started))
                if answer.status_code != 200:
                    raise SystemExit(f"{what}: {answer.status_code} {answer.text[:300]}")
            middle = sorted(taken)[len(taken) // 2]
            results.append({"what": what, "first_ms": round(taken[0]), "median_ms": round(middle)})

        def upload(path: str) -> object:
            return client.post(path, files={"file": ("x.cif", cif)}, data={"ions": ["Mg", "Zn"]})

        cif = _cif()
        timed("upload to page with voltages, first request", lambda: upload("/predict"), 1)
        timed("upload to page with voltages", lambda: upload("/predict"), repeats)
        timed("upload to JSON", lambda: upload("/api/predict"), repeats)
        for name, question in QUESTIONS.items():
            api = f"/api/campaigns/{campaign}/results/Mg?{question}"
            timed(f"API, {name}", lambda api=api: client.get(api), repeats)
        timed(
            "page of the campaign with plot",
            lambda: client.get(f"/campaigns/{campaign}/Mg"),
            repeats,
        )
    return results


def _cif() -> str:
    from pymatgen.io.cif import CifWriter

    from voltscreen.sources.known_hosts import known_hosts

    host = next(host for host in known_hosts() if host.name == "v2o5-alpha")
    return str(CifWriter(host.structure()))


def main() -> None:
    """Fill, serve, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=150_000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["VOLTSCREEN_HOME"] = home
        campaign = fill(options.rows)
        serve = [sys.executable, "-m", "voltscreen", "serve", "--port", "0"]
        started = time.perf_counter()
        with subprocess.Popen(serve, stderr=subprocess.PIPE, text=True) as server:
            try:
                found = re.search(r"http://[\d.:]+", server.stderr.readline())
                _wait_until_ready(found[0])
                ready = time.perf_counter() - started
                results = measure(found[0], campaign, options.repeats)
            finally:
                server.terminate()
                server.wait()
                subprocess.run([sys.executable, "-m", "voltscreen", "db", "stop"], check=True)
    print(f"{options.rows:,} candidates; the server was ready {ready:.1f} s after its start")
    print(f"{'what':46} {'first':>8} {'median':>8}   ms")
    for row in results:
        print(f"{row['what']:46} {row['first_ms']:>8} {row['median_ms']:>8}")
    if options.csv:
        with options.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["what", "first_ms", "median_ms"])
            writer.writeheader()
            writer.writerows(results)


def _wait_until_ready(address: str) -> None:
    """Wait for the model without asking it anything: the first upload shall be the first."""
    import httpx

    while True:
        try:
            if httpx.get(f"{address}/api/health", timeout=5).json()["model_ready"]:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)


if __name__ == "__main__":
    main()
