"""The judges of the storm notice what they are there for."""

from fault.sink import Effect, Order, careless, fenced


def effect(sequence: int, fence: int, lane: str = "a") -> Effect:
    return Effect(lane, sequence, f"{lane}{sequence}", fence)


def test_an_effect_after_that_of_a_later_event_is_out_of_order() -> None:
    made = [effect(1, 10), effect(2, 20), effect(1, 10), effect(1, 30, lane="b")]

    assert careless(made) == Order(behind=1)
    # A sink that checks the fence does not take it
    assert fenced(made) == Order(refused=1)


def test_a_fence_that_goes_backwards_would_be_noticed() -> None:
    assert fenced([effect(2, 10), effect(1, 20)]) == Order(behind=1)


def test_a_repetition_is_none() -> None:
    assert careless([effect(1, 10), effect(1, 20), effect(2, 30)]) == Order(again=1)
