"""Run the node of one step on files, outside of any dataset, and write what it gives with sidecars."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from qsmprep import registry
from qsmprep.app.networks import find_network
from qsmprep.app.single_steps import FIELDS, IMAGES, OF_ECHOES, SingleStep
from qsmprep.app.volumes import read_mask_of_user
from qsmprep.bids.grid import Grid, grid_difference
from qsmprep.bids.images import read_header
from qsmprep.bids.outputs import write_image, write_json
from qsmprep.bids.problem import Problem
from qsmprep.bids.provenance import software_versions
from qsmprep.engine import iterations
from qsmprep.interfaces.images import as_echoes, read_grid, read_volume, write_volume
from qsmprep.interfaces.inversion import IMAGES as TAKEN
from qsmprep.numerics.units import GYROMAGNETIC_RATIO_MHZ_PER_T
from qsmprep.scan import NotKnownError

MASKS = ("mask", "total_mask", "chi_mask")
NO_WRAPS_S = 1e-9  # an echo spacing so short that no step of the field is taken for a wrap
FLAGS = {"echo_times_s": "--echo-times", "centre_frequency_mhz": "--field-strength"}


@dataclass(frozen=True)
class Asked:
    """What a single step is asked to do.

    Attributes
    ----------
    images : image of `IMAGES` -> its files.
    output : NIfTI file of the main result; further ones stand beside it under its name with an ending.
    method, options : of the registry, or the options of the step where it has no methods.
    unit : of the fields: Hz, rad/s or ppm.
    echo_times_s, frequency_mhz, b0 : in place of what the sidecars and the affine tell.
    threads, device : of the solver.
    receive : told how far iterations are.
    command : as typed.
    """

    images: Mapping[str, Sequence[Path]]
    output: Path
    method: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    unit: str = "Hz"
    echo_times_s: tuple[float, ...] = ()
    frequency_mhz: float | None = None
    b0: tuple[float, ...] = ()
    threads: int = 1
    device: str = "cpu"
    receive: iterations.Receiver = lambda _: None
    command: str = ""


def run_single(step: SingleStep, asked: Asked) -> tuple[list[Path], list[str]]:
    """Run it. Returns the images written, and what was assumed, in words.

    Raises
    ------
    ValueError : names the file or the flag, and the remedy.
    """
    _check_given(step, asked)
    grid = _common_grid(asked.images)
    times, frequency, notes = _timing(asked)
    module, _, name = step.node.rpartition(".")
    interface = getattr(import_module(f"qsmprep.interfaces.{module}"), name)()
    known = interface.inputs.copyable_trait_names()
    facts: dict[str, Any] = {
        "echo_times": list(times), "centre_frequency": frequency, "b0_direction": list(asked.b0) or None,
        "num_threads": asked.threads, "device": asked.device, "method": asked.method or None,
        "options": dict(asked.options), "relaxometric": {}, "source": {}, "preparation": {}, "refinement": {},
    }  # fmt: skip
    if "echo_spacing" in known:
        facts["echo_spacing"] = times[1] - times[0] if len(times) > 1 else times[0] if times else NO_WRAPS_S
        notes += [] if times else ["The echo times are not known: wraps left in the field are not looked for."]
    if "centre_frequency" in known and frequency is None and interface.inputs.trait("centre_frequency").mandatory:
        raise ValueError("The centre frequency is not known: give --field-strength, or a sidecar with ImagingFrequency "
                         "or MagneticFieldStrength beside an image.")  # fmt: skip
    for trait, value in facts.items():
        if trait in known and value is not None:
            setattr(interface.inputs, trait, value)
    method = registry.find(step.stage, asked.method) if asked.method else None
    if method is not None and method.needs_network() and (typed := method.options_type()) is not None:
        found = find_network(typed(**asked.options), asked.method, grid.shape, grid.voxel_size_mm)
        interface.inputs.trait_set(network=str(found.path), card=str(found.card))
    with tempfile.TemporaryDirectory(prefix="qsmprep-step-") as folder:
        for image, paths in asked.images.items():
            trait = step.traits.get(image, image)
            setattr(interface.inputs, trait, _prepared(image, paths, asked, frequency, Path(folder)))
        if "chi_mask" in step.takes and "chi_mask" not in asked.images:
            interface.inputs.chi_mask = interface.inputs.mask
        try:
            with iterations.told_to(asked.receive):
                outputs = interface.run(cwd=folder).outputs
        except NotKnownError as error:
            raise ValueError(f"{error} ({FLAGS.get(error.name, '')}, or a sidecar beside the images)") from None
        record = json.loads(Path(outputs.record).read_text("utf-8"))["record"]
        facts = {"EchoTime": list(times), "ImagingFrequency": frequency, "ProcessingSteps": [record]}
        return _write(step, asked, grid, outputs, {key: value for key, value in facts.items() if value}), notes


def _check_given(step: SingleStep, asked: Asked) -> None:
    """Refuse a call that lacks an image which the step or the method needs."""
    missing = [image for image in step.needs if image not in asked.images]
    if step.stage == "inversion":
        wanted = registry.find(step.stage, asked.method).required()
        missing += [TAKEN[name] for name in wanted if name in TAKEN and TAKEN[name] not in asked.images]
    if missing:
        told = ", ".join(f"--{image.replace('_', '-')} ({IMAGES[image]})" for image in dict.fromkeys(missing))
        raise ValueError(f"{asked.method or 'this step'} needs {told}.")


def _common_grid(images: Mapping[str, Sequence[Path]]) -> Grid:
    """The grid of the first image; ValueError where a file cannot be read or another's grid differs."""
    first: tuple[Path, Grid] | None = None
    for image, paths in images.items():
        for path in paths:
            header = read_header(path)
            if isinstance(header, Problem):
                raise ValueError(str(header))
            if len(header.grid) != 3 and image not in OF_ECHOES:
                raise ValueError(
                    f"{path}: an image of shape {header.shape}; --{image.replace('_', '-')} is one volume."
                )
            grid = read_grid(path)
            if first is None:
                first = path, grid
            elif difference := grid_difference(first[1], grid):
                raise ValueError(f"{path} does not lie on the grid of {first[0]}: {difference}. Resample one of them.")
    assert first is not None  # every step needs an image
    return first[1]


