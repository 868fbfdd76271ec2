"""A person to voxels: property maps of the whole head, painted from the outside inwards at every point of a grid."""

from __future__ import annotations

import numpy as np

from qsmprep.numerics.arrays import DoubleArray, FloatImage, Labels
from qsmprep.numerics.jit import jit, prange
from qsmprep.phantom.person import TILE_STEP_MM, Person
from qsmprep.phantom.tissues import PROPERTIES, RELAXOMETRIC_CONSTANT_3T, TISSUES, property_table

NAMES = tuple(TISSUES)
ROW = {name: row for row, name in enumerate(NAMES)}
LABELS = np.array([TISSUES[name].label for name in NAMES], np.uint8)
# Rows used by the loop below, by name there.
ROWS = np.array([ROW[name] for name in (
    "muscle", "fat", "skin", "bone", "marrow", "air", "outer_csf", "vitreous", "grey_matter", "white_matter",
    "ventricle", "vein",
)])  # fmt: skip


def render_person(
    person: Person,
    shape: tuple[int, int, int],
    voxel_size_mm: tuple[float, float, float],
    first_centre_mm: tuple[float, float, float],
    field_strength_t: float,
    texture_ppm: float,
) -> tuple[dict[str, FloatImage], Labels]:
    """Property maps and labels of a person on a grid, each voxel by its centre, borders one voxel soft.

    Parameters
    ----------
    person : the head.
    shape, voxel_size_mm, first_centre_mm : the grid, in the frame in which the head is turned.
    field_strength_t : for the relaxation rates.
    texture_ppm : s.d. of the susceptibility within the brain's tissues.

    Returns
    -------
    Maps by the names of PROPERTIES, float32 of `shape`; labels, uint8.
    """
    table = property_table(NAMES, field_strength_t)
    maps = np.zeros((len(PROPERTIES), *shape), np.float32)
    labels = np.zeros(shape, np.uint8)
    t = person.template
    bodies = [
        _with_rows(rows) for rows in (person.nuclei, person.cavities, person.mastoids, person.eyes, person.lesions)
    ]
    _paint_head(
        np.array(first_centre_mm, float),
        np.array(voxel_size_mm, float),
        person.turn,
        person.offset_mm,
        _parts(person.displacement),
        (_parts(t.grey), _parts(t.white), _parts(t.brain)),
        _parts(t.skull),
        _parts(person.veins),
        (person.tile, TILE_STEP_MM),
        (bodies[0], bodies[1], bodies[2], bodies[3], bodies[4]),
        (table, ROWS, LABELS),
        (float(texture_ppm), RELAXOMETRIC_CONSTANT_3T * field_strength_t / 3),
        maps,
        labels,
    )
    return dict(zip(PROPERTIES, maps, strict=True)), labels


def _parts(lattice) -> tuple[FloatImage, DoubleArray, float]:
    return lattice.volume, lattice.first_mm, lattice.step_mm


def _with_rows(bodies: DoubleArray) -> DoubleArray:
    """The table of bodies with the row of a tissue in place of its label."""
    row_of = {int(label): row for row, label in enumerate(LABELS)}
    found = bodies.copy()
    found[:, 0] = [row_of[int(label)] for label in bodies[:, 0]]
    return found


@jit()
def _look_up(lattice, x, y, z, beyond):
    """Value of a volume at a point, linear between voxels; `beyond` outside."""
    volume, first, step = lattice
    a, b, c = (x - first[0]) / step, (y - first[1]) / step, (z - first[2]) / step
    n0, n1, n2 = volume.shape
    if a < 0 or b < 0 or c < 0 or a >= n0 - 1 or b >= n1 - 1 or c >= n2 - 1:
        return beyond
    i, j, k = int(a), int(b), int(c)
    u, v, w = a - i, b - j, c - k
    near = (volume[i, j, k] * (1 - w) + volume[i, j, k + 1] * w) * (1 - v)
    near += (volume[i, j + 1, k] * (1 - w) + volume[i, j + 1, k + 1] * w) * v
    far = (volume[i + 1, j, k] * (1 - w) + volume[i + 1, j, k + 1] * w) * (1 - v)
    far += (volume[i + 1, j + 1, k] * (1 - w) + volume[i + 1, j + 1, k + 1] * w) * v
    return near * (1 - u) + far * u


@jit()
def _noise(noise, x, y, z):
    """The periodic noise at a point, linear between its voxels."""
    tile, step = noise
    n = tile.shape[0]
    a, b, c = x / step, y / step, z / step
    i, j, k = int(np.floor(a)), int(np.floor(b)), int(np.floor(c))
    u, v, w = a - i, b - j, c - k
    i0, j0, k0 = i % n, j % n, k % n
    i1, j1, k1 = (i + 1) % n, (j + 1) % n, (k + 1) % n
    near = (tile[i0, j0, k0] * (1 - w) + tile[i0, j0, k1] * w) * (1 - v)
    near += (tile[i0, j1, k0] * (1 - w) + tile[i0, j1, k1] * w) * v
    far = (tile[i1, j0, k0] * (1 - w) + tile[i1, j0, k1] * w) * (1 - v)
    far += (tile[i1, j1, k0] * (1 - w) + tile[i1, j1, k1] * w) * v
    return near * (1 - u) + far * u


