"""Trained refiners, to be used: exported, loaded, and applied to depth of any training here.

A refiner takes depth crops of hands in the units of `training.synth2real.crops.HandCrops`,
(B, 1, H, W) float32 metres nearer than 2 m as negative numbers, 0 where nothing is, and returns
the like; one of whole frames takes metres, 0 where nothing is. What it makes into a hole is
exactly 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn

from .datasets.hands import BACKGROUND_M, CROP_PX, SIDE_M
from .networks.cyclegan import FRAME_CODE, HAND_CODE, DepthTranslator, Translator
from .networks.simgan import DepthRefiner, GreyRefiner
from .onnx_export import describe, open_onnx, to_onnx

Refiner = Callable[[Tensor], Tensor]
Float32Array = npt.NDArray[np.float32]

INPUT, OUTPUT = 'depth', 'refined'
HANDS, FRAMES, EYES = 'm - 2 m, 0 in holes', 'm, 0 in holes', 'grey, 0 to 1'
"""Units of refiners, as their files state them."""
REFINED_SHARE = 0.5
"""Share of the samples that a refiner measures; models of sensors measure the others."""
_SAME = 0.1
"""Millimetres, or levels of grey."""
_FLIPPED = 1e-4


class Deployed(nn.Module):
    """A refiner of SimGAN as it is used: what it drops is 0.

    Args:
        network: Returns `training.networks.simgan.Refined`.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, depth: Tensor) -> Tensor:
        """Return refined images, (B, 1, H, W)."""
        refined: Tensor = self.network(depth).without_holes()
        return refined


def simgan_refiner(settings: Mapping[str, Any]) -> DepthRefiner | GreyRefiner:
    """Return the untrained network that a run of `training.synth2real.train_simgan` describes."""
    size = {name: settings[name] for name in ('kernel', 'blocks', 'maps', 'direct')}
    if settings['domain'] == 'gaze':
        return GreyRefiner(**size)
    return DepthRefiner(**size, holes=settings['holes'], grain=settings['grain'])


def cyclegan_refiner(settings: Mapping[str, Any]) -> DepthTranslator:
    """Return the untrained translator of `train_cyclegan` from synthetic to real depth."""
    return DepthTranslator(
        Translator(
            FRAME_CODE if settings['shards'] else HAND_CODE,
            width=settings['channels'],
            blocks=settings['blocks'],
            direct=settings['direct'],
        )
    )


