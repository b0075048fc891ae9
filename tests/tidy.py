#!/usr/bin/env python3
"""Checks the rules of the sources that a compiler does not know.

    tidy.py ROOT [--list]

A finding in ERRORS fails; WARNINGS are counted and printed, for rules that the tree does not keep everywhere yet.
"""
import os
import re
import sys

TREES = ("lib", "include", "tools", "tests", "bench")
# A rule leaves this list as soon as the tree keeps it.
WARNINGS = {"long line", "own word relaxed without reason"}
LEVELS = {  # file stem -> level; a file includes only lower levels and its own header
    "base": 0, "atomic": 0, "error": 0, "layout": 1, "wire": 1, "region": 1, "ring": 2, "pool": 2, "repair": 2,
    "doorbell": 3, "peer": 3, "control": 3, "join": 3, "node": 4, "event": 4, "dispatch": 4, "signal": 4,
}
SHARED = re.compile(r"\b(?:shm|own)_(load_acquire|load_relaxed|store_relaxed|store_release|load|store|cas|swap|add|"
                    r"fetch_or|fetch_and|fetch_add|fence)\s*\(")
TAG = re.compile(r"\bsync\s+([A-Z][A-Z0-9_]+)\s+([a-z]+)\b")
PAIRS = re.compile(r"\bpairs\s+(?:with\s+)?([A-Z][A-Z0-9_]+)\s+([a-z]+)\b")
STANDARD_PYTHON = {"signal", "socket", "select", "queue", "types", "random", "string", "struct", "time", "json",
                   "subprocess", "multiprocessing", "threading", "logging", "email", "test", "copy", "code"}
MARKERS = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r")\b")


