"""Models as files: safetensors with the card and the rules of the graphs in the header."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from voltscreen.errors import ModelError
from voltscreen.graph import GRAPH_SPECS
from voltscreen.model.branches import MeanReadout, Trunks
from voltscreen.model.card import ModelCard
from voltscreen.model.catalog import FORMAT, model_path, named, refuse_other_format
from voltscreen.model.conditioned import IonConditionedReadout
from voltscreen.model.element_table import ElementTable
from voltscreen.model.heads import IonHeads
from voltscreen.model.local_voltage import LinearLocal
from voltscreen.model.process import ProcessReadout
from voltscreen.model.readout import Readout
from voltscreen.model.trunk import Trunk
from voltscreen.model.uncertainty import Domain, Intervals
from voltscreen.model.voltage_model import VoltageModel

_BORROWED = "borrowed"
"""In the header: tensors that another model's file holds, and the name of that file."""


def _process(ions: tuple[str, ...], tensors: dict[str, Tensor]) -> ProcessReadout:
    return ProcessReadout(ions, len(tensors["hosts"]), len(tensors["host_of_row"]))


_READOUTS: dict[str, Callable[[tuple[str, ...], dict[str, Tensor]], Readout]] = {
    "ion-heads": lambda ions, _: IonHeads(len(ions)),
    "ion-conditioned": lambda ions, _: IonConditionedReadout(ions),
    "process": _process,
}
_NAMES: dict[type[nn.Module], str] = {
    IonHeads: "ion-heads",
    IonConditionedReadout: "ion-conditioned",
    ProcessReadout: "process",
}


def _name_of(readout: Readout) -> str:
    """That of the readout; of several side by side, theirs joined by plus signs."""
    if isinstance(readout, MeanReadout):
        return "+".join(_NAMES[type(part)] for part in readout.parts)
    return _NAMES[type(readout)]


def model_to_bytes(model: VoltageModel, lender: Path | None = None) -> bytes:
    """The model as the content of a `.safetensors` file.

    Args:
        lender: a model's file in the same folder: tensors that it holds, too, are left out.
    """
    header = {
        "format": FORMAT,
        "id": model.id,
        "graph_spec": model.graph_spec.name,
        "ions": json.dumps(model.ions),
        "readout": _name_of(model.readout),
        "edge_norm": json.dumps(model.trunk.edge_norm),
        "card": model.card.model_dump_json(),
    }
    tensors = model.tensors()
    if lender is not None:
        lent = {_content(tensor): name for name, tensor in load(lender.read_bytes()).items()}
        borrowed = {
            name: lent[content]
            for name, tensor in tensors.items()
            if (content := _content(tensor)) in lent
        }
        header[_BORROWED] = json.dumps({"file": lender.name, "tensors": borrowed})
        tensors = {name: t for name, t in tensors.items() if name not in borrowed}
    return bytes(save(tensors, metadata=header))


def _content(tensor: Tensor) -> tuple[str, tuple[int, ...], bytes]:
    return str(tensor.dtype), tuple(tensor.shape), tensor.numpy().tobytes()


def model_from_bytes(data: bytes, origin: str, folder: Path | None = None) -> VoltageModel:
    """The inverse of `model_to_bytes`; `origin` names the data in errors.

    Args:
        folder: where the file lies from which it borrows tensors, if it does.

    Raises:
        ModelError: damaged, of another format, or its content does not match its id.
    """
    try:
        header = _header(data)
        refuse_other_format(header, origin)
        tensors = load(data)
        if _BORROWED in header:
            tensors |= _borrowed(json.loads(header[_BORROWED]), origin, folder)
        model = _assemble(header, tensors)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ModelError(f"{origin} is not a voltscreen model or is damaged: {error}") from None
    if model.id != header["id"]:
        raise ModelError(
            f"{origin} is damaged: its weights and element table do not match its id "
            f"{header['id']}; fetch it again"
        )
    return model


def _borrowed(wanted: dict[str, Any], origin: str, folder: Path | None) -> dict[str, Tensor]:
    """Tensors of the lender's file, under the borrower's names."""
    path = (folder or Path()) / wanted["file"]
    if not path.exists():
        raise ModelError(f"{origin} needs the model file {wanted['file']} beside it")
    lent = load(path.read_bytes())
    return {name: lent[other] for name, other in wanted["tensors"].items()}


def load_model(name_or_path: str) -> VoltageModel:
    """A model by name (`default`, or one that was imported or trained) or by file.

    Raises:
        ModelError: there is none, or the file is damaged.
    """
    path = model_path(name_or_path)
    try:
        model = model_from_bytes(path.read_bytes(), str(path), path.parent)
        return replace(model, name=path.stem, card=named(model.card, path))
    except OSError as error:
        raise ModelError(f"cannot read the model file {path}: {error.strerror}") from None


def whole_file(name_or_path: str) -> bytes:
    """The content of a model's file, with what it borrows from another one."""
    path = model_path(name_or_path)
    data = path.read_bytes()
    return model_to_bytes(load_model(str(path))) if _BORROWED in _header(data) else data


def save_model(model: VoltageModel, path: Path, lender: Path | None = None) -> None:
    """Write a model file; a reader never sees half of it. `lender`: see `model_to_bytes`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.part")
    partial.write_bytes(model_to_bytes(model, lender))
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
    kinds, edge_norm = header["readout"].split("+"), json.loads(header["edge_norm"])
    trunks = [Trunk(features, graph_spec, edge_norm=edge_norm) for _ in kinds]
    trunk = trunks[0] if len(kinds) == 1 else Trunks(trunks)
    trunk.load_state_dict(_part(tensors, "trunk."))
    state = _part(tensors, "readout.")
    if len(kinds) == 1:
        readout = _READOUTS[kinds[0]](ions, state)
    else:
        parts = [_READOUTS[k](ions, _part(state, f"parts.{i}.")) for i, k in enumerate(kinds)]
        readout = MeanReadout(parts)
    readout = readout.double()
    readout.load_state_dict(state)
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
        domain=_domain(arrays, readout),
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


def _domain(arrays: dict[str, NDArray[Any]], readout: Readout) -> Domain | None:
    found = _below("domain.", arrays)
    if found and readout.training_hosts is not None:
        found["hosts"] = readout.training_hosts
    return Domain.from_arrays(found) if found else None


def _below(prefix: str, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The arrays whose names begin so, without it."""
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
