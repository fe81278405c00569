"""Light transport: what a ray meets, shadows, shading, mirrors and glass, and one diffuse bounce."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .setting import CANDLE, LAMP, ROOM, WINDOW
from .shapes import EPSILON
from .vectors import dot, smoothstep, unit, vector

GLASS_INDEX = 1.5  # refractive index of crown glass
PENUMBRA_RAYS = 5  # times as many shadow rays in penumbras


@dataclass
class Points:
    """N lit points: positions, normals, the rays that found them (all (3, N)), and what they are made of."""

    p: np.ndarray
    normal: np.ndarray
    direction: np.ndarray
    albedo: np.ndarray  # (3, N)
    f0: np.ndarray  # (N,), 0 for points without a highlight
    roughness: np.ndarray  # (N,)
    through: np.ndarray  # (N,)

    def take(self, index):
        """Return the points of ``index``."""
        return Points(*(getattr(self, field)[..., index] for field in self.__dataclass_fields__))


def reaching(centre, bound, origin, direction):
    """Return the indices of the rays that meet a bounding sphere."""
    from_centre = origin - centre
    b = dot(from_centre, direction)
    gap = dot(from_centre, from_centre) - bound**2
    return np.flatnonzero((b * b > gap) & ((b < 0) | (gap < 0)))


def candidates(scene, origin, direction, shadows_only=False):
    """Yield (index, thing, rays, (N,) distances) for every thing that some of the rays may hit.

    ``rays`` are the indices tried: a ray that misses the bounding sphere of a group, or of the thing itself,
    is not. This is most of the speed of the whole program.
    """
    for centre, bound, first, members in scene.groups:
        rays = None if bound is None else reaching(centre, bound, origin, direction)
        if rays is not None and not rays.size:
            continue
        o, d = (origin, direction) if rays is None else (origin[:, rays], direction[:, rays])
        for index, thing in enumerate(members, first):
            if shadows_only and not thing.shadow:
                continue
            near = reaching(thing.shape.centre, thing.shape.bound, o, d)
            if near.size:
                yield (
                    index,
                    thing,
                    near if rays is None else rays[near],
                    thing.shape.hit(o[:, near], d[:, near]),
                )


def nearest(scene, origin, direction):
    """Return two (N,): the distance to the nearest thing (inf for none) and its index (-1 for none)."""
    distance = np.full(origin.shape[1], np.inf, np.float32)
    which = np.full(origin.shape[1], -1, np.int16)
    for index, _, rays, t in candidates(scene, origin, direction):
        closer = t < distance[rays]
        distance[rays[closer]] = t[closer]
        which[rays[closer]] = index
    return distance, which


def visibility(scene, origin, target):
    """Return the (3, N) share of light that gets from ``target`` to ``origin``, both (3, N)."""
    path = target - origin
    length = np.sqrt(dot(path, path))
    direction, light = path / length, np.ones_like(path)
    for _, thing, rays, t in candidates(scene, origin, direction, shadows_only=True):
        blocked = rays[t < length[rays]]
        if thing.glass is None:
            light[:, blocked] = 0
        else:
            # A ball of glass focuses: dark rim, bright coloured middle. A stand-in for the caustic.
            to_centre = thing.shape.centre - origin[:, blocked]
            miss2 = dot(to_centre, to_centre) - dot(to_centre, direction[:, blocked]) ** 2
            chord = np.sqrt(np.clip(1 - miss2 / thing.shape.radius**2, 0, 1))
            light[:, blocked] *= vector(*thing.glass) ** chord * (0.12 + 1.9 * chord**5)
    return light


def shade(scene, origin, direction, sequence, *, samples, depth):
    """Return the (3, N) radiance that arrives at ``origin`` against the unit ``direction``.

    ``sequence(k, m)`` returns pair k of m of (N,) low-discrepancy numbers; ``samples`` shadow rays go to the
    main lamp, half as many to the other lights and into the hemisphere. ``depth`` mirror or glass events are
    followed.
    """
    distance, which = nearest(scene, origin, direction)
    n = origin.shape[1]
    albedo, normal, light = (np.zeros((3, n), np.float32) for _ in range(3))
    f0, roughness, through = (np.zeros(n, np.float32) for _ in range(3))
    mirror = np.zeros(n, bool)
    light[:] = ROOM
    p = origin + np.where(which >= 0, distance, 0) * direction
    for index in np.unique(which[which >= 0]):
        at, thing = np.flatnonzero(which == index), scene.things[index]
        facing = thing.shape.normal(p[:, at])
        facing = facing * -np.sign(dot(facing, direction[:, at]) + 1e-9)
        surface = thing.material(thing.shape, p[:, at], facing)
        albedo[:, at], normal[:, at], light[:, at] = surface.albedo, surface.normal, surface.emission
        f0[at], roughness[at], through[at] = surface.f0, surface.roughness, surface.through
        mirror[at] = surface.mirror
    # A mirror shows the lamps themselves and needs no highlight.
    points = Points(p, normal, direction, albedo, np.where(mirror, 0, f0), roughness, through)
    lit = np.flatnonzero((albedo.max(axis=0) > 0) | (points.f0 > 0))
    light[:, lit] += reflected(scene, points.take(lit), narrowed(sequence, lit), samples)
    shiny = np.flatnonzero(mirror)
    if depth and shiny.size:
        rest = {"samples": max(1, samples // 2), "depth": depth - 1}
        points.f0 = f0
        light[:, shiny] += mirrored(scene, which[shiny], points.take(shiny), narrowed(sequence, shiny), rest)
    return light


def narrowed(sequence, index):
    """Return the sequence for the rays ``index`` only."""
    return lambda k, m: [numbers[index] for numbers in sequence(k, m)]


def mirrored(scene, which, points, sequence, rest):
    """Return (3, N): the Fresnel reflection of polished points and, for glass balls, the refracted view.

    ``which`` are the things the points lie on; ``rest`` are the samples and depth left to shade().
    """
    cosine = -dot(points.normal, points.direction)
    fresnel = points.f0 + (1 - points.f0) * np.clip(1 - cosine, 0, 1) ** 5
    bounced = unit(points.direction + 2 * cosine * points.normal)
    light = fresnel * shade(scene, points.p + EPSILON * points.normal, bounced, sequence, **rest)
    for index in np.unique(which):
        thing, at = scene.things[index], np.flatnonzero(which == index)
        if thing.glass is None:
            continue
        centre, radius, normal = thing.shape.centre, thing.shape.radius, points.normal[:, at]
        inner = refract(points.direction[:, at], normal, 1 / GLASS_INDEX)
        chord = -2 * dot(inner, normal) * radius
        leave = points.p[:, at] + chord * inner
        outer = refract(inner, (centre - leave) / radius, GLASS_INDEX)
        beyond = shade(scene, leave + 2 * EPSILON * outer, outer, narrowed(sequence, at), **rest)
        light[:, at] += (1 - fresnel[at]) ** 2 * vector(*thing.glass) ** (chord / (2 * radius)) * beyond
    return light


def refract(direction, normal, ratio):
    """Return the (3, N) refracted directions by Snell's law; ``ratio`` is n1 / n2."""
    cosine = -dot(normal, direction)
    return unit(
        ratio * direction + (ratio * cosine - np.sqrt(np.maximum(1 - ratio**2 * (1 - cosine**2), 0))) * normal
    )


