"""Where the lab's hosts stand, and how long a packet is under way between two of them.

The delay follows from the distance: light in glass does 200 km a millisecond, cables are
about half as long again as the great circle, and each pair pays once for access networks
and routers. That gives round trips of 24 ms from Amsterdam to Helsinki, 89 ms from
Amsterdam to New York and 1 ms inside one site, which is what such paths show in practice.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import asin, cos, radians, sin, sqrt
from typing import Final

EARTH_RADIUS_KM: Final = 6371.0
FIBRE_KM_PER_SECOND: Final = 200_000.0
CABLE_DETOUR: Final = 1.5
ACCESS_SECONDS: Final = 0.0005


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A data centre: ``region`` as operators name theirs, degrees north and east."""

    region: str
    city: str
    continent: str
    latitude: float
    longitude: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedSite:
    """A host's name and its site."""

    name: str
    site: Site


EU_WEST: Final = Site(region="eu-west", city="Amsterdam", continent="Europe", latitude=52.37, longitude=4.90)
EU_NORTH: Final = Site(
    region="eu-north", city="Helsinki", continent="Europe", latitude=60.17, longitude=24.94
)
US_EAST: Final = Site(
    region="us-east", city="New York", continent="North America", latitude=40.71, longitude=-74.01
)
US_WEST: Final = Site(
    region="us-west", city="San Francisco", continent="North America", latitude=37.77, longitude=-122.42
)
AP_SOUTH: Final = Site(
    region="ap-southeast", city="Singapore", continent="Asia", latitude=1.35, longitude=103.82
)
SA_EAST: Final = Site(
    region="sa-east", city="Sao Paulo", continent="South America", latitude=-23.55, longitude=-46.63
)

# The three hosts that run the services, their three helpers beside them, then whoever else comes.
_FLEET: Final = (
    ("tesla", EU_WEST),
    ("newton", EU_NORTH),
    ("bohr", US_EAST),
    ("curie", EU_WEST),
    ("fermi", EU_NORTH),
    ("dirac", US_EAST),
)
_FURTHER: Final = (
    "planck",
    "noether",
    "pauli",
    "meitner",
    "faraday",
    "maxwell",
    "hertz",
    "volta",
    "ampere",
    "ohm",
    "kelvin",
    "joule",
    "watt",
    "pascal",
    "celsius",
    "becquerel",
    "rutherford",
    "chadwick",
    "heisenberg",
    "schrodinger",
    "born",
    "feynman",
    "dyson",
    "schwinger",
    "wigner",
    "lorentz",
    "poincare",
    "gauss",
    "euler",
    "riemann",
    "hilbert",
    "galois",
    "abel",
    "cauchy",
    "fourier",
    "laplace",
    "lagrange",
    "leibniz",
    "fermat",
    "descartes",
    "kepler",
    "galileo",
    "copernicus",
    "brahe",
    "huygens",
    "hooke",
    "boyle",
    "dalton",
    "avogadro",
    "mendeleev",
    "lavoisier",
    "franklin",
    "coulomb",
    "oersted",
    "doppler",
    "bessel",
    "hubble",
    "leavitt",
    "cannon",
    "rubin",
    "chandra",
    "hawking",
    "penrose",
    "lemaitre",
    "friedmann",
    "hopper",
    "lovelace",
    "turing",
    "shannon",
    "babbage",
    "boole",
    "neumann",
    "godel",
    "church",
    "kleene",
    "dijkstra",
    "knuth",
    "hamming",
    "wiener",
    "ritchie",
    "darwin",
    "mendel",
    "pasteur",
    "koch",
    "fleming",
    "crick",
    "watson",
    "wallace",
    "linnaeus",
    "hooker",
    "humboldt",
    "wegener",
    "mohs",
    "richter",
)
_SITES: Final = (EU_WEST, US_WEST, EU_NORTH, US_EAST, AP_SOUTH, SA_EAST)

PLACES: Final[tuple[NamedSite, ...]] = (
    *(NamedSite(name=name, site=site) for name, site in _FLEET),
    *(NamedSite(name=name, site=_SITES[i % len(_SITES)]) for i, name in enumerate(_FURTHER)),
)


def distance_km(a: Site, b: Site) -> float:
    """Great-circle distance by the haversine formula, in kilometres."""
    north_a, north_b = radians(a.latitude), radians(b.latitude)
    half_north = (north_b - north_a) / 2
    half_east = radians(b.longitude - a.longitude) / 2
    chord = sin(half_north) ** 2 + cos(north_a) * cos(north_b) * sin(half_east) ** 2
    return 2 * EARTH_RADIUS_KM * asin(sqrt(min(1.0, chord)))


def delay_seconds(a: Site, b: Site) -> float:
    """One-way delay between a host at ``a`` and another one at ``b``, in seconds; symmetrical."""
    return ACCESS_SECONDS + distance_km(a, b) * CABLE_DETOUR / FIBRE_KM_PER_SECOND
