"""Stages: plain classes from one value per input to one value per output."""

from __future__ import annotations

from ..stage import Stage
from .blur_background import BlurBackground
from .estimate_depth import EstimateDepth
from .inpaint_depth import InpaintDepth
from .project_points import ProjectPoints
from .refine_depth import RefineDepth
from .register_color import RegisterColor
from .register_depth import RegisterDepth
from .track_hands import TrackHands

STAGES: dict[str, type[Stage]] = {
    'register_depth': RegisterDepth,
    'register_color': RegisterColor,
    'refine_depth': RefineDepth,
    'inpaint_depth': InpaintDepth,
    'estimate_depth': EstimateDepth,
    'track_hands': TrackHands,
    'project_points': ProjectPoints,
    'blur_background': BlurBackground,
}
"""Every stage by the name that hosts, parameter files and the command line use."""
