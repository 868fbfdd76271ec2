"""Means and standard deviations that networks of others were trained with, from MATLAB or JSON files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from qsmprep.nets.spec import Channel
from qsmprep.weights.card import read_document

LARGEST = 10_000  # numbers of one variable; a factor is one or two
HDF5 = b"\x89HDF"


def read_factors(path: Path) -> dict[str, np.ndarray]:
    """The numeric variables of a .mat file (any version) or of a JSON object, each flattened to float64.

    A folder stands for the NumPy files in it, each a variable of the file's name.

    Raises
    ------
    ValueError : the file cannot be read as either.
    """
    if path.suffix == ".json":
        found = read_document(path, "file of normalisation factors")
        return {name: np.ravel(np.asarray(value, float)) for name, value in found.items() if _numeric(value)}
    try:
        if path.is_dir():
            return _from_numpy(path)
        with open(path, "rb") as stream:
            newer = HDF5 in (stream.read(4), stream.seek(512) and stream.read(4))
        return _from_hdf5(path) if newer else _from_matlab(path)
    except OSError as error:
        raise ValueError(f"{path}: the normalisation factors cannot be read ({error}).") from None
    except Exception as error:  # scipy raises whatever it stumbles over in a damaged file
        what = "a folder of NumPy files" if path.is_dir() else "a .mat file"
        raise ValueError(f"{path} is not {what} that can be read ({error}).") from None


def channel(
    quantity: str, factors: Mapping[str, np.ndarray], mean: str, deviation: str, path: Path, place: int | None = None
) -> Channel:
    """A channel whose mean and deviation (ppm) are two variables of a file, or one element of each.

    Raises
    ------
    ValueError : a variable is missing or is not the one number, or the deviation is not above 0.
    """
    values = []
    for name in (mean, deviation):
        numbers = factors.get(name)
        if numbers is None:
            raise ValueError(f"{path} lacks {name}, the factor of {quantity}; it has {', '.join(factors) or 'none'}.")
        if numbers.size != (1 if place is None else 2):
            raise ValueError(f"{path}: {name} holds {numbers.size} numbers instead of {1 if place is None else 2}.")
        values.append(float(numbers[place or 0]))
    if not (all(map(math.isfinite, values)) and values[1] > 0):
        raise ValueError(f"{path}: {mean} and {deviation} are {values[0]} and {values[1]}; they must be finite, the "
                         "deviation above 0.")  # fmt: skip
    return Channel(quantity, *values)


def _from_matlab(path: Path) -> dict[str, np.ndarray]:
    from scipy.io import loadmat

    found = loadmat(path)
    return {name: np.ravel(value).astype(float) for name, value in found.items() if _numeric(value)}


def _from_numpy(path: Path) -> dict[str, np.ndarray]:
    found = {file.stem: np.load(file, allow_pickle=False, mmap_mode="r") for file in sorted(path.glob("*.npy"))}
    return {name: np.ravel(value).astype(float) for name, value in found.items() if _numeric(value)}


def _from_hdf5(path: Path) -> dict[str, np.ndarray]:
    import h5py

    with h5py.File(path, "r") as file:
        datasets = {
            name: file[name]
            for name in file
            if isinstance(file.get(name, getlink=True), h5py.HardLink) and isinstance(file[name], h5py.Dataset)
        }
        return {
            name: np.ravel(item[()]).astype(float)
            for name, item in datasets.items()
            if item.dtype.kind in "fiu" and 0 < item.size <= LARGEST and item.external is None and not item.is_virtual
        }


def _numeric(value: object) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "fiu" and 0 < value.size <= LARGEST
    values = value if isinstance(value, list) else [value]
    return bool(values) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