@jit()
def _depth(body, x, y, z):
    """About how far a point lies inside an ellipsoid, in mm, negative outside."""
    a, b, c = x - body[1], y - body[2], z - body[3]
    fa = body[4] * a + body[5] * b + body[6] * c
    fb = body[7] * a + body[8] * b + body[9] * c
    fc = body[10] * a + body[11] * b + body[12] * c
    square = a * fa + b * fb + c * fc
    slope = np.sqrt(fa * fa + fb * fb + fc * fc)
    if slope < 1e-9:
        return 1.0 / np.sqrt(max(body[4], body[8], body[12]))
    norm = np.sqrt(square)
    return (1.0 - norm) * norm / slope


@jit()
def _ellipsoid(x, y, z, cx, cy, cz, ax, ay, az):
    """About how far a point lies outside an ellipsoid along the axes, in mm, negative inside."""
    a, b, c = (x - cx) / ax, (y - cy) / ay, (z - cz) / az
    return (np.sqrt(a * a + b * b + c * c) - 1.0) * min(ax, ay, az)


@jit()
def _soft(depth, width):
    """Share of a voxel of `width` inside a surface at `depth` below it."""
    return min(1.0, max(0.0, 0.5 + depth / width))


@jit()
def _paint(values, table, row, share):
    """Cover a share of the voxel with a tissue."""
    for p in range(values.size):
        values[p] += share * (table[row, p] - values[p])


