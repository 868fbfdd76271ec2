"""Simulated heads kept on disk, so that patches can be drawn from many heads at once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from qsmprep.bids.outputs import write_json
from qsmprep.numerics.progress import Progress
from qsmprep.numerics.threads import available_cores, use_threads
from qsmprep.training.heads import (
    ALONG_THIRD_AXIS,
    HEADS_VERSION,
    SURROUNDINGS,
    generator_of,
    reconstructed_chi,
    surroundings,
    training_head,
)
from qsmprep.training.label_heads import LABEL_HEADS_VERSION, label_head

# Halves of a number are precise enough but for the total field, which reaches several ppm beside air.
KINDS = {"mask": bool, "labels": np.uint8, "total-field": np.float32, "total-field-head": np.float32}
LARGEST_DIFFERENCE_PPM = 1e-3  # between the same field of one head simulated twice
RECONSTRUCTIONS = ("fansi", "tv", "rts")
FIRST_VALIDATION_HEAD = 1_200_000  # numbers from here on are never trained on; a multiple of 3


@dataclass(frozen=True)
class Head:
    """A head on disk.

    Attributes
    ----------
    folder : of its volumes.
    b0_direction : unit vector in voxel axes.
    shape : of the volumes.
    voxel_size_mm : edge of the cubic voxels.
    measured : whether its tissue field was measured: `noise` is then that of the scan, and as strong as it is.
    """

    folder: Path
    b0_direction: tuple[float, float, float]
    shape: tuple[int, int, int]
    voxel_size_mm: float = 1.0
    measured: bool = False
    _open: dict[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)
    _means: dict[str, float] = field(default_factory=dict, repr=False, compare=False)

    @property
    def upright(self) -> bool:
        """Whether B0 runs along the third axis."""
        return self.b0_direction == ALONG_THIRD_AXIS

    def mean(self, name: str) -> float:
        """Mean of a volume over the mask."""
        if name not in self._means:
            inside = np.asarray(self.volume("mask"))
            self._means[name] = float(self.volume(name)[inside].mean(dtype=np.float64))
        return self._means[name]

    def volume(self, name: str) -> np.ndarray:
        """A volume, mapped from disk."""
        if name not in self._open:
            self._open[name] = np.load(self.folder / f"{name}.npy", mmap_mode="r")
        return self._open[name]


# More than 8 parameters: which heads, how they are made, and what is wanted of each.
def head_pool(
    folder: Path,
    numbers: Sequence[int],
    seed: int,
    *,
    anatomy: str,
    textured: bool,
    reconstructions: bool = False,
    beyond: bool = False,
    labels: bool = False,
    progress: Progress | None = None,
) -> tuple[Head, ...]:
    """Heads by number, those not yet in the folder being simulated on all cores.

    Parameters
    ----------
    folder : where heads are kept; those of another version or seed stand in folders of their own.
    numbers : which heads.
    seed : of all heads.
    anatomy : their generator; "all": half of each.
    textured : whether susceptibility may vary within tissues.
    reconstructions : whether maps made by inversions of the noisy field are wanted too (`chi-found`).
    beyond : whether fields beyond the brain are wanted too (those of `heads.SURROUNDINGS`).
    labels : label maps of whole heads instead, for mask networks.
    progress : called as progress(done, total).
    """
    name = f"labels-{LABEL_HEADS_VERSION}-{seed}" if labels else f"heads-{HEADS_VERSION}-{seed}"
    root = Path(folder) / name
    root.mkdir(parents=True, exist_ok=True)
    kinds = {number: generator_of(number, anatomy) for number in numbers}
    paths = {number: root / f"{kind}{'' if textured else '-smooth'}-{number}" for number, kind in kinds.items()}
    wanted = ["head.json", *(["chi-found.npy"] if reconstructions else []),
              *([f"{name}.npy" for name in SURROUNDINGS.values()] if beyond else [])]  # fmt: skip
    missing = [
        _Job(path, number, seed, kinds[number], textured, reconstructions, beyond, labels)
        for number, path in paths.items()
        if not all((path / name).exists() for name in wanted)
    ]
    if missing:
        with get_context("spawn").Pool(min(available_cores(), len(missing))) as pool:
            for done, _ in enumerate(pool.imap_unordered(_make, missing), 1):
                if progress is not None:
                    progress(done, len(missing))
    return tuple(_open(path) for path in paths.values())


@dataclass(frozen=True)
class _Job:
    path: Path
    number: int
    seed: int
    anatomy: str
    textured: bool
    reconstruction: bool
    beyond: bool = False
    labels: bool = False


def _make(job: _Job) -> None:
    path, number, seed = job.path, job.number, job.seed
    with use_threads(1):
        if not (path / "head.json").exists():
            if job.labels:
                volumes, facts = label_head(number, seed, anatomy=job.anatomy)
            else:
                volumes, facts = training_head(number, seed, anatomy=job.anatomy, textured=job.textured)
            temporary = path.with_name(f".{path.name}")
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            for name, image in volumes.items():
                np.save(temporary / f"{name}.npy", image.astype(_kind(name)))
            write_json(temporary / "head.json", {**facts, "shape": list(next(iter(volumes.values())).shape)})
            temporary.rename(path)
        if job.reconstruction and not (path / "chi-found.npy").exists():
            head = _open(path)
            random = np.random.default_rng([seed, number, 1])
            method = RECONSTRUCTIONS[int(random.integers(len(RECONSTRUCTIONS)))]
            names = ("mask", "chi", "tissue-field", "noise")
            volumes = {name: np.asarray(head.volume(name)) for name in names}
            found = reconstructed_chi(volumes, method, float(random.uniform(50, 300)), head.b0_direction)
            temporary = path / ".chi-found.npy"
            np.save(temporary, found.astype(np.float16))
            temporary.rename(path / "chi-found.npy")
        if job.beyond and not all((path / f"{name}.npy").exists() for name in SURROUNDINGS.values()):
            _add_surroundings(job)


def _add_surroundings(job: _Job) -> None:
    """Fields beyond the brain beside the other volumes of a head that may have been made long before."""
    head = _open(job.path)
    found = surroundings(job.number, job.seed, anatomy=job.anatomy, textured=job.textured)
    known, inside = head.volume("total-field"), np.asarray(head.volume("mask"))
    again = found["total-field-head"]
    inside = inside & (again != 0) if again.shape == inside.shape else inside
    if again.shape != inside.shape or np.abs(again - known)[inside].max() > LARGEST_DIFFERENCE_PPM:
        raise ValueError(f"{job.path}: this head comes out otherwise here, so that its surroundings cannot be added; "
                         "give another folder of heads.")  # fmt: skip
    for name, image in found.items():
        temporary = job.path / f".{name}.npy"
        np.save(temporary, image.astype(_kind(name)))
        temporary.rename(job.path / f"{name}.npy")


def _kind(name: str) -> type:
    return KINDS.get(name, np.float16)


def _open(path: Path) -> Head:
    facts = json.loads((path / "head.json").read_text("utf-8"))
    return Head(path, tuple(facts.get("b0_direction", ALONG_THIRD_AXIS)), tuple(facts["shape"]))
