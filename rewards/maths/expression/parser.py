"""Tokens of one expression -> a tree, by recursive descent over a whitelist. No text is ever
evaluated.
"""

from __future__ import annotations

from rewards.maths.expression.node import (
    DEGREE,
    HUNDRED,
    MINUS_ONE,
    ONE,
    TWO,
    Node,
    call,
    neg,
    num,
    sym,
)
from rewards.maths.limits import LimitError, Limits, NotMathError
from rewards.maths.text.tokens import Token

_END = Token("end", "")
_FACTOR_CMDS = frozenset({"frac", "sqrt", "cbrt", "binom", "sum", "prod"})
_CLOSING = {"(": ")", "[": "]", "G": "G", "floor": "floor", "ceil": "ceil", "{": "}"}
_FUNCTION_LETTERS = frozenset("fgFG")
_INVERSES = {
    **{name: "arc" + name for name in ("sin", "cos", "tan", "cot", "sec", "csc")},
    **{name: "a" + name for name in ("sinh", "cosh", "tanh")},
}
_MANY_ARGUMENTS = frozenset({"gcd", "lcm", "min", "max"})


def parse_expression(tokens: list[Token], limits: Limits) -> tuple[Node, bool]:
    """The tree of all tokens, and whether a degree sign stood outside of a function.

    Raises:
        NotMathError: something is not in the grammar, or tokens are left over.
        LimitError: nested too deeply.
    """
    parser = _Parser(tokens, limits)
    node = parser.over_or_choose()
    if parser.peek().kind != "end":
        raise NotMathError(parser.peek().text)
    return node, parser.degrees


