"""All that the grader knows by name: commands, functions, signs, units and words, each with one
canonical name.

Most tables are written as `name: spelling spelling`, one entry a line or before a bar.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Literal

Sign = Literal[
    "+", "-", "*", "/", "^", "_", "!", "%", "'", "=", "<", ">", "<=", ">=", "!=", "~~", ",", ";", ":", ".", "|", "&",
    '"', "?", "$", "#", "pm", "mp", "in", "notin", "equiv", "mid", "cup", "cap", "setminus", "to", "iff", "land", "lor",
    "deg", "row", "not", "mod", "pmod",
]  # fmt: skip


def _table(text: str) -> dict[str, str]:
    """Spelling -> canonical name."""
    entries = (entry.partition(":") for entry in text.replace("|", "\n").splitlines())
    return {word: name.strip() for name, _, spellings in entries for word in spellings.split()}


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


# --- commands

FUNCTIONS = _table("""
sin: sin | cos: cos | tan: tan tg | cot: cot ctg | sec: sec | csc: csc cosec
arcsin: arcsin asin | arccos: arccos acos | arctan: arctan atan arctg | arccot: arccot arcctg
arcsec: arcsec | arccsc: arccsc | sinh: sinh | cosh: cosh | tanh: tanh | coth: coth | sech: sech | csch: csch
asinh: arcsinh arsinh asinh | acosh: arccosh arcosh acosh | atanh: arctanh artanh atanh
ln: ln | log: log | lg: lg | lb: lb | exp: exp | gcd: gcd GCD | lcm: lcm LCM | min: min | max: max
floor: floor | ceil: ceil ceiling | abs: abs | sgn: sgn sign | sqrt: sqrt | cbrt: cbrt | cis: cis
""")
GREEK = words("""
alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau upsilon phi chi
psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega
""")
# Commands that are symbols.
SYMBOLS = {name: name for name in GREEK} | _table("""
phi: varphi | epsilon: varepsilon | theta: vartheta | rho: varrho | sigma: varsigma | hbar: hbar | l: ell
oo: infty infin | emptyset: emptyset varnothing | dots: ldots cdots dots dotsc dotsb vdots | partial: partial
nabla: nabla | odot: odot | oplus: oplus | i: imath | j: jmath | star: star | dagger: dagger | aleph: aleph
mho: mho | Re: Re | Im: Im | angle: angle | triangle: triangle | square: square | perp: perp
parallel: parallel | heartsuit: heartsuit | clubsuit: clubsuit
""")
# By names that are no spellings themselves: a bar and a colon would end an entry.
OPERATORS = {"colon": ":", "vert": "|", "lvert": "|", "rvert": "|"} | _table("""
*: times cdot ast bullet centerdot
/: div slash
<=: le leq leqslant leqq
>=: ge geq geqslant geqq
!=: ne neq
<: lt
>: gt
pm: pm | mp: mp | in: in | notin: notin | equiv: equiv | mid: mid | cup: cup bigcup | cap: cap bigcap
~~: approx simeq thickapprox approxeq
setminus: setminus smallsetminus backslash
to: to rightarrow Rightarrow implies longrightarrow mapsto
iff: iff Leftrightarrow leftrightarrow Longleftrightarrow
land: land wedge | lor: lor vee | deg: degree | ': prime | row: cr newline | not: lnot neg | mod: bmod mod | pmod: pmod
""")
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
UNIT_COMMANDS = _table(
    "cents: cent cents textcent | euros: euro texteuro | pounds: pounds textsterling | yen: yen | angstrom: AA"
)
TEXT_FONTS = words("""
text mbox textbf textit textrm textsf texttt textnormal textsc hbox mathrm rm mathsf mathtt operatorname
operatornamewithlimits emph mathnormal unit
""")
MATH_FONTS = words("""
mathbf boldsymbol bm mathit mathcal mathscr mathfrak pmb bf it cal mathop mathord mathbin mathrel mathpunct
""")
TRANSPARENT = words(
    "boxed fbox underline ensuremath cancel displaylines"
)  # their content stands for itself
# By one name each. An arrow says nothing that the letter does not.
ACCENTS = {"vec": "", "overrightarrow": ""} | _table(
    "hat: hat widehat | tilde: tilde widetilde | bar: bar overline | dot: dot | ddot: ddot | check: check | breve: breve"
)
BOARD = {letter: 2 * letter for letter in "RZNQC"}
PLAIN_WORDS = words("yes no odd")  # short ones that are no products of letters
# Commands that the label of an answer may hold.
LABEL_COMMANDS = words("""
frac sqrt cbrt binom sum prod int iint oint lim limsup liminf sup inf circ det dim Pr arg ker star # deg
measuredangle widehat vec hat bar
""")

# --- Unicode: one sign, one spelling. What is not here, not ASCII and no CJK word is not understood.

_SIGNS = re.findall(
    r"\S+",
    r"""
