"""Networks through the command line: units and signs are exact, and what they are is told everywhere."""

import json
import os

import numpy as np
import pytest
from documents import values


@pytest.fixture(scope="module")
def by_networks(small_head, tiny_weights, tmp_path_factory, run_qsmprep):
    """Every step that can be done by a network; the networks are linear, so that every map is known."""
    before = os.environ.get("QSMPREP_WEIGHTS")
    os.environ["QSMPREP_WEIGHTS"] = str(tiny_weights)
    try:
        return run_qsmprep(
            small_head, tmp_path_factory.mktemp("networks") / "out", "--skip-bids-validation", "--mask", "robust",
            "--background", "sharqnet", "--inversion", "qsmnet", "autoqsm", "modl", "--reference", "none",
            "--separation", "chi-sepnet-r2p", "--source-offset", "reference", "--r2prime-fallback", "network",
        )  # fmt: skip
    finally:
        os.environ.pop("QSMPREP_WEIGHTS")
        if before is not None:
            os.environ["QSMPREP_WEIGHTS"] = before


def steps(done, name, folder="anat"):
    sidecar = json.loads((done.out / "sub-01" / folder / f"sub-01_{name}.json").read_text("utf-8"))
    return {step["stage"]: step for step in sidecar["ProcessingSteps"]}


def test_it_succeeds(by_networks):
    assert by_networks.status == 0, by_networks.stderr


def test_scale_and_sign_are_exact(by_networks):
    frequency = values(steps(by_networks, "Chimap")["input"])["centre_frequency"]
    total, local = (by_networks.image(f"desc-{kind}_fieldmap", "fmap") for kind in ("total", "local"))
    inside = local != 0
    centred = total - total[inside].mean()
    assert np.allclose(local[inside], 0.25 * centred[inside], atol=1e-3 * np.abs(centred[inside]).max())
    chi = by_networks.image("Chimap")
    assert np.allclose(chi[inside], 2 * local[inside] / frequency, atol=1e-5)
    single = by_networks.image("desc-autoqsm_Chimap")
    assert np.allclose(single[inside], 0.5 * centred[inside] / frequency, atol=1e-4)
    expected = by_networks.image("desc-autoqsmexpectederror_Chimap")
    assert np.allclose(expected[inside], 0.003 + 0.05 * np.log1p(np.exp((single[inside] - 0.003) / 0.05)), atol=1e-4)
    assert np.all(by_networks.image("desc-modloffdiagonal_Chimap")[~inside] == 0)
    para, dia = (by_networks.image(f"desc-{kind}magnetic_Chimap") for kind in ("para", "dia"))
    rate = 0.4 * by_networks.image("R2starmap") / 114
    both = inside & (para > 0) & (dia > 0)
    assert both.sum() > 1000
    assert np.allclose(para[both], 0.5 * (rate + chi)[both], atol=1e-4)
    assert np.allclose(dia[both], 0.5 * (rate - chi)[both], atol=1e-4)


def test_what_the_network_is_reaches_sidecar_and_report(by_networks, tiny_weights):
    step = steps(by_networks, "Chimap")["inversion"]
    facts = values(step)
    card = json.loads((tiny_weights / "qsmnet.json").read_text("utf-8"))
    assert facts["network_sha256"] == card["sha256"]
    assert facts["network_grid"] == "as acquired"
    assert facts["network_precision"].startswith("float32")
    assert any("made for a test" in warning["text"] for warning in step["warnings"])
    assert "made for a test" in by_networks.stderr
    page = (by_networks.out / "sub-01.html").read_text("utf-8")
    assert "made for a test" in page
    assert card["sha256"] in page
    bibliography = (by_networks.out / "logs" / "CITATION.bib").read_text("utf-8")
    assert all(key in bibliography for key in ("yoon2018", "bollmann2019sharqnet", "kim2025"))


def test_weights_that_are_missing_or_of_another_task_are_refused_before_anything_runs(
    small_head, tiny_weights, tmp_path, run_qsmprep
):
    missing = run_qsmprep(small_head, tmp_path / "a", "--inversion", "qsmnet", "--qsmnet-weights", "nowhere")
    assert missing.status != 0
    assert "nowhere" in missing.stderr
    assert "--qsmnet-weights" in missing.stderr
    other = run_qsmprep(
        small_head, tmp_path / "b", "--inversion", "qsmnet", "--qsmnet-weights", str(tiny_weights / "sharqnet.json")
    )
    assert other.status != 0
    assert "sharqnet" in other.stderr
    assert "--qsmnet-weights" in other.stderr
    assert not list((tmp_path / "b").rglob("*.nii.gz"))
