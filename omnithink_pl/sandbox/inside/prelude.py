"""Names that programs and tests for judging sites use without importing or defining them, but of no package."""

from __future__ import annotations

import builtins
import importlib
import sys
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

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
_STREAMS = {"stdin", "stdout"}  # replaced in every run, so the fork server's must not be kept


def provide(packages: Iterable[str], folders: Mapping[str, str] | None = None) -> set[str]:
    """Add the names to the builtins, without hiding a builtin, and return those added; import the packages.

    ``folders`` has where each package lies, and each that it needs: nothing else there can be imported.
    """
    names: dict[str, Any] = {}
    exec(_SOURCE, names)
    public = {name: value for name, value in names.items() if name not in _STREAMS and not name.startswith("__")}
    added = {name: value for name, value in (public | NODES).items() if not hasattr(builtins, name)}
    builtins.__dict__.update(added)
    sys.meta_path.append(_Packages(folders or {}))
    for package in packages:  # once for all runs
        importlib.import_module(package)
    return set(added)


class _Packages:
    """Finds packages by name."""

    def __init__(self, folders: Mapping[str, str]) -> None:
        self._folders = folders

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> ModuleSpec | None:
        """Return where a package is; its own modules are found by way of it."""
        return PathFinder.find_spec(name, [self._folders[name]]) if name in self._folders else None


class ListNode:
    """A node of a singly linked list."""

    def __init__(self, val: Any = 0, next: Any = None) -> None:  # noqa: A002 - the name that programs use
        self.val, self.next = val, next


class TreeNode:
    """A node of a binary tree."""

    def __init__(self, val: Any = 0, left: Any = None, right: Any = None) -> None:
        self.val, self.left, self.right = val, left, right


class Node:
    """A node of any other structure, with the fields that it is given."""

    def __init__(self, val: Any = 0, **fields: Any) -> None:
        self.val = val
        self.__dict__.update(fields)


def list_node(values: Iterable[Any]) -> ListNode | None:
    """Return a linked list of the values; ``None`` for no values."""
    head: ListNode | None = None
    for value in reversed(list(values)):
        head = ListNode(value, head)
    return head


def is_same_list(first: Any, second: Any) -> bool:
    """Return whether two linked lists hold equal values."""
    while first is not None and second is not None and first.val == second.val:
        first, second = first.next, second.next
    return first is None and second is None


def tree_node(values: Iterable[Any]) -> TreeNode | None:
    """Return a binary tree from its values level by level, ``None`` where there is no node."""
    remaining = iter(list(values))
    first = next(remaining, None)
    if first is None:
        return None
    root = TreeNode(first)
    waiting = deque([root])
    while waiting:
        node = waiting.popleft()
        for side in ("left", "right"):
            value = next(remaining, None)
            if value is not None:
                child = TreeNode(value)
                setattr(node, side, child)
                waiting.append(child)
    return root


def is_same_tree(first: Any, second: Any) -> bool:
    """Return whether two binary trees have the same shape and equal values."""
    pairs = [(first, second)]
    while pairs:
        one, other = pairs.pop()
        if one is None and other is None:
            continue
        if one is None or other is None or one.val != other.val:
            return False
        pairs += [(one.left, other.left), (one.right, other.right)]
    return True


NODES: dict[str, type] = {"ListNode": ListNode, "TreeNode": TreeNode, "Node": Node}
_FIELDS = "val value data key next prev left right random parent child children neighbors"
NODE_FIELDS = frozenset(_FIELDS.split())
HELPERS: dict[str, Any] = NODES | {
    function.__name__: function for function in (list_node, tree_node, is_same_list, is_same_tree)
}
