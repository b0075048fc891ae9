#!/usr/bin/env python3
"""Help texts, man pages, completions and what the programs accept say the same.

Usage: e2e_help.py BUILD-DIRECTORY [TEST]...
"""

import os
import re
import shlex
import shutil

from cli_bus import main

SOURCE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OURS = ("ringbus", "ringbusd")  # with sections, exit status and examples
ELSEWHERE = ("top", "doctor")  # verbs of ringbus that another program has
# A value that each kind of argument takes.
VALUES = {"PORT": "1234", "DIR": "/tmp", "NAME": "x", "N": "10", "TIME": "1", "SIZE": "64", "SIZE,...": "8,64",
          "PATH": "x", "WHEN": "never", "FORMAT": "raw", "GROUP": "root", "SECONDS": "1", "BYTES": "4096", "MS": "5",
          "NS": "5", "A,B[,...]": "0,1", "NAME[,NAME...]": "line", "spin|block|adaptive": "spin", "A": "0", "B": "0",
          "E": "x", "EVENT": "x", "SLOT": "0", "COLUMN": "NAME", "WHAT": "x", "[TIME]": "1", "NODE": "0"}
OF_OPTION = {"--threads": "2", "--ring-bytes": "4096", "--pool-bytes": "65536"}
OF_PROGRAM = {("shm-inspect", "--format"): "hex"}


def source(*path):
    with open(os.path.join(SOURCE, *path), encoding="utf-8") as file:
        return file.read()


class Help:
    """What `program [verb] --help` lists: options with their arguments and short letters, verbs."""

    def __init__(self, bus, *command):
        result = bus.run(*command, "--help")
        assert result.returncode == 0 and not result.stderr, (command, result)
        self.text = result.stdout.decode()
        self.options, self.short, self.verbs = {}, {}, []
        for line in self.text.split("\nExamples:")[0].splitlines():
            if re.match(r" +-", line):
                left = re.split(r"  ", line.strip())[0]
                letter = None
                for part in re.split(r" *[,|] +", left):
                    words = part.split(" ", 1)
                    if words[0].startswith("--"):
                        self.options[words[0]] = words[1] if len(words) > 1 else None
                        if letter:
                            self.short[letter] = words[0]
                    else:
                        letter = words[0]
            elif re.match(r"  [a-z][a-z-]*( |$)", line) and not self.options:
                self.verbs.append(line.split()[0])


def programs(bus):
    """Each program, and each verb of ringbus, as a command line with its help."""
    overview = Help(bus, "ringbus")
    yield ("ringbus",), overview
    for verb in overview.verbs:
        if verb not in ELSEWHERE:
            yield ("ringbus", verb), Help(bus, "ringbus", verb)
    for program in ("ringbusd", "shm-inspect", "ringbus-bench"):
        if shutil.which(program, path=bus.env["PATH"]):
            yield (program,), Help(bus, program)


def with_bench(bus):
    bus.env["PATH"] = os.path.join(os.path.dirname(bus.tools), "bench") + ":" + bus.env["PATH"]


# ---- what the programs accept ----

def arguments(program, option, value):
    if value is None:
        return [option]
    return [option, OF_PROGRAM.get((program, option)) or OF_OPTION.get(option) or VALUES[value]]


def each_option_of_the_help_is_accepted(bus):
    with_bench(bus)
    for command, text in programs(bus):
        for option, value in text.options.items():
            names = [option] + [letter for letter, name in text.short.items() if name == option]
            for name in names:
                # --help after it: an option that is not known, or not taken as told, is met first
                after = [] if command == ("ringbus",) else ["--help"]
                result = bus.run(*command, *arguments(command[0], name, value), *after)
                assert result.returncode == 0 and not result.stderr, (command, name, result)


def options_of_others_are_refused(bus):
    everything = set()
    for _, text in programs(bus):
        everything |= set(text.options) | set(text.short)
    for command, text in programs(bus):
        if command[0] not in OURS or command == ("ringbus",):
            continue
        known = set(text.options) | set(text.short)
        for option in sorted(everything - known):
            if any(name.startswith(option) for name in known):
                continue  # getopt_long takes a beginning for the whole
            result = bus.run(*command, option, "--help")
            assert result.returncode == 2 and result.stderr, (command, option, result)


