"""Write ids and formulas of the training hosts beside the shipped weights.

    python training/name_hosts.py ../shared/data

They are in the order of the hosts inside the model files, which the hash of the data in the first
line ties them to.
"""

from __future__ import annotations

import sys
from pathlib import Path

from voltscreen.model import read_card
from voltscreen.model.training_hosts import names_file
from voltscreen.train.dataset import load_electrodes

if __name__ == "__main__":
    data = load_electrodes(Path(sys.argv[1]))
    _, card = read_card("default")
    if card.data is None or card.data.sha256 != data.sha256:
        raise SystemExit("the default model was not trained on these electrodes")
    lines = [f"{key},{host.formula}" for key, host in zip(data.host_ids, data.hosts, strict=True)]
    output = names_file()
    output.write_text("\n".join([data.sha256, *lines]) + "\n", encoding="utf-8")
    sys.stdout.write(f"{len(lines)} hosts in {output}\n")
