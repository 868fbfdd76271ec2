"""Make the template of regions that the package ships: the simulated head without variation, and its labels.

    python benchmarks/brain_template.py

It needs nilearn (extra `heads`), whose ICBM152 maps tell grey matter, white matter and fluid. The notice that McGill
University's licence asks for is written beside the file.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_dilation, distance_transform_edt, label

from qsmprep.analysis.brain_template import NAMES
from qsmprep.interfaces.template import CHI_SCALE_PPM, FILE
from qsmprep.phantom.grid import slab_affine
from qsmprep.phantom.head import simulate_head
from qsmprep.phantom.options import FIELD_OF_VIEW_MM, SimulationOptions
from qsmprep.phantom.person import draw_person
from qsmprep.phantom.person_head import CENTRE_MM
from qsmprep.phantom.person_rendering import render_person
from qsmprep.phantom.tissues import DEEP_GREY, TISSUES

IMAGE_MM, LABEL_MM = 2, 1
MARGIN_MM = 6
NEAR_MM, CLEAR_MM = 9.0, 1.5  # of nuclei: how far the internal capsule reaches, and what white matter keeps off them
CAPSULE_CLEAR_MM = 2.5
CORE_MM = 1.5  # of white matter within its border
HULL_MM = 15.0  # under the brain's surface: deeper than sulci
NOTICE = """\
The template of regions `brain_template.npz` was made by benchmarks/brain_template.py from the tissue maps of the
ICBM 152 nonlinear symmetric template 2009a, as the Python package nilearn carries them (1 mm), and from nuclei that
were placed by hand. It holds no scan of a person. The notice of the template:

Copyright (C) 1993-2004 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute, McGill
University. Permission to use, copy, modify, and distribute this software and its documentation for any purpose and
without fee is hereby granted, provided that the above copyright notice appear in all copies. The authors and McGill
University make no representations about the suitability of this software for any purpose. It is provided "as is"
without express or implied warranty. The authors are not responsible for any data loss, equipment damage, property
loss, or injury to subjects or patients resulting from the use or misuse of this software package.

V. Fonov, A. C. Evans, K. Botteron, C. R. Almli, R. C. McKinstry, D. L. Collins: Unbiased average age-appropriate
atlases for pediatric studies. NeuroImage 54:313-327, 2011.
"""


def main() -> None:
    options = SimulationOptions(anatomy="icbm152", voxel_size=str(IMAGE_MM), oversampling=2, peak_snr=0.0)
    head = simulate_head(options)
    magnitude = np.sqrt(np.square(head.magnitude).sum(0))
    mask = head.brain_mask
    chi = np.where(mask, head.chi_ppm - head.chi_ppm[mask].mean(), 0)
    tissues, first = tissue_labels(options)
    affine = slab_affine(replace(options, voxel_size=str(LABEL_MM), oversampling=1))
    brain = distance_transform_edt(np.isin(tissues, [t.label for t in TISSUES.values() if t.place == "brain"]))
    labels = region_labels(tissues, first, brain)
    shown, image_affine = cropped([magnitude, chi, mask], head.affine, mask, MARGIN_MM)
    (held,), label_affine = cropped([labels], affine, labels > 0, MARGIN_MM)
    top = np.percentile(shown[0][shown[2]], 99.9)
    np.savez_compressed(
        FILE,
        magnitude=np.rint(np.clip(shown[0] * shown[2] / top, 0, 1) * 255).astype(np.uint8),
        chi=np.rint(np.clip(shown[1] / CHI_SCALE_PPM, -127, 127)).astype(np.int8),
        mask=shown[2],
        affine=image_affine,
        labels=held,
        labels_affine=label_affine,
    )
    Path(FILE).with_suffix(".txt").write_text(NOTICE, encoding="utf-8")
    counts = {name: int(np.count_nonzero(held == number)) for number, name in NAMES.items()}
    print(f"{Path(FILE).stat().st_size / 1e6:.2f} MB", counts)


def tissue_labels(options: SimulationOptions) -> tuple[np.ndarray, np.ndarray]:
    """Tissue of each millimetre of the head that `options` simulate, and where the first voxel lies, in mm."""
    shape = tuple(round(edge / LABEL_MM) for edge in FIELD_OF_VIEW_MM["icbm152"])
    first = -LABEL_MM * (np.array(shape) - 1) / 2
    person = draw_person(options, 0, np.eye(3), np.array(CENTRE_MM))
    return render_person(person, shape, (LABEL_MM,) * 3, tuple(first), options.field_strength, 0.0)[1], first


def region_labels(tissues: np.ndarray, first: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """The regions, numbered as `NAMES`: nuclei of both sides, internal capsule, core of white matter, ventricles."""
    number = {name: index for index, name in NAMES.items()}
    x, y, z = (
        np.arange(n).reshape([-1 if i == axis else 1 for i in range(3)]) * LABEL_MM + first[axis] + CENTRE_MM[axis]
        for axis, n in enumerate(tissues.shape)
    )

    def tissue(*names: str) -> np.ndarray:
        return np.isin(tissues, [TISSUES[name].label for name in names])

    def distance(*names: str) -> np.ndarray:
        return distance_transform_edt(~tissue(*names)) * LABEL_MM

    labels = np.zeros(tissues.shape, np.uint8)
    white = tissue("white_matter")
    medial, lateral = distance("caudate", "thalamus"), distance("putamen", "globus_pallidus")
    any_nucleus = distance(*DEEP_GREY)
    lamina = (distance("putamen") < 4) & (distance("globus_pallidus") < 4)
    capsule = white & (medial < NEAR_MM) & (lateral < NEAR_MM) & (any_nucleus > CAPSULE_CLEAR_MM) & ~lamina
    capsule &= (z > -4) & (z < 22)
    core = distance_transform_edt(white) * LABEL_MM > CORE_MM
    cerebral = (z > -6) | ((y > -38) & (abs(x) > 24))
    labels[core & cerebral & ~capsule & (any_nucleus > CLEAR_MM)] = number["white_matter"]
    for name in (*DEEP_GREY, "internal_capsule"):
        whole = capsule if name == "internal_capsule" else tissue(name)
        labels[whole & (x < 0)] = number[f"left_{name}"]
        labels[whole & (x >= 0)] = number[f"right_{name}"]
    fluid = tissue("ventricle") & (depth * LABEL_MM > HULL_MM) & (abs(x) > 1.5) & (abs(x) < 40) & (y > -60) & (z < 35)
    fluid &= z > -22
    parts, _ = label(fluid)
    seeds = fluid & (abs(abs(x) - 9) < 6) & (abs(y - 10) < 20) & (abs(z - 12) < 10)
    kept = np.isin(parts, np.unique(parts[seeds & (parts > 0)]))
    labels[kept] = number["lateral_ventricles"]
    return labels


def cropped(volumes: list, affine: np.ndarray, region: np.ndarray, margin_mm: float) -> tuple[list, np.ndarray]:
    """Volumes cut to the box of a region with a margin, and their affine."""
    wide = binary_dilation(region, iterations=max(1, round(margin_mm / affine[0, 0])))
    places = np.argwhere(wide)
    low, high = places.min(0), places.max(0) + 1
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ low
    return [volume[box] for volume in volumes], moved


if __name__ == "__main__":
    main()
