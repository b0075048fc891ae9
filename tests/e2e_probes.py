#!/usr/bin/env python3
"""The trace points: the library has a note for each that its sources use, and one fires with its arguments.

Usage: e2e_probes.py BUILD-DIRECTORY [TEST]...
"""

import glob
import json
import os
import re
import shutil
import struct
import subprocess

from cli_bus import main

SOURCE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def build(bus):
    return os.path.dirname(bus.tools)


def enabled(bus):
    with open(os.path.join(build(bus), "compile_commands.json"), encoding="utf-8") as file:
        return any("-DRINGBUS_USDT" in entry["command"] for entry in json.load(file))


def sections(path):
    """Name and bytes of each section of a 64-bit little-endian ELF file."""
    with open(path, "rb") as file:
        data = file.read()
    assert data[:6] == b"\x7fELF\x02\x01", path
    start, = struct.unpack_from("<Q", data, 0x28)
    size, count, names = struct.unpack_from("<HHH", data, 0x3a)
    heads = [struct.unpack_from("<IIQQQQ", data, start + i * size) for i in range(count)]
    for name, _, _, _, offset, length in heads:
        at = heads[names][4] + name
        yield data[at:data.index(b"\0", at)].decode(), data[offset:offset + length]


def notes(path):
    """Probe name to its arguments, from .note.stapsdt."""
    found = {}
    for name, data in sections(path):
        at = 0
        while name == ".note.stapsdt" and at < len(data):
            owner, length, kind = struct.unpack_from("<III", data, at)
            at += 12
            assert data[at:at + owner] == b"stapsdt\0" and kind == 3, (data[at:at + owner], kind)
            at += (owner + 3) // 4 * 4
            provider, probe, arguments = data[at + 24:at + length].split(b"\0")[:3]
            assert provider == b"ringbus", provider
            found[probe.decode()] = arguments.decode().split()
            at += (length + 3) // 4 * 4
    return found


def defined():
    """Probe name to the number of its arguments, from probes.h."""
    with open(os.path.join(SOURCE, "lib", "probes.h"), encoding="utf-8") as file:
        text = file.read()
    return {name: int(n) for n, name in re.findall(r"#define PROBE_\w+\(.*?\) RB_PROBE(\d)\((\w+),", text)}


def used():
    names = set()
    for path in glob.glob(os.path.join(SOURCE, "lib", "*.[ch]")):
        if os.path.basename(path) != "probes.h":
            with open(path, encoding="utf-8") as file:
                names |= {name.lower() for name in re.findall(r"\bPROBE_([A-Z]+)\(", file.read())}
    return names


def each_probe_of_the_sources_has_its_note_and_arguments(bus):
    wanted = {name: n for name, n in defined().items() if name in used()} if enabled(bus) else {}
    library = os.path.join(build(bus), "lib", "libringbus.so")
    found = {name: len(arguments) for name, arguments in notes(library).items()}
    assert found == wanted, (found, wanted)
    assert used() <= set(defined()), used() - set(defined())
    assert {"join", "leave", "wait", "woken", "wake"} <= used(), used()


def gdb(bus, probe, values, *command):
    """Runs a command until the probe fires; the values of expressions there, None if gdb cannot do that here."""
    arguments = ["gdb", "-batch", "-nx", "-ex", "set breakpoint pending on", "-ex", "set startup-with-shell off",
                 "-ex", "break -probe-stap ringbus:" + probe, "-ex", "run"]
    for value in values:
        arguments += ["-ex", "output " + value, "-ex", "echo \\n"]
    result = bus.run(*arguments, "-ex", "kill", "--args", *command)
    text = (result.stdout + result.stderr).decode(errors="replace")
    if "ptrace" in text and "Operation not permitted" in text:
        return None
    assert "Breakpoint 1, " in text, text
    lines = text[text.index("Breakpoint 1, "):].splitlines()
    return [int(line) for line in lines if re.fullmatch(r"-?\d+", line)]


def a_probe_fires_with_its_arguments(bus):
    program = os.path.join(bus.tools, "ringbus")
    if not enabled(bus) or not shutil.which("gdb") or "-fsanitize" in open(
            os.path.join(build(bus), "compile_commands.json"), encoding="utf-8").read():
        return
    values = ["(long)$_probe_argc", "(long)$_probe_arg0", "(long)$_probe_arg1", "(long)$_probe_arg2"]
    first = gdb(bus, "join", values, program, "emit", "x", "y")
    if first is None:
        return
    assert first[:3] == [3, bus.port, 0] and first[3] >= 1, first
    left = gdb(bus, "leave", values, program, "emit", "x", "y")
    assert left[:3] == [3, bus.port, left[2]] and left[3] >= 1, left
    waits = gdb(bus, "wait", values, program, "subscribe", "x", "--timeout", "1h")
    assert waits[0] == 3 and waits[1] != 0 and waits[3] > 0, waits
    subscriber = bus.start("ringbus", "subscribe", "x", stdout=subprocess.DEVNULL)
    wakes = gdb(bus, "wake", values[:3], program, "emit", "x", "y", "--wait-subscribers", "1", "--rate", "20")
    assert wakes[0] == 2 and wakes[2] >= 1, wakes
    subscriber.terminate()


main([
    each_probe_of_the_sources_has_its_note_and_arguments,
    a_probe_fires_with_its_arguments,
])
