"""The table of what refined hands are worth, with networks too small to learn anything."""

import json
import math

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")
onnx = pytest.importorskip('onnx', reason="refiners are ONNX files: pip install '.[train]'")

from depth_refiner_ros.pictures import read_png
from training.datasets.hands import NYU_CAMERA, HandSample, NyuHands
from training.networks.hourglass import heatmap_loss, heatmaps_of
from training.refiners import HANDS
from training.synth2real import evaluate as table4
from training.synth2real import hand_pools, table_cells
from training.synth2real.domains import CleanHands, StandInHands, counts_of, depth_of
from training.synth2real.evaluate import evaluate
from training.synth2real.hand_pools import Pool, refined
from training.synth2real.table_cells import Cell, orders
from training.synth2real.table_report import CLEAN, REAL, mean_and_spread, table
from training.synth2real.table_settings import Settings


def farther(path, offset_m):
    """Write a refiner that moves hands away; what is nothing stays nothing."""
    from onnx import TensorProto, helper

    shape = ['B', 1, 'H', 'W']
    nodes = [
        helper.make_node('Sign', ['depth'], ['sign']),
        helper.make_node('Mul', ['sign', 'offset'], ['change']),
        helper.make_node('Sub', ['depth', 'change'], ['refined']),
    ]
    graph = helper.make_graph(
        nodes, 'farther',
        [helper.make_tensor_value_info('depth', TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info('refined', TensorProto.FLOAT, shape)],
        [helper.make_tensor('offset', TensorProto.FLOAT, [], [offset_m])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=8)
    helper.set_model_props(model, {'depth_refiner': json.dumps({'units': {'depth': HANDS}})})
    onnx.save(model, str(path))
    return path


@pytest.fixture
def settings(tmp_path):
    refiner = farther(tmp_path / 'farther.onnx', 0.001)
    return Settings(
        run=tmp_path / 'run', refiner=(f'far={refiner}',), hands=4, times=(1, 2), tested=4,
        seeds=2, size=48, stacks=1, features=16, heatmap=16, steps=2, batch=2, device='cpu',
    )  # fmt: skip


def never(*_):
    raise AssertionError('nothing is left to do')


def test_the_table_is_filled_and_kept(settings, monkeypatch, capsys):
    path = evaluate(settings)
    found = json.loads(path.read_text())
    names = [CLEAN, 'refined by far', REAL]
    assert [c['learned'] for c in found['cells']] == [n for n in names for _ in range(4)]
    assert {(c['times'], c['seed']) for c in found['cells']} == {
        (t, s) for t in (1, 2) for s in (0, 1)
    }
    for cell in found['cells']:
        assert len(cell['curve']) == 21
        assert cell['curve'][5] == cell['pck_5px']
        assert cell['curve'] == sorted(cell['curve'])
    # Of the refiner it is seen that it moves all by a millimetre.
    of = found['metrics']['refined by far']
    assert of['change at edges, mm'] == pytest.approx(1, abs=0.05)
    assert of['change in flats, mm'] == pytest.approx(1, abs=0.05)
    assert 'drift, px' not in found['metrics'][REAL]
    assert 'trained on' in capsys.readouterr().out
    for name in ('curve.png', 'side_by_side.png'):
        assert read_png(settings.run / name).std() > 5

    # A cell that is lost is trained again, and only that, and is the same.
    lost = Cell('refined by far', found['cells'][4]['key'], 1, 0)
    assert lost.key.startswith('far-')
    lost.path(settings).unlink()
    train, trained = table_cells.train_cell, []

    def counted(*arguments):
        trained.append(arguments[2])
        return train(*arguments)

    monkeypatch.setattr(table_cells, 'train_cell', counted)
    again = json.loads(evaluate(settings).read_text())['cells']
    assert [c['curve'] for c in again] == [c['curve'] for c in found['cells']]
    assert trained == [0]


def test_ctrl_c_loses_the_running_cell_only(settings, monkeypatch):
    train, trained = table_cells.train_cell, []

    def interrupted(at):
        def wrapped(*arguments):
            if len(trained) == at:
                raise KeyboardInterrupt
            trained.append(arguments[2])
            return train(*arguments)

        return wrapped

    monkeypatch.setattr(table_cells, 'train_cell', interrupted(at=5))
    with pytest.raises(KeyboardInterrupt):
        evaluate(settings)
    monkeypatch.setattr(table_cells, 'train_cell', interrupted(at=-1))
    evaluate(settings)
    assert len(trained) == 12  # 3 kinds, 2 sizes, 2 seeds: none twice


def test_a_table_with_other_settings_is_refused(settings, monkeypatch):
    monkeypatch.setattr(table4, 'refiners', never)
    with pytest.raises(AssertionError):
        evaluate(settings)
    settings.steps, settings.seeds = 3, 5
    with pytest.raises(SystemExit, match='steps was 2 and is 3'):
        evaluate(settings)


def test_another_refiner_with_the_same_name_is_another_cell(settings, tmp_path):
    evaluate(settings)
    before = set((settings.run / 'cells').glob('far-*.json'))
    farther(tmp_path / 'farther.onnx', 0.002)
    found = json.loads(evaluate(settings).read_text())
    assert found['metrics']['refined by far']['change in flats, mm'] == pytest.approx(2, abs=0.05)
    assert len(set((settings.run / 'cells').glob('far-*.json')) - before) == 4


def test_small_leaves_what_is_asked_for(tmp_path):
    found = table4.made_small(Settings(run=tmp_path, small=True, seeds=2, device='cpu'))
    assert (found.hands, found.size, found.mixed) == (256, 64, True)
    assert (found.seeds, found.times) == (2, (1, 3))
    # What is asked for is what is not the default: seeds are of no size, and one is the default.
    assert table4.made_small(Settings(run=tmp_path, seeds=3)).seeds == 3


@pytest.mark.parametrize('given', ['simgan', '=x.onnx', 'simgan=nowhere.onnx'])
def test_a_refiner_that_is_not_there_is_told(settings, given):
    settings.refiner = (given,)
    with pytest.raises(SystemExit, match='--refiner'):
        evaluate(settings)


def test_millimetres_survive_pools_and_refining(settings, tmp_path):
    from rich.progress import Progress

    crops = CleanHands(14, 16, hand_pools.CLEAN_SEED, size_px=48)[0]
    with Progress(disable=True) as told:
        hands = CleanHands(14, 16, hand_pools.CLEAN_SEED, size_px=48)
        for _ in range(2):  # rendered, and from the file
            kept = hand_pools.pool(tmp_path / 'clean', hands, 0, 16, 0, told)
            assert (kept.crops(slice(16)).depth - crops.depth).abs().max() < 0.5e-3
        seen = []

        def refiner(depth):
            seen.append(depth)
            return depth + 0.0123 * (depth != 0)

        after = refined(tmp_path / 'refined', kept, refiner, 'cpu', told)
        wanted = crops.depth + 0.0123 * (crops.depth != 0)
        assert (after.crops(slice(16)).depth - wanted).abs().max() < 0.5e-3
        refined(tmp_path / 'refined', kept, never, 'cpu', told)  # from the file
    assert seen[0].dtype == torch.float32


def test_no_method_sees_what_is_tested_on():
    """Refiners, labels and the test draw hands of different seeds."""
    seeds = {hand_pools.REAL_SEED, hand_pools.TEST_SEED, 0, 1, 2, 3}
    places = [StandInHands(14, 2, seed, size_px=16)[0].joints_px for seed in sorted(seeds)]
    for i, one in enumerate(places):
        assert not any(torch.allclose(one, other) for other in places[:i])


def test_all_hands_come_before_one_comes_again():
    given = orders(7, 3, seed=0)
    steps = torch.cat([next(given) for _ in range(7)]).tolist()
    assert [sorted(steps[i : i + 7]) for i in (0, 7, 14)] == [list(range(7))] * 3
    assert steps[:7] != steps[7:14]
    again = orders(7, 3, seed=0)
    assert torch.cat([next(again) for _ in range(7)]).tolist() == steps


def test_the_loss_is_that_of_the_sum_over_a_heatmap():
    joints_px = torch.tensor([[[24.0, 24], [10, 30]]])
    wanted = heatmaps_of(joints_px, 48, heatmap_px=16)[:, None]
    assert heatmap_loss(wanted, joints_px, 48) == pytest.approx(0)
    # 0.1 off in 256 pixels of every heatmap: 2.56.
    assert float(heatmap_loss(wanted + 0.1, joints_px, 48)) == pytest.approx(2.56, rel=1e-5)


def test_the_table_says_mean_and_spread(settings):
    shares = {(CLEAN, 1): (0.5, 0.52), (CLEAN, 2): (0.6, 0.6), (REAL, 1): (0.7, 0.8)}
    shares[REAL, 2] = (0.9, 0.95)
    cells = {
        Cell(name, 'key', times, seed): {'pck_5px': share}
        for (name, times), values in shares.items()
        for seed, share in enumerate(values)
    }
    lines = table(cells, settings).splitlines()
    assert lines[0].split() == ['trained', 'on', '1x', '(4)', '2x', '(8)']
    # The standard deviation of 50 and 52 is the root of 2.
    assert lines[1].split() == ['clean', 'synthetic', '51.0', '+-', '1.4', '60.0', '+-', '0.0']
    assert lines[2].split()[-6:] == ['75.0', '+-', '7.1', '92.5', '+-', '3.5']
    mean, spread = mean_and_spread([3.0])
    assert mean == 3
    assert math.isnan(spread)


class Recorded:
    """Forty labelled hands whose first joint tells their number."""

    path = 'recorded'
    scheme = NyuHands.scheme
    licence = NyuHands.licence

    def __len__(self):
        return 40

    def hand(self, index):
        depth_m = np.full((480, 640), np.nan, np.float32)
        depth_m[230:250, 310:330] = 0.6
        joints_m = np.tile([0, 0, 0.6], (14, 1))
        image = joints_m @ NYU_CAMERA.T
        joints_px = image[:, :2] / image[:, 2:]
        joints_px[0, 0] += index
        return HandSample(
            str(index), depth_m, self.licence, intrinsics=NYU_CAMERA, joints_m=joints_m,
            joints_px=joints_px,
        )  # fmt: skip


def test_recorded_hands_are_split_and_resized(settings, monkeypatch, tmp_path):
    from rich.progress import Progress

    monkeypatch.setattr(hand_pools, 'open_hands', lambda path: Recorded())
    settings.real, settings.research, settings.tested = tmp_path, True, 100
    with Progress(disable=True) as told:
        learned, held_out = hand_pools.real_pools(settings, 32, told)
        with pytest.raises(SystemExit, match='has 32 hands'):
            hand_pools.real_pools(settings, 33, told)
    # Three batches of 16 are 40 hands: two are learned from, the third is tested on.
    assert (len(learned.counts), len(held_out.counts)) == (32, 8)
    steps = torch.cat([learned.joints_px, held_out.joints_px])[:, 0, 0].diff()
    # A pixel of the image is 224 / 294 of the crop's 224, 48 / 294 of 48.
    torch.testing.assert_close(steps, torch.full((39,), 48 / 294.0), rtol=1e-2, atol=1e-3)
    assert learned.counts.shape[1:] == (1, 48, 48)
    depth = depth_of(learned.counts[0])
    assert depth[depth != 0].mean() == pytest.approx(-1.4, abs=1e-4)


def test_joints_come_back_in_pixels_of_the_whole_crop(settings):
    held_out = Pool(counts_of(torch.full((3, 1, 48, 48), -1.4)), torch.full((3, 14, 2), 20.0))

    def network(depth):
        """Find all joints 2 px of 48 to the right: 9.33 of 224."""
        joints_px = torch.full((len(depth), 14, 2), 20.0) + torch.tensor([2.0, 0])
        return heatmaps_of(joints_px, 48, heatmap_px=64)[:, None]

    figures = table_cells.test_cell(network, held_out, settings)
    assert figures['error_px'] == pytest.approx(2 * 224 / 48, abs=0.9)
    assert figures['pck_5px'] == 0
    assert figures['curve'][12] == 1