@jit(parallel=True)
# More than 8 parameters: compiled loops take arrays and numbers one by one, no objects.
def _paint_head(first, size, turn, offset, moved, tissues, skull, veins, tile, bodies, looks, texture, maps, labels):
    grey, white, brain = tissues
    nuclei, cavities, mastoids, eyes, lesions = bodies
    table, rows, label_of = looks
    deviation, decay = texture
    moved_x = (moved[0][..., 0], moved[1], moved[2])
    moved_y = (moved[0][..., 1], moved[1], moved[2])
    moved_z = (moved[0][..., 2], moved[1], moved[2])
    muscle, fat, skin, bone, marrow, air, outer, vitreous, gm, wm, fluid, vein = rows
    n0, n1, n2 = labels.shape
    width = min(size[0], size[1], size[2])
    for i in prange(n0):
        values = np.empty(table.shape[1], np.float64)
        for j in range(n1):
            for k in range(n2):
                px, py, pz = first[0] + i * size[0], first[1] + j * size[1], first[2] + k * size[2]
                x = turn[0, 0] * px + turn[0, 1] * py + turn[0, 2] * pz + offset[0]
                y = turn[1, 0] * px + turn[1, 1] * py + turn[1, 2] * pz + offset[1]
                z = turn[2, 0] * px + turn[2, 1] * py + turn[2, 2] * pz + offset[2]
                dx = _look_up(moved_x, x, y, z, np.float32(0))
                dy = _look_up(moved_y, x, y, z, np.float32(0))
                dz = _look_up(moved_z, x, y, z, np.float32(0))
                x, y, z = x + dx, y + dy, z + dz
                label = 0
                for p in range(values.size):
                    values[p] = table[0, p]
                depth = _look_up(skull, x, y, z, np.float32(80))
                slow = _noise(tile, 0.25 * x, 0.25 * y, 0.25 * z)
                thick, soft = 6.0 + 1.2 * slow, 6.0 - 1.0 * slow
                scalp = depth - thick - soft
                face = _ellipsoid(x, y, z, 0.0, 22.0, -62.0, 62.0, 74.0, 66.0)
                neck = max(_ellipsoid(x, y, 0.0, 0.0, -28.0, 0.0, 60.0, 62.0, 62.0), z + 40.0)
                nose = _ellipsoid(x, y, z, 0.0, 90.0, -50.0, 14.0, 20.0, 20.0)
                ear = _ellipsoid(abs(x), y, z, 86.0, -30.0, -36.0, 6.0, 16.0, 28.0)
                out = min(min(scalp, face), min(neck, min(nose, ear)))
                share = _soft(-out, width)
                if share <= 0.0:
                    for p in range(values.size):
                        maps[p, i, j, k] = values[p]
                    labels[i, j, k] = label_of[air]
                    continue
                # the soft parts: skin, fat under it, muscle below, fat streaks in it
                top = skin
                if out < -1.5:
                    top = fat if out > -4.5 else muscle
                    if top == muscle and _noise(tile, 0.6 * x, 0.6 * y, 0.6 * z) > 1.4:
                        top = fat
                _paint(values, table, top, share)
                if share >= 0.5:
                    label = top
                # skull: two tables and marrow, open where the cord leaves
                if depth < thick + width and depth > -width:
                    _paint(values, table, bone, _soft(thick - depth, width) * share)
                    spongy = min(depth - 1.4, thick - 1.6 - depth)
                    _paint(values, table, marrow, _soft(spongy, width) * share)
                    label = bone if spongy < 0 else marrow
                # the base of the skull, in which the ears and the sinuses lie
                base = _ellipsoid(x, y, z, 0.0, 10.0, -44.0, 60.0, 62.0, 22.0)
                if base < width and depth > thick - 1.0:
                    _paint(values, table, bone, _soft(-base, width))
                    inner = min(-base - 2.0, depth - thick)
                    _paint(values, table, marrow if abs(x) > 18.0 or z > -52.0 else muscle, _soft(inner, width))
                    label = marrow if abs(x) > 18.0 or z > -52.0 else muscle
                # vertebrae, and the canal with the cord
                axis_y = -38.0 + 0.12 * max(0.0, -70.0 - z)
                if z < -62.0:
                    column = np.sqrt(x * x + (y - axis_y - 12.0) ** 2)
                    _paint(values, table, bone, _soft(17.0 - column, width) * _soft(-62.0 - z, width))
                    _paint(values, table, marrow, _soft(15.5 - column, width) * _soft(-62.0 - z, width))
                    label = marrow if column < 15.5 else label
                if depth > 0.0:
                    for b in range(eyes.shape[0]):
                        _paint(values, table, fat, _soft(_depth(eyes[b], x, y + 12.0, z) + 5.0, width))
                        inside = _soft(_depth(eyes[b], x, y, z), width)
                        _paint(values, table, vitreous, inside)
                        label = vitreous if inside >= 0.5 else label
                    # air, which bone keeps from the brain
                    for b in range(cavities.shape[0]):
                        wall = min(_depth(cavities[b], x, y, z), depth - 1.2)
                        hole = _soft(wall, width)
                        if hole > 0.0:
                            _paint(values, table, air, hole)
                            label = air if hole >= 0.5 else label
                    for b in range(mastoids.shape[0]):
                        wall = min(_depth(mastoids[b], x, y, z), depth - 1.2)
                        cells = _noise(tile, 1.5 * x, 1.5 * y, 1.5 * z)
                        hole = _soft(min(wall, 2.0 * cells), width)
                        if hole > 0.0:
                            _paint(values, table, air, hole)
                            label = air if hole >= 0.5 else label
                canal = np.sqrt(x * x + (y - axis_y) ** 2)
                if z < -58.0:
                    _paint(values, table, outer, _soft(9.0 - canal, width) * _soft(-58.0 - z, 4.0))
                    _paint(values, table, wm, _soft(5.5 - canal, width) * _soft(-58.0 - z, 4.0))
                    values[6] *= 1 - _soft(5.5 - canal, width)  # the cord is not brain
                    label = outer if canal < 9.0 else label
                share = _soft(-depth, width)
                if share > 0.0:
                    _paint(values, table, outer, share)
                    label = outer if share >= 0.5 else label
                # the brain: fluid, then both tissues by their shares
                share = _soft(-_look_up(brain, x, y, z, np.float32(20)), width)
                tube = _look_up(veins, x, y, z, np.float32(0))
                if share > 0.0:
                    g = _look_up(grey, x, y, z, np.float32(0))
                    w = _look_up(white, x, y, z, np.float32(0))
                    _paint(values, table, fluid, share)
                    solid = min(1.0, g + w)
                    if solid > 0.0:
                        _paint(values, table, gm, share * solid)
                        _paint(values, table, wm, share * min(1.0, w / max(g + w, 1e-6)) * solid)
                    label = fluid
                    if g >= 0.5 * max(w, 1.0 - solid):
                        label = gm
                    if w > g and w > 1.0 - solid:
                        label = wm
                    fine = _noise(tile, x, y, z)
                    for b in range(nuclei.shape[0]):
                        inside = _depth(nuclei[b], x, y, z)
                        if inside > -2.0:
                            inside = share * solid * _soft(inside + 0.3 * fine, max(width, 1.0))
                            _paint(values, table, int(nuclei[b, 0]), inside)
                            label = int(nuclei[b, 0]) if inside >= 0.5 else label
                    added = share * solid * deviation * fine
                    if added > 0.0:
                        values[0] += added
                    else:
                        values[1] -= added
                    values[3] += decay * abs(added)
                    for b in range(lesions.shape[0]):
                        inside = share * _soft(_depth(lesions[b], x, y, z) + 0.4 * fine, width)
                        if inside > 0.0:
                            _paint(values, table, int(lesions[b, 0]), inside)
                            label = int(lesions[b, 0]) if inside >= 0.5 else label
                if tube > 0.0 and depth < 0.0:
                    keep = values[6]
                    _paint(values, table, vein, tube)
                    values[6] = keep
                    label = vein if tube >= 0.5 else label
                for p in range(values.size):
                    maps[p, i, j, k] = values[p]
                labels[i, j, k] = label_of[label]