def arguments_are_asked_for(bus):
    for command, text in programs(bus):
        for option, value in text.options.items():
            if value is not None and command[0] in OURS:
                result = bus.run(*command, option)
                assert result.returncode == 2, (command, option, result)


# ---- help texts ----

def each_help_has_its_parts(bus):
    for command, text in programs(bus):
        if command[0] not in OURS:
            continue
        lines = text.text.splitlines()
        assert lines[0].startswith("Usage: " + " ".join(command)), (command, lines[0])
        assert re.fullmatch(r"[A-Z].*\.", lines[1]), (command, lines[1])
        for part in ("\nOptions:\n", "\nExit status: 0 ", "\nExamples:\n  $ " + command[0]):
            assert part in text.text, (command, part)
        for line in lines:
            assert len(line) <= 100 and line == line.rstrip(), (command, line)


def each_verb_of_shm_inspect_has_its_parts_and_an_example(bus):
    verbs = [("shm-inspect", verb) for verb in Help(bus, "shm-inspect").verbs]
    assert len(verbs) > 9
    for command in verbs + [("ringbus", verb) for verb in ELSEWHERE]:
        text = Help(bus, *command)
        lines = text.text.splitlines()
        assert lines[0].startswith("Usage: " + " ".join(command) + " "), (command, lines[0])
        assert re.fullmatch(r"[A-Z].*\.", lines[1]) and "\nOptions:\n" in text.text, (command, lines[1])
        examples = re.findall(r"^  \$ (.*)$", text.text.split("\nExamples:\n")[1], re.M)
        assert examples, command
        for line in examples:
            words = shlex.split(line)
            assert tuple(words[:2]) == command, (command, line)
            assert {word for word in words if word.startswith("-")} <= set(text.options) | set(text.short), line
        for line in lines:
            assert len(line) <= 100 and line == line.rstrip(), (command, line)
        for letter in ("-h", "-q", "-v"):
            assert letter in text.short, (command, letter)
        assert bus.run(*command, "-q", "-v", "-h").stdout.decode() == text.text, command


def mistakes_name_the_option_and_what_was_typed(bus):
    for words, said in (
        ("ringbus doctor --nonsense", "ringbus: doctor: wrong option --nonsense"),
        ("ringbus top -C 0", "ringbus: top: --count must be at least 1"),
        ("shm-inspect nodes -jx", "shm-inspect: nodes: wrong option -x"),
        ("shm-inspect -p", "shm-inspect: -p needs an argument"),
        ("shm-inspect last --from", "shm-inspect: last: --from needs an argument"),
        ("shm-inspect nodes -r", "shm-inspect: nodes: wrong option -r"),
        ("shm-inspect header --sort x", "shm-inspect: header: wrong option --sort"),
        ("shm-inspect nodes -C 3", "shm-inspect: nodes: --count goes with --watch"),
        ("shm-inspect tap -C 0", "shm-inspect: tap: --count must be at least 1"),
        ("shm-inspect tap -W x", 'shm-inspect: tap: "x" is not a time (2, 0.5, 250ms, 5m)'),
    ):
        result = bus.run(*words.split())
        first, hint = result.stderr.decode().splitlines()
        assert (result.returncode, first) == (2, said), (words, result)
        assert hint == 'Try "%s --help".' % " ".join(w for w in words.split()[:2] if w[0] != "-"), (words, hint)


def quiet_has_no_notes_and_verbose_has_more(bus):
    def said(*words):
        result = bus.run("shm-inspect", *words)
        assert result.returncode == 0, result
        return result.stderr.decode()

    assert said("last", "--from", "nobody") and not said("last", "--from", "nobody", "-q")
    assert said("nodes") == "" and "port %d, live, service runs" % bus.port in said("nodes", "-v")


def examples_of_the_help_use_what_there_is(bus):
    known = dict(programs(bus))
    for command, text in known.items():
        for line in re.findall(r"^  \$ (.*)$", text.text, re.M):
            for part in re.split(r" \| | &$", line):
                words = shlex.split(part)
                if not words or words[0] not in OURS:
                    continue
                of = tuple(words[:2]) if words[0] == "ringbus" else (words[0],)
                assert of in known, (command, line)
                used = {word for word in words if word.startswith("--")}
                assert used <= set(known[of].options), (command, line, used)


