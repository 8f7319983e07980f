"""The tier of SymPy: what it decides, and that it evaluates no text."""

from __future__ import annotations

import ast
import time
from pathlib import Path

import pytest

from rewards import Component, Sample, Scorer, accuracy_reward, symbolic
from rewards.execution.pool import Pool, Task
from rewards.maths import IN_PROCESS, WORKER
from tests.rewards.test_safety import ANSWERS

ROOT = Path(__file__).resolve().parents[2]
needs_package = pytest.mark.skipif(
    symbolic.missing() is not None, reason="latex2sympy2_extended is not installed"
)

EQUAL = [
    (r"\frac12", r"\int_0^1 x\,dx"),
    (r"\frac{1}{6}", r"\int_0^1\int_0^1 x y^2 dx dy"),
    (r"\int_0^1 t\,dt", r"\int_0^1 x\,dx"),  # bound variables have no names
    (r"\frac{\sqrt{\pi}}{2}", r"\int_0^{\infty} e^{-x^2} \mathrm{d}x"),
    (r"\frac{\pi^2}{6}", r"\sum_{n=1}^{\infty} \frac{1}{n^2}"),
    (r"\sum_{k=1}^{\infty}\frac{x^k}{k}", r"\sum_{n=1}^{\infty}\frac{x^n}{n}"),
    (r"1", r"\lim_{x \to 0}\frac{\sin x}{x}"),
    (r"e", r"\lim_{n\to\infty}\left(1+\frac1n\right)^n"),
    (r"\infty", r"\lim_{x\to\infty} x"),
    (r"2x", r"\frac{d}{dx} x^2"),
    (r"\frac{x^2}{2}+C", r"\frac{x^2+1}{2}+C"),
    (r"-\cos x + c", r"2\sin^2\frac{x}{2}+C"),
    (r"C + \log|x|", r"\ln|2x|+C"),
    (
        r"F(x) = 3 + \frac{1}{2}\arctan\frac{x}{2}+C",
        r"\frac{1}{2}\arctan\left(\frac{x}{2}\right)+C",
    ),
]
DIFFERENT = [
    (r"\frac13", r"\int_0^1 x\,dx"),
    (r"\int_0^1 x\,dx", r"\frac12"),  # the integral was to be done
    (r"\frac{\pi^2}{8}", r"\sum_{n=1}^{\infty} \frac{1}{n^2}"),
    (r"\frac{1}{1-x}", r"\sum_{n=0}^{\infty} x^n"),  # only where |x| < 1
    (r"0", r"\lim_{x\to 0}\frac{1}{x}"),
    (r"\infty", r"\lim_{x\to 0}\frac{1}{x}"),  # -\infty from below
    (r"-\infty", r"\infty"),
    (r"x^3+C", r"x^2+C"),
    (r"x^2+1", r"x^2+C"),
    (r"x^2", r"x^2+C"),
    (r"x^2+C", r"x^2"),
    (r"B+C+1", r"B+C"),
    (r"X^2+C", r"x^2+C"),
    ("53", "53_4"),  # no number in base 4, so our reader leaves it
    ("25.12 * 0.2008", "25.12.2008"),
    ("90", "90_n"),
    (r"f(x) = 1 + x^2 + C", r"g(x) = x^2 + C"),
    (r"0", r"\lim_{x\to\infty} \sin x"),
    (r"\infty - \infty", r"\lim_{x\to\infty} x"),
    (r"2\ln 3", r"\int_{-1}^{3} \frac{1}{x} dx"),
    (r"0.7853981633974483", r"\int_0^1 \frac{dx}{1+x^2}"),
    (
        f"0.{7853981633974483096156608458198757210492923498437764:052d}",
        r"\int_0^1 \frac{dx}{1+x^2}",
    ),
    (
        r"\frac{7853981633974483096}{10^{19}} + \frac{1566084581987572104}{10^{38}} + \frac{929234984377}{10^{50}}",
        r"\int_0^1 \frac{dx}{1+x^2}",
    ),
    (r"5e^1", r"\int_0^1 1e5 dx"),
    (r"\int_0^1 X\,dx", r"\int_0^1 x\,dx"),
    (
        r"\int_0^1 listen\,dx",
        r"\int_0^1 silent\,dx",
    ),  # a product of letters has no order, a word has
]


