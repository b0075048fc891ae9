#!/usr/bin/env python3
"""The verbs of `ringbus` between real processes: payload bytes, options, counts, timeouts, exit codes, JSON.

Usage: e2e_cli.py BUILD-DIRECTORY [TEST]...
"""

import base64
import json
import os
import re
import signal
import subprocess
import threading

from cli_bus import LIMIT, main
from driven import Node

PIPE = subprocess.PIPE
ALL_BYTES = bytes(range(256))
VERBS = ("emit", "subscribe", "contact", "listen", "signal", "wait-signal", "ls", "hz", "bw", "latency", "bench")


def same(got, wanted, what=""):
    assert got == wanted, "%s: got %r, wanted %r" % (what, got, wanted)


def ready(child, word):
    """Reads the child's stderr until a line has word; goes on reading it in the background."""
    lines = []
    for line in child.stderr:
        lines.append(line)
        if word.encode() in line:
            break
    else:
        raise AssertionError("ended before %r: %r" % (word, lines))
    threading.Thread(target=child.stderr.read, daemon=True).start()


def subscriber(bus, *arguments, verb="subscribe", word="subscribed", **more):
    more.setdefault("stdout", PIPE)
    child = bus.start("ringbus", verb, "-v", *arguments, stderr=PIPE, **more)
    ready(child, word)
    return child


def output(child, status=0):
    out = child.stdout.read()
    same(child.wait(LIMIT), status, "exit status of %r" % (child.args,))
    return out


def emit(bus, *arguments, status=0, input=b""):
    result = bus.run("ringbus", "emit", *arguments, input=input)
    same(result.returncode, status, "emit %r: %r" % (arguments, result.stderr))
    return result


