"""Measure how good a model is: benchmarks, baselines, metrics, reports."""

PROTOCOLS = ("unclipped", "clipped", "cropped")  # for "msr"; see docs/benchmarks.md
CFAS = ("bayer", "x-trans", "none")  # for "lowlight"; none: linear DNGs
