"""The weak harmonic field of the methods that offer one: what background field removal left does not reach chi."""

import numpy as np
import pytest

from qsmprep import registry
from qsmprep.numerics.admm import Penalties, PhaseProblem, fit_with_harmonic
from qsmprep.numerics.fourier import irfftn, rfftn
from qsmprep.numerics.proximal import threshold_rows
from qsmprep.numerics.spectral import spectra

METHODS = {"tv": {}, "rts": {}, "hdqsm": {}, "l1qsm": {}, "star": {}, "medi": {"smv_radius": 0.0}}


def harmonic(shape):
    """Of degree 2, in ppm."""
    x, y, z = np.meshgrid(*(np.arange(n) - n / 2 for n in shape), indexing="ij")
    return (1e-4 * (x * x - y * y) + 1e-4 * x * y + 5e-5 * (2 * z * z - x * x - y * y)).astype(np.float32)


def error(name, head, field, **options):
    method = registry.find("inversion", registry_name(name))
    chosen = method.options_type()(**METHODS[name], **options)
    given = {"field_ppm": field * head.mask, "mask": head.mask, "magnitude_rss": head.magnitude, "scan": head.scan}
    return head.error(method.run(chosen, **given).chi_ppm)


def registry_name(name):
    return next(m.name for m in registry.METHODS if m.stage == "inversion" and m.module.rsplit(".", 1)[-1] == name)


@pytest.mark.parametrize("name", METHODS)
def test_harmonic_remnant_does_not_reach_the_map(name, head):
    remnant = harmonic(head.field.shape)
    spoiled = error(name, head, head.field + remnant, weak_harmonic=False)
    clean = error(name, head, head.field, weak_harmonic=True)
    fitted = error(name, head, head.field + remnant, weak_harmonic=True)
    assert fitted < 0.6 * spoiled
    assert fitted < 1.1 * clean + 2


@pytest.mark.parametrize("robust", [False, True])
def test_the_fit_tells_the_harmonic_field_from_that_of_chi(robust, head):
    shape = tuple(n + 20 for n in head.field.shape)
    grid = spectra(shape, (1, 1, 1), (0, 0, 1), kernel="integrated")
    place = tuple(slice(10, 10 + n) for n in head.field.shape)
    field, inside, known = (np.zeros(shape, np.float32) for _ in range(3))
    known[place] = harmonic(head.field.shape)
    inside[place] = head.mask
    field[place] = head.field * head.mask
    penalties = Penalties(mu_gradient=0.2, mu_data=5.0 if robust else 0.1, robust=robust, beta=1500.0, mu_harmonic=3.0)
    problem = PhaseProblem(
        field + known * inside, inside, threshold_rows(1e-3, None, shape, field), inside, grid, (1, 1, 1)
    )
    x, remnant, history = fit_with_harmonic(problem, penalties, tolerance_percent=0.1, max_iterations=100)
    off = (remnant - known)[inside > 0]
    assert np.linalg.norm(off - off.mean()) < 0.3 * np.linalg.norm(known[inside > 0] - known[inside > 0].mean())
    assert len(history) <= 100 and np.isfinite(irfftn(rfftn(x) * grid.dipole, shape)).all()
