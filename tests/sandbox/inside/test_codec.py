"""Plain data arrives as it was, nothing else does, and malformed messages are refused."""

from __future__ import annotations

import json
from collections import Counter, OrderedDict, deque
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from omnithink_pl.sandbox.inside.codec import Decoder, Encoder
from omnithink_pl.sandbox.inside.prelude import NODES, ListNode, is_same_list, is_same_tree, list_node, tree_node


def encoded(*values: Any) -> tuple[list[Any], list[Any]]:
    exported: list[Any] = []
    roots, table = Encoder(lambda value: exported.append(value) or len(exported) - 1).encode(*values)  # type: ignore[func-returns-value]
    return json.loads(json.dumps([roots, table]))


def crossed(value: Any) -> Any:
    return decoder().decode(*encoded(value))[0]


def decoder() -> Decoder:
    return Decoder(NODES.__getitem__, lambda number: f"remote {number}")


SCALARS = [None, True, -5, 10**300, 0.1, float("inf"), "ż\x00\ud800"]
CONTAINERS = [[], [1, [2, "x"], (3, (4,))], {"a": [1], 2: {3, 4}, (5, 6): None}, frozenset([1, (2,)]), bytearray(b"x")]
OTHERS = [b"\x00\xff", range(1, 9, 2), 1 + 2j, Decimal("1.10"), Fraction(1, 3), int]
COLLECTIONS = [deque([1, [2]]), Counter("aab"), OrderedDict(b=1, a=2)]


@pytest.mark.parametrize("value", [*SCALARS, *CONTAINERS, *OTHERS, *COLLECTIONS], ids=repr)
def test_plain_data_crosses_as_it_is(value: Any) -> None:
    result = crossed(value)
    assert result == value
    assert type(result) is type(value)


def test_shared_and_circular_structures_keep_their_shape() -> None:
    row = [1]
    value: list[Any] = [row, row]
    value.append(value)
    result = crossed(value)
    assert result[0] is result[1]
    assert result[2] is result


def test_linked_lists_of_any_length_and_trees_cross() -> None:
    assert is_same_list(crossed(list_node(range(50_000))), list_node(range(50_000)))
    tree = tree_node([4, 2, 7, None, 3])
    assert is_same_tree(crossed(tree), tree)
    assert type(crossed(tree)) is type(tree)


def test_nodes_with_slots_cross() -> None:
    node = type("ListNode", (), {"__slots__": ("next", "val")})()
    node.val, node.next = 3, None
    assert is_same_list(crossed(node), ListNode(3))


def test_instances_of_other_classes_do_not_cross() -> None:
    liar = type("Liar", (int,), {"__eq__": lambda self, other: True})
    assert type(crossed(liar(3))) is int
    for value in (type("Opaque", (), {})(), lambda: 1, iter([1])):
        assert crossed(value) == "remote 0"


def test_what_was_changed_is_written_back_into_the_originals() -> None:
    row, head = [2, 1], list_node([1, 2, 3])
    originals = [row, {"row": row}, head]
    sender = Encoder(lambda value: 0)
    roots, table = sender.encode(*originals)
    receiver = decoder()
    copy_of_row, copy_of_dict, copy_of_head = receiver.decode(roots, table)
    copy_of_row.sort()
    copy_of_dict["new"] = copy_of_head
    copy_of_head.next = copy_of_head.next.next
    value, back = Encoder(lambda value: 0, receiver.objects).encode(None)
    decoder().decode(value, back, sender.objects)
    assert originals == [[1, 2], {"row": [1, 2], "new": head}, head]
    assert originals[1]["row"] is row
    assert is_same_list(head, list_node([1, 3]))


ROOTS: list[Any] = [{"r": 5}, {"x": 1}, {"r": 0, "t": []}, [1], {"type": "eval"}, {"type": "os"}, {"b": "\u1234"}]
ROOTS += [{"fraction": [1, 0]}, {"range": [1, 2, 0]}]
OBJECTS: list[Any] = [["os.system", []], ["ListNode", {"__class__": 1}], ["set", [{"r": 0}]]]


@pytest.mark.parametrize(
    ("root", "content"), [*((root, ["list", []]) for root in ROOTS), *(({"r": 0}, content) for content in OBJECTS)]
)
def test_nonsense_is_refused(root: Any, content: list[Any]) -> None:
    with pytest.raises((ValueError, TypeError, KeyError, IndexError, ArithmeticError, AttributeError)):
        decoder().decode([root], [content])


def test_an_original_does_not_change_its_kind() -> None:
    with pytest.raises(TypeError, match="kind"):
        decoder().decode([None], [["dict", []]], known=[[1]])
    with pytest.raises(ValueError, match="missing"):
        decoder().decode([None], [], known=[[1]])
