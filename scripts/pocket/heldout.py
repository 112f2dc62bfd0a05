"""The held-out rule: what training never draws, so that the evaluation asks for something new.

A pair (object, relation, object) and a pair (object, background) are held out when a hash says so: one in twenty of
each. "B right of A" is the same picture as "A left of B", so both wordings are one pair.
"""

import zlib
from functools import lru_cache

ONE_IN = 20
MIRROR = {"right of": "left of", "below": "above"}


@lru_cache(maxsize=1 << 20)
def _hash(text):
    return zlib.crc32(text.encode()) % ONE_IN == 0


def pair(first, relation, second):
    """Whether two objects in a relation are held out."""
    if relation in MIRROR:
        first, relation, second = second, MIRROR[relation], first
    return _hash(f"{first}|{relation}|{second}")


def ground(thing, colour):
    """Whether an object on a background colour is held out."""
    return _hash(f"{thing}|on|{colour}")
