"""The network: CGCNN trunk, ion heads, local voltages, uncertainty, saving and loading."""

from voltscreen.model.files import (
    available_models,
    load_model,
    model_from_bytes,
    model_to_bytes,
    read_card,
    save_model,
)
from voltscreen.model.predictor import CandidatePrediction, IonPrediction, predict_candidates
from voltscreen.model.voltage_model import VoltageModel

__all__ = [
    "CandidatePrediction",
    "IonPrediction",
    "VoltageModel",
    "available_models",
    "load_model",
    "model_from_bytes",
    "model_to_bytes",
    "predict_candidates",
    "read_card",
    "save_model",
]
