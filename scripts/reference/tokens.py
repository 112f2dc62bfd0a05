#!/usr/bin/env python3
"""Records the token ids that transformers gives to about 1,200 difficult prompts.

  tokens.py [--out worker/tests/goldens/tokens]

Writes prompts.jsonl (one JSON string a line) and, in the same order, published.jsonl and tiny.jsonl: a line
{"t5", "clip_l", "clip_g"} for each prompt, the padding at the end cut off. `clip_g` is absent where it is
`clip_l`. published.jsonl is of the vocabularies in worker/assets/tokenizers, tiny.jsonl of the tokenizers in
worker/tests/goldens/tiny-sd3.

The tokenizers are transformers' own classes: `CLIPTokenizer` with the padding tokens of the published
pipelines (the end token for CLIP-L, "!" for CLIP-G, which is thereby a special token), T5's
`tokenizer.json` as `PreTrainedTokenizerFast`. Lengths are the pipelines': 256 for T5, 77 for both CLIPs.

Needs transformers (recorded with 5.24.0) and tokenizers; no torch.
"""
import argparse
import json
import os
import random
import shutil
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BEGIN, END = "<|startoftext|>", "<|endoftext|>"

SPECIAL = [BEGIN, END, "<pad>", "</s>", "<s>", "<unk>", "<extra_id_0>", "<extra_id_1>", "<extra_id_42>", "<extra_id_99>",
           "<extra_id_100>", "</w>", "<w>", "<mask>", "[PAD]", "[CLS]", "[SEP]", "<bos>", "<eos>", "<|im_start|>", "<0x0A>", "\u2581"]

SPACES = {"space": " ", "tab": "\t", "lf": "\n", "cr": "\r", "crlf": "\r\n", "vt": "\v", "ff": "\f", "nel": "\u0085", "nbsp": "\u00a0",
          "ogham": "\u1680", "en quad": "\u2000", "em": "\u2003", "thin": "\u2009", "hair": "\u200a", "line": "\u2028",
          "paragraph": "\u2029", "narrow": "\u202f", "math": "\u205f", "ideographic": "\u3000"}

INVISIBLE = ["\u00ad", "\u034f", "\u061c", "\u115f", "\u17b4", "\u180e", "\u200b", "\u200c", "\u200d", "\u200e", "\u200f", "\u202a", "\u202b",
             "\u202c", "\u202d", "\u202e", "\u2060", "\u2061", "\u2066", "\u2067", "\u2069", "\ufe0e", "\ufe0f", "\ufeff", "\ufff9", "\ufffc",
             "\ufffd", "\U000e0001", "\U000e0041"]

EMOJI = ["\U0001f600", "\u2764\ufe0f", "\u2764", "\U0001f44d\U0001f3fd", "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466",
         "\U0001f3f3\ufe0f\u200d\U0001f308", "\U0001f1e9\U0001f1ea", "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
         "1\ufe0f\u20e3", "\U0001f9d1\U0001f3ff\u200d\U0001f680", "\U0001f937\u200d\u2642\ufe0f", "\U0001fae0", "\u263a", "\u00a9", "\u2122",
         "\U0001f408\u200d\u2b1b", "\U0001f468\u200d", "\u200d\U0001f467", "\U0001f3fb", "\U0001f1e9"]

SCRIPTS = ["Рыжий кот на крыше", "一只戴帽子的熊猫，油画", "日本の城、桜、夕焼け", "ｶﾀｶﾅ ひらがな カタカナ", "한국의 궁전, 수채화", "ㅎㅏㄴ", "חתול אדום על גג",
           "שָׁלוֹם", "قطة حمراء على السطح", "مُحَمَّد", "بِسْمِ", "แมวสีแดงบนหลังคา", "बिल्ली लाल छत", "ক্ষুদ্র বিড়াল", "தமிழ் பூனை", "ತೆಲುಗು", "ගෙදර", "ខ្មែរ ឆ្មា",
           "မြန်မာ", "ལྷ་ས", "ქართული კატა", "Հայերեն կատու", "አማርኛ ድመት", "Ελληνική γάτα ΣΊΣΥΦΟΣ", "ᏣᎳᎩ", "ᚠᚢᚦᚨᚱᚲ", "Tiếng Việt con mèo", "İstanbul ıslak",
           "STRASSE straße ẞ", "Ǆ ǅ ǆ", "Œuvre œ Æ æ", "þorn ðæt", "\U00010400\U00010428", "\U00020000\U0002a6d6", "\U0001d573\U0001d58a\U0001d591\U0001d591\U0001d594",
           "\u1e9e\u0130\u0131\u017f", "\ufb03 \ufb01 \ufb06", "\u2460 \u2461 \u32ff", "\u212b \u2126 \u2103", "\uff21\uff22\uff23 \uff41\uff42\uff43 \uff11\uff12\uff13 \uff01\uff1f",
           "\u00bd \u00bc \u00b2 \u00b3 \u2075 \u2090", "\u216b \u2170", "\u0661\u0662\u0663 \u0967\u0968 \u0e51", "\u3231 \u33a1 \u3392", "\uac00\u11a8 \u1100\u1161\u11a8", "\u0344 \u0374 \u037e \u0387",
           "\u1f71 \u03ac \u1fbe", "\u2000\u2001", "\u2329\u232a", "\ufb1d \ufb2c", "\u0958 \u0915\u093c", "\u1e0b\u0323 d\u0323\u0307", "a\u0301\u0302\u0303\u0304\u0305\u0306"]

