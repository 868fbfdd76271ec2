"""Adaptation makes a network's map explain the field of one case, and leaves the trained network as it was."""

import copy
import itertools

import numpy as np
import pytest
import torch

from qsmprep.nets.adaptation import AdaptOptions, adapt
from qsmprep.nets.adaptation.case import frugal, make_case
from qsmprep.nets.adaptation.dann import learn_statistics, other_domain
from qsmprep.nets.adaptation.data_term import data_term, total_variation
from qsmprep.nets.adaptation.fine import settled
from qsmprep.nets.network import Network, build_module, forward
from qsmprep.nets.seen import PhaseTerm, Seen
from qsmprep.nets.spec import Channel, NetworkSpec
from qsmprep.nets.unet_spec import UnetSpec
from qsmprep.nets.unrolled_spec import UnrolledSpec
from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import irfftn, rfftn
from qsmprep.numerics.threads import use_threads
from qsmprep.numerics.volume import bounding_box
from qsmprep.scan import Scan

SHAPE = (25, 24, 22)
GEOMETRY = {"voxel_size_mm": (1.0, 1.0, 1.0), "b0_direction": (0.0, 0.0, 1.0)}
SCAN = Scan(**GEOMETRY)
EXACT = {"method": "fine", "crop": 0, "precision": "float32", "tolerance": 0.0}


def head(seed, shape=SHAPE, noise=1e-3, strength=0.1):
    """Ellipsoids in an ellipsoid: susceptibility and field in ppm, and the mask."""
    random = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.arange(n) - n / 2 + 0.5 for n in shape), indexing="ij"), -1)
    mask = ((grid / (np.array(shape) * 0.45)) ** 2).sum(-1) < 1
    chi = np.zeros(shape)
    for value in random.uniform(-strength / 2, strength, 12):
        centre, axes = random.uniform(-0.3, 0.3, 3) * shape, random.uniform(2, 6, 3)
        chi[(((grid - centre) / axes) ** 2).sum(-1) < 1] = value
    chi = (chi - chi[mask].mean()) * mask
    padded = tuple(2 * n for n in shape)
    kernel = dipole_kernel(padded, **GEOMETRY)
    field = irfftn(rfftn(np.pad(chi, [(0, n) for n in shape])) * kernel, padded)[tuple(slice(n) for n in shape)]
    field = (field + noise * random.standard_normal(shape)) * mask
    return chi.astype(np.float32), field.astype(np.float32), mask


def seen(inputs_ppm, mask, weights=None):
    return Seen(inputs_ppm, mask, SCAN, PhaseTerm(weights, radians=5.0))


def batches(count=None, edge=24):
    """Synthetic pairs (inputs, labels, mask) of one head each."""
    for seed in itertools.islice(itertools.count(1), count):
        chi, field, mask = head(seed % 8, (edge,) * 3)
        yield field[None, None], chi[None, None], mask[None, None]


def unet(**changes):
    channels = (Channel("tissue-field", 0.0, 0.01),), (Channel("chi", 0.0, 0.04),)
    torch.manual_seed(0)
    spec = NetworkSpec("small", "inversion", UnetSpec(width=8, levels=2, **changes), *channels)
    return Network(spec, build_module(spec))


def unrolled(kind):
    torch.manual_seed(0)
    names = ("chi33", "off-diagonal-field") if kind == "modl" else ("chi",)
    outputs = tuple(Channel(name, 0.0, 0.04) for name in names)
    architecture = UnrolledSpec(kind=kind, iterations=2, width=4, blocks=1)
    spec = NetworkSpec(kind, "inversion", architecture, (Channel("tissue-field", 0.0, 0.01),), outputs)
    return Network(spec, build_module(spec).eval())


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with use_threads(1):
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained(one_thread):
    network = unet()
    network.module.to(memory_format=torch.channels_last_3d)
    optimiser = torch.optim.Adam(network.module.parameters(), lr=5e-3)
    for batch in batches(50):
        inputs, labels, mask = (torch.as_tensor(a, dtype=torch.float32) for a in batch)
        optimiser.zero_grad()
        (forward(network.spec, network.module, inputs, mask) - labels).abs().mean().backward()
        optimiser.step()
    network.module.eval()
    return network


@pytest.fixture(scope="module")
def case():
    """A head of another contrast than those trained on."""
    return head(100, strength=0.2)


@pytest.fixture(scope="module")
def adapted(trained, case):
    _, field, mask = case
    options = AdaptOptions(**EXACT, iterations=30, learning_rate=5e-4)
    return adapt(trained, seen(field[None], mask), options=options)


def error(network, case):
    """Demeaned root mean square error in the mask relative to the truth's."""
    chi, field, mask = case
    difference = (outputs(network, field[None], mask)[0] - chi)[mask]
    return difference.std() / chi[mask].std()


