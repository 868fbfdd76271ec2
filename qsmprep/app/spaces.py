"""From the words of `--output-spaces` to the templates of a run, with their files."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from qsmprep.analysis.template_space import OWN_SPACE
from qsmprep.bids.spaces import KNOWN_TEMPLATES, PlannedSpace, Space, parse_spaces
from qsmprep.bids.templateflow import template_files, templates_at_hand
from qsmprep.settings import Settings

MNI_2009, TEMPLATEFLOW = "fonov2011", "ciric2022"
OWN_SOURCE = "the package's own template of magnitude and susceptibility (anatomy of ICBM 152 2009a symmetric)"


def plan_spaces(settings: Settings) -> tuple[PlannedSpace, ...]:
    """The templates in which maps are wanted.

    Raises
    ------
    ValueError : a space that is not known, or whose files are neither in TemplateFlow's folder nor can be fetched.
    """
    words = settings.steps["output"].words()
    known = tuple(dict.fromkeys((*KNOWN_TEMPLATES, *templates_at_hand())))
    return tuple(_planned(space) for space in parse_spaces(words, known))


def uses_t1w(spaces: tuple[PlannedSpace, ...]) -> bool:
    """Whether a T1w image of the session decides where a template lies."""
    return any(planned.t1w for planned in spaces)


def _planned(space: Space) -> PlannedSpace:
    cited = (MNI_2009,) if space.name.startswith("MNI152NLin2009") else ()
    if space.name == OWN_SPACE and OWN_SPACE not in templates_at_hand():
        return PlannedSpace(space, source=OWN_SOURCE, citations=cited)
    t1w, mask = _files(space.name)
    source = " and ".join(path.name for path in (t1w, mask) if path)
    return PlannedSpace(space, t1w, mask, source, (*cited, TEMPLATEFLOW))


@lru_cache
def _files(name: str) -> tuple[Path, Path | None]:
    """The files of a template, looked for once."""
    return template_files(name)
