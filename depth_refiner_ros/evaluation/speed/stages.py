"""How long a pipeline and its stages take in process, in turns with the references."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
import time
from typing import Any

import numpy as np

from ...config import Configuration
from .clips import Clip, first_outputs
from .references import MemoryCopy, librealsense
from .timing import Watch, fastest_s, interleaved, ratio, repeated, spread_ms, unwatched

_WARM_UP_ROUNDS = 5


def measure_stages(
    configuration: Configuration, clip: Clip, rounds: int, watch: Watch = unwatched
) -> dict[str, Any]:
    """Time a pipeline and each of its stages in process, in turns with its references.

    Returns:
        Sections of the report: `stages`, milliseconds by stage within the pipeline; `pipeline`,
        likewise for the whole, with `cpu_ms` of all threads per frame; `ratios`, how many times
        as long as each reference they take, which in every round is repeated `repeats` times.

    Raises:
        LookupError: If tf does not connect two frames that a stage looks up.
    """
    pipeline = configuration.pipeline(configuration.parameters)
    stage_s: dict[str, list[float]] = {name: [] for name in pipeline.stages}
    cpu_s: list[float] = []

    def run(frame: Mapping[str, Any]) -> None:
        started_s = time.process_time()
        pipeline(clip.transforms, **frame)
        cpu_s.append(time.process_time() - started_s)
        for name, seconds in pipeline.last_s.items():
            stage_s[name].append(seconds)

    first = clip.values[0]
    copy = MemoryCopy(first, first_outputs(configuration, clip))
    references: dict[str, Callable[[Any], object]] = {'memory_copy': copy}
    peer = librealsense(first)
    if not isinstance(peer, str):
        chain = peer
        references['librealsense'] = lambda frame: chain(frame['depth'], frame['camera'])
    feed = clip.swept(_WARM_UP_ROUNDS + rounds)
    pipeline_s = fastest_s(run, islice(feed, _WARM_UP_ROUNDS))
    counts = {'pipeline': 1}
    contenders: dict[str, Callable[[Any], object]] = {'pipeline': run}
    for name, reference in references.items():
        count = round(pipeline_s / fastest_s(reference, [first] * _WARM_UP_ROUNDS))
        counts[name] = max(1, count)
        contenders[name] = repeated(reference, counts[name])
    spent = list(watch(interleaved(contenders, feed), 'stages', rounds))
    total_s = {name: [s[name] / counts[name] for s in spent] for name in contenders}
    stage_s = {name: seconds[_WARM_UP_ROUNDS:] for name, seconds in stage_s.items()}
    parts_s = {'pipeline': total_s['pipeline'], **stage_s}

    def against(name: str, what: str, reason: str | None = None) -> dict[str, Any]:
        if name not in total_s:
            return {'what': what, 'median_ms': None, 'times': None, 'reason': reason}
        times = {part: ratio(seconds, total_s[name]) for part, seconds in parts_s.items()}
        repeats = counts[name]
        spread = spread_ms(total_s[name])
        return {'what': what, **spread, 'repeats': repeats, 'times': times, 'reason': None}

    return {
        'stages': {name: spread_ms(seconds) for name, seconds in stage_s.items()},
        'pipeline': {
            **spread_ms(total_s['pipeline']),
            'cpu_ms': float(np.median(1e3 * np.array(cpu_s[_WARM_UP_ROUNDS:]))),
        },
        'ratios': {
            'memory_copy': against(
                'memory_copy',
                f'np.copyto of the {copy.megabytes:.2f} MB that a frame and its outputs have',
            ),
            'librealsense': against(
                'librealsense',
                'disparity, spatial, temporal and hole filling filter at their defaults on a '
                'software device, conversion from and to metres included',
                peer if isinstance(peer, str) else None,
            ),
        },
    }