def load_refiner(path: Path, unit: str = HANDS) -> Refiner:
    """Return the refiner of a checkpoint of SimGAN or CycleGAN trained here, or of an ONNX file.

    A checkpoint's works on whichever device its input is; SimGAN's has the best weights that were
    validated, CycleGAN's the last. An ONNX file is run on the CPU.

    Args:
        path: Path of the file.
        unit: What it shall take: `HANDS`, `FRAMES` or `EYES`.

    Raises:
        ValueError: If the file is of something else.
    """
    if path.suffix == '.onnx':
        metadata = {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
        units = json.loads(metadata.get('depth_refiner', '{}')).get('units', {})
        _require(path, units.get(INPUT, 'something else'), unit)
        return _exported(path)
    state = torch.load(path, map_location='cpu', weights_only=True)
    network: nn.Module
    if 'refiner' in state:
        _require(path, EYES if state['settings']['domain'] == 'gaze' else HANDS, unit)
        network = simgan_refiner(state['settings'])
        network.load_state_dict(state['best']['weights'] or state['refiner'])
    elif 'translators' in state:
        _require(path, FRAMES if state['settings']['shards'] else HANDS, unit)
        network = cyclegan_refiner(state['settings'])
        of = 'synth2real.'
        network.translator.load_state_dict(
            {k.removeprefix(of): v for k, v in state['translators'].items() if k.startswith(of)}
        )
    else:
        raise ValueError(
            f'{path} has no refiner: give a checkpoint of training.synth2real.train_simgan or '
            'training.synth2real.train_cyclegan, or an ONNX file.'
        )
    deployed = Deployed(network).eval()

    @torch.no_grad()
    def refine(depth: Tensor) -> Tensor:
        refined: Tensor = deployed.to(depth.device)(depth)
        return refined

    return refine


def _require(path: Path, has: str, wanted: str) -> None:
    if has != wanted:
        raise ValueError(f'{path} refines images in {has}; what is refined here is {wanted}.')


def _exported(path: Path) -> Refiner:
    session = open_onnx(path)
    names = [i.name for i in session.get_inputs()], [o.name for o in session.get_outputs()]
    if names != ([INPUT], [OUTPUT]):
        raise ValueError(f'{path} is no refiner: it makes {names[1]} of {names[0]}.')

    def refine(depth: Tensor) -> Tensor:
        (refined,) = session.run([OUTPUT], {INPUT: depth.detach().cpu().numpy()})
        return torch.from_numpy(refined).to(depth.device)

    return refine


def export_refiner(
    network: nn.Module, path: Path, images: Tensor, metadata: Mapping[str, Any], unit: str
) -> None:
    """Write a refiner of SimGAN as an ONNX file from depth to refined, and compare the two.

    Args:
        network: On the CPU.
        path: Where to.
        images: (B, 1, H, W) to compare on; any other number and size will do as well.
        metadata: Stored in the file.
        unit: Unit of the images: `HANDS`, `FRAMES` or `EYES`.

    Raises:
        SystemExit: If ONNX Runtime finds values that differ by more than 0.1 mm, or a tenth of a
            level of grey, or holes elsewhere.
    """
    deployed = Deployed(network).eval()
    sizes = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    to_onnx(deployed, path, (images[:2],), (INPUT,), (OUTPUT,), {INPUT: sizes})
    units = {INPUT: unit, OUTPUT: unit}
    describe(path, {'format': 1, 'units': units, **metadata})
    with torch.no_grad():
        wanted = deployed(images)
    off, flipped = difference(_exported(path)(images), wanted)
    off, step = (255 * off, 'levels of grey') if unit == EYES else (1e3 * off, 'mm')
    if not (off <= _SAME and flipped <= _FLIPPED):
        path.unlink()
        raise SystemExit(
            f'Not exported: ONNX Runtime differs from PyTorch by {off:.2g} {step}, and in '
            f'{100 * flipped:.2g} % of holes.'
        )
    print(
        f'{path}: ONNX Runtime within {off:.2g} {step} of PyTorch, holes the same but for '
        f'{1e6 * flipped:.0f} in a million pixels.'
    )


def difference(got: Tensor, wanted: Tensor) -> tuple[float, float]:
    """Return the greatest difference where neither has a hole, and the share where just one has.

    A decision that hangs on a rounding error is not to be counted as a metre.
    """
    both = (got != 0) & (wanted != 0)
    flipped = float(((got != 0) != (wanted != 0)).float().mean())
    return float((got - wanted).abs()[both].max()) if both.any() else 0.0, flipped


def refined_m(
    refiner: Refiner, depth_m: Float32Array, hand: npt.NDArray[np.bool_], mm_per_px: float
) -> Float32Array:
    """Return depth of which a hand is refined, at the scale that refiners are trained at.

    Crops of 300 mm have 224 pixels, so an image is refined at 1.34 mm a pixel, whatever it has
    itself; how much a pixel of the result changed, or whether it is a hole, is that of the
    nearest pixel there.

    Args:
        refiner: See `load_refiner`.
        depth_m: (H, W), NaN where nothing is.
        hand: (H, W), what is refined; the rest stays.
        mm_per_px: Width of a pixel at the hand.
    """
    hand = hand & np.isfinite(depth_m)
    if not hand.any():
        return depth_m
    height, width = depth_m.shape
    scale = mm_per_px * CROP_PX / (1e3 * SIDE_M)
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    crop = _resized(np.where(hand, depth_m - np.float32(BACKGROUND_M), np.float32(0)), size)
    refined = refiner(torch.from_numpy(crop)[None, None])[0, 0].numpy()
    # Changes, not depth, are brought back: pixels in between keep the surface they are on.
    change = np.where((refined != 0) & (crop != 0), refined - crop, np.nan).astype(np.float32)
    change[crop == 0] = 0
    back = cv2.resize(change, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.where(hand, depth_m + back, depth_m).astype(np.float32)


def _resized(crop: Float32Array, size: tuple[int, int]) -> Float32Array:
    """Resize a crop without stairs on its surfaces, and without a surface between two of them."""
    nearest = cv2.resize(crop, size, interpolation=cv2.INTER_NEAREST_EXACT)
    total = cv2.resize(crop, size, interpolation=cv2.INTER_LINEAR)
    share = cv2.resize((crop != 0).astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    smooth = total / np.maximum(share, np.float32(0.01))
    surface = (nearest != 0) & (np.abs(smooth - nearest) < _STEP_M)
    return np.where(surface, smooth, nearest).astype(np.float32)


_STEP_M = 0.005
