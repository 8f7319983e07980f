"""Units of measure by canonical name. Another spelling is the same unit; another unit is another answer."""

from __future__ import annotations

from typing import NamedTuple


class Unit(NamedTuple):
    """`known`: (canonical name, power) pairs, sorted. `nouns`: other words that were counted, singular."""

    known: tuple[tuple[str, int], ...] = ()
    nouns: frozenset[str] = frozenset()


_SPELLINGS = """
meter: m meters metre metres | centimeter: cm cms centimeters centimetre centimetres
millimeter: mm mms millimeters millimetre millimetres | kilometer: km kms kilometers kilometre kilometres
decimeter: dm decimeters decimetre decimetres | nanometer: nm nanometers | micrometer: micrometers micron
    microns
inch: in inches | foot: ft feet | yard: yd yds yards | mile: mi miles | lightyear: ly lightyears
second: s sec secs seconds | minute: min mins minutes | hour: h hr hrs hours | day: days | week: weeks |
    month: months
year: yr yrs years | millisecond: ms milliseconds
gram: g grams gramme grammes | kilogram: kg kgs kilograms kilo kilos | milligram: mg milligrams | ton: tons
    tonne tonnes
ounce: oz ounces | pound: lb lbs pounds gbp
liter: L l liters litre litres | milliliter: ml mL milliliters millilitre millilitres | gallon: gal gallons
quart: qt quarts | pint: pt pints | cup: cups | tablespoon: tbsp tablespoons | teaspoon: tsp teaspoons
dollar: dollars usd bucks | cent: cents | euro: euros eur | rupee: rupees rs inr | yuan: rmb | peso: pesos | yen:
    jpy
penny: pennies pence | nickel: nickels | dime: dimes
percent: pct percents | degree: degrees deg | radian: rad rads radians | mph: | kph: kmh kmph
newton: N newtons | joule: J joules | watt: W watts | kilowatt: kW kw kilowatts | volt: V volts | ampere: A
    amp amps amperes
ohm: ohms | pascal: Pa pascals | hertz: Hz hertz | kelvin: K kelvins | mole: mol mols moles | calorie: cal
    calories
kilojoule: kJ | kilocalorie: kcal | electronvolt: eV | tesla: T | farad: farads | coulomb: coulombs
acre: acres | hectare: ha hectares | knot: knots | bit: bits | byte: bytes | celsius: | fahrenheit:
"""


def _table() -> dict[str, str]:
    table = {}
    for entry in _SPELLINGS.replace("\n", "|").split("|"):
        name, _, spellings = entry.strip().partition(":")
        if name:
            table.update(dict.fromkeys([name, *spellings.split()], name))
    return table


UNITS: dict[str, str] = _table()
# Spellings that are more likely variables or functions when they stand in plain mathematics.
_LETTERS = frozenset(spelling for spelling in UNITS if len(spelling) == 1)
_NOT_PLAIN = _LETTERS | {"min", "deg", "rs", "bit", "cup", "ha", "pt", "Pa", "ms", "mi", "ly", "cal"}
# Before a number: `USD 12`, the pound sign.
CURRENCIES = frozenset({"usd", "eur", "euro", "euros", "gbp", "pounds", "yen", "jpy", "rs", "rmb", "dollars", "inr"})
# Single letters that may follow a bare number and a blank: `5 m`.
SPACED_LETTERS = frozenset("msghL")
_FILLER = frozenset(
    {
        "of", "a", "an", "the", "per", "each", "and", "total", "approximately", "about", "long",
        "ago", "later", "away", "old",
    }
)  # fmt: skip
_PLACEHOLDERS = frozenset({"unit", "units"})
_SHORTHANDS = {"mph": (("hour", -1), ("mile", 1)), "kph": (("hour", -1), ("kilometer", 1))}
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
# After a number these change its value, or take it back: the words are no unit, and nothing counted.
_VALUE_CHANGING = """
half halves thirds fourths fifths sixths sevenths eighths ninths tenths hundredths thousandths millionths
squared cubed plus minus negative over divided factorial pi mille double twice triple
not no never maybe perhaps possibly probably or but instead rather either neither nor if unless
is isn isnt was are arent wrong incorrect
"""
_NO_NOUNS = frozenset({*_VALUE_CHANGING.split(), *NUMBER_WORDS, *MAGNITUDES})
_POWERS = {"square": 2, "squared": 2, "sq": 2, "cubic": 3, "cubed": 3, "cu": 3}


def is_unit(word: str, *, plain: bool) -> bool:
    """Is the word a unit (in plain mathematics: surely one, not a product of variables)?"""
    if plain and word in _NOT_PLAIN:
        return word == "min"
    return _unit_name(word) is not None or word.lower() in _POWERS or word.lower() in _PLACEHOLDERS


def _is_prefixed(word: str) -> bool:
    """`mJ`, `MW`: short words in which M is mega and m is milli."""
    return len(word) <= 3 and word[:1] in "mM" and word not in ("mm", "min", "MIN", "Min") and not word.islower()


def _unit_name(word: str) -> str | None:
    """The canonical name; case counts only where it tells milli from mega."""
    return UNITS.get(word) or (None if _is_prefixed(word) else UNITS.get(word.lower()))


def counts_nothing(word: str) -> bool:
    """Is it a word that no unit and nothing counted contains: `thirds`, `maybe`, `six`, a lone letter?"""
    lower = word.lower()
    return lower in _NO_NOUNS or (len(word) == 1 and word not in UNITS and lower not in _FILLER)


def unit_of(words: list[tuple[str, int]]) -> Unit | None:
    """The unit that words with their powers spell; `square` and `cubic` apply to the next word, `squared` to
    the last.

    None when nothing is left of them (`units`, filler words).
    """
    powers: dict[str, int] = {}
    nouns: set[str] = set()
    pending, last = 1, ""
    for index, (word, power) in enumerate(words):
        lower = word.lower()
        if lower == "in" and index + 1 < len(words):
            continue  # `5 ways in total`
        if lower in _POWERS:
            if lower.endswith("ed"):
                if last:
                    powers[last] = powers[last] * _POWERS[lower]
                else:
                    nouns.add(lower)
            else:
                pending = _POWERS[lower]
            continue
        name = _unit_name(word)
        if name in _SHORTHANDS:
            for part, part_power in _SHORTHANDS[name]:
                powers[part] = powers.get(part, 0) + part_power
        elif name is not None:
            powers[name] = powers.get(name, 0) + power * pending
            last = name
        elif lower not in _FILLER and lower not in _PLACEHOLDERS:
            nouns.add(word if _is_prefixed(word) else _singular(lower))
        pending = 1
    if "celsius" in powers or "fahrenheit" in powers:
        powers.pop("degree", None)  # degrees Celsius
    known = tuple(sorted((name, power) for name, power in powers.items() if power))
    return Unit(known, frozenset(nouns)) if known or nouns else None


def compatible(left: Unit | None, right: Unit | None) -> bool:
    """Equal units, or one of them missing; counted nouns agree when one list of words contains the other."""
    if left is None or right is None:
        return True
    if left.known or right.known:
        return left.known == right.known
    return left.nouns <= right.nouns or right.nouns <= left.nouns


def _singular(word: str) -> str:
    for ending, replacement in (("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("xes", "x"), ("sses", "ss")):
        if word.endswith(ending):
            return word[: -len(ending)] + replacement
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word
