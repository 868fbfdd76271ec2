"""A recipe small enough to train in seconds, on shapes alone."""

import pytest

from qsmprep.training.recipe import parse_recipe

TINY = """
[network]
name = "tiny"
task = "inversion"
inputs = ["tissue-field"]
outputs = ["chi"]

[network.architecture]
family = "unet"
width = 2
levels = 2

[data]
heads = 0
shapes = 1.0
patch = 16

[training]
steps = 6
batch = 2
warm_up = 2
average = 0.5
precision = "float32"
validate_every = 3
checkpoint_every = 2
validation_patches = 2
"""


@pytest.fixture
def tiny_text():
    return TINY


@pytest.fixture
def tiny():
    return parse_recipe(TINY)
