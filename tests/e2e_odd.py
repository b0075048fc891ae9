#!/usr/bin/env python3
"""Odd input on the command lines: what is wrong is named, and nothing is taken for something else.

Usage: e2e_odd.py BUILD-DIRECTORY [TEST]...
"""

import json
import os
import re
import subprocess

from cli_bus import LIMIT, SOURCE, main

PIPE = subprocess.PIPE


def same(got, wanted, what=""):
    assert got == wanted, "%s: got %r, wanted %r" % (what, got, wanted)


def refused(bus, words, said):
    """Ends with 2 and says so, then where the help is."""
    result = bus.run(*words)
    lines = result.stderr.decode().splitlines()
    same((result.returncode, lines[0], len(lines)), (2, said, 2), words)
    same(result.stdout, b"", words)


def a_wrong_option_is_named_wherever_it_stands(bus):
    for words, said in (
        (("-Zl", "x"), "wrong option -Z"),
        (("-lZ", "x"), "wrong option -Z"),
        (("--json", "-Zl", "x"), "wrong option -Z"),
        (("x", "-Z"), "wrong option -Z"),
        (("-ü", "x"), "wrong option -ü"),
        (("-qW",), "-W needs an argument"),
        (("--json", "--timeout"), "--timeout needs an argument"),
        (("--quiet=3", "x"), "--quiet takes no argument"),
        (("--nonsense=3", "x"), "wrong option --nonsense=3"),
    ):
        refused(bus, ("ringbus", "emit") + words, "ringbus: emit: " + said)
        said = said.replace("-l", "-j")
        words = [re.sub("^-Zl$", "-Zj", re.sub("^-lZ$", "-jZ", word)) for word in words]
        refused(bus, ("shm-inspect", "tap", *words), "shm-inspect: tap: " + said)
    refused(bus, ("ringbus", "--json", "ls"), "ringbus: wrong option --json; those of a verb stand behind it")
    refused(bus, ("ringbus", ""), 'ringbus: no verb ""')


def an_empty_name_is_no_directory(bus):
    for words, said in (
        (("ringbus", "ls", "--directory", ""), "ringbus: ls: --directory needs a name"),
        (("ringbus", "emit", "--directory=", "x", "y"), "ringbus: emit: --directory needs a name"),
        (("ringbus", "emit", "x", "--file", ""), "ringbus: emit: --file needs a name"),
        (("shm-inspect", "nodes", "-d", ""), "shm-inspect: nodes: --directory needs a name"),
        (("shm-inspect", "nodes", "--file", ""), "shm-inspect: nodes: --file needs a name"),
    ):
        refused(bus, words, said)
    for option in ("--directory", "--group"):
        result = bus.run("ringbusd", option, "")
        same(result.returncode, 2, result)
        assert ("%s: ''" % option).encode() in result.stderr, result


def bounds_of_numbers_are_told(bus):
    for words, said in (
        (("--wait-subscribers", "256", "x"), '"256" is not a number of subscribers (0 to 255)'),
        (("--rate", "0", "x"), '"0" is not a rate (1 to 1000000000 messages a second)'),
        (("--size", "0.5", "x"), '"0.5" is not a size (100, 4k, 1M)'),
        (("--rate", "1e3", "x"), '"1e3" is not a rate (1 to 1000000000 messages a second)'),
    ):
        refused(bus, ("ringbus", "emit") + words, "ringbus: emit: " + said)


def a_filter_that_compares_wants_numbers(bus):
    for option, value, said in (
        ("--filter", "PID>x", '"x" is not a number to filter by'),
        ("--filter", "PID<", '"" is not a number to filter by'),
        ("--filter", "BYTES>1k", '"1k" is not a number to filter by'),
        ("--filter", "NAME>1", 'the column "NAME" has no numbers'),
        ("--sort", "", 'there is no column "" to sort by'),
    ):
        refused(bus, ("shm-inspect", "nodes", option, value), "shm-inspect: nodes: " + said)
    for value in ("PID>1", "PID<2.5", "NAME=", "PID=x"):
        same(bus.run("shm-inspect", "nodes", "--filter", value).returncode, 0, value)


