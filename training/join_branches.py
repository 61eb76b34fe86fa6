"""Put `default` together anew from the shipped `single`, without training a network.

    python training/join_branches.py ../shared/data --workers 2

Fits the Gaussian process on the frozen pre-trained trunk on every fold of every rung (a stopped
run goes on), joins it with the held-out predictions that are stored for `single`, and writes both
models and their predictions in place of the shipped ones. What of `single` follows from graphs
alone (its baseline, linear local voltages, and where it is at home) is computed anew, its weights
and intervals stay. For a change of the process or of the graphs; `make train` trains everything.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from voltscreen.cli.training import PartsBar, training_run
from voltscreen.graph import INSERTION
from voltscreen.model import load_model, save_model
from voltscreen.model.training_hosts import names_file
from voltscreen.model.trunk import N_FEATURES
from voltscreen.model.uncertainty import Domain
from voltscreen.model.voltage_model import VoltageModel
from voltscreen.train.distill import Network
from voltscreen.train.held_out import neighborhood_of
from voltscreen.train.out_of_fold import OutOfFold, store_path
from voltscreen.train.parts import Workshop, fitted_to, make_parts
from voltscreen.train.rungs import parts_of
from voltscreen.train.two_branches import (
    NETWORK_RECIPE,
    PROCESS_RECIPE,
    add_two_branches,
    fit_linear,
    process_key,
    with_process,
)

NOTE = (
    "the file was put together by training/join_branches.py from `single`, its stored held-out "
    "predictions and new processes; the time is that of `single`"
)


def of_these_graphs(single: VoltageModel, shop: Workshop) -> VoltageModel:
    """The same weights, with what follows from the graphs of the labelled hosts."""
    data = shop.data
    network = Network(single.table, INSERTION)
    network.trunk.load_state_dict(single.trunk.state_dict())
    network.readout.load_state_dict(single.readout.state_dict())
    fitted = fitted_to(network.float(), shop.insertion_graphs)
    pooled = fitted.pooled.astype(np.float64)
    if single.domain is None:
        raise SystemExit("`single` came without training data")
    neighborhood = neighborhood_of(data, np.arange(len(data)), fitted)
    return replace(
        single,
        graph_spec=INSERTION,
        baseline=pooled.mean(axis=0),
        linear=fit_linear(data, pooled[:, :N_FEATURES]),
        domain=Domain.of(neighborhood, single.domain.weights),
    )


def main() -> None:
    """Read the arguments, do it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--note", action="append", default=[], help="a limit, for both cards")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    labels, output = Path(__file__).parent, names_file().with_name("default.safetensors")
    beside = output.with_name("single.safetensors")
    run = training_run(
        arguments.data, labels, None, labels / "pretrained.safetensors", arguments.workers
    )
    shop = run.workshop()
    held_out = OutOfFold.read(store_path(output))
    held_out.check(run.data)
    keys = [process_key("all", None)]
    for name in held_out.splits(NETWORK_RECIPE):
        keys += parts_of(PROCESS_RECIPE, shop.splits[name])
    with PartsBar() as bar:
        make_parts(shop, keys, arguments.workers, bar.update)
    add_two_branches(held_out, shop)
    single = load_model("single")
    limits = [*single.card.limits, *arguments.note]
    update = {"graph_spec": INSERTION.name, "limits": limits}
    single = replace(of_these_graphs(single, shop), card=single.card.model_copy(update=update))
    model = with_process(single, shop, held_out, "default")
    card = model.card.model_copy(
        update={
            "limits": [*model.card.limits, NOTE],
            "created": datetime.now(UTC).date().isoformat(),
            "seconds": single.card.seconds,
        }
    )
    save_model(single, beside)
    save_model(replace(model, card=card), output, beside)
    held_out.write(store_path(output), store_path(beside))


if __name__ == "__main__":
    main()
