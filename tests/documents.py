"""Findings as records and sidecars hold them, for tests that write or read such files."""

from qsmprep.findings import fact_values


def facts(**values):
    """Facts by their key."""
    return [{"key": key, "label": key.replace("_", " "), "unit": "", "value": value} for key, value in values.items()]


def warning(code, text):
    return {"code": code, "text": text, "remedy": f"What to do about {code}."}


def note(code, text):
    return {"code": code, "text": text}


def error(message, step=""):
    """Why a run failed."""
    return {"step": step, "message": message}


def values(step):
    """Key -> value of the facts of a step's record."""
    return fact_values(step["facts"])


def told(result):
    """Key -> value of the facts of a step's result."""
    return {fact.key: fact.value for fact in result.facts}


def codes(step, kind="warnings"):
    """Codes of the warnings or notes of a step's record."""
    return [found["code"] for found in step[kind]]
