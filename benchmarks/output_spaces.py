"""How well maps are brought into the space of a template: error of the transform, and Dice of tissues.

    python benchmarks/output_spaces.py [--voxel-size 2]

Simulated heads of ICBM152 whose true transform is known: susceptibility by the default pipeline, T1w images by bending
the template's own. The other template is the T1w image of ICBM 2009a (nilearn), bent by a few millimetres, as the
templates of one family differ. Writes benchmarks/output_spaces.md.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
from regions import FRESH
from scipy.ndimage import gaussian_filter, map_coordinates

from qsmprep.analysis.brain_registration import grid_places, mapped
from qsmprep.analysis.template_space import SpaceTemplate, lay_in_template, own_space, space_of_t1w
from qsmprep.interfaces.template import load_brain_template
from qsmprep.phantom.anatomy import rotation
from qsmprep.phantom.head import simulate_head
from qsmprep.phantom.options import SimulationOptions
from qsmprep.phantom.person import draw_person
from qsmprep.phantom.person_head import CENTRE_MM
from qsmprep.phantom.template import STEM, template_folder
from qsmprep.phantom.tissues import DEEP_GREY
from qsmprep.pipeline import reconstruct

OUTPUT = Path(__file__).with_suffix(".md")
HEADS = ("icbm152, head nods 15", "icbm152, head nods -15, tilts 8", "icbm152, thick, noisy, lesions")
INTRODUCTION = """\
# Maps in the space of a template

Made by `benchmarks/output_spaces.py` ({edge:g} mm voxels, default pipeline). Heads deformed, tilted and scaled
at random from ICBM152; the true transform of each is known. The T1w images are the template's own, bent to the heads,
shaded and noisy, so that a person's fits less well; the nuclei of the heads have the shapes of the package's template.

The error is the distance in the template between where a voxel of it is taken from and where it should be, mean and
95th percentile, in the brain and in the nuclei. Dice: labels of the head brought into the template by the transform
found and by the true one. `r`: correlation of susceptibility around the nuclei, as the report tells it. "Other
template" differs from ICBM 2009a by {bent:.1f} mm on average.