BASES = ["a cat", "red", "Hello World", "a photo of a dog", "7", "\u65e5\u672c", "it's", "x"]


def bangs():
    """"!" in every place: alone, repeated, beside letters, digits, signs, blanks, special tokens, accents."""
    out = ["!" * n for n in (1, 2, 3, 4, 5, 8, 16, 40, 75, 76, 77, 80, 160)]
    out += [" ".join("!" * n) for n in (2, 3, 5)]
    for base in BASES:
        out += [f"{base}!", f"!{base}", f"!{base}!", f"{base} !", f"! {base}", f"{base}!!", f"{base}!!!", f"{base}!?", f"{base}?!",
                f"{base}!.", f"{base}.!", f"{base}!{base}", f"{base} ! {base}", f"{base}!\n", f"\n!{base}", f"{base},!,{base}"]
    signs = "\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
    out += [f"!{sign}" for sign in signs] + [f"{sign}!" for sign in signs] + [f"a{sign}!{sign}b" for sign in signs]
    out += [f"!{token}" for token in SPECIAL] + [f"{token}!" for token in SPECIAL] + [f"a !{token}! b" for token in SPECIAL[:8]]
    out += [f"!{space}!" for space in SPACES.values()] + [f"hi!{unseen}!" for unseen in INVISIBLE]
    out += ["!\u0301", "a!\u0301b", "\u00a1Hola!", "\u00a1", "\u01c3", "\uff01", "hi\uff01", "\u203c", "\u2049", "\u2755", "\u2757", "\u203c\ufe0f", "wow\u2757\ufe0f!",
            "!!!1!!11!one!", "<!-- html -->", "#!/bin/sh", "!important", "a != b", "5! = 120", "!!", "Yahoo!", "P!nk", "don't!stop", "LETS GO RUSTY!",
            "A sign that says \"STOP!\"", "neon text \"LETS GO!\"", "(masterpiece!:1.3)", "hello world!", "Hello, World!", "HELLO WORLD!", "hello world !",
            "wow!!!", "?!", "!?", "what?!?!", "...!", "!...", "no! no! no!", "!</w>", "</w>!", "!</w>!", "a!</w>b", "!" + "\u00e9", "caf\u00e9!", "cafe\u0301!",
            "stop!stop!stop!" * 20, ("go! " * 100).strip(), "a" * 300 + "!", "word " * 74 + "!", "word " * 75 + "!", "word " * 73 + "!!!"]
    return out


def specials():
    out = []
    for token in SPECIAL:
        out += [token, token.upper(), token * 2, f"a{token}b", f"a {token} b", f" {token} ", f"{token}\n", token[1:], token[:-1],
                token.replace("|", "\uff5c"), f"\u00e9{token}\u0301"]
    return out + ["<|endoftext|><|startoftext|>", "<| endoftext |>", "<|end oftext|>", "<extra_id_0><extra_id_1>", "<extra_id_ 0>", "\u2581red", "\u2581\u2581", "a\u2581b"]


def blanks():
    out = ["", " ", "  ", "   ", "\t", "\n", "\r\n", "\u00a0", "\u3000"]
    for space in SPACES.values():
        out += [f"a{space}b", f"{space}a cat", f"a cat{space}", f"a{space}{space}b", f"{space} a {space}", f"red{space},{space}blue"]
    out += [f"a{unseen}b" for unseen in INVISIBLE] + [f"{unseen}cat" for unseen in INVISIBLE] + [f"cat {unseen} dog" for unseen in INVISIBLE]
    out += [f"a{chr(code)}b" for code in [*range(0, 32), 127, *range(128, 160)]]
    return out + ["\ufeffa cat", "\ufeffa cat\r\n", "a cat\r\nin a hat\r\n", "line one\nline two\n\nline four", "a\r\r\nb", "tab\tseparated\tvalues", "\0", "\0\0a"]


