"""How fast the back ends run a model here, and against what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
import time
from typing import Any

import numpy as np

from ...data import ColorImage, DepthImage
from ...geometry import registered
from ...inference import BACK_ENDS, Model, ModelError, load_model
from ...inference.bare import bare_back_end
from ...inference.model import model_path
from ...inference.onnx_file import read_onnx
from ...stages.inpaint_depth import model_inputs
from .clips import Clip, swept_index
from .references import librealsense
from .timing import Watch, fastest_s, interleaved, ratio, repeated, spread_ms, unwatched

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
        By name: milliseconds (`median_ms`, `p99_ms`, `min_ms`), how it agrees with ONNX Runtime,
        how many `times` as long as `bare` and as `librealsense` it takes, None where there is no
        such thing, and `cpu_ms`, the processor time of all threads for each, which other programs
        hardly change; or, where the back end is missing or refused, the `reason` alone.

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
    peer = librealsense(clip.values[0])
    if not isinstance(peer, str):
        chain = peer
        contenders['librealsense'] = lambda at: chain(
            clip.values[at]['depth'], clip.values[at]['camera']
        )
    cpu_s: dict[str, list[float]] = {key: [] for key in contenders}
    for key, contender in contenders.items():
        contenders[key] = _counting(contender, cpu_s[key])
    feed = [swept_index(number, len(inputs)) for number in range(_WARM_UP_ROUNDS + rounds)]
    warm_up, measured = feed[:_WARM_UP_ROUNDS], feed[_WARM_UP_ROUNDS:]
    shortest_s = {key: fastest_s(contender, warm_up) for key, contender in contenders.items()}
    counts = {
        key: max(1, round(shortest_s['loaded'] / seconds)) for key, seconds in shortest_s.items()
    }
    timed = {key: repeated(contender, counts[key]) for key, contender in contenders.items()}
    spent = list(watch(interleaved(timed, measured), name, rounds))
    total_s = {key: [s[key] / counts[key] for s in spent] for key in timed}
    return {
        **spread_ms(total_s['loaded']),
        'cpu_ms': {key: 1e3 * float(np.median(seconds)) for key, seconds in cpu_s.items()},
        'times': {
            key: ratio(total_s['loaded'], total_s[key]) if key in total_s else None
            for key in ('bare', 'librealsense')
        },
    }


def _counting(contender: Callable[[int], object], cpu_s: list[float]) -> Callable[[int], None]:
    def counted(at: int) -> None:
        started_s = time.process_time()
        contender(at)
        cpu_s.append(time.process_time() - started_s)

    return counted


def _inputs(values: Frame, reduction: int) -> dict[str, Any]:
    depth: DepthImage = values['depth']
    color: ColorImage | None = values.get('color')
    cameras = values.get('color_camera'), values.get('camera')
    rgb = color.rgb if color is not None and registered(color, depth, *cameras) else None
    return model_inputs(depth.depth_m, rgb, reduction)
