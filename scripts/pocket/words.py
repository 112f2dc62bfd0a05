"""Words: how a noun is written, alone and in the plural, and which words mean the same to the encoders."""

COLOURS = {
    "red": (220, 38, 48), "green": (38, 166, 76), "blue": (44, 86, 220), "yellow": (246, 208, 44),
    "purple": (142, 62, 186), "orange": (246, 140, 32), "pink": (246, 140, 182), "black": (24, 24, 28),
    "white": (250, 250, 250), "gray": (140, 144, 150),
}
SHAPES = ["circle", "square", "triangle", "ring", "star", "heart", "diamond", "cross"]
SIZES = ["", "small", "big"]
COUNTS = ["", "a", "two", "three", "four", "five"]
PATTERNS = ["", "striped", "dotted", "checkered"]
STYLES = ["flat", "soft", "classic"]

SPECIAL = ["<pad>", "</s>", "<unk>"]
GLUE = ["a", "on", "background", "of", "left", "right", "above", "below", "between", "and", "with", "in", "to", "next",
        "top", "style", "picture", "is", "slice"]

# A word on the left is given the very id of the word on the right, so nothing has to be learned about it.
SAME = {
    "an": "a", "the": "a", "one": "a", "1": "a", "2": "two", "3": "three", "4": "four", "5": "five", "pair": "two",
    "large": "big", "huge": "big", "giant": "big", "great": "big", "little": "small", "tiny": "small", "mini": "small",
    "grey": "gray", "violet": "purple", "over": "above", "under": "below", "beneath": "below", "underneath": "below",
    "drawing": "picture", "image": "picture", "painting": "picture", "photo": "picture", "illustration": "picture",
    "backdrop": "background", "backgrounds": "background", "stripes": "striped", "stripy": "striped", "dots": "dotted",
    "spotted": "dotted", "checked": "checkered", "checks": "checkered", "squares": "square", "circles": "circle",
    "triangles": "triangle", "rings": "ring", "stars": "star", "hearts": "heart", "diamonds": "diamond",
    "crosses": "cross", "disc": "circle", "styled": "style", "are": "is", "sits": "is", "stands": "is", "into": "in",
}

IRREGULAR = {
    "mouse": "mice", "sheep": "sheep", "fish": "fish", "wolf": "wolves", "deer": "deer", "leaf": "leaves", "tooth": "teeth",
    "loaf": "loaves", "angelfish": "angelfish", "pufferfish": "pufferfish", "squid": "squid", "knife": "knives",
    "bread": "breads", "goose": "geese", "sushi": "sushi", "money": "money", "broccoli": "broccoli", "dice": "dice",
    "moose": "moose", "shrimp": "shrimp", "hippopotamus": "hippopotamuses", "cactus": "cactuses", "ox": "oxen",
}
PLURAL_ALREADY = {"grapes", "cherries", "socks", "books", "pancakes", "fries", "glasses", "noodles", "peanuts", "shoes",
                  "scissors", "skis", "jeans", "masks", "blueberries", "gloves", "trousers", "spectacles", "bricks"}


def article(word):
    """The article a person would write; both forms are one token."""
    return "an" if word[0] in "aeiou" and not word.startswith(("unicorn", "ufo", "one")) else "a"


def plural(name):
    """The plural of a name, by its last word."""
    head, _, word = name.rpartition(" ")
    if word in PLURAL_ALREADY:
        many = word
    elif word in IRREGULAR:
        many = IRREGULAR[word]
    elif word.endswith(("s", "x", "ch", "sh", "z")):
        many = word + "es"
    elif word.endswith("y") and word[-2] not in "aeiou":
        many = word[:-1] + "ies"
    else:
        many = word + "s"
    return f"{head} {many}".strip()
