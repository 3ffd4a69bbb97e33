"""What makes a training another one, and what does not: the table of docs/methods/archive.md, row by row."""
# ruff: noqa: E501

from __future__ import annotations

import functools
import importlib
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_modules import HELPER, SAY, TRAIN, fingerprint, told_by, write

from swarm import Job, Random, Real
from swarm.job.problem import Problem

pytestmark = pytest.mark.usefixtures("modules_of_their_own")


MODULE = {
    "at the top": "import helper\ndef train(params, ctx):\n    return helper.score(params['x'])\n",
    "under another name": "import helper as h\ndef train(params, ctx):\n    return h.score(params['x'])\n",
    "inside the function": "def train(params, ctx):\n    import helper\n    return helper.score(params['x'])\n",
    "one name of it": "from helper import score\ndef train(params, ctx):\n    return score(params['x'])\n",
    "one name of it, inside": "def train(params, ctx):\n    from helper import score as s\n    return s(params['x'])\n",
    "all its names": "from helper import *\ndef train(params, ctx):\n    return score(params['x'])\n",
    "by its __getattr__": "import lazy\ndef train(params, ctx):\n    return lazy.score(params['x'])\n",
    "by its __getattr__, inside": "def train(params, ctx):\n    from lazy import score\n    return score(params['x'])\n",
    "in the table of modules": "import helper, sys\ndef train(params, ctx):\n    return sys.modules['helper'].score(params['x'])\n",
    "by a function": (
        "import importlib\ndef train(params, ctx):\n    return importlib.import_module('helper').score(params['x'])\n"
    ),
    "by another module": "import middle\ndef train(params, ctx):\n    return middle.run(params['x'])\n",
    "inside, by another module": "def train(params, ctx):\n    import middle\n    return middle.run(params['x'])\n",
    "inside, from another module": "def train(params, ctx):\n    from late import run\n    return run(params['x'])\n",
}
MIDDLE = {
    "middle.py": "import helper\n\ndef run(x):\n    return helper.score(x)\n",
    "lazy.py": "def __getattr__(name):\n    import helper\n    return getattr(helper, name)\n",
    "late.py": "def run(x):\n    import helper\n    return helper.score(x)\n",
}


@pytest.mark.parametrize("main", MODULE.values(), ids=MODULE.keys())
@pytest.mark.parametrize(
    "changed",
    [HELPER.replace("FACTOR * x", "-1000 * x"), HELPER.replace("FACTOR = 1", "FACTOR = 2")],
    ids=["function", "value"],
)
def test_an_own_module_counts_in_what_is_used_of_it_however_it_is_imported(
    main: str, changed: str, tmp_path: Path
) -> None:
    here = {**MIDDLE, "main.py": main, "helper.py": HELPER}
    first = fingerprint(tmp_path / "a", here)
    assert fingerprint(tmp_path / "b", {**here, "helper.py": changed}) != first
    assert fingerprint(tmp_path / "c", here) == first


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in MODULE
        if not name.startswith(("by a function", "all its names", "by its __getattr__", "in the table"))
    ],
)
def test_what_is_not_used_of_an_own_module_does_not_count(name: str, tmp_path: Path) -> None:
    here = {**MIDDLE, "main.py": MODULE[name], "helper.py": HELPER}
    other = HELPER.replace("    return x\n", "    return x + 1\n") + "\n# a remark\nMORE = 3\n"
    assert fingerprint(tmp_path / "a", here) == fingerprint(tmp_path / "b", {**here, "helper.py": other})


PACKAGE = {
    "import pkg.mod": "import pkg.mod\ndef train(params, ctx):\n    return pkg.mod.score(params['x'])\n",
    "from pkg import mod": "from pkg import mod\ndef train(params, ctx):\n    return mod.score(params['x'])\n",
    "import pkg.mod inside": "def train(params, ctx):\n    import pkg.mod\n    return pkg.mod.score(params['x'])\n",
    "from pkg import mod inside": "def train(params, ctx):\n    from pkg import mod\n    return mod.score(params['x'])\n",
    "from . import mod": "from pkg.near import run as train\n",
    "from .mod inside": "from pkg.late import run as train\n",
    "a registry": "from pkg.registry import run as train\n",
}


