"""Benchmarks: ratios against a raw limit or a peer that is measured in the same run. ``make bench``."""
