#!/usr/bin/env python3
"""What the shared library exports is what the public headers declare: symbols.py ROOT LIBRINGBUS.SO"""
import re
import subprocess
import sys


def declared(root):
    names = set()
    for header in ("ringbus.h", "ringbus-inspect.h"):
        with open(f"{root}/include/{header}", encoding="utf-8") as f:
            text = re.sub(r"/\*.*?\*/|^\s*#.*?$", " ", f.read(), flags=re.S | re.M)
        for part in text.split("RINGBUS_API")[1:]:
            names.add(re.search(r"\b(ringbus_\w+)\s*\(", part.split(";")[0]).group(1))
    return names


def exported(library):
    out = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
    found = {line.split()[2] for line in out.splitlines() if len(line.split()) == 3 and line.split()[1] != "A"}
    return found


def main():
    wanted = declared(sys.argv[1])
    found = exported(sys.argv[2])
    bare = {name.split("@")[0] for name in found}
    unversioned = {name for name in found if "@" not in name}
    for name in sorted(wanted - bare):
        print(f"declared but not exported: {name}")
    for name in sorted(bare - wanted):
        print(f"exported but not declared: {name}")
    for name in sorted(unversioned & wanted):
        print(f"without version: {name}")
    print(f"{len(wanted)} declared, {len(bare)} exported")
    return 0 if wanted == bare and not unversioned else 1


if __name__ == "__main__":
    sys.exit(main())
