"""Names that programs for judging sites use without importing them, there for programs and for tests."""

from __future__ import annotations

import builtins
import importlib
from collections.abc import Iterable
from typing import Any

from omnithink_pl.sandbox.inside import nodes

_SOURCE = """
import abc, array, bisect, collections, copy, dataclasses, datetime, decimal, enum, fractions, functools
import heapq, io, itertools, json, math, operator, os, queue, random, re, statistics, string, sys, threading
import time, traceback, typing
from string import *
from operator import add, and_, attrgetter, contains, itemgetter, mod, mul, neg, or_, sub, truediv, xor
from functools import *
from collections import *
from itertools import *
from heapq import *
from bisect import *
from math import *
from decimal import Decimal
from fractions import Fraction
from random import choice, randint, randrange, shuffle
from typing import *
from sys import exit, maxsize, setrecursionlimit, stdin, stdout
from sys import exit as quit
"""
_STREAMS = {"stdin", "stdout"}  # set anew in every run, so not to be remembered here


def provide(packages: Iterable[str]) -> set[str]:
    """Make the names available as if they were builtins, without hiding a builtin.

    Args:
        packages: Further packages to import now, because they cannot be found later.

    Returns:
        The names.
    """
    names: dict[str, Any] = {}
    exec(_SOURCE, names)
    public = {name: value for name, value in names.items() if name not in _STREAMS and not name.startswith("__")}
    public |= {name: getattr(nodes, name) for name in nodes.NODE_NAMES}
    added = {name: value for name, value in public.items() if not hasattr(builtins, name)}
    builtins.__dict__.update(added)
    for package in packages:
        importlib.import_module(package)
    return set(added)
