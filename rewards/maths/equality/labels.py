r"""Answers that name what they answer: `P(X > 4) = 1/3`, `A = \pi r^2 = 4\pi`, `The centre is (1,
2)`.

The reader knows plain names. Here everything before the value may be notation that it does not
understand: these are second readings, tried where the first did not agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from rewards.maths.answer.kinds import (
    Answer,
    Assign,
    Based,
    Equation,
    Inequality,
    Listing,
    Matrix,
    Region,
    Scalar,
    Tuple,
    Words,
)
from rewards.maths.answer.phrases import RELATIONS, domain_of, takes_back
from rewards.maths.answer.reader import read_tokens
from rewards.maths.equality.vectors import components, plain_basis
from rewards.maths.expression.identity import same_value
from rewards.maths.expression.node import MINUS_ONE, Node, variables, walk
from rewards.maths.expression.parser import parse_expression
from rewards.maths.limits import Budget, LimitError, NotMathError
from rewards.maths.text.tokens import Tokens, is_tuple, split_at, strip, top_level

_VERBS = frozenset({"is", "are", "equals", "was"})
_COMMANDS = frozenset(
    {
        "frac", "sqrt", "cbrt", "binom", "sum", "prod", "int", "iint", "oint", "lim", "limsup", "liminf", "sup", "inf",
        "circ", "det", "dim", "Pr", "arg", "ker", "star", "#", "deg", "measuredangle", "widehat", "vec", "hat", "bar",
    }
)  # fmt: skip
_SEPARATORS = frozenset({",", ";", "row", "and", "or", "land", "lor", "?"})


def values_within(
    tokens: Tokens, answer: Answer, other: Answer, budget: Budget
) -> Iterator[Answer]:
    """What an answer may state, if not what it is as a whole; `other` is what it is
    compared with.
    """
    try:
        level = top_level(tokens)
    except NotMathError:
        return
    if isinstance(answer, Words) and (rest := _after_words(tokens)):
        value = read_tokens(rest, budget.limits)
        if not isinstance(value, Words):
            yield value
    if (
        isinstance(answer, Scalar)
        and (vector := _as_vector(answer.node, other, budget)) is not None
    ):
        yield vector
    if isinstance(other, Assign) and (function := _without_domain(answer)) is not None:
        yield function
    if not isinstance(other, Assign | Equation | Inequality | Words):
        yield from _stated(tokens, level, budget)


def _stated(tokens: Tokens, level: list[int], budget: Budget) -> Iterator[Answer]:
    """The value at the end of `label = ... = value`, or the number before `= label`."""
    cuts = [i for i in level if tokens[i].kind == "op" and tokens[i].text in RELATIONS]
    if {tokens[i].text for i in cuts} != {"="} or any(tokens[i].text in _SEPARATORS for i in level):
        return
    parts = [strip(part) for part in split_at(tokens, cuts)]
    if not all(parts):
        return
    orders = [parts]
    if len(parts) == 2 and (first := _parsed(parts[0], budget)) is not None and not _varies(first):
        orders.append(parts[::-1])  # 5 = m + n
    for sides in orders:
        if (value := _last_side(sides, budget)) is not None:
            yield value


def _as_vector(node: Node, other: Answer, budget: Budget) -> Answer | None:
    """A combination of unit vectors in the form of the other side: a tuple, a column, or unit
    vectors without hats.
    """
    if isinstance(other, Scalar):
        plain = plain_basis(node)
        return Scalar(plain) if plain is not None else None
    size = (
        len(other.items)
        if isinstance(other, Tuple)
        else len(other.rows)
        if isinstance(other, Matrix)
        else 0
    )
    found = components(node, size, budget)
    return Tuple("(", tuple(Scalar(part) for part in found), ")") if found else None


def _without_domain(answer: Answer) -> Assign | None:
    """`f(x) = 1/x, x > 0` as the function alone, which the question may have put on that domain."""
    if not isinstance(answer, Listing) or len(answer.items) != 2:
        return None
    function, domain = answer.items
    if not isinstance(function, Assign) or not isinstance(domain, Region):
        return None
    return function if domain.variable in function.parameters else None


def renamed_parameter(tokens: Tokens, gold: Tokens) -> Tokens:
    r"""`2n\pi, n \in \mathbb{Z}` with k in the place of n, where the gold has k; else nothing."""
    ours, golds = _parameters(tokens), _parameters(gold)
    if (
        len(ours) != 1
        or len(golds) != 1
        or ours == golds
        or golds & {token.text for token in tokens}
    ):
        return []
    [name], [gold_name] = ours, golds
    return [token._replace(text=gold_name) if token.text == name else token for token in tokens]


def _parameters(tokens: Tokens) -> set[str]:
    return {
        tokens[i - 1].text
        for i in range(1, len(tokens))
        if tokens[i].text == "in"
        and tokens[i - 1].kind == "sym"
        and domain_of(tokens[i - 1 : i + 2])
    }


def _after_words(tokens: Tokens) -> Tokens:
    """`The area of ABC is 5` and `point (1, 2)` without the words, unless these take the value
    back.
    """
    verb = next(
        (
            i
            for i, token in enumerate(tokens)
            if token.text.lower() in _VERBS and token.kind in ("word", "run")
        ),
        None,
    )
    if verb is not None:
        lead, rest = tokens[:verb], tokens[verb + 1 :]
    else:
        start = next((i for i, token in enumerate(tokens) if token.kind != "word"), 0)
        lead, rest = tokens[:start], tokens[start:] if is_tuple(tokens[start:]) else []
    is_prose = all(
        token.kind in ("word", "run", "sym") or token.text in (",", "triangle", "angle")
        for token in lead
    )
    named = any(token.kind in ("word", "run") for token in lead)
    return rest if rest and named and is_prose and not takes_back(lead) else []


def _last_side(parts: list[Tokens], budget: Budget) -> Answer | None:
    """The value of `label = ... = value`; None where the sides before it are no labels, nor equal
    to it.
    """
    value = read_tokens(parts[-1], budget.limits)
    names = _names(value)
    for place, part in enumerate(parts[:-1]):
        if isinstance(value, Based):
            if _whole_number(read_tokens(part, budget.limits)) != value.value:
                return None
            continue
        if len(part) == 1 and part[0].kind == "sym" and part[0].text not in {"pi"} | names:
            continue
        node = _parsed(part, budget)
        if node is not None and isinstance(value, Scalar) and same_value(node, value.node, budget):
            continue
        if place == 0 and node is not None and isinstance(value, Scalar) and _is_unsolved(node):
            return None
        if not _is_label(part, node, names):
            return None
    return value


def _names(value: Answer) -> frozenset[str]:
    if isinstance(value, Tuple | Listing):
        return frozenset().union(*(_names(item) for item in value.items))
    return variables(value.node) if isinstance(value, Scalar) else frozenset()


def _whole_number(answer: Answer) -> int | None:
    if isinstance(answer, Based):
        return answer.value
    value = answer.node.value if isinstance(answer, Scalar) else None
    return int(value) if isinstance(value, Fraction) and value.denominator == 1 else None


def _parsed(tokens: Tokens, budget: Budget) -> Node | None:
    try:
        return parse_expression(tokens, budget.limits)[0]
    except (NotMathError, LimitError):
        return None


def _is_label(tokens: Tokens, node: Node | None, names: frozenset[str]) -> bool:
    """Notation for what was asked, and not a number with something beside it, which would be
    another answer.

    Args:
        names: the variables of the value. Where there are any, a label must look like a quantity of
            its own, or each side of `\\sin x = \\cos x` could be the answer.
    """
    if takes_back(tokens) or any(
        token.kind == "cmd" and token.text not in _COMMANDS for token in tokens
    ):
        return False
    if node is not None:
        return _varies(node) and (not names or (not names & variables(node) and _is_quantity(node)))
    if is_tuple(tokens) and names:
        return False
    return tokens[0].kind != "num" and any(
        token.kind in ("sym", "func", "run", "word", "cmd") for token in tokens
    )


def _varies(node: Node) -> bool:
    return bool(variables(node)) or any(part.op == "apply" for part in walk(node))


def _is_quantity(node: Node) -> bool:
    """A name, a value of an unknown function, a sum over an index, or made of capitals, as segments
    and areas are.
    """
    return node.op in ("sym", "apply", "sum", "prod") or all(
        name[0].isupper() for name in variables(node)
    )


def _is_unsolved(left: Node) -> bool:
    """`2x = 10` is still an equation: a polynomial in one variable."""
    polynomial = all(
        part.op in ("add", "mul", "num", "sym")
        or (part.op == "div" and not variables(part.args[1]))
        or (part.op == "pow" and part.args[1].op == "num" and part.args[1] != MINUS_ONE)
        for part in walk(left)
    )
    return len(variables(left)) == 1 and left.op != "sym" and polynomial
