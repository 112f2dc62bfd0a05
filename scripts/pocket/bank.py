"""The bank: scenes with their captions as plain arrays, drawn by many processes once and painted on the device."""

import multiprocessing
import random

import numpy as np

import captions
import scenes
import words

FIELDS = {  # name: (columns, type); -1 where there is nothing
    "t5": ("length", np.int16), "kind": (scenes.MOST, np.int16), "colour": (scenes.MOST, np.int8),
    "place": (3 * scenes.MOST, np.float32), "ground": (3, np.int8), "layout": (1, np.int8),
    "noun_kind": (3, np.int16), "noun_colour": (3, np.int8), "noun_size": (3, np.int8), "noun_place": (3, np.int8),
    "noun_end": (3, np.int8), "ground_end": (1, np.int8),
}


def empty(count, length):
    """Arrays for `count` scenes."""
    return {k: np.full((count, length if n == "length" else n), -1, t) for k, (n, t) in FIELDS.items()}


def enter(bank, row, book, scene, text, form, nouns):
    """Writes one scene into the arrays."""
    bank["t5"][row] = book.t5(book.encode(text))
    for i, (x, y, side, noun) in enumerate(scene.objects()):
        bank["kind"][row, i], bank["colour"][row, i] = noun.kind, noun.colour
        bank["place"][row, 3 * i:3 * i + 3] = x, y, side
    bank["ground"][row] = scene.background, scene.pattern, scene.style
    bank["layout"][row] = scenes.NAMES.index(scene.layout)
    ends, ground_end = captions.positions(book, form, nouns, text) if form else ([-1] * 3, -1)
    labels = scenes.LAYOUTS[scene.layout].labels
    for i, noun in enumerate(scene.nouns):
        bank["noun_kind"][row, i], bank["noun_colour"][row, i] = noun.kind, noun.colour
        bank["noun_size"][row, i], bank["noun_place"][row, i] = noun.size, scenes.PLACES.index(labels[i])
        bank["noun_end"][row, i] = ends[i]
    bank["ground_end"][row] = ground_end


def _part(job):
    """One process's share, from a seed of its own."""
    count, seed, book, options = job
    rng, bank = random.Random(seed), empty(count, book.length)
    for row in range(count):
        while True:
            scene = scenes.for_training(rng, book, **options)
            text, form, nouns = captions.say(rng, book, scene)
            if len(book.encode(text)) <= book.length - 2:
                break
        enter(bank, row, book, scene, text, form, nouns)
    return bank


def make(book, count, seed, processes=1, **options):
    """A bank of scenes that training may see."""
    share = 2000
    jobs = [(min(share, count - i), seed * 1_000_003 + i, book, options) for i in range(0, count, share)]
    if processes < 2:
        parts = list(map(_part, jobs))
    else:
        # "spawn": a forked child would inherit the locks of torch's threads
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            parts = pool.map(_part, jobs)
    return {k: np.concatenate([p[k] for p in parts]) for k in FIELDS}


def of_scenes(book, drawn, texts):
    """A bank of given scenes with given captions, for the evaluation: labels of tokens are left out."""
    bank = empty(len(drawn), book.length)
    for row, (scene, text) in enumerate(zip(drawn, texts)):
        enter(bank, row, book, scene, text, "", [])
    return bank


def label_sizes(book):
    """Numbers of classes: what a noun's token says, what the background's says."""
    noun = [book.kinds, len(words.COLOURS), len(words.SIZES), len(scenes.PLACES), book.styles]
    return noun, [len(words.COLOURS), len(words.PATTERNS)]