@pytest.mark.parametrize("main", PACKAGE.values(), ids=PACKAGE.keys())
def test_a_module_of_an_own_package_counts(main: str, tmp_path: Path) -> None:
    here = {
        "main.py": main,
        "pkg/__init__.py": "",
        "pkg/mod.py": HELPER,
        "pkg/near.py": "from . import mod\n\ndef run(params, ctx):\n    return mod.score(params['x'])\n",
        "pkg/late.py": "def run(params, ctx):\n    from .mod import score\n    return score(params['x'])\n",
        "pkg/registry.py": (
            "import importlib\n\ndef run(params, ctx):\n"
            "    return importlib.import_module(f'pkg.{params[\"which\"]}').score(params['x'])\n"
        ),
    }
    first = fingerprint(tmp_path / "a", here)
    assert fingerprint(tmp_path / "b", {**here, "pkg/mod.py": HELPER.replace("FACTOR * x", "FACTOR - x")}) != first
    assert fingerprint(tmp_path / "c", here) == first


CODE = {
    "a wrapper's factor": (
        "import functools\ndef times(f):\n    @functools.wraps(f)\n    def inner(*a):\n        return f(*a)\n    return inner\n"
        "@times\ndef train(params, ctx):\n    return params['x']\n",
        "return f(*a)",
        "return 2 * f(*a)",
    ),
    "what is wrapped": (
        "import functools\ndef times(f):\n    @functools.wraps(f)\n    def inner(*a):\n        return f(*a)\n    return inner\n"
        "@times\ndef train(params, ctx):\n    return params['x']\n",
        "params['x']",
        "params['y']",
    ),
    "a decorator's argument": (
        "def by(n):\n    def wrap(f):\n        return lambda *a: n * f(*a)\n    return wrap\n"
        "@by(2)\ndef train(params, ctx):\n    return params['x']\n",
        "@by(2)",
        "@by(3)",
    ),
    "a list of a class": ("class T:\n    layers = [8, 8]\n    def __call__(self, params, ctx):\n        return 1\ntrain = T()\n", "[8, 8]", "[8, 9]"),
    "a dictionary of a class": ("class T:\n    o = {'lr': 1}\n    def __call__(self, params, ctx):\n        return 1\ntrain = T()\n", "1}", "2}"),
    "a tuple of a class": ("class T:\n    o = (1, (2, 3))\n    def __call__(self, params, ctx):\n        return 1\ntrain = T()\n", "(2, 3)", "(2, 4)"),
    "a nested class": ("class T:\n    class N:\n        n = 1\n    def __call__(self, params, ctx):\n        return self.N.n\ntrain = T()\n", "n = 1", "n = 2"),
    "a base class": ("class B:\n    def f(self):\n        return 1\nclass T(B):\n    def __call__(self, params, ctx):\n        return self.f()\ntrain = T()\n", "return 1", "return 2"),
    "a method's decorator": ("import functools\nclass T:\n    @property\n    def n(self):\n        return 1\n    def __call__(self, params, ctx):\n        return self.n\ntrain = T()\n", "return 1", "return 2"),
    "a field's default": ("from dataclasses import dataclass\n@dataclass\nclass T:\n    n: int = 1\n    def __call__(self, params, ctx):\n        return self.n\ntrain = T()\n", "= 1", "= 2"),
    "one of two lambdas": ("a, train = lambda params, ctx: 1, lambda params, ctx: params['x']\n", "params['x']", "params['y']"),
    "which of two lambdas": ("a, b = lambda params, ctx: 1, lambda params, ctx: 2\ntrain = a\n", "train = a", "train = b"),
    "a value in a lambda in a dictionary": ("KINDS = {'a': lambda params, ctx: 1, 'b': lambda params, ctx: 2}\ntrain = KINDS['b']\n", ": 2}", ": 3}"),
    "an inner function": ("def train(params, ctx):\n    def inner(x):\n        return x\n    return inner(params['x'])\n", "return x\n", "return -x\n"),
    "a comprehension's condition": ("def train(params, ctx):\n    return sum(i for i in range(9) if i > 3)\n", "> 3", "> 4"),
    "a default": ("def train(params, ctx, rate=[1, 2]):\n    return rate[0]\n", "[1, 2]", "[1, 3]"),
    "a keyword's default": ("def train(params, ctx, *, rate=1):\n    return rate\n", "rate=1", "rate=2"),
    "the nesting of a list": ("L = [[1, 2], 3]\ndef train(params, ctx):\n    return L\n", "[[1, 2], 3]", "[[1, 2, 3]]"),
    "the nesting of a dictionary": ("L = {'a': {'b': 1}, 'c': 2}\ndef train(params, ctx):\n    return L\n", "{'b': 1}, 'c': 2}", "{'b': 1, 'c': 2}}"),
    "the order of classes": ("class A: pass\nclass B: pass\nL = [A, B, A]\ndef train(params, ctx):\n    return L\n", "[A, B, A]", "[A, B, B]"),
    "the order of a library's classes": ("from decimal import Decimal\nfrom fractions import Fraction\nL = [Decimal, Fraction, Decimal]\ndef train(params, ctx):\n    return L\n", "Decimal]", "Fraction]"),
    "an enum's value": ("import enum\nclass C(enum.Enum):\n    RED = 1\ndef train(params, ctx):\n    return C.RED.value\n", "RED = 1", "RED = 2"),
    "a global of the type": ("N = 1\ndef train(params, ctx):\n    return N\n", "N = 1", "N = 1.0"),
    "what a global is computed from": ("N = sum(range(4))\ndef train(params, ctx):\n    return N\n", "range(4)", "range(5)"),
    "an array": ("import numpy as np\nN = np.arange(5.0)\ndef train(params, ctx):\n    return N\n", "5.0", "6.0"),
    "an attribute of a function": ("def train(params, ctx):\n    return train.rate\ntrain.rate = 1\n", "rate = 1", "rate = 2"),
    "an argument of partial": ("from functools import partial\ndef f(params, ctx, layers, n):\n    return n\ntrain = partial(f, layers=[64, 32], n=10)\n", "[64, 32], n=10", "[64, 32, 10], n=10"),
    "a cached function": ("import functools\n@functools.lru_cache\ndef f(x):\n    return x\ndef train(params, ctx):\n    return f(1)\n", "return x", "return -x"),
    "a function chosen by name": ("def a():\n    return 1\ndef train(params, ctx):\n    return globals()[params['which']]()\n", "return 1", "return 2"),
    "a namespace of arguments": ("from argparse import Namespace\nA = Namespace(lr=1)\ndef train(params, ctx):\n    return A.lr\n", "lr=1", "lr=2"),
    "a function that is called by one that is called": ("def a():\n    return 1\ndef b():\n    return a()\ndef train(params, ctx):\n    return b()\n", "return 1", "return 2"),
    "a recursive partner": ("def even(n):\n    return n == 0 or odd(n - 1)\ndef odd(n):\n    return n != 0 and even(n - 1)\ndef train(params, ctx):\n    return even(4)\n", "n != 0", "n != 1"),
    "a metaclass": ("class M(type):\n    def f(cls):\n        return 1\nclass T(metaclass=M):\n    def __call__(self, params, ctx):\n        return type(self).f()\ntrain = T()\n", "return 1", "return 2"),
    "a slot": ("class T:\n    __slots__ = ('n',)\n    def __init__(self, n):\n        self.n = n\n    def __call__(self, params, ctx):\n        return self.n\ntrain = T(1)\n", "T(1)", "T(2)"),
    "a generator of random numbers": ("import numpy as np\nR = np.random.default_rng(1)\ndef train(params, ctx):\n    return R.random()\n", "rng(1)", "rng(2)"),
    "the order of a dictionary": ("L = {'a': 1, 'b': 2}\ndef train(params, ctx):\n    return list(L)\n", "'a': 1, 'b': 2", "'b': 2, 'a': 1"),
    "the order of an ordered dictionary": ("from collections import OrderedDict\nL = OrderedDict(a=1, b=2)\ndef train(params, ctx):\n    return list(L)\n", "a=1, b=2", "b=2, a=1"),
    "what a dictionary gives by default": ("from collections import defaultdict\nD = defaultdict(lambda: 7)\ndef train(params, ctx):\n    return D['a']\n", ": 7", ": 8"),
    "the longest length of a deque": ("from collections import deque\nD = deque([1], maxlen=3)\ndef train(params, ctx):\n    return D\n", "maxlen=3", "maxlen=4"),
    "whether a dataclass is frozen": ("from dataclasses import dataclass\n@dataclass(frozen=True)\nclass C:\n    n: int = 1\ndef train(params, ctx):\n    C().n = 2\n", "frozen=True", "frozen=False"),
    "whether a field is compared": ("from dataclasses import dataclass, field\n@dataclass\nclass C:\n    n: int = field(default=1, compare=True)\ndef train(params, ctx):\n    return C(1) == C(2)\n", "compare=True", "compare=False"),
    "the order of fields": ("from dataclasses import dataclass\n@dataclass\nclass C:\n    a: int\n    b: int\ndef train(params, ctx):\n    return C(1, 2).a\n", "a: int\n    b: int", "b: int\n    a: int"),
    "a field of a pydantic model": ("from pydantic import BaseModel\nclass C(BaseModel):\n    n: int = 1\ndef train(params, ctx):\n    return C().n\n", "n: int = 1", "n: int = 2"),
    "the type of a field of a pydantic model, which it converts to": ("from pydantic import BaseModel\nclass C(BaseModel):\n    n: int = 1\ndef train(params, ctx):\n    return C(n='1').n\n", "n: int", "n: str"),
    "when a pydantic model validates": ("from pydantic import BaseModel, field_validator\nclass C(BaseModel):\n    n: int = 1\n    @field_validator('n', mode='before')\n    @classmethod\n    def f(cls, n):\n        return str(n)\ndef train(params, ctx):\n    return C(n=1).n\n", "before", "after"),
    "a generator": ("G = (i for i in range(3))\ndef train(params, ctx):\n    return sum(G)\n", "range(3)", "range(4)"),
    "how a thing is made that cannot be looked into": ("import sqlite3\ndef made(name):\n    return sqlite3.connect(':' + name + ':')\nD = made('memory')\ndef train(params, ctx):\n    return D.total_changes\n", "connect(':'", "connect(1 * ':'"),
    "a function of its module, looked up there": ("import sys\ndef f():\n    return 1\ndef train(params, ctx):\n    return getattr(sys.modules[__name__], params['f'])()\n", "return 1", "return 2"),
    "an attribute that any name gives": ("class D(dict):\n    __getattr__ = dict.__getitem__\nD_ = D(lr=1, net=D(n=2))\ndef train(params, ctx):\n    return D_.net.n\n", "n=2", "n=3"),
    "what an overloaded function does": ("import functools\n@functools.singledispatch\ndef f(x):\n    return 0\n@f.register\ndef _(x: int):\n    return 1\ndef train(params, ctx):\n    return f(1)\n", "return 1", "return 2"),
    "whether lists are one and the same": ("L = [[0] * 3] * 3\ndef train(params, ctx):\n    return L\n", "[[0] * 3] * 3", "[[0] * 3, [0] * 3, [0] * 3]"),
    "a mask of an array": ("import numpy as np\nA = np.ma.masked_array([1, 2], mask=[0, 1])\ndef train(params, ctx):\n    return A.sum()\n", "[0, 1]", "[0, 0]"),
    "a method of an array's class": ("import numpy as np\nclass W(np.ndarray):\n    def f(self):\n        return 1\nA = np.zeros(2).view(W)\ndef train(params, ctx):\n    return A.f()\n", "return 1", "return 2"),
    "a class whose metaclass answers anything": ("class M(type):\n    def __getattr__(cls, name):\n        raise RuntimeError(name)\nclass C(metaclass=M):\n    n = 1\ndef train(params, ctx):\n    return C.n\n", "n = 1", "n = 2"),
    "a string that looks like a docstring": ("def train(params, ctx):\n    text = 'a'\n    return text\n", "'a'", "'b'"),
}  # fmt: skip


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize(
    ("name", "text", "changed"),
    [
        ("pkg/__init__.py", "from . import mod\nmod.FACTOR = 5\n", "from . import mod\nmod.FACTOR = 6\n"),
        ("pkg/mod.py", HELPER + "TABLE['a'] = 1\n", HELPER + "TABLE['a'] = 2\n"),
        ("pkg/mod.py", HELPER + "score.rate = 1\n", HELPER + "score.rate = 2\n"),
    ],
    ids=["a package", "an entry", "an attribute"],
)
def test_what_the_import_of_a_module_changes_counts(
    name: str, text: str, changed: str, inside: bool, tmp_path: Path
) -> None:
    uses = "import pkg.mod\n", "    return pkg.mod.score(params['x']), pkg.mod.TABLE\n"
    main = (
        f"def train(params, ctx):\n    {uses[0]}{uses[1]}" if inside else f"{uses[0]}def train(params, ctx):\n{uses[1]}"
    )
    here = {"main.py": main, "pkg/__init__.py": "", "pkg/mod.py": HELPER}
    seen = []
    for place, each in enumerate([text, changed, text]):
        files = {**here, name: each}
        files["pkg/mod.py"] = "TABLE = {}\n" + files["pkg/mod.py"]
        seen.append(fingerprint(tmp_path / str(place), files))
    assert seen[0] == seen[2] != seen[1]


