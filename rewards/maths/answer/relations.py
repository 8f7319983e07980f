"""Relations: equations and names, inequalities, approximations, congruences."""

from __future__ import annotations

from rewards.maths.answer.kinds import (
    Answer,
    Assign,
    Congruence,
    Equation,
    Inequality,
    Listing,
    Region,
    Scalar,
)
from rewards.maths.answer.leaves import Leaves
from rewards.maths.answer.phrases import RELATIONS, split_modulus, takes_back
from rewards.maths.answer.reals import EVERYTHING, interval, solved, without
from rewards.maths.expression.node import Node, neg, signs, sym, variables
from rewards.maths.expression.parser import parse_expression
from rewards.maths.limits import NotMathError
from rewards.maths.text.tokens import Tokens, closing, plain_text, split_at, strip

ORDER = frozenset({"<", ">", "<=", ">="})


class Relations(Leaves):
    """Two or more sides, and what stands between them."""

    def relation(self, tokens: Tokens, level: list[int]) -> Answer:
        """An equation, an inequality or a chain of them."""
        cuts = [i for i in level if tokens[i].kind == "op" and tokens[i].text in RELATIONS]
        signs_found = [tokens[i].text for i in cuts]
        parts = split_at(tokens, cuts)
        if any(not part for part in parts):
            raise NotMathError("a relation without a side")
        if "equiv" in signs_found:
            return self.congruence(parts, signs_found)
        if "~~" in signs_found:
            return self.approximation(parts, signs_found)
        if set(signs_found) == {"="}:
            return self.equality(parts)
        if set(signs_found) <= ORDER:
            return self.order(parts, signs_found)
        if signs_found == ["in"] and (name := self.name(parts[0])[0]):
            return Assign(name, (), self.answer(parts[1]))
        if signs_found == ["!="]:
            return self.unequal(parts)
        raise NotMathError("relation")

    def approximation(self, parts: list[Tokens], signs_found: list[str]) -> Answer:
        r"""`x \approx 2.5` names a value; what follows `\frac{5}{2} \approx` is only a decimal of
        it.
        """
        first = signs_found.index("~~")
        if first == 0 and len(parts) == 2 and (name := self.name(parts[0])[0]):
            return Assign(name, (), self.answer(parts[1]))
        if not set(signs_found[:first]) <= {"="}:
            raise NotMathError("an approximation in a condition")
        return self.equality(parts[: first + 1]) if first else self.answer(parts[0])

    def congruence(self, parts: list[Tokens], signs_found: list[str]) -> Answer:
        r"""`x \equiv 3 \pmod 7`; without a modulus, `f(x) \equiv 0` is `f(x) = 0`."""
        residues, modulus = split_modulus(parts[-1], bare=True)
        if not modulus:
            return (
                self.equality(parts) if set(signs_found) <= {"=", "equiv"} else self.unequal(parts)
            )
        if len(parts) != 2:
            raise NotMathError("a chain of congruences")
        found = self.answer(residues)
        items = found.items if isinstance(found, Listing) else (found,)
        return Congruence(plain_text(parts[0]), tuple(items), self.end(modulus))

    def equality(self, parts: list[Tokens]) -> Answer:
        """`x = 5`, `f(x) = ...`, an equation, or a chain of equal values."""
        named = self.name(parts[0])
        if named[0]:
            value = self.answer(parts[1]) if len(parts) == 2 else self.chain(parts[1:])
            if not (isinstance(value, Scalar) and named[0] in variables(value.node)):
                return Assign(named[0], named[1], value)
        if len(parts) > 2:
            return self.chain(parts)
        back = self.name(parts[1])
        if back[0] and not back[1]:
            value = self.answer(parts[0])
            if not (isinstance(value, Scalar) and back[0] in variables(value.node)):
                return Assign(back[0], (), value)
        left, right = self.scalar(parts[0]), self.scalar(parts[1])
        if not variables(left.node) and not variables(right.node):
            return right._replace(also=(left.node,), unit=right.unit or left.unit)
        return Equation(left.node, right.node, right.unit or left.unit)

    def chain(self, parts: list[Tokens]) -> Answer:
        """`2/4 = 1/2`: the last, provided the others are equal to it (checked when it is
        compared).
        """
        scalars = [self.scalar(part) for part in parts]
        last = scalars[-1]
        units = [scalar.unit for scalar in scalars if scalar.unit is not None]
        return last._replace(
            also=tuple(s.node for s in scalars[:-1]), unit=units[-1] if units else None
        )

    def name(self, tokens: Tokens) -> tuple[str, tuple[str, ...]]:
        """The name and parameters on the left of `=`: a symbol, `f(x)`, a tuple of symbols, or
        words; else ''.
        """
        tokens = strip(tokens)
        if takes_back(tokens):
            raise NotMathError("a label that takes the value back")
        if [token.text for token in tokens[1:6]] == ["^", "G", "-", "1", "G"] and tokens[
            0
        ].kind == "sym":
            name, parameters = self.name([tokens[0], *tokens[6:]])  # f^{-1}(x)
            return (f"{name}^-1", parameters) if parameters else ("", ())
        if len(tokens) > 1 and tokens[0].text in ("angle", "triangle"):
            tokens = tokens[1:]
        if tokens and all(token.kind == "word" for token in tokens) and len(plain_text(tokens)) > 1:
            return plain_text(tokens), ()
        if tokens and all(token.kind == "run" for token in tokens) and len(tokens[0].text) > 3:
            return plain_text(tokens), ()
        if any(token.kind == "op" and token.text == ":" for token in tokens):
            return plain_text(tokens), ()
        if tokens and tokens[0].text == "(" and closing(tokens, 0) == len(tokens) - 1:
            inner = tokens[1:-1]
            if inner and all(_is_part_of_name(inner, i) for i in range(len(inner))):
                return "(" + "".join(token.text for token in inner) + ")", ()
        try:
            node, _ = parse_expression(tokens, self.limits)
        except NotMathError:
            return "", ()
        if node.op == "sym" and node.value not in ("pi", "i", "oo"):
            return str(node.value), ()
        if node.op == "apply" and all(arg.op == "sym" for arg in node.args):
            return str(node.value), tuple(str(arg.value) for arg in node.args)
        if node.op == "mul" and tokens[-1].text == ")" and tokens[-2].text.isupper():
            return plain_text(tokens), ()  # P(A): A is no parameter
        if (
            node.op == "mul"
            and [arg.op for arg in node.args] == ["sym", "sym"]
            and tokens[-1].text == ")"
        ):
            return str(node.args[0].value), (str(node.args[1].value),)  # h(x), N(n)
        if (
            node.op in ("apply", "mul")
            and tokens[-1].text == ")"
            and all(_is_name_part(arg) for arg in node.args)
        ):
            return plain_text(tokens), ()  # f(2), f(f(2)), S_1(101)
        return "", ()

    def order(self, parts: list[Tokens], relations: list[str]) -> Answer:
        """An inequality, as a region where one plain variable is compared with constants."""
        if relations[0] in (">", ">="):
            parts, relations = parts[::-1], [sign.replace(">", "<") for sign in reversed(relations)]
        if any(sign not in ("<", "<=") for sign in relations):
            raise NotMathError("mixed inequality")
        closed = [sign == "<=" for sign in relations]
        nodes = [self.end(part) for part in parts]
        names = [self.name(part)[0] for part in parts]
        if (
            len(parts) == 3
            and names[1]
            and names[1] not in variables(nodes[0]) | variables(nodes[2])
        ):
            return Region(
                (interval(nodes[0], closed[0], nodes[2], closed[1]),), _variable(parts[1])
            )
        if len(parts) == 2 and names[0] and not variables(nodes[1]):
            return Region(
                (interval(neg(sym("oo")), False, nodes[1], closed[0]),), _variable(parts[0])
            )
        if len(parts) == 2 and names[1] and not variables(nodes[0]):
            return Region((interval(nodes[0], closed[0], sym("oo"), False),), _variable(parts[1]))
        if len(parts) == 2:
            inequality = Inequality(nodes[0], nodes[1], closed[0])
            return solved(inequality, self.budget) or inequality
        pairs = zip(nodes, nodes[1:], closed, strict=False)
        return Listing(tuple(Inequality(a, b, c) for a, b, c in pairs))

    def unequal(self, parts: list[Tokens]) -> Answer:
        """All numbers but some, from `x != a`."""
        for variable, other in ((0, 1), (1, 0)):
            if self.name(parts[variable])[0] and not variables(self.end(parts[other])):
                points = tuple(Scalar(node) for node in signs(self.end(parts[other])))
                region = without(EVERYTHING, Listing(points), self.budget)
                return region._replace(variable=_variable(parts[variable]))
        left, right = self.end(parts[0]), self.end(parts[1])
        return Assign("!=", (), Equation(left, right))


def _is_part_of_name(tokens: Tokens, index: int) -> bool:
    """Symbols with their indices, between commas."""
    token = tokens[index]
    return (
        token.kind == "sym"
        or token.text in (",", "_")
        or (token.kind == "num" and tokens[index - 1].text == "_")
    )


def _is_name_part(node: Node) -> bool:
    return node.op in ("num", "sym") or (
        node.op == "apply" and all(_is_name_part(arg) for arg in node.args)
    )


def _variable(tokens: Tokens) -> str:
    return plain_text(strip(tokens))
