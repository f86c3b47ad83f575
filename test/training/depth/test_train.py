import os
from pathlib import Path
import subprocess
import sys

import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")
pytest.importorskip('lightning_fabric', reason="training needs Fabric: pip install '.[train]'")

from training.depth.candidates import to_cells, to_rows
from training.depth.network import DepthChooser
from training.depth.samples import Augmentation, Sample, Samples
from training.depth.train import Settings, cost, losses, train
from training.examples import Shards

ROOT = Path(__file__).parents[3]


def settings(rooms, run, **changed):
    given = {
        'size': 'nano', 'steps': 4, 'batch': 2, 'height': 32, 'width': 64, 'held_out': 2,
        'pixels': 200, 'validate_every': 100, 'accelerator': 'cpu', 'mixed': False,
    }  # fmt: skip
    return Settings(data=rooms, run=run, **(given | changed))


def batch_of(rooms, numbers):
    samples = Samples(Shards(rooms), 0, (32, 64), Augmentation(), range(8), 100)
    return Sample(*(torch.stack(v) for v in zip(*(samples[n] for n in numbers), strict=True)))


def weights(run):
    return torch.load(run / 'checkpoint.pt', weights_only=True)['network']


def test_cost_is_relative_and_robust():
    depth_m, truth_m = torch.tensor([1.1, 2.2, 3.0]), torch.tensor([1.0, 2.0, 1.0])
    # 0.1 / 1, 0.2 / 1.75, and 2 / 1, of which what exceeds 1 counts a tenth.
    assert cost(depth_m, truth_m).tolist() == pytest.approx([0.1, 0.2 / 1.75, 1.1])


def test_a_batch_is_the_mean_of_its_images(rooms):
    torch.manual_seed(0)
    network = DepthChooser('nano')
    both = batch_of(rooms, (3, 4))
    together = losses(network, both, 100)
    apart = []
    for number in (3, 4):
        one = batch_of(rooms, (number,))
        apart.append(losses(network, one, 100))
    for name, value in together.items():
        mean = (apart[0][name] + apart[1][name]) / 2
        torch.testing.assert_close(value, mean, msg=name, rtol=1e-4, atol=1e-5)


def test_what_is_wrong_is_what_misses_by_both_limits(rooms):
    sample = batch_of(rooms, (0,))
    truth_m = torch.full_like(sample.truth_m, 1.0)
    depth_m = truth_m.clone()
    depth_m[..., :8, :] = 1.03  # 3 %
    depth_m[..., 8:16, :] = 1.05
    sample = sample._replace(truth_m=truth_m, depth_m=depth_m)
    network = DepthChooser('nano')
    wrong = to_rows(to_cells(depth_m)) > 1.04
    sure = torch.full(wrong.shape, -20.0)

    def saying(logits):
        def say(*given):
            per_pixel, prediction = network(*given)
            return per_pixel._replace(wrong=logits), prediction

        return say

    assert losses(saying(torch.where(wrong, 20.0, sure)), sample, 100)['wrong'] < 1e-6
    assert losses(saying(sure), sample, 100)['wrong'] == pytest.approx(5.0)


@pytest.mark.slow
def test_training_learns(rooms, tmp_path, training_seed, check_learned):
    torch.manual_seed(training_seed)
    before, after = DepthChooser('nano'), DepthChooser('nano')
    train(settings(rooms, tmp_path / 'run', steps=80, learning_rate=3e-3, seed=training_seed))
    after.load_state_dict(weights(tmp_path / 'run'))
    sample = batch_of(rooms, range(8))

    with torch.no_grad():
        first, last = losses(before, sample, 200), losses(after, sample, 200)
    check_learned('best', float(first['best']), float(last['best']), 0.95)  # 0.601, 0.095
    check_learned('wrong', float(first['wrong']), float(last['wrong']), 0.3)  # 0.082, 0.014


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(rooms, tmp_path, stopped, capsys):
    train(settings(rooms, tmp_path / 'whole'))
    with stopped(2):
        train(settings(rooms, tmp_path / 'parts'))
    assert 'step 2 of 4' in capsys.readouterr().out
    train(settings(rooms, tmp_path / 'parts'))
    whole, parts = weights(tmp_path / 'whole'), weights(tmp_path / 'parts')
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_run_of_other_settings_is_not_continued(rooms, tmp_path):
    train(settings(rooms, tmp_path / 'run', steps=1))
    with pytest.raises(SystemExit, match='batch was 2 and is 4'):
        train(settings(rooms, tmp_path / 'run', steps=1, batch=4))


def test_without_shards_it_says_how_to_make_some(tmp_path):
    with pytest.raises(SystemExit, match='Make some: python'):
        train(settings(tmp_path, tmp_path / 'run'))


def test_two_processes_make_the_steps_of_one(rooms, tmp_path):
    train(settings(rooms, tmp_path / 'one', steps=2))
    command = [
        sys.executable, '-m', 'training.depth.train', str(rooms), str(tmp_path / 'two'),
        '--size', 'nano', '--steps', '2', '--batch', '2', '--height', '32', '--width', '64',
        '--held-out', '2', '--pixels', '200', '--accelerator', 'cpu', '--no-mixed',
        '--devices', '2',
    ]  # fmt: skip
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = weights(tmp_path / 'one'), weights(tmp_path / 'two')
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-3, atol=1e-5, msg=name)
