import pytest

from grpo.algorithm.learning_rate import learning_rate


def test_warm_up_starts_above_zero_and_reaches_the_peak():
    rates = [learning_rate(step, peak=1.0, max_steps=10, warmup_steps=4) for step in range(6)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 1.0])


@pytest.mark.parametrize(("schedule", "middle"), [("linear", 0.55), ("cosine", 0.55)])
def test_schedules_fall_from_the_peak_to_the_final_share(schedule, middle):
    rates = [
        learning_rate(s, peak=2.0, max_steps=11, schedule=schedule, final_share=0.1)
        for s in (0, 5, 10, 99)
    ]
    assert rates == pytest.approx([2.0, 2 * middle, 0.2, 0.2])
