import pytest

from grpo.common.names import Registry, hint, import_modules


def test_the_hint_is_the_nearest_name_or_all_names():
    assert hint("acuracy", ["accuracy", "format"]) == "did you mean 'accuracy'?"
    assert hint("zzz", ["b", "a"]) == "known: a, b"
    assert hint("zzz", []) == "known: none"


def test_a_registry_gives_parts_by_name_and_hints_at_the_near_one():
    registry = Registry[int]("number")
    registry.register("seven")(7)
    assert registry["seven"] == 7 and "seven" in registry and list(registry) == ["seven"]
    with pytest.raises(ValueError, match="no number is called 'sevn'; did you mean 'seven'"):
        registry["sevn"]


def test_a_name_is_taken_once_and_the_same_part_may_come_again():
    registry = Registry[object]("part")
    part = object()
    registry.register("x")(part)
    registry.register("x")(part)
    with pytest.raises(ValueError, match="already registered"):
        registry.register("x")(object())


def test_a_module_that_is_not_there_is_an_import_error():
    with pytest.raises(ImportError):
        import_modules(["no.such.module"])