class _Parser:
    """State of one descent: the tokens, the position, and what we are inside of."""

    def __init__(self, tokens: list[Token], limits: Limits) -> None:
        self.tokens = list(tokens)
        self.position = 0
        self.limits = limits
        self.depth = 0
        self.in_bars = 0  # a `|` closes rather than opens
        self.in_function = 0  # a degree sign is a factor pi/180 rather than a unit
        self.degrees = False

    # --- reading tokens

    def peek(self, ahead: int = 0) -> Token:
        index = self.position + ahead
        return self.tokens[index] if 0 <= index < len(self.tokens) else _END

    def take(self) -> Token:
        token = self.peek()
        self.position += 1
        return token

    def accept(self, kind: str, text: str) -> bool:
        token = self.peek()
        if token.kind == kind and token.text == text:
            self.position += 1
            return True
        return False

    def expect(self, kind: str, text: str) -> None:
        if not self.accept(kind, text):
            raise NotMathError(f"expected {text}")

    # --- sums and products

    def over_or_choose(self) -> Node:
        """The content of a group: an expression, `a \\over b` or `n \\choose k`."""
        node = self.expression()
        if self.peek().kind == "cmd" and self.peek().text in ("choose", "over"):
            over = self.take().text == "over"
            below = self.expression()
            return Node("div", (node, below)) if over else call("binom", node, below)
        return node

    def expression(self) -> Node:
        self.depth += 1
        if self.depth > self.limits.max_depth:
            raise LimitError("depth")
        terms = [self.signed_term()]
        while self.peek().kind == "op" and self.peek().text in ("+", "-", "pm", "mp"):
            terms.append(self.signed_term())
        self.depth -= 1
        return terms[0] if len(terms) == 1 else Node("add", tuple(terms))

    def signed_term(self) -> Node:
        sign, plus_minus = 1, ""
        while self.peek().kind == "op" and self.peek().text in ("+", "-", "pm", "mp"):
            text = self.take().text
            if text == "-":
                sign = -sign
            elif text != "+":
                if plus_minus:
                    raise NotMathError("two plus-minus signs")
                plus_minus = text
        term = self.term()
        if plus_minus:
            term = Node(plus_minus, (term,))
        return neg(term) if sign < 0 else term

    def term(self) -> Node:
        result = self.power()
        while True:
            token = self.peek()
            if token.kind == "op" and token.text == "*":
                self.take()
                result = Node("mul", (result, self.signed_power()))
            elif token.kind == "op" and token.text == "/":
                self.take()
                result = Node("div", (result, self.divisor()))
            elif token.kind == "op" and token.text == "mod":
                self.take()
                result = call("mod", result, self.power())
            elif self.starts_factor(token):
                if token.kind == "num" and not self.may_precede_number(
                    self.peek(-1)
                ):  # `3 4`, `x 3`
                    raise NotMathError("two numbers side by side")
                result = Node("mul", (result, self.power()))
            else:
                return result

    def divisor(self) -> Node:
        """What follows a slash: `t/RC` is t over R C, since letters that stand together belong
        together.
        """
        token = self.peek()
        if token.kind != "run" or len(token.text) > 3 or self.peek(1).text in ("^", "_", "(", "'"):
            return self.signed_power()
        self.take()
        product = sym(token.text[0])
        for letter in token.text[1:]:
            product = Node("mul", (product, sym(letter)))
        return product

    def signed_power(self) -> Node:
        if self.accept("op", "-"):
            return neg(self.signed_power())
        self.accept("op", "+")
        return self.power()

    def may_precede_number(self, before: Token) -> bool:
        """`(n - 2) 2^n`, `9! 8!`, `\\pi 2^n`, `i2` are products."""
        power = self.peek(1).text == "^" and before.kind == "sym"
        is_unit = before.kind == "sym" and before.text == "i"
        return (
            before.kind == "close"
            or (before.kind == "op" and before.text == "!")
            or power
            or is_unit
        )

    def starts_factor(self, token: Token) -> bool:
        if token.kind in ("num", "sym", "func", "run"):
            return True
        if token.kind == "open":
            return token.text in _CLOSING
        if token.kind == "cmd":
            return token.text in _FACTOR_CMDS
        if token.kind == "op":
            return token.text == "|" and not self.in_bars
        return token.kind == "word" and len(token.text) == 1

    # --- one factor

    def power(self) -> Node:
        """An atom with its scripts and postfix signs."""
        node = self.atom()
        while True:
            token = self.peek()
            if token.kind != "op":
                return node
            if token.text == "^":
                self.take()
                exponent = self.script()
                if node.op == "sym" and self.accept("op", "_"):  # v^2_0
                    node = sym(f"{node.value}_{self.raw_script()}")
                node = Node("pow", (node, exponent))
            elif token.text == "!":
                self.take()
                node = call("factorial2" if self.accept("op", "!") else "factorial", node)
            elif token.text == "%":
                self.take()
                node = Node("div", (node, HUNDRED))
            elif token.text == "deg":
                self.take()
                node = self.in_degrees(self.with_minutes(node))
            else:
                return node

    def with_minutes(self, degrees: Node) -> Node:
        """`12^\\circ 30' 15''` as 12 + 30/60 + 15/3600 degrees."""
        for marks, parts in ((1, 60), (2, 3600)):
            number, after = self.peek(), [self.peek(ahead).text for ahead in range(1, marks + 2)]
            if (
                number.kind == "num"
                and number.value is not None
                and after[:-1] == ["'"] * marks
                and after[-1] != "'"
            ):
                self.position += 1 + marks
                degrees = Node("add", (degrees, num(number.value / parts)))
        return degrees

    def in_degrees(self, node: Node) -> Node:
        if self.in_function:
            return Node("mul", (node, DEGREE))
        self.degrees = True
        return node

    def script(self) -> Node:
        """What follows `^`: a group, or one (signed) atom; `2^10` is two to the ten."""
        if self.accept("op", "-"):
            return neg(self.script())
        self.accept("op", "+")
        if self.peek().kind == "num" and self.peek().value is not None:
            node = num(self.take().value or 0)  # x^2 \frac{1}{3} is no mixed number
        else:
            node = self.atom()
        if self.accept("op", "^"):
            node = Node("pow", (node, self.script()))
        return node

    def atom(self) -> Node:
        token = self.take()
        if token.kind == "num":
            return self.number(token)
        if token.kind == "sym" or (token.kind == "word" and len(token.text) == 1):
            return self.symbol(token)
        if token.kind == "func":
            return self.function(token.text)
        if token.kind == "open" and token.text in _CLOSING:
            return self.group(token.text)
        if token.kind == "run":
            return self.letters(token.text)
        if token.kind == "cmd" and token.text in _FACTOR_CMDS:
            return self.command(token.text)
        if token.kind == "op" and token.text == "|" and not self.in_bars:
            return self.bars()
        raise NotMathError(token.text)

    def number(self, token: Token) -> Node:
        """A number, or a mixed number: `1\\frac{4}{5}`, `1 4/5`."""
        assert token.value is not None
        whole = token.value
        if (
            whole.denominator == 1
            and token.text.isdigit()
            and (part := self.proper_fraction()) is not None
        ):
            return num(whole + part.value)  # type: ignore[operator]
        return num(whole)

    def proper_fraction(self) -> Node | None:
        """The fraction part of a mixed number, taken if it is there: positive integers,
        below one.
        """
        first, second, third = self.peek(), self.peek(1), self.peek(2)
        if first.kind == "cmd" and first.text == "frac":
            start = self.position
            self.take()
            try:
                top, bottom = self.fraction_parts()
            except NotMathError:
                self.position = start
                return None
            if top.op == bottom.op == "num" and _is_proper(top, bottom) and self.peek().text != "^":
                return num(top.value / bottom.value)  # type: ignore[operator]
            self.position = start
            return None
        plain = (
            first.kind == third.kind == "num"
            and first.spaced
            and second.text == "/"
            and self.peek(3).text != "^"
        )
        if plain and _is_proper(num(first.value or 0), num(third.value or 0)):
            self.position += 3
            return num(first.value / third.value)  # type: ignore[operator]
        return None

    def symbol(self, token: Token) -> Node:
        name = token.text
        points = self.peek().text
        if (
            name == "angle"
            and self.peek().kind == "run"
            and len(points) == 3
            and self.peek(1).text not in ("_", "'")
        ):
            self.take()
            return sym(f"angle {min(points, points[::-1])}")  # the one in the middle is the vertex
        if name == "C" and self.peek().text == "_" and (chosen := self.combinations()) is not None:
            return chosen
        if self.peek().kind == "op" and self.peek().text == "_":
            self.take()
            name += "_" + self.raw_script()
        while self.peek().kind == "op" and self.peek().text == "'":
            self.take()
            name += "'"
        if (
            self.peek().text == "^" and self.peek(1).text == "G" and self.peek(2).text == "'"
        ):  # y^{\prime}
            while self.take().text != "G":
                pass
            while (inner := self.take()).text == "'":
                name += "'"
            if inner.text != "G":
                raise NotMathError("prime")
        if self.peek().text == "^" and self.peek(1).text == "star":
            self.position += 2
            name += "*"
        if (
            (self.peek().kind, self.peek().text) == ("open", "G")
            and self.peek(1).kind == "open"
            and self.peek(1).text == "("
        ):
            return self.application_in_braces(name)
        if name == "C" and self.peek().text == "(" and self.peek(2).text == ",":  # C(n, k)
            self.take()
            arguments = self.arguments(")")
            if len(arguments) != 2:
                raise NotMathError("arguments of C")
            return call("binom", *arguments)
        if self.peek().kind == "open" and self.peek().text == "(" and self.is_application(name):
            self.take()
            return Node("apply", tuple(self.arguments(")")), name)
        return sym(name)

    def combinations(self) -> Node | None:
        r"""`C_{10}^3` and `C_n^k` as binomials, after the C; `C_1^2` is the square of a
        constant.
        """
        start = self.position
        try:
            self.take()
            top = self.atom()
            self.expect("op", "^")
            bottom = self.atom()
        except NotMathError:
            self.position = start
            return None
        if top.op != "num" or (bottom.op == "num" and top != TWO and _is_proper(bottom, top)):
            return call("binom", top, bottom)
        self.position = start
        return None

    def application_in_braces(self, name: str) -> Node:
        """`f{(x)}`, as sympy prints it."""
        self.take()
        self.take()
        node = Node("apply", tuple(self.arguments(")")), name)
        self.expect("close", "G")
        return node

    def is_application(self, name: str) -> bool:
        """`f(x)`, and `I(0)`: a capital letter of a lone number is a value of a function, not a
        product.
        """
        letter = name.rstrip("'")
        lone_number = self.peek(1).kind == "num" and self.peek(2).kind == "close"
        return letter in _FUNCTION_LETTERS or (
            lone_number and letter.isupper() and len(letter) == 1
        )

    def raw_script(self) -> str:
        """A subscript as a name: the texts of its tokens."""
        token = self.take()
        if token.kind == "open" and token.text == "G":
            texts: list[str] = []
            while not ((inner := self.take()).kind == "close" and inner.text == "G"):
                if inner.kind in ("end", "open"):
                    raise NotMathError("subscript")
                texts.append(inner.text)
            return "".join(texts)
        if token.kind == "run" and _runs_on(token.text):
            self.spell_out(token.text)  # m_pc^2
            token = self.take()
        if token.kind in ("num", "sym", "word", "run") or token.text in ("min", "max"):
            return token.text
        raise NotMathError("subscript")

    def letters(self, run: str) -> Node:
        """`xy` is a product. A longer run that is not in alphabetical order is one name, so `east`
        is not
        `seat`, and so are three capitals alone, so `HHT` is not `THH`, and two that are the answer,
        so `IV` is not `VI`; in `AB = CD` and `PV = nRT` they are factors.
        """
        is_sequence = (
            run.isupper() and len(self.tokens) == 1 and (len(run) == 3 or self.tokens[0].is_name)
        )
        if is_sequence or (len(run) > 3 and list(run) != sorted(set(run))):
            return sym(run)
        self.spell_out(run)
        return self.symbol(self.take())

    def spell_out(self, run: str) -> None:
        """The run that was taken, as symbols to take."""
        self.position -= 1
        self.tokens[self.position : self.position + 1] = [Token("sym", letter) for letter in run]

    def group(self, opener: str) -> Node:
        bars, self.in_bars = self.in_bars, 0
        node = self.over_or_choose()
        self.in_bars = bars
        self.expect("close", _CLOSING[opener])
        return call(opener, node) if opener in ("floor", "ceil") else node

    def bars(self) -> Node:
        self.in_bars += 1
        node = self.expression()
        self.in_bars -= 1
        self.expect("op", "|")
        return call("abs", node)

    def arguments(self, closer: str) -> list[Node]:
        arguments = [self.expression()]
        while self.accept("op", ","):
            arguments.append(self.expression())
        self.expect("close", closer)
        return arguments

    # --- commands and functions

    def fraction_parts(self) -> tuple[Node, Node]:
        """Both arguments of \\frac; `\\frac12` is one half, `\\frac{1}12` is one twelfth."""
        token = self.peek()
        if token.kind == "num" and len(token.text) > 1:
            if len(token.text) != 2 or not token.text.isdigit():
                raise NotMathError(r"\frac with a long bare number")
            self.take()
            return num(int(token.text[0])), num(int(token.text[1]))
        top = self.braced()
        return top, self.braced()

    def braced(self) -> Node:
        """One argument of a command: a group or a single token."""
        token = self.take()
        if token.kind == "open" and token.text == "G":
            return self.group("G")
        if token.kind == "num":
            return num(token.value)  # type: ignore[arg-type]
        if token.kind == "sym":
            return sym(token.text)
        if token.kind == "run":  # \frac ab
            self.spell_out(token.text)
            return sym(self.take().text)
        if token.kind == "cmd" and token.text in ("frac", "sqrt"):
            return self.command(token.text)
        raise NotMathError(token.text)

    def command(self, name: str) -> Node:
        if name in ("frac", "binom"):
            top, bottom = self.fraction_parts()
            return Node("div", (top, bottom)) if name == "frac" else call("binom", top, bottom)
        if name in ("sum", "prod"):
            return self.repeated(name)
        degree = num(3) if name == "cbrt" else TWO
        if name == "sqrt" and self.accept("open", "["):
            degree = self.expression()
            self.expect("close", "]")
        root = self.radicand()
        return (
            call("root", root, degree)
            if degree.op == "num"
            else Node("pow", (root, Node("div", (ONE, degree))))
        )

    def radicand(self) -> Node:
        if self.peek().kind == "open" and self.peek().text == "(":
            self.take()
            return self.group("(")
        return self.braced()

    def repeated(self, name: str) -> Node:
        r"""`\sum_{k=1}^{n} body`; the body is the product that follows."""
        self.expect("op", "_")
        self.expect("open", "G")
        index = self.take()
        if index.kind != "sym":
            raise NotMathError("index")
        self.expect("op", "=")
        first = self.expression()
        self.expect("close", "G")
        self.expect("op", "^")
        last = self.script()
        return Node(name, (self.term(), first, last), index.text)

    def function(self, name: str) -> Node:
        exponent = base = None
        while self.peek().text in ("^", "_") and self.peek().kind == "op":
            if self.take().text == "^":
                exponent = self.script()
            else:
                base = self.script()
        if exponent == MINUS_ONE and name in _INVERSES:
            name, exponent = _INVERSES[name], None
        arguments = self.function_arguments(name)
        if base is not None:
            if name != "log":
                raise NotMathError("subscript of a function")
            arguments.append(base)
        if (
            len(arguments) > 1
            and name not in _MANY_ARGUMENTS
            and not (name == "log" and len(arguments) == 2)
        ):
            raise NotMathError("too many arguments")
        node = _rename(name, arguments)
        return node if exponent is None else Node("pow", (node, exponent))

    def function_arguments(self, name: str) -> list[Node]:
        self.in_function += 1
        opener = self.peek()
        if opener.kind == "open" and (opener.text in ("(", "G", "[") or name in _MANY_ARGUMENTS):
            self.take()
            bars, self.in_bars = self.in_bars, 0
            arguments = self.arguments(_CLOSING[opener.text])
            self.in_bars = bars
        elif name in _MANY_ARGUMENTS:
            raise NotMathError("arguments")
        else:
            arguments = [self.bare_argument()]
        self.in_function -= 1
        return arguments

    def bare_argument(self) -> Node:
        r"""`\sin 2 \pi x`: the product up to a sign, a slash, a bracket or the next function."""
        if self.accept("op", "-"):
            return neg(self.bare_argument())
        node = self.power()
        while self.starts_factor(self.peek()) and self.peek().kind not in ("func", "num", "word"):
            if self.peek().kind == "open" and self.peek().text != "G":
                break
            node = Node("mul", (node, self.power()))
        return node


def _runs_on(run: str) -> bool:
    """Does only the first letter belong to the subscript: `k_BT`, but not `v_max`, `a_ij`?"""
    is_index = set(run) <= set("ijklmn")
    return not is_index and (len(run) == 2 or not set(run.lower()) & set("aeiou"))


def _is_proper(top: Node, bottom: Node) -> bool:
    above, below = top.value, bottom.value
    assert not isinstance(above, str) and not isinstance(below, str)
    return above.denominator == below.denominator == 1 and 0 < above < below


def _rename(name: str, arguments: list[Node]) -> Node:
    if name == "exp":
        return Node("pow", (sym("e"), arguments[0]))
    if name == "sqrt":
        return call("root", arguments[0], TWO)
    if name == "cbrt":
        return call("root", arguments[0], num(3))
    if name in ("lg", "lb"):
        return call("log", arguments[0], num(10 if name == "lg" else 2))
    if name == "cis":
        angle = arguments[0]
        return Node("add", (call("cos", angle), Node("mul", (sym("i"), call("sin", angle)))))
    return call(name, *arguments)
