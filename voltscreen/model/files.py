"""Models as files: safetensors with the card and the rules of the graphs in the header."""

from __future__ import annotations

import json
import os
import re
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from voltscreen.errors import ModelError
from voltscreen.graph import GRAPH_SPECS
from voltscreen.model.card import ModelCard
from voltscreen.model.element_table import ElementTable
from voltscreen.model.heads import IonHeads
from voltscreen.model.local_voltage import LinearLocal
from voltscreen.model.trunk import Trunk
from voltscreen.model.uncertainty import Domain, Intervals
from voltscreen.model.voltage_model import VoltageModel
from voltscreen.settings import settings

FORMAT = "voltscreen-model-1"
SUFFIX = ".safetensors"
NAME_PATTERN = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,60}$")


def model_to_bytes(model: VoltageModel) -> bytes:
    """The model as the content of a `.safetensors` file."""
    header = {
        "format": FORMAT,
        "id": model.id,
        "graph_spec": model.graph_spec.name,
        "ions": json.dumps(model.ions),
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
        if header.get("format") != FORMAT:
            raise ModelError(
                f"{origin} is not a model of this version of voltscreen "
                f"(format {header.get('format')!r}, expected {FORMAT!r})"
            )
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


def read_card(name_or_path: str) -> tuple[str, ModelCard]:
    """Id and card of a model, without building the network."""
    path = model_path(name_or_path)
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
        return header["id"], ModelCard.model_validate_json(header["card"])
    except (OSError, SafetensorError, KeyError, ValidationError) as error:
        raise ModelError(f"{path} is not a voltscreen model or is damaged: {error}") from None


def model_path(name_or_path: str) -> Path:
    """The file of a model: a path, a user's model or a shipped one, in this order.

    Raises:
        ModelError: there is none; lists those there are.
    """
    if name_or_path.endswith(SUFFIX):
        path = Path(name_or_path).expanduser()
        if path.exists():
            return path
        raise ModelError(f"there is no model file {path}")
    known = available_models()
    if name_or_path not in known:
        raise ModelError(
            f"there is no model {name_or_path!r}: choose from {', '.join(known)}, "
            "give a .safetensors file, or import one with `voltscreen model import`"
        )
    return known[name_or_path]


def available_models() -> dict[str, Path]:
    """Files of the shipped and the user's models by name."""
    with resources.as_file(resources.files("voltscreen.model") / "weights") as shipped:
        folders = (shipped, user_models())
    return {path.stem: path for folder in folders for path in sorted(folder.glob(f"*{SUFFIX}"))}


def user_models() -> Path:
    """Where imported and trained models are kept."""
    return settings().home / "models"


def user_model_path(name: str) -> Path:
    """The file of a user's model of that name.

    Raises:
        ModelError: not a name that can be a file's.
    """
    if not NAME_PATTERN.match(name):
        raise ModelError(
            f"{name!r} cannot be a model's name: use letters, digits, dot, dash and underscore"
        )
    return user_models() / f"{name}{SUFFIX}"


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
        if not key.startswith(("trunk.", "heads."))
    }
    ions: tuple[str, ...] = tuple(json.loads(header["ions"]))
    graph_spec = GRAPH_SPECS[header["graph_spec"]]
    features = torch.from_numpy(arrays["element_table.features"])
    trunk = Trunk(features, graph_spec)
    trunk.load_state_dict(_part(tensors, "trunk."))
    heads = IonHeads(len(ions)).double()
    heads.load_state_dict(_part(tensors, "heads."))
    return VoltageModel(
        name=json.loads(header["card"])["name"],
        ions=ions,
        graph_spec=graph_spec,
        table=ElementTable(features.numpy(), arrays["element_table.known"].astype(np.bool_)),
        trunk=trunk.eval().requires_grad_(False),
        heads=heads.eval().requires_grad_(False),
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
    if "intervals.sd" not in arrays:
        return None
    return Intervals(arrays["intervals.sd"], arrays["intervals.half90"])


def _domain(arrays: dict[str, NDArray[Any]]) -> Domain | None:
    if "domain.hosts" not in arrays:
        return None
    return Domain(
        center=arrays["domain.center"],
        spread=arrays["domain.spread"],
        hosts=arrays["domain.hosts"],
        trained_on=arrays["domain.trained_on"].astype(np.bool_),
        percentiles=arrays["domain.percentiles"],
    )
