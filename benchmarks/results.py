"""A table of measurements in a CSV file that a stopped benchmark goes on with."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path


class Results:
    """The CSV file: rows are added one by one, and never twice."""

    def __init__(self, path: Path, columns: Sequence[str]):
        self.path, self.columns = path, tuple(columns)
        if not path.exists():
            path.write_text(",".join(self.columns) + "\n", "utf-8")

    def rows(self) -> list[dict[str, str]]:
        with self.path.open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))

    def has(self, **key: str) -> bool:
        """Whether a row has these values."""
        return any(all(row[name] == value for name, value in key.items()) for row in self.rows())

    def add(self, **row) -> None:
        """Append a row and print it; floats to five digits."""
        values = {key: f"{value:.5g}" if isinstance(value, float) else value for key, value in row.items()}
        with self.path.open("a", encoding="utf-8", newline="") as stream:
            csv.DictWriter(stream, self.columns, restval="").writerow(values)
        print(*values.values(), flush=True)