def reflected(scene, points, sequence, samples):
    """Return (3, N): diffuse light and highlights from the lamps and the window, and one diffuse bounce."""
    # Where the first shadow rays to the large lamp disagree, in a penumbra, many more follow.
    of = samples * PENUMBRA_RAYS
    first = [from_lamp(scene, LAMP, points, *sequence(k, of)) for k in range(0, of, PENUMBRA_RAYS)]
    total = sum(first) / np.float32(samples)
    mixed = np.flatnonzero(np.ptp([light[0] for light in first], axis=0) > 0)
    if mixed.size:
        part, numbers = points.take(mixed), narrowed(sequence, mixed)
        total[:, mixed] = sum(from_lamp(scene, LAMP, part, *numbers(k, of)) for k in range(of)) / np.float32(
            of
        )
    samples = max(1, samples // 2)  # the other lights are dim, or small, or smooth
    for k in range(samples):
        a, b = sequence(k, samples)
        light = from_lamp(scene, CANDLE, points, a, b) + from_window(scene, points, a, b)
        total += (light + points.albedo * bounce(scene, points, a, b)) / samples
    return total


def from_window(scene, points, a, b):
    """Return (3, N): the diffuse light of the dusk, sampled at one point of the window."""
    centre, half_w, half_h, radiance = WINDOW
    target = vector(*centre) + vector(1, 0, 0) * (2 * a - 1) * half_w + vector(0, 1, 0) * (2 * b - 1) * half_h
    path = target - points.p
    length2 = dot(path, path) + 0.1
    facing = np.maximum(dot(path, points.normal), 0) * np.maximum(-path[2], 0) / length2
    solid = 4 * half_w * half_h * facing / (np.pi * length2)
    used = np.flatnonzero(solid > 0)
    light = np.zeros_like(path)
    seen = visibility(scene, (points.p + EPSILON * points.normal)[:, used], target[:, used])
    light[:, used] = points.albedo[:, used] * radiance * solid[used] * seen
    return light


def from_lamp(scene, lamp, points, a, b):
    """Return (3, N): light of one ball lamp, sampled at one point of the disc it shows to the points."""
    p, normal = points.p, points.normal
    axis = lamp.centre - p
    distance2 = dot(axis, axis)
    axis = axis / np.sqrt(distance2)
    side = unit(np.stack([axis[2], np.zeros_like(a), -axis[0]]) + 1e-6)
    radius, turn = lamp.radius * np.sqrt(a), 2 * np.pi * b
    spot = lamp.centre + radius * (np.cos(turn) * side + np.sin(turn) * np.cross(axis, side, axis=0))
    cosine = dot(normal, axis)
    towards = np.where(cosine < 0, -1, 1) * normal  # leaves are also lit from behind
    used = np.flatnonzero((cosine > 0) | (points.through > 0))
    seen = np.zeros_like(p)
    seen[:, used] = visibility(scene, (p + EPSILON * towards)[:, used], spot[:, used])
    diffuse = points.albedo * (np.maximum(cosine, 0) + points.through * np.maximum(-cosine, 0))
    # GGX highlight with Kelemen's visibility; the lamp's own size widens it.
    middle = unit(axis - points.direction)
    alpha2 = (points.roughness + lamp.radius / np.sqrt(distance2) / 2) ** 2
    lobe = alpha2 / (np.pi * (dot(normal, middle) ** 2 * (alpha2 - 1) + 1) ** 2)
    along = np.maximum(dot(axis, middle), 0.05)
    fresnel = points.f0 + (1 - points.f0) * (1 - along) ** 5 * (points.f0 > 0)
    highlight = np.pi * lobe * fresnel / (4 * along**2) * np.maximum(cosine, 0)
    # The enamel shade cuts the light off above the lamp; its edge is soft because the globe is large.
    shaded = smoothstep(-0.30, 0.42, axis[1]) if lamp is LAMP else np.float32(1)
    return (diffuse + highlight) * seen * shaded * lamp.colour * lamp.strength / distance2


def bounce(scene, points, a, b):
    """Return (3, N): radiance from one cosine-distributed direction of the hemisphere."""
    p, normal = points.p, points.normal
    z, turn = 1 - 2 * a, 2 * np.pi * b
    ring = np.sqrt(np.maximum(1 - z * z, 0))
    out = unit(normal * 1.001 + np.stack([ring * np.cos(turn), z, ring * np.sin(turn)]))
    distance, which = nearest(scene, p + EPSILON * normal, out)
    # The lit room in that direction, as a smooth function: which far thing the ray met would only add noise.
    lit_side = smoothstep(0.8, -0.6, 0.5 * out[2] + out[1])
    far = ROOM + vector(0.15, 0.12, 0.085) * lit_side * unshadowed(p + 2 * out)
    # A thing close by lies in the same shadow: it darkens what it hides, and colours it when not too close.
    openness = smoothstep(0, 2.0, distance)
    near = scene.albedo[:, which] * unshadowed(p) * 1.2 * openness * (1 - openness)
    return far * openness + np.where(which >= 0, near, 0)


def unshadowed(p):
    """Return (3, N): the light of both lamps at ``p`` without shadows and angles, softened near them."""
    light = np.zeros_like(p)
    for lamp in (LAMP, CANDLE):
        path = lamp.centre - p
        light += lamp.colour * lamp.strength / (dot(path, path) + 3)
    return light
