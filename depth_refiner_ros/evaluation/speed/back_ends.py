"""How fast the back ends run a model here, and against what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ...data import ColorImage, DepthImage
from ...filters.resizing import model_inputs
from ...geometry import registered
from ...inference import BACK_ENDS, Model, ModelError, load_model
from ...inference.bare import bare_back_end
from ...inference.model import model_path
from ...inference.onnx_file import read_onnx
from .clips import Clip, swept_index
from .references import librealsense
from .timing import Watch, figures, in_turns, unwatched

_WARM_UP_ROUNDS = 3

Frame = Mapping[str, Any]


def measure_back_ends(
    model: str,
    names: Iterable[str],
    clip: Clip,
    rounds: int,
    watch: Watch = unwatched,
    *,
    reduction: int = 1,
) -> dict[str, Any]:
    """Time a model on back ends, each in turns with the same back end bare and librealsense.

    Bare is a library called with its defaults, as its manual shows, without the parity gate and
    what comes with it.

    Args:
        model: Name of a shipped model, or the path of one.
        names: Keys of `BACK_ENDS`; 'auto' for all.
        clip: Frames with depth.
        rounds: How often it is timed.
        watch: See `Watch`.
        reduction: Factor by which the model's images are smaller than the frames.

    Returns:
        By name: figures (see `timing.figures`) against `bare` and `librealsense`, where they are
        there, and how it agrees with ONNX Runtime; or, where the back end is missing or refused,
        the `reason` alone.

    Raises:
        ModelError: If the model is missing or damaged.
    """
    wanted = list(dict.fromkeys(names))
    read_onnx(model_path(model))  # what is wrong with the file is no reason of a back end
    found: dict[str, Any] = {}
    for name in BACK_ENDS if 'auto' in wanted else wanted:
        agreement: list[str] = []
        try:
            loaded = load_model(model, name, log=agreement.append)
        except ModelError as error:
            found[name] = {'reason': str(error)}
            continue
        found[name] = {
            'agreement': agreement[0],
            **_timed(name, model, loaded, clip, rounds, watch, reduction),
            'reason': None,
        }
    return found


def _timed(
    name: str,
    model: str,
    loaded: Model,
    clip: Clip,
    rounds: int,
    watch: Watch,
    reduction: int,
) -> dict[str, Any]:
    inputs = [_inputs(values, reduction) for values in clip.values]
    contenders: dict[str, Callable[[int], object]] = {
        'loaded': lambda at: loaded(**inputs[at]),
    }
    bare = bare_back_end(name, read_onnx(model_path(model)))
    if bare is not None:
        call = bare
        contenders['bare'] = lambda at: call(inputs[at])
    chain = librealsense(clip.values[0])
    if not isinstance(chain, str):
        contenders['librealsense'] = lambda at: chain(clip.values[at])
    feed = [swept_index(number, len(inputs)) for number in range(_WARM_UP_ROUNDS + rounds)]
    warm_up, feed = feed[:_WARM_UP_ROUNDS], feed[_WARM_UP_ROUNDS:]
    spent = in_turns(contenders, warm_up, feed, watch, name)
    return figures(spent.pop('loaded'), spent)


def _inputs(values: Frame, reduction: int) -> dict[str, Any]:
    depth: DepthImage = values['depth']
    color: ColorImage | None = values.get('color')
    cameras = values.get('color_camera'), values.get('camera')
    rgb = color.rgb if color is not None and registered(color, depth, *cameras) else None
    return model_inputs(depth.depth_m, rgb, reduction)
