"""Keeps what a benchmark measures item by item, so that one that was stopped resumes with the items that are missing."""

import json
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import record

__all__ = ["JsonLines", "ResumableRecord"]

Item = dict[str, Any]


class _Items:
    """Items in the order of their measurement, each known by the values of its fields `key`."""

    def __init__(self, items: list[Item], key: Sequence[str]) -> None:
        self.all = items
        self._key = tuple(key)
        self._known = {self._key_of(item) for item in items}

    def _key_of(self, item: Item) -> Hashable:
        return tuple(item[name] for name in self._key)

    def has(self, **key: Any) -> bool:
        """Whether the item with these values of all fields of the key is there."""
        return self._key_of(key) in self._known

    def add(self, *items: Item) -> None:
        """Appends the items, and writes them."""
        self.all += items
        self._known |= {self._key_of(item) for item in items}


class JsonLines(_Items):
    """Items in a file, each a line of JSON."""

    def __init__(self, path: Path, key: Sequence[str]) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        super().__init__([json.loads(line) for line in lines], key)

    def add(self, *items: Item) -> None:
        super().add(*items)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(item) + "\n" for item in items)


class ResumableRecord(_Items):
    """Items in a list of a record.  Its "starts" are the circumstances of each start that has added any, and the "start"
    of an item is the place of its own among them.
    """

    def __init__(self, name: str, folder: Path, empty: dict[str, Any], field: str, key: Sequence[str]) -> None:
        """`empty`: the record, if there is none yet, with an empty list as its `field`, which has the items."""
        path = folder / f"{name}.json"
        self.full: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else empty
        self._name, self._folder = name, folder
        self._circumstances = record.circumstances()  # before anything is measured: they have the load
        self._start: int | None = None
        super().__init__(self.full[field], key)

    def add(self, *items: Item) -> None:
        if self._start is None:
            self._start = len(self.full["starts"])
            self.full["starts"].append(self._circumstances)
        super().add(*(item | {"start": self._start} for item in items))
        record.write(self._name, self.full, self._folder)
