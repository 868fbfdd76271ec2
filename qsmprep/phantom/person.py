"""A person drawn from the template: what differs from head to head, and where the small structures lie.

Millimetres in the template's space (x right, y anterior, z superior), in which the parts of a head keep their places.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from qsmprep.numerics.arrays import DoubleArray, FloatImage
from qsmprep.phantom.options import SimulationOptions
from qsmprep.phantom.template import Lattice, Template, load_template
from qsmprep.phantom.tissues import TISSUES

VARIATION = 0.05  # the variation at which people differ as they do
TILE_MM, TILE_STEP_MM = 96.0, 0.5
TEXTURE_SLOPE = 1.3  # of the amplitude's spectrum: structure of every size, from voxels up
VEIN_STEP_MM = 0.5

# Right-hand bodies of the brain, mirrored to the left: tissue, centre, semi-axes, rotation about x in degrees.
NUCLEI = (
    ("caudate", (13.0, 14.0, 8.0), (5.0, 9.0, 8.5), 0.0),
    ("caudate", (16.5, -2.0, 20.0), (3.5, 15.0, 4.0), 15.0),
    ("putamen", (26.5, 4.0, 0.5), (5.0, 15.0, 9.0), 0.0),
    ("globus_pallidus", (19.0, -3.0, -1.0), (4.5, 8.5, 5.5), 0.0),
    ("thalamus", (11.5, -18.0, 7.0), (8.0, 13.5, 8.0), 0.0),
    ("red_nucleus", (5.0, -20.0, -9.0), (3.3, 3.3, 4.0), 0.0),
    ("substantia_nigra", (9.5, -16.5, -13.5), (3.0, 7.0, 3.0), 35.0),
    ("substantia_nigra", (11.0, -13.0, -7.5), (3.0, 4.0, 2.0), 20.0),
    ("dentate_nucleus", (15.0, -57.0, -36.0), (6.0, 8.5, 4.5), 20.0),
)
# Air in the head, right-hand ones of a pair; a pair's sides differ. Centre, semi-axes, whether paired.
CAVITIES = (
    ((11.0, 69.0, 6.0), (11.0, 7.0, 13.0), True),  # frontal sinus
    ((6.0, 48.0, -28.0), (5.0, 16.0, 9.0), True),  # ethmoid cells
    ((7.0, 18.0, -36.0), (7.0, 12.0, 9.0), True),  # sphenoid sinus
    ((29.0, 45.0, -48.0), (12.0, 15.0, 16.0), True),  # maxillary sinus
    ((0.0, 40.0, -58.0), (7.0, 30.0, 16.0), False),  # nasal cavity
    ((0.0, 5.0, -72.0), (12.0, 8.0, 28.0), False),  # pharynx
    ((68.0, -24.0, -38.0), (22.0, 3.5, 3.5), True),  # ear canal
    ((46.0, -24.0, -36.0), (5.0, 5.0, 7.0), True),  # middle ear
)
MASTOID = ((54.0, -42.0, -42.0), (9.0, 14.0, 15.0))
EYE = ((32.0, 61.0, -34.0), (12.0, 12.0, 12.0))
LESIONS = {"calcification": ((24.0, 36.0, 24.0), (3.5, 4.0, 3.0)), "bleed": ((-26.0, 30.0, 26.0), (4.5, 3.5, 4.0))}
BRIDGES = 26  # veins from the ventricles to the surface


@dataclass(frozen=True, eq=False)
class Person:
    """One head, ready to be looked up at any point.

    Attributes
    ----------
    template : tissue shares and distances.
    turn : (3, 3) from the head's frame to the template's, scale included; offset_mm : (3,) added after it.
    displacement : (3, n0, n1, n2) mm, added to the template's coordinates; at the voxels of `displacement_lattice`.
    nuclei, cavities, eyes, lesions : (n, 13) rows: tissue's label, centre, form (3 x 3) of the ellipsoid.
    tile : (m, m, m) periodic noise of unit deviation and of every scale, a power law.
    veins : share of vein in the brain.
    strengths : factors on the susceptibility of tissues, by name; 1 for those it lacks.
    """

    template: Template
    turn: DoubleArray
    offset_mm: DoubleArray
    displacement: Lattice
    nuclei: DoubleArray
    cavities: DoubleArray
    mastoids: DoubleArray
    eyes: DoubleArray
    lesions: DoubleArray
    tile: FloatImage
    veins: Lattice
    strengths: Mapping[str, float] = field(default_factory=dict)


def draw_person(options: SimulationOptions, subject: int, turn: DoubleArray, offset_mm: DoubleArray) -> Person:
    """Draw one person: the template itself for `options.variation` 0, but for its veins and texture.

    Parameters
    ----------
    options : `variation` scales all that differs (0.05: as people differ), `seed` draws it.
    subject : from 0.
    turn : rotation of the head in the slab.
    offset_mm : place of the head's origin in the template.
    """
    random = np.random.default_rng([options.seed, subject, 1])
    amount = options.variation / VARIATION
    template = load_template()
    scale = np.diag(1 / (1 + 0.04 * amount * np.clip(random.standard_normal(3), -2, 2)))
    chosen = [LESIONS[name] for name in LESIONS if getattr(options, name)]
    names = [name for name in LESIONS if getattr(options, name)]
    return Person(
        template=template,
        turn=scale @ turn.T,
        offset_mm=np.asarray(offset_mm, float),
        displacement=_displacement(random, amount),
        nuclei=_nuclei(random, amount),
        cavities=_cavities(random, amount),
        mastoids=_rows([("air", (side * MASTOID[0][0], *MASTOID[0][1:]), MASTOID[1], 0.0) for side in (1, -1)]),
        eyes=_rows([("vitreous", (side * EYE[0][0], *EYE[0][1:]), EYE[1], 0.0) for side in (1, -1)]),
        lesions=_rows([(name, *place, 0.0) for name, place in zip(names, chosen, strict=True)]),
        tile=_tile(random),
        veins=_veins(template, random),
    )


def _displacement(random: np.random.Generator, amount: float) -> Lattice:
    """Smooth random displacements of two scales over the whole head, stored as one volume with three channels."""
    from scipy.ndimage import gaussian_filter

    step, low, high = 4.0, np.array([-130.0, -170.0, -210.0]), np.array([130.0, 150.0, 140.0])
    shape = tuple(int(n) for n in np.round((high - low) / step))
    field = np.zeros((*shape, 3), np.float32)
    for channel in range(3):
        for scale_mm, deviation_mm in ((30.0, 2.5), (9.0, 0.8)):
            noise = gaussian_filter(random.standard_normal(shape), scale_mm / step, mode="wrap")
            field[..., channel] += amount * deviation_mm * noise / noise.std()
    return Lattice(field, low, step)


def _nuclei(random: np.random.Generator, amount: float) -> DoubleArray:
    rows = []
    for tissue, (x, y, z), axes, angle in NUCLEI:
        size = np.asarray(axes) * (1 + 0.06 * amount * np.clip(random.standard_normal(3), -2, 2))
        rows += [(tissue, (side * x, y, z), size, angle) for side in (1, -1)]
    return _rows(rows)


def _cavities(random: np.random.Generator, amount: float) -> DoubleArray:
    rows = []
    for (x, y, z), axes, paired in CAVITIES:
        for side in (1, -1) if paired else (1,):
            size = np.asarray(axes) * np.exp(0.2 * amount * np.clip(random.standard_normal(3), -2, 2))
            rows.append(("air", (side * x, y, z), size, 0.0))
    return _rows(rows)


def _rows(bodies: list) -> DoubleArray:
    """(n, 13) table of ellipsoids: label, centre, form; turned about x by the angle in degrees."""
    rows = []
    for tissue, centre, axes, angle in bodies:
        c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
        turn = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
        form = turn @ np.diag(1 / np.square(np.asarray(axes, float))) @ turn.T
        rows.append([TISSUES[tissue].label, *centre, *form.ravel()])
    return np.array(rows, float).reshape(-1, 13)


def _tile(random: np.random.Generator) -> FloatImage:
    """Periodic noise whose amplitude falls as a power of the frequency: structure from voxels up to the tile's size."""
    n = round(TILE_MM / TILE_STEP_MM)
    axes = [np.fft.fftfreq(n) * n, np.fft.fftfreq(n) * n, np.fft.rfftfreq(n) * n]
    k = np.sqrt(sum(a.reshape([-1 if i == d else 1 for i in range(3)]) ** 2 for d, a in enumerate(axes)))
    k[0, 0, 0] = np.inf
    spectrum = np.fft.rfftn(random.standard_normal((n, n, n)).astype(np.float32)) * np.maximum(k, 3.0) ** -(
        TEXTURE_SLOPE + 0.5
    )
    spectrum[0, 0, 0] = 0
    tile = np.fft.irfftn(spectrum, (n, n, n), axes=(0, 1, 2))
    return np.asarray(tile / tile.std(), np.float32)


