"""The two word-level tokenizers: lower case, split at blanks and signs, synonyms under one id."""

import json

SPLIT = r"[\s,.;:!?\-]+"


def _special(name):
    return {"SpecialToken": {"id": name, "type_id": 0}}


def _file(vocabulary, before, after):
    """A tokenizers JSON file that puts special tokens around the words."""
    single = [*map(_special, before), {"Sequence": {"id": "A", "type_id": 0}}, *map(_special, after)]
    special = {s: {"id": s, "ids": [vocabulary[s]], "tokens": [s]} for s in [*before, *after]}
    split = {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Removed", "invert": False}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split]},
        "post_processor": {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": special},
        "decoder": None, "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
    }


def vocabulary(book):
    """Every word that is understood, with its id; several may share one."""
    return {**book.ids, **{word: book.ids[same] for word, same in book.same.items()}}


def write(book, folder):
    """Writes t5_tokenizer.json and clip_tokenizer.json."""
    known = vocabulary(book)
    files = {"t5_tokenizer.json": _file(known, [], ["</s>"]),
             "clip_tokenizer.json": _file({**known, "<bos>": book.bos, "<eos>": book.eos}, ["<bos>"], ["<eos>"])}
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, ensure_ascii=False))


def reader(folder, name, length, pad):
    """A tokenizer of a folder with the length and padding of its encoder."""
    from tokenizers import Tokenizer

    made = Tokenizer.from_file(str(folder / f"{name}_tokenizer.json"))
    made.enable_truncation(length)
    made.enable_padding(length=length, pad_id=pad)
    return made
