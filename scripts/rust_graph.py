"""Which file of a crate uses which: from `use` and from paths in the code.

A path leads to the file that defines what it names: re-exports (`pub use`) are followed, and are no imports
themselves. A file may use what the modules above it define; that is not counted either. Needs Python 3.10 and nothing else.
"""
import re
from collections import defaultdict
from pathlib import PurePosixPath

import rust_text

CRATES = ("ipc-protocol/src/", "supervisor/pool/src/", "supervisor/fetch/src/", "supervisor/store/src/", "supervisor/src/", "worker/src/", "worker/sandbox/src/")
USE = re.compile(r"(?P<public>\bpub(?:\([^)]*\))?\s+)?\buse\s+(?P<tree>[^;]+);")
PATH = re.compile(r"(?<![\w:])(?:(?:crate|super|self)|[a-z_]\w*)(?:::\w+)+")
SECTION = "## Floors of the mind"


def crate_of(path):
    return next((crate for crate in CRATES if path.startswith(crate)), None)


def module_of(path):
    """The module that a file is, as a tuple of names below the crate's root."""
    inside = PurePosixPath(path[len(crate_of(path)) :])
    parts = list(inside.with_suffix("").parts)
    if parts[-1] in ("mod", "lib", "main"):
        parts.pop()
    return tuple(parts)


def files_of_module(path, module):
    """Where the file of `mod module;` in this file may be."""
    file = PurePosixPath(path)
    folder = file.parent if file.stem in ("mod", "lib", "main") else file.parent / file.stem
    return [str(folder / f"{module}.rs"), str(folder / module / "mod.rs")]


def leaves(tree, head=()):
    """Every path of a `use` tree, with the name it gets here."""
    tree = tree.strip()
    if "{" not in tree:
        path, _, alias = (part.strip() for part in tree.partition(" as "))
        parts = head + tuple(part.strip() for part in path.split("::"))
        yield (parts[:-1] if parts[-1] == "self" and len(parts) > 1 else parts), alias
        return
    before, _, inside = tree.partition("{")
    head += tuple(part.strip() for part in before.split("::") if part.strip())
    inside, depth, begin = inside[: inside.rindex("}")], 0, 0
    for at, sign in enumerate(inside + ","):
        depth += {"{": 1, "}": -1}.get(sign, 0)
        if sign == "," and depth == 0:
            if inside[begin:at].strip():
                yield from leaves(inside[begin:at], head)
            begin = at + 1


class Crate:
    """The files of one crate by module, with what each defines and re-exports."""

    def __init__(self, texts):
        self.modules = {}
        self.exports, self.globs = defaultdict(dict), defaultdict(list)
        for text in texts:
            self.modules.setdefault(module_of(text.path), text)
        for module, text in self.modules.items():
            for found in USE.finditer(text.code):
                for path, alias in leaves(found.group("tree")) if found.group("public") else ():
                    if path[-1] == "*":
                        self.globs[module].append(path[:-1])
                    else:
                        self.exports[module][alias or path[-1]] = path

    def file(self, module, path, seen=()):
        """The file that defines what `path`, written in `module`, names; None outside of this crate."""
        at, rest = self.start(module, path)
        if at is None:
            return None
        while rest and at + rest[:1] in self.modules:
            at, rest = at + rest[:1], rest[1:]
        if rest and (at, rest[0]) not in seen:
            seen = (*seen, (at, rest[0]))
            if target := self.exports[at].get(rest[0]):
                return self.file(at, target + rest[1:], seen) or self.modules[at].path
            if not re.search(rf"\b(?:fn|struct|enum|trait|type|const|static|mod|macro_rules!)\s+{re.escape(rest[0])}\b", self.modules[at].code):
                for target in self.globs[at]:
                    if found := self.file(at, target + rest, seen):
                        return found
        return self.modules[at].path

    def start(self, module, path):
        if path[0] == "crate":
            return (), path[1:]
        if path[0] == "self":
            return module, path[1:]
        up = 0
        while up < len(path) and path[up] == "super":
            up += 1
        if up:
            return (module[: len(module) - up], path[up:]) if up <= len(module) else (None, ())
        return (module, path) if module + path[:1] in self.modules else (None, ())


def imports(texts):
    """{file: {files that it uses}} of product code; lines are not kept."""
    graph, by_crate = defaultdict(set), defaultdict(list)
    for text in texts:
        if crate_of(text.path):
            by_crate[crate_of(text.path)].append(text)
    for files in by_crate.values():
        crate = Crate(files)
        for text in files:
            for path in paths(text.code):
                used = crate.file(module_of(text.path), path)
                if used and not is_above(used, text.path):
                    graph[text.path].add(used)
    return graph


def is_above(upper, path):
    """Whether a file is this one, or that of a module around it."""
    around, module = module_of(upper), module_of(path)
    return module[: len(around)] == around


def paths(code):
    """Every path that a file imports or names; re-exports left out."""
    for found in USE.finditer(code):
        if not found.group("public"):
            for path, _ in leaves(found.group("tree")):
                yield path[:-1] if path[-1] == "*" else path
    for found in PATH.finditer(USE.sub("", code)):
        yield tuple(found.group().split("::"))


def circles(graph):
    """Groups of files that use each other in a circle."""
    order, low, stack, found = {}, {}, [], []

    def visit(file):
        order[file] = low[file] = len(order)
        stack.append(file)
        for used in sorted(graph.get(file, ())):
            if used not in order:
                visit(used)
                low[file] = min(low[file], low[used])
            elif used in stack:
                low[file] = min(low[file], order[used])
        if low[file] == order[file]:
            group = [stack.pop()]
            while group[-1] != file:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(" ".join(sorted(group)))

    for file in sorted(graph):
        if file not in order:
            visit(file)
    return found


def floors():
    """The floors of the mind from ARCHITECTURE.md, highest first: the name after the number in each line."""
    page = (rust_text.ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    if SECTION not in page:
        return []
    block = page.split(SECTION, 1)[1].split("```text\n", 1)[1].split("```", 1)[0]
    return re.findall(r"^.*?\b\d+\s+(\w+)/?", block, re.MULTILINE)


def upward(graph):
    """Uses of a higher floor of the mind by a lower one."""
    home, order = "supervisor/pool/src/", floors()

    def floor(file):
        name = re.split(r"[/.]", file[len(home) :])[0]
        return order.index(name) if name in order else None

    return [
        f"{file} -> {used}"
        for file, uses in sorted(graph.items())
        if file.startswith(home) and floor(file) is not None
        for used in sorted(uses)
        if floor(used) is not None and floor(used) < floor(file)
    ]
