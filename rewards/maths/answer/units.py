"""Units of measure by canonical name. Another spelling is the same unit; another unit is another
answer.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from rewards.maths.limits import NotMathError
from rewards.maths.text.vocabulary import ALTERNATIVES, DENIALS, HEDGES


class Unit(NamedTuple):
    """`known`: (canonical name, power) pairs, sorted; `square units` are ("unit", 2). `nouns`:
    other words that were counted, singular.
    """

    known: tuple[tuple[str, int], ...] = ()
    nouns: frozenset[str] = frozenset()


_SPELLINGS = """
meter: m meters metre metres 米 | centimeter: cm cms centimeters centimetre centimetres 厘米
millimeter: mm mms millimeters millimetre millimetres | kilometer: km kms kilometers kilometre kilometres 千米 公里
decimeter: dm decimeters decimetre decimetres | nanometer: nm nanometers | micrometer: micrometers micron
    microns mum um | angstrom: angstroms
inch: in inches | foot: ft feet | yard: yd yds yards | mile: mi miles | lightyear: ly lightyears
second: s sec secs seconds | minute: min mins minutes | hour: h hr hrs hours | day: days | week: weeks |
    month: months
year: yr yrs years | millisecond: ms milliseconds
gram: g grams gramme grammes | kilogram: kg kgs kilograms kilos 千克 公斤 | milligram: mg milligrams | ton: tons
    tonne tonnes
ounce: oz ounces | pound: lb lbs pounds gbp
liter: L l liters litre litres | milliliter: ml mL milliliters millilitre millilitres | gallon: gal gallons
quart: qt quarts | pint: pt pints | cup: cups | tablespoon: tbsp tablespoons | teaspoon: tsp teaspoons
dollar: dollars usd bucks | cent: cents | euro: euros eur | rupee: rupees rs inr | yuan: rmb 元 | peso: pesos | yen:
    jpy
penny: pennies pence | nickel: nickels | dime: dimes
percent: pct percents | degree: degrees deg | radian: rad rads radians | mph: | kph: kmh kmph | newtonmeter: Nm
newton: N newtons | joule: J joules | watt: W watts | kilowatt: kW kw kilowatts | volt: V volts | ampere: A
    amp amps amperes
ohm: ohms Omega | kiloohm: kOmega | megaohm: MOmega | pascal: Pa pascals | hertz: Hz hertz | kelvin: K kelvins
mole: mol mols moles | calorie: cal calories
kilojoule: kJ | kilocalorie: kcal | electronvolt: eV | tesla: T | farad: farads F | coulomb: coulombs C
microsecond: mus | microgram: mug | microfarad: muF | microcoulomb: muC | microampere: muA
acre: acres | hectare: ha hectares | knot: knots | bit: bits | byte: bytes | celsius: | fahrenheit:
"""


def _table() -> dict[str, str]:
    table = {}
    for entry in _SPELLINGS.replace("\n    ", " ").replace("\n", "|").split("|"):
        name, _, spellings = entry.strip().partition(":")
        if name:
            table.update(dict.fromkeys([name, *spellings.split()], name))
    return table


UNITS: dict[str, str] = _table()
# Spellings that are more likely variables or functions when they stand in plain mathematics.
_LETTERS = frozenset(spelling for spelling in UNITS if len(spelling) == 1)
_NOT_PLAIN = _LETTERS | {
    "min", "deg", "rs", "bit", "cup", "ha", "pt", "Pa", "ms", "mi", "ly", "cal", "um", "mum", "mus", "mug", "Nm",
}  # fmt: skip
# Before a number: `USD 12`, the pound sign.
CURRENCIES = frozenset(
    {
        "usd",
        "eur",
        "euro",
        "euros",
        "gbp",
        "pounds",
        "yen",
        "jpy",
        "rs",
        "rmb",
        "dollars",
        "inr",
        "rupees",
    }
)
# Single letters that may follow a bare number and a blank: `5 m`.
SPACED_LETTERS = frozenset("msghL")
_FILLER = frozenset(
    {
        "of", "a", "an", "the", "each", "and", "total", "about", "long", "ago", "later", "away", "old",
    }
)  # fmt: skip
_ANY = "unit"
_PLACEHOLDERS = frozenset({_ANY, "units"})
_SHORTHANDS = {
    "mph": (("hour", -1), ("mile", 1)),
    "kph": (("hour", -1), ("kilometer", 1)),
    "newtonmeter": (("meter", 1), ("newton", 1)),
}
_MAGNITUDES = {
    "hundred": 10**2,
    "thousand": 10**3,
    "lakh": 10**5,
    "million": 10**6,
    "crore": 10**7,
    "billion": 10**9,
    "trillion": 10**12,
    "dozen": 12,
}
MAGNITUDES = _MAGNITUDES | {word + "s": value for word, value in _MAGNITUDES.items()}
_COUNTING = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
eighteen nineteen twenty
"""
NUMBER_WORDS = {word: value for value, word in enumerate(_COUNTING.split())}
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
NUMBER_WORDS |= {word: 10 * value for value, word in enumerate(TENS, 2)}
# After a number these change its value, bound it, doubt it or take it back: they are no unit, and
# nothing counted.
_VALUE_CHANGING = """
parts: half halves thirds fourths fifths sixths sevenths eighths ninths tenths hundredths thousandths millionths
multiples: double doubled doubles twice thrice triple tripled quadruple quadrupled halved couple tens gross
prefixes: giga mega kilo hecto deci centi milli micro nano pico tera
digits: hex hexadecimal binary octal base repeating recurring repeated periodic
rates: mille ppm ppb ppt basis bps percentage
operations: plus minus negative negated over divided factorial pi modulo mod reciprocal inverse complement opposite
bounds: least most lower bound bounds onward onwards exclusive exceeding infinity too etc
statements: is are was where with such
shapes: matrix grid
"""
_NO_NOUNS = frozenset(
    {
        *(word for word in _VALUE_CHANGING.split() if not word.endswith(":")),
        *NUMBER_WORDS, *MAGNITUDES, *DENIALS, *HEDGES, *ALTERNATIVES,
    }
)  # fmt: skip
# In Chinese and Japanese words: half, not, about, times ten thousand, above, below.
_NO_NOUN_SIGNS = frozenset("万萬亿億半不没非错負负约約余多几上下左右无無")
# These say nothing without what follows: `5 more`, `5 about`.
_UNFINISHED = frozenset(
    {"more", "less", "fewer", "short", "the", "an", "about", "around", "near", "beyond"}
)
_POWERS = {"square": 2, "squared": 2, "sq": 2, "cubic": 3, "cubed": 3, "cu": 3}
_TEMPERATURES = {"C": "celsius", "c": "celsius", "F": "fahrenheit", "f": "fahrenheit"}


