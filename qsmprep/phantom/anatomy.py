"""The ellipsoid head: which body is where. Millimetres; x right, y anterior, z superior.

Brain, head, nuclei and air cavities have fixed sizes. The layers between brain and head surface (CSF, skull, scalp)
divide the gap in the proportion 3 : 5 : 6, so they are nested whatever the two ellipsoids are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from qsmprep.phantom.options import SimulationOptions

HEAD = ((0.0, 0.0, 0.0), (75.0, 92.0, 95.0))
BRAIN = ((0.0, 0.0, 10.0), (68.0, 82.0, 66.0))
GREY_MATTER_THICKNESS = 3.0
CSF_SHARE, SKULL_SHARE = 3 / 14, 8 / 14
VEIN_RADIUS = 1.5
LESION_RADIUS = 4.0

# Of each pair the right one; the left one mirrors it. Painted in this order, later over earlier.
PAIRS = (
    ("ventricle", (10.0, 0.0, 14.0), (7.0, 24.0, 9.0)),
    ("caudate", (16.0, 12.0, 12.0), (5.0, 12.0, 7.0)),
    ("putamen", (26.0, 3.0, 2.0), (5.0, 15.0, 9.0)),
    ("globus_pallidus", (18.0, 1.0, 0.0), (4.0, 9.0, 7.0)),
    ("thalamus", (11.0, -16.0, 4.0), (9.0, 14.0, 8.0)),
    ("red_nucleus", (5.0, -18.0, -12.0), (3.5, 3.5, 4.0)),
    ("substantia_nigra", (11.0, -16.0, -16.0), (3.0, 9.0, 4.0)),
    ("dentate_nucleus", (15.0, -55.0, -32.0), (6.0, 8.0, 4.0)),
)
VEINS = (
    ((6.0, 0.0, 45.0), (0.0, 1.0, 0.0)),
    ((-30.0, 0.0, 30.0), (0.0, np.sqrt(0.5), np.sqrt(0.5))),
)
SINUS = ((0.0, 78.0, -28.0), (16.0, 12.0, 14.0))
EAR_CANAL = ((58.0, -8.0, -42.0), (10.0, 12.0, 8.0))
CALCIFICATION_CENTRE = (20.0, 40.0, 20.0)
BLEED_CENTRE = (-20.0, 40.0, 20.0)


@dataclass(frozen=True)
class Body:
    """A solid (p - centre)' form (p - centre) <= 1 of one tissue, inside `clip` where that is given.

    Attributes
    ----------
    tissue : name in the table of tissues.
    centre : mm.
    form : (3, 3) positive semidefinite matrix, 1/mm^2.
    clip : tissue name of the body outside of which this one ends; empty for none.
    strength : factor on the tissue's susceptibilities.
    """

    tissue: str
    centre: tuple[float, float, float]
    form: np.ndarray
    clip: str = ""
    strength: float = 1.0


def ellipsoid(tissue: str, centre, semi_axes, clip: str = "") -> Body:
    """An ellipsoid along the axes, semi-axes in mm."""
    return Body(tissue, tuple(centre), np.diag(1.0 / np.square(semi_axes)), clip)


def cylinder(tissue: str, centre, direction, radius: float, clip: str = "") -> Body:
    """An endless cylinder through `centre` along a direction, radius in mm."""
    u = np.asarray(direction, float) / np.linalg.norm(direction)
    return Body(tissue, tuple(centre), (np.eye(3) - np.outer(u, u)) / radius**2, clip)


def standard_head(options: SimulationOptions = SimulationOptions()) -> tuple[Body, ...]:  # noqa: B008
    """The bodies of the standard head with the lesions asked for; a later one covers an earlier one."""
    brain_centre, brain_axes = BRAIN
    bodies = [
        ellipsoid("muscle", *HEAD),
        ellipsoid("bone", *_between(SKULL_SHARE)),
        ellipsoid("air", *SINUS),
        *_pair("air", *EAR_CANAL, clip=""),
        # CSF over the cavities: no air inside the skull's inner table.
        ellipsoid("outer_csf", *_between(CSF_SHARE)),
        ellipsoid("grey_matter", brain_centre, brain_axes),
        ellipsoid("white_matter", brain_centre, np.subtract(brain_axes, GREY_MATTER_THICKNESS)),
    ]
    for name, centre, semi_axes in PAIRS:
        bodies += _pair(name, centre, semi_axes, clip="grey_matter")
    # Veins end in white matter: a source on the mask's edge has a field that no method can separate.
    bodies += [cylinder("vein", point, direction, VEIN_RADIUS, "white_matter") for point, direction in VEINS]
    if options.calcification:
        bodies.append(ellipsoid("calcification", CALCIFICATION_CENTRE, [LESION_RADIUS] * 3))
    if options.bleed:
        bodies.append(ellipsoid("bleed", BLEED_CENTRE, [LESION_RADIUS] * 3))
    return tuple(bodies)


def individual_head(options: SimulationOptions, subject: int = 0) -> tuple[Body, ...]:
    """The standard head, varied for one subject by `options.variation` and `options.seed`.

    The whole head is scaled by one random factor; then each body inside the brain is shifted by about
    variation x 20 mm, its size and its susceptibility scaled. With variation 0 it is the standard head. At last the
    head is turned by `options.head_tilt_x`, then `options.head_tilt_y`, about the origin.
    """
    bodies = standard_head(options)
    if options.variation:
        bodies = _varied(bodies, options, subject)
    return _turned(bodies, rotation(1, options.head_tilt_y) @ rotation(0, options.head_tilt_x))


def rotation(axis: int, degrees: float) -> np.ndarray:
    """Right-handed rotation about axis 0 (x) or 1 (y)."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) if axis == 0 else np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def _turned(bodies: tuple[Body, ...], turn: np.ndarray) -> tuple[Body, ...]:
    """The bodies rotated about the origin; those given, when there is nothing to turn."""
    if np.array_equal(turn, np.eye(3)):
        return bodies
    return tuple(replace(body, centre=tuple(turn @ body.centre), form=turn @ body.form @ turn.T) for body in bodies)


