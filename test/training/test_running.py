"""Runs: go on as if they had not been stopped, refuse, save, tell; steps, samples, rates."""

from dataclasses import dataclass
from pathlib import Path

import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")
pytest.importorskip('lightning_fabric', reason="training needs Fabric: pip install '.[train]'")

from training import running
from training.running import (
    Run,
    RunSettings,
    check_same,
    learning_rate,
    moving_average,
    plain,
    sample_numbers,
    take_weights,
)


@dataclass(kw_only=True)
class Settings(RunSettings):
    run: Path
    rate: float = 0.1
    steps: int = 5
    batch: int = 2
    validate_every: int = 2
    accelerator: str = 'cpu'


class Numbers(torch.utils.data.Dataset):
    """Numbers that are their own, from 10, which a run of 5 steps of 2 uses up."""

    def __len__(self):
        return 10

    def __getitem__(self, number):
        return torch.tensor([10.0 + number])


class Told:
    """What a training did, step for step."""

    def __init__(self):
        self.batches, self.chance, self.validated = {}, {}, []


def train(settings, *, during=lambda step: None):
    fabric = settings.fabric()
    raw = torch.nn.Linear(1, 1)
    raw_optimizer = torch.optim.Adam(raw.parameters(), lr=settings.rate)
    run = Run(fabric, settings.run, settings, network=raw, optimizer=raw_optimizer)
    network, optimizer = fabric.setup(raw, raw_optimizer)
    told = Told()
    for step, numbers in run.steps(run.loader(Numbers())):
        told.batches[step] = numbers.flatten().tolist()
        told.chance[step] = float(torch.rand(()))
        loss = (network(numbers) - told.chance[step]).square().mean()
        fabric.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        run.log(step, {'loss': loss, 'twice': 2 * loss}, 'loss')
        during(step)
        if run.validates(step):
            told.validated.append(step)
    return told


def saved(run):
    return torch.load(run / 'checkpoint.pt', weights_only=True)


def same(a, b):
    return all(torch.equal(a['network'][name], b['network'][name]) for name in a['network'])


# ------------------------------------------------------------------------------------------ runs


def test_a_stopped_run_goes_on_as_if_it_had_not_been(tmp_path, stopped, capsys):
    whole = train(Settings(run=tmp_path / 'whole'))
    with stopped(3):
        first = train(Settings(run=tmp_path / 'parts'))
    assert 'step 3 of 5' in capsys.readouterr().out
    assert saved(tmp_path / 'parts')['step'] == 3
    assert not same(saved(tmp_path / 'whole'), saved(tmp_path / 'parts'))
    second = train(Settings(run=tmp_path / 'parts'))
    assert 'going on at step 3' in capsys.readouterr().out
    assert first.batches | second.batches == whole.batches
    assert first.chance | second.chance == whole.chance
    assert list(second.batches) == [4, 5]
    assert same(saved(tmp_path / 'whole'), saved(tmp_path / 'parts'))


def test_steps_see_samples_in_turn_and_chance_of_their_own(tmp_path):
    told = train(Settings(run=tmp_path / 'a'))
    assert told.batches == {n: [8.0 + 2 * n, 9.0 + 2 * n] for n in range(1, 6)}
    assert len(set(told.chance.values())) == 5
    assert train(Settings(run=tmp_path / 'b', seed=1)).chance[1] != told.chance[1]


def test_items_that_are_batches_stay_whole(tmp_path):
    settings = Settings(run=tmp_path, batch=4)
    run = Run(settings.fabric(), tmp_path, settings)
    seen = [batch.tolist() for _, batch in run.steps(run.loader(Numbers(), batched=True))]
    assert seen == [[10.0], [11.0], [12.0], [13.0], [14.0]]


def test_validation_is_due_every_so_many_steps_and_at_the_end(tmp_path, stopped):
    assert train(Settings(run=tmp_path / 'whole')).validated == [2, 4, 5]
    with stopped(1):
        assert train(Settings(run=tmp_path / 'stopped')).validated == [1]


def test_a_finished_run_has_no_steps_left(tmp_path):
    train(Settings(run=tmp_path))
    before = saved(tmp_path)
    assert train(Settings(run=tmp_path)).batches == {}
    assert same(before, saved(tmp_path))


def test_time_ends_a_run_as_ctrl_c_does(tmp_path):
    train(Settings(run=tmp_path, minutes=1e-9))
    assert saved(tmp_path)['step'] == 1


def test_a_stop_that_comes_while_validating_is_saved(tmp_path, monkeypatch):
    stop = running.Stop()
    monkeypatch.setattr(running, 'Stop', lambda: stop)
    settings = Settings(run=tmp_path)
    run = Run(settings.fabric(), tmp_path, settings)
    for step, _ in run.steps(run.loader(Numbers())):
        if run.validates(step):
            stop.wanted = True
    assert saved(tmp_path)['step'] == 2


def test_the_last_step_is_saved_before_its_validation(tmp_path):
    settings = Settings(run=tmp_path, validate_every=100)
    run = Run(settings.fabric(), tmp_path, settings)
    steps = [
        saved(tmp_path)['step']
        for step, _ in run.steps(run.loader(Numbers()))
        if run.validates(step)
    ]
    assert steps == [5]


def test_what_a_validation_finds_is_saved_too(tmp_path):
    settings = Settings(run=tmp_path)
    kept = torch.nn.Linear(1, 1)
    run = Run(settings.fabric(), tmp_path, settings, kept=kept)
    for step, _ in run.steps(run.loader(Numbers())):
        if run.validates(step):
            kept.bias.data.fill_(step)
    assert saved(tmp_path)['kept']['bias'].item() == 5


