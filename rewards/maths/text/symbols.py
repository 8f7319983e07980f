"""What the tokenizer knows: commands, functions, Greek letters and Unicode signs, each with one
canonical name.
"""

from __future__ import annotations

FUNCTIONS: dict[str, str] = {
    **{name: name for name in ("sin", "cos", "tan", "cot", "sec", "csc")},
    **{"arc" + name: "arc" + name for name in ("sin", "cos", "tan", "cot", "sec", "csc")},
    **{"a" + name: "arc" + name for name in ("sin", "cos", "tan")},
    **{name: name for name in ("sinh", "cosh", "tanh", "coth", "sech", "csch")},
    **{"arc" + name: "a" + name for name in ("sinh", "cosh", "tanh")},
    **{"ar" + name: "a" + name for name in ("sinh", "cosh", "tanh")},
    **{"a" + name: "a" + name for name in ("sinh", "cosh", "tanh")},
    **{
        name: name
        for name in ("ln", "log", "exp", "gcd", "lcm", "min", "max", "floor", "ceil", "abs", "sgn")
    },
    **{
        "tg": "tan",
        "ctg": "cot",
        "cosec": "csc",
        "arctg": "arctan",
        "arcctg": "arccot",
        "lg": "lg",
        "lb": "lb",
    },
    **{
        "sqrt": "sqrt",
        "cbrt": "cbrt",
        "cis": "cis",
        "sign": "sgn",
        "ceiling": "ceil",
        "GCD": "gcd",
        "LCM": "lcm",
    },
}

GREEK: frozenset[str] = frozenset(
    {
        "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu",
        "nu", "xi", "omicron", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega", "Gamma",
        "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega",
    }
)  # fmt: skip

# Commands that are symbols under another name.
SYMBOLS: dict[str, str] = {
    **{name: name for name in GREEK},
    **{
        "varphi": "phi",
        "varepsilon": "epsilon",
        "vartheta": "theta",
        "varrho": "rho",
        "varsigma": "sigma",
    },
    **{
        "hbar": "hbar",
        "ell": "l",
        "infty": "oo",
        "infin": "oo",
        "emptyset": "emptyset",
        "varnothing": "emptyset",
    },
    **{
        "ldots": "dots",
        "cdots": "dots",
        "dots": "dots",
        "dotsc": "dots",
        "dotsb": "dots",
        "vdots": "dots",
    },
    **{
        "partial": "partial",
        "nabla": "nabla",
        "odot": "odot",
        "oplus": "oplus",
        "imath": "i",
        "jmath": "j",
    },
    **{"star": "star", "dagger": "dagger", "aleph": "aleph", "mho": "mho", "Re": "Re", "Im": "Im"},
    **{
        name: name
        for name in ("angle", "triangle", "square", "perp", "parallel", "heartsuit", "clubsuit")
    },
}

OPERATORS: dict[str, str] = {
    **dict.fromkeys(("times", "cdot", "ast", "bullet", "centerdot"), "*"),
    **{"div": "/", "pm": "pm", "mp": "mp", "slash": "/"},
    **dict.fromkeys(("le", "leq", "leqslant", "leqq"), "<="),
    **dict.fromkeys(("ge", "geq", "geqslant", "geqq"), ">="),
    **dict.fromkeys(("ne", "neq"), "!="),
    **{
        "lt": "<",
        "gt": ">",
        "in": "in",
        "notin": "notin",
        "equiv": "equiv",
        "colon": ":",
        "mid": "mid",
        "vert": "|",
    },
    **dict.fromkeys(("approx", "simeq", "thickapprox", "approxeq"), "~~"),
    **dict.fromkeys(("cup", "bigcup"), "cup"),
    **dict.fromkeys(("cap", "bigcap"), "cap"),
    **dict.fromkeys(("setminus", "smallsetminus", "backslash"), "setminus"),
    **dict.fromkeys(
        ("to", "rightarrow", "Rightarrow", "implies", "longrightarrow", "mapsto"), "to"
    ),
    **dict.fromkeys(("iff", "Leftrightarrow", "leftrightarrow", "Longleftrightarrow"), "iff"),
    **dict.fromkeys(("land", "wedge"), "land"),
    **dict.fromkeys(("lor", "vee"), "lor"),
    **dict.fromkeys(("lvert", "rvert"), "|"),
    **{"degree": "deg", "prime": "'", "cr": "row", "newline": "row", "lnot": "not", "neg": "not"},
    **{"bmod": "mod", "mod": "mod", "pmod": "pmod"},
}

OPENERS = {
    "lbrace": "{",
    "langle": "<",
    "lfloor": "floor",
    "lceil": "ceil",
    "lbrack": "[",
    "lparen": "(",
}
CLOSERS = {
    "rbrace": "}",
    "rangle": ">",
    "rfloor": "floor",
    "rceil": "ceil",
    "rbrack": "]",
    "rparen": ")",
}

UNIT_COMMANDS = {
    **dict.fromkeys(("cent", "cents", "textcent"), "cents"),
    **{
        "euro": "euros",
        "texteuro": "euros",
        "pounds": "pounds",
        "textsterling": "pounds",
        "yen": "yen",
    },
    **{"AA": "angstrom"},
}

