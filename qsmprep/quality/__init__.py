"""Numbers that judge a run: each with its limits, and a verdict."""
