"""Run by this project's Python in a process of its own: VLMEvalKit's scorers out of a checkout, without its
installation.

    LMUData=DATA PRED_FORMAT=tsv python vlmevalkit_checkout.py CHECKOUT EXPORTED MODEL

Its packages' `__init__` files import every model and data set (and turn off TLS verification); here they are
empty, and what is not installed is a module whose names mean nothing. The rest is the toolkit's own code.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

# What the scorers import and do not need
UNUSED = ("sty", "validators", "tabulate", "dotenv")


class Nothing:
    """Any name of a module that is not installed."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __bool__(self) -> bool:
        return False  # what a check of it finds: `validators.url(path)`


def module(name: str) -> ModuleType:
    made = ModuleType(name)
    made.__path__, made.__getattr__ = [], lambda name: Nothing
    sys.modules[name] = made
    return made


def stand_in(checkout: Path) -> None:
    """Make `import vlmeval...` take the checkout's modules under empty packages."""
    for name in UNUSED:
        if importlib.util.find_spec(name) is None:
            module(name)
    for name in ("vlmeval", "vlmeval.dataset", "vlmeval.dataset.utils", "vlmeval.api"):
        made = module(name)
        made.__path__ = [str(checkout.joinpath(*name.split(".")))]
        if name != "vlmeval.api":
            del made.__getattr__
    from vlmeval.dataset.utils import judge_util

    for name in ("build_judge", "DEBUG_MESSAGE"):
        setattr(sys.modules["vlmeval.dataset.utils"], name, getattr(judge_util, name))


if __name__ == "__main__":
    stand_in(Path(sys.argv[1]))
    sys.path.insert(0, str(Path(__file__).parent))
    from vlmevalkit_scores import main

    main(Path(sys.argv[2]), sys.argv[3])
