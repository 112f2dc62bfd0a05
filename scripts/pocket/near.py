"""Which concept another thing is near to: by the words that are said of both emoji, rare ones counting more."""

import math
from collections import Counter

import words

LEAST = 5.0  # of the weights of shared words


def _named(book, entries):
    """Every concept's name with the words that are said of it."""
    for concept, entry in zip(book.concepts, entries):
        said = " ".join([concept.name, *concept.also, entry["label"], *entry["tags"]])
        yield concept.name, set(book.split(said))


def table(book, entries, spoken):
    """{thing: concept} for things that the vocabulary lacks: for each the concept of which most of the same is said."""
    often = Counter(w for said in spoken.values() for w in said)
    weight = {w: math.log(len(spoken) / n) for w, n in often.items()}
    named, known, found = list(_named(book, entries)), {**book.ids, **book.same}, {}
    for thing, company in spoken.items():
        if thing in known or not thing.isalpha():
            continue
        shared = {name: sum(weight[w] for w in company if w in said) for name, said in named}
        best = max(shared, key=shared.get)
        if shared[best] >= LEAST:
            found[thing] = best
    return found


def synonyms(book):
    """{word: concept} for single words that share a concept's id, so that a slip in one of them is understood too."""
    names = {c.name for c in book.concepts} | set(words.COLOURS) | set(words.SHAPES) | set(words.SIZES[1:])
    return {word: same for word, same in book.same.items() if same in names and word.isalpha()}
