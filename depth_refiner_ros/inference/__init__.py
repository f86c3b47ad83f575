"""Learned models: one protocol, several back ends that are imported only when they are used.

    model = load_model('depth_small')
    outputs = model(depth_m=depth_m, color=color)

A model is an ONNX file that takes and returns metres; all pre-processing is inside its graph.
"""

from __future__ import annotations

from .description import ModelDescription
from .guarded import ChosenModel, GuardedModel, Inference
from .held import HeldModel
from .loading import BACK_ENDS, is_any_installed, load_model
from .model import Model, ModelError, shipped_models
from .onnx_file import ModelMetadata, OnnxFile, read_onnx
from .parity import ParityReport, check_parity

__all__ = [
    'BACK_ENDS',
    'ChosenModel',
    'GuardedModel',
    'HeldModel',
    'Inference',
    'Model',
    'ModelDescription',
    'ModelError',
    'ModelMetadata',
    'OnnxFile',
    'ParityReport',
    'check_parity',
    'is_any_installed',
    'load_model',
    'read_onnx',
    'shipped_models',
]
