"""Where the network runs: the device and threads of the settings."""

from __future__ import annotations

import torch

from voltscreen.errors import ModelError
from voltscreen.model.voltage_model import VoltageModel
from voltscreen.settings import settings


def prepare(model: VoltageModel) -> VoltageModel:
    """The model on the device of the settings, with their number of CPU threads."""
    torch.set_num_threads(settings().threads)
    return model.to(choose_device(settings().device))


def choose_device(name: str) -> torch.device:
    """`auto` is a GPU if there is one.

    Raises:
        ModelError: a GPU is asked for and torch sees none of that number.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ModelError(
            f"device {name} is not there (torch sees {torch.cuda.device_count()} GPUs): "
            "set VOLTSCREEN_DEVICE to auto or cpu"
        )
    return device
