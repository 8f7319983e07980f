"""Speed and correctness of grading, side by side with math-verify in one run and one process.

    python -m benchmarks.grading                        # case tables, then the golds of
    ../shared/data python -m benchmarks.grading --data DIR --limit 500
    python -m benchmarks.grading --echo        # answers that copy the question
    python -m benchmarks.grading --ablate      # what each second reading earns

Correctness is measured on the case tables of tests/rewards (both directions of every case), on
which the grader was tuned, and on blind cases, which were written by somebody who had not seen it;
speed on those and on data golds that are graded against themselves with their commands respelled,
so that equality of texts decides little. math-verify is measured where it is installed; it is never
on the scoring path.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rewards import accuracy_reward

ROOT = Path(__file__).resolve().parent.parent
_FORMULA = re.compile(r"\$([^$]{1,400})\$")
Grader = Callable[[str, str], bool]
Case = tuple[str, str, bool]  # response, gold, whether they are equal


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """How one grader did on one set of cases."""

    cases: int
    wrongly_right: int
    wrongly_wrong: int
    seconds: float

    @property
    def line(self) -> str:
        accuracy = 1 - (self.wrongly_right + self.wrongly_wrong) / self.cases
        return (
            f"{100 * accuracy:7.2f}% right  "
            f"{self.wrongly_right:4d} wrongly rewarded  {self.wrongly_wrong:4d} wrongly refused  "
            f"{self.cases / self.seconds:8.0f} gradings/s"
        )


def ours(response: str, gold: str) -> bool:
    """Our grader as training uses it."""
    return accuracy_reward(response, gold).score == 1


def math_verify_grader() -> Grader | None:
    """The peer, or None where it is not installed."""
    try:
        from math_verify import parse, verify
    except ImportError:
        return None
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)

    def grade(response: str, gold: str) -> bool:
        return bool(verify(parse(f"${gold}$"), parse(response)))

    return grade


def table_cases() -> list[Case]:
    """The case tables of the tests, as boxed answers, both ways."""
    from tests.rewards.table import DIFFERENT, EQUAL

    cases = []
    for table, equal in ((EQUAL, True), (DIFFERENT, False)):
        for _, answer, gold in table:
            cases.append((rf"Thus $\boxed{{{answer}}}$.", gold, equal))
    return cases


def blind_cases() -> list[Case]:
    """Whole responses, labelled from the rules alone."""
    from tests.rewards.table import blind

    return [(case["response"], case["gold"], case["right"]) for case in blind()]


def data_cases(path: Path, limit: int) -> list[Case]:
    """Golds of a data set as answers to themselves: \\frac respelled, blanks doubled."""
    golds = [json.loads(line)["answer"] for line in path.read_text(encoding="utf-8").splitlines()]
    step = max(1, len(golds) // limit) if limit else 1
    return [(rf"Thus $\boxed{{ {_respelled(gold)} }}$.", gold, True) for gold in golds[::step]]


def _respelled(gold: str) -> str:
    return re.sub(r"\\frac(?![a-zA-Z])", r"\\dfrac", gold).replace(" ", "  ")


def echoes(path: Path, limit: int) -> str:
    """Formulas of a question as its answer, and right answers with the question at hand, which a
    rule against echoes must not refuse: the gold as it is written, and in the spellings that a
    model may choose.
    """
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows = rows[:: max(1, len(rows) // limit) if limit else 1]
    without = paid = right = refused = not_values = 0
    for row in rows:
        question, gold = row["problem"], row["answer"]
        formulas = [formula for formula in _FORMULA.findall(question) if len(formula) > 1]
        answers = [rf"\boxed{{{formula}}}" for formula in formulas]
        if _FORMULA.sub("", question) and not formulas:
            answers = [f"<answer>{question}</answer>"]
        equal = [answer for answer in answers if ours(answer, gold)]
        without += bool(equal)
        paid += any(accuracy_reward(answer, gold, question=question).score for answer in equal)
        for answer in spellings(gold):
            response = rf"\boxed{{{answer}}}"
            if ours(response, gold):
                right += 1
                refused += accuracy_reward(response, gold, question=question).score == 0
        response = rf"\boxed{{{gold}}}"
        not_values += (
            ours(response, gold) and not accuracy_reward(response, gold, form="evaluated").score
        )
    return (
        f"{path.stem:18} echoes of the question paid {paid} of {len(rows)} "
        f"(without the rule {without}), right answers refused {refused} of {right} "
        f"({100 * refused / max(right, 1):.3f}%), golds refused by form=evaluated {not_values}"
    )


def spellings(gold: str) -> list[str]:
    """A right answer in several forms."""
    found = [gold, _respelled(gold), f"x = {gold}", rf"{gold} \text{{ units}}"]
    if fraction := re.fullmatch(r"\\d?frac\{(\d+)\}\{(\d+)\}", gold):
        top, bottom = int(fraction[1]), int(fraction[2])
        found += [f"{top}/{bottom}", rf"\frac{{{2 * top}}}{{{2 * bottom}}}"]
        found += [str(top / bottom)] if bottom else []
    if terms := re.fullmatch(r"([^-+(){}]+)\+([^-+(){}]+)", gold):
        found.append(f"{terms[2]}+{terms[1]}")
    return found


def ablate() -> None:
    """What each second reading earns: pairs of each set that are right only with it, and pairs that
    are wrong only with it.
    """
    from rewards.maths.equality.readings import ONE_SIDED, TWO_SIDED, left_out
    from tests.rewards.table import blind_with_questions

    def verdicts() -> list[bool]:
        return [
            accuracy_reward(response, gold, question=question).score == 1
            for response, gold, _, question in cases
        ]

    sets = {
        "tables": [(*case, "") for case in table_cases()],
        "blind": [(*case, "") for case in blind_cases()],
        "questions": [
            (case["response"], case["gold"], case["equal"], case["question"])
            for case in blind_with_questions()
        ],
    }
    table: dict[str, list[str]] = {}
    for cases in sets.values():
        everything = verdicts()
        for name in (*ONE_SIDED, *TWO_SIDED):
            left_out.add(name)
            lost = [
                case[2]
                for case, full, less in zip(cases, everything, verdicts(), strict=True)
                if full and not less
            ]
            left_out.discard(name)
            table.setdefault(name, []).append(f"{sum(lost):7d} / {len(lost) - sum(lost):d}")
    print(f"{'earned / wrongly paid':22}" + "".join(f"{name:>11}" for name in sets))
    for name, columns in table.items():
        print(f"{name:22}" + "".join(f"{column:>11}" for column in columns), flush=True)


def measure(grader: Grader, cases: Sequence[Case]) -> tuple[Result, list[Case]]:
    """Grade all cases once; the result, and the cases that were judged wrongly."""
    for response, gold, _ in cases[:20]:
        grader(response, gold)  # imports and caches that a run would have warm
    failed = []
    started = time.perf_counter()
    for case in cases:
        if grader(case[0], case[1]) != case[2]:
            failed.append(case)
    seconds = time.perf_counter() - started
    wrongly_right = sum(1 for case in failed if not case[2])
    return (
        Result(
            cases=len(cases),
            wrongly_right=wrongly_right,
            wrongly_wrong=len(failed) - wrongly_right,
            seconds=seconds,
        ),
        failed,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of JSONL files"
    )
    parser.add_argument(
        "--limit", type=int, default=0, help="golds per file, spread evenly; 0 takes all"
    )
    parser.add_argument(
        "--peer-limit", type=int, default=300, help="golds per file for math-verify, which is slow"
    )
    parser.add_argument("--show", action="store_true", help="print the cases that we judge wrongly")
    parser.add_argument(
        "--echo",
        action="store_true",
        help="only answers that copy the question, and golds beside it",
    )
    parser.add_argument(
        "--ablate", action="store_true", help="only what each second reading of an answer earns"
    )
    args = parser.parse_args()
    if args.ablate:
        ablate()
        return
    if args.echo:
        for path in sorted(args.data.glob("*.jsonl")):
            print(echoes(path, args.limit), flush=True)
        return
    sys.path.insert(0, str(ROOT))  # for the cases of the tests
    peer = math_verify_grader()
    for name, cases in (("case tables", table_cases()), ("blind cases", blind_cases())):
        report(name, cases, cases, peer, show=args.show)
    for path in sorted(args.data.glob("*.jsonl")):
        report(
            path.stem,
            data_cases(path, args.limit),
            data_cases(path, args.peer_limit),
            peer,
            show=args.show,
        )


def report(
    name: str, cases: list[Case], peer_cases: list[Case], peer: Grader | None, *, show: bool
) -> None:
    """Measure and print one set of cases."""
    result, failed = measure(ours, cases)
    print(f"{name:18} ours        {result.line}  ({result.cases} cases)", flush=True)
    if peer is not None:
        peer_result, _ = measure(peer, peer_cases)
        print(f"{name:18} math-verify {peer_result.line}  ({peer_result.cases} cases)", flush=True)
    for response, gold, _ in failed if show else []:
        print(f"    {response!r} | {gold!r}")


if __name__ == "__main__":
    main()
