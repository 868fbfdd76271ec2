"""Weights of networks as files: what they hold, where they are found, and how those of others are brought in."""
