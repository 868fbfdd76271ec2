"""What is said of a scan that a network was not trained for."""

import numpy as np
import pytest

from qsmprep.nets.domain import check_units, coarser_than_trained, is_directed, outside_domain, outside_snr
from qsmprep.nets.role import Role
from qsmprep.nets.spec import Channel, Domain, NetworkSpec
from qsmprep.nets.unet_spec import UnetSpec
from qsmprep.nets.unrolled_spec import UnrolledSpec
from qsmprep.scan import Scan

DOMAIN = Domain(1.0, largest_tilt_degrees=10.0, field_deviation_ppm=(0.005, 0.05), snr=(20.0, 300.0))
FITTING = {"scan": Scan((1.0, 1.0, 1.0)), "field_deviation_ppm": 0.02}


@pytest.fixture
def spec():
    return NetworkSpec("net", "inversion", UnetSpec(), (Channel("tissue-field"),), (Channel("chi"),), DOMAIN)


@pytest.fixture
def unrolled():
    outputs = (Channel("chi33"), Channel("off-diagonal-field"))
    return NetworkSpec("deep", "inversion", UnrolledSpec(), (Channel("tissue-field"),), outputs, DOMAIN)


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"scan": Scan((1.0, 1.0, 2.0))}, "untrained-voxel-size", ("1 x 1 x 2 mm", "1 mm")),
        ({"scan": Scan((1.0, 1.0, 1.0), (0.0, 0.5, -0.866))}, "untrained-b0-direction", ("30 degrees", "10")),
        ({"field_deviation_ppm": 0.2}, "untrained-field", ("0.2 ppm", "0.005 to 0.05 ppm")),
        ({"field_deviation_ppm": 0.001}, "untrained-field", ("0.001 ppm",)),
        ({"snr": 5.0}, "untrained-snr", ("5", "20 to 300")),
    ],
)
def test_each_departure_is_named_with_what_was_trained(spec, change, code, words):
    (warning,) = outside_snr(spec, **change) if "snr" in change else outside_domain(spec, **(FITTING | change))
    assert warning.code == code
    assert all(word in warning.text for word in ("net", *words))


def test_a_scan_like_the_training_gives_no_warning(spec):
    assert outside_domain(spec, **FITTING) == outside_snr(spec, 50.0) == outside_snr(spec, None) == ()
    assert outside_domain(spec, scan=Scan((1.005, 1, 1), (0, 0.1, -0.995))) == ()


def test_a_network_that_knows_the_kernel_takes_any_direction(spec, unrolled):
    tilted = FITTING | {"scan": Scan((1.0, 1.0, 1.0), (1.0, 0.0, 0.0))}
    assert outside_domain(unrolled, **tilted) == ()
    assert is_directed(spec)
    assert not is_directed(unrolled)


def test_coarse_voxels_are_told_although_they_are_resampled(spec):
    assert coarser_than_trained(spec, (0.5, 1.0, 1.2)) == ()
    (warning,) = coarser_than_trained(spec, (1.0, 1.0, 3.0))
    assert warning.code == "coarser-than-trained" and "3 mm" in warning.text


def test_a_field_in_hertz_is_refused():
    mask = np.ones((3, 3, 3), bool)
    check_units({"tissue-field": np.full(mask.shape, 0.1)}, mask)
    with pytest.raises(ValueError, match="20 ppm"):
        check_units({"total-field": np.full(mask.shape, 130.0)}, mask)


def test_a_role_refuses_other_networks_by_name_and_remedy(spec, unrolled):
    Role("inversion").check(spec, "qsmnet")
    Role("inversion", "modl").check(unrolled, "modl")
    for role, other in ((Role("background"), spec), (Role("inversion"), unrolled), (Role("inversion", "lpcnn"), spec)):
        with pytest.raises(ValueError, match="--sharqnet-weights"):
            role.check(other, "sharqnet", "file.safetensors")
    separation = NetworkSpec("s", "separation", UnetSpec(2, 2), (Channel("chi"), Channel("r2star")),
                             (Channel("chi-para"), Channel("chi-dia")))  # fmt: skip
    assert Role("separation", needs=("r2star",), lacks=("r2prime",)).fits(separation)
    assert not Role("separation", needs=("r2prime",), lacks=("r2star",)).fits(separation)
