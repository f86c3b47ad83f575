import numpy as np
import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")

from training.depth.samples import Augmentation, Samples, blots, grown, hole_pattern, reduced, rim
from training.examples import Shards
from training.photometric import recolored

NEVER = Augmentation(
    exact_share=0, punched_share=0, widened_share=0, colorless_share=0, grey_share=0,
    shifted_share=0, rim_px=1,
)  # fmt: skip


def samples(rooms, augmentation, count=20, seed=0):
    return Samples(Shards(rooms), seed, (32, 64), augmentation, range(10), count)


def test_a_sample_is_a_function_of_seed_and_number(rooms):
    first, again = (samples(rooms, Augmentation())[7] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    other = samples(rooms, Augmentation())[8]
    assert not torch.equal(first.draw, other.draw)
    assert not torch.equal(first.draw, samples(rooms, Augmentation(), seed=1)[7].draw)


def test_unchanged_samples_are_crops(rooms):
    for number in range(10):
        sample = samples(rooms, None)[number]
        assert set(sample.truth_m.unique().tolist()) <= {1.0, 2.0}
        measured = sample.depth_m > 0
        assert (sample.depth_m - sample.truth_m)[measured].abs().max() < 0.02
        assert ((sample.color * 255).round().unique().tolist()) in ([60], [60, 200], [200])


def test_what_is_cut_out_is_the_truth_with_its_noise(rooms):
    punching = Augmentation(**(vars(NEVER) | {'punched_share': 1.0}))
    plain, cut = (samples(rooms, a) for a in (NEVER, punching))
    more = 0
    for number in range(20):
        sample = cut[number]
        hole = (sample.depth_m == 0) & (sample.truth_m > 0)
        more += int(hole.sum())
        # Noise of 2 mm is in the measurements, and none in the rendered truth.
        fresh = hole & (sample.truth_m != 1.0) & (sample.truth_m != 2.0)
        assert ((sample.truth_m[fresh] - sample.truth_m[fresh].round()).abs() < 0.02).all()
    assert more > sum(
        int(((s.depth_m == 0) & (s.truth_m > 0)).sum()) for s in (plain[i] for i in range(20))
    )


def test_exact_samples_have_no_holes_of_a_sensor(rooms):
    exact = samples(rooms, Augmentation(**(vars(NEVER) | {'exact_share': 1.0})))
    for number in range(10):
        sample = exact[number]
        assert (sample.depth_m > 0).all()
        assert ((sample.depth_m - sample.truth_m).abs() / sample.truth_m).max() < 0.02


def test_a_refiner_measures_half_of_the_exact_samples(rooms):
    def farther(depth):
        """4 cm farther, and nothing in the first row."""
        assert depth.shape == (1, 1, 32, 64)
        assert set(depth.unique().tolist()) <= {1.0, 2.0}
        moved = depth + 0.04
        moved[..., 0, :] = 0
        return moved

    exact = Augmentation(**(vars(NEVER) | {'exact_share': 1.0}))
    found = Samples(Shards(rooms), 0, (32, 64), exact, range(10), 40, refiner=farther)
    refined = 0
    for number in range(40):
        sample = found[number]
        if (sample.depth_m[0, 0] == 0).all():
            refined += 1
            assert (sample.depth_m - sample.truth_m)[0, 1:].sub(0.04).abs().max() < 1e-6
    assert 10 <= refined <= 30


def test_the_rim_of_a_sensors_holes_is_not_learned_from(rooms):
    for number in range(10):
        sample = samples(rooms, NEVER)[number]
        hole = sample.depth_m == 0
        beside = hole & grown(~hole, 1)
        assert (sample.truth_m[beside] == 0).all()
        assert (sample.truth_m[hole & ~beside] > 0).all()


def test_a_rim_is_as_wide_as_it_says():
    depth_m = torch.ones(1, 1, 12)
    depth_m[..., 4:10] = torch.nan
    assert rim(depth_m, 2)[0, 0].nonzero()[:, 0].tolist() == [4, 5, 8, 9]


def test_hole_patterns_are_opened_and_flipped():
    depth_m = torch.ones(1, 10, 20)
    depth_m[0, 1:5, 2:6] = torch.nan
    depth_m[0, 8, 10] = torch.nan  # a speckle that a 3x3 square does not fit into
    seen = set()
    for seed in range(20):
        pattern = hole_pattern(depth_m, np.random.default_rng(seed))
        assert pattern.sum() == 16
        seen.add(tuple(pattern[0].nonzero()[0].tolist()))
    assert seen == {(1, 2), (1, 14), (5, 2), (5, 14)}
    depth_m[0, :, :15] = torch.nan
    assert not hole_pattern(depth_m, np.random.default_rng(0)).any()


def test_blots_are_reproducible_and_few():
    shares = [float(blots(torch.Size((1, 96, 128)), np.random.default_rng(k)).float().mean())
              for k in range(50)]  # fmt: skip
    assert 0.01 < np.mean(shares) < 0.3
    assert min(shares) == 0


def test_colours_stay_colours_and_none_is_black():
    color = torch.rand(3, 16, 16)
    for seed in range(20):
        changed = recolored(color, NEVER, np.random.default_rng(seed))
        assert changed.min() >= 1 / 255
        assert changed.max() <= 1
    none = Augmentation(**(vars(NEVER) | {'colorless_share': 1.0}))
    assert (recolored(color, none, np.random.default_rng(0)) == 0).all()
    grey = Augmentation(**(vars(NEVER) | {'grey_share': 1.0, 'shifted_share': 0}))
    spread = recolored(color, grey, np.random.default_rng(3))
    # Only noise and tint are left of the hue.
    assert (spread / spread.mean((1, 2), keepdim=True)).std(0).mean() < 0.15


def test_a_reduced_sample_has_first_measurements_and_their_truth():
    nan = torch.nan
    raw_m = torch.tensor([[[1.0, 2, nan, 3], [4, 5, 6, 7], [nan, nan, 8, 9], [nan, nan, 1, 2]]])
    truth_m = torch.arange(16.0).reshape(1, 4, 4)
    color = torch.zeros(3, 4, 4, dtype=torch.uint8)
    color[0, :2, :2] = torch.tensor([[10, 20], [30, 40]])
    light, true_m, found_m = reduced(color, truth_m, raw_m)
    np.testing.assert_array_equal(found_m[0], [[1, 3], [np.nan, 8]])
    assert true_m[0].tolist() == [[0, 3], [8, 10]]
    assert light[0].tolist() == [[25, 0], [0, 0]]


def test_reduced_samples_are_cut_out_at_twice_the_size(rooms):
    always = Augmentation(**(vars(NEVER) | {'reduced_share': 1.0}))
    whole = Samples(Shards(rooms), 0, (24, 32), always, range(10), 20)
    shown = [whole[number].depth_m for number in range(20)]
    assert all(depth_m.shape == (1, 24, 32) for depth_m in shown)
