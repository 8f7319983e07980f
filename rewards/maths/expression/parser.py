"""Tokens of one expression -> a tree, by recursive descent over a whitelist. No text is ever
evaluated.
"""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction

from rewards.maths.expression.node import (
    DEGREE,
    HUNDRED,
    MINUS_ONE,
    ONE,
    TWO,
    Node,
    Op,
    add,
    call,
    div,
    mul,
    neg,
    num,
    power,
    sym,
)
from rewards.maths.limits import LimitError, Limits, NotMathError
from rewards.maths.text.tokens import Kind, Token, Tokens
from rewards.maths.text.vocabulary import Sign

_END = Token(Kind.END, "")
_FACTOR_KINDS = (Kind.NUM, Kind.SYM, Kind.FUNC, Kind.RUN)
_FACTOR_CMDS = ("frac", "sqrt", "cbrt", "binom", "sum", "prod")
_CLOSING = {"(": ")", "[": "]", "G": "G", "floor": "floor", "ceil": "ceil", "{": "}"}
_INVERSES = {name: "arc" + name for name in ("sin", "cos", "tan", "cot", "sec", "csc")} | {
    name: "a" + name for name in ("sinh", "cosh", "tanh")
}
_MANY_ARGUMENTS = ("gcd", "lcm", "min", "max")
_TERM_SIGNS: tuple[Sign, ...] = ("+", "-", "pm", "mp")


def parse_expression(tokens: Tokens, limits: Limits) -> tuple[Node, bool]:
    """The tree of all tokens, and whether a degree sign stood outside of a function.

    Raises:
        NotMathError: something is not in the grammar, or tokens are left over.
        LimitError: nested too deeply.
    """
    parser = _Parser(tokens, limits)
    node = parser.over_or_choose()
    if parser.peek().kind is not Kind.END:
        raise NotMathError(parser.peek().text)
    return node, parser.degrees


def parsed(tokens: Tokens, limits: Limits) -> Node | None:
    """The tree of all tokens, or None where they are no expression."""
    try:
        return parse_expression(tokens, limits)[0]
    except (NotMathError, LimitError):
        return None