def _varied(bodies: tuple[Body, ...], options: SimulationOptions, subject: int) -> tuple[Body, ...]:
    draw = np.random.default_rng([options.seed, subject, 1])

    def factor(n=1):
        return 1 + options.variation * np.clip(draw.standard_normal(n), -2, 2)

    size = float(1 + 0.5 * (factor()[0] - 1))
    varied = []
    for body in bodies:
        centre, form, strength = np.array(body.centre) * size, body.form / size**2, 1.0
        if body.clip:
            scale = np.diag(1 / factor(3))
            form = scale @ form @ scale
            centre = centre + 20 * (factor(3) - 1)
            strength = float(factor()[0])
        varied.append(replace(body, centre=tuple(centre), form=form, strength=strength))
    return tuple(varied)


def extent_mm(bodies: tuple[Body, ...], tissue: str) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner in mm of the box around the first body of a tissue (an ellipsoid)."""
    body = next(body for body in bodies if body.tissue == tissue)
    half = np.sqrt(np.diag(np.linalg.inv(body.form)))
    return np.array(body.centre) - half, np.array(body.centre) + half


def _between(share: float) -> tuple[np.ndarray, np.ndarray]:
    """Centre and semi-axes of the ellipsoid at a share of the way from brain to head surface."""
    centre, semi_axes = ((1 - share) * np.array(b) + share * np.array(h) for b, h in zip(BRAIN, HEAD, strict=True))
    return centre, semi_axes


def _pair(tissue: str, centre, semi_axes, clip: str) -> list[Body]:
    x, y, z = centre
    return [ellipsoid(tissue, (side * x, y, z), semi_axes, clip) for side in (1, -1)]
