# ruff: noqa: E501  (a story reads best when each of its fields is one line)
"""Our own word problems. Each has its reasoning twice, as an expression and as steps; a test compares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Values = Mapping[str, int]

NAMES = (
    "Amara", "Bruno", "Chiara", "Dmitri", "Elif", "Farid", "Greta", "Hiro", "Ines", "Jonas", "Kavya", "Liam", "Mei",
    "Noor", "Oskar", "Priya", "Quentin", "Rosa", "Samir", "Tara", "Uma", "Viktor", "Wanda", "Xiomara", "Yusuf", "Zoe",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Extra:
    """One more clause of the reasoning, which changes the quantity that is asked for."""

    text: str
    change: Callable[[int, Values], int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Story:
    """A template. `ranges` are (lowest, highest, step); `noop` may use any number of the story."""

    title: str
    text: str
    question: str
    ranges: Mapping[str, tuple[int, int, int]]
    answer: Callable[[Values], int]
    steps: tuple[tuple[str, Callable[[Values], int]], ...]
    extras: tuple[Extra, Extra]
    noop: str
    condition: Callable[[Values], bool] = lambda v: True


STORIES: tuple[Story, ...] = (
    Story(
        title="orchard",
        text="{name} picks apples from {rows} rows of trees. Every row has {trees} trees, and every tree gives {apples} apples. "
        "{bad} of the apples are bruised and go to the compost.",
        question="How many good apples does {name} have in the end?",
        ranges={"rows": (2, 9, 1), "trees": (3, 12, 1), "apples": (5, 30, 1), "bad": (4, 60, 1), "x": (5, 40, 1), "y": (2, 9, 1), "z": (3, 15, 1)},
        answer=lambda v: v["rows"] * v["trees"] * v["apples"] - v["bad"],
        steps=(
            ("all_trees", lambda v: v["rows"] * v["trees"]),
            ("all_apples", lambda v: v["all_trees"] * v["apples"]),
            ("good", lambda v: v["all_apples"] - v["bad"]),
        ),
        extras=(
            Extra("A neighbour brings {x} good apples more.", lambda r, v: r + v["x"]),
            Extra("Then {name} gives {y} good apples to each of {z} children.", lambda r, v: r - v["y"] * v["z"]),
        ),
        noop="{x} of the good apples are a little smaller than the others.",
    ),
    Story(
        title="printing",
        text="A press prints {rate} leaflets a minute. {name} lets it run for {minutes} minutes in the morning and for twice as long "
        "in the afternoon.",
        question="How many leaflets are there now?",
        ranges={"rate": (12, 60, 1), "minutes": (5, 45, 1), "x": (10, 90, 1), "y": (2, 6, 1), "z": (11, 50, 1)},
        answer=lambda v: 3 * v["rate"] * v["minutes"],
        steps=(
            ("afternoon", lambda v: 2 * v["minutes"]),
            ("time", lambda v: v["minutes"] + v["afternoon"]),
            ("leaflets", lambda v: v["rate"] * v["time"]),
        ),
        extras=(
            Extra("{x} of the leaflets come out blurred and are thrown away.", lambda r, v: r - v["x"]),
            Extra("{y} shops deliver {z} leaflets each to the pile.", lambda r, v: r + v["y"] * v["z"]),
        ),
        noop="The press next to it, which stands still, could print {z} leaflets a minute.",
    ),
    Story(
        title="tickets",
        text="A theatre sells {adults} tickets for adults at ${price} each, and {children} tickets for children at half that price.",
        question="How many dollars does the theatre have in the end?",
        ranges={"adults": (20, 120, 1), "price": (8, 30, 2), "children": (10, 90, 1), "x": (50, 200, 5), "y": (2, 8, 1), "z": (15, 40, 1)},
        answer=lambda v: v["adults"] * v["price"] + v["children"] * v["price"] // 2,
        steps=(
            ("half", lambda v: v["price"] // 2),
            ("from_adults", lambda v: v["adults"] * v["price"]),
            ("from_children", lambda v: v["children"] * v["half"]),
            ("total", lambda v: v["from_adults"] + v["from_children"]),
        ),
        extras=(
            Extra("It pays ${x} for cleaning.", lambda r, v: r - v["x"]),
            Extra("{y} sponsors add ${z} each.", lambda r, v: r + v["y"] * v["z"]),
        ),
        noop="Last year's ticket for adults was ${y} cheaper.",
        condition=lambda v: v["price"] % 2 == 0,
    ),
    Story(
        title="ribbon",
        text="{name} has a ribbon of {metres} metres and cuts it into pieces of {piece} centimetres.",
        question="How many pieces does {name} have in the end?",
        ranges={"metres": (3, 40, 1), "piece": (5, 50, 5), "x": (2, 6, 1), "y": (3, 12, 1), "z": (2, 3, 1)},
        answer=lambda v: 100 * v["metres"] // v["piece"],
        steps=(
            ("centimetres", lambda v: 100 * v["metres"]),
            ("pieces", lambda v: v["centimetres"] // v["piece"]),
        ),
        extras=(
            Extra("A friend gives {name} {y} pieces of the same kind.", lambda r, v: r + v["y"]),
            Extra("{name} uses {x} pieces for each of {z} gifts.", lambda r, v: r - v["x"] * v["z"]),
        ),
        noop="The ribbon is {z} centimetres wide.",
        condition=lambda v: 100 * v["metres"] % v["piece"] == 0,
    ),
    Story(
        title="savings",
        text="{name} has saved ${start} and puts aside ${weekly} every week. After {weeks} weeks {name} buys a bicycle for ${bike}.",
        question="How many dollars are left?",
        ranges={"start": (20, 150, 1), "weekly": (5, 25, 1), "weeks": (6, 30, 1), "bike": (80, 300, 5), "x": (10, 60, 1), "y": (2, 5, 1), "z": (3, 9, 1)},
        answer=lambda v: v["start"] + v["weekly"] * v["weeks"] - v["bike"],
        steps=(
            ("put_aside", lambda v: v["weekly"] * v["weeks"]),
            ("saved", lambda v: v["start"] + v["put_aside"]),
            ("left", lambda v: v["saved"] - v["bike"]),
        ),
        extras=(
            Extra("An aunt sends ${x} afterwards.", lambda r, v: r + v["x"]),
            Extra("Then {name} buys {y} tyre patches at ${z} each.", lambda r, v: r - v["y"] * v["z"]),
        ),
        noop="The bicycle had {x} previous test rides.",
    ),
    Story(
        title="ages",
        text="{name} is {age} years old. {name}'s mother is {times} times as old, and the grandmother is {older} years older than the mother.",
        question="What is the sum of all the ages mentioned?",
        ranges={"age": (5, 14, 1), "times": (3, 4, 1), "older": (20, 35, 1), "x": (2, 12, 1), "y": (2, 5, 1)},
        answer=lambda v: v["age"] + 2 * v["times"] * v["age"] + v["older"],
        steps=(
            ("mother", lambda v: v["times"] * v["age"]),
            ("grandmother", lambda v: v["mother"] + v["older"]),
            ("parents", lambda v: v["mother"] + v["grandmother"]),
            ("total", lambda v: v["age"] + v["parents"]),
        ),
        extras=(
            Extra("A cousin is {x} years old.", lambda r, v: r + v["x"]),
            Extra("The cousin's twin is just as old.", lambda r, v: r + v["x"]),
        ),
        noop="They live in a house with {y} floors.",
    ),
    Story(
        title="reading",
        text="A book has {pages} pages. {name} reads {daily} pages on each of {days} days, and then {more} pages more on the day after.",
        question="How many pages are still to be read?",
        ranges={"pages": (250, 600, 1), "daily": (10, 35, 1), "days": (3, 9, 1), "more": (12, 60, 1), "x": (5, 25, 1), "y": (2, 4, 1), "z": (4, 12, 1)},
        answer=lambda v: v["pages"] - v["daily"] * v["days"] - v["more"],
        steps=(
            ("on_days", lambda v: v["daily"] * v["days"]),
            ("read", lambda v: v["on_days"] + v["more"]),
            ("left", lambda v: v["pages"] - v["read"]),
        ),
        extras=(
            Extra("A sequel of {x} pages is bound to the end of the book and is to be read too.", lambda r, v: r + v["x"]),
            Extra("{name} also reads {y} of the remaining chapters, of {z} pages each.", lambda r, v: r - v["y"] * v["z"]),
        ),
        noop="{z} of the pages already read have pictures on them.",
    ),
    Story(
        title="bakery",
        text="A bakery bakes {trays} trays of {rolls} rolls. It sells {share} percent of the rolls before noon.",
        question="How many rolls are there in the evening?",
        ranges={"trays": (4, 20, 1), "rolls": (10, 40, 5), "share": (10, 80, 10), "x": (4, 30, 1), "y": (2, 4, 1), "z": (2, 8, 1)},
        answer=lambda v: v["trays"] * v["rolls"] * (100 - v["share"]) // 100,
        steps=(
            ("baked", lambda v: v["trays"] * v["rolls"]),
            ("sold", lambda v: v["baked"] * v["share"] // 100),
            ("left", lambda v: v["baked"] - v["sold"]),
        ),
        extras=(
            Extra("In the afternoon {x} fresh rolls are added.", lambda r, v: r + v["x"]),
            Extra("After that {y} customers buy {z} rolls each.", lambda r, v: r - v["y"] * v["z"]),
        ),
        noop="{z} of the trays are older than the others.",
        condition=lambda v: v["trays"] * v["rolls"] * v["share"] % 100 == 0,
    ),
    Story(
        title="trip",
        text="{name} drives for {first} hours at {fast} kilometres an hour, rests, and drives {second} hours more at {slow} kilometres an hour.",
        question="How many kilometres is that in all?",
        ranges={"first": (2, 6, 1), "fast": (70, 120, 5), "second": (1, 5, 1), "slow": (30, 65, 5), "x": (3, 25, 1), "y": (2, 4, 1), "z": (5, 20, 1)},
        answer=lambda v: v["first"] * v["fast"] + v["second"] * v["slow"],
        steps=(
            ("fast_part", lambda v: v["first"] * v["fast"]),
            ("slow_part", lambda v: v["second"] * v["slow"]),
            ("total", lambda v: v["fast_part"] + v["slow_part"]),
        ),
        extras=(
            Extra("A detour adds {x} kilometres.", lambda r, v: r + v["x"]),
            Extra("On the last day {name} also makes {y} rounds of {z} kilometres.", lambda r, v: r + v["y"] * v["z"]),
        ),
        noop="The rest takes {z} minutes.",
    ),
    Story(
        title="library",
        text="A library puts {books} books on shelves. {shelves} shelves take {each} books each, and the remaining books go into boxes.",
        question="How many books are in boxes?",
        ranges={"books": (150, 600, 1), "shelves": (3, 12, 1), "each": (12, 40, 1), "x": (5, 40, 1), "y": (2, 4, 1), "z": (3, 10, 1)},
        answer=lambda v: v["books"] - v["shelves"] * v["each"],
        steps=(
            ("shelved", lambda v: v["shelves"] * v["each"]),
            ("boxed", lambda v: v["books"] - v["shelved"]),
        ),
        extras=(
            Extra("{x} donated books go into boxes as well.", lambda r, v: r + v["x"]),
            Extra("Then {y} readers take {z} books each out of the boxes.", lambda r, v: r - v["y"] * v["z"]),
        ),
        noop="{x} of the books on the shelves have red covers.",
    ),
    Story(
        title="garden",
        text="A garden is {length} metres long and {width} metres wide. {name} lays a lawn on all of it but a pond of {pond} square metres.",
        question="How many square metres of lawn are there?",
        ranges={"length": (8, 40, 1), "width": (6, 30, 1), "pond": (5, 40, 1), "x": (4, 30, 1), "y": (2, 4, 1), "z": (2, 6, 1)},
        answer=lambda v: v["length"] * v["width"] - v["pond"],
        steps=(
            ("area", lambda v: v["length"] * v["width"]),
            ("lawn", lambda v: v["area"] - v["pond"]),
        ),
        extras=(
            Extra("A strip of {x} square metres beyond the fence becomes lawn too.", lambda r, v: r + v["x"]),
            Extra("Then {y} flower beds of {z} square metres each are cut out of the lawn.", lambda r, v: r - v["y"] * v["z"]),
        ),
        noop="The pond is {y} metres deep.",
    ),
    Story(
        title="eggs",
        text="{hens} hens lay {daily} eggs each in a week. {name} fills them into cartons of {carton}.",
        question="How many full cartons are there in the end?",
        ranges={"hens": (6, 48, 1), "daily": (4, 7, 1), "carton": (6, 12, 2), "x": (2, 12, 1), "y": (1, 2, 1), "z": (1, 3, 1)},
        answer=lambda v: v["hens"] * v["daily"] // v["carton"],
        steps=(
            ("eggs", lambda v: v["hens"] * v["daily"]),
            ("cartons", lambda v: v["eggs"] // v["carton"]),
        ),
        extras=(
            Extra("A neighbour brings {x} full cartons.", lambda r, v: r + v["x"]),
            Extra("{name} sells {y} full cartons on each of {z} days.", lambda r, v: r - v["y"] * v["z"]),
        ),
        noop="{z} of the hens are brown.",
        condition=lambda v: v["hens"] * v["daily"] % v["carton"] == 0,
    ),
    Story(
        title="wages",
        text="{name} earns ${wage} an hour, and ${bonus} more for each hour over {normal} in a week. This week {name} works {hours} hours.",
        question="How many dollars does {name} have from this week?",
        ranges={"wage": (11, 30, 1), "bonus": (3, 10, 1), "normal": (30, 40, 1), "hours": (36, 55, 1), "x": (20, 90, 1), "y": (2, 5, 1), "z": (6, 15, 1)},
        answer=lambda v: v["wage"] * v["hours"] + v["bonus"] * (v["hours"] - v["normal"]),
        steps=(
            ("over", lambda v: v["hours"] - v["normal"]),
            ("extra_pay", lambda v: v["bonus"] * v["over"]),
            ("base_pay", lambda v: v["wage"] * v["hours"]),
            ("pay", lambda v: v["base_pay"] + v["extra_pay"]),
        ),
        extras=(
            Extra("${x} are taken off for taxes.", lambda r, v: r - v["x"]),
            Extra("{y} customers leave a tip of ${z} each.", lambda r, v: r + v["y"] * v["z"]),
        ),
        noop="A colleague worked {z} hours on Saturday.",
        condition=lambda v: v["hours"] > v["normal"],
    ),
    Story(
        title="tank",
        text="A tank holds {start} litres. A pump adds {inflow} litres a minute, while {outflow} litres a minute leak out. The pump runs for {minutes} minutes.",
        question="How many litres are in the tank then?",
        ranges={"start": (50, 400, 1), "inflow": (12, 40, 1), "outflow": (2, 11, 1), "minutes": (5, 40, 1), "x": (10, 60, 1), "y": (2, 4, 1), "z": (5, 12, 1)},
        answer=lambda v: v["start"] + (v["inflow"] - v["outflow"]) * v["minutes"],
        steps=(
            ("net", lambda v: v["inflow"] - v["outflow"]),
            ("gain", lambda v: v["net"] * v["minutes"]),
            ("litres", lambda v: v["start"] + v["gain"]),
        ),
        extras=(
            Extra("Rain adds {x} litres.", lambda r, v: r + v["x"]),
            Extra("After that {name} takes out {y} buckets of {z} litres.", lambda r, v: r - v["y"] * v["z"]),
        ),
        noop="The tank is {z} years old.",
    ),
    Story(
        title="marbles",
        text="{name} has {own} marbles. A sister has {times} times as many, and a brother has {fewer} fewer than the sister.",
        question="How many marbles do the three have together?",
        ranges={"own": (6, 30, 1), "times": (2, 5, 1), "fewer": (2, 20, 1), "x": (4, 20, 1), "y": (2, 3, 1), "z": (2, 5, 1)},
        answer=lambda v: v["own"] * (1 + 2 * v["times"]) - v["fewer"],
        steps=(
            ("sister", lambda v: v["times"] * v["own"]),
            ("brother", lambda v: v["sister"] - v["fewer"]),
            ("siblings", lambda v: v["sister"] + v["brother"]),
            ("total", lambda v: v["siblings"] + v["own"]),
        ),
        extras=(
            Extra("The three find {x} more marbles in the garden.", lambda r, v: r + v["x"]),
            Extra("They give {y} marbles to each of {z} friends.", lambda r, v: r - v["y"] * v["z"]),
        ),
        noop="{z} of the sister's marbles are made of glass.",
        condition=lambda v: v["times"] * v["own"] > v["fewer"],
    ),
    Story(
        title="bus",
        text="A bus leaves with {start} passengers. At each of {stops} stops {on} people get on and {off} get off.",
        question="How many passengers are on the bus after all that?",
        ranges={"start": (15, 50, 1), "stops": (3, 8, 1), "on": (2, 9, 1), "off": (1, 6, 1), "x": (2, 9, 1), "y": (2, 3, 1), "z": (1, 3, 1)},
        answer=lambda v: v["start"] + v["stops"] * (v["on"] - v["off"]),
        steps=(
            ("boarded", lambda v: v["stops"] * v["on"]),
            ("left", lambda v: v["stops"] * v["off"]),
            ("passengers", lambda v: v["start"] + v["boarded"] - v["left"]),
        ),
        extras=(
            Extra("At the market {x} people more get on.", lambda r, v: r + v["x"]),
            Extra("Then {y} families of {z} get off.", lambda r, v: r - v["y"] * v["z"]),
        ),
        noop="The bus has {x} empty seats at the back when it leaves.",
    ),
)  # fmt: skip