def in_worker(pool: Pool, text: str, gold: str, how: str):
    task = Task(name="watched", samples=[Sample(response=text, gold=gold)], options={"how": how})
    return pool.run([task])[0][0]


def graded(pool: Pool, answer: str, gold: str):
    sample = Sample(response=rf"\boxed{{{answer}}}", gold=gold)
    task = Task(name="accuracy", samples=[sample], options={"symbolic": True})
    return pool.run([task])[0][0]


@pytest.fixture(scope="module")
def watching():
    """A worker that sees what Python is asked to run. It has much time: the machine may be busy."""
    if symbolic.missing():
        pytest.skip("latex2sympy2_extended is not installed")
    with Pool(1, modules=["tests.rewards.watched_rewards"], wall_seconds=60) as pool:
        yield pool


@pytest.mark.parametrize(("answer", "gold"), EQUAL)
def test_equal_where_our_reader_does_not_read(watching: Pool, answer: str, gold: str):
    reward = graded(watching, answer, gold)
    assert (reward.reason, reward.details["tier"]) == ("correct", "symbolic")
    assert accuracy_reward(rf"\boxed{{{answer}}}", gold).score == 0  # off by default


@pytest.mark.parametrize(("answer", "gold"), DIFFERENT)
def test_different_answers_stay_wrong(watching: Pool, answer: str, gold: str):
    assert graded(watching, answer, gold).reason == "wrong"


@needs_package
def test_answers_that_our_reader_decides_start_no_worker():
    for answer, gold in (
        ("4", "5"),
        ("x+1", "x+2"),
        (r"\sqrt2", "2"),
        ("three", "4"),
        ("5 cm", "4"),
    ):
        assert not symbolic.may_decide(answer, gold, IN_PROCESS)


@needs_package
def test_whether_a_text_is_for_this_tier_is_known_at_once():
    """That is found out in the caller's process. A pattern with two ways to match would not end."""
    started = time.process_time()
    for part in (r"\aaaa", r"\frac1", " ", "1 ", r"\sum_{", "x = ", "|", "(", "/ 1 ", ". "):
        for end in ("", "\x00", "@", r"\int", "="):
            symbolic.may_decide((part * 500)[:490] + end, r"\int_0^1 x dx", WORKER)
    assert time.process_time() - started < 5


def test_several_answers_must_all_be_right_in_this_tier_too(watching: Pool):
    gold = r"\int_0^1 x\,dx"
    both = r"\frac12}, that is \boxed{0.5", r"\frac12}, that is \boxed{\frac13"
    rewards = [graded(watching, text, gold) for text in both]
    assert [reward.reason for reward in rewards] == ["correct", "several_answers"]


PYTHON = [
    '__import__("os").system("touch pwned")',
    "__import__('os').system('touch pwned')",
    r"\text{eval}(1)",
    r"\operatorname{eval}(1)",
    r"\operatorname{__import__}(os)",
    "().__class__.__bases__[0].__subclasses__()",
    "lambda: 1",
    "lambda x: x",
    "x.__class__",
    "x.func.mro",
    r"\mathrm{os.system}(1)",
    "exec(\"open('pwned', 'w')\")",
    r"\int_0^1 open(x) dx",
    r"x_{__import__}",
    r"\lim_{x \to 0} eval(x)",
]
NUMBERS = ["12", "0.5", "1,234", "12%", r"\frac{1}{2} + 3^{4}", r"\int_0^1 2x dx", "x_{12} + 1"]