def _timing(asked: Asked) -> tuple[tuple[float, ...], float | None, list[str]]:
    """Echo times in s, the centre frequency in MHz, and what was assumed; from the flags, else from sidecars."""
    times, frequency, notes = asked.echo_times_s, asked.frequency_mhz, list[str]()
    for image in (*OF_ECHOES, *(name for name in asked.images if name not in (*OF_ECHOES, *MASKS))):
        cards = [(path, _sidecar(path)) for path in asked.images.get(image, ())]
        told = [card["EchoTime"] for _, card in cards if "EchoTime" in card]
        if not times and told and len(told) == len(cards):
            flat = told[0] if isinstance(told[0], list) else told
            times = tuple(float(time) for time in flat)
            notes.append(f"Echo times from the sidecar of {cards[0][0].name}: {', '.join(f'{t:g}' for t in times)} s.")
        for path, card in cards:
            if frequency is None and isinstance(card.get("ImagingFrequency"), int | float):
                frequency = float(card["ImagingFrequency"])
                notes.append(f"Centre frequency from the sidecar of {path.name}: {frequency:g} MHz.")
            elif frequency is None and isinstance(card.get("MagneticFieldStrength"), int | float):
                frequency = float(card["MagneticFieldStrength"]) * GYROMAGNETIC_RATIO_MHZ_PER_T
                notes.append(f"Field strength from the sidecar of {path.name}: {card['MagneticFieldStrength']:g} T.")
    return times, frequency, notes


def _sidecar(path: Path) -> dict[str, Any]:
    beside = path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".json")
    if not beside.is_file():
        return {}
    try:
        found = json.loads(beside.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{beside}: not readable ({error}). Mend or remove it.") from None
    return found if isinstance(found, dict) else {}


def _prepared(image: str, paths: Sequence[Path], asked: Asked, frequency: float | None, folder: Path) -> str:
    """The file that the node is given: the user's own, or one with the echoes joined or the field in Hz."""
    target = folder / f"{image}.nii"
    if image in MASKS:
        return write_volume(target, read_mask_of_user(paths[0]), read_grid(paths[0]))
    if image in FIELDS and asked.unit != "Hz":
        if asked.unit == "ppm" and frequency is None:
            raise ValueError("--unit ppm: the centre frequency is not known; give --field-strength.")
        factor = 1 / (2 * np.pi) if asked.unit == "rad/s" else float(frequency or 0)
        return write_volume(target, read_volume(paths[0]) * np.float32(factor), read_grid(paths[0]))
    if len(paths) > 1:
        return write_volume(
            target, np.concatenate([as_echoes(read_volume(path)) for path in paths]), read_grid(paths[0])
        )
    return str(paths[0])


def _write(step: SingleStep, asked: Asked, grid: Grid, outputs: Any, facts: Mapping[str, Any]) -> list[Path]:
    """Write the results with their sidecars and return the images' paths, the main one first."""
    paths = step.outputs(asked.output)
    sources = [str(path) for paths in asked.images.values() for path in paths]
    software, written = software_versions(), []
    for number, (name, unit) in enumerate(step.gives.items()):
        path = paths[number]
        volume = read_volume(getattr(outputs, name))
        write_image(path, np.moveaxis(volume, 0, -1) if volume.ndim == 4 else volume, grid, mask=unit == "")
        document = {"Units": unit, "Sources": sources, "Command": asked.command, **facts,
                    "ProcessingSoftware": software}  # fmt: skip
        left_out = () if unit in ("rad", "Hz") else ("EchoTime",) if unit else ("EchoTime", "Units")
        document = {key: value for key, value in document.items() if key not in left_out}
        write_json(path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".json"), document)
        written.append(path)
    return written
