"""What training minimises: the papers' losses, by the task of the network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from qsmprep.nets.losses import gradient_loss, source_model_loss
from qsmprep.nets.network import forward, normalised
from qsmprep.nets.patches import within
from qsmprep.nets.spec import NetworkSpec, quantities
from qsmprep.nets.unrolled import convolve
from qsmprep.training.patches import Batch
from qsmprep.training.recipe import TrainingOptions

SMALLEST_SQUARE = 1e-8  # keeps the root's slope finite where there is no error
SMALLEST_EXPECTED = 0.02  # normalised units; keeps logarithms finite
EULER = 0.5772
SMALLEST_ERROR = 0.03  # normalised units; keeps the logarithm of the error of a simple patch finite
SMALLEST_SIZE = 0.1  # normalised units; keeps the relative error of an empty label finite
OFF_DIAGONAL_SHARE = 0.1  # of susceptibility's weight: that field hides in noise


def loss(
    spec: NetworkSpec,
    module: nn.Module,
    batch: Batch,
    options: TrainingOptions,
    judge: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
) -> torch.Tensor:
    """Weighted sum of mean absolute error, gradient loss and misfit to the model, over the patch without its rim.

    The first two are of normalised outputs. The last is in units of the field's deviation in the batch; it is that of
    the field for inversions, and of field, susceptibility and relaxation for source separation. `judge`, where there is
    one, says more of normalised outputs and labels.
    """
    found = apply(spec, module, batch)
    inner = within(tuple(slice(options.margin, n - options.margin) for n in found.shape[2:]))
    mask = batch.mask[inner]
    a, b = (normalised(spec.outputs, image[inner], mask) for image in (found, batch.labels))
    unsure = torch.zeros((), device=found.device)
    if spec.expects_error:
        a, b, expected = a[:, :-1], b[:, :-1], a[:, -1:]
        unsure = _misjudged((a[:, :1] - b[:, :1]).abs().detach(), expected, mask)
    total = options.error * unsure + options.l1 * _mean_error(spec, a, b, mask, options, power=1)
    if options.l2:
        total = total + options.l2 * _mean_error(spec, a, b, mask, options, power=2)
    if options.gradient:
        total = total + options.gradient * gradient_loss(a, b)
    if options.model and (misfit := _misfit(spec, found, batch, inner)) is not None:
        total = total + options.model * misfit
    if judge is not None:
        total = total + options.adversarial * judge(a, b)
    return total


def _misjudged(wrong: torch.Tensor, expected: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Squared difference of the logarithms of absolute errors and of those expected, a mean in the mask.

    Errors around an expected one are taken for exponentially distributed, so that their logarithm is lower than its by
    Euler's constant on average. A likelihood would do without, but single large errors rule its gradient.
    """
    difference = (expected + SMALLEST_EXPECTED).log() - (wrong + SMALLEST_EXPECTED).log() - EULER
    return (difference**2 * mask).sum() / mask.sum().clamp_min(1)


def _mean_error(spec: NetworkSpec, a, b, mask, options: TrainingOptions, *, power: int) -> torch.Tensor:
    """Mean absolute (power 1) or root mean squared (2) error inside the mask, a mean over patches and channels.

    Relative: over the size of each label, measured alike. Logarithmic: the logarithm of either.
    """
    voxels = mask.sum((2, 3, 4)).clamp_min(1)

    def size(image: torch.Tensor) -> torch.Tensor:
        if power == 1:
            return image.abs().sum((2, 3, 4)) / voxels
        return ((image**2).sum((2, 3, 4)) / voxels + SMALLEST_SQUARE).sqrt()

    wrong = size(a - b)
    if options.relative:
        wrong = wrong / (size(b) + SMALLEST_SIZE)
    if options.logarithmic:
        wrong = (wrong + SMALLEST_ERROR).log()
    judged = quantities(spec.outputs)[: wrong.shape[1]]
    shares = [OFF_DIAGONAL_SHARE if name == "off-diagonal-field" else 1.0 for name in judged]
    return (wrong * torch.tensor(shares, device=wrong.device)).mean()


def apply(spec: NetworkSpec, module: nn.Module, batch: Batch) -> torch.Tensor:
    """Outputs in ppm for a batch."""
    return forward(spec, module, batch.inputs, batch.mask, batch.dipole)


def _misfit(spec: NetworkSpec, found: torch.Tensor, batch: Batch, inner) -> torch.Tensor | None:
    mask = batch.mask
    unit = (batch.field * mask).std().clamp_min(1e-4)
    if spec.task == "inversion" and not spec.knows_kernel:
        # Sources beyond the patch make a field in it: what the labels themselves leave unexplained is not to be learnt.
        miss = convolve(found[:, :1] - batch.labels[:, :1] * mask, batch.dipole) * mask
        return miss[inner].abs().mean() / unit
    if spec.task == "separation":
        para, dia = batch.labels[:, :1], batch.labels[:, 1:]
        field = convolve(para - dia, batch.dipole)
        return source_model_loss(found, field, para - dia, para + dia, batch.dipole, mask) / unit
    return None


def errors(spec: NetworkSpec, found: torch.Tensor, batch: Batch) -> dict[str, list[float]]:
    """Error of each patch relative to the truth's norm (NRMSE), by output; the mean of chi and of fields is left out.

    A patch in which the truth is nought, as the off-diagonal field of an isotropic head is, does not count. An expected
    error has no truth of its own.
    """
    result: dict[str, list[float]] = {}
    for i, name in enumerate(quantities(spec.outputs[:-1] if spec.expects_error else spec.outputs)):
        result[name] = []
        for n in range(len(found)):
            inside = batch.mask[n, 0] > 0
            a, b = found[n, i][inside], batch.labels[n, i][inside]
            if name in ("chi", "chi33", "tissue-field"):
                a, b = a - a.mean(), b - b.mean()
            if float(b.norm()):
                result[name].append(float((a - b).norm() / b.norm()))
    return result