@pytest.mark.parametrize(("text", "old", "new"), CODE.values(), ids=CODE.keys())
def test_other_code_or_data_is_another_training(text: str, old: str, new: str, tmp_path: Path) -> None:
    assert old in text
    first = fingerprint(tmp_path / "a", text)
    assert fingerprint(tmp_path / "b", text.replace(old, new, 1)) != first
    assert fingerprint(tmp_path / "c", text) == first


SAME = {
    "a comment": ("def train(params, ctx):\n    return params['x']\n", "def train(params, ctx):\n    # why\n    return params['x']\n"),
    "a docstring": ("def train(params, ctx):\n    return params['x']\n", "def train(params, ctx):\n    '''What.'''\n    return params['x']\n"),
    "a docstring of an inner function": ("def train(params, ctx):\n    def f():\n        return 1\n    return f()\n", "def train(params, ctx):\n    def f():\n        'What.'\n        return 1\n    return f()\n"),
    "annotations": ("def train(params, ctx):\n    n = 1\n    return n\n", "def train(params: dict, ctx: object) -> float:\n    n: int = 1\n    return n\n"),
    "annotations of an inner function": ("def train(params, ctx):\n    def f(x):\n        return x\n    return f(1)\n", "def train(params, ctx):\n    def f(x: int) -> int:\n        return x\n    return f(1)\n"),
    "an annotated global": ("N = 1\ndef train(params, ctx):\n    return N\n", "N: int = 1\ndef train(params, ctx):\n    return N\n"),
    "a field's annotation": ("from dataclasses import dataclass\n@dataclass\nclass T:\n    n: int = 1\n    def __call__(self, params, ctx):\n        return 1\ntrain = T()\n", "from dataclasses import dataclass\n@dataclass\nclass T:\n    n: float = 1\n    def __call__(self, params, ctx):\n        return 1\ntrain = T()\n"),
    "layout": ("def train(params, ctx):\n    for i in range(3):\n        if i: continue\n    return (params['x'] +\n        1)\n", "def train(params, ctx):\n\n    for i in range(3):\n        if i:\n            continue\n\n    return (params[\"x\"] + 1)\n"),
    "another function": ("def train(params, ctx):\n    return params['x']\n", "def other(n):\n    return n\ndef train(params, ctx):\n    return params['x']\nN = 3\n"),
    "a local name like another function's": ("def model():\n    return 1\ndef train(params, ctx):\n    model = 2\n    return model\n", "def model():\n    return 2\ndef train(params, ctx):\n    model = 2\n    return model\n"),
    "an attribute named like another function": ("def fit():\n    return 1\ndef train(params, ctx):\n    return ctx.fit\n", "def fit():\n    return 2\ndef train(params, ctx):\n    return ctx.fit\n"),
    "a job beside it": ("def train(params, ctx):\n    return params['x']\n", "def train(params, ctx):\n    return params['x']\nfrom swarm import Job, Real, PSO\njob = Job(name='n', problem=train, space={'x': Real(0, 1)}, optimizer=PSO())\n"),
    "imports for types": ("def train(params, ctx):\n    return 1\n", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import nowhere\ndef train(params, ctx):\n    return 1\n"),
    "the order of definitions": ("A = 1\nB = 2\ndef train(params, ctx):\n    return A + B\n", "B = 2\nA = 1\ndef train(params, ctx):\n    return A + B\n"),
}  # fmt: skip


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME.keys())
def test_what_does_not_run_is_not_another_training(one: str, other: str, tmp_path: Path) -> None:
    assert fingerprint(tmp_path / "a", one) == fingerprint(tmp_path / "b", other)


