from dataclasses import dataclass

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")

from training.sensors.noise import (
    Span,
    draw_spans,
    drifting_field,
    noise_field,
    patches,
    window_max,
    window_min,
    window_sum,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize('size_px', range(1, 10))
@pytest.mark.parametrize(
    ('window', 'combine', 'outside'),
    [(window_sum, np.sum, 0), (window_max, np.max, -np.inf), (window_min, np.min, np.inf)],
)
def test_windows_combine_the_square_around_each_pixel(size_px, window, combine, outside):
    image = np.random.default_rng(size_px).integers(-9, 9, (11, 13)).astype(np.float32)
    # The middle of an even window is the pixel after its true middle.
    before = size_px // 2
    pad = (before, size_px - 1 - before)
    padded = np.pad(image, (pad, pad), constant_values=outside)
    squares = np.lib.stride_tricks.sliding_window_view(padded, (size_px, size_px))
    got = window(torch.from_numpy(image)[None, None], size_px)[0, 0].numpy()
    np.testing.assert_array_equal(got, combine(squares, axis=(2, 3)))


def test_only_spans_are_drawn_each_camera_its_own():
    @dataclass(frozen=True)
    class Parameters:
        wide: Span = (2.0, 5.0)
        known: Span = (0.5, 0.5)
        step_px: float = 0.125

    drawn = draw_spans(Parameters(), 400, generator())
    assert drawn.keys() == {'wide', 'known'}
    assert drawn['wide'].shape == (400, 1, 1, 1)
    assert drawn['wide'].min() >= 2
    assert drawn['wide'].max() <= 5
    assert drawn['wide'].mean().item() == pytest.approx(3.5, abs=0.15)
    assert drawn['wide'].std().item() == pytest.approx(3 / 12**0.5, abs=0.1)
    assert (drawn['known'] == 0.5).all()


@pytest.mark.parametrize('share', [0.0, 0.02, 0.3, 1.0])
def test_patches_cover_their_share(share):
    field = torch.randn((1, 1, 200, 200), generator=generator())
    covered = patches(field, torch.full((1, 1, 1, 1), share)).float().mean().item()
    assert covered == pytest.approx(share, abs=0.01)


def test_each_image_has_its_own_smoothness():
    spread = torch.tensor([0.4, 3.0]).reshape(2, 1, 1, 1)
    rough, smooth = noise_field((2, 1, 160, 160), spread, generator())

    def correlation(image):
        return (image[..., 1:] * image[..., :-1]).mean() / image.square().mean()

    # exp(-1 / (4 * 9)); a kernel of 0.4 px is too narrow for the formula, but nearly white.
    assert correlation(smooth).item() == pytest.approx(0.973, abs=0.02)
    assert correlation(rough) < 0.2
    assert rough.std().item() == pytest.approx(1, abs=0.05)


def test_drift_has_about_unit_variance_and_no_detail():
    drift = drifting_field((8, 1, 120, 160), 12, generator())
    assert drift.std().item() == pytest.approx(1, abs=0.1)
    assert drift.diff(dim=3).std() < 0.2
