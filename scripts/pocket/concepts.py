"""Concepts: what a model can draw, and the vocabulary of words that names it.

`concepts.txt` is written by hand; `confusable.txt` lists what a classifier could not tell apart on real pictures
(`prune.py`); a model takes the first N of the rest.
"""

from dataclasses import dataclass, field
from pathlib import Path

import words

HERE = Path(__file__).parent
VOCABULARY_MULTIPLE = 32  # rows of the embedding: whole blocks of 32, as q8_0 stores them


@dataclass(frozen=True)
class Concept:
    """One thing: its sign, its name, and phrases that mean it too."""

    sign: str
    name: str
    also: tuple = ()

    @property
    def code(self):
        """The code point, as the icon sets' chars.json spells it: lower case, no variation selector."""
        return "-".join(f"{ord(c):x}" for c in self.sign if ord(c) != 0xFE0F)


def parse(text):
    """Concepts of a list in the format of concepts.txt."""
    found = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        sign, rest = line.split(" ", 1)
        name, _, also = rest.partition("=")
        found.append(Concept(sign, name.strip(), tuple(a.strip() for a in also.split(",") if a.strip())))
    return found


def candidates():
    """All of concepts.txt."""
    return parse((HERE / "concepts.txt").read_text(encoding="utf-8"))


def confusable():
    """Names that were dropped, each with the name it was taken for."""
    path = HERE / "confusable.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return dict(line.split(" ~ ", 1) for line in lines if " ~ " in line and not line.startswith("#"))


def chosen(count):
    """The first `count` concepts that no classifier confused with an earlier one."""
    dropped = confusable()
    return [c for c in candidates() if c.name not in dropped][:count]


@dataclass
class Book:
    """The vocabulary of one model: its concepts, then version 1's shapes, and an id for every word of theirs."""

    concepts: list
    styles: int = 3
    length: int = 32
    ids: dict = field(default_factory=dict)

    def __post_init__(self):
        self.ids = {}
        glue = words.SPECIAL + words.GLUE + list(words.COLOURS) + words.SHAPES + words.SIZES[1:]
        named = [w for c in self.concepts for w in c.name.split()]
        phrases = [w for c in self.concepts for a in c.also if " " in a for w in a.split()]
        for word in glue + words.COUNTS[2:] + words.PATTERNS[1:] + words.STYLES[: self.styles] + named + phrases:
            self.ids.setdefault(word, len(self.ids))
        self.rows = len(self.ids) + 2
        self._alias()

    def _alias(self):
        """Single words that mean a concept, plurals and the emoji itself get the id of the word they stand for."""
        same = {k: v for k, v in words.SAME.items() if v in self.ids}
        for concept in self.concepts:
            last = concept.name.split()[-1]
            same.setdefault(concept.sign, last)
            same.setdefault(concept.sign.replace("\ufe0f", ""), last)
            same.setdefault(words.plural(concept.name).split()[-1], last)
            for other in concept.also:
                if " " not in other and " " not in concept.name:
                    same.setdefault(other, concept.name)
                    same.setdefault(words.plural(other), concept.name)
                else:
                    same.setdefault(words.plural(other).split()[-1], other.split()[-1])
        self.same = {k: v for k, v in same.items() if k not in self.ids and v in self.ids}

    @property
    def bos(self):
        """CLIP's first token, after all words."""
        return len(self.ids)

    @property
    def eos(self):
        """CLIP's last token, which also pads."""
        return len(self.ids) + 1

    @property
    def embedding_rows(self):
        """Rows of the embeddings, rounded up to whole blocks."""
        return -(-self.rows // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE

    @property
    def kinds(self):
        """Number of things: concepts, then shapes."""
        return len(self.concepts) + len(words.SHAPES)

    def is_shape(self, kind):
        """Whether a kind is one of version 1's shapes, which have a colour."""
        return kind >= len(self.concepts)

    def name(self, kind):
        """The name of a kind."""
        return words.SHAPES[kind - len(self.concepts)] if self.is_shape(kind) else self.concepts[kind].name

    def names(self, kind):
        """All phrases that mean a kind, its name first."""
        return [self.name(kind)] if self.is_shape(kind) else [self.name(kind), *self.concepts[kind].also]

    def split(self, text):
        """Words as the tokenizers split them."""
        for sign in ",.;:!?-":
            text = text.replace(sign, " ")
        return text.lower().split()

    def encode(self, text):
        """Ids of the words, without any special token."""
        return [self.ids.get(self.same.get(w, w), 2) for w in self.split(text)]

    def t5(self, ids):
        """T5's ids: the end token, then padding."""
        kept = ids[: self.length - 1] + [1]
        return kept + [0] * (self.length - len(kept))

    def clip(self, ids):
        """CLIP's ids: begin, words, end, and the end token as padding."""
        kept = [self.bos] + ids[: self.length - 2] + [self.eos]
        return kept + [self.eos] * (self.length - len(kept))
