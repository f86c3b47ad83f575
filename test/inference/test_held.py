import threading

import numpy as np

from depth_refiner_ros.inference import ChosenModel, HeldModel

IMAGE = np.zeros((2, 3), np.float32)


class Counting:
    """A model that puts out how many images it has seen, in an array that it uses again."""

    def __init__(self):
        self.count = 0
        self.out = np.zeros((1, 1), np.float32)

    def __call__(self, image):
        self.count += 1
        self.out[...] = self.count
        return {'estimate_m': self.out}


class Slow(Counting):
    """One that takes until it is let go."""

    def __init__(self):
        super().__init__()
        self.may, self.done = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, image):
        assert self.may.acquire(timeout=10)
        try:
            return super().__call__(image)
        finally:
            self.done.release()


def said(held, stamp_ns, *, every_frames=3, image=IMAGE, name='one'):
    answer = held(name, 'auto', 0, every_frames=every_frames, stamp_ns=stamp_ns, image=image)
    return answer and (float(answer.outputs['estimate_m'][0, 0]), held.frame - answer.frame)


def test_every_third_frame_is_asked_for_and_held_for_the_next_two():
    held = HeldModel(ChosenModel(Counting()))
    assert [said(held, 10 * number) for number in range(7)] == [
        *[(1, 0), (1, 1), (1, 2)],
        *[(2, 0), (2, 1), (2, 2)],
        (3, 0),
    ]


def test_what_is_held_ends_with_its_size_its_time_and_its_model():
    held = HeldModel(ChosenModel(Counting()))
    assert said(held, 50) == (1, 0)
    assert said(held, 60, image=np.zeros((4, 4))) == (2, 0)
    assert said(held, 55, image=np.zeros((4, 4))) == (3, 0)  # a bag that loops
    assert said(held, 65, image=np.zeros((4, 4)), name='other') == (4, 0)
    assert said(held, 75, image=np.zeros((4, 4)), name='other') == (4, 1)


def test_an_answer_is_not_overwritten_by_the_next_one():
    held = HeldModel(ChosenModel(Counting()))
    first = held('one', 'auto', 0, every_frames=1, stamp_ns=1, image=IMAGE)
    held('one', 'auto', 0, every_frames=1, stamp_ns=2, image=IMAGE)
    assert first.outputs['estimate_m'] == 1


def test_a_model_that_fails_is_asked_again_and_its_last_answer_forgotten():
    answers = [{'estimate_m': IMAGE + 1}, None, {'estimate_m': IMAGE + 2}]
    held = HeldModel(ChosenModel(lambda image: answers.pop(0)))
    assert [said(held, number, every_frames=2) for number in range(4)] == [
        (1, 0),
        (1, 1),
        None,
        (2, 0),
    ]


def test_a_host_in_a_hurry_never_waits_and_takes_the_newest_answer():
    model = Slow()
    chosen = ChosenModel(model)
    chosen.waits = False
    held = HeldModel(chosen)
    assert [said(held, number) for number in range(4)] == [None] * 4  # it works on frame 0
    model.may.release()
    assert model.done.acquire(timeout=10)
    held._beside.join(10)
    # Four frames old when it comes; by then the model is asked for the next one.
    assert said(held, 4) == (1, 4)
    assert said(held, 5) == (1, 5)
    model.may.release()
    held._beside.join(10)
    assert said(held, 6) == (2, 2)
    model.may.release()  # asked for again when three frames had passed
    held._wait()


def test_an_answer_to_another_size_is_not_taken():
    model = Slow()
    chosen = ChosenModel(model)
    chosen.waits = False
    held = HeldModel(chosen)
    said(held, 0)
    large = np.zeros((4, 4))
    assert said(held, 1, image=large) is None
    model.may.release()
    held._beside.join(10)
    assert said(held, 2, image=large) is None
    model.may.release()
    held._beside.join(10)
    assert said(held, 3, image=large) == (2, 1)
