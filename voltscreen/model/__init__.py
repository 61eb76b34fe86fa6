"""The network: CGCNN trunk, ion heads, local voltages, uncertainty, saving and loading.

What needs torch is imported when it is first asked for: listing models and reading a card must
not wait two seconds for it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from voltscreen.model.card import ModelCard
from voltscreen.model.catalog import available_models, model_path, read_card

if TYPE_CHECKING:
    from voltscreen.model.files import (
        load_model,
        model_from_bytes,
        model_to_bytes,
        save_model,
        whole_file,
    )
    from voltscreen.model.predictor import (
        CandidatePrediction,
        IonPrediction,
        PredictionColumns,
        predict_candidates,
        predict_columns,
    )
    from voltscreen.model.voltage_model import VoltageModel

__all__ = [
    "CandidatePrediction",
    "IonPrediction",
    "ModelCard",
    "PredictionColumns",
    "VoltageModel",
    "available_models",
    "load_model",
    "model_from_bytes",
    "model_path",
    "model_to_bytes",
    "predict_candidates",
    "predict_columns",
    "read_card",
    "save_model",
    "whole_file",
]

_MODULES = {
    "files": ("load_model", "model_from_bytes", "model_to_bytes", "save_model", "whole_file"),
    "predictor": (
        "CandidatePrediction",
        "IonPrediction",
        "PredictionColumns",
        "predict_candidates",
        "predict_columns",
    ),
    "voltage_model": ("VoltageModel",),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
