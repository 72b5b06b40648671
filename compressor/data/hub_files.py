"""The files of a data set on the hub at one commit, and how they are read."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import DatasetBuilder

_SPLIT = re.compile(r"\s*([\w.-]+)")


@dataclass(frozen=True)
class DataFiles:
    """The files of a data set at one commit, and how they are read.

    What is in the card of a data set decides which files belong to a split, and the types of the columns: it is
    resolved once for each commit and kept, so that a key and the rows that are read go by the same description.

    Attributes:
        commit: The commit.
        reader: The module of `datasets` that reads them.
        options: Its options, where they are not the defaults.
        features: Types of the columns, where the card states them.
        splits: For each split, its files in order: path in the repository, and the digest that the hub keeps of it.
    """

    commit: str
    reader: str
    options: dict[str, Any]
    features: dict[str, Any] | None
    splits: dict[str, dict[str, str]]

    def names(self, split: str) -> list[str]:
        """The splits that an expression such as `train[:10%]+test` names; none if one of them is not there."""
        if split == "all":
            return list(self.splits)
        named = [found.group(1) if (found := _SPLIT.match(part)) else part for part in split.split("+")]
        return named if all(name in self.splits for name in named) else []

    def digest(self, split: str) -> str:
        """SHA-256 of what is read for a split: a commit that changes only the card's text leaves it as it is."""
        files = {name: self.splits[name] for name in self.names(split)}
        read = [self.reader, self.options, self.features, [[name, *entry.items()] for name, entry in files.items()]]
        return hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()

    def builder(self, split: str, places: dict[str, str], cache: Path | None) -> DatasetBuilder:
        """The reader of a split's files.

        Args:
            split: The split; the files of others are left out.
            places: For each path in the repository, a local file or a URL.
            cache: Folder for the rows as tables.
        """
        from datasets import Features
        from datasets.data_files import DataFilesDict, DataFilesList
        from datasets.load import import_main_class

        kind = import_main_class(self.reader)
        assert kind is not None, "it was found by the module of a reader"
        # Lists, not patterns: a file's name may have brackets.
        files = {
            name: DataFilesList([places[path] for path in entry], [tuple(entry.values())])
            for name, entry in self.splits.items()
            if name in self.names(split)
        }
        features = None if self.features is None else Features.from_dict(self.features)
        return kind(cache_dir=cache, data_files=DataFilesDict(files), features=features, **self.options)