def outputs(network, inputs_ppm, mask):
    known = make_case(network.spec, seen(inputs_ppm, mask), nonlinear=True, half_precision=False, device="cpu")
    part = bounding_box(mask)
    with torch.no_grad():
        found = known.outputs(network.module)[0].numpy()
    whole = np.zeros((found.shape[0], *mask.shape), np.float32)
    whole[(slice(None), *part)] = found[(slice(None), *(slice(s.stop - s.start) for s in part))]
    return whole


@pytest.mark.parametrize("nonlinear", [True, False])
@pytest.mark.parametrize("name", ["squared", "absolute"])
def test_the_gradient_of_the_misfit_is_that_of_finite_differences(nonlinear, name):
    random = np.random.default_rng(0)
    shape = (1, 1, 6, 7, 8)
    field, chi, way = (torch.as_tensor(random.standard_normal(shape)) for _ in range(3))
    weights = torch.as_tensor(random.uniform(0, 1, shape))
    data = data_term(field, torch.ones(shape), weights=weights, radians_per_ppm=2.0, nonlinear=nonlinear, scan=SCAN)
    misfit = getattr(data, name)
    chi.requires_grad_(True)
    misfit(chi).backward()
    with torch.no_grad():
        along = (misfit(chi + 1e-3 * way) - misfit(chi - 1e-3 * way)) / 2e-3
    assert (chi.grad * way).sum().item() == pytest.approx(along.item(), rel=2e-3)


def test_the_misfit_vanishes_at_the_truth_and_does_not_see_wraps():
    chi, field, mask = (torch.as_tensor(a)[None, None] for a in head(3, noise=0.0))
    data = data_term(field, mask.float(), weights=None, radians_per_ppm=5.0, nonlinear=True, scan=SCAN)
    none = data.squared(torch.zeros_like(chi))
    assert data.squared(chi) < 1e-2 * none
    wrapped = data_term(
        field + 2 * np.pi / 5.0, mask.float(), weights=None, radians_per_ppm=5.0, nonlinear=True, scan=SCAN
    )
    assert wrapped.squared(chi).item() == pytest.approx(data.squared(chi).item(), rel=1e-2)


@pytest.mark.parametrize("nonlinear", [True, False])
def test_the_misfit_does_not_see_a_constant_of_the_map(nonlinear):
    chi, field, mask = (torch.as_tensor(a)[None, None].float() for a in head(3))
    data = data_term(field, mask, weights=None, radians_per_ppm=5.0, nonlinear=nonlinear, scan=SCAN)
    assert data.squared(chi * mask + 0.05 * mask).item() == pytest.approx(data.squared(chi * mask).item(), rel=1e-2)
    assert data.squared(2 * chi * mask) > 2 * data.squared(chi * mask)


def test_where_the_data_have_no_weight_the_trained_map_is_kept(trained, case):
    _, field, mask = case
    weights = np.ones(mask.shape, np.float32)
    weights[10:14, 10:14, 8:12] = 0
    before = outputs(trained, field[None], mask)
    moved = []
    for anchor in (0.0, 100.0):
        options = AdaptOptions(**EXACT, iterations=20, anchor=anchor)
        found = adapt(trained, seen(field[None], mask, weights), options=options)
        moved.append(np.abs(outputs(found.network, field[None], mask) - before)[0][(weights == 0) & mask].mean())
    assert moved[1] < 0.5 * moved[0]


def test_sources_do_not_reach_across_the_volume():
    chi = torch.zeros(1, 1, 24, 24, 24)
    chi[..., 1] = 1.0  # a plane at one face of the volume, perpendicular to B0
    data = data_term(chi, torch.ones_like(chi), weights=None, radians_per_ppm=5.0, nonlinear=False, scan=SCAN)
    field = data.field_of(chi)[0, 0, 12, 12]
    assert abs(field[-1]) < abs(field[3])


def test_an_off_diagonal_field_adds_to_that_of_the_susceptibility():
    chi = torch.randn(1, 1, *SHAPE)
    data = data_term(chi, torch.ones_like(chi), weights=None, radians_per_ppm=5.0, nonlinear=True, scan=SCAN)
    assert torch.allclose(data.field_of(torch.cat((chi, chi), 1)), data.field_of(chi) + chi)


def test_total_variation_is_the_mean_slope_and_the_rim_of_the_mask_is_no_edge():
    ramp = torch.arange(10.0).expand(1, 1, 10, 10, 10) * 0.1
    mask = torch.zeros_like(ramp)
    mask[..., 2:8, 2:8, 2:8] = 1
    # Five of six steps along the last axis lie in the mask: 0.1 ppm over 2 mm each.
    assert total_variation(ramp, mask, (1.0, 1.0, 2.0)).item() == pytest.approx(0.05 * 5 / 6, rel=1e-2)
    assert total_variation(mask + 3, mask, (1.0, 1.0, 1.0)).item() == pytest.approx(0, abs=1e-6)


