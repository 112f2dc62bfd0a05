"""Scenes: what stands where. The layout follows from the words alone; only a jitter of at most 4 % is left open,
because whatever a prompt leaves open turns into blur when a picture is drawn in four steps.
"""

from dataclasses import dataclass

import heldout
import words

MOST = 5
JITTER = 0.03  # of half the picture, either way, in place; and of the size

SHAPES_ALONE = 0.2  # share of the training scenes


@dataclass(frozen=True)
class Layout:
    """Places as (x, y, noun), in units of half the picture; half sides of plain, small and big objects; the pairs
    of nouns with the relation that the picture shows."""

    places: tuple
    sides: tuple
    pairs: tuple = ()
    labels: tuple = ()


LAYOUTS = {
    "one": Layout(((0, 0, 0),), (0.60, 0.36, 0.84), (), ("centre",)),
    "row": Layout(((-0.48, 0, 0), (0.48, 0, 1)), (0.38, 0.25, 0.46), ((0, "left of", 1),), ("left", "right")),
    "column": Layout(((0, -0.48, 0), (0, 0.48, 1)), (0.38, 0.25, 0.46), ((0, "above", 1),), ("top", "bottom")),
    "three": Layout(((-0.65, 0, 0), (0, 0, 1), (0.65, 0, 2)), (0.28, 0.20, 0.31),
                    ((0, "left of", 1), (1, "left of", 2), (0, "left of", 2)), ("first", "second", "third")),
    "roof": Layout(((0, -0.47, 0), (-0.48, 0.47, 1), (0.48, 0.47, 2)), (0.37, 0.25, 0.44),
                   ((0, "above", 1), (0, "above", 2), (1, "left of", 2)), ("roof", "roof left", "roof right")),
    "bowl": Layout(((0, 0.47, 0), (-0.48, -0.47, 1), (0.48, -0.47, 2)), (0.37, 0.25, 0.44),
                   ((1, "above", 0), (2, "above", 0), (1, "left of", 2)), ("bowl", "bowl left", "bowl right")),
    "two alike": Layout(((-0.48, 0, 0), (0.48, 0, 0)), (0.38, 0.25, 0.46), (), ("two",)),
    "three alike": Layout(((0, -0.47, 0), (-0.48, 0.47, 0), (0.48, 0.47, 0)), (0.37, 0.25, 0.44), (), ("three",)),
    "four alike": Layout(((-0.47, -0.47, 0), (0.47, -0.47, 0), (-0.47, 0.47, 0), (0.47, 0.47, 0)),
                         (0.37, 0.25, 0.44), (), ("four",)),
    "five alike": Layout(((-0.6, -0.6, 0), (0.6, -0.6, 0), (0, 0, 0), (-0.6, 0.6, 0), (0.6, 0.6, 0)),
                         (0.29, 0.20, 0.34), (), ("five",)),
}
NAMES = list(LAYOUTS)
WEIGHTS = [22, 24, 20, 7, 5, 5, 5, 5, 4, 3]
PLACES = [label for layout in LAYOUTS.values() for label in layout.labels]


@dataclass(frozen=True)
class Noun:
    """One thing in a scene: its kind, its colour (-1: its own) and its size."""

    kind: int
    colour: int
    size: int


@dataclass(frozen=True)
class Scene:
    """All that a caption says and a picture shows."""

    layout: str
    nouns: tuple
    background: int
    pattern: int
    style: int

    def objects(self):
        """(x, y, half side, noun) of every object, without jitter."""
        plan = LAYOUTS[self.layout]
        return [(x, y, plan.sides[self.nouns[n].size], self.nouns[n]) for x, y, n in plan.places]


def called(book, noun):
    """The name under which the held-out rule knows a noun."""
    name = book.name(noun.kind)
    return f"{list(words.COLOURS)[noun.colour]} {name}" if noun.colour >= 0 else name


def is_heldout(book, scene):
    """Whether a scene shows anything that training must not see."""
    names = [called(book, n) for n in scene.nouns]
    colour = list(words.COLOURS)[scene.background]
    pairs = LAYOUTS[scene.layout].pairs
    return any(heldout.ground(n, colour) for n in names) or any(heldout.pair(names[a], r, names[b]) for a, r, b in pairs)


def _noun(rng, book, background, small_chance, shapes):
    size = rng.choices((0, 1, 2), (1 - 2 * small_chance, small_chance, small_chance))[0]
    if rng.random() < shapes:
        kind = len(book.concepts) + rng.randrange(len(words.SHAPES))
        return Noun(kind, rng.choice([c for c in range(len(words.COLOURS)) if c != background]), size)
    return Noun(rng.randrange(len(book.concepts)), -1, size)


def draw(rng, book, shapes=0.2, layouts=None):
    """Any scene, held out or not."""
    layout = rng.choices(NAMES, WEIGHTS)[0] if layouts is None else rng.choice(layouts)
    count = 1 + max(n for _, _, n in LAYOUTS[layout].places)
    background = rng.randrange(len(words.COLOURS))
    pattern = rng.randrange(1, len(words.PATTERNS)) if rng.random() < 0.15 else 0
    nouns = []
    while len(nouns) < count:
        noun = _noun(rng, book, background, 0.2 if count < 3 else 0.07, shapes)
        if all((noun.kind, noun.colour) != (n.kind, n.colour) for n in nouns):
            nouns.append(noun)
    return Scene(layout, tuple(nouns), background, pattern, rng.randrange(book.styles))


def for_training(rng, book, **options):
    """A scene that training may see; some are of shapes alone, which are told apart by their colours only."""
    if rng.random() < SHAPES_ALONE:
        options = options | dict(shapes=1.0)
    while is_heldout(book, scene := draw(rng, book, **options)):
        pass
    return scene


def for_evaluation(rng, book, **options):
    """A scene with something that training never saw."""
    while not is_heldout(book, scene := draw(rng, book, **options)):
        pass
    return scene


def of_version_1(rng, book):
    """A scene of version 1's grammar: one or two coloured shapes on a plain background."""
    scene = draw(rng, book, shapes=1.0, layouts=["one", "row", "row", "column", "column"])
    return Scene(scene.layout, scene.nouns, scene.background, 0, 0)