def punctuation():
    signs = "\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
    out = [sign for sign in signs] + [sign * 3 for sign in signs] + [f"a{sign}b" for sign in signs] + [f"a {sign} b" for sign in signs]
    wide = ["\u2014", "\u2013", "\u2026", "\u201c\u201d", "\u2018\u2019", "\u00ab\u00bb", "\u2022", "\u00b7", "\u00a7", "\u00b6", "\u2020", "\u2030", "\u20ac", "\u00a3", "\u00a5", "\u20b9", "\u2190\u2192", "\u2260",
            "\u221e", "\u221a2", "\u00d7", "\u00f7", "\u00b1", "\u00b0C", "\u2588\u2588", "\u2500\u2502", "\u25a0", "\u2605", "\u2713", "\u266b", "\u3001\u3002", "\u300c\u300d", "\u060c\u061f", "\u0964"]
    out += wide + [f"a{sign}b" for sign in wide]
    out += ["(masterpiece:1.2), [bad], {x|y}, <lora:foo:0.5>", "((best quality)), ultra-detailed", "a/b\\c|d", "snake_case CamelCase kebab-case",
            "user@example.org https://example.org/a?b=c&d=%20#e", "C:\\Users\\x", "--ar 16:9 --v 5", "a,b,c;d:e", "\"quoted\" 'single' `tick`", "'''", "''", "\"\"",
            "&amp; &lt;b&gt; <b>html</b> &#39; &nbsp; &quot;x&quot; &copy;", "&lt;|endoftext|&gt;", "&amp;amp;", "%20 %0A \\n \\u0041", "<br/>a<br>", "{{x}} ${y} #{z}", "*bold* _it_ ~~s~~",
            "~!@#$%^&*()_+", "\\", "\\\\", "//", "http://", "a--b", "a---b", "a..b", "a...b", "e.g., i.e., etc.", "U.S.A.", "Ph.D."]
    return out


def words():
    out = []
    for end in ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'", "'S", "'LL", "\u2019s", "\u2019ll", "'x", "'sx", "'tis", "s'"]:
        out += [f"it{end}", f"IT{end} red", f"{end}", f"the dog{end} bone", f"it {end}"]
    out += ["they'll've gone", "I'D SAY 'TIS", "rock'n'roll", "o'clock", "l'\u00e9t\u00e9", "d'accord", "y'all'd've", "don't can't won't shan't"]
    out += ["0", "1", "10", "100", "1000", "12345678901234567890", "3.14159", "1,000,000", "1.000.000,00", "2nd 3rd 4th", "0x1F", "1e-5", "50%", "$9.99", "4K 8k UHD",
            "1920x1080", "16:9", "24/7", "f/1.8 50mm ISO100", "2024-11-25T10:00:00Z", "+49 30 123456", "007", "1st1st", "a1b2c3", "H2O CO2", "\u0663\u0664", "\u00b2\u00b3", "\u2153", "1\u20442", "1 2 3 4 5 6 7 8 9"]
    out += ["a", "A", "aa", "aaa", "AAAA", "x" * 50, "x" * 500, "X" * 77, "ab" * 200, "supercalifragilisticexpialidocious", "Donaudampfschifffahrtsgesellschaft",
            "pneumonoultramicroscopicsilicovolcanoconiosis", "qwertyuiop", "zzxxccvv", "mIxEd CaSe", "ALL CAPS PROMPT", "iPhone eBay macOS"]
    return out


