import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")

from training.synth2real.history_buffer import HistoryBuffer


def batch(step, count=8):
    """Images whose single value says when they were made, and which they are."""
    return (100.0 * step + torch.arange(count)).reshape(count, 1, 1, 1)


def steps_of(images):
    return (images.flatten() // 100).int().tolist()


def test_it_fills_by_half_batches_and_stays_full():
    buffer = HistoryBuffer(10)
    sizes = []
    for step in range(6):
        mixed = buffer.mixed(batch(step))
        assert mixed.shape == (8, 1, 1, 1)
        sizes.append(len(buffer))
    assert sizes == [4, 8, 10, 10, 10, 10]


def test_half_is_of_now_and_half_is_older():
    buffer = HistoryBuffer(16)
    torch.manual_seed(0)
    # Nothing is kept yet: the batch stays what it is.
    assert torch.equal(buffer.mixed(batch(1)), batch(1))
    for step in range(2, 30):
        mixed = buffer.mixed(batch(step))
        assert torch.equal(mixed[:4], batch(step)[:4])
        older = steps_of(mixed[4:])
        assert all(1 <= then < step for then in older)
        assert mixed[4:].unique().numel() == 4  # none is drawn twice


def test_a_full_buffer_loses_half_a_batch_each_step():
    buffer = HistoryBuffer(12)
    for step in range(1, 6):
        buffer.mixed(batch(step))
    for step in range(6, 12):
        before = set(buffer.state_dict()['images'].flatten().tolist())
        buffer.mixed(batch(step))
        after = set(buffer.state_dict()['images'].flatten().tolist())
        assert len(after) == 12
        assert sum(value >= 100 * step for value in after) == 4
        assert len(before & after) == 8


def test_no_history():
    buffer = HistoryBuffer(0)
    for step in range(3):
        assert torch.equal(buffer.mixed(batch(step)), batch(step))
    assert len(buffer) == 0


def test_smaller_than_half_a_batch():
    buffer = HistoryBuffer(3)
    for step in range(4):
        assert torch.equal(buffer.mixed(batch(step)), batch(step))
        assert len(buffer) == 3


def test_it_goes_on_as_it_was():
    first, second = HistoryBuffer(10), HistoryBuffer(10)
    for step in range(4):
        first.mixed(batch(step))
    kept = first.state_dict()['images'].clone()
    second.load_state_dict({'images': kept})
    drawn = []
    for buffer in (first, second):
        torch.manual_seed(7)
        drawn.append(torch.cat([buffer.mixed(batch(step)) for step in range(4, 8)]))
    assert torch.equal(*drawn)
    assert torch.equal(first.state_dict()['images'], second.state_dict()['images'])


def test_it_keeps_values_not_graphs():
    buffer = HistoryBuffer(8)
    images = batch(1).requires_grad_()
    assert not buffer.mixed(images).requires_grad
    with torch.no_grad():
        images += 1000
    assert buffer.state_dict()['images'].max() < 1000
