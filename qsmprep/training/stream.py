"""Batches in order, made ahead; where patches are shown several times, from a window of the latest ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from qsmprep.nets.spec import NetworkSpec
from qsmprep.training.patches import Batch, Patch, joined, make_batch, make_patch, turned
from qsmprep.training.pool import Head
from qsmprep.training.recipe import DataOptions, TrainingOptions

# First number of a key: a batch's, a patch's that is shown again, a draw's; 1 to 3 are taken by loop and synthetic.
TRAINING, SHOWN, DRAWN = 0, 4, 5
AHEAD = 3  # batches made while the network works
WINDOW = 512  # patches of which those shown again are drawn


def batches(
    spec: NetworkSpec, data: DataOptions, heads: Sequence[Head], options: TrainingOptions, steps: range
) -> Iterator[Batch]:
    """The batches of some steps, each a pure function of its number.

    Where patches are shown several times, a step's are drawn from the latest 512 (all new at first), and mirrored and
    turned anew.
    """

    def make(step: int) -> Batch:
        return make_batch(spec, data, heads, options.batch, (options.seed, TRAINING, step))

    with ThreadPoolExecutor(1) as pool:
        if data.showings > 1:
            yield from _drawn(spec, data, heads, options, steps, pool)
            return
        waiting = deque(pool.submit(make, step) for step in steps[:AHEAD])
        for step in steps:
            batch = waiting.popleft().result()
            if step + AHEAD < steps.stop:
                waiting.append(pool.submit(make, step + AHEAD))
            yield batch


def newest(step: int, batch: int, showings: int) -> int:
    """How many patches there are at a step, counted from 0: all are new until the window is full, then a share is."""
    shown = (step + 1) * batch
    return shown if shown <= WINDOW else WINDOW + -(-(shown - WINDOW) // showings)


def _drawn(spec, data, heads, options, steps: range, pool: ThreadPoolExecutor) -> Iterator[Batch]:
    def make(number: int) -> Patch:
        return make_patch(spec, data, heads, np.random.default_rng([options.seed, SHOWN, number]))

    count = newest(steps.start, options.batch, data.showings) if steps else 0
    window: deque[Patch] = deque(maxlen=WINDOW)
    waiting: deque[Future[Patch]] = deque()
    asked = max(0, count - WINDOW)
    for step in steps:
        known = newest(step, options.batch, data.showings)
        while asked < newest(step + AHEAD, options.batch, data.showings):
            waiting.append(pool.submit(make, asked))
            asked += 1
        while asked - len(waiting) < known:
            window.append(waiting.popleft().result())
        random = np.random.default_rng([options.seed, DRAWN, step])
        chosen = random.choice(len(window), options.batch, replace=len(window) < options.batch)
        again = [turned(window[int(i)], random, all_axes=spec.takes_any_direction) for i in chosen]
        yield joined(spec, again)
