"""Captions: several wordings of a scene, and where in them each thing is said."""

import scenes
import words

COLOURS = list(words.COLOURS)

ROW = ["{0} left of {1}", "{0} to the left of {1}", "{0} on the left of {1}", "{0} is left of {1}", "{1} right of {0}",
       "{1} to the right of {0}", "{1} on the right of {0}", "{1} is right of {0}", "{0} and {1}", "{0} next to {1}"]
COLUMN = ["{0} above {1}", "{0} over {1}", "{0} is above {1}", "{0} on top of {1}", "{1} below {0}", "{1} under {0}",
          "{1} is below {0}", "{0} above {1}"]
WORDINGS = {
    "one": ["{0}"], "row": ROW, "column": COLUMN,
    "three": ["{1} between {0} and {2}", "{1} is between {0} and {2}", "{0}, {1} and {2}", "{0} left of {1} left of {2}"],
    "roof": ["{0} above {1} and {2}", "{0} over {1} and {2}", "{0} is above {1} and {2}"],
    "bowl": ["{0} below {1} and {2}", "{0} under {1} and {2}", "{0} is below {1} and {2}"],
    "two alike": ["{0}"], "three alike": ["{0}"], "four alike": ["{0}"], "five alike": ["{0}"],
}


def phrase(book, noun, many, name):
    """A noun phrase: article or number, size, colour, name."""
    parts = [words.SIZES[noun.size], COLOURS[noun.colour] if noun.colour >= 0 else "", words.plural(name) if many > 1 else name]
    said = " ".join(p for p in parts if p)
    if many == 1 and name.split()[-1] in words.PLURAL_ALREADY:
        return said
    return f"{words.COUNTS[many]} {said}" if many > 1 else f"{words.article(said)} {said}"


def ground(rng, scene):
    """How the background is said; nothing at all now and then when it is plain and white."""
    colour, pattern = COLOURS[scene.background], words.PATTERNS[scene.pattern]
    if colour == "white" and not pattern and rng.random() < 0.4:
        return ""
    said = f"{pattern} {colour}".strip()
    forms = [f"on {words.article(said)} {said} background"] * 4 + [f"with {words.article(said)} {said} background"]
    if not pattern:
        forms.append(f"on {colour}")
    return rng.choice(forms)


def _styled(rng, scene, text):
    """Says the style; flat is what goes without saying."""
    style = words.STYLES[scene.style]
    if scene.style == 0 and rng.random() < 0.5:
        return f"a picture of {text}" if rng.random() < 0.2 else text
    return rng.choice([f"{text} in {style} style", f"{text} in a {style} style", f"{text}, {style} style",
                       f"a {style} picture of {text}"])


def say(rng, book, scene, plainly=False):
    """A caption; `plainly` takes the first wording and every thing's own name."""
    many = {"two alike": 2, "three alike": 3, "four alike": 4, "five alike": 5}.get(scene.layout, 1)
    nouns = []
    for noun in scene.nouns:
        names = book.names(noun.kind)
        name = names[0] if plainly or len(names) == 1 or rng.random() < 0.75 else rng.choice(names[1:])
        nouns.append(phrase(book, noun, many, name))
    form = WORDINGS[scene.layout][0] if plainly else rng.choice(WORDINGS[scene.layout])
    text = f"{form.format(*nouns)} {ground(rng, scene)}".strip()
    return text if plainly and scene.style == 0 else _styled(rng, scene, text), form, nouns


def positions(book, form, nouns, text):
    """For each noun, the token that ends it; and the token that ends the background, -1 where none is said.

    Found by encoding the caption up to there, so it holds for any wording.
    """
    whole, start = text, text.find(form.format(*nouns))
    ends = []
    for i in range(len(nouns)):
        marks = [n if j != i else n + "\0" for j, n in enumerate(nouns)]
        said = whole[:start] + form.format(*marks).split("\0")[0]
        ends.append(len(book.split(said)) - 1)
    after = len(book.split(whole[:start] + form.format(*nouns)))
    tokens = [book.same.get(w, w) for w in book.split(whole)]
    ground_ends = [i for i in range(after, len(tokens)) if tokens[i] == "background" or tokens[i] in words.COLOURS]
    return ends, ground_ends[-1] if ground_ends else -1
