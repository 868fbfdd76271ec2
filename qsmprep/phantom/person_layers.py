"""What a head is made of at one point, from the outside inwards; each layer covers a share of what lies there so far.

Compiled, and called for every voxel: `values` are the properties of the voxel, changed in place, in the order of
PROPERTIES; each layer returns the row of the tissue that fills most of the voxel so far. x, y, z are the point in the
template's space in mm, `width` the softness of borders in mm, `looks` the table of properties and the rows in use.
"""

from __future__ import annotations

import numpy as np

from qsmprep.numerics.jit import jit
from qsmprep.phantom.tissues import PROPERTIES

PARA, DIA, R2PRIME, BRAIN = (PROPERTIES.index(name) for name in ("chi_para", "chi_dia", "r2prime", "brain"))
# The order in which the rows of the table are given.
USED = ("muscle", "fat", "skin", "bone", "marrow", "air", "outer_csf", "vitreous", "grey_matter", "white_matter",
        "ventricle", "vein")  # fmt: skip


@jit()
def look_up(lattice, x, y, z, beyond):
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
def noise(tile, x, y, z):
    """The periodic noise at a point, linear between its voxels."""
    volume, step = tile
    n = volume.shape[0]
    a, b, c = x / step, y / step, z / step
    i, j, k = int(np.floor(a)), int(np.floor(b)), int(np.floor(c))
    u, v, w = a - i, b - j, c - k
    i0, j0, k0 = i % n, j % n, k % n
    i1, j1, k1 = (i + 1) % n, (j + 1) % n, (k + 1) % n
    near = (volume[i0, j0, k0] * (1 - w) + volume[i0, j0, k1] * w) * (1 - v)
    near += (volume[i0, j1, k0] * (1 - w) + volume[i0, j1, k1] * w) * v
    far = (volume[i1, j0, k0] * (1 - w) + volume[i1, j0, k1] * w) * (1 - v)
    far += (volume[i1, j1, k0] * (1 - w) + volume[i1, j1, k1] * w) * v
    return near * (1 - u) + far * u


@jit()
def inner_depth(body, x, y, z):
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


# More than 8 parameters: compiled loops take arrays and numbers one by one, no objects.
@jit()
def ellipsoid(x, y, z, cx, cy, cz, ax, ay, az):
    """About how far a point lies outside an ellipsoid along the axes, in mm, negative inside."""
    a, b, c = (x - cx) / ax, (y - cy) / ay, (z - cz) / az
    return (np.sqrt(a * a + b * b + c * c) - 1.0) * min(ax, ay, az)


@jit()
def soft(depth, width):
    """Share of a voxel of `width` inside a surface at `depth` below it."""
    return min(1.0, max(0.0, 0.5 + depth / width))


@jit()
def paint(values, table, row, share):
    """Cover a share of the voxel with a tissue."""
    for p in range(values.size):
        values[p] += share * (table[row, p] - values[p])


@jit()
def skin_depth(tile, x, y, z, depth):
    """How far a point lies outside the head in mm, negative inside, and how thick the skull is there."""
    slow = noise(tile, 0.25 * x, 0.25 * y, 0.25 * z)
    thick, soft_parts = 6.0 + 1.2 * slow, 6.0 - 1.0 * slow
    face = ellipsoid(x, y, z, 0.0, 22.0, -62.0, 62.0, 74.0, 66.0)
    neck = max(ellipsoid(x, y, 0.0, 0.0, -28.0, 0.0, 60.0, 62.0, 62.0), z + 40.0)
    nose = ellipsoid(x, y, z, 0.0, 90.0, -50.0, 14.0, 20.0, 20.0)
    ear = ellipsoid(abs(x), y, z, 86.0, -30.0, -36.0, 6.0, 16.0, 28.0)
    return min(min(depth - thick - soft_parts, face), min(neck, min(nose, ear))), thick


@jit()
def paint_soft_parts(values, looks, tile, x, y, z, out, width):
    """Skin, fat under it, muscle below, with streaks of fat."""
    table, rows = looks
    muscle, fat, skin, _, _, _, _, _, _, _, _, _ = rows
    top = skin
    if out < -1.5:
        streak = noise(tile, 0.6 * x, 0.6 * y, 0.6 * z) > 1.4
        top = fat if out > -4.5 or streak else muscle
    share = soft(-out, width)
    paint(values, table, top, share)
    return top if share >= 0.5 else 0


