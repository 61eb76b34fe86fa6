"""Serve the stand-in until Ctrl-C, to try `voltscreen ingest mp` without a key or a network."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

from tests.conftest import REPOSITORY
from tests.mp_stand_in.records import generated, real_electrodes, real_materials
from tests.mp_stand_in.server import KEY, StandIn


def main() -> None:
    """Fill the stand-in, print the two variables that point the client to it, and wait."""
    parser = argparse.ArgumentParser(prog="python -m tests.mp_stand_in", description=__doc__)
    parser.add_argument("--count", type=int, default=5000, help="structures to serve")
    parser.add_argument(
        "--data",
        type=Path,
        default=REPOSITORY.parent / "shared" / "data",
        help="folder with mp_pool.parquet, mp_stability_2020.csv and electrodes.csv; generated "
        "oxides are served where it is absent",
    )
    options = parser.parse_args()
    real = options.data.is_dir()
    served = StandIn(
        materials=real_materials(options.data, options.count) if real else generated(options.count),
        electrodes=real_electrodes(options.data) if real else [],
    )
    with served:
        print(
            f"Serving {len(served.materials):,} structures and {len(served.electrodes):,} "
            f"electrodes. In another terminal:\n"
            f"  export MP_API_ENDPOINT={served.endpoint} MP_API_KEY={KEY}",
            flush=True,
        )
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    main()
