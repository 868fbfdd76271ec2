"""The file of --bids-filter-file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qsmprep.bids.reading import UnreadableFileError, read_json_object

FORM = 'It must look like {"megre": {"acquisition": "x"}}.'


def read_filters(path: Path | None) -> dict[str, dict[str, Any]] | None:
    """Suffix in lower case -> entities to select; None without a file..

    Raises
    ------
    ValueError : no regular file that holds a JSON object of objects; names it.
    """
    if path is None:
        return None
    try:
        filters = read_json_object(path, what="JSON file", remedy=FORM)
    except UnreadableFileError as error:
        raise ValueError(f"--bids-filter-file {error}") from None
    for name, entities in filters.items():
        if not isinstance(entities, dict):
            raise ValueError(f"--bids-filter-file {path}: {name!r} holds no object {{ }}. {FORM}")
    return filters
