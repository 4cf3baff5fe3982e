"""Arrays, data frames and their scalars as plain data, in boxes that have NumPy and pandas.

Not covered: structured arrays, the memory that views share, categories and frequencies of an index; these cross by
value or as objects of the other end.
"""

from __future__ import annotations

import sys
from typing import Any

from omnithink_pl.sandbox.inside.values import IMMUTABLE, IMMUTABLE_TAGS, MUTABLE, MUTABLE_TAGS, Immutable, Mutable


def add_kinds() -> None:
    """Add the kinds of the packages that this process has imported; called once, when a box starts."""
    if "numpy" in sys.modules:
        _add_numpy(sys.modules["numpy"])
    if "pandas" in sys.modules:
        _add_pandas(sys.modules["numpy"], sys.modules["pandas"])


def _add_numpy(np: Any) -> None:
    def items(value: Any) -> list[Any]:
        if value.dtype.names:
            raise TypeError("a structured array cannot cross")
        return list(value.flat) if value.dtype == object else [value.tobytes()]

    def fill(target: Any, items: list[Any]) -> None:
        if target.dtype == object:
            for place, item in enumerate(items):
                target.flat[place] = item
        else:
            target[...] = np.frombuffer(items[0], target.dtype).reshape(target.shape)

    def scalar(kind: str, data: bytes) -> Any:
        return np.frombuffer(data, kind)[0]

    _mutable("ndarray", Mutable(np.ndarray, lambda value: [value.shape, value.dtype.str], items, fill))
    scalars = set(np.sctypeDict.values()) - {np.object_, np.void}
    _immutable("scalar", Immutable(np.generic, lambda value: [value.dtype.str, value.tobytes()], scalar), *scalars)
    kinds = {type(np.dtype(kind)) for kind in scalars} | {type(np.dtype(object))}
    _immutable("dtype", Immutable(np.dtype, lambda value: [value.str], np.dtype), *kinds)


def _add_pandas(np: Any, pd: Any) -> None:
    pack, unpack, index = _columns(np, pd)

    def frame_items(value: Any) -> list[Any]:
        columns = [pack(value.iloc[:, place]) for place in range(value.shape[1])]
        return [pack(value.index), value.index.name, pack(value.columns), value.columns.name, *columns]

    def fill_frame(target: Any, items: list[Any]) -> None:
        rows, columns = index(*items[:2]), index(*items[2:4])
        series = [unpack(packed, pd.Series, index=rows) for packed in items[4:]]
        made = pd.concat(series, axis=1) if series else pd.DataFrame(index=rows)
        made.columns = columns
        type(target).__init__(target, made)

    def series_items(value: Any) -> list[Any]:
        return [pack(value), pack(value.index), value.index.name, value.name]

    def fill_series(target: Any, items: list[Any]) -> None:
        type(target).__init__(target, unpack(items[0], pd.Series, index=index(*items[1:3]), name=items[3]))

    def time(kind: Any) -> Immutable:
        return Immutable(
            kind, lambda value: [value.isoformat(), getattr(value, "unit", "ns")], lambda *p: _time(kind, *p)
        )

    _mutable("frame", Mutable(pd.DataFrame, lambda value: [], frame_items, fill_frame))
    _mutable("series", Mutable(pd.Series, lambda value: [], series_items, fill_series))
    indices = (pd.Index, pd.RangeIndex, pd.DatetimeIndex, pd.TimedeltaIndex, pd.MultiIndex)
    _immutable("index", Immutable(pd.Index, lambda value: [pack(value), value.name], index), *indices)
    _immutable("timestamp", time(pd.Timestamp), pd.Timestamp)
    _immutable("period", time(pd.Timedelta), pd.Timedelta)
    _immutable("nat", Immutable(type(pd.NaT), lambda value: [], lambda: pd.NaT), type(pd.NaT))
    _immutable("na", Immutable(type(pd.NA), lambda value: [], lambda: pd.NA), type(pd.NA))


def _columns(np: Any, pd: Any) -> tuple[Any, Any, Any]:
    """Return how a column or an index is written, and how each is read."""

    def pack(values: Any) -> tuple[Any, ...]:
        """Return a column or an index as plain data: numbers and times as bytes, anything else item by item."""
        if isinstance(values, pd.MultiIndex):
            return ("levels", tuple(values.names), tuple(values))
        if isinstance(values.dtype, np.dtype) and values.dtype != object:
            data = values.to_numpy()
            return ("bytes", data.dtype.str, data.tobytes())
        return ("items", str(values.dtype), tuple(values.astype(object)))

    def unpack(packed: tuple[Any, ...], make: Any, **named: Any) -> Any:
        form, kind, content = packed
        if form == "levels":
            return pd.MultiIndex.from_tuples(content, names=kind)
        if form == "bytes":
            return make(np.frombuffer(content, kind).copy(), **named)
        return make(list(content), dtype=kind, **named)

    def index(packed: tuple[Any, ...], name: Any) -> Any:
        made = unpack(packed, pd.Index)
        return made if packed[0] == "levels" else made.rename(name)

    return pack, unpack, index


def _time(kind: Any, text: str, unit: str) -> Any:
    return kind(text).as_unit(unit)


def _mutable(tag: str, kind: Mutable) -> None:
    MUTABLE[tag] = kind
    MUTABLE_TAGS[kind.base] = tag


def _immutable(tag: str, kind: Immutable, *types: type) -> None:
    IMMUTABLE[tag] = kind
    IMMUTABLE_TAGS.update(dict.fromkeys(types, tag))
