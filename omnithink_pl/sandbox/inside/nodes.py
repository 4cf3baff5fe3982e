"""Linked lists and binary trees as judging sites define them, and how their tests build and compare them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

NODE_NAMES = frozenset({"ListNode", "TreeNode", "Node"})
NODE_FIELDS = frozenset(
    {
        "val",
        "value",
        "data",
        "key",
        "next",
        "prev",
        "left",
        "right",
        "random",
        "parent",
        "child",
        "children",
        "neighbors",
    }
)


class ListNode:
    """A node of a singly linked list."""

    def __init__(self, val: Any = 0, next: Any = None) -> None:  # noqa: A002 - the name that programs use
        self.val = val
        self.next = next


class TreeNode:
    """A node of a binary tree."""

    def __init__(self, val: Any = 0, left: Any = None, right: Any = None) -> None:
        self.val = val
        self.left = left
        self.right = right


class Node:
    """A node of any other structure: takes the fields that it is given."""

    def __init__(self, val: Any = 0, **fields: Any) -> None:
        self.val = val
        self.__dict__.update(fields)


def list_node(values: Iterable[Any]) -> ListNode | None:
    """A linked list of values; ``None`` for no values."""
    head: ListNode | None = None
    for value in reversed(list(values)):
        head = ListNode(value, head)
    return head


def is_same_list(first: Any, second: Any) -> bool:
    """Whether two linked lists hold equal values."""
    while first is not None and second is not None:
        if first.val != second.val:
            return False
        first, second = first.next, second.next
    return first is None and second is None


def tree_node(values: Iterable[Any]) -> TreeNode | None:
    """A binary tree from its values level by level, ``None`` where there is no node."""
    rest = iter(list(values))
    first = next(rest, None)
    if first is None:
        return None
    root = TreeNode(first)
    waiting = deque([root])
    while waiting:
        node = waiting.popleft()
        for side in ("left", "right"):
            value = next(rest, None)
            if value is not None:
                child = TreeNode(value)
                setattr(node, side, child)
                waiting.append(child)
    return root


def is_same_tree(first: Any, second: Any) -> bool:
    """Whether two binary trees have the same shape and equal values."""
    pairs = [(first, second)]
    while pairs:
        one, other = pairs.pop()
        if one is None and other is None:
            continue
        if one is None or other is None or one.val != other.val:
            return False
        pairs += [(one.left, other.left), (one.right, other.right)]
    return True
