"""Nothing evaluates text, nothing hangs, nothing hostile is rewarded."""

from __future__ import annotations

import ast
import time
from pathlib import Path

import pytest

from rewards import accuracy_reward

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "rewards").rglob("*.py"))
FORBIDDEN_NAMES = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "sympify",
    "parse_expr",
    "parse_latex",
    "lambdify",
    "S",
}
FORBIDDEN_ATTRIBUTES = {
    "sympify",
    "parse_expr",
    "parse_latex",
    "lambdify",
    "literal_eval",
    "mpmathify",
    "subs",
    "system",
}
FORBIDDEN_MODULES = {
    "sympy",
    "latex2sympy2",
    "latex2sympy2_extended",
    "math_verify",
    "pickle",
    "marshal",
    "shelve",
}
FORBIDDEN_MODULES |= {
    "code",
    "codeop",
    "runpy",
    "dill",
    "cloudpickle",
    "multiprocessing",
    "numexpr",
}


def offences(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        name = ""
        if isinstance(node, ast.Name) and node.id in FORBIDDEN_NAMES:
            name = node.id
        elif isinstance(node, ast.Attribute) and node.attr in FORBIDDEN_ATTRIBUTES:
            name = node.attr
        elif isinstance(node, ast.Import):
            name = next(
                (
                    alias.name
                    for alias in node.names
                    if alias.name.split(".")[0] in FORBIDDEN_MODULES
                ),
                "",
            )
        elif (
            isinstance(node, ast.ImportFrom)
            and (node.module or "").split(".")[0] in FORBIDDEN_MODULES
        ):
            name = node.module or ""
        elif isinstance(node, ast.keyword) and node.arg == "shell":
            name = "shell="
        if name:
            found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {name}")
    return found


def test_no_source_evaluates_text():
    assert len(SOURCES) > 20
    assert [offence for path in SOURCES for offence in offences(path)] == []


def test_no_package_evaluates_text_by_the_plain_names():
    plain = {"eval", "exec", "sympify", "parse_expr"}
    found = []
    for path in sorted(path for name in ("data", "grpo") for path in (ROOT / name).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Name) and node.id in plain:
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {node.id}")
            elif isinstance(node, ast.Attribute) and node.attr in ("sympify", "parse_expr"):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {node.attr}")
    assert found == []


def test_the_scan_finds_what_it_looks_for(tmp_path: Path):
    bad = ROOT / "rewards" / "registry.py"
    source = "eval('1')\nfrom sympy import S\nx.subs('a', 1)\nimport pickle\n"
    probe = tmp_path / "probe.py"
    probe.write_text(source)
    tree_offences = []
    for line in source.splitlines():
        probe.write_text(line)
        try:
            tree_offences.append(bool(offences(probe)))
        except ValueError:  # the probe is outside of the repository
            tree_offences.append(True)
    assert tree_offences == [True] * 4 and offences(bad) == []


def nested(opening: str, inner: str, closing: str, times: int) -> str:
    return opening * times + inner + closing * times


ANSWERS = {
    "tower": r"9^{9^{9^{9}}}",
    "long tower": "2^" * 300 + "2",
    "factorial": "100000000!",
    "factorial of factorials": "((((9!)!)!)!)!",
    "row of factorials": "9" + "!" * 500,
    "sum": r"\sum_{k=1}^{10^{12}} k",
    "sums in sums": r"\sum_{a=1}^{99} \sum_{b=1}^{99} \sum_{c=1}^{99} \sum_{d=1}^{99} \sqrt{d}",
    "product": r"\prod_{k=1}^{100000} k",
    "binomial": r"\binom{10^9}{5\cdot 10^8}",
    "exponentials": r"e^{e^{e^{e^{e}}}}",
    "large angle": r"\sin(10^{10^{5}})",
    "large power": r"(10^{1000})^{1000}",
    "float": "1e999999",
    "root": r"\sqrt[10^{9}]{2}",
    "braces": nested("{", "1", "}", 5000),
    "brackets": nested("(", "1", ")", 3000),
    "fractions": nested(r"\frac{1}{", "2", "}", 1000),
    "roots": nested(r"\sqrt{", "2", "}", 2000),
    "text": nested(r"\text{", "41", "}", 500),
    "matrices": nested(r"\begin{pmatrix}", "1", r"\end{pmatrix}", 300),
    "bars": "|" * 1001,
    "megabyte of digits": "1" * 1_000_000,
    "megabyte of terms": "1+" * 500_000 + "1",
    "long list": ",".join(map(str, range(5000))),
    "thousands": "1" + ",000" * 20_000,
    "blanks": "1" + " 000" * 20_000,
    "many variables": "+".join(rf"x_{{{k}}}" for k in range(400)),
    "large polynomial": "(x+y+z)^{5000}",
    "many fractions": "+".join(rf"\frac{{1}}{{{k}}}" for k in range(1, 400)),
    "long period": "0.\\overline{" + "4" * 2500 + "}",
    "NUL": "4\x002",
    "surrogate": "\ud800 41",
    "right to left": "\u202e24",
    "zero width": "4\u200b2",
    "other digits": "٤٢",
    "bold digits": "𝟒𝟐",
    "open systems": r"\left\{\begin{array}{l}" * 800,
    "open derivatives": r"\frac{d" * 400,
    "rows": r"\\[1" * 600,
    "sets without points": r"\mathbb{R}" + r"\setminus\{a\}" * 100,
    "conditions": "x = " + "for " * 900,
    "number sets": r"x \in Z " * 400,
    "matrix and more": r"\begin{pmatrix} 1 \\ 2 \end{pmatrix} 3",
    "open bracket": ")",
    "python": '__import__("os").system("touch pwned")',
    "python exec": "exec(\"open('pwned', 'w')\")",
    "python class": "().__class__.__bases__[0].__subclasses__()",
    "python call": "int('42')",
    "jinja": "{{ 7 * 7 }}",
    "shell": "$(echo 42)",
    "always equal": "__eq__",
    "guesses": " or ".join(map(str, range(100))),
    "guess set": r"\{" + ", ".join(map(str, range(100))) + r"\}",
    "guess interval": r"[0, 100]",
    "guess tuple": "(" + ",".join(map(str, range(100))) + ")",
    "plus-minus": r"\pm 1 \pm 2 \pm 3 \pm 4 \pm 5 \pm 6",
    "all numbers": r"\mathbb{R}",
    "variable": "x",
    "division by zero": r"\frac{42}{0}",
    "nan": r"\frac{0}{0}",
    "infinity": r"\infty",
    "log base 1": r"\log_{1} 42",
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_hostile_answers_are_refused_quickly(answer: str):
    started = time.process_time()
    for response in (
        rf"\boxed{{{answer}}}",
        f"<answer>{answer}</answer>",
        f"The answer is {answer}",
    ):
        for gold in ("42", "x^2", r"\frac{1}{3}"):
            assert accuracy_reward(response, gold).score == 0
    assert (
        time.process_time() - started < 9 * 2.5
    )  # each within its two seconds; usually milliseconds
    assert not Path("pwned").exists()


RESPONSES = {
    "open boxes": r"\boxed{" * 100_000,
    "nested boxes": r"\boxed{" * 50_000 + "42" + "}" * 50_000,
    "open tags": "<answer>" * 100_000,
    "thoughts": "<think>" * 100_000,
    "ends of thoughts": "</think>" * 100_000,
    "statements": "the answer is " * 50_000,
    "hashes": "####" * 200_000,
    "braces": "{" * 1_000_000,
    "backslashes": "\\" * 1_000_000,
    "guesses in tags": "".join(f"<answer>{n}</answer>" for n in range(50_000)),
    "guesses in boxes": "".join(rf"\boxed{{{n}}}" for n in range(50_000)),
    "answer to": "answer to " * 100_000,
    "headings": "## Answer\n\n" * 100_000,
    "answer and line breaks": "answer" + "\n" * 1_000_000 + "42 43",
    "doubts": "if the answer is " * 60_000,
    "second thoughts": "The answer is 42" + ". wai" * 200_000 + ". Wait",
    "sentence with a gap": "<answer>x is" + " " * 1_000_000 + "y\ny</answer>",
    "code ticks": "<answer>" + "`" * 1_000_000 + "</answer>",
    "escaped blanks": "<answer>" + r"\ " * 500_000 + "</answer>",
    "special tokens": "<|" * 500_000,
}


@pytest.mark.parametrize("response", RESPONSES.values(), ids=RESPONSES.keys())
@pytest.mark.parametrize("source", ["any", "boxed", "answer_tag", "stated"])
def test_hostile_responses_are_searched_in_linear_time(response: str, source: str):
    started = time.process_time()
    assert accuracy_reward(response, "42", source=source).score == 0  # type: ignore[arg-type]
    assert time.process_time() - started < 3


def test_a_hostile_gold_is_no_danger_either():
    for gold in (ANSWERS["tower"], ANSWERS["python"], ANSWERS["fractions"], "", "   ", "\x00"):
        assert accuracy_reward(r"\boxed{42}", gold).score == 0


def test_an_answer_too_large_to_compute_is_still_equal_to_its_own_text():
    assert accuracy_reward(r"\boxed{9^{9^{9^9}}}", r"9^{9^{9^9}}").score == 1