def _veins(template: Template, random: np.random.Generator) -> Lattice:
    """Share of vein on a lattice over the brain: the deep veins, the straight sinus, and veins to the surface."""
    lattice = template.grey
    shape = tuple(round(n * lattice.step_mm / VEIN_STEP_MM) for n in lattice.volume.shape)
    volume = np.zeros(shape, np.float32)
    first = lattice.first_mm - lattice.step_mm / 2 + VEIN_STEP_MM / 2
    for side in (1, -1):
        _draw(volume, first, [(3 * side, 6, 8), (3 * side, -14, 12), (1.5 * side, -34, 6)], 1.0)
        _draw(volume, first, [(3 * side, 6, 8), (17 * side, -4, 20), (20 * side, -18, 22)], 0.7)
        _draw(volume, first, [(1.5 * side, -34, 6), (18 * side, -16, -14), (22 * side, 4, -18)], 0.9)
    _draw(volume, first, [(0, -34, 6), (0, -42, 4), (0, -58, 12), (0, -76, 4), (0, -92, -6)], 1.8)
    _draw(volume, first, [(0, 64, 10), (0, 50, 54), (0, 10, 79), (0, -40, 78), (0, -80, 50), (0, -98, 0)], 2.8)
    for _ in range(BRIDGES):
        start = np.array(
            [random.choice((-1, 1)) * random.uniform(10, 24), random.uniform(-50, 25), random.uniform(16, 26)]
        )
        way = start * [1.0, 0.4, 1.0] + random.standard_normal(3) * [10, 20, 10]
        way /= np.linalg.norm(way)
        bend = np.cross(way, random.standard_normal(3)) * 6
        length = random.uniform(25, 50)
        points = [start + way * length * t + bend * np.sin(np.pi * t) for t in np.linspace(0, 1, 6)]
        _draw(volume, first, points, random.uniform(0.35, 0.8))
    return Lattice(volume, first, VEIN_STEP_MM)


def _draw(volume: FloatImage, first: DoubleArray, points: list, radius_mm: float) -> None:
    """Draw a tube along straight pieces, its rim half a voxel soft, in place."""
    reach = int(np.ceil(radius_mm / VEIN_STEP_MM)) + 1
    grid = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3, indexing="ij"), axis=-1)
    for begin, end in pairwise(points):
        begin, end = np.asarray(begin, float), np.asarray(end, float)
        for t in np.linspace(0, 1, int(np.linalg.norm(end - begin) / (0.5 * VEIN_STEP_MM)) + 2):
            place = (begin + t * (end - begin) - first) / VEIN_STEP_MM
            near = np.round(place).astype(int)
            if np.any(near < reach) or np.any(near + reach >= volume.shape):
                continue
            distance = np.linalg.norm(grid + near - place, axis=-1) * VEIN_STEP_MM
            share = np.clip(0.5 - (distance - radius_mm) / VEIN_STEP_MM, 0, 1)
            box = tuple(slice(c - reach, c + reach + 1) for c in near)
            np.maximum(volume[box], share, out=volume[box])