def payload_of_all_bytes_arrives_exactly(bus):
    for size in (0, 1, 255, 4096, 1 << 20, 5000001):
        data = (ALL_BYTES * (size // 256 + 1))[:size]
        child = subscriber(bus, "bytes", "--format", "raw", "-C", "1")
        emit(bus, "bytes", input=data)
        same(output(child), data, "%d bytes" % size)


def line_format_adds_a_newline_and_nothing_else(bus):
    child = subscriber(bus, "news", "-C", "3")
    emit(bus, "news", "one")
    emit(bus, "news", "")
    emit(bus, "news", input=b"\0\n\xff")
    same(output(child), b"one\n\n\0\n\xff\n")


def lines_become_messages(bus):
    lines = [b"first", b"", b"with \0 and \xff", b"last without newline"]
    child = subscriber(bus, "log", "--json", "-C", str(len(lines)))
    emit(bus, "log", "--lines", input=b"\n".join(lines))
    objects = [json.loads(line) for line in output(child).splitlines()]
    got = [base64.b64decode(o["data_b64"]) if "data_b64" in o else o["data"].encode() for o in objects]
    same(got, lines)


def lines_stop_at_count(bus):
    child = subscriber(bus, "log", "-C", "2")
    result = emit(bus, "log", "--lines", "-C", "2", "--json", input=b"a\nb\nc\n")
    same(json.loads(result.stdout)["sent"], 2)
    same(output(child), b"a\nb\n")


def a_line_over_the_limit_is_not_read_to_its_end(bus):
    """What has no newline may have no end either."""
    bus.service.terminate()
    same(bus.service.wait(LIMIT), 0)
    bus.service = bus.start("ringbusd", "--quiet", "--pool-bytes", "1M")
    bus.until_served()
    child = subscriber(bus, "x", "-C", "1", "-f", "raw")
    sender = bus.start("ringbus", "emit", "x", "--lines", stdin=PIPE, stderr=PIPE)
    sender.stdin.write(b"short\n")
    try:
        for _ in range(1 << 12):
            sender.stdin.write(bytes(1 << 20))
    except BrokenPipeError:
        pass
    else:
        raise AssertionError("4 GiB of a line were read")
    said = sender.stderr.read().decode()
    same(sender.wait(LIMIT), 1)
    told = re.search(r"a payload of more than (\d+) bytes; this bus carries at most %d " % (1 << 20), said)
    assert told and int(told.group(1)) <= 3 << 20, said
    same(output(child), b"short")
    # a line that is whole is told with its size
    result = bus.run("ringbus", "emit", "x", "--lines", input=bytes((1 << 20) + 1) + b"\n")
    same(result.returncode, 1)
    assert b"a payload of %d bytes;" % ((1 << 20) + 1) in result.stderr, result.stderr


def two_subscribers_get_many_lines_in_order(bus):
    data = b"".join(b"line %d\n" % i for i in range(20000))
    children = [bus.start("ringbus", "subscribe", "many", "-C", "20000", stdout=PIPE) for _ in range(2)]
    results = []
    readers = [threading.Thread(target=lambda c=c: results.append(output(c))) for c in children]
    for reader in readers:
        reader.start()
    emit(bus, "many", "--lines", "--wait-subscribers", "2", input=data)
    for reader in readers:
        reader.join()
    assert results == [data, data], [len(r) for r in results]


def json_messages_have_all_members(bus):
    child = subscriber(bus, "news", "-j", "-C", "2")
    emit(bus, "news", 'quote " backslash \\ tab \t snowman \u2603')
    emit(bus, "news", input=ALL_BYTES)
    first, second = [json.loads(line) for line in output(child).splitlines()]
    same(first["schema"], "ringbus.subscribe/1")
    same(first["event"], "news")
    same(first["data"], 'quote " backslash \\ tab \t snowman \u2603')
    same(first["lost"], 0)
    same(set(first["sender"]), {"pid", "slot", "generation"})
    same(second["size"], 256)
    same(base64.b64decode(second["data_b64"]), ALL_BYTES)
    assert "data" not in second


def several_events_at_once(bus):
    child = subscriber(bus, "a", "b", "-j", "-C", "2", word="subscribed to b")
    emit(bus, "a", "1")
    emit(bus, "b", "2")
    same([json.loads(line)["event"] for line in output(child).splitlines()], ["a", "b"])


def emit_repeats_at_a_rate(bus):
    child = subscriber(bus, "tick", "-C", "5")
    emit(bus, "tick", "x", "--count", "5", "--rate", "1000")
    same(output(child), b"x\n" * 5)


def single_event_belongs_to_its_creator(bus):
    child = subscriber(bus, "mine", "-C", "1")
    owner = bus.start("ringbus", "emit", "mine", "--single", "--lines", stdin=PIPE)
    bus.until(lambda: any(e["event"] == "mine" and e["state"] == "live" for e in ls(bus)["events"]),
              "the event")
    same(emit(bus, "mine", "theirs", status=1).stdout, b"")
    emit(bus, "mine", "theirs", "--single", status=1)
    owner.stdin.write(b"own\n")
    owner.stdin.close()
    same(owner.wait(LIMIT), 0)
    same(output(child), b"own\n")


def contact_reaches_name_pid_and_slot(bus):
    child = subscriber(bus, "--name", "alice", "-C", "3", "-f", "raw", verb="listen", word="listening")
    node = [n for n in ls(bus)["nodes"] if n["name"] == "alice"][0]
    same(node["pid"], child.pid)
    targets = ("alice", str(child.pid), "%d:%d" % (node["slot"], node["generation"]))
    for target in targets:
        result = bus.run("ringbus", "contact", target, input=ALL_BYTES)
        same(result.returncode, 0, result.stderr)
    same(output(child), ALL_BYTES * 3)


def contact_waits_for_its_target(bus):
    sender = bus.start("ringbus", "contact", "late", "hello", "--wait")
    child = bus.start("ringbus", "listen", "--name", "late", "-C", "1", "-j", stdout=PIPE)
    message = json.loads(output(child))
    same(sender.wait(LIMIT), 0)
    same((message["schema"], message["data"]), ("ringbus.listen/1", "hello"))
    same(message["sender"]["pid"], sender.pid)


def show_sender_names_the_process(bus):
    child = subscriber(bus, "--name", "x", "-C", "2", "-s", verb="listen", word="listening")
    sender = bus.start("ringbus", "contact", "x", "--lines", stdin=PIPE)
    sender.communicate(b"a\nb\n")
    out = output(child).split(b"\n")
    for line, text in zip(out, (b"a", b"b")):
        head, tail = line.split(b"\t")
        same((int(head.split()[0]), tail), (sender.pid, text))


def signals_are_counted(bus):
    child = subscriber(bus, "--name", "bob", "-C", "4", verb="wait-signal", word="waiting")
    same(bus.run("ringbus", "signal", "bob", "-C", "3").returncode, 0)
    same(bus.run("ringbus", "signal", str(child.pid)).returncode, 0)
    same(output(child), b"4\n")
    child = subscriber(bus, "--name", "bob", "-j", verb="wait-signal", word="waiting")
    same(bus.run("ringbus", "signal", "bob").returncode, 0)
    same(json.loads(output(child)), {"schema": "ringbus.wait-signal/1", "count": 1})


def ls(bus):
    result = bus.run("ringbus", "ls", "--json")
    same(result.returncode, 0, result.stderr)
    return json.loads(result.stdout)


def ls_shows_nodes_and_events(bus):
    child = subscriber(bus, "watched", "--name", "watcher", "-C", "1")
    document = ls(bus)
    same((document["schema"], document["live"]), ("ringbus.ls/1", True))
    node = [n for n in document["nodes"] if n["pid"] == child.pid][0]
    same((node["name"], node["state"]), ("watcher", "live"))
    event = [e for e in document["events"] if e["event"] == "watched"][0]
    same((event["state"], event["owner_slot"]), ("pending", None))
    text = bus.run("ringbus", "ls").stdout
    assert b"watcher" in text and b"watched" in text and b"\033" not in text, text
    emit(bus, "watched", "end")
    output(child)


def timeouts_exit_with_4(bus):
    for arguments in (("subscribe", "none"), ("listen",), ("wait-signal",),
                      ("emit", "none", "x", "--wait-subscribers", "1"), ("contact", "nobody", "x", "--wait"),
                      ("signal", "nobody", "--wait")):
        result = bus.run("ringbus", *arguments, "--timeout", "50ms")
        same(result.returncode, 4, (arguments, result))
        assert result.stderr, arguments


def send_to_a_stopped_subscriber_times_out(bus):
    child = subscriber(bus, "full", "--name", "slow", stdout=subprocess.DEVNULL)
    child.send_signal(signal.SIGSTOP)
    try:
        result = emit(bus, "full", "x" * 4000, "-C", "100000", "-W", "0.2", status=4)
        told = rb"held back by process %d, slot \d+:\d+, node slow\n" % child.pid
        assert re.search(told, result.stderr), result.stderr
    finally:
        child.send_signal(signal.SIGCONT)


def losses_are_counted_and_strict_exits_with_5(bus):
    child = subscriber(bus, "flood", "--lossy", "--strict", "--json",
                       stdout=open(os.path.join(bus.work, "flood"), "wb"))
    child.send_signal(signal.SIGSTOP)
    emit(bus, "flood", "x" * 4000, "-C", "1000")
    child.send_signal(signal.SIGCONT)
    emit(bus, "flood", "last")
    path = os.path.join(bus.work, "flood")
    bus.until(lambda: b'"last"' in open(path, "rb").read(), "the last message")
    child.send_signal(signal.SIGINT)
    same(child.wait(LIMIT), 5)
    messages = [json.loads(line) for line in open(path, "rb")]
    got = [m for m in messages if "data" in m]
    same(sum(m["lost"] for m in messages) + len(got), 1001, "%d messages" % len(got))


def missing_things_exit_with_3(bus):
    for arguments in (("contact", "nobody", "x"), ("contact", "4000000000", "x"), ("signal", "nobody")):
        result = bus.run("ringbus", *arguments)
        same(result.returncode, 3, (arguments, result))
        assert result.stderr.startswith(b"ringbus: %s: " % arguments[0].encode()), result.stderr


def a_failure_is_told_by_its_cause_alone(bus):
    same(bus.run("ringbus", "ls", "-p", "1").stderr.split(b": ")[2][:19], b"no bus with port 1 ")
    same(bus.run("ringbus", "signal", "nobody").stderr, b"ringbus: signal: no node named 'nobody' on the bus\n")


def a_file_that_cannot_be_written_is_named(bus):
    if os.getuid() != 0:
        return  # only root can be somebody else
    os.chmod(bus.directory, 0o755)
    result = bus.run(os.path.join(bus.tools, "ringbus"), "emit", "x", "y", "--no-autostart", user=65534)
    text = "cannot open %s/%d.bus for writing" % (bus.directory, bus.port)
    assert result.returncode == 1 and text.encode() in result.stderr, result


def no_bus_exits_with_3(bus):
    for arguments in (("ls",), ("emit", "x", "y", "--no-autostart"), ("subscribe", "x", "--no-autostart")):
        result = bus.run("ringbus", *arguments)
        same(result.returncode, 3, (arguments, result))


def tools_start_the_service_and_it_ends_by_itself(bus):
    child = subscriber(bus, "auto", "-C", "1")
    emit(bus, "auto", "hello")
    same(output(child), b"hello\n")
    bus.until(lambda: bus.run("ringbus", "ls").returncode == 3, "the end of the bus")


def script(bus, *lines):
    path = os.path.join(bus.work, "script")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(("#!/bin/sh",) + lines) + "\n")
    os.chmod(path, 0o755)
    return path


def a_service_that_does_not_start_is_told_with_its_cause(bus):
    ringbusd = bus.env["RINGBUSD"]
    for changes, status, text in (
            ({"RINGBUS_DIR": "/nonexistent/x"}, 3, "cannot make directory /nonexistent/x: No such file"),
            ({"RINGBUS_DIR": "/dev/null/x"}, 1, "cannot make directory /dev/null/x: Not a directory"),
            ({"RINGBUS_LINGER": "soon"}, 1, "'soon' is not a number of seconds"),
            ({"RINGBUSD": "/bin/false"}, 3, "/bin/false was started and ended without a word"),
            ({"RINGBUSD": script(bus, "echo one >&2; echo the cause >&2; exit 1")}, 3, "ended: the cause\n"),
            ({"RINGBUSD": "/nonexistent/ringbusd"}, 1, "which cannot be run: No such file"),
            ({"RINGBUSD": "tools/ringbusd"}, 1, "which is no absolute path")):
        old, bus.env = bus.env, dict(bus.env, **changes)
        result = emit(bus, "x", "y", status=status)
        assert text.encode() in result.stderr, (changes, result.stderr)
        bus.env = old
    bus.env["RINGBUSD"] = script(bus, "cd '%s'; echo $$ >pid; exec sleep 1000" % bus.work)
    result = emit(bus, "x", "y", "-W", "1", status=4)
    os.kill(int(open(os.path.join(bus.work, "pid")).read()), signal.SIGKILL)
    assert b"does not serve in time" in result.stderr, result.stderr
    # one that knows nothing of the question, and says more than a pipe takes before it serves
    bus.env["RINGBUSD"] = script(bus, "unset RINGBUSD_ANSWER; head -c 200000 /dev/zero | tr '\\0' x >&2",
                                 'exec %s "$@"' % ringbusd)
    emit(bus, "x", "y")


STARTER = """#include <ringbus.h>
#include <dirent.h>
#include <stdio.h>
#include <sys/wait.h>
static int descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}
int main(void)
{
	struct ringbus_node_options options = {.size = sizeof options, .autostart = true};
	struct ringbus_node *node;
	int before = descriptors(), r = ringbus_node_open(&node, &options), after = descriptors();
	printf("%d %d %d\\n", r == 0, after - before, waitpid(-1, NULL, WNOHANG));
	ringbus_node_close(node);
	return 0;
}
"""


def starting_a_service_leaves_no_descriptor_and_no_child(bus):
    program = bus.compile("starter", STARTER)
    good, bus.env["RINGBUSD"] = bus.env["RINGBUSD"], "/bin/false"
    same(bus.run(program).stdout, b"0 0 -1\n")
    bus.env["RINGBUSD"] = good
    assert bus.run(program).stdout.startswith(b"1 ")
    # started by one whose own 0 to 2 are closed; what it leaves running reads and writes nothing of ours
    bus.until(lambda: bus.run("ringbus", "ls").returncode == 3, "the end of the bus")
    bus.env["RINGBUS_LINGER"] = "1000"
    same(bus.run("sh", "-c", "exec ringbus emit x y <&- >&- 2>&-").returncode, 0)
    service = ls(bus)["service_pid"]
    same({os.readlink("/proc/%d/fd/%d" % (service, fd)) for fd in range(3)}, {"/dev/null"})
    os.kill(service, signal.SIGTERM)


for test in (no_bus_exits_with_3, tools_start_the_service_and_it_ends_by_itself,
             a_service_that_does_not_start_is_told_with_its_cause,
             starting_a_service_leaves_no_descriptor_and_no_child):
    test.no_service = True


def mistakes_exit_with_2(bus):
    for arguments in ((), ("nonsense",), ("emit",), ("emit", "a", "b", "c"), ("emit", "--nonsense", "a"),
                      ("subscribe",), ("subscribe", "x", "--format", "xml"), ("subscribe", "x", "--count"),
                      ("subscribe", "x", "-C", "-1"), ("subscribe", "x", "-W", "soon"), ("listen", "x"),
                      ("emit", "x", "y", "--lines"), ("emit", "x", "y", "--rate", "0"), ("contact",), ("signal",),
                      ("signal", "a", "b"), ("wait-signal", "x"), ("ls", "x"), ("ls", "-p", "0"),
                      ("ls", "-p", "65536"), ("ls", "-p", "12x"), ("emit", "x", "--wait-subscribers", "many"),
                      ("ls", "--count", "1"), ("ls", "--name", "x"), ("ls", "--color", "blue"), ("help", "nonsense"),
                      ("emit", "x", "y", "--size", "1"), ("emit", "x", "--size", "1", "--file", "f"),
                      ("emit", "x", "y", "--file", "f"), ("emit", "x", "--size", "1", "--lines"),
                      ("emit", "x", "y", "--chunk", "2"), ("emit", "x", "--chunk", "0"), ("emit", "x", "--size", "-1"),
                      ("emit", "x", "--lines", "--chunk", "2"), ("hz", "x", "--interval", "0"), ("bw", "x", "-w", "1"),
                      ("latency",), ("latency", "a", "b"), ("latency", "a", "-C", "0"), ("latency", "a", "-s", "x"),
                      ("bench", "x"), ("bench", "--size", "7"), ("bench", "--size", "8,,9"), ("bench", "--port", "1"),
                      ("bench", "--duration", "1h")):
        result = bus.run("ringbus", *arguments)
        same(result.returncode, 2, (arguments, result))
        assert result.stderr and not result.stdout, (arguments, result)


def a_count_of_0_is_refused_by_each_verb(bus):
    for arguments in (("emit", "x", "y"), ("subscribe", "x"), ("contact", "x", "y"), ("listen",), ("signal", "x"),
                      ("wait-signal",), ("hz", "x"), ("bw", "x"), ("latency", "x")):
        result = bus.run("ringbus", *arguments, "-C", "0", "-W", "1ms")
        same(result.returncode, 2, (arguments, result))
        assert b'"0" is not a number of 1 or more' in result.stderr, (arguments, result)


def names_that_cannot_be_exit_with_2(bus):
    for name in ("", "n" * 256, b"\xff"):
        for before, after in ((("emit",), ("x",)), (("subscribe", "other"), ()), (("hz",), ()), (("contact",), ("x",)),
                              (("signal",), ()), (("latency",), ()), (("listen", "--name"), ())):
            result = bus.run("ringbus", *before, name, *after, "-W", "1ms")
            same(result.returncode, 2, (before, name, result))
            assert result.stderr.startswith(b"ringbus: %s: " % before[0].encode()), result.stderr
    assert b": an event needs a name\n" in emit(bus, "", "x", status=2).stderr
    emit(bus, "e" * 255, "x")


def names_that_read_as_process_or_slot_are_refused(bus):
    for name, text in (("0", b"process id"), ("99999", b"process id"), ("7:7", b"SLOT:GENERATION")):
        result = bus.run("ringbus", "listen", "--name", name, "-W", "1ms")
        same(result.returncode, 2, (name, result))
        assert text in result.stderr, (name, result)
    same(bus.run("ringbus", "listen", "--name", "7:x", "-W", "1ms").returncode, 4)


def nodes_whose_name_reads_as_process_or_slot_are_met_when_that_is_not_there(bus):
    first = Node(bus, "first")
    address = [n for n in ls(bus)["nodes"] if n["name"] == "first"][0]
    for name, met in (("4000000000", True), ("999999", True), ("77:7", True), ("0", True), (str(first.pid), False),
                      ("%d:%d" % (address["slot"], address["generation"]), False)):
        node = Node(bus, name)
        same(bus.run("ringbus", "contact", name, "x").returncode, 0, name)
        same((node("next", 9), first("next", 9)), (1, 0) if met else (0, 1), name)
        node.kill()


def a_port_of_the_environment_that_is_none_exits_with_2(bus):
    for port in ("0", "abc", "65536", "-1"):
        bus.env["RINGBUS_PORT"] = port
        for command in (("ringbus", "ls"), ("ringbus", "emit", "x", "y"), ("ringbusd",), ("shm-inspect", "nodes"),
                        ("shm-inspect", "doctor", "a", "b")):
            result = bus.run(*command)
            same(result.returncode, 2, (command, port, result))
            assert b"RINGBUS_PORT" in result.stderr, result
        same(bus.run("ringbus", "ls", "--help").returncode, 0)
        same(bus.run("ringbus", "ls", "-p", "1").returncode, 3)


a_port_of_the_environment_that_is_none_exits_with_2.no_service = True


def help_and_version_go_to_stdout(bus):
    version = bus.run("ringbus", "--version")
    assert version.returncode == 0 and version.stdout.startswith(b"ringbus "), version
    same(bus.run("ringbus", "emit", "--version").stdout, version.stdout)
    overview = bus.run("ringbus", "--help").stdout.decode()
    for verb in VERBS:
        assert verb in overview, verb
        result = bus.run("ringbus", verb, "--help")
        same((result.returncode, result.stderr), (0, b""), verb)
        assert b"Usage: ringbus " + verb.encode() in result.stdout
        assert b"\nOptions:\n" in result.stdout and b"\nExamples:\n  $ ringbus " in result.stdout, verb
        same(bus.run("ringbus", "help", verb).stdout, result.stdout)
        same(bus.run("ringbus", verb, "-h").stdout, result.stdout)


def interrupt_of_an_endless_verb_is_success(bus):
    for number in (signal.SIGINT, signal.SIGTERM):
        for verb, word, more in (("subscribe", "subscribed", ["x"]), ("listen", "listening", [])):
            child = subscriber(bus, *more, verb=verb, word=word)
            child.send_signal(number)
            same(child.wait(LIMIT), 0, verb)
    child = bus.start("ringbus", "emit", "x", "y", "--rate", "100")
    bus.until(lambda: any(n["pid"] == child.pid and n["state"] == "live" for n in ls(bus)["nodes"]), "emitter")
    child.send_signal(signal.SIGINT)
    same(child.wait(LIMIT), 0)
    same([n for n in ls(bus)["nodes"]], [], "nodes left")


def closed_output_ends_quietly(bus):
    child = subscriber(bus, "x")
    child.stdout.close()
    bus.until(lambda: bus.run("ringbus", "emit", "x", "y").returncode == 0 and child.poll() is not None,
              "the end of the subscriber")
    same(child.returncode, 0)


def a_reader_that_goes_away_ends_a_verb_that_waits(bus):
    for verb, word, more in (("subscribe", "subscribed", ["x"]), ("subscribe", "following", ["x*"]),
                             ("listen", "listening", []), ("hz", "subscribed", ["x"]), ("bw", "measuring", [])):
        child = subscriber(bus, *more, verb=verb, word=word)
        child.stdout.close()
        same(child.wait(LIMIT), 0, verb)
    mirror = subscriber(bus, "--echo", "--name", "mirror", verb="listen", word="listening")
    mirror.stdout.close()
    same(bus.run("ringbus", "latency", "mirror", "-C", "5").returncode, 0)
    same(mirror.poll(), None)


def full_output_is_a_failure(bus):
    with open("/dev/full", "wb") as full:
        child = subscriber(bus, "x", "-C", "1", stdout=full)
        emit(bus, "x", "y")
        same(child.wait(LIMIT), 1)
        for command in (("ringbus", "ls"), ("ringbusd", "--help"), ("ringbusd", "--version"),
                        ("ringbus", "wait-signal", "-W", "1ms")):
            result = bus.run(*command, stdout=full)
            same(result.returncode, 1, command)
            assert b"No space left on device" in result.stderr, (command, result.stderr)


def closed_descriptors_stay_closed_to_the_verb(bus):
    for more in ((), ("--lines",), ("--chunk", "2")):
        result = bus.run("sh", "-c", 'exec "$@" <&-', "sh", "ringbus", "emit", "x", *more)
        same((result.returncode, result.stderr),
             (1, b"ringbus: emit: cannot read standard input: Bad file descriptor\n"), more)
    result = bus.run("sh", "-c", "exec ringbus ls >&-")
    same(result.returncode, 1)
    assert b"cannot write to standard output: Bad file descriptor" in result.stderr, result.stderr
    child = subscriber(bus, "x", "-C", "1")
    same(bus.run("sh", "-c", "exec ringbus emit x y 2>&- <&-").returncode, 0)
    same(output(child), b"y\n")


def one_thing_is_no_plural(bus):
    child = subscriber(bus, "x", "-W", "1h", "-C", "1")
    result = emit(bus, "x", "y", "-v")
    same(result.stderr, b"ringbus: emit: sent 1 message, 1 byte; 1 receiver of the last\n")
    output(child)
    assert b"after 0 messages" in bus.run("ringbus", "subscribe", "x", "-W", "1ms").stderr
    result = emit(bus, "x", "y", "--wait-subscribers", "1", "-W", "1ms", status=4)
    assert b"fewer than 1 subscriber\n" in result.stderr, result.stderr


def options_name_the_bus_without_environment(bus):
    env = bus.env
    bus.env = {k: v for k, v in env.items() if k not in ("RINGBUS_DIR", "RINGBUS_PORT")}
    where = ("-p", str(bus.port), "-d", bus.directory)
    child = subscriber(bus, "x", "-C", "1", *where)
    emit(bus, "x", "y", *where)
    same(output(child), b"y\n")
    bus.env = env


main([
    payload_of_all_bytes_arrives_exactly,
    line_format_adds_a_newline_and_nothing_else,
    lines_become_messages,
    lines_stop_at_count,
    a_line_over_the_limit_is_not_read_to_its_end,
    two_subscribers_get_many_lines_in_order,
    json_messages_have_all_members,
    several_events_at_once,
    emit_repeats_at_a_rate,
    single_event_belongs_to_its_creator,
    contact_reaches_name_pid_and_slot,
    contact_waits_for_its_target,
    show_sender_names_the_process,
    signals_are_counted,
    ls_shows_nodes_and_events,
    timeouts_exit_with_4,
    send_to_a_stopped_subscriber_times_out,
    losses_are_counted_and_strict_exits_with_5,
    missing_things_exit_with_3,
    a_failure_is_told_by_its_cause_alone,
    a_file_that_cannot_be_written_is_named,
    no_bus_exits_with_3,
    tools_start_the_service_and_it_ends_by_itself,
    a_service_that_does_not_start_is_told_with_its_cause,
    starting_a_service_leaves_no_descriptor_and_no_child,
    mistakes_exit_with_2,
    a_count_of_0_is_refused_by_each_verb,
    names_that_cannot_be_exit_with_2,
    names_that_read_as_process_or_slot_are_refused,
    nodes_whose_name_reads_as_process_or_slot_are_met_when_that_is_not_there,
    a_port_of_the_environment_that_is_none_exits_with_2,
    help_and_version_go_to_stdout,
    interrupt_of_an_endless_verb_is_success,
    closed_output_ends_quietly,
    a_reader_that_goes_away_ends_a_verb_that_waits,
    full_output_is_a_failure,
    closed_descriptors_stay_closed_to_the_verb,
    one_thing_is_no_plural,
    options_name_the_bus_without_environment,
])