STABLE = {
    "a logger": "import logging\nLOG = logging.getLogger(__name__)\ndef train(params, ctx):\n    LOG.info('x')\n    return 1\n",
    "the environment": "from os import environ\ndef train(params, ctx):\n    return environ.get('HOME')\n",
    "a cached function": "import functools\n@functools.lru_cache\ndef f(x):\n    return x\nf(1)\ndef train(params, ctx):\n    return f(1)\n",
    "an open file": "import sys\nLOG = sys.__stderr__\ndef train(params, ctx):\n    return LOG.name\n",
    "a lock": "import threading\nLOCK = threading.Lock()\ndef train(params, ctx):\n    with LOCK:\n        return 1\n",
    "an object with a lock": "import threading\nclass T:\n    def __init__(self):\n        self.lock = threading.Lock()\n    def __call__(self, params, ctx):\n        return 1\ntrain = T()\n",
    "a cached property": "import functools, os\nclass T:\n    @functools.cached_property\n    def big(self):\n        return os.urandom(4)\n    def __call__(self, params, ctx):\n        return self.big\ntrain = T()\ntrain.big\n",
    "a cache that pickle leaves out": "import os\nclass T:\n    def __init__(self):\n        self.cache = os.urandom(4)\n    def __getstate__(self):\n        return {}\n    def __call__(self, params, ctx):\n        return self.cache\ntrain = T()\n",
    "a dataclass with slots": "from dataclasses import dataclass\n@dataclass(slots=True)\nclass D:\n    n: int = 1\nS = D()\ndef train(params, ctx):\n    return S.n\n",
    "a class variable of a dataclass": "from dataclasses import dataclass\nfrom typing import ClassVar\n@dataclass\nclass D:\n    kind: ClassVar[str] = 'a'\n    n: int = 1\n    def __call__(self, params, ctx):\n        return self.n\ntrain = D()\n",
    "an instance": "class D:\n    def __init__(self):\n        self.n = 1\nS = D()\ndef train(params, ctx):\n    return S.n\n",
    "a named tuple": "from collections import namedtuple\nP = namedtuple('P', 'a b')\nS = P(1, 2)\ndef train(params, ctx):\n    return S.a\n",
    "sets": "S = {'a', 'b', 'c', 'dd', 'eee'}\ndef train(params, ctx):\n    return 'a' in S and 'b' in {'b', 'c', 'zz'}\n",
    "a closure over what is defined later": "def make():\n    def train(params, ctx):\n        return later(params['x'])\n    made = train\n    def later(x):\n        return x\n    return made\ntrain = make()\n",
    "a closure whose cell is empty": "def make():\n    def train(params, ctx):\n        return later\n    if False:\n        later = 1\n    return train\ntrain = make()\n",
    "its own folder": "from pathlib import Path\nimport os\nHERE = Path(__file__).parent\nDATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'x')\ndef train(params, ctx):\n    return str(HERE / 'data'), DATA\n",
    "a random generator with a seed": "import random\nR = random.Random(3)\ndef train(params, ctx):\n    return R.random()\n",
    "a regular expression": "import re\nR = re.compile('a+')\ndef train(params, ctx):\n    return bool(R.match('a'))\n",
    "an object whose attributes are all its entries": "class D(dict):\n    __getattr__ = dict.__getitem__\nS = D(n=1)\ndef train(params, ctx):\n    return S.n\n",
    "a pydantic model": "from pydantic import BaseModel, field_validator\nclass C(BaseModel):\n    n: int = 1\n    @field_validator('n')\n    @classmethod\n    def f(cls, n):\n        return n\nS = C(n=2)\ndef train(params, ctx):\n    return C().n + S.n\n",
    "an overloaded function": "import functools\n@functools.singledispatch\ndef f(x):\n    return 0\n@f.register\ndef _(x: int):\n    return 1\ndef train(params, ctx):\n    return f(1)\n",
    "what refers to itself": "L = [1]\nL.append(L)\nD = {}\nD['d'] = D\nclass T: pass\nT.me = T\nt = T()\nt.me = t\ndef train(params, ctx):\n    return L, D, t\n",
}  # fmt: skip


