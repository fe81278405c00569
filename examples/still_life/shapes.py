"""Shapes: each has a bounding sphere, hit() and normal()."""

import numpy as np

from .vectors import dot, smoothstep, unit, vector

EPSILON = 2e-3  # dm; float32 rays leave their surface by this much
STEPS = 44  # sphere-tracing steps for the implicit shapes


class Sphere:
    """A ball."""

    def __init__(self, centre, radius):
        self.centre, self.radius, self.bound = vector(*centre), np.float32(radius), np.float32(radius)

    def hit(self, origin, direction):
        """Return (N,) distances along unit ``direction`` to the near side, inf where there is none."""
        from_centre = origin - self.centre
        b = dot(from_centre, direction)
        inside = b * b - dot(from_centre, from_centre) + self.radius**2
        t = -b - np.sqrt(np.maximum(inside, 0))
        return np.where((inside > 0) & (t > EPSILON), t, np.inf)

    def normal(self, p):
        return (p - self.centre) / self.radius


class Box:
    """A box of half sizes ``half`` turned by the 3x3 matrix ``turn``."""

    def __init__(self, centre, half, turn=None):
        self.centre, self.half = vector(*centre), vector(*half)
        self.turn = np.eye(3, dtype=np.float32) if turn is None else turn
        self.bound = np.sqrt(dot(self.half, self.half))[0]

    def local(self, p):
        """Return the points in the box's own axes, about its centre."""
        return self.turn.T @ (p - self.centre)

    def hit(self, origin, direction):
        o, d = self.local(origin), self.turn.T @ direction
        inverse = 1 / np.where(np.abs(d) < 1e-9, np.float32(1e-9), d)
        middle, reach = -o * inverse, np.abs(inverse) * self.half
        near, far = (middle - reach).max(axis=0), (middle + reach).min(axis=0)
        return np.where((near < far) & (near > EPSILON), near, np.inf)

    def normal(self, p):
        q = self.local(p) / self.half
        face = np.abs(q).argmax(axis=0)
        return self.turn[:, face] * np.sign(q[face, np.arange(q.shape[1])])


class Implicit:
    """A shape given by ``field(local points)``, about its signed distance (N,), in a bounding sphere."""

    def __init__(self, centre, bound, field, turn=None):
        self.centre, self.bound, self.field = vector(*centre), np.float32(bound), field
        self.turn = np.eye(3, dtype=np.float32) if turn is None else turn

    def local(self, p):
        return self.turn.T @ (p - self.centre)

    def hit(self, origin, direction):
        o, d = self.local(origin), self.turn.T @ direction
        b = dot(o, d)
        half = np.sqrt(np.maximum(b * b - dot(o, o) + self.bound**2, 0))
        t, far = np.maximum(-b - half, EPSILON), half - b
        for _ in range(STEPS):
            distance = self.field(o + t * d)
            t = t + np.where(t < far, np.maximum(distance, 0), 0)
        # Tighter than EPSILON, so that a ray leaving this surface does not hit it again.
        # A ray from afar that is still creeping along the surface after all steps is a grazing hit.
        reached = (distance < EPSILON / 2) | ((distance < 1.5 * EPSILON) & (t > 0.2))
        return np.where(reached & (t < far), t, np.inf)

    def normal(self, p):
        q, steps = self.local(p), np.float32(4e-3) * np.eye(3, dtype=np.float32)[:, :, None]
        return self.turn @ unit(np.stack([self.field(q + step) - self.field(q - step) for step in steps]))


