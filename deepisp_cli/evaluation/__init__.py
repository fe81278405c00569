"""How good is a model: benchmarks, baselines, metrics, reports."""

PROTOCOLS = ("unclipped", "clipped", "cropped")  # of "msr"; see docs/benchmarks.md