@pytest.mark.parametrize("text", STABLE.values(), ids=STABLE.keys())
def test_the_fingerprint_is_that_of_every_run_of_the_script_in_any_folder(text: str, tmp_path: Path) -> None:
    seen = {told_by(tmp_path / str(n), text + SAY, PYTHONHASHSEED=str(n + 1))[0] for n in range(3)}
    assert len(seen) == 1
    assert {fingerprint(tmp_path / "found", text)} == seen  # by a job file, as well


@pytest.mark.parametrize(
    ("text", "one", "other"),
    [
        ("import sys\nRATE = float(sys.argv[1])\n", (("1",), {}), (("2",), {})),
        ("import os\nRATE = os.environ['RATE']\n", ((), {"RATE": "1"}), ((), {"RATE": "2"})),
        ("RATE = 0\n", (("1",), {}), (("2",), {})),
    ],
    ids=["an argument", "the environment", "below the guard"],
)
def test_a_value_that_is_set_when_the_script_runs_counts(text: str, one: Any, other: Any, tmp_path: Path) -> None:
    below = "\nif __name__ == '__main__':\n    import sys\n    RATE = RATE or float(sys.argv[1])\n"
    script = text + "def train(params, ctx):\n    return RATE\n" + below + SAY
    first = told_by(tmp_path, script, *one[0], **one[1])
    assert told_by(tmp_path, script, *other[0], **other[1]) != first
    assert told_by(tmp_path, script, *one[0], **one[1]) == first


