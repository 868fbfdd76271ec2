"""Devices by the names that the nodes on them are told."""

import pytest
import torch

from qsmprep.app.devices import visible_gpus


@pytest.mark.parametrize(
    ("told", "count", "names"),
    [(None, 2, ("0", "1")), ("2,5", 2, ("2", "5")), ("GPU-5a, GPU-7b", 2, ("GPU-5a", "GPU-7b")), ("3,-1,4", 1, ("3",))],
)
def test_the_devices_that_the_job_was_given_keep_their_names(monkeypatch, told, count, names):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if told:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", told)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert visible_gpus() == names