def test_the_gradient_of_total_variation_is_that_of_finite_differences():
    torch.manual_seed(0)
    chi, way = torch.randn(1, 1, 5, 6, 7).double(), torch.randn(1, 1, 5, 6, 7).double()
    mask = (torch.rand(1, 1, 5, 6, 7) > 0.2).double()
    chi.requires_grad_(True)
    total_variation(chi, mask, (1.0, 2.0, 3.0)).backward()
    with torch.no_grad():
        up, down = (total_variation(chi + s * way, mask, (1.0, 2.0, 3.0)) for s in (1e-6, -1e-6))
    assert (chi.grad * way).sum().item() == pytest.approx(((up - down) / 2e-6).item(), rel=1e-5)


def test_adaptation_lowers_the_misfit_and_the_error(trained, adapted, case):
    history = adapted.convergence.history
    assert len(history) == adapted.convergence.iterations == 30
    assert history[-1] < 0.7 * history[0]
    assert error(adapted.network, case) < 0.95 * error(trained, case)


def test_the_trained_network_stays_as_it_was(trained, case):
    before = copy.deepcopy(trained.module.state_dict())
    _, field, mask = case
    found = adapt(trained, seen(field[None], mask), options=AdaptOptions(**EXACT, iterations=2)).network.module
    assert all(torch.equal(value, before[name]) for name, value in trained.module.state_dict().items())
    changed = [name for name, value in found.state_dict().items() if not torch.equal(value, before[name])]
    assert "encoder.0.0.weight" in changed
    assert not [name for name in changed if "running" in name]
    assert not found.training


def test_the_same_case_gives_the_same_bits(trained, case):
    _, field, mask = case
    options = AdaptOptions(method="fine", crop=16, iterations=4, seed=3)
    first, second = (adapt(trained, seen(field[None], mask), options=options) for _ in range(2))
    assert first.convergence.history == second.convergence.history
    pairs = zip(first.network.module.parameters(), second.network.module.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_it_goes_on_by_parts_as_it_does_on_the_whole(trained, adapted, case):
    _, field, mask = case
    options = AdaptOptions(**{**EXACT, "crop": 16}, iterations=40, learning_rate=5e-4)
    by_parts = adapt(trained, seen(field[None], mask), options=options)
    assert by_parts.convergence.history[-1] < 0.75 * adapted.convergence.history[0]
    assert error(by_parts.network, case) < 0.95 * error(trained, case)


def test_parts_lie_in_the_volume_on_the_grid_of_the_poolings():
    network = unet()
    chi, _, mask = head(5, (40, 44, 36))
    known = make_case(network.spec, seen(chi[None], mask), nonlinear=True, half_precision=False, device="cpu")
    random = np.random.default_rng(0)
    covered = torch.zeros(known.shape)
    for _ in range(200):
        box, inner = known.random_box(random, 24)
        for part, core, size in zip(box, inner, known.shape, strict=True):
            assert part.start % 4 == 0 and part.stop - part.start == 24 and part.stop <= size
            assert core.start == (part.start + 4 if part.start else 0)
        covered[inner] = 1
    assert covered[known.mask[0, 0] > 0].all()


def test_it_stops_early_when_the_loss_settles(trained, case):
    _, field, mask = case
    options = AdaptOptions(method="fine", crop=0, iterations=20, learning_rate=1e-7, window=2)
    ended = adapt(trained, seen(field[None], mask), options=options).convergence
    assert ended.converged and ended.iterations == 4
    assert settled([2.0, 2.0, 1.999, 1.999], 2, 1e-3)
    assert not settled([2.0, 2.0, 1.9, 1.9], 2, 1e-3)


def test_memory_is_saved_without_changing_the_gradient(trained, case):
    module = copy.deepcopy(trained.module)
    field = torch.as_tensor(head(4, (32, 32, 32))[1])[None, None]
    gradients = []
    for saving in (False, True):
        module.zero_grad()
        if saving:
            with frugal(module):
                module(field).square().sum().backward()
        else:
            module(field).square().sum().backward()
        gradients.append([p.grad.clone() for p in module.parameters()])
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(*gradients, strict=True))
    assert "forward" not in vars(module.encoder[0])


@pytest.mark.parametrize("kind", ["modl", "lpcnn"])
@pytest.mark.parametrize("crop", [0, 20])
def test_unrolled_networks_adapt(kind, crop, case):
    _, field, mask = case
    options = AdaptOptions(method="fine", crop=crop, precision="float32", iterations=8, learning_rate=2e-3, tolerance=0)
    history = adapt(unrolled(kind), seen(field[None], mask), options=options).convergence.history
    assert history[-1] < history[0]