class Tidy:
    def __init__(self, root):
        self.root = root
        self.findings = []
        self.sources = {}
        for tree in TREES:
            for folder, _, names in os.walk(os.path.join(root, tree)):
                for name in sorted(names):
                    if name.endswith((".c", ".h", ".py", ".sh")) and "__pycache__" not in folder:
                        path = os.path.join(folder, name)
                        with open(path, encoding="utf-8") as f:
                            self.sources[os.path.relpath(path, root)] = f.read().split("\n")

    def add(self, rule, path, line, text):
        self.findings.append((rule, path, line, text))

    def c_files(self, tree, suffixes=(".c", ".h")):
        for path, lines in self.sources.items():
            if path.startswith(tree + "/") and path.endswith(suffixes):
                yield path, lines

    def sizes(self):
        for path, lines in self.sources.items():
            if len(lines) - 1 > 600:
                self.add("long file", path, len(lines) - 1, "over 600 lines")
            for n, line in enumerate(lines, 1):
                width = len(line.expandtabs(8))
                if width > 132:
                    self.add("line without end", path, n, f"{width} columns")
                elif width > 100 and path.startswith("bench/"):
                    self.add("long line", path, n, f"{width} columns")
                elif width > (100 if path.endswith((".c", ".h")) else 120):
                    self.add("long line in code", path, n, f"{width} columns")
                if line != line.rstrip():
                    self.add("trailing space", path, n, "")
                if MARKERS.search(line):
                    self.add("marker word", path, n, line.strip())
            if lines and lines[-1] != "":
                self.add("no final newline", path, len(lines), "")

    def functions(self):
        for path, lines in self.sources.items():
            if not path.endswith((".c", ".h")):
                continue
            begin = 0
            for n, line in enumerate(lines, 1):
                if line == "{":
                    begin = n
                elif line == "}" and begin:
                    if n - begin - 1 > 70:
                        self.add("long function", path, begin, f"{n - begin - 1} lines")
                    begin = 0

    def secrets(self):
        """One secret per file."""
        includes = {"stdatomic.h": {"lib/atomic.h"}}
        calls = {"SYS_futex": {"lib/doorbell.c"}, "__NR_futex": {"lib/doorbell.c"},
                 "SYS_membarrier": {"lib/doorbell.c"}, "__NR_membarrier": {"lib/doorbell.c"}}
        urcu = set()
        for path, lines in self.c_files("lib"):
            for n, line in enumerate(lines, 1):
                for header, allowed in includes.items():
                    if re.match(rf"\s*#\s*include\s*<{header}>", line) and path not in allowed:
                        self.add("secret", path, n, f"only {', '.join(allowed)} includes {header}")
                if re.match(r"\s*#\s*include\s*<urcu", line):
                    urcu.add(path)
                for call, allowed in calls.items():
                    if re.search(rf"\b{call}\b", line) and path not in allowed:
                        self.add("secret", path, n, f"only {', '.join(allowed)} uses {call}")
                if "volatile" in line and not re.search(r"asm|uint8_t|sig_atomic_t|/\*|\*", line):
                    self.add("volatile", path, n, line.strip())
        if len({re.sub(r"(_\w+)?\.[ch]$", "", path) for path in urcu}) > 1:
            for path in sorted(urcu):
                self.add("secret", path, 1, "more than one module includes urcu: " + ", ".join(sorted(urcu)))
        for tree in ("tools", "bench"):
            for path, lines in self.c_files(tree):
                for n, line in enumerate(lines, 1):
                    if re.match(r'\s*#\s*include\s*"(atomic|layout|ring|node)\.h"', line) and tree == "tools":
                        self.add("secret", path, n, "tools use the public headers only")

    def comment_above(self, lines, n):
        """The access's own line, its statement's beginning, and the comment that ends within the 3 lines above."""
        text = [lines[n - 1]]
        while not re.search(r"[;{}]\s*(/\*.*)?$", text[0]) and "*/" not in text[-1] and len(text) < 4:
            text.append(lines[n - 1 + len(text)])
            if re.search(r"[;{}]", text[-1]):
                break
        text = [" ".join(text)]
        at = n - 2
        code = 0
        while at >= 0 and code <= 3:
            line = lines[at].strip()
            if line.startswith(("*", "/*")) or line.endswith("*/"):
                while at >= 0:
                    text.append(lines[at])
                    if "/*" in lines[at]:
                        break
                    at -= 1
                at -= 1
                continue
            if line == "}" or line == "":
                break
            code += 0 if SHARED.search(line) else 1  # one comment may stand above a group of accesses
            at -= 1
        return " ".join(re.sub(r"^\s*\*\s?", "", line.strip()) for line in reversed(text))

    def all_relaxed(self, lines, n):
        """Whether "relaxed, all: reason" stands above in the same function."""
        for at in range(n - 2, -1, -1):
            if lines[at] == "{":
                return False
            if "relaxed, all:" in lines[at]:
                return True
        return False

    def accesses(self):
        tags = {}
        for path, lines in self.c_files("lib"):
            if path == "lib/atomic.h":
                continue
            for n, line in enumerate(lines, 1):
                for m in TAG.finditer(line):
                    tags.setdefault(m.group(1), []).append((path, n, m.group(2)))
                code = re.sub(r"/\*.*?\*/|//.*|^\s*\*.*|^\s*/\*.*", "", line)
                m = SHARED.search(code)
                if not m:
                    continue
                above = self.comment_above(lines, n)
                if "relaxed" in m.group(1):
                    reason = self.all_relaxed(lines, n) or re.search(r"\brelaxed[:,]", above)
                    if not reason and not TAG.search(above):
                        own = "own word " if m.group(0).startswith("own_") else ""
                        self.add(own + "relaxed without reason", path, n, code.strip())
                elif not TAG.search(above) and "own:" not in above and not m.group(0).startswith("own_"):
                    self.add("access without tag", path, n, code.strip())
        for tag, places in sorted(tags.items()):
            if len({(p, n) for p, n, _ in places}) < 2:
                path, n, role = places[0]
                self.add("one-ended tag", path, n, f"{tag} {role} has no other end")
        return tags

    def kill_points(self):
        points = {}
        for path, lines in self.c_files("lib"):
            for n, line in enumerate(lines, 1):
                for m in re.finditer(r'KILL_POINT\("([^"]+)"\)', line):
                    points.setdefault(m.group(1), (path, n))
        tested = "\n".join("\n".join(lines) for path, lines in self.sources.items()
                           if path.startswith("tests/") and path != "tests/tidy.py")
        for name, (path, n) in sorted(points.items()):
            if not re.search(rf'\b{re.escape(name)}\b', tested):
                self.add("kill point never reached", path, n, f"no test names {name}")
        return points

    def error_codes(self):
        """Each error code of the public header is expected by name in a test."""
        tested = set()
        for path, lines in self.c_files("tests"):
            tested.update(re.findall(r"-(E[A-Z0-9]+)\b", "\n".join(lines)))
        for n, line in enumerate(self.sources["include/ringbus.h"], 1):
            for code in re.findall(r"-(E[A-Z0-9]+)\b", line):
                if code not in tested:
                    self.add("error code never provoked", "include/ringbus.h", n, f"no test expects -{code}")

    def levels(self):
        level_of = {}
        for path, lines in self.c_files("lib"):
            m = re.search(r"\bLevel (\d)", "\n".join(lines[:60]))
            if m:
                level_of[os.path.basename(path)] = int(m.group(1))
        for path, lines in self.c_files("lib"):
            name = os.path.basename(path)
            if name not in level_of:
                self.add("no level", path, 1, "line 1 says what the file is and its level")
                continue
            own_header = re.split(r"[._]", name)[0]
            for n, line in enumerate(lines, 1):
                m = re.match(r'\s*#\s*include\s*"([^"]+)"', line)
                if not m or m.group(1) not in level_of or re.split(r"[._]", m.group(1))[0] == own_header:
                    continue
                if level_of[m.group(1)] > level_of[name]:
                    self.add("include of a higher level", path, n, f"{m.group(1)} is level {level_of[m.group(1)]}")

    def titles(self):
        for path, lines in self.sources.items():
            if path.endswith((".c", ".h")) and not lines[0].startswith(f"/* {os.path.basename(path)}: "):
                self.add("no title", path, 1, f'line 1 begins with "/* {os.path.basename(path)}: "')
            if path.endswith(".py") and path.startswith(("lib/", "tools/")):
                if os.path.basename(path)[:-3] in STANDARD_PYTHON:
                    self.add("F29 shadowed module", path, 1, "a standard Python module has this name")


def main():
    tidy = Tidy(sys.argv[1] if len(sys.argv) > 1 else ".")
    tidy.sizes()
    tidy.functions()
    tidy.secrets()
    tags = tidy.accesses()
    points = tidy.kill_points()
    tidy.error_codes()
    tidy.levels()
    tidy.titles()
    errors = [f for f in tidy.findings if f[0] not in WARNINGS]
    counts = {}
    for rule, path, line, text in tidy.findings:
        if rule in WARNINGS and "--list" not in sys.argv:
            counts[rule] = counts.get(rule, 0) + 1
            continue
        print(f"{path}:{line}: {rule}{': ' + text if text else ''}")
    for rule, count in sorted(counts.items()):
        print(f"warning: {rule}: {count} (--list shows them)")
    print(f"{len(tidy.sources)} files, {len(tags)} tags, {len(points)} kill points, {len(errors)} errors")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