@pytest.mark.parametrize("name", ["a logger", "sets", "its own folder"])
def test_a_script_in_a_fork_says_what_it_says_in_a_process_of_its_own(name: str, tmp_path: Path) -> None:
    forked = told_by(tmp_path, STABLE[name] + SAY)
    own = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert own.stdout.split() == forked


def test_code_that_has_no_file_counts_by_what_it_does() -> None:
    def made(text: str) -> str:
        names: dict[str, Any] = {}
        exec(text, names)
        return Problem.of(names["train"]).fingerprint

    text = "def train(params, ctx):\n    def inner(x):\n        return x + 1\n    return inner(2)\n"
    assert made(text) == made(text) == made(text.replace(":\n    def", ":\n    'Says.'\n    # why\n    def"))
    assert len({made(text), made(text.replace("+ 1", "+ 2")), made(text.replace("inner(2)", "inner(3)"))}) == 3
    held = "N = 1\ndef train(params, ctx):\n    return N\n"
    assert made(held) != made(held.replace("N = 1", "N = 2"))


def test_code_from_standard_input_counts_by_what_it_does(tmp_path: Path) -> None:
    def told(text: str) -> str:
        done = subprocess.run(
            [sys.executable, "-"], input=text + SAY, capture_output=True, text=True, cwd=tmp_path, check=True
        )
        return done.stdout

    assert told(TRAIN) == told(TRAIN) != told(TRAIN.replace("params['x']", "2 * params['x']"))