# More than 8 parameters: compiled loops take arrays and numbers one by one, no objects.
@jit()
def paint_bone(values, looks, x, y, z, depth, thick, share, label, width):
    """The skull, two tables and marrow; its base, in which the ears and the sinuses lie; vertebrae."""
    table, rows = looks
    muscle, _, _, bone, marrow, _, _, _, _, _, _, _ = rows
    if depth < thick + width and depth > -width:
        paint(values, table, bone, soft(thick - depth, width) * share)
        spongy = min(depth - 1.4, thick - 1.6 - depth)
        paint(values, table, marrow, soft(spongy, width) * share)
        label = bone if spongy < 0 else marrow
    base = ellipsoid(x, y, z, 0.0, 10.0, -44.0, 60.0, 62.0, 22.0)
    if base < width and depth > thick - 1.0:
        paint(values, table, bone, soft(-base, width))
        filling = marrow if abs(x) > 18.0 or z > -52.0 else muscle
        paint(values, table, filling, soft(min(-base - 2.0, depth - thick), width))
        label = filling
    if z < -62.0:
        column = np.sqrt(x * x + (y - cord_y(z) - 12.0) ** 2)
        paint(values, table, bone, soft(17.0 - column, width) * soft(-62.0 - z, width))
        paint(values, table, marrow, soft(15.5 - column, width) * soft(-62.0 - z, width))
        label = marrow if column < 15.5 else label
    return label


# More than 8 parameters: compiled loops take arrays and numbers one by one, no objects.
@jit()
def paint_cavities(values, looks, tile, bodies, x, y, z, depth, label, width):
    """Eyes in fat, and air, which bone keeps from the brain: sinuses and airways whole, the mastoids in cells."""
    table, rows = looks
    _, fat, _, _, _, air, _, vitreous, _, _, _, _ = rows
    _, cavities, mastoids, eyes, _ = bodies
    for b in range(eyes.shape[0]):
        paint(values, table, fat, soft(inner_depth(eyes[b], x, y + 12.0, z) + 5.0, width))
        share = soft(inner_depth(eyes[b], x, y, z), width)
        paint(values, table, vitreous, share)
        label = vitreous if share >= 0.5 else label
    for b in range(cavities.shape[0]):
        share = soft(min(inner_depth(cavities[b], x, y, z), depth - 1.2), width)
        paint(values, table, air, share)
        label = air if share >= 0.5 else label
    for b in range(mastoids.shape[0]):
        cells = 2.0 * noise(tile, 1.5 * x, 1.5 * y, 1.5 * z)
        share = soft(min(min(inner_depth(mastoids[b], x, y, z), depth - 1.2), cells), width)
        paint(values, table, air, share)
        label = air if share >= 0.5 else label
    return label


@jit()
def paint_fluid(values, looks, x, y, z, depth, label, width):
    """The canal with the cord, and the fluid within the skull."""
    table, rows = looks
    _, _, _, _, _, _, outer, _, _, white, _, _ = rows
    canal = np.sqrt(x * x + (y - cord_y(z)) ** 2)
    if z < -58.0:
        below = soft(-58.0 - z, 4.0)
        paint(values, table, outer, soft(9.0 - canal, width) * below)
        paint(values, table, white, soft(5.5 - canal, width) * below)
        values[BRAIN] *= 1 - soft(5.5 - canal, width)  # the cord is not brain
        label = outer if canal < 9.0 else label
    share = soft(-depth, width)
    paint(values, table, outer, share)
    return outer if share >= 0.5 else label


# More than 8 parameters: compiled loops take arrays and numbers one by one, no objects.
@jit()
def paint_brain(values, looks, tile, tissues, bodies, texture, x, y, z, label, width):
    """The brain: fluid, then both tissues by their shares, nuclei, texture, lesions."""
    table, rows = looks
    _, _, _, _, _, _, _, _, grey, white, fluid, _ = rows
    grey_share, white_share, brain = tissues
    nuclei, _, _, _, lesions = bodies
    deviation, decay = texture
    share = soft(-look_up(brain, x, y, z, np.float32(20)), width)
    if share <= 0.0:
        return label
    g, w = look_up(grey_share, x, y, z, np.float32(0)), look_up(white_share, x, y, z, np.float32(0))
    solid = min(1.0, g + w)
    paint(values, table, fluid, share)
    paint(values, table, grey, share * solid)
    paint(values, table, white, share * solid * min(1.0, w / max(g + w, 1e-6)))
    label = grey if g >= 0.5 * max(w, 1.0 - solid) else fluid
    label = white if w > g and w > 1.0 - solid else label
    fine = noise(tile, x, y, z)
    for b in range(nuclei.shape[0]):
        inside = inner_depth(nuclei[b], x, y, z)
        if inside > -2.0:
            inside = share * solid * soft(inside + 0.3 * fine, max(width, 1.0))
            paint(values, table, int(nuclei[b, 0]), inside)
            label = int(nuclei[b, 0]) if inside >= 0.5 else label
    added = share * solid * deviation * fine
    values[PARA] += max(added, 0.0)
    values[DIA] -= min(added, 0.0)
    values[R2PRIME] += decay * abs(added)
    for b in range(lesions.shape[0]):
        inside = share * soft(inner_depth(lesions[b], x, y, z) + 0.4 * fine, width)
        paint(values, table, int(lesions[b, 0]), inside)
        label = int(lesions[b, 0]) if inside >= 0.5 else label
    return label


@jit()
def cord_y(z):
    """Where the axis of the cord lies, front to back, in mm."""
    return -38.0 + 0.12 * max(0.0, -70.0 - z)
