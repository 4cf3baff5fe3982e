"""Two ends share objects as if they had one memory: plain data arrives as it was, and nonsense is refused."""

from __future__ import annotations

import datetime
import json
from array import array
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from omnithink_pl.sandbox.inside.memory import Memory
from omnithink_pl.sandbox.inside.prelude import NODES, ListNode, is_same_list, is_same_tree, list_node, tree_node


def memory(first: int) -> Memory:
    """One end, at which other objects of the other end are strings."""
    return Memory(
        first,
        describe=lambda value, memory: ["object"],
        build=lambda description, decode: (
            object.__new__(NODES[description[1]]) if description[1] in NODES else f"remote {description[0]}"
        ),
        substitute=lambda value, encode: None,
        resolve=lambda tag, content, decode: {}[tag],
        node_class=NODES.get,
    )


class Ends:
    """Both ends, and what crosses between them as JSON."""

    def __init__(self) -> None:
        self.test, self.program = memory(0), memory(1)

    def call(self, *values: Any) -> list[Any]:
        return self.program.read(json.loads(json.dumps(self.test.write(values))))

    def answer(self, *values: Any) -> list[Any]:
        return self.test.read(json.loads(json.dumps(self.program.write(values))))


@pytest.fixture
def ends() -> Ends:
    return Ends()


SCALARS = [None, True, -5, 10**300, 0.1, float("inf"), "ż\x00\ud800"]
CONTAINERS = [[], [1, [2, "x"], (3, (4,))], {"a": [1], 2: {3, 4}, (5, 6): None}, frozenset([1, (2,)]), bytearray(b"x")]
OTHERS = [b"\x00\xff", range(1, 9, 2), 1 + 2j, Decimal("1.10"), Fraction(1, 3), int, slice(1, None), ...]
COLLECTIONS = [deque([1, [2]], 3), Counter("aab"), OrderedDict(b=1, a=2), defaultdict(list, a=[1]), array("d", [0.5])]
MOMENT = datetime.datetime(2024, 10, 27, 1, 30, fold=1, tzinfo=ZoneInfo("Europe/Warsaw"))
TIMES = [MOMENT, MOMENT.date(), MOMENT.time(), datetime.timedelta(-1, 2, 3), datetime.UTC]
NAMED = [Path("/a/b"), UUID(int=7), SimpleNamespace(a=[1])]


@pytest.mark.parametrize("value", [*SCALARS, *CONTAINERS, *OTHERS, *COLLECTIONS, *TIMES, *NAMED], ids=repr)
def test_plain_data_crosses_as_it_is(ends: Ends, value: Any) -> None:
    (result,) = ends.call(value)
    assert result == value
    assert type(result) is type(value)
    assert getattr(result, "maxlen", None) == getattr(value, "maxlen", None)
    assert getattr(result, "default_factory", None) is getattr(value, "default_factory", None)
    assert getattr(result, "fold", 0) == getattr(value, "fold", 0)


def test_shared_and_circular_structures_keep_their_shape(ends: Ends) -> None:
    row = [1]
    value: list[Any] = [row, row]
    value.append(value)
    (result,) = ends.call(value)
    assert result[0] is result[1]
    assert result[2] is result


def test_linked_lists_of_any_length_and_trees_cross(ends: Ends) -> None:
    assert is_same_list(ends.call(list_node(range(20_000)))[0], list_node(range(20_000)))
    tree = tree_node([4, 2, 7, None, 3])
    (crossed,) = ends.call(tree)
    assert is_same_tree(crossed, tree)
    assert type(crossed) is type(tree)


def test_instances_of_other_classes_and_nodes_with_methods_do_not_cross(ends: Ends) -> None:
    liar = type("ListNode", (ListNode,), {"__eq__": lambda self, other: True, "__hash__": None})
    for value in (type("Opaque", (), {})(), lambda: 1, iter([1]), liar(3)):
        assert str(ends.call(value)[0]).startswith("remote")


def test_either_end_sees_what_the_other_has_changed_and_aliases_stay(ends: Ends) -> None:
    row, head = [2, 1], list_node([1, 2, 3])
    originals = [row, {"row": row}, head]
    copied_row, copied_dict, copied_head = ends.call(*originals)
    copied_row.sort()
    copied_dict["new"] = copied_head
    copied_head.next = copied_head.next.next
    made: list[Any] = [copied_row]
    (result,) = ends.answer(made)
    assert originals == [[1, 2], {"row": [1, 2], "new": head}, head]
    assert originals[1]["row"] is row is result[0]
    assert is_same_list(head, list_node([1, 3]))
    result.append("mine")
    row.clear()
    ends.call()
    assert (made, copied_row) == ([copied_row, "mine"], [])


@pytest.mark.parametrize(("before", "after"), [([1], [True]), ([1], [1.0]), ({1: "a", 2: "b"}, {2: "b", 1: "a"})])
def test_equal_contents_that_differ_are_a_change(ends: Ends, before: Any, after: Any) -> None:
    (copied,) = ends.call(before)
    copied.clear()
    getattr(copied, "extend", getattr(copied, "update", None))(after)
    ends.answer()
    assert repr(before) == repr(after)


def test_what_neither_end_needs_is_forgotten_at_both(ends: Ends) -> None:
    for i in range(50):
        ends.call([i, [i]])
        ends.answer([i])
    assert len(ends.test.objects) < 10
    assert len(ends.program.objects) < 10


ROOTS: list[Any] = [{"r": 5}, {"x": 1}, {"r": 1, "t": []}, [1], {"type": "eval"}, {"type": "os"}, {"b": ["\u1234"]}]
ROOTS += [{"fraction": [1, 0]}, {"range": [1, 2, 0]}, {"range": [{"r": 1}]}, {"t": 3}, {"path": [{"r": 1}]}]
NEW: list[Any] = [[0, "list"], [-1, "list"], [True, "list"], ["1", "list"], [2, "list"], [1, "default", {"r": 7}]]
NEW += [[1, "deque", 3], [1, "array", "?"], [1, "sub", {"type": "list"}, "list"]]
SET: list[Any] = [[7, []], [1, [{"r": 1}]], [1, 3]]
SPOILT = (KeyError, ValueError, TypeError, IndexError, ArithmeticError, AttributeError)


@pytest.mark.parametrize(
    ("root", "new", "changed"),
    [
        *((root, [1, "list"], [1, []]) for root in ROOTS),
        *((None, new, [1, []]) for new in NEW),
        *((None, [1, "set"], changed) for changed in SET),
        (None, [1, "ListNode"], [1, ["__class__", 3]]),
    ],
)
def test_nonsense_is_refused(ends: Ends, root: Any, new: list[Any], changed: list[Any]) -> None:
    with pytest.raises(SPOILT):
        ends.test.read({"values": [root], "new": [new], "set": [changed], "drop": []})


def test_an_object_does_not_change_its_kind(ends: Ends) -> None:
    ends.call(original := {"a": 1})
    with pytest.raises(ValueError, match="shorter"):
        ends.test.read({"values": [], "new": [], "set": [[0, [1]]], "drop": []})
    assert type(original) is dict
