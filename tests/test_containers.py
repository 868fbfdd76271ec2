"""Dockerfile and singularity.def describe one image, of the version that the program has."""

import re
from fnmatch import fnmatch
from pathlib import Path

import qsmprep

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
DEFINITION = (ROOT / "singularity.def").read_text("utf-8")


def of_definition(section):
    """Lines of the last section of that name."""
    found = re.findall(rf"^%{section}\n(.*?)(?=^%|^Bootstrap:|\Z)", DEFINITION, re.DOTALL | re.MULTILINE)
    return [line.strip() for line in found[-1].splitlines() if line.strip()]


def variables():
    words = re.search(r"^ENV (.*)$", DOCKERFILE, re.MULTILINE)[1].split()
    return dict(word.split("=", 1) for word in words)


def test_both_set_the_same_environment():
    lines = [line.removeprefix("export ").split("=", 1) for line in of_definition("environment")]
    assert {name: value.replace("{{ VERSION }}", "${VERSION}") for name, value in lines} == variables()
    while_built = [line.removeprefix("export ").split("=", 1) for line in of_definition("post") if "export " in line]
    assert dict(while_built).items() <= variables().items()
    assert {"NUMBA_CACHE_DIR", "NUMBA_CPU_NAME", "MPLCONFIGDIR", "PATH"} <= set(dict(while_built))


def test_both_take_the_same_arguments_and_run_the_same_scripts():
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)$", DOCKERFILE, re.MULTILINE))
    assert [arguments.pop("BASE"), arguments.pop("NODE")] == re.findall(r"^From: (\S+)", DEFINITION, re.MULTILINE)[::-1]
    assert dict(line.split("=", 1) for line in of_definition("arguments")) == arguments
    scripts = re.findall(r"\bsh (\w+\.sh)", DOCKERFILE.split("FROM")[-1])
    assert scripts == re.findall(r"\bsh (\w+\.sh)", "\n".join(of_definition("post")))
    assert all((ROOT / "containers" / script).is_file() for script in scripts)


def test_both_say_what_they_are():
    labels = re.findall(r'(org\.opencontainers\.\S+?)="(.*?)"', DOCKERFILE)
    given = dict(line.split(maxsplit=1) for line in of_definition("labels"))
    assert {name: value.replace("{{ ", "${").replace(" }}", "}") for name, value in given.items()} == dict(labels)
    assert f"ARG VERSION={qsmprep.__version__}\n" in DOCKERFILE


def test_what_the_build_copies_is_not_ignored():
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    kept = [line.removeprefix("!") for line in lines if line.startswith("!")]
    for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists()
            assert any(fnmatch(source, pattern) or source.startswith(f"{pattern}/") for pattern in kept), source
