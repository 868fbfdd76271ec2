"""Heads that networks learn from: the simulated head, made more various than any study would have them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qsmprep.phantom.anatomy import BRAIN, Body, individual_head
from qsmprep.phantom.options import SimulationOptions
from qsmprep.phantom.tissues import TISSUES

# Tissues of the bodies thrown into white matter, and the range of the factor on their susceptibility.
THROWN = (
    ("red_nucleus", 0.3, 2.0),
    ("grey_matter", 0.3, 3.0),
    ("ventricle", 0.5, 2.0),
    ("vein", 0.3, 1.3),
    ("bleed", 0.1, 1.2),
    ("calcification", 0.03, 1.1),
)
MOST_THROWN = 14
VARIATIONS = {"ellipsoids": (0.03, 0.1), "icbm152": (0.03, 0.07)}
STRENGTHS = 0.25  # s.d. of the logarithm of the factor on each tissue's susceptibility


def random_options(anatomy: str, random: np.random.Generator, *, textured: bool) -> SimulationOptions:
    """Anatomical variation and lesions of one head of a generator, at 1 mm and 3 T."""
    return SimulationOptions(
        anatomy=anatomy,
        seed=int(random.integers(1 << 31)),
        variation=float(random.uniform(*VARIATIONS[anatomy])),
        calcification=bool(random.random() < 0.3),
        bleed=bool(random.random() < 0.3),
        texture=float(random.uniform(0.002, 0.02)) if random.random() < 0.6 and textured else 0.0,
    )


def random_strengths(random: np.random.Generator) -> dict[str, float]:
    """Factors on the susceptibility of the tissues of a brain, and of its lesions."""
    names = [tissue.name for tissue in TISSUES.values() if tissue.place == "brain"]
    return {name: float(np.exp(STRENGTHS * random.standard_normal())) for name in names}


def random_bodies(options: SimulationOptions, random: np.random.Generator) -> tuple[Body, ...]:
    """The bodies of one head: varied, with other contrasts, moved air cavities, and bodies thrown into white matter."""
    bodies = [_recontrasted(body, random) for body in individual_head(options)]
    bodies = [_moved_cavity(body, random) for body in bodies]
    return (*bodies, *_thrown(random))


def _recontrasted(body: Body, random: np.random.Generator) -> Body:
    """The body with another susceptibility; white matter too, but nothing outside the brain."""
    if body.clip or body.tissue in ("grey_matter", "white_matter", "calcification", "bleed"):
        return replace(body, strength=body.strength * float(np.exp(STRENGTHS * random.standard_normal())))
    return body


def _moved_cavity(body: Body, random: np.random.Generator) -> Body:
    """Air cavities differ from person to person in place and size; they make most of the background field."""
    if body.tissue != "air":
        return body
    scale = np.diag(np.exp(-0.15 * random.standard_normal(3)))
    centre = np.add(body.centre, 4.0 * random.standard_normal(3))
    return replace(body, centre=tuple(centre), form=scale @ body.form @ scale)


def _thrown(random: np.random.Generator) -> list[Body]:
    """Ellipsoids and cylinders of any tilt anywhere in white matter."""
    bodies = []
    centre, semi_axes = np.array(BRAIN[0]), np.array(BRAIN[1])
    for _ in range(int(random.integers(MOST_THROWN + 1))):
        tissue, low, high = THROWN[int(random.integers(len(THROWN)))]
        place = random.standard_normal(3)
        place *= 0.85 * random.random() ** (1 / 3) / np.linalg.norm(place)
        turn, _ = np.linalg.qr(random.standard_normal((3, 3)))
        small = tissue in ("bleed", "calcification", "vein")
        sizes = np.exp(random.uniform(np.log(1.5), np.log(5.0 if small else 12.0), 3))
        if random.random() < 0.2:
            sizes[2] = 500.0  # a vessel, or a tract
            sizes[:2] = sizes[0]
        form = turn @ np.diag(1 / sizes**2) @ turn.T
        strength = float(np.exp(random.uniform(np.log(low), np.log(high))))
        bodies.append(Body(tissue, tuple(centre + place * semi_axes), form, "white_matter", strength))
    return bodies
