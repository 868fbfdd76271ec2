"""Whether the lengths in the settings fit the images: spheres that no mask can hold, and lengths of human heads."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from nibabel.spatialimages import SpatialImage

from qsmprep.background.vsharp import VsharpOptions
from qsmprep.inversion.fansi import FansiOptions
from qsmprep.options import unit_of
from qsmprep.phase.mcpc3ds import Mcpc3dsOptions
from qsmprep.settings import Settings

# A human head has no smaller field of view, along its longest edge; one of 200 mm is what the defaults are made for.
SMALL_VIEW_MM = 80.0
HUMAN_VIEW_MM = 200.0
# By how much a length may exceed that of a human head of the same scale before it spoils the map.
SLACK = 3.0


def check_lengths(name: str, settings: Settings, image: SpatialImage, *, echoes: int) -> None:
    """Refuse lengths that do not fit the images of a run of that name; the message tells which ones would.

    Raises
    ------
    ValueError : a sphere that no mask on these images can hold, or lengths of a human head for a much smaller one.
    """
    edges = [n * float(h) for n, h in zip(image.shape[:3], image.header.get_zooms()[:3], strict=True)]
    voxel = float(min(image.header.get_zooms()[:3]))
    if max(edges) < SMALL_VIEW_MM:
        remedies = list(_remedies(settings, max(edges), echoes))
        if remedies:
            raise ValueError(
                f"{name}: the field of view is {max(edges):.3g} mm long, too small for a human head, for which lengths "
                f"in the settings are made. Give {' '.join(remedies)}, or smaller values."
            )
    _check_radii(settings, edges, voxel)


def _remedies(settings: Settings, view_mm: float, echoes: int) -> Iterator[str]:
    """The flags that bring the settings to the scale of an object in a small field of view."""
    scale = view_mm / HUMAN_VIEW_MM
    if "mcpc-3d-s" in settings.methods["phase-offset"] and echoes > 1:
        offset = Mcpc3dsOptions().sigma_mm * scale
        if settings.options_of("phase-offset", "mcpc-3d-s").sigma_mm > SLACK * offset:
            yield f"--mcpc-3d-s-sigma-mm {offset:.2g}"
    if "v-sharp" in settings.methods["background"]:
        spheres = settings.options_of("background", "v-sharp")
        if spheres.radius_unit == "mm" and spheres.max_radius > SLACK * VsharpOptions().max_radius * scale:
            yield "--v-sharp-radius-unit voxel"
    if "fansi" in settings.methods["inversion"]:
        penalty = settings.options_of("inversion", "fansi")
        if penalty.gradient_per == "mm" and penalty.alpha1 == FansiOptions().alpha1:
            yield "--fansi-gradient-per voxel"


def _check_radii(settings: Settings, edges: list[float], voxel: float) -> None:
    """Refuse a sphere that no mask on images of these edges in mm can hold."""
    for stage in ("background", "inversion"):
        for method in settings.methods[stage]:
            options = settings.options_of(stage, method)
            for field in dataclasses.fields(options) if options is not None else ():
                if not field.name.endswith("radius") or field.name == "max_radius":  # V-SHARP takes smaller ones then
                    continue
                unit = unit_of(options, field)
                length = voxel if unit.startswith("voxel") else 1.0
                largest = min(edges) / 2 / length
                if (radius := getattr(options, field.name)) > largest:
                    flag = f"--{method}-{field.name.replace('_', '-')}"
                    raise ValueError(f"{flag} is {radius:g} {unit}, more than half of the images' smallest edge: "
                                     f"allowed is [{field.metadata['low']:g}, {largest:g}] {unit}.")  # fmt: skip
