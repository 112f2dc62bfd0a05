"""Tokenizers of a chosen size, cut from the published vocabularies in worker/assets/tokenizers.

CLIP keeps its first pieces and merges, T5 its single characters and best pieces. Written as `tokenizer.json`, and
loaded again with transformers' own classes.
"""
import json
from pathlib import Path

from tokenizers import Tokenizer
from transformers import CLIPTokenizer, PreTrainedTokenizerFast

PUBLISHED = Path(__file__).resolve().parents[2] / "worker" / "assets" / "tokenizers"
BEGIN, END = "<|startoftext|>", "<|endoftext|>"
# The expression of openai/CLIP's simple_tokenizer.
WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def clip_pieces(size):
    """(version line, pieces by text, merges) of a vocabulary of this size."""
    published = json.loads((PUBLISHED / "clip" / "vocab.json").read_text(encoding="utf-8"))
    version, *merges = (PUBLISHED / "clip" / "merges.txt").read_text(encoding="utf-8").splitlines()
    single = 512  # bytes, alone and at the end of a word
    pieces = {text: number for text, number in sorted(published.items(), key=lambda item: item[1]) if number < size - 2}
    pieces |= {BEGIN: size - 2, END: size - 1}
    return version, pieces, [merge for merge in merges if merge][: size - single - 2]


def write_clip(size, folder):
    """`tokenizer.json` of CLIP, and the two older files that transformers' class reads."""
    version, pieces, merges = clip_pieces(size)
    write_json(folder / "vocab.json", pieces)
    (folder / "merges.txt").write_text("\n".join([version, *merges]) + "\n", encoding="utf-8")

    def special(text, number, normalized):
        return dict(id=number, content=text, single_word=False, lstrip=False, rstrip=False, normalized=normalized, special=True)

    normalizers = [dict(type="NFC"), dict(type="Replace", pattern=dict(Regex=r"\s+"), content=" "), dict(type="Lowercase")]
    splitters = [dict(type="Split", pattern=dict(Regex=WORDS), behavior="Removed", invert=True),
                 dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True)]
    write_json(folder / "tokenizer.json", dict(
        version="1.0", truncation=None, padding=None,
        added_tokens=[special(BEGIN, size - 2, True), special(END, size - 1, False)],
        normalizer=dict(type="Sequence", normalizers=normalizers),
        pre_tokenizer=dict(type="Sequence", pretokenizers=splitters),
        post_processor=dict(type="RobertaProcessing", sep=[END, size - 1], cls=[BEGIN, size - 2], trim_offsets=False,
                            add_prefix_space=False),
        decoder=dict(type="ByteLevel", add_prefix_space=True, trim_offsets=True, use_regex=True),
        model=dict(type="BPE", dropout=None, unk_token=END, continuing_subword_prefix="", end_of_word_suffix="</w>",
                   fuse_unk=False, byte_fallback=False, ignore_merges=False, vocab=pieces, merges=merges)))
    Tokenizer.from_file(str(folder / "tokenizer.json"))  # a file that cannot be read fails here


def write_t5(size, folder):
    """T5's `tokenizer.json`; a small one keeps Latin characters and the best pieces."""
    published = json.loads((PUBLISHED / "t5" / "tokenizer.json").read_text(encoding="utf-8"))
    if size < 32100:
        pieces = published["model"]["vocab"]
        extra = [piece for piece in pieces if piece[0].startswith("<extra_id_")]
        special, *others = pieces[:3], *(piece for piece in pieces[3:] if piece not in extra)
        latin = [piece for piece in others if piece[0] == "\u2581" or len(piece[0]) == 1 and ord(piece[0]) < 0x250]
        known = {piece[0] for piece in special + latin}
        best = [piece for piece in others if piece[0] not in known]
        kept = special + latin
        kept += best[: size - len(extra) - len(kept)]
        published["model"]["vocab"] = kept + extra
        numbers = {piece[0]: number for number, piece in enumerate(kept + extra)}
        for token in published["added_tokens"]:
            token["id"] = numbers[token["content"]]
    write_json(folder / "tokenizer.json", published)


def load_clip(folder, padding, scratch):
    """transformers' own class on the two older files; the pipelines pad CLIP-L with the end token, CLIP-G with "!"."""
    scratch.mkdir(parents=True, exist_ok=True)
    for name in ("vocab.json", "merges.txt"):
        (scratch / name).write_bytes((folder / name).read_bytes())
    write_json(scratch / "tokenizer_config.json", dict(
        tokenizer_class="CLIPTokenizer", model_max_length=77, pad_token=padding, bos_token=BEGIN, eos_token=END, unk_token=END,
        do_lower_case=True))
    return CLIPTokenizer.from_pretrained(str(scratch))


def load(sizes, folder, scratch):
    """Writes a folder's tokenizers and loads them: (CLIP-L's, CLIP-G's, T5's)."""
    write_clip(sizes["clip_vocab"], folder / "clip")
    write_t5(sizes["t5_vocab"], folder / "t5")
    t5 = PreTrainedTokenizerFast(tokenizer_file=str(folder / "t5" / "tokenizer.json"), eos_token="</s>", unk_token="<unk>",
                                 pad_token="<pad>", model_max_length=512)
    clip_l = load_clip(folder / "clip", END, scratch / "clip_l")
    return clip_l, load_clip(folder / "clip", "!", scratch / "clip_g"), t5