def slots(bus):
    nodes = json.loads(bus.run("ringbus", "ls", "--json").stdout)["nodes"]
    return [node["slot"] for node in nodes if node["state"] == "live"]


def contact_waits_for_the_owner_of_a_slot(bus):
    """Slot 0 is that of the sender itself, which joins first."""
    for verb in (("contact", "1:0", "hello"), ("signal", "1:0")):
        sender = bus.start("ringbus", *verb, "--wait", stderr=PIPE)
        bus.until(lambda: slots(bus) == [0], "the sender")
        taken = ("listen", "-C", "1") if verb[0] == "contact" else ("wait-signal",)
        taker = bus.start("ringbus", *taken, stdout=PIPE)
        same(sender.wait(LIMIT), 0, verb)
        same(taker.communicate(timeout=LIMIT)[0], b"hello\n" if verb[0] == "contact" else b"1\n")
        bus.until(lambda: slots(bus) == [], "an empty bus")
    for verb in ("contact", "signal", "latency"):
        result = bus.run("ringbus", verb, "9:7", "--wait", "-W", "0.1")
        same(result.returncode, 4, result)
        assert b'"9:7" did not join the bus in time' in result.stderr, result
        same(bus.run("ringbus", verb, "9:7").returncode, 3)


def names_in_messages_cannot_move_the_cursor(bus):
    name = "a\n\x1b[31m\u009b31m\x7fž"
    result = bus.run("ringbus", "contact", name, "x")
    same(result.returncode, 3, result)
    same(result.stderr.decode(), "ringbus: contact: no node named 'a??[31m?31m?ž' on the bus\n")


def top_without_a_terminal_names_commands_that_there_are(bus):
    said = bus.run("ringbus", "top").stderr.decode()
    commands = re.findall('"([^"]*)"', said)
    assert len(commands) == 2, said
    for command in commands:
        same(bus.run(*command.split(), "--count", "1").returncode, 0, command)


def bench_names_what_is_wrong(bus):
    bench = os.path.join(os.path.dirname(bus.tools), "bench", "ringbus-bench")
    if not os.path.exists(bench):
        return
    for words, said in (
        ((), "ringbus-bench: expected a verb"),
        (("x",), 'ringbus-bench: there is no verb "x"'),
        (("--size", "8", "rtt"), "ringbus-bench: the verb comes first"),
        (("rtt", "--json", "x"), 'ringbus-bench: too much: "x"'),
        (("rtt", "--nonsense"), "%s: unrecognized option '--nonsense'" % bench),
    ):
        refused(bus, (bench,) + words, said)
    for words in ("--help", "--list"):
        with open("/dev/full", "wb") as full:
            result = bus.run(bench, words, stdout=full)
        same((result.returncode, b"No space left" in result.stderr), (1, True), words)
        closed = bus.run("sh", "-c", 'exec "$0" "$1" >&-', bench, words)
        same((closed.returncode, b"Bad file descriptor" in closed.stderr), (1, True), words)


def quickstart_refuses_an_empty_text_at_once(bus):
    empty = os.path.join(bus.work, "empty")
    with open(empty, "wb"):
        pass
    result = bus.run("sh", os.path.join(SOURCE, "tools", "quickstart.sh"), empty)
    same((result.returncode, result.stdout), (1, b""), result)
    same(result.stderr.decode(), "quickstart: %s is empty, so there is nothing to send line by line\n" % empty)


main((
    a_wrong_option_is_named_wherever_it_stands,
    an_empty_name_is_no_directory,
    bounds_of_numbers_are_told,
    a_filter_that_compares_wants_numbers,
    contact_waits_for_the_owner_of_a_slot,
    names_in_messages_cannot_move_the_cursor,
    top_without_a_terminal_names_commands_that_there_are,
    bench_names_what_is_wrong,
    quickstart_refuses_an_empty_text_at_once,
))
