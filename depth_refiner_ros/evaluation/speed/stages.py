"""How long a pipeline and its stages take in process, in turns with the references."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...config import Configuration
from .clips import Clip, first_outputs
from .references import references
from .timing import Spent, Watch, figures, in_turns, unwatched

_WARM_UP_ROUNDS = 5


def measure_stages(
    configuration: Configuration, clip: Clip, rounds: int, watch: Watch = unwatched
) -> dict[str, Any]:
    """Time a pipeline and each of its stages in process, in turns with its references.

    Returns:
        Sections of the report: `stages`, figures by stage within the pipeline; `pipeline`,
        likewise for the whole; `back_ends`, what runs the models of stages; `references`, figures
        of each reference, or the `reason` why it is not there. See `timing.figures`.

    Raises:
        LookupError: If tf does not connect two frames that a stage looks up.
    """
    pipeline = configuration.pipeline(configuration.parameters)
    parts: dict[str, list[Spent]] = {name: [] for name in pipeline.stages}

    def run(frame: Mapping[str, Any]) -> None:
        pipeline(clip.transforms, **frame)
        for name, wall_s in pipeline.last_s.items():
            parts[name].append(Spent(wall_s, pipeline.last_cpu_s[name]))

    first = clip.values[0]
    there, described = references(first, first_outputs(configuration, clip))
    feed = list(clip.swept(_WARM_UP_ROUNDS + rounds))
    warm_up, feed = feed[:_WARM_UP_ROUNDS], feed[_WARM_UP_ROUNDS:]
    spent = in_turns({'pipeline': run, **there}, warm_up, feed, watch, 'stages')
    against = {name: spent[name] for name in there}
    for name, rounds_of in against.items():
        described[name].update(figures(rounds_of))
    return {
        'stages': {name: figures(part[-rounds:], against) for name, part in parts.items()},
        'pipeline': figures(spent['pipeline'], against),
        'back_ends': pipeline.back_ends,
        'references': described,
    }