def test_the_key_is_that_of_the_code_that_runs_before_and_after_a_reload(tmp_path: Path) -> None:
    write(tmp_path, {"edited.py": "N = 1\ndef f():\n    return 1\n\ndef train(params, ctx):\n    return f() + N\n"})
    sys.path.insert(0, str(tmp_path))
    module = importlib.import_module("edited")
    before = Problem.of(module.train).fingerprint
    write(
        tmp_path, {"edited.py": "N = 1\ndef f():\n    return 22\n\n\n\ndef train(params, ctx):\n    return -f() + N\n"}
    )
    still = Problem.of(module.train)
    assert still.fingerprint == before
    importlib.invalidate_caches()
    importlib.reload(module)
    now = Problem.of(module.train)
    assert now.fingerprint != before
    assert [called(problem, tmp_path) for problem in (still, now)] == ["2", "-21"]


def called(problem: Problem, folder: Path) -> str:
    """What the problem returns in another process, which has none of its files."""
    (folder / "problem.pickle").write_bytes(problem.pickle)
    code = (
        "import sys; from swarm.workers.problem import load\n"
        f"print(load(open({str(folder / 'problem.pickle')!r}, 'rb').read())({{'x': 4}}, None))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_partial_arguments_count_with_their_nesting() -> None:
    def f(*given: Any) -> float:
        return 0.0

    lists = [([64, 32], 10), ([64, 32, 10],), ([64], [32], 10), ([[64, 32]], 10), ((64, 32), 10), ({"a": [64, 32]}, 10)]
    seen = {Problem.of(functools.partial(f, *given)).fingerprint for given in lists}
    assert len(seen) == len(lists)


def test_arrays_and_frames_count_by_content() -> None:
    import pandas as pd

    def f(data: Any, params: Any, ctx: Any) -> float:
        return 0.0

    data = [
        np.zeros(3), np.zeros((3, 1)), np.zeros(3, dtype="float32"), np.array(["a", None], dtype=object),
        np.array(["a", "b"], dtype=object), pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [1, 3]}),
        pd.DataFrame({"b": [1, 2]}), np.datetime64("2026-01-01"), np.float64(1.0), 1.0,
    ]  # fmt: skip
    seen = [Problem.of(functools.partial(f, each)).fingerprint for each in data]
    assert len(set(seen)) == len(data)
    assert Problem.of(functools.partial(f, pd.DataFrame({"a": [1, 2]}))).fingerprint == seen[5]


