"""Where the sensor clips, if that is below the white level that the file states.

Blown highlights come out magenta if they are measured against a white level that the sensor never reaches:
green, whose white-balance gain is the smallest, stays below 1 while red and blue are clipped to it.
"""

import numpy as np

from deepisp_cli.demosaic import black_and_scale, normalise

BINS = 1024  # from black to white
LOWEST = 0.75  # share of white; a pile below it is a bright, even surface rather than the end of the scale
PERIODS = 2  # of the black tile; only the first of so many is looked at, down and across: for speed
SMALLEST_PILE = 200  # samples of one CFA position that are looked at
NARROW = 1  # bins on each side of the fullest one that belong to the pile
BELOW = 20  # bins below the pile that it has to tower over
TOWERS = 10.0  # how many times as many samples it needs as any of those bins
STRAYS = 0.02  # the largest number of samples (hot pixels) above the pile, as a share of it


def clipping_level(samples: np.ndarray, black: np.ndarray, white: np.ndarray) -> float:
    """Share of the range from black to white at which the first channel clips; 1 if none clips below white.

    Parameters
    ----------
    samples : (H, W) counts of a mosaic.
    black : (rows, columns) counts, repeating from ``samples[0, 0]``.
    white : (rows, columns) counts, repeating likewise.

    Notes
    -----
    Noise spreads unclipped samples over many counts; clipped ones pile up in a few. A raw rendered without
    noise may seem to clip at the level of an even, bright thing.
    """
    # of any pattern: the gains are all 1
    levels, scales = black_and_scale("RGGB", black, white, np.ones(3, np.float32))
    rows, columns = levels.shape
    counts = np.zeros((2, 2, BINS + 1), np.int64)
    for row in range(rows):
        for column in range(columns):
            part = samples[row :: PERIODS * rows, column :: PERIODS * columns].astype(np.float32)
            share = normalise(part, levels[row, column], scales[row, column])
            share = share[share >= LOWEST - BELOW / BINS]
            counts[row % 2, column % 2] += np.bincount((share * BINS).astype(np.intp), minlength=BINS + 1)
    return min(_clips_at(histogram) for histogram in counts.reshape(4, -1))


def _clips_at(histogram: np.ndarray) -> float:
    """The lower edge of the pile at the upper end of a histogram of ``BINS`` + 1 bins; 1 if there is none."""
    first = int(LOWEST * BINS)
    peak = first + int(histogram[first:].argmax())
    bottom, top = peak - NARROW, peak + NARROW + 1
    pile = histogram[bottom:top].sum()
    below = histogram[bottom - BELOW : bottom].max()
    clipped = pile >= SMALLEST_PILE and pile >= TOWERS * below and histogram[top:].sum() <= STRAYS * pile
    return bottom / BINS if clipped and top <= BINS else 1.0
