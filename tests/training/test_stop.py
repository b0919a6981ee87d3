"""The clock and the signals, with a clock that the test winds."""

import signal
from types import SimpleNamespace

import pytest
from transformers import TrainerControl, TrainerState

from medrft.training.stop import Clock, Signals, StopOnSignal, Stopped

ARGS = SimpleNamespace(world_size=1, eval_strategy="steps")


class Hand:
    """The hand of a clock."""

    def __init__(self):
        self.time = 0.0

    def __call__(self):
        return self.time


def wound(**options):
    hand = Hand()
    clock = Clock(now=hand, **options)
    clock.on_train_begin(ARGS, TrainerState(), TrainerControl())
    return clock, hand


def step(clock, hand, seconds, *, evaluating=0.0, saving=0.0):
    control = TrainerControl()
    hand.time += seconds
    clock.on_step_end(ARGS, TrainerState(), control)
    if evaluating:
        hand.time += evaluating
        clock.on_evaluate(ARGS, TrainerState(), control)
    if saving:
        hand.time += saving
        clock.on_save(ARGS, TrainerState(), control)
    return control


def test_evaluation_and_saving_do_not_count():
    clock, hand = wound(before=100.0)
    step(clock, hand, 2.0, evaluating=50.0, saving=7.0)
    step(clock, hand, 3.0)
    assert clock.seconds == pytest.approx(105.0)


def test_a_budget_ends_the_stage_with_a_last_checkpoint():
    clock, hand = wound(budget=4.0)
    assert not step(clock, hand, 3.9).should_training_stop
    last = step(clock, hand, 0.2)
    assert last.should_training_stop and last.should_save and last.should_evaluate


def test_a_budget_asks_for_checkpoints_at_equal_shares():
    clock, hand = wound(budget=80.0)
    asked = [step(clock, hand, 1.0).should_save for _ in range(80)]
    assert [number + 1 for number, save in enumerate(asked) if save] == [10, 20, 30, 40, 50, 60, 70, 80]


def test_without_a_budget_the_clock_only_counts():
    clock, hand = wound()
    control = step(clock, hand, 1e6)
    assert not (control.should_training_stop or control.should_save or control.should_evaluate)


@pytest.mark.parametrize(("number", "leaves"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Stopped)])
def test_a_signal_saves_and_stops_at_the_end_of_the_step(number, leaves):
    before = signal.getsignal(number)
    with Signals() as signals:
        callback, control = StopOnSignal(signals), TrainerControl()
        callback.on_step_end(ARGS, TrainerState(), control)
        assert not control.should_training_stop
        signal.raise_signal(number)
        callback.on_step_end(ARGS, TrainerState(), control)
        assert control.should_training_stop and control.should_save
        with pytest.raises(leaves):
            signals.leave()
    assert signal.getsignal(number) is before


@pytest.mark.parametrize(("epoch", "step", "ends"), [(1.25, 5, False), (2.0, 8, True), (2.5, 10, True)])
def test_an_epoch_that_a_signal_cut_short_is_not_evaluated(epoch, step, ends):
    with Signals() as signals:
        callback, control = StopOnSignal(signals), TrainerControl(should_evaluate=True, should_log=True)
        state = TrainerState(epoch=epoch, global_step=step, max_steps=10)
        signal.raise_signal(signal.SIGTERM)
        callback.on_step_end(ARGS, state, control)
        callback.on_epoch_end(ARGS, state, control)
        assert control.should_evaluate is ends and control.should_log is ends


def test_a_second_ctrl_c_leaves_at_once():
    with Signals():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_without_a_signal_nothing_is_raised():
    with Signals() as signals:
        signals.leave()
