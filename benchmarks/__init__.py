"""Ours beside what one would run instead and beside the limit, in one run."""
