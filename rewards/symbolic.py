r"""The last tier of `accuracy`, off by default (`symbolic: true`): answers that our grader does not
read, integrals, limits, infinite sums and antiderivatives, are given to SymPy.

It runs in a worker that can be killed, never in the caller's process. LaTeX is parsed by the ANTLR
grammar of latex2sympy2_extended. That package turns the text of each number into a SymPy number
through `sympify`, which evaluates text as Python. Here numbers are made from their digits, and the
functions by which SymPy evaluates text raise while this tier is at work.

Left out on purpose: relations, sets, tuples, matrices, units, words. Our own reader knows them.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import random
import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

from rewards.maths import Limits
from rewards.maths.answer.kinds import Words
from rewards.maths.answer.reader import read

PACKAGE = "latex2sympy2_extended"
PRELOAD = "rewards.execution.preload"  # the module by which a worker calls `load` at its start
MAX_CHARS = 500  # of one side
MAX_DEPTH = 25  # nesting of its brackets
MAX_EXPONENT = 400  # of a number's power, and argument of a factorial
DIGITS = 50  # at which two values are compared
_POINTS = 8  # at which two functions must agree
_TRIED_POINTS = 60

_COMMANDS = frozenset(
    """frac sqrt binom int sum prod lim infty to rightarrow cdot times div pi ln log exp
    sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh arcsinh arccosh arctanh arsinh
    arcosh artanh alpha beta delta epsilon theta lambda mu nu xi rho sigma tau phi varphi psi omega
    partial""".split()  # noqa: SIM905
)
_RESPELLINGS = [
    (re.compile(r"\\[,;!: ]|\\q?quad\b|~|\$|\\displaystyle\b|\\(?:no)?limits\b"), " "),
    (re.compile(r"\\[dtc](frac|binom)(?![a-zA-Z])"), r"\\\1"),
    (re.compile(r"\\(?:mathrm|text|operatorname)\s*\{\s*([de])\s*\}"), r" \1"),
    (re.compile(r"\\(?:left|right)\s*(?=[()\[\]|])"), ""),
    (re.compile(r"\\frac\s*(\d|(?<=\s)[a-z])"), r"\\frac{\1}"),
    (re.compile(r"(\\frac\{[^{}]*\})\s*(\w)"), r"\1{\2}"),
    (re.compile(r"\\sqrt\s*(\d)"), r"\\sqrt{\1}"),
    (re.compile(r"\\log(?![a-zA-Z]|\s*_)"), r"\\ln"),
    (re.compile(r"\\text\s*\{\s*(?:const(?:ant)?\.?|C)\s*\}"), "C"),
    (re.compile(r"^\s*[A-Za-z](?:\s*\(\s*[a-z]\s*\))?\s*=(?!.*=)"), ""),
]
_NAME = re.compile(r"[\s$]*([A-Za-z](?:\s*\(\s*[a-z]\s*\))?)\s*=")
# What SymPy can decide and our reader cannot; it takes some of these for names or open sums.
_UNDECIDED = re.compile(
    r"\\(?:int|lim)(?![a-zA-Z])|\\infty|\\frac\s*\{\s*(?:d|\\partial)\s*\}|\+\s*C\b"
)
_ALLOWED = re.compile(r"(?:\\(?=[A-Za-z])|[A-Za-z0-9\s+\-*/^_(){}\[\]|!.=])*")
# What the grammar takes for something else. Runs of letters are words, and as products they have no
# order. `f(x + 1)`, `1 000`, `1e5`, `x2` and the date `1.12.2008` would be products, `I` the
# imaginary unit, `1/2x` 1/(2x), `53_4` 53, and a limit from one side one from both.
_MISREAD = re.compile(
    r"(?<![\\a-zA-Z])[A-Za-z]{4,}|[fghFGHP]\s*\(|(?<![\\A-Za-z])I(?![A-Za-z])"
    r"|/\s*(?:\d+|[A-Za-z])\s*[A-Za-z\\({]|\^\s*(?:[+-]|\{\s*[+-]\s*\})|'|!\s*!"
    r"|\d\s*_|\d\s+\.?\d|\.\s*\d*\s*\.|(?<![\\A-Za-z])[A-Za-z]\s*\d"
)
_CONSTANTS = frozenset({"C", "C_1", "C_{1}", "c", "K", "k"})


class _RefusedError(Exception):
    """The text or what it says is not for this tier."""


def asked_for(options: Mapping[str, Any]) -> bool:
    """Do the options of `accuracy` switch the tier on, for all rows or those of a data source?"""
    by_source = options.get("per_data_source")
    of_sources = by_source.values() if isinstance(by_source, Mapping) else ()
    blocks = [own for own in (options, *of_sources) if isinstance(own, Mapping)]
    return any(own.get("symbolic") is True for own in blocks)


def missing() -> str | None:
    """Why the tier cannot be used here, with the fix; None where it can."""
    if importlib.util.find_spec(PACKAGE) and importlib.util.find_spec("antlr4"):
        return None
    return f"needs the package {PACKAGE}; pip install 'grpo[symbolic]', or set it to false"


def may_decide(answer: str, gold: str, limits: Limits) -> bool:
    """Is this pair one for SymPy: mathematics of the tier's grammar, and not decided by our reader?
    Costs no more than reading both.

    Raises:
        LimitError: reading them asks for more than `limits`.
    """
    both = [_respelt(text) for text in (answer, gold)]
    if None in both or _differently_named(answer, gold):
        return False
    if any(_UNDECIDED.search(text) for text in both if text):
        return True
    return any(isinstance(read(text.strip(), limits)[0], Words) for text in (answer, gold))


def same(answer: str, gold: str) -> bool:
    """Does SymPy show that two LaTeX expressions are equal? False also where it does not know.

    Equal are expressions whose difference simplifies to 0, or closed forms that agree to 50 digits
    at 8 random points. An answer that leaves an integral, a sum, a product, a limit or a derivative
    to be done counts only where the gold leaves one. With `+ C` in both they may differ by a
    constant.

    To be called in a worker only: SymPy may take any time and memory.
    """
    spelt, gold_spelt = _respelt(answer), _respelt(gold)
    if spelt is None or gold_spelt is None or _differently_named(answer, gold):
        return False
    load()
    with no_text_evaluated():
        try:
            return _same(_parsed(spelt), _parsed(gold_spelt))
        except MemoryError:
            raise
        except Exception:  # SymPy and the parser raise many kinds, and each means "not shown"
            return False


@contextlib.contextmanager
def no_text_evaluated() -> Iterator[None]:
    """While it holds, every way by which SymPy evaluates text as Python raises. `sympify` of a text
    ends in functions of `sympy.parsing.sympy_parser`, which are looked up when they are called. The
    others are `lambdify`, and polynomials, for which SymPy writes functions as text: they get the
    plain functions that do the same.
    """
    parser = importlib.import_module("sympy.parsing.sympy_parser")
    lambdifying = importlib.import_module("sympy.utilities.lambdify")
    monomials = importlib.import_module("sympy.polys.monomials")

    def refuse(*_: object, **__: object) -> Any:
        raise _RefusedError("text would be evaluated")

    def plain_function(_self: object, _code: str, name: str) -> Any:
        if name == "monomial_mulpow":
            return lambda A, B, k: tuple(a + b * k for a, b in zip(A, B, strict=True))
        return getattr(monomials, name)

    places: list[tuple[Any, str, Any]]
    places = [(parser, name, refuse) for name in ("parse_expr", "stringify_expr", "eval_expr")]
    places.append((lambdifying, "lambdify", refuse))
    places.append((monomials.MonomialOps, "_build", plain_function))
    kept = [getattr(owner, name) for owner, name, _ in places]
    try:
        for owner, name, function in places:
            setattr(owner, name, function)
        yield
    finally:
        for (owner, name, _), function in zip(places, kept, strict=True):
            setattr(owner, name, function)


def _differently_named(answer: str, gold: str) -> bool:
    """`y = 5` is no answer to `x = 5`. A name that only one side has is no difference."""
    names = [found[1].replace(" ", "") for text in (answer, gold) if (found := _NAME.match(text))]
    return len(names) == 2 and names[0] != names[1]


@lru_cache(maxsize=4_096)
def _respelt(text: str) -> str | None:
    """The text in the spelling of the grammar; None where it is not mathematics of this tier."""
    if len(text) > MAX_CHARS or not text.isascii():
        return None
    for pattern, spelling in _RESPELLINGS:
        text = pattern.sub(spelling, text)
    text = text.strip().rstrip(".").strip()
    depth = deepest = 0
    for mark in text:
        depth += (mark in "({[") - (mark in ")}]")
        deepest = max(deepest, depth)
    if not text or depth or deepest > MAX_DEPTH or not _ALLOWED.fullmatch(text):
        return None
    if "=" in re.sub(r"\\(?:sum|prod)\s*_\s*\{[^{}=]*=", "", text) or _MISREAD.search(text):
        return None
    return text if _COMMANDS.issuperset(re.findall(r"\\([A-Za-z]+)", text)) else None


@lru_cache(maxsize=1)
def load() -> None:
    """Import what the tier needs and let SymPy fill its table of integrals, which it writes with
    texts of its own such as `S('3/2')`. Under the guard that would raise. It takes seconds, so
    workers do it before the time of their first answer runs.
    """
    sympy, _ = _sympy(), _converter()
    importlib.import_module(
        "sympy.integrals.manualintegrate"
    )  # else imported by the first integral
    x = sympy.Symbol("x", real=True)
    sympy.Integral(sympy.exp(-(x**2)), (x, 0, sympy.oo)).doit()


@lru_cache(maxsize=1)
def _sympy() -> Any:
    """SymPy. It is optional and slow to import, so nothing else in `rewards` asks for it."""
    return importlib.import_module("sympy")


@lru_cache(maxsize=1)
def _converter() -> Any:
    """The converter of the package, with numbers made from their digits and nothing but single
    expressions let through.
    """
    sympy, module = _sympy(), importlib.import_module(f"{PACKAGE}.latex2sympy2")

    class Converter(module._Latex2Sympy):  # type: ignore[name-defined]
        def parse_number(self, text: str) -> Any:
            if not re.fullmatch(r"\d{1,20}(?:\.\d{1,20})?|\.\d{1,20}", text, re.ASCII):
                raise _RefusedError("number")
            number = Fraction(text)
            return sympy.Rational(number.numerator, number.denominator)

        def parse(self, text: str) -> Any:
            tree = self.create_parser(text).math()
            if not tree.set_elements():
                raise _RefusedError("no single expression")
            return self.convert_set_elements(tree.set_elements())

    # Letters keep their case. Variables are real, as in our grader.
    config = module.ConversionConfig(lowercase_symbols=False)
    return Converter(is_real=True, config=config)


def _parsed(text: str) -> Any:
    """The expression that a respelt text says, nothing in it carried out.

    Raises:
        _RefusedError: it is no expression, too large, or an integral without bounds.
        Exception: as the parser does, for text outside of its grammar.
    """
    sympy = _sympy()
    expression = _converter().parse(text)
    if not isinstance(expression, sympy.Expr):
        raise _RefusedError("no expression")
    _check_size(expression)
    if any(len(bounds) < 3 for part in expression.atoms(sympy.Integral) for bounds in part.limits):
        raise _RefusedError("an integral without bounds is no single function")
    # The converter writes all limits as limits from above.
    both_sides = {
        part: sympy.Limit(*part.args[:3], dir="+-")
        for part in expression.atoms(sympy.Limit)
        if part.args[2] not in (sympy.oo, -sympy.oo)
    }
    return expression.xreplace(both_sides)


def _check_size(expression: Any) -> None:
    """Refuse towers of powers and large factorials, before anything is computed."""
    sympy = _sympy()
    for part in sympy.postorder_traversal(expression):
        if isinstance(part, sympy.Pow) and not part.exp.free_symbols:
            exponent = part.exp
        elif isinstance(part, sympy.exp | sympy.factorial | sympy.binomial | sympy.gamma):
            exponent = part.args[0]
        else:
            continue
        if exponent.free_symbols:
            continue
        simple = all(
            power.base.is_Rational and power.exp.is_Rational and abs(power.exp) <= 2
            for power in exponent.atoms(sympy.Pow)
        )
        if not simple or exponent.has(sympy.exp, sympy.factorial, sympy.gamma):
            raise _RefusedError("a tower of powers")
        if exponent.is_Rational and abs(exponent) > MAX_EXPONENT:
            raise _RefusedError("a large power")


def _same(answer: Any, gold: Any) -> bool:
    sympy = _sympy()
    open_kinds = (sympy.Integral, sympy.Sum, sympy.Product, sympy.Limit, sympy.Derivative)
    if answer.has(*open_kinds) and not gold.has(*open_kinds):
        return False
    if answer.as_dummy() == gold.as_dummy():  # bound variables have no names
        return True
    answer_constant, gold_constant = _constant(answer), _constant(gold)
    up_to_constant = gold_constant is not None and gold_constant.name.startswith("C")
    if up_to_constant:
        if answer_constant is None:
            return False
        answer = answer.xreplace({answer_constant: sympy.Integer(0)})
        gold = gold.xreplace({gold_constant: sympy.Integer(0)})
    whole = _whole_numbers(answer) | _whole_numbers(gold)
    answer, gold = answer.doit(), gold.doit()
    if answer.as_dummy() == gold.as_dummy():
        return True
    closed = not any(
        side.has(*open_kinds, sympy.Piecewise, sympy.core.function.AppliedUndef, sympy.nan)
        for side in (answer, gold)
    )
    if not closed:
        return bool(sympy.simplify(answer - gold) == 0)
    if gold.is_infinite or answer.is_infinite:
        return bool(answer == gold)
    return _agree(answer, gold, whole, up_to_constant=up_to_constant)


def _constant(expression: Any) -> Any:
    """The constant of integration: added once, beside a function of one small letter."""
    others = [s for s in expression.free_symbols if s.name not in _CONSTANTS]
    found = [s for s in expression.free_symbols if s.name in _CONSTANTS]
    if len(found) != 1 or len(others) != 1 or not others[0].name.islower():
        return None
    return found[0] if abs(expression.diff(found[0])) == 1 else None


def _whole_numbers(expression: Any) -> set[Any]:
    """The variables that count something: bounds of sums, arguments of factorials."""
    sympy = _sympy()
    counted = expression.atoms(sympy.factorial, sympy.binomial)
    bounds = {
        bound
        for part in expression.atoms(sympy.Sum, sympy.Product)
        for limit in part.limits
        for bound in limit[1:]
    }
    return {symbol for part in counted | bounds for symbol in part.free_symbols}


def _agree(answer: Any, gold: Any, whole: set[Any], *, up_to_constant: bool) -> bool:
    """Do two closed forms have the same values? Points at which a side is not defined, or not real,
    do not count.
    """
    sympy = _sympy()
    names = sorted(answer.free_symbols | gold.free_symbols, key=lambda symbol: symbol.name)
    draw = random.Random(0)
    tolerance = sympy.Rational(1, 10 ** (DIGITS - 10))
    if not names:
        if answer.is_Rational or gold.is_Rational:  # a long decimal is near pi/4, but not pi/4
            return bool(sympy.simplify(answer - gold) == 0)
        left, right = (side.evalf(DIGITS, strict=True) for side in (answer, gold))
        return bool(abs(left - right) <= tolerance * abs(right))
    first = None  # difference at the first point
    counted = 0
    for _ in range(_TRIED_POINTS):
        reach = draw.choice((1, 3, 10))
        point = {
            name: sympy.Integer(draw.randint(1, 12))
            if name in whole
            else sympy.Rational(draw.randint(-997 * reach, 997 * reach), 997)
            for name in names
        }
        try:
            left, right = (
                side.xreplace(point).evalf(DIGITS, strict=True) for side in (answer, gold)
            )
        except (ValueError, ZeroDivisionError, sympy.core.evalf.PrecisionExhausted):
            continue
        if not all(side.is_Number and side.is_finite for side in (left, right)):
            continue
        difference = left - right
        if first is None:
            first = difference if up_to_constant else sympy.Integer(0)
        if abs(difference - first) > tolerance * (abs(left) + abs(right) + abs(first)):
            return False
        counted += 1
        if counted == _POINTS:
            return True
    return False
