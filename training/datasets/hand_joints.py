"""Which joints hand datasets label, and how they come from the usual 21.

The 21 are MediaPipe's: the wrist, then four of each finger from the thumb, base to tip.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

MEDIAPIPE_21 = (
    'wrist',
    'thumb_cmc', 'thumb_mcp', 'thumb_ip', 'thumb_tip',
    'index_mcp', 'index_pip', 'index_dip', 'index_tip',
    'middle_mcp', 'middle_pip', 'middle_dip', 'middle_tip',
    'ring_mcp', 'ring_pip', 'ring_dip', 'ring_tip',
    'pinky_mcp', 'pinky_pip', 'pinky_dip', 'pinky_tip',
)  # fmt: skip

NYU_14_OF_36 = (0, 3, 6, 9, 12, 15, 18, 21, 24, 25, 27, 30, 31, 32)
"""The joints, of the 36 in joint_data.mat, that are evaluated on: those of Tompson et al. 2014."""

MSRA_TO_21 = (0, 17, 18, 19, 20, *range(1, 17))
"""Where each of the 21 is in MSRA15's lines: wrist, index to little finger, thumb (its readme)."""
HANDS2017_TO_21 = (0, 1, 6, 7, 8, 2, 9, 10, 11, 3, 12, 13, 14, 4, 15, 16, 17, 5, 18, 19, 20)
"""Where each of the 21 is in HANDS2017's lines: wrist, the bases of all fingers from the thumb,
then three of each finger (Yuan et al., "BigHand2.2M Benchmark", CVPR 2017)."""

_KNUCKLES = ('index_mcp', 'middle_mcp', 'ring_mcp', 'pinky_mcp')


class Scheme(NamedTuple):
    """A set of joints, each a weighted mean of the usual 21.

    Attributes:
        names: Names of the joints.
        weights: (J, 21), rows sum to 1.
    """

    names: tuple[str, ...]
    weights: npt.NDArray[np.float64]

    def of(self, joints: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Return these joints, (..., J, D), of the usual ones, (..., 21, D)."""
        return np.asarray(self.weights @ np.asarray(joints, np.float64))


def _scheme(**joints: dict[str, float]) -> Scheme:
    weights = np.zeros((len(joints), 21))
    for row, parts in zip(weights, joints.values(), strict=True):
        for name, weight in parts.items():
            row[MEDIAPIPE_21.index(name)] += weight
    return Scheme(tuple(joints), weights)


def _palm(share: float) -> dict[str, float]:
    return {'wrist': 1 - share} | dict.fromkeys(_KNUCKLES, share / 4)


MEDIAPIPE = Scheme(MEDIAPIPE_21, np.eye(21))

NYU_14 = _scheme(
    pinky_tip={'pinky_tip': 1.35, 'pinky_dip': -0.35}, pinky_pip={'pinky_pip': 1},
    ring_tip={'ring_tip': 1.35, 'ring_dip': -0.35}, ring_pip={'ring_pip': 1},
    middle_tip={'middle_tip': 1.35, 'middle_dip': -0.35}, middle_pip={'middle_pip': 1},
    index_tip={'index_tip': 1.35, 'index_dip': -0.35}, index_pip={'index_pip': 1},
    thumb_tip={'thumb_tip': 1.4, 'thumb_ip': -0.4},
    thumb_ip={'thumb_ip': 0.66, 'thumb_tip': 0.34},
    thumb_mcp={'thumb_mcp': 1},
    wrist_ulnar={'wrist': 1, 'index_mcp': -0.25, 'pinky_mcp': 0.25},
    wrist_radial={'wrist': 1, 'index_mcp': 0.25, 'pinky_mcp': -0.25},
    palm=_palm(0.74),
)  # fmt: skip
"""NYU's 14. Approximate: NYU labels a model's points, not anatomy; its fingertips are nearer
to the ends of fingers than ours. Medians over the 8252 published test labels: tips are 35, 43, 47,
44 mm from the second joints, the thumb's 20 and 58 mm from its others; the wrist's two are 29 mm
apart, and the palm's 67 mm from each."""

ICVL_16 = _scheme(
    palm=_palm(0.6),
    thumb_root={'thumb_mcp': 1}, thumb_mid={'thumb_ip': 1}, thumb_tip={'thumb_tip': 1},
    index_root={'index_mcp': 1}, index_mid={'index_pip': 1}, index_tip={'index_tip': 1},
    middle_root={'middle_mcp': 1}, middle_mid={'middle_pip': 1}, middle_tip={'middle_tip': 1},
    ring_root={'ring_mcp': 1}, ring_mid={'ring_pip': 1}, ring_tip={'ring_tip': 1},
    pinky_root={'pinky_mcp': 1}, pinky_mid={'pinky_pip': 1}, pinky_tip={'pinky_tip': 1},
)  # fmt: skip
"""ICVL's 16: the palm, then root, middle and tip of each finger; the palm's place is
not published and taken for its middle."""

SCHEMES = {14: NYU_14, 16: ICVL_16, 21: MEDIAPIPE}
