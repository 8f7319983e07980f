"""What a run takes along from one stage to the next, and what it leaves, without engines or ranks."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from data.types import Problem
from grpo.checkpoint.commits import Commits
from grpo.checkpoint.folder import Checkpoints
from grpo.common.errors import StorageError, UserError
from grpo.config import load_config
from grpo.config.stages import stage_recipes
from grpo.inputs import load_inputs
from grpo.run import Training, first_state
from grpo.trainer import Parts, step_settings
from grpo.types import BegunGroup, Prompt, Response, SamplingSettings
from tests.models import SMALL_MODEL

PROMPTS = [
    Prompt(Problem(id=f"{level}{i}", question="q", answer="1", source="s", level=level), "q", [1])
    for level in ("easy", "hard")
    for i in range(8)
]
INPUTS = SimpleNamespace(
    prompts=PROMPTS, held_out=[], sampling=SamplingSettings(num_samples=4, temperature=1.0, max_tokens=8)
)  # fmt: skip


class Work(Training):
    """A run whose steps are draws from the data. It has the parts of a switch, and no processes."""

    def __init__(self, folder: Path, stages: str, *overrides: str) -> None:
        config = load_config(
            "tiny",
            ["checkpoint={every: 1, keep: 2}", *overrides, f"stages={' '.join(stages.split())}"],
        )
        self.notices: list[str] = []
        self.asked: list[tuple[str, ...]] = []  # of the learner
        self.refused: set[int] = set()  # steps whose checkpoints the disk does not take
        checkpoints = Checkpoints(folder)
        super().__init__(
            config=config,
            run=SimpleNamespace(notice=self.notices.append, position=lambda: 0, output_dir=folder),
            checkpoints=checkpoints,
            processes=ExitStack(),
            inputs=INPUTS,
            state=first_state(config, INPUTS, None),
            scorer=None,
            journal=SimpleNamespace(prune=lambda step: None),
        )
        self.settings = stage_recipes(config)[0]
        self.commits = Commits(checkpoints, self.save_state, self.notices.append)
        self.parts = Parts(
            held_out=[], sampling=INPUTS.sampling, rollouts=None, learner=self, scorer=None,
            run=self.run, journal=self.journal, commit=self.commit,
        )  # fmt: skip

    def save_state(self, folder: str) -> None:
        if self.state.step in self.refused:
            raise OSError(28, "No space left on device")

    def load_state(self, folder: str, *, with_moments: bool = True) -> None:
        self.asked.append(
            ("load", Path(folder).parent.name, "moments" if with_moments else "weights")
        )

    def refresh_reference(self) -> None:
        self.asked.append(("refresh",))

    def do(self, count: int = 4, **metrics: float) -> list[str]:
        """A step that draws some problems, and the switch after it where there is one."""
        state = self.state
        drawn = [prompt.problem.id for prompt in state.stream.next(count)]
        state.step += 1
        state.weight_version += 1
        state.pending = state.stages.observe(state.step, metrics)
        self.commit(state)
        if state.pending is not None and state.pending.target is not None:
            self.enter_stage(stage_recipes(self.config)[state.stages.current])
        return drawn

    def resume(self) -> None:
        """Go on with the state of the newest checkpoint, as another process does."""
        start = self.checkpoints.newest(self.notices.append)
        self.state = first_state(self.config, INPUTS, start)


FOLLOWED = "algorithm={kl_coef: 0.1, kl_target: 0.02, entropy_coef: 1.0e-3, entropy_target: 0.2}"


@pytest.mark.parametrize("new_processes", [False, True])
@pytest.mark.parametrize(
    ("stage", "kept", "settings"),
    [
        ("lr: 1.0e-6", {"kl_coef": 0.5, "entropy_coef": 0.25}, (0.5, 0.25)),
        ("kl_coef: 0.3", {"entropy_coef": 0.25}, (0.3, 0.25)),
        ("set: {algorithm.kl_target: null}", {"entropy_coef": 0.25}, (0.1, 0.25)),
        ("set: {algorithm.kl_target: 0.04}", {"entropy_coef": 0.25}, (0.1, 0.25)),
        ("entropy_coef: 0.002", {"kl_coef": 0.5}, (0.5, 0.002)),
        ("set: {algorithm.entropy_target: null}", {"kl_coef": 0.5}, (0.5, 1e-3)),
    ],
)  # fmt: skip
def test_a_coefficient_of_a_stage_holds_from_its_first_step(
    tmp_path, stage, kept, settings, new_processes
):
    work = Work(tmp_path, f"[{{name: a, until: {{max_steps: 1}}}}, {{name: b, {stage}}}]", FOLLOWED)
    work.state.coefficients = {"kl_coef": 0.5, "entropy_coef": 0.25}  # where controllers moved them
    if new_processes:  # which are started with the settings of the new stage
        work.settings = stage_recipes(work.config)[1]
    work.do()
    assert work.state.coefficients == kept
    first = step_settings(work.settings, work.state.step, work.state.coefficients)
    assert (first.kl_coef, first.entropy_coef) == settings
    # A checkpoint holds the moment before the switch.
    saved = work.checkpoints.read(1).state["coefficients"]
    assert saved == {"kl_coef": 0.5, "entropy_coef": 0.25}


SUBSETS = """[{name: a, subset: {levels: [easy]}, until: {max_steps: 1}},
    {name: b, until: {max_steps: 2}},
    {name: again, subset: {levels: [easy]}, until: {max_steps: 1}}, {name: all}]"""


@pytest.mark.parametrize("resumed", [False, True])
def test_a_stage_that_returns_to_a_subset_goes_on_where_it_was_left(tmp_path, resumed):
    work = Work(tmp_path, SUBSETS)
    first, other = work.do(), work.do()
    if resumed:
        work.resume()
    other += work.do()
    again = work.do()
    # Each problem of the level once before any comes twice, and so it is with all problems.
    assert sorted(first + again) == [f"easy{i}" for i in range(8)]
    assert sorted(other + work.do(8)) == sorted(prompt.problem.id for prompt in PROMPTS)


def test_a_checkpoint_that_knows_no_cursors_of_other_subsets_is_read(tmp_path):
    work = Work(tmp_path, SUBSETS)
    work.do()
    work.do()
    state = work.checkpoints.read(2).state
    assert set(state.pop("cursors")) == {work.config.stages[0].subset.model_dump_json()}
    old = first_state(work.config, INPUTS, SimpleNamespace(state=json.loads(json.dumps(state))))
    following = [prompt.problem.id for prompt in old.stream.next(4)]
    assert (old.cursors, following) == ({}, work.do())


def test_measured_success_is_taken_along_to_other_subsets(tmp_path):
    prioritised = "data.curriculum={kind: prioritised, min_weight: 1.0e-9}"
    work = Work(tmp_path, SUBSETS, prioritised)
    work.do()
    # All are solved but one of each level, and only these are drawn.
    work.state.stream.update({f"easy{i}": 1.0 for i in range(1, 8)})
    work.state.stream.update({f"hard{i}": 1.0 for i in range(7)})
    assert set(work.do(2)) == {"easy0", "hard7"}
    work.state.stream.update({"easy0": 1.0, "easy5": 0.0})
    work.do(1)
    assert work.do(1) == ["easy5"]  # of stage `again`, which `a` has left with other rates
    assert set(work.do(2)) == {"easy5", "hard7"}


def test_responses_that_were_begun_are_begun_again_as_the_stage_samples_them(tmp_path):
    work = Work(
        tmp_path,
        "[{name: a, subset: {levels: [easy]}, until: {max_steps: 1}},"
        " {name: b, num_samples: 2, until: {max_steps: 1}},"
        " {name: again, subset: {levels: [easy]}, num_samples: 3, until: {max_steps: 1}},"
        " {name: same, subset: {levels: [easy]}, num_samples: 8}]",
    )
    begun = Response(0, [1, 2], "12", [-0.1, -0.2], "segment", 0, 7)
    work.state.stream.begun = [BegunGroup(PROMPTS[3], 5, [begun, None, begun, begun])]
    seen = []
    for _ in range(3):
        work.do()
        seen.append([(g.prompt.problem.id, g.number, g.responses) for g in work.state.stream.begun])
    assert seen == [[], [("easy3", 5, [None] * 3)], [("easy3", 5, [None] * 8)]]


BEST = """[{name: a, until: {max_steps: 6}},
    {name: b, restart_from: best, best: {metric: reward}, optimizer: OPTIMIZER}]"""


@pytest.mark.parametrize(("optimizer", "loaded"), [("keep", "moments"), ("reset", "weights")])
def test_a_best_checkpoint_that_the_disk_refused_gives_way_to_the_one_before_it(
    tmp_path, optimizer, loaded
):
    work = Work(tmp_path, BEST.replace("OPTIMIZER", optimizer))
    drawn = work.do(2, reward=0.25)
    drawn += work.do(2, reward=0.5)
    work.refused = {3}
    drawn += work.do(2, reward=0.75)
    assert "step 3 was the best so far, and does not count" in work.notices[-1]
    work.resume()  # as a process that is started again: step 2 is the newest checkpoint
    assert work.state.step == 2
    drawn = drawn[:4] + work.do(2, reward=0.75)
    for reward in (0.125, 0.125):
        drawn += work.do(2, reward=reward)
    assert work.checkpoints.steps() == [2, 4, 5]
    drawn += work.do(2, reward=0.125)
    assert work.asked == [("load", "step_000002", loaded)]
    assert (work.state.stage, work.state.weight_version) == (1, 7)  # 6 updates and the way back
    # The weights go back, the problems do not.
    assert len({*drawn, *work.do(4)}) == 16


def test_without_any_best_checkpoint_the_weights_go_on(tmp_path):
    work = Work(tmp_path, BEST.replace("OPTIMIZER", "keep"), "checkpoint.every=5")
    work.refused = {5}  # the only one that checkpoint.every makes
    for reward in (0.25, 0.5, 0.75, 0.5, 0.5):
        work.do(2, reward=reward)
    assert "step 5 was the best so far, and does not count" in work.notices[-1]
    work.do(2, reward=0.125)
    assert work.asked == [] and work.state.stage == 1


def test_a_best_evaluation_that_the_disk_refused_is_not_kept_in_place_of_the_one_before(tmp_path):
    work = Work(tmp_path, "[{name: a}]", "checkpoint={every: 3, keep: 2}")
    for step, accuracy in enumerate((0.25, 0.5, 0.0), start=1):
        work.refused = {2}
        work.state.step = step - 1
        work.state.stream.next(1)
        work.state.step = step
        work.state.note_evaluation({"sampled": {"reward": accuracy}}, "sampled/reward")
        work.state.pending = work.state.stages.observe(step, {})
        work.commit(work.state)
    assert work.state.best == {"step": 1, "value": 0.25}
    assert work.checkpoints.steps() == [1, 3]


def test_a_step_that_a_stage_names_is_done_again_until_the_disk_takes_it(tmp_path):
    work = Work(tmp_path, "[{name: a, until: {max_steps: 4}}, {name: b, restart_from: 2}]")
    work.do()
    work.refused = {2}
    with pytest.raises(StorageError, match="begins with step 2, and the disk does not take its"):
        work.do()
    work.resume()
    assert work.state.step == 1
    work.refused = set()
    for _ in range(3):
        work.do()
    assert work.asked == [("load", "step_000002", "moments")]


def test_the_reference_is_the_policy_that_the_stage_begins_with(tmp_path):
    work = Work(
        tmp_path,
        "[{name: a, until: {max_steps: 2}},"
        " {name: b, kl_coef: 0.1, restart_from: 1, refresh_reference: true}]",
    )
    work.do()
    work.do()
    assert work.asked == [("load", "step_000001", "moments"), ("refresh",)]


def test_engines_have_room_for_the_longest_evaluation_of_all_stages():
    config = load_config(
        "tiny",
        [
            *("model.base=null", f"model.path={SMALL_MODEL}", "runtime=in_process"),
            *("learner.num_ranks=1", "rollout.num_engines=1", "rollout.max_model_len=128"),
            *("data.train.num_problems=8", "data.held_out.num_problems=8"),
            "stages=[{name: a, until: {max_steps: 1}},"
            " {name: b, set: {evaluation.max_response_tokens: 120}}]",
        ],
    )
    with pytest.raises(UserError, match=r"evaluation\.max_response_tokens=120: with the prompt of"):
        load_inputs(config, print)