class Capsule:
    """A thin round rod from ``start`` to ``end``."""

    def __init__(self, start, end, radius):
        self.start, self.axis, self.radius = vector(*start), vector(*end) - vector(*start), np.float32(radius)
        self.length2 = dot(self.axis, self.axis)
        self.centre, self.bound = self.start + self.axis / 2, np.sqrt(self.length2[0]) / 2 + radius

    def hit(self, origin, direction):
        o = origin - self.start
        along_d, along_o = dot(self.axis, direction), dot(self.axis, o)
        a = self.length2 - along_d**2
        b = self.length2 * dot(direction, o) - along_o * along_d
        c = self.length2 * dot(o, o) - along_o**2 - self.radius**2 * self.length2
        inside = b * b - a * c
        t = (-b - np.sqrt(np.maximum(inside, 0))) / np.maximum(a, 1e-9)
        y = along_o + t * along_d
        return np.where((inside > 0) & (y > 0) & (y < self.length2) & (t > EPSILON), t, np.inf)

    def normal(self, p):
        q = p - self.start
        return unit(q - self.axis * (dot(q, self.axis) / self.length2))


class Leaf:
    """A flat pointed leaf from ``base`` along ``along``; ``face`` is roughly its upper side."""

    def __init__(self, base, along, face, length, width):
        self.base, self.length, self.width = vector(*base), np.float32(length), np.float32(width)
        self.along = unit(vector(*along))
        self.across = unit(np.cross(vector(*face), self.along, axis=0))
        self.face = np.cross(self.along, self.across, axis=0)
        self.centre, self.bound = self.base + self.along * self.length / 2, self.length / 2 + self.width / 2

    def local(self, p):
        """Return (u, v): 0..1 along the leaf and -1..1 across its width."""
        q = p - self.base
        u = dot(q, self.along) / self.length
        outline = np.sin(np.pi * np.clip(u, 0, 1) ** 0.8) * self.width / 2 + 1e-4
        return u, dot(q, self.across) / outline

    def hit(self, origin, direction):
        slope = dot(direction, self.face)
        t = dot(self.base - origin, self.face) / np.where(np.abs(slope) < 1e-6, np.float32(1e-6), slope)
        u, v = self.local(origin + t * direction)
        return np.where((t > EPSILON) & (u > 0) & (u < 1) & (np.abs(v) < 1), t, np.inf)

    def normal(self, p):
        u, v = self.local(p)
        # The blade is flat but shaded as if folded along its midrib and bent towards the tip.
        return unit(
            self.face + self.across * 0.35 * np.sign(v) * np.abs(v) ** 0.5 + self.along * 0.5 * (u - 0.4)
        )


class Cloth(Implicit):
    """A sheet lying on the table with a few folds, cut to ``half`` sizes; its ends are fringed."""

    TOP = 0.15  # dm, above the highest fold

    def __init__(self, centre, half, turn):
        super().__init__(centre, np.hypot(*half) + 0.1, self.above, turn)
        self.half = half

    @staticmethod
    def height(x, z):
        """Return the height of the cloth; the folds run across and grow towards both ends."""
        bend = x + 0.16 * np.sin(1.7 * z + 0.6)
        ends = smoothstep(1.1, 2.1, bend) + smoothstep(1.2, 2.0, -bend)
        return 0.025 + ends * 0.055 * (1 + np.sin(9.0 * bend + 0.5 * z)) + 0.012 * np.sin(2.1 * x - 3 * z + 1)

    def above(self, q):
        return q[1] - self.height(q[0], q[2])

    def hit(self, origin, direction):
        o, d = self.local(origin), self.turn.T @ direction
        # From where the ray comes below the highest fold; the step allows for folds that rise towards it.
        t = np.maximum(np.where(d[1] < 0, (self.TOP - o[1]) / np.minimum(d[1], -1e-6), 0), 2 * EPSILON)
        for _ in range(10):
            gap = self.above(o + t * d)
            t = t + gap / (np.abs(d[1]) + 0.4)
        x, y, z = o + t * d
        t = np.where((np.abs(gap) < EPSILON) & (y < self.TOP) & (t > 3 * EPSILON), t, np.inf)
        fringe = np.abs(np.sin(z * 34 + 2 * np.sin(x * 9))) > 0.55
        inside = (np.abs(z) < self.half[1]) & (np.abs(x) < self.half[0] + 0.16 * fringe)
        return np.where(inside, t, np.inf)