"""


def bent(points: np.ndarray) -> np.ndarray:
    """Points of the other template in ICBM 2009a."""
    x, y, z = points
    return np.stack([x + 2 * np.sin(y / 22 + 0.5), y + 2.5 * np.sin(z / 25), z + 2 * np.cos(x / 20) - 1])


def looked_up(volume: np.ndarray, affine: np.ndarray, points: np.ndarray, order: int = 1) -> np.ndarray:
    return map_coordinates(volume, mapped(np.linalg.inv(affine), points.astype(np.float32)), order=order,
                           output=np.float32)  # fmt: skip


def true_points(options: SimulationOptions, shape: tuple[int, ...]) -> np.ndarray:
    """Where each voxel of a head lies in ICBM 2009a, mm."""
    size = np.array(options.voxel_size_mm())
    places = grid_places(shape) * size.reshape(3, 1, 1, 1) - (size * (np.array(shape) - 1) / 2).reshape(3, 1, 1, 1)
    turn = rotation(1, options.head_tilt_y) @ rotation(0, options.head_tilt_x)
    person = draw_person(options, 0, turn, np.array(CENTRE_MM))
    points = np.tensordot(person.turn, places, 1) + person.offset_mm.reshape(3, 1, 1, 1)
    lattice = person.displacement
    at = (points - lattice.first_mm.reshape(3, 1, 1, 1)) / lattice.step_mm
    return points + np.stack([map_coordinates(lattice.volume[..., c], at, order=1) for c in range(3)])


def row(space: SpaceTemplate, head, images: tuple, truth: np.ndarray, t1w, want) -> list[str]:
    """Errors and Dice of one registration."""
    found = lay_in_template(space, *images, head.affine, t1w=t1w)
    target = space.images
    here = mapped(target.affine, grid_places(target.mask.shape))
    at = found.deformation.places_in(head.affine)
    got = np.stack([map_coordinates(part, at, order=1, mode="nearest") for part in truth])
    error = np.linalg.norm(got - want(here), axis=0)
    labels = map_coordinates(head.labels, at, order=0)
    brain = target.mask & (map_coordinates(head.brain_mask.astype(np.float32), at, order=1) > 0.5)
    numbers = {name: index for index, name in head.label_names.items()}
    nuclei = [numbers[name] for name in DEEP_GREY]
    # The true way from the template to the head: the found one, corrected until its true place is right.
    true = at.copy()
    slope = np.linalg.inv(head.affine[:3, :3])
    for _ in range(30):
        place = np.stack([map_coordinates(part, true, order=1, mode="nearest") for part in truth])
        true += np.tensordot(slope, want(here) - place, 1).astype(np.float32) * 0.9
    right = map_coordinates(head.labels, true, order=0)
    cells = []
    for chosen in (nuclei, [numbers["white_matter"]], [numbers["grey_matter"]]):
        one, other = np.isin(labels, chosen) & brain, np.isin(right, chosen) & brain
        cells.append(f"{2 * (one & other).sum() / (one.sum() + other.sum()):.2f}")
    parts = [brain, brain & np.isin(labels, nuclei)]
    errors = [f"{error[where].mean():.1f}, {np.percentile(error[where], 95):.1f}" for where in parts]
    told = (found.overlap, found.deformation.likeness, found.nuclei_correlation, found.smallest_jacobian)
    return [*errors, *cells, *(f"{value:.2f}" for value in told)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--voxel-size", type=float, default=2.0)
    edge = parser.parse_args().voxel_size
    image = nib.load(template_folder() / STEM.format("t1"))
    t1w, affine = np.asarray(image.dataobj, np.float32), image.affine
    points = mapped(affine, grid_places(t1w.shape))
    own = load_brain_template()
    other = looked_up(t1w, affine, bent(points))
    inside = gaussian_filter((other > 0).astype(np.float32), 1) > 0.5
    spaces = {"ICBM 2009a (the package's own)": (own_space(own), lambda x: x),
              "other template": (space_of_t1w(other, inside, affine, own), bent)}  # fmt: skip
    rows = []
    for name in HEADS:
        options = FRESH[name]
        sizes = np.array(options.voxel_size_mm()) / min(options.voxel_size_mm()) * edge
        options = replace(options, voxel_size=",".join(f"{h:g}" for h in sizes))
        head = simulate_head(options)
        result = reconstruct(head.magnitude, head.phase, head.scan)
        truth = true_points(options, head.brain_mask.shape)
        own_t1w = looked_up(t1w, affine, truth) * (1 + 0.2 * np.sin(np.arange(truth.shape[2]) / 30))[None, :, None]
        own_t1w += np.random.default_rng(0).normal(0, 0.03 * own_t1w.max(), own_t1w.shape)
        images = np.sqrt(np.square(head.magnitude).sum(0)), result.chi_ppm, result.masks.brain
        for space, (target, want) in spaces.items():
            for by, seen in {"susceptibility": None, "T1w": own_t1w}.items():
                if seen is None or target.images.t1w is not None:
                    rows.append([name, space, by, *row(target, head, images, truth, seen, want)])
                    print(" | ".join(rows[-1]), flush=True)
    heading = ["head", "space", "by", "brain [mm]", "nuclei [mm]", "Dice nuclei", "white", "grey", "overlap",
               "likeness", "r", "Jacobian"]  # fmt: skip
    lines = ["| " + " | ".join(cells) + " |" for cells in (heading, ["---"] * len(heading), *rows)]
    away = np.linalg.norm(bent(points) - points, axis=0)[inside].mean()
    OUTPUT.write_text(INTRODUCTION.format(edge=edge, bent=away) + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
