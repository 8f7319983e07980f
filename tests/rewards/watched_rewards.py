"""Rewards that a worker imports for tests/rewards/test_symbolic.py: they grade with SymPy and say
what Python was asked to run or open meanwhile.
"""

from __future__ import annotations

import builtins
import importlib
import sys

from rewards import Reward, Sample, register, symbolic

_seen: list[str] = []
_watching = False
_HARMLESS = ("import", "marshal.loads", "sys._getframe", "object.__getattr__", "object.__setattr__")


def _hook(event: str, args: tuple) -> None:
    """Python itself reports here whatever is compiled, run, opened or started. It cannot be undone."""
    if not _watching:
        return
    if event == "compile":
        _seen.append(f"compile {str(args[0])[:60]!r}")
    elif event == "exec":
        code = args[0]
        if code.co_name != "<module>" or not code.co_filename.endswith(".py"):  # no import
            _seen.append(f"exec {code.co_filename}:{code.co_name}")
    elif event == "open":
        mode, path = args[1] or "r", str(args[0])
        if set(str(mode)) & set("wax+") or not path.endswith((".py", ".pyc")):
            _seen.append(f"open {path} {mode}")
    elif event.split(".")[0] in (
        "os",
        "subprocess",
        "socket",
        "shutil",
        "ctypes",
        "pty",
        "webbrowser",
    ):
        if event not in ("os.listdir", "os.scandir"):  # imports look for files
            _seen.append(event)
    elif event == "builtins.input":
        _seen.append(event)


sys.addaudithook(_hook)
if symbolic.missing() is None:
    symbolic.load()


def _watched(function):
    """The result of a call, and what was seen; `eval`, `exec` and `compile` raise as well."""
    global _watching
    kept = {name: getattr(builtins, name) for name in ("eval", "compile")}

    def refuse(*args, **_):
        _seen.append(f"called with {str(args[0])[:60]!r}")
        raise RuntimeError("text was evaluated")

    _seen.clear()
    for name in kept:
        setattr(builtins, name, refuse)
    _watching = True
    try:
        result = function()
    except MemoryError:
        raise
    except Exception as error:
        result = f"{type(error).__name__}"
    finally:
        _watching = False
        for name, one in kept.items():
            setattr(builtins, name, one)
    return result, list(_seen)


@register("watched")
def watched(sample: Sample, how: str = "same") -> Reward:
    """How: `same` is the tier, `raw` its parser without the check before it, `theirs` the package
    as it comes, `module` nothing of the tier but a check of the guard.
    """
    if how == "same":
        result, seen = _watched(lambda: symbolic.same(sample.response, sample.gold))
    elif how == "raw":

        def raw():
            with symbolic.no_text_evaluated():
                return str(symbolic._converter().parse(sample.response))

        result, seen = _watched(raw)
    else:
        theirs = importlib.import_module("latex2sympy2_extended").latex2sympy
        result, seen = _watched(lambda: str(theirs(sample.response)))
    return Reward(0.0, "watched", {"result": str(result)[:200], "seen": seen})
