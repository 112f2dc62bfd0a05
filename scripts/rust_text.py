"""Reads Rust files as text: comments and strings apart from code, functions by their braces.

Shared by `scripts/measure` and `scripts/sentences`; needs Python 3.10 and nothing else.
"""
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

TOKEN = re.compile(
    r"""(?P<line>//[^\n]*)
      | (?P<block>/\*)
      | (?P<raw>\bb?r(?P<hashes>\#*)")
      | (?P<string>\bb?"|")
      | (?P<char>b?'(?:\\(?:x[0-9a-fA-F]{2}|u\{[^}]*\}|.)|[^\\'\n])')""",
    re.VERBOSE,
)
FUNCTION = re.compile(r"\bfn\s+(?:r#)?(\w+)")


@dataclass
class Text:
    """A file with its comments and strings taken out of the code."""

    path: str
    whole: str
    code: str  # As long as `whole`: comments and the insides of strings are blanks.
    comments: list = field(default_factory=list)  # (offset, text with its slashes)
    strings: list = field(default_factory=list)  # (offset, text between the quotes)

    def line_of(self, offset):
        return self.whole.count("\n", 0, offset) + 1


def rust_files():
    """Every Rust file that git knows or would add, from the project's root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.rs"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return sorted(name for name in names if (ROOT / name).exists())


def read(path):
    """Splits a file of the project."""
    return split(path, (ROOT / path).read_text(encoding="utf-8"))


def split(path, whole):
    """Splits a text into code, comments and strings."""
    text, parts, at = Text(path, whole, ""), [], 0
    while found := TOKEN.search(whole, at):
        begin, end, kind = found.start(), found.end(), found.lastgroup
        if kind == "line":
            text.comments.append((begin, found.group()))
        elif kind == "block":
            end = after_block(whole, begin)
            text.comments.append((begin, whole[begin:end]))
        elif kind in ("hashes", "raw"):
            close = whole.find('"' + found.group("hashes"), end)
            text.strings.append((end, whole[end:close]))
            end = close + 1 + len(found.group("hashes"))
        elif kind == "string":
            close = re.compile(r'(?:[^"\\]|\\.)*', re.DOTALL).match(whole, end).end()
            text.strings.append((end, whole[end:close]))
            end = close + 1
        parts += [whole[at:begin], re.sub(r"[^\n]", " ", whole[begin:end])]
        at = end
    text.code = "".join(parts) + whole[at:]
    return text


def after_block(whole, begin):
    """The offset behind a block comment, which may hold others."""
    depth, at = 0, begin
    for found in re.compile(r"/\*|\*/").finditer(whole, begin):
        depth += 1 if found.group() == "/*" else -1
        at = found.end()
        if depth == 0:
            break
    return at


def closing(code, begin):
    """The offset of the brace that closes the one at `begin`."""
    depth = 0
    for found in re.compile(r"[{}]").finditer(code, begin):
        depth += 1 if found.group() == "{" else -1
        if depth == 0:
            return found.start()
    return len(code) - 1


def test_spans(code):
    """The spans of `#[cfg(test)]` items that have a body, and the names of modules that have a file."""
    spans, modules = [], []
    for found in re.finditer(r"#\[cfg\(test\)\]", code):
        item = re.compile(r"[{;]").search(code, found.end())
        if item is None:
            continue
        if item.group() == ";":
            named = re.search(r"\bmod\s+(\w+)\s*$", code[found.end() : item.start()])
            modules += [named.group(1)] if named else []
            spans.append((found.start(), item.end()))
        else:
            spans.append((found.start(), closing(code, item.start()) + 1))
    return spans, modules


def without(text, spans):
    """The text without these spans' characters; their line breaks stay."""
    for begin, end in sorted(spans, reverse=True):
        text = text[:begin] + re.sub(r"[^\n]", " ", text[begin:end]) + text[end:]
    return text


def functions(code):
    """(name, first line, lines) of every function with a body."""
    found = []
    for head in FUNCTION.finditer(code):
        depth = 0
        for sign in re.compile(r"[()\[\]{};]").finditer(code, head.end()):
            if sign.group() in "([":
                depth += 1
            elif sign.group() in ")]":
                depth -= 1
            elif depth == 0 and sign.group() == ";":
                break
            elif depth == 0 and sign.group() == "{":
                last = code.count("\n", 0, closing(code, sign.start()))
                first = code.count("\n", 0, head.start())
                found.append((head.group(1), first + 1, last - first + 1))
                break
    return found