def test_a_program_of_many_functions_is_looked_through_in_time(tmp_path: Path) -> None:
    chain = "".join(f"def f{n}(x):\n    return f{n + 1}(x) + V{n}\n" for n in range(400))
    values = "".join(f"V{n} = list(range({n}))\n" for n in range(401))
    text = f"{values}{chain}def f400(x):\n    return x\ndef train(params, ctx):\n    return f0(1)\n"
    begin = time.process_time()
    first = fingerprint(tmp_path / "a", text)
    assert time.process_time() - begin < 10
    assert fingerprint(tmp_path / "b", text.replace("return x\n", "return -x\n")) != first


def test_a_logger_in_the_function_itself_is_no_trouble() -> None:
    log = logging.getLogger("mine")

    def train(params: Any, ctx: Any) -> float:
        log.info("x")
        return 1.0

    assert Problem.of(train).fingerprint == Problem.of(train).fingerprint


def test_a_job_of_an_earlier_version_is_not_taken_for_the_same(tmp_path: Path) -> None:
    job = Job(name="n", problem=lambda params, ctx: 1.0, space={"x": Real(0, 1)}, optimizer=Random(trials=3))
    earlier = job.to_dict()
    del earlier["problem"]["identity"]
    assert ["swarm resume n" in each for each in job.differences(earlier)] == [True]
    kept = Job.from_dict(earlier, job.code.pickle)
    assert kept.differences(earlier) == []


def test_built_in_problems_have_one_fingerprint_in_every_process() -> None:
    code = (
        "from swarm.job.problem import Problem\nfrom swarm.workers.models import PROBLEMS\n"
        "names = sorted(PROBLEMS.keys() - {'command', 'weights'})\n"
        "print(*(f'{name}={Problem.find(name, {}).fingerprint}' for name in names))"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    ]
    assert told[0] == told[1] and "lenet4=" in told[0]
