"""The nearest training host of a training host is itself, by its own name."""

from __future__ import annotations

from tests.model.helpers import random_crystal, small_model
from voltscreen.model import load_model
from voltscreen.model.training_hosts import nearest_training_hosts
from voltscreen.train.dataset import load_electrodes


def test_a_training_host_is_nearest_to_itself(shared_data) -> None:
    data = load_electrodes(shared_data)
    model = load_model("default")
    chosen = [7, 1234, 3210]
    found = nearest_training_hosts(model, [data.hosts[i] for i in chosen], 3)
    for host, near in zip(chosen, found, strict=True):
        assert near[0].host_id == data.host_ids[host]
        assert near[0].formula == data.hosts[host].formula
        # Training hosts are stored in steps of eight bits.
        assert near[0].distance < 0.02 < near[1].distance <= near[2].distance
        rows = data.host_of_row == host
        assert set(near[0].ions) == set(data.ion[rows])


def test_a_model_without_named_hosts_has_none() -> None:
    assert nearest_training_hosts(small_model(), [random_crystal(0)]) == [[]]