TEXT_FONTS = frozenset(
    {
        "text", "mbox", "textbf", "textit", "textrm", "textsf", "texttt", "textnormal", "textsc", "hbox",
        "mathrm", "rm", "mathsf", "mathtt", "operatorname", "operatornamewithlimits", "emph", "mathnormal",
        "unit",
    }
)  # fmt: skip
MATH_FONTS = frozenset(
    {
        "mathbf", "boldsymbol", "bm", "mathit", "mathcal", "mathscr", "mathfrak", "pmb", "bf", "it", "cal",
        "mathop", "mathord", "mathbin", "mathrel", "mathpunct",
    }
)  # fmt: skip
# Wrappers whose content stands for itself.
TRANSPARENT = frozenset(["boxed", "fbox", "underline", "ensuremath", "cancel", "displaylines"])
# By one name each; an arrow says nothing that the letter does not.
ACCENTS = {
    **{
        "hat": "hat",
        "widehat": "hat",
        "tilde": "tilde",
        "widetilde": "tilde",
        "bar": "bar",
        "overline": "bar",
    },
    **{name: name for name in ("dot", "ddot", "check", "breve")},
    **{"vec": "", "overrightarrow": ""},
}
# Short words that are no products of letters.
WORDS = frozenset({"yes", "no", "odd"})
BOARD = {"R": "RR", "Z": "ZZ", "N": "NN", "Q": "QQ", "C": "CC"}

# One sign, one spelling; what is not here, not ASCII and no CJK word is not understood (other
# digits among it).
UNICODE: dict[int, str] = {
    ord(sign): text
    for sign, text in {
        "−": "-", "–": "-", "—": "-", "‐": "-", "×": r"\times ", "⋅": r"\cdot ", "·": r"\cdot ",
        "∙": r"\cdot ", "÷": r"\div ", "±": r"\pm ", "∓": r"\mp ", "≤": r"\le ", "≥": r"\ge ", "⩽": r"\le ",
        "⩾": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "≡": r"\equiv ", "∞": r"\infty ", "∪": r"\cup ",
        "∩": r"\cap ", "∈": r"\in ", "∉": r"\notin ", "∅": r"\emptyset ", "∖": r"\setminus ",
        "√": r"\sqrt ", "∛": r"\cbrt ", "π": r"\pi ", "°": r"\degree ", "º": r"\degree ", "′": "'",
        "’": "'", "″": "''", "⁄": "/", "∕": "/", "½": r"\frac{1}{2}", "⅓": r"\frac{1}{3}",
        "⅔": r"\frac{2}{3}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "⅕": r"\frac{1}{5}",
        "⅛": r"\frac{1}{8}", "⅜": r"\frac{3}{8}", "⅝": r"\frac{5}{8}", "⅞": r"\frac{7}{8}",
        "⅖": r"\frac{2}{5}", "⅗": r"\frac{3}{5}", "⅘": r"\frac{4}{5}", "⅙": r"\frac{1}{6}",
        "⅚": r"\frac{5}{6}", "⅐": r"\frac{1}{7}", "⅑": r"\frac{1}{9}", "⅒": r"\frac{1}{10}",
        "≦": r"\le ", "≧": r"\ge ", "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ",
        "⟨": r"\langle ", "⟩": r"\rangle ", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}",
        "ℚ": r"\mathbb{Q}", "ℂ": r"\mathbb{C}", "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ",
        "δ": r"\delta ", "ε": r"\epsilon ", "ζ": r"\zeta ", "η": r"\eta ", "θ": r"\theta ", "κ": r"\kappa ",
        "λ": r"\lambda ", "μ": r"\mu ", "µ": r"\mu ", "ν": r"\nu ", "ξ": r"\xi ", "ρ": r"\rho ",
        "σ": r"\sigma ", "τ": r"\tau ", "φ": r"\phi ", "ϕ": r"\phi ", "χ": r"\chi ", "ψ": r"\psi ",
        "ω": r"\omega ", "Γ": r"\Gamma ", "Δ": r"\Delta ", "Θ": r"\Theta ", "Λ": r"\Lambda ",
        "Σ": r"\Sigma ", "Φ": r"\Phi ", "Ψ": r"\Psi ", "Ω": r"\Omega ", "…": r"\ldots ", "，": ",", "；": ";",
        "：": ":", "。": ".", "、": ",", "（": "(", "）": ")", "％": "%", "＝": "=",
        "\u00a0": " ", "\u2009": " ",
        "\u202f": " ", "\u3000": " ", "→": r"\to ", "⇒": r"\to ", "“": '"', "”": '"', "¹": "^{1}",
        "²": "^{2}", "³": "^{3}", "⁴": "^{4}", "⁵": "^{5}", "⁶": "^{6}", "⁷": "^{7}", "⁸": "^{8}",
        "⁹": "^{9}", "⁰": "^{0}", "ⁿ": "^{n}", "⁻": "^-", "€": r"\text{euros} ",
        "£": r"\text{pounds} ", "¥": r"\text{yen} ", "¢": r"\text{cents} ", "∠": r"\angle ", "∂": r"\partial ",
        "₹": r"\text{rupees} ", "℃": r"\degree\text{C}", "℉": r"\degree\text{F}", "Å": r"\text{\AA}",
        "－": "-", "＋": "+", "＜": "<", "＞": ">", "［": "[", "］": "]", "｛": r"\{", "｝": r"\}", "｜": "|",
        "．": ".", "或": " or ", "且": " and ",
        **{chr(ord("０") + digit): str(digit) for digit in range(10)},
    }.items()
}  # fmt: skip
