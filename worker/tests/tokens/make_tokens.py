#!/usr/bin/env python3
"""Writes added.json: prompts beside the published ones, with the ids that transformers gives them.

  make_tokens.py ../../assets/tokenizers

Needs transformers. CLIP is transformers' own `CLIPTokenizer` from vocab.json and merges.txt.
"""
import json, os, sys, tempfile
from transformers import CLIPTokenizer, PreTrainedTokenizerFast

PROMPTS = [
    "\u0420\u044b\u0436\u0438\u0439 \u043a\u043e\u0442 \u043d\u0430 \u043a\u0440\u044b\u0448\u0435", "\u4e00\u53ea\u6234\u5e3d\u5b50\u7684\u718a\u732b\uff0c\u6cb9\u753b",
    "\u05d7\u05ea\u05d5\u05dc \u0642\u0637\u0629 \u0e41\u0e21\u0e27 \u092c\u093f\u0932\u094d\u0932\u0940", "e\u0301 versus \u00e9, \u212b versus \u00c5, \ufb03 \u2460 \u2126", "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f1e9\U0001f1ea \U0001f44d\U0001f3fd",
    " ".join(f"word{i}" for i in range(200)), " ".join(["lighthouse"] * 200), "", " ", "\n\t \r\n", "x" * 500,
    "<|endoftext|>", "a <|startoftext|> b <|endoftext|> c", "</s> a </s>", "<pad> <unk> <extra_id_0> cat <extra_id_99>", "!!! !!! ??? ...",
    "it's the dog's, they'll've gone; I'D SAY 'TIS", "3.14159 1,000,000 2nd 0x1F 50% $9.99", "snake_case CamelCase kebab-case a/b\\c",
    "\u201cquotes\u201d \u2018single\u2019 \u2014 dash \u2026", "\u200bzero\u200bwidth\ufeff", "trailing blanks   ", "   leading", "MIXED cAsE \u0130\u0131 STRASSE stra\u00dfe",
    "(masterpiece:1.2), [bad], {x|y}, <lora:foo:0.5>", "&amp; &lt;b&gt; <b>html</b>", "\u0000nul\u0007bell",
]


def main():
    folder = sys.argv[1]
    with tempfile.TemporaryDirectory() as out:
        for name in ("vocab.json", "merges.txt"):
            open(f"{out}/{name}", "wb").write(open(f"{folder}/clip/{name}", "rb").read())
        words = dict(tokenizer_class="CLIPTokenizer", model_max_length=77, pad_token="<|endoftext|>", bos_token="<|startoftext|>",
                     eos_token="<|endoftext|>", unk_token="<|endoftext|>", do_lower_case=True)
        json.dump(words, open(f"{out}/tokenizer_config.json", "w"))
        clip = CLIPTokenizer.from_pretrained(out)
    t5 = PreTrainedTokenizerFast(tokenizer_file=f"{folder}/t5/tokenizer.json", eos_token="</s>", unk_token="<unk>", pad_token="<pad>")
    ids = lambda tokenizer, prompt, length: tokenizer(prompt, padding="max_length", max_length=length, truncation=True).input_ids
    found = [dict(prompt=p, clip77_eot=ids(clip, p, 77), t5_256=ids(t5, p, 256)) for p in PROMPTS]
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "added.json")
    json.dump(found, open(path, "w"), separators=(",", ":"))


main()
