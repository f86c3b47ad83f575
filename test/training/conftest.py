from contextlib import contextmanager
import signal

import pytest


@pytest.fixture(autouse=True)
def few_threads(request):
    """Tests run side by side; more threads than cores make each of them slow."""
    # Not at the top: `pytest test/training` cannot skip what its first conftest raises.
    torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")
    before = torch.get_num_threads()
    torch.set_num_threads(request.config.getoption('--threads'))
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def own_ctrl_c():
    """A run listens to Ctrl-C for as long as its process lives, which here is not its own."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def check_learned():
    """Judge what a short training reaches against its own network before it.

    What a few steps reach differs between processors, numbers of threads and seeds. So `most`, of
    the error before, lies at least three standard deviations above the mean of what is left after
    eight seeds, on one thread and on two, with the processor's instructions and with SSE4.1 alone:
    `ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 pytest -m slow --seeds 8 --threads 2`.
    Beside each limit stand this mean and deviation; with `-rP` a test says what it found.
    """

    def check(name, before, after, most):
        print(f'{name}: {after / before:.4f} of what it was')
        assert after < most * before

    return check


def write_rooms(parent):
    """Write shards of ten frames: a wall, a box in front of it, and a shadow on either side."""
    import torch

    from training.examples import KIND, Examples, encode
    from training.shards import write_shard

    folder = parent / 'rooms'
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    truth_m = torch.full((10, 1, 64, 96), 2.0)
    color = torch.full((10, 3, 64, 96), 60, dtype=torch.uint8)
    for i in range(10):
        left = 20 + 4 * i
        truth_m[i, :, 20:50, left : left + 24] = 1.0
        color[i, :, 20:50, left : left + 24] = 200
    raw_m = truth_m + 0.002 * torch.randn(truth_m.shape, generator=generator)
    both_m = raw_m.repeat(1, 2, 1, 1)
    for i in range(10):
        both_m[i, 0, 20:50, 12 + 4 * i : 22 + 4 * i] = torch.nan
        both_m[i, 1, 20:50, 42 + 4 * i : 54 + 4 * i] = torch.nan
    examples = Examples(color, truth_m, both_m, torch.full((10,), 525.0))
    write_shard(folder, KIND, 0, encode(examples))
    return folder


@pytest.fixture
def rooms(tmp_path):
    """A folder of shards; see `write_rooms`."""
    return write_rooms(tmp_path)


class StopAfter:
    """Ctrl-C during a step: a run asks twice in each."""

    def __init__(self, step):
        self.unasked = 2 * (step - 1)

    @property
    def wanted(self):
        self.unasked -= 1
        return self.unasked < 0


@pytest.fixture
def stopped(monkeypatch):
    """Make a context in which runs are stopped during a step, as by Ctrl-C: `stopped(2)`."""

    @contextmanager
    def during(step):
        from training import running

        with monkeypatch.context() as patched:
            patched.setattr(running, 'Stop', lambda: StopAfter(step))
            yield

    return during
