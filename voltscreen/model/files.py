"""Models as files: safetensors with the card and the rules of the graphs in the header."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from voltscreen.errors import ModelError
from voltscreen.graph import GRAPH_SPECS
from voltscreen.model.card import ModelCard
from voltscreen.model.catalog import FORMAT, model_path, refuse_other_format
from voltscreen.model.conditioned import IonConditionedReadout
from voltscreen.model.element_table import ElementTable
from voltscreen.model.heads import IonHeads
from voltscreen.model.local_voltage import LinearLocal
from voltscreen.model.readout import Readout
from voltscreen.model.trunk import Trunk
from voltscreen.model.uncertainty import Domain, Intervals
from voltscreen.model.voltage_model import VoltageModel

_READOUTS: dict[str, Callable[[tuple[str, ...]], Readout]] = {
    "ion-heads": lambda ions: IonHeads(len(ions)),
    "ion-conditioned": IonConditionedReadout,
}


def _name_of(readout: Readout) -> str:
    return "ion-heads" if isinstance(readout, IonHeads) else "ion-conditioned"


def model_to_bytes(model: VoltageModel) -> bytes:
    """The model as the content of a `.safetensors` file."""
    header = {
        "format": FORMAT,
        "id": model.id,
        "graph_spec": model.graph_spec.name,
        "ions": json.dumps(model.ions),
        "readout": _name_of(model.readout),
        "edge_norm": json.dumps(model.trunk.edge_norm),
        "card": model.card.model_dump_json(),
    }
    return bytes(save(model.tensors(), metadata=header))


def model_from_bytes(data: bytes, origin: str) -> VoltageModel:
    """The inverse of `model_to_bytes`; `origin` names the data in errors.

    Raises:
        ModelError: damaged, of another format, or its content does not match its id.
    """
    try:
        header = _header(data)
        refuse_other_format(header, origin)
        model = _assemble(header, load(data))
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ModelError(f"{origin} is not a voltscreen model or is damaged: {error}") from None
    if model.id != header["id"]:
        raise ModelError(
            f"{origin} is damaged: its weights and element table do not match its id "
            f"{header['id']}; fetch it again"
        )
    return model


def load_model(name_or_path: str) -> VoltageModel:
    """A model by name (`default`, or one that was imported or trained) or by file.

    Raises:
        ModelError: there is none, or the file is damaged.
    """
    path = model_path(name_or_path)
    try:
        return model_from_bytes(path.read_bytes(), str(path))
    except OSError as error:
        raise ModelError(f"cannot read the model file {path}: {error.strerror}") from None


def save_model(model: VoltageModel, path: Path) -> None:
    """Write a model file; a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.part")
    partial.write_bytes(model_to_bytes(model))
    partial.replace(path)


def _header(data: bytes) -> dict[str, str]:
    """The metadata of safetensors bytes (its load function for bytes does not return them)."""
    if len(data) < 8:
        raise ValueError("too short")
    length = int.from_bytes(data[:8], "little")
    if length > len(data) - 8:
        raise ValueError("truncated header")
    header: dict[str, Any] = json.loads(data[8 : 8 + length])
    return dict(header.get("__metadata__", {}))


def _assemble(header: dict[str, str], tensors: dict[str, Tensor]) -> VoltageModel:
    arrays = {
        key: tensor.numpy()
        for key, tensor in tensors.items()
        if not key.startswith(("trunk.", "readout."))
    }
    ions: tuple[str, ...] = tuple(json.loads(header["ions"]))
    graph_spec = GRAPH_SPECS[header["graph_spec"]]
    features = torch.from_numpy(arrays["element_table.features"])
    trunk = Trunk(features, graph_spec, edge_norm=json.loads(header["edge_norm"]))
    trunk.load_state_dict(_part(tensors, "trunk."))
    readout = _READOUTS[header["readout"]](ions).double()
    readout.load_state_dict(_part(tensors, "readout."))
    return VoltageModel(
        name=json.loads(header["card"])["name"],
        ions=ions,
        graph_spec=graph_spec,
        table=ElementTable(features.numpy(), arrays["element_table.known"].astype(np.bool_)),
        trunk=trunk.eval().requires_grad_(False),
        readout=readout.eval().requires_grad_(False),
        baseline=arrays["baseline"],
        linear=_linear(arrays),
        intervals=_intervals(arrays),
        domain=_domain(arrays),
        card=ModelCard.model_validate_json(header["card"]),
    )


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}


def _linear(arrays: dict[str, NDArray[Any]]) -> LinearLocal | None:
    if "linear.weights" not in arrays:
        return None
    ridge = float(arrays["linear.ridge"][0])
    return LinearLocal(arrays["linear.weights"], arrays["linear.bias"], ridge)


def _intervals(arrays: dict[str, NDArray[Any]]) -> Intervals | None:
    found = _below("intervals.", arrays)
    return Intervals(**found) if found else None


def _domain(arrays: dict[str, NDArray[Any]]) -> Domain | None:
    found = _below("domain.", arrays)
    return Domain.from_arrays(found) if found else None


def _below(prefix: str, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The arrays whose names begin so, without it."""
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
