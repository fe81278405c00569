"""Lights: their colours by temperature, temperatures by colour, and colours under one seen under another."""

from functools import cache

import numpy as np

from deepisp_cli.colour import XYZ_FROM_SRGB

D65 = XYZ_FROM_SRGB.sum(1)  # white of sRGB
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def white_xyz(kelvin: float) -> np.ndarray:
    """The colour of light of a colour temperature.

    Parameters
    ----------
    kelvin : 1667 to 25000. From 5000 up daylight (CIE 15:2004, 3.1), up to 4000 a black body (Kim et al.,
        US 7024034, 2002), in between what lies between the two.

    Returns
    -------
    (3,) float64 XYZ with Y = 1.
    """
    share = min(max((kelvin - 4000) / 1000, 0.0), 1.0)
    x, y = (1 - share) * _black_body(kelvin) + share * _daylight(kelvin)
    return xyz_of(x, y)


def xyz_of(x: float, y: float) -> np.ndarray:
    """A chromaticity of CIE 1931 as (3,) float64 XYZ with Y = 1."""
    return np.array([x / y, 1, (1 - x - y) / y])


def _daylight(kelvin: float) -> np.ndarray:
    """x and y of daylight, from 4000 K on."""
    low = [0.244063, 0.09911, 2.9678, -4.6070]
    high = [0.237040, 0.24748, 1.9018, -2.0064]
    x = np.polynomial.polynomial.polyval(1e3 / kelvin, low if kelvin <= 7000 else high)
    return np.array([x, -3.0 * x**2 + 2.87 * x - 0.275])


def _black_body(kelvin: float) -> np.ndarray:
    """x and y of a black body, from 1667 K on."""
    warm = [0.179910, 0.8776956, -0.2343589, -0.2661239]
    cool = [0.240390, 0.2226347, 2.1070379, -3.0258469]
    x = np.polynomial.polynomial.polyval(1e3 / kelvin, warm if kelvin <= 4000 else cool)
    candle, lamp, hot = (
        [-0.20219683, 2.18555832, -1.34811020, -1.1063814],
        [-0.16748867, 2.09137015, -1.37418593, -0.9549476],
        [-0.37001483, 3.75112997, -5.87338670, 3.0817580],
    )
    y = np.polynomial.polynomial.polyval(x, candle if kelvin <= 2222 else lamp if kelvin <= 4000 else hot)
    return np.array([x, y])


def correlated_temperature(xyz: np.ndarray) -> float:
    """The colour temperature in K, to a mired (1e6 / K), of the light nearest in chromaticity.

    Parameters
    ----------
    xyz : (3,) XYZ, of any brightness.
    """
    kelvins, locus = _locus()
    return float(kelvins[np.square(locus - _chromaticity(xyz)).sum(1).argmin()])


@cache
def _locus() -> tuple[np.ndarray, np.ndarray]:
    kelvins = 1e6 / np.arange(40, 600)
    return kelvins, np.array([_chromaticity(white_xyz(kelvin)) for kelvin in kelvins])


def _chromaticity(xyz: np.ndarray) -> np.ndarray:
    """CIE 1960 u and v, in which distances to the black body are measured."""
    x, y, z = xyz
    return np.array([4 * x, 6 * y]) / (x + 15 * y + 3 * z)


def chromatic_adaptation(light: np.ndarray) -> np.ndarray:
    """What colours under a light look like under D65, by Bradford's transform.

    Parameters
    ----------
    light : (3,) XYZ, of natural or incandescent light.

    Returns
    -------
    (3, 3) float64, XYZ to XYZ.
    """
    return np.linalg.inv(BRADFORD) @ np.diag((BRADFORD @ D65) / (BRADFORD @ light)) @ BRADFORD