− - – - — - ‐ - － - ＋ + × \times ⋅ \cdot · \cdot ∙ \cdot ÷ \div ± \pm ∓ \mp ≤ \le ≥ \ge ⩽ \le ⩾ \ge ≦ \le ≧ \ge
≠ \ne ≈ \approx ≡ \equiv ∞ \infty ∪ \cup ∩ \cap ∈ \in ∉ \notin ∅ \emptyset ∖ \setminus √ \sqrt ∛ \cbrt ° \degree
º \degree ′ ' ’ ' ″ '' ⁄ / ∕ / ⌊ \lfloor ⌋ \rfloor ⌈ \lceil ⌉ \rceil ⟨ \langle ⟩ \rangle ∠ \angle ∂ \partial
µ \mu ϕ \phi … \ldots → \to ⇒ \to “ " ” " ⁻ ^- ， , ； ; ： : 。 . 、 , （ ( ） ) ％ % ＝ = ＜ < ＞ > ［ [ ］ ]
｛ \{ ｝ \} ｜ | ． . ℝ \mathbb{R} ℤ \mathbb{Z} ℕ \mathbb{N} ℚ \mathbb{Q} ℂ \mathbb{C} ℃ \degree\text{C}
℉ \degree\text{F} Å \text{\AA} € \text{euros} £ \text{pounds} ¥ \text{yen} ¢ \text{cents} ₹ \text{rupees}
""",
)
_GREEK_LETTERS = zip(
    "αβγδεζηθκλμνξρστφχψωΓΔΘΛΣΦΨΩπ",
    re.findall(
        r"\S+",
        "alpha beta gamma delta epsilon zeta eta theta kappa lambda mu nu xi rho sigma tau phi chi psi omega "
        "Gamma Delta Theta Lambda Sigma Phi Psi Omega pi",
    ),
    strict=True,
)
_FRACTIONS = zip(
    "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅐⅛⅜⅝⅞⅑⅒",
    ("12", "13", "23", "14", "34", "15", "25", "35", "45", "16", "56", "17", "18", "38", "58", "78", "19", "110"),
    strict=True,
)  # fmt: skip
UNICODE: dict[int, str] = {
    **{ord(sign): text + " " * (text[-1].isalpha() or "text" in text) for sign, text in zip(_SIGNS[::2], _SIGNS[1::2], strict=True)},
    **{ord(letter): f"\\{name} " for letter, name in _GREEK_LETTERS},
    **{ord(sign): rf"\frac{{{parts[0]}}}{{{parts[1:]}}}" for sign, parts in _FRACTIONS},
    **{ord(digit): str(value) for value, digit in enumerate("０１２３４５６７８９")},
    **dict.fromkeys(map(ord, "\u00a0\u2009\u202f\u3000"), " "),
    ord("或"): " or ",
    ord("且"): " and ",
}  # fmt: skip

# --- units and numbers

_UNITS = """
meter: m meters metre metres 米 | centimeter: cm cms centimeters centimetre centimetres 厘米
millimeter: mm mms millimeters millimetre millimetres | kilometer: km kms kilometers kilometre kilometres 千米 公里
decimeter: dm decimeters decimetre decimetres | nanometer: nm nanometers | micrometer: micrometers micron microns mum um
angstrom: angstroms | inch: in inches | foot: ft feet | yard: yd yds yards | mile: mi miles | lightyear: ly lightyears
second: s sec secs seconds | minute: min mins minutes | hour: h hr hrs hours | day: days | week: weeks | month: months
year: yr yrs years | millisecond: ms milliseconds
gram: g grams gramme grammes | kilogram: kg kgs kilograms kilos 千克 公斤 | milligram: mg milligrams
ton: tons tonne tonnes | ounce: oz ounces | pound: lb lbs pounds gbp
liter: L l liters litre litres | milliliter: ml mL milliliters millilitre millilitres | gallon: gal gallons
quart: qt quarts | pint: pt pints | cup: cups | tablespoon: tbsp tablespoons | teaspoon: tsp teaspoons
dollar: dollars usd bucks | cent: cents | euro: euros eur | rupee: rupees rs inr | yuan: rmb 元 | peso: pesos
yen: jpy | penny: pennies pence | nickel: nickels | dime: dimes
percent: pct percents | degree: degrees deg | radian: rad rads radians | mph: mph | kph: kmh kmph
newtonmeter: Nm | newton: N newtons | joule: J joules | watt: W watts | kilowatt: kW kw kilowatts | volt: V volts | kilovolt: kV kilovolts
millivolt: mV millivolts | ampere: A amp amps amperes | ohm: ohms Omega | kiloohm: kOmega | megaohm: MOmega | pascal: Pa pascals
hertz: Hz | kelvin: K kelvins | mole: mol mols moles | calorie: cal calories
kilojoule: kJ | kilocalorie: kcal | electronvolt: eV | tesla: T | farad: farads F | coulomb: coulombs C
microsecond: mus | microgram: mug | microfarad: muF | microcoulomb: muC | microampere: muA
acre: acres | hectare: ha hectares | knot: knots | bit: bits | byte: bytes | celsius: celsius | fahrenheit: fahrenheit
"""
UNITS = _table(_UNITS) | {name: name for name in _table(_UNITS).values()}
# Units in bare letters, after a number; a prefix may come before them.
BARE_UNITS = {
    word: UNITS[word]
    for word in words(
        "N J W V A K T F C Hz Pa eV m s g L h mol min ly cm mm km nm kg mg ms kW kJ mL ml kcal cal rad yr days Omega"
    )
} | _table("""
henry: H | candela: cd | lumen: lm | lux: lx | weber: Wb | siemens: S | becquerel: Bq | gray: Gy | katal: kat
parsec: pc | astronomicalunit: AU | ohm: Ω ohm | erg: erg | dyne: dyn | atmosphere: atm | bar: bar | angstrom: Å
""")
# Spellings that are more likely variables or functions when they stand in plain mathematics.
NOT_PLAIN_UNITS = frozenset(word for word in UNITS if len(word) == 1) | words(
    "min deg rs bit cup ha pt Pa ms mi ly cal um mum mus mug Nm"
)
CURRENCIES = words(
    "usd eur euro euros gbp pounds yen jpy rs rmb dollars inr rupees"
)  # before a number: `USD 12`
COMPOUND_UNITS = {
    "mph": (("hour", -1), ("mile", 1)),
    "kph": (("hour", -1), ("kilometer", 1)),
    "newtonmeter": (("meter", 1), ("newton", 1)),
}
# Units of one dimension in terms of one of them: their normal form.
SCALES: dict[str, tuple[str, Fraction]] = {
    unit: (base, Fraction(size))
    for base, sizes in {
        "meter": {"kilometer": "1000", "decimeter": "1/10", "centimeter": "1/100", "millimeter": "1/1000",
                  "micrometer": "1e-6", "nanometer": "1e-9"},
        "foot": {"inch": "1/12", "yard": "3", "mile": "5280"},
        "second": {"minute": "60", "hour": "3600", "day": "86400", "week": "604800", "millisecond": "1/1000"},
        "gram": {"kilogram": "1000", "milligram": "1/1000"},
        "pound": {"ounce": "1/16"},
        "liter": {"milliliter": "1/1000"},
        "dollar": {"cent": "1/100", "penny": "1/100", "nickel": "1/20", "dime": "1/10"},
        "joule": {"kilojoule": "1000"},
        "watt": {"kilowatt": "1000"},
        "volt": {"kilovolt": "1000", "millivolt": "1/1000"},
        "year": {"month": "1/12"},
    }.items()
    for unit, size in sizes.items()
}  # fmt: skip
POWER_WORDS = {"square": 2, "squared": 2, "sq": 2, "cubic": 3, "cubed": 3, "cu": 3}
_MAGNITUDES = {
    "hundred": 10**2, "thousand": 10**3, "lakh": 10**5, "million": 10**6, "crore": 10**7, "billion": 10**9,
    "trillion": 10**12, "dozen": 12,
}  # fmt: skip
MAGNITUDES = _MAGNITUDES | {name + "s": value for name, value in _MAGNITUDES.items()}
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_COUNTS = re.findall(
    r"\w+",
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen",
)
NUMBER_WORDS = {word: value for value, word in enumerate(_COUNTS)} | {
    word: 10 * value for value, word in enumerate(TENS, 2)
}

# --- words

NUMBER_SETS = {"real": "", "integer": "ZZ", "natural": "NN", "rational": "QQ"}
EMPTY_SETS = frozenset(
    {"no solution", "no solutions", "no real solution", "no real solutions", "empty", "empty set"}
)
CONJUNCTIONS = {"and": "and", "or": "or", "land": "and", "lor": "or"}
ARTICLES = words("a an the")
VOWELS = frozenset("aeiouy")
CHOICE_WORDS = words("option choice answer")
# Beside a value these take it back, doubt it or offer another one. rewards/statements.py has its own
# patterns, since in a sentence it takes context to tell what such a word belongs to.
DENIALS = words("""
not no never nope none neither nor cannot isn isnt wasn arent false wrong incorrect invalid untrue mistake mistaken
rejected excluded eliminated except excluding impossible
""")
HEDGES = words("""
maybe perhaps possibly probably hopefully presumably supposedly might could doubt doubtful unlikely whether suppose
assume guess guessed guesses guessing unsure uncertain unknown something anything approx approximately nearly almost
roughly circa ish estimate estimated
""")
ALTERNATIVES = words("or but instead rather either if unless otherwise alternatively else versus")
LABEL_TAKES_BACK = (
    DENIALS | HEDGES | ALTERNATIVES | {*NUMBER_WORDS} | words("twice double triple")
) - {"one"}
# After a number these change its value, bound it, doubt it or take it back: no unit, nothing counted.
NO_NOUNS = (
    words("""
    half halves thirds fourths fifths sixths sevenths eighths ninths tenths hundredths thousandths millionths
    double doubled doubles twice thrice triple tripled quadruple quadrupled halved couple tens gross
    giga mega kilo hecto deci centi milli micro nano pico tera
    hex hexadecimal binary octal base repeating recurring repeated periodic mille ppm ppb ppt basis bps percentage
    plus minus negative negated over divided factorial pi modulo mod reciprocal inverse complement opposite
    least most lower bound bounds onward onwards exclusive exceeding infinity too etc
    is are was where with such matrix grid
    """)
    | {*NUMBER_WORDS} | {*MAGNITUDES} | DENIALS | HEDGES | ALTERNATIVES
)  # fmt: skip
# In Chinese and Japanese words: half, not, about, times ten thousand, above, below.
NO_NOUN_SIGNS = frozenset("万萬亿億半不没非错負负约約余多几上下左右无無")
FILLER = words("of a an the each and total about long ago later away old")
# These say nothing without what follows: `5 more`, `5 about`.
UNFINISHED = words("more less fewer short the an about around near beyond")
