"""Small tools for vectors: float32 arrays of shape (3, N)."""

import numpy as np


def vector(*components):
    """Return a (3, 1) float32 column that broadcasts against (3, N)."""
    return np.array(components, np.float32).reshape(3, 1)


def dot(a, b):
    """Return the (N,) inner products of two (3, N) arrays."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def unit(a):
    """Return (3, N) scaled to length one."""
    return a / np.sqrt(dot(a, a) + np.float32(1e-20))


def mix(a, b, weight):
    """Blend from ``a`` (weight 0) to ``b`` (weight 1)."""
    return a + (b - a) * weight


def smoothstep(low, high, x):
    """Return the cubic 0..1 ramp of ``x`` between ``low`` and ``high``."""
    s = np.clip((x - low) / np.float32(high - low), 0, 1)
    return s * s * (3 - 2 * s)


def rotation(yaw=0.0, pitch=0.0):
    """Return the 3x3 matrix that pitches about x, then yaws about y (degrees); columns are the local axes."""
    a, b = np.radians([yaw, pitch])
    about_y = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return (about_y @ about_x).astype(np.float32)
