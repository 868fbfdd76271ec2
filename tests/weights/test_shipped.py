"""The weights that qsmprep ships are whole, small, honest about their training, and of use."""

import json

import numpy as np
import pytest

from qsmprep import registry, settings
from qsmprep.inversion.tkd import tkd
from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import fast_shape, irfftn, rfftn
from qsmprep.scan import Scan
from qsmprep.weights.search import shipped_folder
from qsmprep.weights.store import check_file, load_network

SHIPPED = sorted(shipped_folder().glob("*.safetensors"))
GEOMETRY = {"voxel_size_mm": (1.0, 1.0, 1.0), "b0_direction": (0.0, 0.0, 1.0)}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_weights_are_what_their_cards_say(path):
    checked = check_file(path)
    document = checked.card.document
    assert "not validated in vivo" in document["statement"] and "simulated" in document["statement"]
    for key in ("commit", "seeds", "training", "domain", "scores", "licence"):
        assert document[key], key
    assert checked.card.spec.name == path.stem
    assert "recipe" in document["training"]
    json.dumps(document, allow_nan=False)


def test_all_shipped_files_together_are_small():
    assert sum(path.stat().st_size for path in shipped_folder().iterdir()) < 40e6


def test_every_shipped_file_has_its_card_and_every_card_its_file():
    names = {path.stem for path in shipped_folder().glob("*.json")}
    assert names == {path.stem for path in SHIPPED}


@pytest.mark.parametrize("method", ["modl"])
def test_a_shipped_inversion_beats_truncated_division_on_a_head_it_never_saw(method):
    shape = (64, 72, 60)
    axes = np.meshgrid(*(np.arange(n) - n / 2 + 0.5 for n in shape), indexing="ij")

    def ellipsoid(centre, size):
        return sum(((x - c) / s) ** 2 for x, c, s in zip(axes, centre, size, strict=True)) < 1

    mask = ellipsoid((0, 0, 0), (26, 31, 25))
    chi = np.where(mask, -0.03, 0.0)
    for centre, size, value in (
        ((9, 2, 1), (4, 8, 5), 0.1),
        ((-9, 2, 1), (4, 8, 5), 0.1),
        ((0, -12, -6), (6, 4, 4), 0.05),
        ((12, 14, 4), (2, 2, 2), 0.3),
        ((-10, -14, 8), (3, 3, 3), -0.2),
    ):
        chi[ellipsoid(centre, size)] = value
    padded = fast_shape(tuple(2 * n for n in shape))
    wide = np.zeros(padded, np.float32)
    wide[tuple(slice(0, n) for n in shape)] = chi
    field = irfftn(rfftn(wide) * dipole_kernel(padded, (1.0, 1.0, 1.0), kind="integrated"), padded)
    field = field[tuple(slice(0, n) for n in shape)]
    field = (field + 0.001 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32) * mask

    def error(found):
        a, b = found[mask] - found[mask].mean(), chi[mask] - chi[mask].mean()
        return np.linalg.norm(a - b) / np.linalg.norm(b)

    options = settings.build({}).options_of("inversion", method)
    found = registry.find("inversion", method).run(
        options, network=load_network(options.weights), field_ppm=field, mask=mask, scan=Scan(**GEOMETRY)
    )
    assert error(found.chi_ppm) < 0.95 * error(tkd(field, mask, scan=Scan(**GEOMETRY)).chi_ppm)