def test_a_given_channel_stays_as_it_is(case):
    chi, field, mask = case
    inputs = (Channel("tkd", 0.0, 0.04), Channel("tissue-field", 0.0, 0.01))
    architecture = UnetSpec(channels_in=2, width=4, levels=2)
    torch.manual_seed(0)
    spec = NetworkSpec("two", "inversion", architecture, inputs, (Channel("chi", 0.0, 0.04),))
    images = np.stack((chi, field))
    known = make_case(spec, seen(images, mask), nonlinear=True, half_precision=False, device="cpu")
    assert torch.equal(known.data.field_ppm, known.inputs_ppm[:, 1:])
    network = Network(spec, build_module(spec).eval())
    history = adapt(network, seen(images, mask), options=AdaptOptions(**EXACT, iterations=5)).convergence.history
    assert history[-1] < history[0]


def test_two_domains_share_all_but_their_normalisations():
    module = unet().module
    other = other_domain(module)
    norms = {f"{name}.{w}" for name, part in module.named_modules() if isinstance(part, torch.nn.BatchNorm3d)
             for w, _ in part.named_parameters()}  # fmt: skip
    assert norms
    theirs = dict(other.named_parameters())
    for name, weight in module.named_parameters():
        assert (theirs[name] is weight) == (name not in norms)
    assert not {b.data_ptr() for b in module.buffers()} & {b.data_ptr() for b in other.buffers()}


def test_each_domain_learns_its_own_statistics():
    module = unet().module
    other = other_domain(module)
    learn_statistics(other)
    with torch.no_grad():
        other(torch.randn(1, 1, 16, 16, 16) + 5)
    assert module.encoder[0][1].running_mean.abs().sum() == 0
    assert other.encoder[0][1].running_mean.abs().sum() > 0


def test_domain_adaptation_lowers_the_misfit_and_the_error(trained, case):
    _, field, mask = case
    told = []
    options = AdaptOptions(
        method="dann", crop=0, precision="float32", synthetic_iterations=12, iterations=12, learning_rate=1e-3,
        tolerance=0,
    )  # fmt: skip
    found = adapt(trained, seen(field[None], mask), options=options, synthetic=batches(),
                  progress=lambda *now: told.append(now))  # fmt: skip
    history = found.convergence.history
    assert len(history) == found.convergence.iterations == 24
    assert told == [(n, 24) for n in range(1, 25)]
    assert history[11] < history[0] and history[-1] < history[12]
    assert error(found.network, case) < error(trained, case)
    statistics = [module.encoder[0][1].running_var for module in (trained.module, found.network.module)]
    assert not torch.equal(*statistics)


def test_none_returns_the_network_itself(trained, case):
    _, field, mask = case
    assert adapt(trained, seen(field[None], mask)).network is trained


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"options": AdaptOptions(method="dann")}, "synthetic pairs"),
        ({"options": AdaptOptions(method="wish")}, "choose one of"),
        ({"weights": np.ones((2, 2, 2))}, "weights have shape"),
        ({"weights": np.zeros(SHAPE)}, "above 0"),
        ({"inputs_ppm": np.ones((2, *SHAPE))}, "inputs of shape"),
        ({"inputs_ppm": np.full((1, *SHAPE), np.nan)}, "not finite"),
        ({"mask": np.zeros(SHAPE)}, "empty"),
        ({"inputs_ppm": np.zeros((1, *SHAPE))}, "0 everywhere"),
    ],
)
def test_what_does_not_fit_is_refused(trained, case, wrong, message):
    _, field, mask = case
    given = {"inputs_ppm": field[None], "mask": mask, "options": AdaptOptions(method="fine"), **wrong}
    options = given.pop("options")
    with pytest.raises(ValueError, match=message):
        adapt(trained, seen(**given), options=options)


def test_without_a_phase_of_1_ppm_nothing_is_adapted(trained, case):
    _, field, mask = case
    with pytest.raises(ValueError, match="phase of 1 ppm"):
        adapt(trained, Seen(field[None], mask, SCAN), options=AdaptOptions(method="fine"))


def test_only_networks_that_invert_a_tissue_field_are_adapted(case):
    _, field, mask = case
    spec = NetworkSpec("b", "background", UnetSpec(width=2, levels=2), (Channel("total-field"),),
                       (Channel("tissue-field"),))  # fmt: skip
    with pytest.raises(ValueError, match="inverts a tissue field"):
        adapt(Network(spec, build_module(spec)), seen(field[None], mask), options=AdaptOptions(method="fine"))
