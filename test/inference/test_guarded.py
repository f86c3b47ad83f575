import threading

import numpy as np

from depth_refiner_ros.inference import ChosenModel, GuardedModel, ModelError, guarded


class Clock:
    now_s = 100.0

    def __call__(self):
        return self.now_s


class Flaky:
    """A model that fails when told to."""

    back_end = 'flaky'
    ambiguity, compiling = 'none', False

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


def test_a_model_is_loaded_beside_the_work_where_that_is_wanted():
    clock, model, loads, go = Clock(), Flaky(), [], threading.Event()

    def load():
        loads.append(clock.now_s)
        assert go.wait(10)
        return model

    guarded = GuardedModel(load, clock_s=clock)
    guarded.waits = False
    image, wide = np.ones((2, 2)), np.ones((2, 3))
    assert guarded(depth_m=image) is None
    clock.now_s += 7
    assert guarded.loading_s == 7
    assert guarded(depth_m=image) is None
    go.set()
    guarded._beside.join()
    assert guarded.loading_s == 0
    assert guarded(depth_m=image)['estimate_m'] is image
    assert guarded(depth_m=wide) is None  # another size is met beside, too
    guarded._beside.join()
    assert guarded(depth_m=wide)['estimate_m'] is wide
    assert guarded(depth_m=image)['estimate_m'] is image
    assert loads == [100.0]


def test_a_model_that_fails_beside_the_work_rests_and_is_loaded_anew():
    clock, model = Clock(), Flaky()
    guarded = GuardedModel(lambda: model, clock_s=clock)
    guarded.waits = False
    model.error = MemoryError('no room')
    image = np.ones((2, 2))
    assert guarded(depth_m=image) is None
    guarded._beside.join()
    assert guarded.trouble == 'MemoryError: no room'
    assert guarded(depth_m=image) is None
    assert guarded.loading_s == 0  # it rests
    model.error = None
    clock.now_s += 1.1
    assert guarded(depth_m=image) is None
    guarded._beside.join()
    assert guarded.trouble == ''
    assert guarded(depth_m=image)['estimate_m'] is image


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


def test_a_late_model_rests_and_has_one_more_try():
    clock, model, loads = Clock(), Flaky(), []

    def timed(**inputs):
        clock.now_s += model.takes_s
        return model(**inputs)

    def load():
        loads.append(clock.now_s)
        return timed

    model.takes_s = 0.5
    guarded = GuardedModel(load, deadline_s=0.1, clock_s=clock)
    assert guarded(depth_m=0) == {'estimate_m': 0}  # sets itself up: does not count
    for i in (1, 2, 3):
        assert guarded.trouble == ''
        assert guarded(depth_m=i) == {'estimate_m': i}  # late, but right
    assert guarded.trouble == (
        'took 0.500 s for a frame, and repeatedly more than its deadline of 0.1 s'
    )
    assert guarded(depth_m=4) is None
    clock.now_s += 1.1  # rested for a second: one try, late again, so two seconds
    assert guarded(depth_m=5) == {'estimate_m': 5}
    clock.now_s += 1.9
    assert guarded(depth_m=6) is None
    clock.now_s += 0.2
    model.takes_s = 0.05
    assert guarded(depth_m=7) == {'estimate_m': 7}
    assert guarded.trouble == ''
    model.takes_s = 0.5
    assert guarded(depth_m=8) is not None  # all is forgiven: three again
    assert guarded.trouble == ''
    assert len(loads) == 1


def test_without_a_deadline_a_model_may_take_its_time():
    clock, model = Clock(), Flaky()

    def timed(**inputs):
        clock.now_s += 100
        return model(**inputs)

    guarded = GuardedModel(lambda: timed, clock_s=clock)
    for i in range(9):
        assert guarded(depth_m=i) == {'estimate_m': i}
    assert guarded.trouble == ''


def test_a_named_model_tells_what_it_was_told(tiny, frame):
    guarded = GuardedModel.named(str(tiny), 'onnxruntime')
    assert guarded(**frame) is not None
    assert guarded.note.startswith('tiny runs on onnxruntime (median 0.000 mm')


class Doubling:
    ambiguity, compiling = 'none', False

    def __init__(self, name):
        self.back_end = name

    def __call__(self, x):
        return {'y': 2 * x}


def test_the_model_that_is_named_runs_until_another_is(monkeypatch):
    loads = []

    def load(name, device, *, threads, log):
        loads.append((name, device, threads))
        if name == 'absent':
            raise ModelError('no model absent')
        log(f'{name} runs')
        return Doubling(name)

    monkeypatch.setattr(guarded, 'load_upgrading', load)
    chosen = ChosenModel()
    assert (chosen.back_end, chosen.trouble, chosen.note) == ('', '', '')
    for _ in range(2):
        assert chosen('one', 'auto', 2, x=np.float32([1, 2]))['y'].tolist() == [2, 4]
    assert (chosen.back_end, chosen.note) == ('one', 'one runs')
    assert chosen('absent', 'auto', 2, x=np.float32([1])) is None
    assert (chosen.back_end, chosen.trouble) == ('', 'ModelError: no model absent')
    assert chosen('one', 'openvino', 2, x=np.float32([3]))['y'].tolist() == [6]
    assert loads == [('one', 'auto', 2), ('absent', 'auto', 2), ('one', 'openvino', 2)]
    chosen.leave()
    assert (chosen.back_end, chosen.trouble) == ('', '')


def test_what_is_given_runs_whatever_is_named():
    chosen = ChosenModel(lambda x: {'y': x + 1})
    assert chosen('absent', 'auto', 0, x=np.float32([1]))['y'].tolist() == [2]
    assert chosen.back_end == 'model'
