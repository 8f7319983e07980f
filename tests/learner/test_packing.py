import random

import torch

from grpo.learner.packing import advantages_of, collate, plan_microbatches
from grpo.types import TrainSample


def test_every_response_is_dealt_exactly_once_within_the_token_budget():
    rng = random.Random(0)
    for num_ranks in (1, 2, 3):
        lengths = [rng.randint(1, 90) for _ in range(101)]
        plan = plan_microbatches(lengths, num_ranks, tokens_per_microbatch=300)
        assert sorted(i for micro in plan for rows in micro for i in rows) == list(range(101))
        assert all(
            len(micro) == num_ranks for micro in plan
        )  # the same number of micro-batches on every rank
        for micro in plan:
            for rows in micro:
                assert not rows or len(rows) * max(lengths[i] for i in rows) <= 300


def test_a_row_longer_than_the_budget_goes_alone():
    assert plan_microbatches([10, 5000, 20], 1, 100) == [[[1]], [[2, 0]]]


def test_a_micro_batch_ends_where_padding_would_cost_more_than_another_one():
    # 10 rows of 200 and 10 of 100 within 4,000 tokens. Together: 20 x 200 = 4,000, and 512 for the
    # micro-batch. Apart: 10 x 200 + 10 x 100 = 3,000, and 1,024 for two.
    lengths = [200, 100] * 10
    apart = plan_microbatches(lengths, 1, 4000)
    assert apart == [[list(range(0, 20, 2))], [list(range(1, 20, 2))]]
    # With 5 short rows of 100 only 500 tokens are saved, less than a micro-batch costs.
    together = plan_microbatches(lengths[:10] + [200] * 5, 1, 4000)
    assert [len(rows) for (rows,) in together] == [15]


def test_collate_marks_the_positions_that_predict_response_tokens():
    samples = [
        TrainSample.from_tokens([1, 2, 3], [4, 5], [-0.1, -0.2]),
        TrainSample.from_tokens([6], [7, 8, 9], [-0.3, -0.4, -0.5]),
    ]
    mb = collate(samples, [0, 1], [0.5, 0.25], pad_token_id=0)
    assert mb.input_ids_BT.tolist() == [[1, 2, 3, 4], [6, 7, 8, 0]]
    assert mb.predicts_BT.tolist() == [[False, False, True, True], [True, True, True, False]]
    assert mb.targets_N.tolist() == [4, 5, 7, 8, 9]
    assert advantages_of(mb, samples, [1.0, -2.0]).tolist() == [1.0, 1.0, -2.0, -2.0, -2.0]
    assert mb.row_N.tolist() == [0, 0, 1, 1, 1]
    assert mb.weight_N.tolist() == [0.5, 0.5, 0.25, 0.25, 0.25]
    torch.testing.assert_close(mb.behaviour_logp_N, torch.tensor([-0.1, -0.2, -0.3, -0.4, -0.5]))


def test_a_rank_without_responses_gets_a_row_that_weighs_nothing():
    mb = collate([], [], [], pad_token_id=3)
    assert mb.input_ids_BT.shape == (1, 1)
    assert mb.weight_N.tolist() == [0.0]