def test_checkpoints_are_written_every_so_often(tmp_path):
    steps = []

    def report(step):
        steps.append(saved(tmp_path)['step'] if (tmp_path / 'checkpoint.pt').exists() else 0)

    train(Settings(run=tmp_path, save_every_s=0.0), during=report)
    assert steps == [0, 1, 2, 3, 4]


class Pair:
    """Two devices, of which the other one has its own clock and its own Ctrl-C."""

    def __init__(self, fabric, wishes):
        self._fabric, self._wishes = fabric, iter(wishes)
        self.world_size = 2

    def __getattr__(self, name):
        return getattr(self._fabric, name)

    def all_reduce(self, own, reduce_op):
        assert reduce_op == 'sum'
        return own + next(self._wishes)


def test_what_one_process_wishes_all_do(tmp_path):
    # Each step asks twice: does the run end, and is it time to save?
    wishes = [0, 0, 0, 1, 1]
    settings = Settings(run=tmp_path)
    run = Run(Pair(settings.fabric(), wishes), tmp_path, settings)
    seen = [step for step, _ in run.steps(range(5))]
    assert seen == [1, 2, 3]
    assert saved(tmp_path)['step'] == 3


def test_a_checkpoint_says_what_made_it(tmp_path):
    train(Settings(run=tmp_path))
    state = saved(tmp_path)
    assert set(state) == {'network', 'optimizer', 'step', 'seconds', 'settings', 'commit'}
    assert state['settings'] == plain(vars(Settings(run=tmp_path)))
    first_s = state['seconds']
    assert first_s > 0
    train(Settings(run=tmp_path))
    assert saved(tmp_path)['seconds'] >= first_s


def test_a_run_of_other_settings_is_not_continued(tmp_path):
    train(Settings(run=tmp_path, steps=1))
    with pytest.raises(SystemExit, match=r'rate was 0\.1 and is 0\.2'):
        train(Settings(run=tmp_path, steps=1, rate=0.2))
    train(Settings(run=tmp_path, steps=1, validate_every=7, workers=0, minutes=1.0))


def test_losses_are_told_now_and_then(tmp_path):
    events = pytest.importorskip(
        'tensorboard.backend.event_processing.event_accumulator',
        reason="TensorBoard is not installed: pip install '.[train]'",
    )
    settings = Settings(run=tmp_path, steps=45)
    run = Run(settings.fabric(), tmp_path, settings)
    for step in range(1, 46):
        run.log(step, {'loss': torch.tensor(float(step))}, 'loss')
    run.write(45, 'validation', {'error': 0.5})
    run.picture(45, 'shown', torch.zeros(4, 6, 3, dtype=torch.uint8).numpy())
    read = events.EventAccumulator(str(tmp_path))
    read.Reload()
    told = [(event.step, event.value) for event in read.Scalars('training/loss')]
    assert told == [(1, 1.0), (20, 20.0), (40, 40.0)]
    assert read.Scalars('validation/error')[0].value == 0.5
    assert (read.Images('shown')[0].height, read.Images('shown')[0].width) == (4, 6)


# -------------------------------------------------------------------------------------- functions


def test_processes_share_the_samples_of_a_step():
    assert sample_numbers(range(1, 3), 4) == [4, 5, 6, 7, 8, 9, 10, 11]
    assert sample_numbers(range(1, 3), 4, process=0, processes=2) == [4, 5, 8, 9]
    assert sample_numbers(range(1, 3), 4, process=1, processes=2) == [6, 7, 10, 11]
    with pytest.raises(SystemExit, match='batch 4 does not divide by 3'):
        sample_numbers(range(3), 4, processes=3)


def test_the_learning_rate_rises_and_falls():
    assert learning_rate(0, 1000, 1.0) == pytest.approx(1 / 30)
    assert learning_rate(29, 1000, 1.0) == 1.0
    assert learning_rate(515, 1000, 1.0) == pytest.approx(0.51, abs=1e-3)
    assert learning_rate(1000, 1000, 1.0) == pytest.approx(0.02)


def test_settings_that_are_new_or_gone():
    check_same({'a': 1, 'gone': 2}, {'a': 1}, Path('x'), ())
    with pytest.raises(SystemExit, match='new was None and is 3'):
        check_same({'a': 1}, {'a': 1, 'new': 3}, Path('x'), ())


def test_settings_become_plain():
    assert plain({'a': (Path('b'), 1), 'c': {'d': None}}) == {'a': ['b', 1], 'c': {'d': None}}


def test_weights_of_another_run_are_taken_as_far_as_they_fit(tmp_path, capsys):
    one = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    other = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2))
    kept = other[1].weight.clone()
    average = torch.optim.swa_utils.AveragedModel(one)
    path = tmp_path / 'checkpoint.pt'
    torch.save({'average': average.state_dict()}, path)
    take_weights(other, path)
    assert torch.equal(other[0].weight, one[0].weight)
    assert torch.equal(other[1].weight, kept)
    assert 'took 2 of 4 tensors' in capsys.readouterr().out


def test_an_average_follows_closely_at_first():
    network = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        network.weight.fill_(0)
    average = moving_average(network, 0.5)
    with torch.no_grad():
        network.weight.fill_(1)
    # The first update copies; then 2/11 and 3/12 of the average are kept, and 0.5 at most.
    average.update_parameters(network)
    assert average.module.weight.item() == 1
    with torch.no_grad():
        network.weight.fill_(2)
    average.update_parameters(network)
    assert average.module.weight.item() == pytest.approx(2 / 11 * 1 + 9 / 11 * 2)
    for _ in range(20):
        average.update_parameters(network)
    with torch.no_grad():
        network.weight.fill_(4)
    average.update_parameters(network)
    assert average.module.weight.item() == pytest.approx(3, abs=1e-3)
