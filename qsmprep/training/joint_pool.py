"""Heads with labels of one's own, kept on disk beside the simulated ones; who is trained on and who is held out."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from qsmprep.bids.joint_maps import OPTION, JointMap, find_joint_maps
from qsmprep.bids.names import bare_label
from qsmprep.bids.outputs import write_json
from qsmprep.nets.geometry import SAME_SIZE
from qsmprep.nets.spec import NetworkSpec, quantities
from qsmprep.numerics.progress import Progress
from qsmprep.numerics.threads import available_cores, use_threads
from qsmprep.training.heads import VOXEL_SIZE_MM
from qsmprep.training.joint_heads import (
    JOINT_HEADS_VERSION,
    joint_heads,
    label_methods,
    needed_files,
    voxel_size_mm,
)
from qsmprep.training.pool import Head

TITLES = {
    "cosmos": "COSMOS maps",
    "sti-mean": "mean susceptibility of tensors (STI)",
    "sti": "susceptibility tensors (STI)",
    "chisep-cosmos": "sources by chi-separation COSMOS",
}


@dataclass(frozen=True)
class Labels:
    """Heads with labels of one's own.

    Attributes
    ----------
    training, validation : a head for each orientation.
    facts : for the card: method, participants, orientations of each, voxel size, who was held out, hashes of the files.
    """

    training: tuple[Head, ...]
    validation: tuple[Head, ...]
    facts: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """What tells these labels, and who of them is trained on, from all others."""
        return hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()

    @property
    def words(self) -> str:
        """What they are, in words."""
        facts = self.facts
        trained, held = facts["participants"], facts["validation participants"]
        count = sum(facts["orientations"][name] for name in trained)
        people = f"{len(trained)} participant{'s' if len(trained) > 1 else ''}"
        judged = f"judged on {', '.join(held)}" if held else "judged on no one else"
        size = facts["voxel size (mm)"]
        return f"{TITLES[facts['method']]} of {people} in {count} orientations at {size:g} mm, {judged}"


def label_pool(
    folder: Path,
    derivatives: Sequence[Path],
    spec: NetworkSpec,
    *,
    validation: Sequence[str] = (),
    simulated: int = 0,
    progress: Progress | None = None,
) -> Labels:
    """The heads of all joint maps in derivatives of this program, made on all cores where they are not yet kept.

    A participant is one person in all of the derivatives. Without `validation` the last one by name is held out; of a
    single participant none is, and validation is of the heads that are trained on.

    Parameters
    ----------
    folder : where heads are kept.
    derivatives : folders that `qsmprep --multi-orientation` has written.
    spec : of the network.
    validation : labels of the participants to hold out.
    simulated : number of simulated heads that these are joined to.
    progress : called as progress(done, total) in sessions.

    Raises
    ------
    ValueError : labels that do not fit the network, are of other voxel sizes than each other or than simulated heads,
        or are nowhere to be found; a participant that does not exist, or none left to train on.
    """
    sessions = _sessions(derivatives, spec)
    size = _common_size(sessions)
    if simulated and abs(size - VOXEL_SIZE_MM[0]) > SAME_SIZE * size:
        raise ValueError(f"{_file(sessions[0])} has voxels of {size:.3g} mm, the simulated heads of the recipe of "
                         f"{VOXEL_SIZE_MM[0]:g} mm. Set heads = 0 in [data] to train on labels alone.")  # fmt: skip
    people = sorted({session.participant for session in sessions})
    held = _held_out(people, validation)
    hashes = [_hashes(s, spec, derivatives) for s in sessions]
    wanted = [quantities(spec.inputs), spec.knows_kernel]
    paths = [
        Path(folder) / f"joint-{JOINT_HEADS_VERSION}-{_digest_of([s.method, files, wanted])}"
        for s, files in zip(sessions, hashes, strict=True)
    ]
    jobs = [(path, s, spec) for path, s in zip(paths, sessions, strict=True) if not (path / "session.json").exists()]
    if jobs:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with get_context("spawn").Pool(min(available_cores(), len(jobs))) as pool:
            for done, _ in enumerate(pool.imap_unordered(_make, jobs), 1):
                if progress is not None:
                    progress(done, len(jobs))
    training: list[Head] = []
    checks: list[Head] = []
    for path, session in zip(paths, sessions, strict=True):
        (checks if session.participant in held else training).extend(_open(path))
    orientations = {name: sum(len(s.runs) for s in sessions if s.participant == name) for name in people}
    facts = {
        "method": sessions[0].method,
        "participants": [name for name in people if name not in held],
        "validation participants": held,
        "orientations": orientations,
        "voxel size (mm)": size,
        "sha256": {name: digest for files in hashes for name, digest in files.items()},
    }
    return Labels(tuple(training), tuple(checks or training), facts)


def _sessions(derivatives: Sequence[Path], spec: NetworkSpec) -> list[JointMap]:
    methods = label_methods(spec)
    for method in methods:
        if sessions := [session for folder in derivatives for session in find_joint_maps(folder, method)]:
            return sessions
    needed = " or ".join(dict.fromkeys(OPTION[method] for method in methods))
    folders = ", ".join(str(folder) for folder in derivatives)
    raise ValueError(f"{folders}: no map that {spec.name} could be trained on. Make one with qsmprep "
                     f"--multi-orientation {needed}.")  # fmt: skip


def _common_size(sessions: Sequence[JointMap]) -> float:
    sizes = [voxel_size_mm(session) for session in sessions]
    for session, size in zip(sessions, sizes, strict=True):
        if abs(size - sizes[0]) > SAME_SIZE * sizes[0]:
            one, other = _file(sessions[0]), _file(session)
            raise ValueError(f"{one} has voxels of {sizes[0]:.3g} mm, {other} of {size:.3g} mm; one network is trained "
                             "on one voxel size. Train them apart.")  # fmt: skip
    return sizes[0]


def _file(session: JointMap) -> Path:
    return next(iter(session.maps.values()))


def _held_out(people: Sequence[str], validation: Sequence[str]) -> list[str]:
    asked = [bare_label(name, "sub") for name in validation]
    if unknown := [name for name in asked if name not in people]:
        raise ValueError(f"--validation-participants {unknown[0]}: there are labels of {', '.join(people)} only.")
    if people and set(asked) == set(people):
        raise ValueError("--validation-participants leaves no one to train on.")
    if asked:
        return sorted(set(asked))
    return [people[-1]] if len(people) > 1 else []


def _make(job: tuple[Path, JointMap, NetworkSpec]) -> None:
    path, session, spec = job
    temporary = path.with_name(f".{path.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    with use_threads(1):
        names = []
        for number, (volumes, facts) in enumerate(joint_heads(session, spec)):
            names.append(f"orientation-{number}")
            (temporary / names[-1]).mkdir(parents=True)
            for name, image in volumes.items():
                np.save(temporary / names[-1] / f"{name}.npy", image.astype(bool if name == "mask" else np.float16))
            write_json(temporary / names[-1] / "head.json", {**facts, "shape": list(volumes["mask"].shape)})
    write_json(temporary / "session.json", {"heads": names})
    temporary.rename(path)


def _open(path: Path) -> list[Head]:
    names = json.loads((path / "session.json").read_text("utf-8"))["heads"]
    facts = [json.loads((path / name / "head.json").read_text("utf-8")) for name in names]
    return [
        Head(path / name, tuple(f["b0_direction"]), tuple(f["shape"]), f["voxel_size_mm"], measured=True)
        for name, f in zip(names, facts, strict=True)
    ]


def _hashes(session: JointMap, spec: NetworkSpec, derivatives: Sequence[Path]) -> dict[str, str]:
    """SHA-256 of the files of a session by their names, after the number of their dataset where there are several."""
    before = f"{[Path(f) for f in derivatives].index(session.folder) + 1}/" if len(derivatives) > 1 else ""
    files = needed_files(session, spec)
    return {before + path.relative_to(session.folder).as_posix(): _digest(path) for path in files}


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _digest_of(document: Any) -> str:
    return hashlib.sha256(json.dumps(document).encode()).hexdigest()[:16]
