from depth_refiner_ros.inference import GuardedModel, ModelError


class Clock:
    now_s = 100.0

    def __call__(self):
        return self.now_s


class Flaky:
    """A model that fails when told to."""

    back_end = 'flaky'

    def __init__(self):
        self.error = None

    def __call__(self, **inputs):
        if self.error:
            raise self.error
        return {'estimate_m': inputs['depth_m']}


def test_a_crash_is_told_and_tried_again_later_and_later():
    clock, model, loads = Clock(), Flaky(), []

    def load():
        loads.append(clock.now_s)
        return model

    guarded = GuardedModel(load, clock_s=clock)
    assert guarded(depth_m=1) == {'estimate_m': 1}
    assert (guarded.back_end, guarded.trouble) == ('flaky', '')
    model.error = MemoryError('CUDA out of memory')
    assert guarded(depth_m=1) is None
    assert guarded.trouble == 'MemoryError: CUDA out of memory'
    assert guarded.back_end == ''
    clock.now_s += 0.9
    assert guarded(depth_m=1) is None
    assert loads == [100.0]
    clock.now_s += 0.2  # past the first second: loaded anew, fails anew
    assert guarded(depth_m=1) is None
    assert len(loads) == 2
    clock.now_s += 1.9  # now two seconds
    guarded(depth_m=1)
    assert len(loads) == 2
    clock.now_s += 0.2
    model.error = None
    assert guarded(depth_m=2) == {'estimate_m': 2}
    assert guarded.trouble == ''


def test_waiting_ends_at_a_minute():
    clock, loads = Clock(), []

    def load():
        loads.append(clock.now_s)
        raise ModelError('no model depth_small')

    guarded = GuardedModel(load, clock_s=clock)
    for _ in range(400):
        assert guarded(depth_m=1) is None
        clock.now_s += 1
    # 1 + 2 + 4 + 8 + 16 + 32 s, then every minute.
    assert [round(t - 100) for t in loads] == [0, 1, 3, 7, 15, 31, 63, 123, 183, 243, 303, 363]
    assert guarded.trouble == 'ModelError: no model depth_small'


def test_a_named_model_tells_what_it_was_told(tiny, frame):
    guarded = GuardedModel.named(str(tiny), 'onnxruntime')
    assert guarded(**frame) is not None
    assert guarded.told.startswith('tiny runs on onnxruntime (median 0.000 mm')