def is_unit(word: str, *, plain: bool) -> bool:
    """Is the word a unit (in plain mathematics: surely one, not a product of variables)?"""
    if plain and word in _NOT_PLAIN:
        return word == "min"
    return _unit_name(word) is not None or word.lower() in _POWERS or word.lower() in _PLACEHOLDERS


def _is_prefixed(word: str) -> bool:
    """`mJ`, `MW`: short words in which M is mega and m is milli."""
    return (
        len(word) <= 3
        and word[:1] in "mM"
        and word not in ("mm", "min", "MIN", "Min")
        and not word.islower()
    )


def _unit_name(word: str) -> str | None:
    """The canonical name; case counts only where it tells milli from mega."""
    return UNITS.get(word) or (None if _is_prefixed(word) else UNITS.get(word.lower()))


def _counts_nothing(word: str) -> bool:
    """Is it a word that no unit and nothing counted contains: `thirds`, `maybe`, `fortythree`, a
    lone letter?
    """
    lower = word.lower()
    if not word.isascii():
        return not _NO_NOUN_SIGNS.isdisjoint(word)
    return lower in _NO_NOUNS or lower.startswith(TENS) or (len(word) == 1 and lower not in _FILLER)


def unit_of(words: list[tuple[str, int]]) -> Unit | None:
    """The unit that words with their powers spell; None when nothing is left of them (`units`,
    filler words).

    Raises:
        NotMathError: there are words that are no unit and nothing counted, but change the value.
    """
    powers: Counter[str] = Counter()
    nouns: set[str] = set()
    words = _with_powers(words)
    for left, (word, power) in zip(range(len(words) - 1, -1, -1), words, strict=True):
        lower, name = word.lower(), _unit_name(word)
        if word in _TEMPERATURES and "degree" in powers:
            name = _TEMPERATURES[word]
        if lower == "in" and left:
            continue  # `5 ways in total`
        if name is not None or lower in _PLACEHOLDERS:
            for part, part_power in _SHORTHANDS.get(name or "", ((name or _ANY, 1),)):
                powers[part] += part_power * power
        elif _counts_nothing(word) or (lower in _UNFINISHED and not left):
            raise NotMathError("words that change the value")
        elif lower not in _FILLER:
            nouns.add(word if _is_prefixed(word) else _singular(lower))
    if "celsius" in powers or "fahrenheit" in powers:
        del powers["degree"]  # degrees Celsius
    if powers[_ANY] < 2:
        del powers[_ANY]
    known = tuple(sorted((name, power) for name, power in powers.items() if power))
    return Unit(known, frozenset(nouns)) if known or nouns else None


def _with_powers(words: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """`square` and `cubic` as the power of the next word, `squared` of the unit before it, or else
    after it.

    Raises:
        NotMathError: there is no such word: `5 squared`, `5 square`.
    """
    found: list[tuple[str, int]] = []
    pending = 1
    for (word, power), (after, _) in zip(words, [*words[1:], ("", 0)], strict=True):
        exponent = _POWERS.get(word.lower(), 0)
        follows = word.lower().endswith("ed")
        if not exponent:
            found.append((word, power * pending))
            pending = 1
        elif follows and found and is_unit(found[-1][0], plain=False):
            found[-1] = (found[-1][0], found[-1][1] * exponent)
        elif not after or (follows and not is_unit(after, plain=False)):
            raise NotMathError("a power of nothing")
        else:
            pending = exponent
    return found


def compatible(left: Unit | None, right: Unit | None) -> bool:
    """Equal units, or one of them missing; counted nouns agree when one list of words contains the
    other.
    """
    if left is None or right is None:
        return True
    if left.known or right.known:
        return left.known == right.known or _may_be(left, right) or _may_be(right, left)
    return left.nouns <= right.nouns or right.nouns <= left.nouns


def _may_be(some: Unit, unit: Unit) -> bool:
    """`square units` may be any unit to the power of two."""
    return some.known[:1] == tuple((_ANY, power) for _, power in unit.known)


def _singular(word: str) -> str:
    for ending, replacement in (
        ("ies", "y"),
        ("ches", "ch"),
        ("shes", "sh"),
        ("xes", "x"),
        ("sses", "ss"),
    ):
        if word.endswith(ending):
            return word[: -len(ending)] + replacement
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word
