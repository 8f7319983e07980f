r"""Our grader beside SymPy on random pairs of expressions.

    python -m benchmarks.oracle --pairs 2000 [--seed 0]

A random tree is rewritten without changing its value, or changed a little. Both trees are written
as LaTeX in one of many spellings and graded. SymPy gets the trees themselves, built by its
constructors, so it reads no text and takes no part in ours. It calls two trees equal where their
values agree to 25 digits at 8 random real points; points at which one is not defined or not real do
not count. This is the convention of our grader too (docs/rewards.md), so what is left are faults of
the reader, of the comparison, or of this file.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import sympy

from rewards import accuracy_reward

_POINTS, _TRIED_POINTS, _DIGITS = 8, 40, 25
_FUNCTIONS: dict[str, Any] = {
    "sin": sympy.sin,
    "cos": sympy.cos,
    "tan": sympy.tan,
    "ln": sympy.log,
    "exp": sympy.exp,
    "abs": sympy.Abs,
}


class Tree(NamedTuple):
    """One operation: num, sym, add, mul, div, pow, root, call, binom, fact, tuple or set.

    `value` is the number of a `num`, the name of a `sym` or `call`, the degree of a `root`.
    """

    op: str
    args: tuple[Tree, ...] = ()
    value: Any = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """An answer and a gold, with what SymPy and our grader say of them.

    change: the rewriting or change that made the answer out of the gold.
    equal: the verdict of SymPy; None where too few points are defined.
    """

    answer: str
    gold: str
    change: str
    equal: bool | None
    ours: bool
    reason: str

    @property
    def kind(self) -> str:
        """agree, undecided, false positive or false negative."""
        if self.equal is None:
            return "undecided"
        if self.equal == self.ours:
            return "agree"
        return "false positive" if self.ours else "false negative"


def num(value: int | Fraction) -> Tree:
    return Tree("num", (), Fraction(value))


def sym(name: str) -> Tree:
    return Tree("sym", (), name)


def neg(tree: Tree) -> Tree:
    return num(-tree.value) if tree.op == "num" else Tree("mul", (num(-1), tree))


def call(name: str, arg: Tree) -> Tree:
    return Tree("call", (arg,), name)


ONE, TWO = num(1), num(2)


def random_tree(draw: random.Random, depth: int = 3) -> Tree:
    """An expression, or a tuple or a set of two to four."""
    if depth == 3 and draw.random() < 0.15:
        items = tuple(random_tree(draw, draw.randint(0, 1)) for _ in range(draw.randint(2, 4)))
        return Tree(draw.choice(("tuple", "set")), items)
    if depth == 0 or draw.random() < 0.1:
        leaves = (
            num(draw.randint(1, 12)),
            num(draw.randint(1, 12)),
            num(Fraction(draw.randint(1, 9), draw.choice((2, 3, 4, 5, 7, 8)))),
            sym(draw.choice("abxy")),
            sym(draw.choice("abxy")),
            sym("pi"),
        )
        return draw.choice(leaves)
    kind = draw.choice(("add", "add", "mul", "mul", "div", "pow", "root", "call", "binom", "fact"))
    below = [random_tree(draw, depth - 1) for _ in range(3)]
    if kind == "add":
        parts = below[: draw.randint(2, 3)]
        return Tree("add", tuple(neg(p) if draw.random() < 0.4 else p for p in parts))
    if kind == "mul":
        return Tree("mul", tuple(below[: draw.randint(2, 3)]))
    if kind == "div":
        return Tree("div", tuple(below[:2]))
    if kind == "pow":
        return Tree("pow", (below[0], num(draw.choice((2, 2, 3, 4, -1, -2)))))
    if kind == "root":
        return Tree("root", (below[0],), draw.choice((2, 2, 3)))
    if kind == "call":
        return call(draw.choice(tuple(_FUNCTIONS)), below[0])
    if kind == "binom":
        top = draw.randint(2, 9)
        return Tree("binom", (num(top), num(draw.randint(0, top))))
    return Tree("fact", (draw.choice((num(draw.randint(2, 7)), sym("n"))),))


def rewritten(tree: Tree, draw: random.Random) -> tuple[Tree, str] | None:
    """The same value at the top of this tree in another form; None where no rule applies."""
    op, args = tree.op, tree.args
    found: list[tuple[str, Tree]] = []
    shuffled = tuple(draw.sample(args, len(args)))
    k = draw.randint(2, 5)
    if op in ("add", "mul", "set") and shuffled != args:
        found.append(("reordered", tree._replace(args=shuffled)))
    if op == "set":
        found.append(("an element twice", tree._replace(args=(*args, draw.choice(args)))))
    if op == "num":
        found.append(("a number split", Tree("add", (num(tree.value - k), num(k)))))
        found.append(("a fraction expanded", Tree("div", (num(tree.value * k), num(k)))))
    if op == "mul":
        for i, factor in enumerate(args):
            if factor.op == "add":
                rest = args[:i] + args[i + 1 :]
                terms = tuple(Tree("mul", (*rest, term)) for term in factor.args)
                found.append(("expanded", Tree("add", terms)))
    if op == "div":
        top, bottom = args
        both = tuple(Tree("mul", (num(k), side)) for side in args)
        found.append(("a fraction expanded", Tree("div", both)))
        found.append(("a quotient as a power", Tree("mul", (top, Tree("pow", (bottom, num(-1)))))))
        if top.op == "add":
            terms = tuple(Tree("div", (term, bottom)) for term in top.args)
            found.append(("a sum of fractions", Tree("add", terms)))
    if op == "pow" and args[1] == TWO:
        found.append(("a square as a product", Tree("mul", (args[0], args[0]))))
        if args[0].op == "add" and len(args[0].args) == 2:
            a, b = args[0].args
            middle = Tree("mul", (TWO, a, b))
            square = Tree("add", (Tree("pow", (a, TWO)), middle, Tree("pow", (b, TWO))))
            found.append(("a square expanded", square))
    if op == "pow" and args[1].value < 0:
        positive = Tree("pow", (args[0], num(-args[1].value)))
        found.append(("a power as a quotient", Tree("div", (ONE, positive))))
    if op == "root" and tree.value == 2:
        found.append(("a root as a power", Tree("pow", (args[0], num(Fraction(1, 2))))))
        inner = Tree("mul", (num(k * k), args[0]))
        found.append(
            ("a factor under the root", Tree("div", (tree._replace(args=(inner,)), num(k))))
        )
    if op == "call":
        name, (arg,) = tree.value, args
        identities = {
            "sin": Tree(
                "mul",
                (TWO, call("sin", Tree("div", (arg, TWO))), call("cos", Tree("div", (arg, TWO)))),
            ),
            "cos": Tree(
                "add",
                (
                    ONE,
                    neg(
                        Tree("mul", (TWO, Tree("pow", (call("sin", Tree("div", (arg, TWO))), TWO))))
                    ),
                ),
            ),
            "tan": Tree("div", (call("sin", arg), call("cos", arg))),
            "ln": Tree("div", (call("ln", Tree("pow", (arg, num(k)))), num(k))),
            "exp": Tree("mul", (call("exp", Tree("add", (arg, num(-1)))), call("exp", ONE))),
            "abs": Tree("root", (Tree("pow", (arg, TWO)),), 2),
        }
        found.append((f"an identity of {name}", identities[name]))
        if name in ("cos", "abs"):
            found.append(("an even function", call(name, neg(arg))))
        if name in ("sin", "tan"):
            found.append(("an odd function", neg(call(name, neg(arg)))))
    if op == "binom":
        n, chosen = args
        found.append(("the other binomial", Tree("binom", (n, num(n.value - chosen.value)))))
    if op == "fact":
        before = Tree("add", (args[0], num(-1)))
        below = num(args[0].value - 1) if args[0].op == "num" else before
        found.append(("a factorial unrolled", Tree("mul", (args[0], Tree("fact", (below,))))))
    if not found:
        return None
    rule, result = draw.choice(found)
    return result, rule


def changed(tree: Tree, draw: random.Random) -> tuple[Tree, str] | None:
    """Nearly the same at the top of this tree; None where no change is small."""
    op, args = tree.op, tree.args
    found: list[tuple[str, Tree]] = []
    if op == "num":
        found.append(("a number", num(tree.value + draw.choice((-1, 1)))))
        found.append(("a sign", num(-tree.value)))
        found.append(("a decimal place", num(tree.value * draw.choice((10, Fraction(1, 10))))))
    if op == "sym" and tree.value != "n":
        found.append(("a letter", sym(draw.choice([c for c in "abxy" if c != tree.value]))))
    if op in ("add", "mul"):
        found.append(
            ("a part left out", tree._replace(args=args[1:]) if len(args) > 2 else args[0])
        )
        found.append(("plus for times", tree._replace(op="mul" if op == "add" else "add")))
    if op == "add":
        found.append(("a sign", tree._replace(args=(neg(args[0]), *args[1:]))))
    if op == "div":
        found.append(("upside down", tree._replace(args=args[::-1])))
    if op == "pow":
        found.append(("an exponent", Tree("pow", (args[0], num(args[1].value + 1)))))
    if op == "root":
        found.append(("a degree", tree._replace(value=5 - tree.value)))
    if op == "call":
        others = {"sin": "cos", "cos": "sin", "tan": "sin", "ln": "exp", "exp": "ln"}
        replaced = args[0] if tree.value == "abs" else call(others[tree.value], args[0])
        found.append(("a function", replaced))
    if op == "binom":
        found.append(("a binomial", Tree("binom", (num(args[0].value + 1), args[1]))))
    if op == "fact":
        found.append(("a factorial left out", args[0]))
    if op == "tuple":
        found.append(("an order", tree._replace(args=args[1:] + args[:1])))
    if op in ("tuple", "set") and len(args) > 2:
        found.append(("an item left out", tree._replace(args=args[1:])))
    if not found:
        return None
    rule, result = draw.choice(found)
    return result, rule


def somewhere(
    tree: Tree,
    rule: Callable[[Tree, random.Random], tuple[Tree, str] | None],
    draw: random.Random,
) -> tuple[Tree, str] | None:
    """The tree with a rule applied at one random place."""
    places = list(_places(tree))
    draw.shuffle(places)
    for path in places:
        part = tree
        for index in path:
            part = part.args[index]
        if (result := rule(part, draw)) is not None:
            return _with(tree, path, result[0]), result[1]
    return None


def _places(tree: Tree, path: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    yield path
    fixed = tree.op in ("binom", "fact")  # their arguments are numbers, which the rules rely on
    for index, arg in enumerate(() if fixed else tree.args):
        if not (tree.op == "pow" and index == 1):
            yield from _places(arg, (*path, index))


def _with(tree: Tree, path: tuple[int, ...], part: Tree) -> Tree:
    if not path:
        return part
    first, *rest = path
    args = list(tree.args)
    args[first] = _with(args[first], tuple(rest), part)
    return tree._replace(args=tuple(args))


# How tightly a written expression holds together: what needs more than it has gets brackets.
_SUM, _PRODUCT, _FACTOR, _ATOM = range(4)


def written(tree: Tree, draw: random.Random, need: int = _SUM) -> str:
    """LaTeX in one of its spellings."""
    text, tightness = _spelt(tree, draw)
    if tightness >= need:
        return text
    return rf"\left({text}\right)" if draw.random() < 0.5 else f"({text})"


def _spelt(tree: Tree, draw: random.Random) -> tuple[str, int]:
    op, args = tree.op, tree.args
    frac = draw.choice((r"\frac", r"\frac", r"\dfrac", r"\tfrac"))
    if op == "num":
        return _number(tree.value, frac, draw)
    if op == "sym":
        return (r"\pi" if tree.value == "pi" else tree.value), _ATOM
    if op == "add":
        text = (
            written(args[0], draw, _PRODUCT) if not _is_negative(args[0]) else _minus(args[0], draw)
        )
        for part in args[1:]:
            blank = draw.choice(("", " "))
            if _is_negative(part):
                text += f"{blank}{_minus(part, draw)}"
            else:
                text += f"{blank}+{blank}{written(part, draw, _PRODUCT)}"
        return text, _SUM
    if op == "mul":
        if args[0] == num(-1):
            return _minus(tree, draw), _SUM
        text = written(args[0], draw, _FACTOR)
        for part in args[1:]:
            right = written(part, draw, _FACTOR)
            signs = [r" \cdot ", r"\cdot ", r" \times "]
            # 2 beside 3 is 23, and 2 beside a fraction a mixed number.
            if not right[0].isdigit() and "frac" not in right[:6]:
                signs += ["", " "] * 2
            text += draw.choice(signs) or (" " if right[0].isalpha() and text[-2:] == "pi" else "")
            text += right
        return text, _PRODUCT
    if op == "div":
        if draw.random() < 0.2:
            return f"{written(args[0], draw, _FACTOR)}/{written(args[1], draw, _ATOM)}", _PRODUCT
        return f"{frac}{{{written(args[0], draw)}}}{{{written(args[1], draw)}}}", _FACTOR
    if op == "pow":
        exponent = args[1].value
        trigonometric = args[0].op == "call" and args[0].value in ("sin", "cos", "tan")
        if trigonometric and exponent in (2, 3) and draw.random() < 0.6:
            inner = written(args[0].args[0], draw)
            return rf"\{args[0].value}^{{{exponent}}}({inner})", _FACTOR
        base = written(args[0], draw, _ATOM)
        if exponent in range(10) and draw.random() < 0.6:
            return f"{base}^{exponent}", _FACTOR
        if exponent == Fraction(1, 2):
            return f"{base}^{{{draw.choice(('1/2', frac + '{1}{2}', '0.5'))}}}", _FACTOR
        return f"{base}^{{{exponent}}}", _FACTOR
    if op == "root":
        degree = "" if tree.value == 2 else f"[{tree.value}]"
        return rf"\sqrt{degree}{{{written(args[0], draw)}}}", _FACTOR
    if op == "call":
        inner = written(args[0], draw)
        if tree.value == "abs":
            left, right = draw.choice(
                (("|", "|"), (r"\left|", r"\right|"), (r"\lvert ", r"\rvert "))
            )
            return f"{left}{inner}{right}", _FACTOR
        if tree.value == "exp" and draw.random() < 0.6:
            return f"e^{{{inner}}}", _FACTOR
        if args[0].op == "sym" and draw.random() < 0.4:
            return rf"\{tree.value} {inner}", _SUM
        left, right = draw.choice((("(", ")"), (r"\left(", r"\right)")))
        return rf"\{tree.value}{left}{inner}{right}", _FACTOR
    if op == "binom":
        top, bottom = (written(arg, draw) for arg in args)
        spellings = (rf"\binom{{{top}}}{{{bottom}}}", rf"{{{top} \choose {bottom}}}")
        return draw.choice((*spellings, rf"\dbinom{{{top}}}{{{bottom}}}")), _FACTOR
    if op == "fact":
        return f"{written(args[0], draw, _ATOM)}!", _FACTOR
    items = f",{draw.choice(('', ' '))}".join(written(arg, draw) for arg in args)
    brackets = {
        "tuple": (("(", ")"), (r"\left(", r"\right)")),
        "set": ((r"\{", r"\}"), (r"\left\{", r"\right\}")),
    }
    left, right = draw.choice(brackets[op])
    return f"{left}{items}{right}", _ATOM


def _number(value: Fraction, frac: str, draw: random.Random) -> tuple[str, int]:
    if value < 0:
        return f"-{_number(-value, frac, draw)[0]}", _SUM
    if value.denominator == 1:
        return str(value.numerator), _ATOM
    scaled = value * 10**4
    if scaled.denominator == 1 and draw.random() < 0.4:
        return f"{float(value):.4f}".rstrip("0"), _ATOM
    if draw.random() < 0.2:
        return f"{value.numerator}/{value.denominator}", _PRODUCT
    return f"{frac}{{{value.numerator}}}{{{value.denominator}}}", _FACTOR


def _is_negative(tree: Tree) -> bool:
    if tree.op == "num":
        return bool(tree.value < 0)
    return tree.op == "mul" and tree.args[0] == num(-1) and len(tree.args) == 2


def _minus(tree: Tree, draw: random.Random) -> str:
    """A minus and what it stands before."""
    if tree.op == "num":
        return f"-{draw.choice(('', ' '))}{written(num(-tree.value), draw, _PRODUCT)}"
    rest = tree.args[1] if len(tree.args) == 2 else Tree("mul", tree.args[1:])
    return f"-{draw.choice(('', ' '))}{written(rest, draw, _PRODUCT)}"


def to_sympy(tree: Tree) -> Any:
    """The expression of SymPy, by its constructors; no text is read.

    Raises:
        ZeroDivisionError: a part has no value. SymPy would go on: 1/(1/0) is 0 there.
    """
    args = [to_sympy(arg) for arg in tree.args]
    if tree.op == "num":
        return sympy.Rational(tree.value.numerator, tree.value.denominator)
    if tree.op == "sym":
        return sympy.pi if tree.value == "pi" else sympy.Symbol(tree.value, real=True)
    if tree.op == "root":
        return sympy.real_root(args[0], tree.value) if tree.value == 3 else sympy.sqrt(args[0])
    build: dict[str, Callable[..., Any]] = {
        "add": sympy.Add,
        "mul": sympy.Mul,
        "div": lambda top, bottom: top / bottom,
        "pow": sympy.Pow,
        "binom": sympy.binomial,
        "fact": sympy.factorial,
    }
    result = (_FUNCTIONS[tree.value] if tree.op == "call" else build[tree.op])(*args)
    if result.has(sympy.zoo, sympy.nan, sympy.oo, -sympy.oo):
        raise ZeroDivisionError
    return result


def sympy_says(answer: Tree, gold: Tree, draw: random.Random) -> bool | None:
    """Are the two equal? None where too few points decide."""
    kinds = {answer.op, gold.op} & {"tuple", "set"}
    if kinds:
        if answer.op != gold.op:
            return False
        if kinds == {"tuple"}:
            if len(answer.args) != len(gold.args):
                return False
            verdicts = [sympy_says(a, b, draw) for a, b in zip(answer.args, gold.args, strict=True)]
            return False if False in verdicts else None if None in verdicts else True
        table = [[sympy_says(a, b, draw) for b in gold.args] for a in answer.args]
        columns = list(zip(*table, strict=True))
        lines = [*table, *columns]
        if all(True in line for line in lines):
            return True
        return None if any(True not in line and None in line for line in lines) else False
    try:
        left, right = to_sympy(answer), to_sympy(gold)
    except ZeroDivisionError:
        return None
    names = sorted(left.free_symbols | right.free_symbols, key=str)
    counted = 0
    for _ in range(_TRIED_POINTS):
        point = {
            name: sympy.Integer(draw.randint(1, 9))
            if name.name == "n"
            else sympy.Rational(draw.randint(-2_500, 2_500), 997)
            for name in names
        }
        values = [side.xreplace(point).evalf(_DIGITS) for side in (left, right)]
        if not all(value.is_Float or value.is_Rational for value in values):
            if not names:
                return None
            continue
        a, b = values
        if abs(a - b) > sympy.Rational(1, 10**15) * max(abs(a), abs(b), sympy.Rational(1, 10**6)):
            return False
        counted += 1
        if counted == (_POINTS if names else 1):
            return True
    return None


def pairs(count: int, seed: int) -> Iterator[Pair]:
    """Random pairs, half of them equal, graded by both."""
    draw = random.Random(f"oracle/{seed}")
    made = 0
    while made < count:
        gold = random_tree(draw)
        rule = rewritten if made % 2 == 0 else changed
        names: list[str] = []
        answer = gold
        for _ in range(draw.randint(1, 3) if rule is rewritten else 1):
            if (result := somewhere(answer, rule, draw)) is not None:
                answer = result[0]
                names.append(result[1])
        texts = written(answer, draw), written(gold, draw)
        if not names or max(map(len, texts)) > 150:
            continue
        equal = sympy_says(answer, gold, draw)
        reward = accuracy_reward(rf"\boxed{{{texts[0]}}}", texts[1])
        made += 1
        yield Pair(
            answer=texts[0],
            gold=texts[1],
            change=("equal: " if rule is rewritten else "changed: ") + ", ".join(names),
            equal=equal,
            ours=reward.score == 1,
            reason=reward.reason,
        )


def explained(pair: Pair) -> str | None:
    """The class of a disagreement that docs/rewards.md announces; None for any other."""
    if pair.reason in ("limit", "timeout"):
        return "beyond the limits"  # e^{n!}: refused before it is computed
    return None


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Our grader beside SymPy on random pairs.")
    parser.add_argument("--pairs", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    kinds: Counter[str] = Counter()
    for pair in pairs(args.pairs, args.seed):
        kinds[pair.kind] += 1
        if pair.kind.startswith("false"):
            why = explained(pair) or "UNEXPLAINED"
            kinds[why] += 1
            print(f"{pair.kind} [{why}] ({pair.change}; {pair.reason})")
            print(f"    answer {pair.answer}\n    gold   {pair.gold}")
    decided = args.pairs - kinds["undecided"]
    print(
        f"{args.pairs} pairs, seed {args.seed}: {kinds['undecided']} undecided by SymPy; of "
        f"{decided} decided {100 * kinds['agree'] / max(decided, 1):.2f}% agree, "
        f"{kinds['false positive']} false positives, {kinds['false negative']} false negatives, "
        f"{kinds['UNEXPLAINED']} of these unexplained"
    )


if __name__ == "__main__":
    sys.exit(main())
