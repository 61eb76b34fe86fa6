"""Import of the paper's released checkpoints (CGCNN `.pth.tar` files).

Layout of the original code: `state_dict` (embedding, convs, conv_to_fc, fc_out) and
`normalizer` {mean, std}. Read with torch's weights-only loader, which builds tensors and plain
containers and refuses anything else, so a file cannot run code.
"""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from voltscreen import __version__
from voltscreen.errors import ModelError
from voltscreen.graph import PAPER
from voltscreen.ions import working_ion
from voltscreen.model.card import ModelCard
from voltscreen.model.element_table import ElementTable
from voltscreen.model.heads import IonHeads
from voltscreen.model.trunk import N_CONVOLUTIONS, N_FEATURES, Trunk
from voltscreen.model.voltage_model import VoltageModel


def import_checkpoint(path: Path, table: ElementTable, ion: str, name: str) -> VoltageModel:
    """A paper's checkpoint as a model for one ion, on the graphs it was made for.

    Args:
        path: the `.pth.tar` file. table: the element table it was trained with.
        ion: the working ion it predicts; the file does not say. name: of the new model.

    Raises:
        ModelError: not such a checkpoint, unsafe, or it does not fit network or table.
    """
    working_ion(ion)
    state, mean, std = _read(path)
    embedding = state.get("embedding.weight")
    if embedding is None or embedding.shape[1] != table.features.shape[1]:
        width = "no" if embedding is None else embedding.shape[1]
        raise ModelError(
            f"{path}: the network takes {width} numbers an element, "
            f"the element table has {table.features.shape[1]}"
        )
    n_convolutions = len({key.split(".")[1] for key in state if key.startswith("convs.")})
    if n_convolutions != N_CONVOLUTIONS or any(key.startswith("fcs.") for key in state):
        raise ModelError(
            f"{path}: {n_convolutions} convolutions with extra hidden layers or not, expected "
            f"{N_CONVOLUTIONS} convolutions and one hidden layer (the paper's network)"
        )
    trunk = Trunk(torch.from_numpy(table.features), PAPER)
    heads = IonHeads(1).double()
    try:
        trunk.load_state_dict(
            {key: value for key, value in state.items() if key.startswith(("embedding", "convs"))}
        )
        heads.load_state_dict(
            {
                "w1": state["conv_to_fc.weight"].T[None],
                "b1": state["conv_to_fc.bias"][None],
                "w2": state["fc_out.weight"],
                "b2": state["fc_out.bias"],
                "mean": mean.reshape(1),
                "scale": std.reshape(1),
            }
        )
    except (KeyError, RuntimeError) as error:
        raise ModelError(f"{path} does not fit the paper's network: {error}") from None
    trunk.eval().requires_grad_(False)
    return VoltageModel(
        name=name,
        ions=(ion,),
        graph_spec=PAPER,
        table=table,
        trunk=trunk,
        readout=heads.eval().requires_grad_(False),
        # Features after a softplus are positive: zero is a host whose every feature is off.
        baseline=np.zeros(N_FEATURES),
        linear=None,
        intervals=None,
        domain=None,
        card=_card(path, table, ion, name),
    )


def _read(path: Path) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        state = {str(key): value for key, value in checkpoint["state_dict"].items()}
        normalizer = checkpoint["normalizer"]
        mean, std = normalizer["mean"], normalizer["std"]
        if not all(isinstance(value, Tensor) for value in (mean, std, *state.values())):
            raise TypeError("weights or normalizer are not tensors")
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from None
    except pickle.UnpicklingError:
        raise ModelError(
            f"{path} holds more than tensors and plain values: it is not read, because "
            "unpickling it could run code"
        ) from None
    except Exception as error:  # noqa: BLE001 - the loader of foreign bytes raises anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(f"{path} is not a CGCNN checkpoint: {reason}") from None
    return state, mean, std


def _card(path: Path, table: ElementTable, ion: str, name: str) -> ModelCard:
    return ModelCard(
        name=name,
        description=f"The paper's released network for {ion}, imported from {path.name}",
        created=datetime.now(UTC).date().isoformat(),
        recipe="Zhang, Zhou, Lu, Shen, Interpretable learning of voltage for electrode design of "
        "multivalent metal-ion batteries; weights as released, nothing refitted",
        ions=[ion],
        graph_spec=PAPER.name,
        element_table_hash=table.hash,
        host_state="as_given: the paper fed the charged structure with any ion left in it",
        intervals="none: the released file has no held-out errors",
        local_voltages="additive counts from the zero vector of pooled features; no linear "
        "ones, because they are fitted to labels; site is 0",
        intended_use="comparison with the paper",
        limits=[
            "the paper's test rows chose the epoch and its labels were trimmed before splitting",
            "wrong by more than a volt on hosts that are new since then",
        ],
        command=f"voltscreen model import {path.name} --ion {ion} --name {name}",
        versions={"voltscreen": __version__, "torch": str(torch.__version__)},
    )