@pytest.mark.parametrize(
    "text", [*ANSWERS.values(), *PYTHON], ids=[*ANSWERS.keys(), *(f"python {t}" for t in PYTHON)]
)
def test_hostile_texts_are_not_run_and_open_no_file(watching: Pool, text: str):
    before = sorted(Path.cwd().iterdir())
    for answer, gold in ((text, r"\int_0^1 x dx"), (r"\frac12", text)):
        reward = in_worker(watching, answer, gold, "same")
        assert (reward.reason, reward.details) == ("watched", {"result": "False", "seen": []})
    assert sorted(Path.cwd().iterdir()) == before


@pytest.mark.parametrize("text", [*PYTHON, *NUMBERS])
def test_the_parser_alone_runs_no_text_either(watching: Pool, text: str):
    assert in_worker(watching, text, "", "raw").details["seen"] == []


def test_the_package_as_it_comes_evaluates_numbers_and_the_watch_notices(watching: Pool):
    seen = in_worker(watching, "12", "", "theirs").details["seen"]
    assert any("12" in line for line in seen)


@pytest.mark.parametrize(("answer", "gold"), EQUAL)
def test_texts_that_are_decided_are_not_run(watching: Pool, answer: str, gold: str):
    assert in_worker(watching, answer, gold, "same").details == {"result": "True", "seen": []}


@needs_package
def test_while_the_guard_holds_sympy_evaluates_no_text_and_after_it_does():
    sympy = pytest.importorskip("sympy")
    x = sympy.Symbol("x")
    for attempt in (lambda: sympy.sympify("1+1"), lambda: sympy.Number("1.5"), lambda: x + "1"):
        with (
            symbolic.no_text_evaluated(),
            pytest.raises(Exception, match=r"text would|unsupported"),
        ):
            attempt()
    assert sympy.sympify("1+1") == 2


@needs_package
def test_a_hang_is_killed_at_its_deadline_and_the_next_answer_is_graded():
    gold = r"\int_0^1 \sin(\sin(\exp(x^{x})))^{\cos x} dx"
    tasks = [
        Task(
            name="accuracy",
            samples=[Sample(response=r"\boxed{\frac12}", gold=one)],
            options={"symbolic": True},
        )
        for one in (gold, r"\int_0^1 x\,dx")
    ]
    with Pool(1, wall_seconds=2, modules=[symbolic.PRELOAD]) as pool:
        pool.run(tasks[1:])
        started = time.monotonic()
        rewards = [one for (one,) in pool.run(tasks)]
    assert [reward.reason for reward in rewards] == ["timeout", "correct"]
    assert time.monotonic() - started < 30  # 2 s and the start of another worker


def test_without_the_package_the_setting_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(symbolic, "PACKAGE", "latex2sympy2_of_nowhere")
    for options in ({"symbolic": True}, {"per_data_source": {"minerva": {"symbolic": True}}}):
        with pytest.raises(ValueError, match=r"accuracy\.symbolic=True: needs .*_of_nowhere; pip"):
            Scorer({"accuracy": Component(weight=1.0, options=options)})
    with pytest.raises(ValueError, match=r"symbolic=True: needs .*_of_nowhere; pip"):
        accuracy_reward(r"\boxed{1}", "2", symbolic=True)
    Scorer({"accuracy": Component(weight=1.0, options={"symbolic": False})})


def test_without_the_package_training_ends_with_78_before_anything_starts(monkeypatch, capsys):
    from grpo.train import main

    monkeypatch.setattr(symbolic, "PACKAGE", "latex2sympy2_of_nowhere")
    assert main(["--config-name", "tiny", "rewards.components.accuracy.symbolic=true"]) == 78
    assert "rewards.components.accuracy.symbolic=True: needs" in capsys.readouterr().err


def test_no_other_file_of_rewards_imports_by_name():
    """tests/rewards/test_safety.py forbids to import SymPy by statement. This tier imports it by
    name, since it is optional, and nothing else does.
    """
    importing = set()
    for path in sorted((ROOT / "rewards").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr == "import_module":
                importing.add(path.name)
    assert importing == {"symbolic.py"}