# ---- man pages ----

def heads(text):
    """Options of the lines that begin with one."""
    names = set()
    for line in re.findall(r"^\*-.*$", text, re.M):
        names |= set(re.findall(r"(?<![\w-])--?[a-zA-Z][a-z-]*", line))
    return names


def sections(page, mark):
    """Title to text, of headings with this mark."""
    parts = re.split(r"^%s (.*)$" % mark, page, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


def man_page_of_ringbus_has_the_options_of_each_verb(bus):
    page = source("tools", "ringbus.1.scd")
    parts = sections(page, "#")
    common = heads(parts["COMMON OPTIONS"])
    verbs = {}
    for title, text in sections(parts["VERBS"], "##").items():
        for verb in re.split(r", ", title.split(" [")[0]):
            verbs[verb] = (title, heads(text))
    overview = Help(bus, "ringbus")
    assert set(verbs) == set(overview.verbs), set(verbs) ^ set(overview.verbs)
    seen = set()
    for command, text in programs(bus):
        if command[0] != "ringbus" or len(command) < 2:
            continue
        title, own = verbs[command[1]]
        there = set(text.options) | set(text.short)
        assert own <= there, (command, "only in the man page", own - there)
        assert there - own <= common, (command, "not in the man page", there - own - common)
        assert not own & common, (command, "twice in the man page", own & common)
        seen |= there - own
        usage = text.text.splitlines()[0][len("Usage: ringbus "):]
        assert title == usage, (title, usage)
    assert seen == common, (seen ^ common)


def man_pages_of_the_others_have_their_options_and_verbs(bus):
    with_bench(bus)
    for command, text in programs(bus):
        if command[0] == "ringbus":
            continue
        name = command[0] + (".8" if command[0] == "ringbusd" else ".1")
        parts = sections(source("tools", name + ".scd"), "#")
        there, told = set(text.options) | set(text.short), heads(parts["OPTIONS"])
        assert there == told, (name, there ^ told)
        if "VERBS" in parts:
            verbs = [re.match(r"\*([a-z-]+)\*", line).group(1)
                     for line in re.findall(r"^\*[a-z].*$", parts["VERBS"], re.M)]
            assert verbs == text.verbs, (name, verbs, text.verbs)


def man_page_of_the_library_names_each_call(bus):
    header = re.sub(r"/\*.*?\*/", " ", source("include", "ringbus.h"), flags=re.S)
    declared = {re.search(r"\b(ringbus_\w+)\s*\(", part.split(";")[0]).group(1)
                for part in header.split("RINGBUS_API")[3:]}
    told = re.findall(r"\*(ringbus_\w+)\*\(\)", source("tools", "libringbus.3.scd"))
    assert declared == set(told), declared ^ set(told)
    assert len(told) == len(set(told)), told


def man_page_of_the_bus_has_its_environment_and_trace_points(bus):
    page = sections(source("tools", "ringbus.7.scd"), "#")
    told = set(re.findall(r"^\*([A-Z_]+)\*$", page["ENVIRONMENT"], re.M))
    readme = source("README.md").split("## Environment", 1)[1].split("\n## ", 1)[0]
    assert told == set(re.findall(r"^\| `([A-Z_]+)`", readme, re.M)), told
    probes = {name: len(given.split(",")) for name, given
              in re.findall(r"^\*(\w+)\*\((.*)\)$", page["TRACING"], re.M)}
    defined = {name: int(n) for n, name in
               re.findall(r"#define PROBE_\w+\(.*?\) RB_PROBE(\d)\((\w+),", source("lib", "probes.h"))}
    assert probes == defined, (probes, defined)


def man_pages_refer_to_each_other_and_to_what_exists(bus):
    names = {re.sub(r"\.scd$", "", n) for n in os.listdir(os.path.join(SOURCE, "tools")) if n.endswith(".scd")}
    outside = {"errno.3", "systemd.1", "gdb.1"}
    for name in names:
        page = source("tools", name + ".scd")
        assert page.startswith("%s(%s)\n" % tuple(name.rsplit(".", 1))), name
        linked = {"%s.%s" % link for link in re.findall(r"\*([\w-]+)\*\((\d)\)", page)}
        assert linked <= names | outside, (name, linked - names - outside)


# ---- completions ----

BASH = """source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _ringbus; printf '%s\\n' "${COMPREPLY[@]}" """
ZSH = """compdef() { : }
_describe() { [[ $1 == -o ]] && shift; print -l -- "${(@)${(@P)2}%%:*}" }
compadd() { [[ $1 == -- ]] && shift; print -l -- "$@" }
_files() { print FILES }
file=$1; shift; words=("$@"); CURRENT=$#; source $file"""
FISH = """source $argv[1]; complete -C (string join ' ' -- $argv[2..-1]) | string replace -r '\\t.*' ''"""


def complete(bus, shell, *words):
    """What the shell offers for the last word."""
    file = os.path.join(SOURCE, "tools", "completions",
                        {"bash": "ringbus.bash", "zsh": "_ringbus", "fish": "ringbus.fish"}[shell])
    options = {"bash": ["--norc", "-c", BASH, "bash"], "zsh": ["-f", "-c", ZSH, "zsh"], "fish": ["-N", "-c", FISH]}
    result = bus.run(shell, *options[shell], file, *words)
    assert not result.stderr, (shell, words, result.stderr)
    offered = set(result.stdout.decode().split("\n")) - {""}
    return {word for word in offered if shell != "zsh" or word.startswith(words[-1])}


def shells(bus):
    bus.env["HOME"] = bus.env["XDG_CONFIG_HOME"] = bus.env["XDG_DATA_HOME"] = bus.work
    found = [shell for shell in ("bash", "zsh", "fish") if shutil.which(shell)]
    assert "bash" in found
    return found


def completions_offer_the_options_and_verbs_of_the_help(bus):
    with_bench(bus)
    for shell in shells(bus):
        for command, text in programs(bus):
            if command == ("ringbus",):
                assert complete(bus, shell, "ringbus", "") == set(text.verbs), shell
                continue
            offered = complete(bus, shell, *command, "--")
            assert offered == set(text.options), (shell, command, offered ^ set(text.options))
            if text.verbs:
                assert complete(bus, shell, *command, "") == set(text.verbs), (shell, command)


def completions_offer_names_of_events_and_nodes_and_values(bus):
    reader = bus.start("ringbus", "subscribe", "my news", "nets", "other", "--name", "bob")
    bus.until(lambda: b"other" in bus.run("ringbus", "ls").stdout, "the events")
    for shell in shells(bus):
        space = "my\\ news" if shell == "bash" else "my news"
        assert complete(bus, shell, "ringbus", "emit", "") == {space, "nets", "other"}, shell
        assert complete(bus, shell, "ringbus", "subscribe", "--lossy", "ne") == {"nets"}, shell
        assert complete(bus, shell, "ringbus", "hz", "o") == {"other"}, shell
        assert complete(bus, shell, "ringbus", "contact", "") == {"bob"}, shell
        assert complete(bus, shell, "ringbus", "ls", "--color", "a") == {"auto", "always"}, shell
        assert complete(bus, shell, "ringbus", "subscribe", "--format", "") == {"raw", "line", "json"}, shell
        assert complete(bus, shell, "shm-inspect", "tap", "--format", "") == {"text", "hex", "none"}, shell
        assert complete(bus, shell, "ringbus", "emit", "--port", "1", "") == set(), shell
    reader.terminate()


main([
    each_option_of_the_help_is_accepted,
    options_of_others_are_refused,
    arguments_are_asked_for,
    each_help_has_its_parts,
    each_verb_of_shm_inspect_has_its_parts_and_an_example,
    mistakes_name_the_option_and_what_was_typed,
    quiet_has_no_notes_and_verbose_has_more,
    examples_of_the_help_use_what_there_is,
    man_page_of_ringbus_has_the_options_of_each_verb,
    man_pages_of_the_others_have_their_options_and_verbs,
    man_page_of_the_library_names_each_call,
    man_page_of_the_bus_has_its_environment_and_trace_points,
    man_pages_refer_to_each_other_and_to_what_exists,
    completions_offer_the_options_and_verbs_of_the_help,
    completions_offer_names_of_events_and_nodes_and_values,
])