class _Parser:
    """State of one descent: the tokens, the position, and what we are inside of."""

    def __init__(self, tokens: Tokens, limits: Limits) -> None:
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

    def accept(self, *signs: Sign) -> bool:
        """Take one of these operators if it comes next."""
        token = self.tokens[self.position] if self.position < len(self.tokens) else _END
        if token.kind is not Kind.OP or token.text not in signs:
            return False
        self.position += 1
        return True

    def comes(self, kind: Kind, text: str, ahead: int = 0) -> bool:
        token = self.peek(ahead)
        return token.kind is kind and token.text == text

    def expect(self, kind: Kind, text: str) -> None:
        if not self.comes(kind, text):
            raise NotMathError(f"expected {text}")
        self.position += 1

    # --- sums and products

    def over_or_choose(self) -> Node:
        """The content of a group: an expression, `a \\over b` or `n \\choose k`."""
        node = self.expression()
        if self.peek().kind is Kind.CMD and self.peek().text in ("choose", "over"):
            over = self.take().text == "over"
            below = self.expression()
            return div(node, below) if over else call("binom", node, below)
        return node

    def expression(self) -> Node:
        self.depth += 1
        if self.depth > self.limits.max_depth:
            raise LimitError("depth")
        terms = [self.signed_term()]
        while self.peek().is_op(*_TERM_SIGNS):
            terms.append(self.signed_term())
        self.depth -= 1
        return add(*terms)

    def signed_term(self) -> Node:
        negative, plus_minus = False, ""
        while self.peek().is_op(*_TERM_SIGNS):
            text = self.take().text
            if text in ("pm", "mp"):
                if plus_minus:
                    raise NotMathError("two plus-minus signs")
                plus_minus = text
            negative ^= text == "-"
        term = self.term()
        if plus_minus:
            term = Node(Op(plus_minus), (term,))
        return neg(term) if negative else term

    def term(self) -> Node:
        result = self.power()
        while True:
            token, before = self.peek(), self.peek(-1)
            if token.kind is Kind.OP and token.text in ("*", "/", "mod"):
                self.take()
                if token.text == "*":
                    result = mul(result, self.signed_power())
                elif token.text == "/":
                    result = div(result, self.divisor())
                else:
                    result = call("mod", result, self.power())
            elif not self.starts_factor(token):
                return result
            else:
                # `(n - 2) 2^n`, `9! 8!`, `\pi 2^n`, `i2` are products; `3 4` and `x 3` are nothing
                is_product = before.kind is Kind.CLOSE or before.is_op("!")
                if before.kind is Kind.SYM:
                    is_product = before.text == "i" or self.peek(1).text == "^"
                if token.kind is Kind.NUM and not is_product:
                    raise NotMathError("two numbers side by side")
                result = mul(result, self.power())

    def divisor(self) -> Node:
        """What follows a slash: `t/RC` is t over R C, since letters that stand together belong
        together.
        """
        token = self.peek()
        follows = self.peek(1).text in ("^", "_", "(", "'")
        if token.kind is not Kind.RUN or len(token.text) > 3 or follows:
            return self.signed_power()
        self.take()
        product = sym(token.text[0])
        for letter in token.text[1:]:
            product = mul(product, sym(letter))
        return product

    def signed_power(self) -> Node:
        if self.accept("-"):
            return neg(self.signed_power())
        self.accept("+")
        return self.power()

    def starts_factor(self, token: Token) -> bool:
        kind = token.kind
        if kind is Kind.OP:
            return token.text == "|" and not self.in_bars
        if kind in _FACTOR_KINDS:
            return True
        if kind is Kind.OPEN:
            return token.text in _CLOSING
        if kind is Kind.CMD:
            return token.text in _FACTOR_CMDS
        return kind is Kind.WORD and len(token.text) == 1

    # --- one factor

    def power(self) -> Node:
        """An atom with its scripts and postfix signs."""
        node = self.atom()
        while True:
            if self.peek().kind is not Kind.OP:
                return node
            if self.accept("^"):
                exponent = self.script()
                if node.op is Op.SYM and self.accept("_"):  # v^2_0
                    node = sym(f"{node.value}_{self.raw_script()}")
                node = power(node, exponent)
            elif self.accept("!"):
                node = call("factorial2" if self.accept("!") else "factorial", node)
            elif self.accept("%"):
                node = div(node, HUNDRED)
            elif self.accept("deg"):
                node = self.in_degrees(node)
            else:
                return node

    def in_degrees(self, node: Node) -> Node:
        """Degrees with minutes and seconds: `12^\\circ 30' 15''` as 12 + 30/60 + 15/3600."""
        for marks, parts in ((1, 60), (2, 3600)):
            number = self.peek().value
            after = [self.peek(ahead).text for ahead in range(1, marks + 2)]
            if number is not None and after[:-1] == ["'"] * marks and after[-1] != "'":
                self.position += 1 + marks
                node = add(node, num(number / parts))
        if self.in_function:
            return mul(node, DEGREE)
        self.degrees = True
        return node

    def script(self) -> Node:
        """What follows `^`: a group, or one (signed) atom; `2^10` is two to the ten."""
        if self.accept("-"):
            return neg(self.script())
        self.accept("+")
        number = self.peek().value
        if number is not None:  # x^2 \frac{1}{3} is no mixed number
            self.take()
        node = self.atom() if number is None else num(number)
        return power(node, self.script()) if self.accept("^") else node

    def atom(self) -> Node:
        token = self.take()
        match token.kind:
            case Kind.NUM if token.value is not None:
                is_whole = token.value.denominator == 1 and token.text.isdigit()
                part = self.proper_fraction() if is_whole else None  # 1\frac{4}{5}, 1 4/5
                return num(token.value + (part or 0))
            case Kind.SYM:
                return self.symbol(token.text)
            case Kind.WORD if len(token.text) == 1:
                return self.symbol(token.text)
            case Kind.FUNC:
                return self.function(token.text)
            case Kind.OPEN if token.text in _CLOSING:
                node = self.group(token.text)
                return call(token.text, node) if token.text in ("floor", "ceil") else node
            case Kind.RUN:
                return self.letters(token.text)
            case Kind.CMD if token.text in _FACTOR_CMDS:
                return self.command(token.text)
            case Kind.OP if token.text == "|" and not self.in_bars:
                self.in_bars += 1
                node = self.expression()
                self.in_bars -= 1
                self.expect(Kind.OP, "|")
                return call("abs", node)
        raise NotMathError(token.text)

    def proper_fraction(self) -> Fraction | None:
        """The fraction part of a mixed number, taken if it is there: positive integers, below one."""
        start, first, last = self.position, self.peek(), self.peek(2)
        top: Fraction | None = None
        bottom: Fraction | None = None
        if self.comes(Kind.CMD, "frac"):
            self.take()
            with suppress(NotMathError):
                above, below = self.fraction_parts()
                top, bottom = above.number, below.number
        elif first.spaced and self.comes(Kind.OP, "/", 1):
            self.position += 3
            top, bottom = first.value, last.value
        if top and bottom and _is_proper(top, bottom) and self.peek().text != "^":
            return top / bottom
        self.position = start
        return None

    def symbol(self, name: str) -> Node:
        """A symbol that was taken, with what belongs to its name, or the function that it is."""
        if name == "angle" and self.peek().kind is Kind.RUN:
            points = self.peek().text
            if len(points) == 3 and not self.peek(1).is_op("_", "'"):
                self.take()  # the one in the middle is the vertex
                return sym(f"angle {min(points, points[::-1])}")
        if name == "C" and self.peek().is_op("_") and (chosen := self.combinations()) is not None:
            return chosen
        if self.accept("_"):
            name += "_" + self.raw_script()
        while self.accept("'"):
            name += "'"
        if self.peek().is_op("^") and self.comes(Kind.SYM, "star", 1):
            self.position += 2
            name += "*"
        if self.peek().kind is not Kind.OPEN:
            return sym(name)
        if name == "C" and self.comes(Kind.OPEN, "(") and self.peek(2).text == ",":  # C(n, k)
            self.take()
            arguments = self.arguments(")")
            if len(arguments) != 2:
                raise NotMathError("arguments of C")
            return call("binom", *arguments)
        # `f(x)`, and `I(0)`: a capital letter of a lone number is a value of a function, not a
        # product. Sympy prints `f{(x)}`.
        in_braces = self.comes(Kind.OPEN, "G") and self.comes(Kind.OPEN, "(", 1)
        letter = name.rstrip("'")
        lone_number = self.peek(1).kind is Kind.NUM and self.peek(2).kind is Kind.CLOSE
        applies = letter in ("f", "g", "F", "G") or (
            lone_number and letter.isupper() and len(letter) == 1
        )
        if not in_braces and not (applies and self.comes(Kind.OPEN, "(")):
            return sym(name)
        self.position += 1 + in_braces
        node = Node(Op.APPLY, tuple(self.arguments(")")), name)
        if in_braces:
            self.expect(Kind.CLOSE, "G")
        return node

    def combinations(self) -> Node | None:
        r"""`C_{10}^3` and `C_n^k` as binomials, after the C; `C_1^2` is the square of a constant."""
        start = self.position
        try:
            self.take()
            top = self.atom()
            self.expect(Kind.OP, "^")
            bottom = self.atom()
        except NotMathError:
            self.position = start
            return None
        is_chosen = top != TWO and _is_proper(bottom.number, top.number)
        if top.op is not Op.NUM or is_chosen:
            return call("binom", top, bottom)
        self.position = start
        return None

    def raw_script(self) -> str:
        """A subscript as a name: the texts of its tokens."""
        token = self.take()
        if token.kind is Kind.OPEN and token.text == "G":
            texts: list[str] = []
            while not self.comes(Kind.CLOSE, "G"):
                inner = self.take()
                if inner.kind in (Kind.END, Kind.OPEN):
                    raise NotMathError("subscript")
                texts.append(inner.text)
            self.take()
            return "".join(texts)
        # Only the first letter belongs to the subscript of `k_BT`, unlike `v_max` and `a_ij`.
        run = token.text
        is_index = set(run) <= set("ijklmn")
        runs_on = not is_index and (len(run) == 2 or not set(run.lower()) & set("aeiou"))
        if token.kind is Kind.RUN and runs_on:
            self.spell_out(run)
            token = self.take()
        if token.kind in (Kind.NUM, Kind.SYM, Kind.WORD, Kind.RUN) or run in ("min", "max"):
            return token.text
        raise NotMathError("subscript")

    def letters(self, run: str) -> Node:
        """`xy` is a product. A longer run that is not in alphabetical order is one name, so `east`
        is not `seat`, and so are three capitals alone, so `HHT` is not `THH`, and two that are the
        answer, so `IV` is not `VI`. In `AB = CD` and `PV = nRT` they are factors.
        """
        is_alone = run.isupper() and len(self.tokens) == 1
        is_sequence = is_alone and (len(run) == 3 or self.tokens[0].is_name)
        if is_sequence or (len(run) > 3 and list(run) != sorted(set(run))):
            return sym(run)
        self.spell_out(run)
        return self.symbol(self.take().text)

    def spell_out(self, run: str) -> None:
        """The run that was taken, as symbols to take."""
        self.position -= 1
        symbols = [Token(Kind.SYM, letter) for letter in run]
        self.tokens[self.position : self.position + 1] = symbols

    def group(self, opener: str) -> Node:
        bars, self.in_bars = self.in_bars, 0
        node = self.over_or_choose()
        self.in_bars = bars
        self.expect(Kind.CLOSE, _CLOSING[opener])
        return node

    def arguments(self, closer: str) -> list[Node]:
        arguments = [self.expression()]
        while self.accept(","):
            arguments.append(self.expression())
        self.expect(Kind.CLOSE, closer)
        return arguments

    # --- commands and functions

    def fraction_parts(self) -> tuple[Node, Node]:
        """Both arguments of \\frac; `\\frac12` is one half, `\\frac{1}12` is one twelfth."""
        token = self.peek()
        if token.kind is Kind.NUM and len(token.text) > 1:
            if len(token.text) != 2 or not token.text.isdigit():
                raise NotMathError(r"\frac with a long bare number")
            self.take()
            return num(int(token.text[0])), num(int(token.text[1]))
        top = self.braced()
        return top, self.braced()

    def braced(self) -> Node:
        """One argument of a command: a group or a single token."""
        token = self.take()
        if token.kind is Kind.OPEN and token.text == "G":
            return self.group("G")
        if token.value is not None:
            return num(token.value)
        if token.kind is Kind.RUN:  # \frac ab
            self.spell_out(token.text)
            token = self.take()
        if token.kind is Kind.SYM:
            return sym(token.text)
        if token.kind is Kind.CMD and token.text in ("frac", "sqrt"):
            return self.command(token.text)
        raise NotMathError(token.text)

    def command(self, name: str) -> Node:
        if name in ("frac", "binom"):
            top, bottom = self.fraction_parts()
            return div(top, bottom) if name == "frac" else call("binom", top, bottom)
        if name in ("sum", "prod"):  # `\sum_{k=1}^{n} body`; the body is the product that follows
            self.expect(Kind.OP, "_")
            self.expect(Kind.OPEN, "G")
            index = self.take()
            if index.kind is not Kind.SYM:
                raise NotMathError("index")
            self.expect(Kind.OP, "=")
            first = self.expression()
            self.expect(Kind.CLOSE, "G")
            self.expect(Kind.OP, "^")
            last = self.script()
            return Node(Op(name), (self.term(), first, last), index.text)
        degree = num(3) if name == "cbrt" else TWO
        if name == "sqrt" and self.comes(Kind.OPEN, "["):
            self.take()
            degree = self.expression()
            self.expect(Kind.CLOSE, "]")
        in_brackets = self.comes(Kind.OPEN, "(")
        self.position += in_brackets
        root = self.group("(") if in_brackets else self.braced()
        return call("root", root, degree) if degree.op is Op.NUM else power(root, div(ONE, degree))

    def function(self, name: str) -> Node:
        exponent = base = None
        while self.peek().is_op("^", "_"):
            if self.accept("^"):
                exponent = self.script()
            else:
                self.take()
                base = self.script()
        if exponent == MINUS_ONE and name in _INVERSES:
            name, exponent = _INVERSES[name], None
        self.in_function += 1
        opener, many = self.peek(), name in _MANY_ARGUMENTS
        if opener.kind is Kind.OPEN and (opener.text in ("(", "G", "[") or many):
            self.take()
            bars, self.in_bars = self.in_bars, 0
            arguments = self.arguments(_CLOSING[opener.text])
            self.in_bars = bars
        elif many:
            raise NotMathError("arguments")
        else:
            arguments = [self.bare_argument()]
        self.in_function -= 1
        if base is not None:
            if name != "log":
                raise NotMathError("subscript of a function")
            arguments.append(base)
        if len(arguments) > 1 and not many and not (name == "log" and len(arguments) == 2):
            raise NotMathError("too many arguments")
        node = _usual_call(name, arguments)
        return node if exponent is None else power(node, exponent)

    def bare_argument(self) -> Node:
        r"""`\sin 2 \pi x`: the product up to a sign, a slash, a bracket or the next function."""
        if self.accept("-"):
            return neg(self.bare_argument())
        node = self.power()
        while self.starts_factor(token := self.peek()):
            is_bracket = token.kind is Kind.OPEN and token.text != "G"
            if is_bracket or token.kind in (Kind.FUNC, Kind.NUM, Kind.WORD):
                break
            node = mul(node, self.power())
        return node


def _is_proper(top: Fraction | None, bottom: Fraction | None) -> bool:
    """Are these the positive integers of a fraction below one?"""
    if top is None or bottom is None:
        return False
    return top.denominator == bottom.denominator == 1 and 0 < top < bottom


def _usual_call(name: str, arguments: list[Node]) -> Node:
    first = arguments[0]
    match name:
        case "exp":
            return power(sym("e"), first)
        case "sqrt" | "cbrt":
            return call("root", first, TWO if name == "sqrt" else num(3))
        case "lg" | "lb":
            return call("log", first, num(10 if name == "lg" else 2))
        case "cis":
            return add(call("cos", first), mul(sym("i"), call("sin", first)))
    return call(name, *arguments)
