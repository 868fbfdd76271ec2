"""The page and the tables over all runs of a study."""
