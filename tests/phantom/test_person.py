"""A head drawn from the template looks like a head, and differs from the next one."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

import nibabel as nib
import numpy as np
import pytest

from qsmprep.phantom.dataset import simulate
from qsmprep.phantom.head import simulate_head
from qsmprep.phantom.options import SimulationOptions
from qsmprep.phantom.template import sharpened, template_folder
from qsmprep.phantom.tissues import DEEP_GREY

needs_template = pytest.mark.skipif(find_spec("nilearn") is None, reason="nilearn, which carries the template")
OPTIONS = SimulationOptions(
    anatomy="icbm152", voxel_size="4", oversampling=2, variation=0.05, texture=0.01, tilt_x=15.0, seed=3
)


@pytest.fixture(scope="module")
def head():
    return simulate_head(OPTIONS)


def litres(head, *names):
    return sum(head.region(name).sum() for name in names) * np.prod(head.voxel_size_mm) / 1e6


@needs_template
def test_volumes_are_those_of_people(head):
    assert 1.5 < head.brain_mask.sum() * np.prod(head.voxel_size_mm) / 1e6 < 2.3
    assert 0.4 < litres(head, "white_matter") < 0.9
    assert 0.15 < litres(head, "ventricle") < 0.5
    assert litres(head, "bone", "marrow") > 0.5
    for name in ("fat", "muscle", "skin", "vitreous"):
        assert litres(head, name) > 0.004, name


@needs_template
def test_every_nucleus_is_there_on_both_sides(head):
    middle = head.labels.shape[0] // 2
    for name in DEEP_GREY:
        region = head.region(name)
        assert region[:middle].any() and region[middle:].any(), name
    pallidum = head.chi_ppm[head.region("globus_pallidus")].mean()
    assert pallidum > head.chi_ppm[head.region("white_matter")].mean() + 0.08


@needs_template
def test_the_brain_lies_in_fluid_bone_and_scalp(head):
    from scipy.ndimage import binary_dilation

    rim = binary_dilation(head.brain_mask, iterations=5) & ~binary_dilation(head.brain_mask, iterations=1)
    assert set(np.unique(head.labels[rim])) >= {13, 15, 18, 19}
    assert np.isfinite(head.total_field_hz).all()
    # what the head around the brain does to the field is far stronger than the brain's own field
    assert head.total_field_hz[head.brain_mask].std() > 5 * head.local_field_hz[head.brain_mask].std()


@needs_template
def test_the_next_subject_has_another_head_and_the_same_one_the_same(head):
    again, other = simulate_head(OPTIONS), simulate_head(OPTIONS, subject=1)
    np.testing.assert_array_equal(again.phase, head.phase)
    both, either = other.brain_mask & head.brain_mask, other.brain_mask | head.brain_mask
    assert 0.7 < both.sum() / either.sum() < 0.98


@needs_template
def test_susceptibility_varies_within_white_matter_as_asked(head):
    inside = head.chi_ppm[head.region("white_matter")]
    assert inside.std() > 0.005


def test_the_shares_sharpened_are_shares():
    grey, white = sharpened(np.array([0.6, 0.2, 0.0]), np.array([0.3, 0.2, 0.0]))
    assert np.all(grey + white <= 1 + 1e-6) and grey[0] > white[0]
    assert grey[1] + white[1] < 0.4


def test_without_the_template_the_remedy_is_told(monkeypatch):
    monkeypatch.setattr("qsmprep.phantom.template.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install nilearn"):
        template_folder()


@needs_template
def test_a_slab_may_cut_the_brain_as_scans_do(tmp_path):
    simulate(tmp_path / "bids", replace(OPTIONS, voxel_size="6", oversampling=1, shape="32,39,8"))
    echo = nib.load(next((tmp_path / "bids").rglob("*_part-mag_*.nii.gz")))
    assert echo.shape == (32, 39, 8)