def long_ones():
    out = []
    for count in (60, 73, 74, 75, 76, 77, 78, 100, 200, 252, 253, 254, 255, 256, 257, 300, 600):
        out += [" ".join(["cat"] * count), " ".join(f"w{i}" for i in range(count // 2))]
    out += ["an extremely detailed painting of a harbour at dawn, " * 40, "\U0001f600" * 100, "日" * 300, "a " * 500, "\u0301" * 100, "e\u0301" * 120, "." * 300, "-" * 77, "\n" * 100,
            "red, " * 80, "<pad>" * 80, "<|endoftext|>" * 80, "</s>" * 260, "<extra_id_0>" * 260, "Word. " * 90, "1 " * 90, "\u3000" * 90 + "x"]
    return out


def mixed(random_):
    """Random mixtures of everything above, so that neighbours meet that no list thinks of."""
    pieces = [*BASES, *SPECIAL[:12], *SPACES.values(), *INVISIBLE[:20], *EMOJI, *SCRIPTS[:30], "!", "!!", "?!", ",", ".", "'s", "'ll", "\u0301", "42", "\u00e9", "&amp;", "(", ")", "A", "</w>"]
    out = []
    for _ in range(230):
        count = random_.randint(2, 9)
        glue = random_.choice(["", " "])
        out.append(glue.join(random_.choice(pieces) for _ in range(count)))
    return out


def marks():
    out = [f"{letter}{mark}" for letter in "aeE" for mark in ["\u0300", "\u0301", "\u0308", "\u030a", "\u0327", "\u0338", "\u20dd", "\u0489"]]
    out += [mark + "a" for mark in ["\u0300", "\u0301", "\u0489"]] + ["a \u0301b", "n\u0303 vs \u00f1", "\u1100\u1161", "Z\u0351\u036b\u0343\u036a\u0302A\u0341L\u0322G\u0361O\u0489", "\u0915\u094d\u0937", "\u05e9\u05c1"]
    return out


def prompts():
    random_ = random.Random(20261125)
    emoji = EMOJI + [f"a {face} cat" for face in EMOJI] + [f"{face}{face}" for face in EMOJI] + [f"cat{face}" for face in EMOJI]
    directions = ["abc \u202ecba\u202c def", "\u05d0 1 \u05d1 2", "\u0645\u0631\u062d\u0628\u0627 hello \u0645\u0631\u062d\u0628\u0627!", "\u2067rtl\u2069 ltr", "\u200fabc\u200e", "(\u05d0\u05d1\u05d2)!", "100\u00a0\u20aa"]
    scripts = SCRIPTS + [text + "!" for text in SCRIPTS] + [text.upper() for text in SCRIPTS[:12]]
    every = bangs() + specials() + blanks() + punctuation() + words() + marks() + scripts + emoji + directions + long_ones() + mixed(random_)
    return list(dict.fromkeys(every))


def clip_folder(out, files, pad):
    """A folder of a CLIP tokenizer as the published pipelines have it, with that padding token."""
    os.makedirs(out)
    for path in files:
        shutil.copyfile(path, os.path.join(out, os.path.basename(path)))
    said = dict(tokenizer_class="CLIPTokenizer", model_max_length=77, pad_token=pad, bos_token=BEGIN, eos_token=END, unk_token=END, do_lower_case=True)
    with open(os.path.join(out, "tokenizer_config.json"), "w", encoding="utf-8") as file:
        json.dump(said, file)
    return out


def tokenizers(t5, clip, scratch):
    """T5, CLIP-L and CLIP-G by transformers, each with its length."""
    from transformers import CLIPTokenizer, PreTrainedTokenizerFast
    read = lambda name, pad: CLIPTokenizer.from_pretrained(clip_folder(os.path.join(scratch, name), clip, pad))
    third = PreTrainedTokenizerFast(tokenizer_file=t5, eos_token="</s>", unk_token="<unk>", pad_token="<pad>", model_max_length=512)
    return dict(t5=(third, 256), clip_l=(read("l", END), 77), clip_g=(read("g", "!"), 77))


def record(of, prompt):
    """The ids of a prompt without the padding at their end: the end token stays."""
    line = {}
    for name, (tokenizer, length) in of.items():
        found = tokenizer(prompt, padding="max_length", max_length=length, truncation=True)
        assert len(found.input_ids) == length
        line[name] = found.input_ids[: sum(found.attention_mask)]
    if line["clip_g"] == line["clip_l"]:
        del line["clip_g"]
    return line


def write(path, values):
    with open(path, "w", encoding="utf-8") as file:
        for value in values:
            file.write(json.dumps(value, separators=(",", ":")) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=os.path.join(ROOT, "worker/tests/goldens/tokens"))
    out = parser.parse_args().out
    os.makedirs(out, exist_ok=True)
    assets, tiny = os.path.join(ROOT, "worker/assets/tokenizers"), os.path.join(ROOT, "worker/tests/goldens/tiny-sd3/tokenizers")
    sets = dict(published=(f"{assets}/t5/tokenizer.json", [f"{assets}/clip/vocab.json", f"{assets}/clip/merges.txt"]),
                tiny=(f"{tiny}/t5/tokenizer.json", [f"{tiny}/clip/tokenizer.json"]))
    every = prompts()
    write(os.path.join(out, "prompts.jsonl"), every)
    for name, (t5, clip) in sets.items():
        with tempfile.TemporaryDirectory() as scratch:
            of = tokenizers(t5, clip, scratch)
            write(os.path.join(out, f"{name}.jsonl"), [record(of, prompt) for prompt in every])
    print(f"{len(every)} prompts")


if __name__ == "__main__":
    main()
