#!/usr/bin/env python3
"""`ringbus` as a measuring and transfer tool: patterns, hz, bw, latency, bench, top, input, progress, Ctrl-C.

Usage: e2e_ringbus.py BUILD-DIRECTORY [TEST]...
"""

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import threading

from cli_bus import LIMIT, main

PIPE = subprocess.PIPE


def same(got, wanted, what=""):
    assert got == wanted, "%s: got %r, wanted %r" % (what, got, wanted)


class Lines:
    """The stderr of a child, read in the background; until(word) waits for a line with it."""

    def __init__(self, child):
        self.child, self.lines, self.ended = child, [], False
        self.changed = threading.Condition()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.child.stderr:
            with self.changed:
                self.lines.append(line.decode())
                self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def until(self, word, times=1):
        def there():
            return self.ended or sum(word in line for line in self.lines) >= times
        with self.changed:
            assert self.changed.wait_for(there, LIMIT), (word, self.lines)
            assert sum(word in line for line in self.lines) >= times, (word, self.lines)


def verb(bus, word, *arguments, **more):
    """Starts a verb verbosely and waits until it has said word."""
    more.setdefault("stdout", PIPE)
    child = bus.start("ringbus", *arguments, "-v", stderr=PIPE, **more)
    child.said = Lines(child)
    child.said.until(word)
    return child


def output(child, status=0):
    out = child.stdout.read()
    same(child.wait(LIMIT), status, "exit status of %r" % (child.args,))
    return out


def objects(text):
    return [json.loads(line) for line in text.splitlines()]


def run(bus, *arguments, status=0, **more):
    result = bus.run("ringbus", *arguments, **more)
    same(result.returncode, status, "%r: %r" % (arguments, result.stderr))
    return result


def ls(bus):
    return json.loads(run(bus, "ls", "--json").stdout)


def joined(bus, child):
    bus.until(lambda: any(n["pid"] == child.pid and n["state"] == "live" for n in ls(bus)["nodes"]), "the node")


# ---- patterns ----

def pattern_takes_events_of_now_and_later(bus):
    early = bus.start("ringbus", "emit", "sensor.early", "--lines", stdin=PIPE)
    joined(bus, early)
    child = verb(bus, "following 1 pattern", "subscribe", "sensor.*", "--json", "-C", "3")
    child.said.until("subscribed to sensor.early")
    early.stdin.write(b"1\n")
    early.stdin.close()
    run(bus, "emit", "other", "no")
    run(bus, "emit", "sensor.late", "2", "--wait-subscribers", "1")
    run(bus, "emit", "sensor.", "3", "--wait-subscribers", "1")
    got = [(o["event"], o["data"]) for o in objects(output(child))]
    same(sorted(got), [("sensor.", "3"), ("sensor.early", "1"), ("sensor.late", "2")])
    same(early.wait(LIMIT), 0)


def pattern_stays_with_an_event_that_changes_its_owner(bus):
    child = verb(bus, "following", "subscribe", "a?c", "-C", "3")
    for i in range(3):
        owner = bus.start("ringbus", "emit", "abc", "--single", "--wait-subscribers", "1", str(i))
        same(owner.wait(LIMIT), 0)
    same(output(child), b"0\n1\n2\n")


DISSOLVER = """#include <ringbus.h>
#include <string.h>
int main(int argc, char **argv)
{
	struct ringbus_node *node;
	struct ringbus_event *event;
	int r = argc == 3 ? ringbus_node_open(&node, NULL) : -1;
	if (r == 0)
		r = ringbus_event_create(&event, node, argv[1], NULL);
	if (r == 0)
		r = ringbus_event_wait_subscribers(event, 1, 50000000000);
	if (r == 0)
		r = ringbus_emit(event, argv[2], strlen(argv[2]), 0) == 1 ? 0 : -1;
	if (r == 0)
		r = ringbus_event_dissolve(event);
	if (r == 0)
		ringbus_node_close(node);
	return r < 0;
}
"""


def pattern_joins_an_event_again_after_its_end_and_a_name_does_not(bus):
    dissolver = bus.compile("dissolver", DISSOLVER)
    child = verb(bus, "following", "subscribe", "a?c", "-C", "3")
    for i in range(3):
        same(bus.start(dissolver, "abc", str(i)).wait(LIMIT), 0)
        if i < 2:  # an end that is followed at once by a new beginning is not always told
            child.said.until("event abc was dissolved", i + 1)
    same(output(child), b"0\n1\n2\n")
    child = verb(bus, "subscribed", "subscribe", "abc")
    same(bus.start(dissolver, "abc", "only").wait(LIMIT), 0)
    same(output(child), b"only\n")
    counting = verb(bus, "subscribed", "hz", "abc", "-C", "2", "--json")
    same(bus.start(dissolver, "abc", "x").wait(LIMIT), 0)
    same(objects(output(counting, status=3))[-1]["messages"], 1)


def question_mark_is_one_character_and_literal_is_itself(bus):
    child = verb(bus, "following", "subscribe", "t?g", "-e", "-C", "2")
    exact = verb(bus, "subscribed to t?g", "subscribe", "t?g", "--literal", "-e", "-C", "1")
    for name in ("tg", "taag"):
        run(bus, "emit", name, "no")
    run(bus, "emit", "t\u00e4g", "umlaut", "--wait-subscribers", "1")
    run(bus, "emit", "t?g", "itself", "--wait-subscribers", "2")
    same(output(child).decode(), "t\u00e4g\tumlaut\nt?g\titself\n")
    same(output(exact), b"t?g\titself\n")


def name_and_pattern_for_one_event_give_each_message_once(bus):
    child = verb(bus, "following", "subscribe", "news", "n*", "news", "*s", "-C", "2")
    run(bus, "emit", "news", "one", "--wait-subscribers", "1")
    run(bus, "emit", "news", "two", "--wait-subscribers", "1")
    same(output(child), b"one\ntwo\n")


def many_events_are_all_joined_while_messages_flow(bus):
    path = os.path.join(bus.work, "out")
    with open(path, "wb") as file:
        child = verb(bus, "following", "subscribe", "e*", "f", "--json", stdout=file)
    noise = bus.start("ringbus", "emit", "e", "x", "-r", "5000", "--wait-subscribers", "1")
    for i in range(20):
        run(bus, "emit", "e%d" % i, "late", "--wait-subscribers", "1")
    run(bus, "emit", "f", "last")
    bus.until(lambda: b'"last"' in open(path, "rb").read(), "the last message")
    for process in (noise, child):
        process.send_signal(signal.SIGINT)
        same(process.wait(LIMIT), 0)
    with open(path, "rb") as file:
        late = [o["event"] for o in objects(file.read()) if o["data"] == "late"]
    same(late, ["e%d" % i for i in range(20)])


# ---- hz and bw ----

def hz_counts_what_comes_and_ends_with_the_total(bus):
    child = verb(bus, "subscribed", "hz", "tick", "--json", "-C", "500", "-i", "50ms")
    run(bus, "emit", "tick", "x", "-C", "500", "-r", "5000")
    periods = objects(output(child))
    total = periods.pop()
    same((total["schema"], total["period"], total["messages"], total["lost"]), ("ringbus.hz/1", "total", 500, 0))
    same({p["period"] for p in periods}, {"interval"})
    same(sum(p["messages"] for p in periods), 500)
    assert 0 < total["min_ns"] <= total["mean_ns"] <= total["max_ns"] and total["stddev_ns"] > 0, total
    wanted = 500 / total["seconds"]
    assert abs(total["rate"] - wanted) < 1e-6 * wanted, (total, wanted)


def hz_of_a_steady_emitter_has_its_mean_interval(bus):
    child = verb(bus, "subscribed", "hz", "tick", "--json", "-C", "200")
    begun = verb(bus, "sent", "emit", "tick", "x", "-C", "200", "-r", "1000")
    total = objects(output(child))[-1]
    same(begun.wait(LIMIT), 0)
    # 199 gaps of 1 ms: a loaded machine makes them longer, nothing can make their sum shorter by much
    assert total["mean_ns"] > 900000, total


def hz_window_is_of_the_last_messages(bus):
    child = verb(bus, "subscribed", "hz", "tick", "--json", "-C", "100", "-w", "10", "-i", "1h")
    run(bus, "emit", "tick", "x", "-C", "100")
    window, total = objects(output(child))
    same((window["period"], window["messages"], total["messages"]), ("window", 10, 100))
    assert window["seconds"] <= total["seconds"], (window, total)


def hz_without_event_measures_contacts(bus):
    child = verb(bus, "measuring", "hz", "--name", "me", "--json", "-C", "5")
    run(bus, "contact", "me", "x", "-C", "5")
    same(objects(output(child))[-1]["messages"], 5)


def bw_adds_up_bytes(bus):
    child = verb(bus, "subscribed", "bw", "load", "--json", "-C", "4")
    for size in ("0", "100", "100", "1000"):
        run(bus, "emit", "load", "--size", size)
    total = objects(output(child))[-1]
    same((total["schema"], total["bytes"], total["min_bytes"], total["mean_bytes"], total["max_bytes"]),
         ("ringbus.bw/1", 1200, 0, 300, 1000))
    deviation = ((300 ** 2 + 200 ** 2 + 200 ** 2 + 700 ** 2) / 4) ** 0.5
    assert abs(total["stddev_bytes"] - deviation) < 1e-6, total
    wanted = 1200 / total["seconds"]
    assert abs(total["bytes_per_second"] - wanted) < 1e-6 * wanted, total


def measuring_never_holds_the_emitter_back_and_counts_losses(bus):
    child = verb(bus, "subscribed", "hz", "flood", "--json")
    child.send_signal(signal.SIGSTOP)
    run(bus, "emit", "flood", "--size", "4000", "-C", "1000", "-W", "5")
    child.send_signal(signal.SIGCONT)
    run(bus, "emit", "flood", "last")
    bus.until(lambda: [n for n in ls(bus)["nodes"] if n["pid"] == child.pid][0]["received"] > 1, "messages")
    periods = []
    for line in child.stdout:
        periods.append(json.loads(line))
        if sum(p["messages"] + p["lost"] for p in periods) >= 1001:
            break
    child.send_signal(signal.SIGINT)
    total = objects(output(child))[-1]
    same(total["messages"] + total["lost"], 1001)
    assert total["lost"] > 0, total


def measuring_ends_as_told(bus):
    run(bus, "hz", "nothing", "-W", "30ms", status=4)
    child = verb(bus, "subscribed", "bw", "x", "-C", "3", "-W", "1h")
    run(bus, "emit", "x", "1")
    child.send_signal(signal.SIGINT)
    out = output(child, status=1).decode()
    assert out.endswith("(total)\n"), out
    child = verb(bus, "subscribed", "hz", "x", "-W", "1h")
    child.send_signal(signal.SIGTERM)
    output(child)


# ---- latency and bench ----

def latency_times_round_trips(bus):
    mirror = verb(bus, "listening", "listen", "--echo", "--name", "mirror")
    for size in (0, 7, 8, 64, 5000, 1 << 20):
        result = json.loads(run(bus, "latency", "mirror", "--size", str(size), "-C", "20", "--json").stdout)
        same((result["schema"], result["round_trips"], result["size"]), ("ringbus.latency/1", 20, size))
        times = [result[k] for k in ("min_ns", "p50_ns", "p90_ns", "p99_ns", "p999_ns", "max_ns")]
        assert times[0] > 0 and times == sorted(times), result
        assert times[0] <= result["mean_ns"] <= times[-1], result
        same(result["to"]["pid"], mirror.pid)
    text = run(bus, "latency", str(mirror.pid), "-C", "5", "-i", "1ms").stdout.decode()
    assert text.startswith("5 round trips of 64 bytes") and " 99 % " in text and "\033" not in text, text
    mirror.send_signal(signal.SIGINT)
    same(output(mirror), b"")


def latency_of_a_node_that_does_not_answer_times_out(bus):
    child = verb(bus, "listening", "listen", "--name", "dumb", "-C", "1")
    result = run(bus, "latency", "dumb", "-W", "50ms", "--json", status=4)
    assert b"--echo" in result.stderr, result.stderr
    same((json.loads(result.stdout)["round_trips"], json.loads(result.stdout)["p50_ns"]), (0, None))
    same(len(output(child)), 65)
    run(bus, "latency", "nobody", status=3)
    run(bus, "latency", "nobody", "--wait", "-W", "30ms", status=4)


def answers_of_others_are_not_taken_for_pongs(bus):
    dumb = verb(bus, "listening", "listen", "--name", "dumb")
    child = bus.start("ringbus", "latency", "dumb", "--name", "asker", "--size", "1", "-W", "1h",
                      stdout=PIPE, stderr=PIPE)
    joined(bus, child)
    run(bus, "contact", "asker", "x", "-C", "20")
    bus.until(lambda: [n for n in ls(bus)["nodes"] if n["pid"] == child.pid][0]["received"] >= 20, "20 messages")
    same(child.poll(), None)
    for process, status in ((child, 1), (dumb, 0)):
        process.send_signal(signal.SIGINT)
        same(process.wait(LIMIT), status)


def bench_places(child):
    return [name for name in os.listdir("/dev/shm") if name.startswith("ringbus-bench-%d-" % child.pid)]


def bench_measures_and_leaves_nothing_behind(bus):
    child = bus.start("ringbus", "bench", "--size", "8,1k,100000", "--duration", "5ms", "--json", stdout=PIPE)
    document = json.loads(output(child))
    same((document["schema"], [r["size"] for r in document["rows"]]), ("ringbus.bench/1", [8, 1024, 100000]))
    for row in document["rows"]:
        assert row["round_trips"] > 0 and row["messages"] > 0, row
        assert 0 < row["rtt_p50_ns"] <= row["rtt_p99_ns"] and row["line_ns"] > 0 and row["rtt_to_line"] > 0, row
        assert row["bytes_per_second"] > 0, row
    text = run(bus, "bench", "--size", "8", "--duration", "5ms", "-q")
    same((len(text.stdout.splitlines()), text.stderr), (2, b""))
    same(bench_places(child), [])


def interrupted_bench_ends_its_children(bus):
    for number in (signal.SIGINT, signal.SIGTERM):
        child = bus.start("ringbus", "bench", "--duration", "10s", stdout=PIPE, stderr=PIPE)
        children = "/proc/%d/task/%d/children" % (child.pid, child.pid)
        bus.until(lambda: len(open(children).read().split()) == 3, "three children")
        pids = open(children).read().split()
        same(len(bench_places(child)), 1)
        child.send_signal(number)
        same(child.wait(LIMIT), 1)
        assert not any(os.path.exists("/proc/" + pid) for pid in pids), pids
        same(bench_places(child), [])


def bench_works_on_one_processor(bus):
    cpu = str(min(os.sched_getaffinity(0)))
    result = bus.run("taskset", "-c", cpu, "ringbus", "bench", "--size", "8", "--duration", "5ms", "--json")
    same(result.returncode, 0, result.stderr)
    assert b"one processor" in result.stderr, result.stderr
    same(json.loads(result.stdout)["cpus"], [int(cpu)] * 2)


# ---- top and doctor ----

def top_and_doctor_are_those_beside_the_program(bus):
    place = os.path.join(bus.work, "bin")
    os.mkdir(place)
    shutil.copy(os.path.join(bus.tools, "ringbus"), place)
    elsewhere = os.path.join(bus.work, "path")
    for where, word in ((place, "beside"), (elsewhere, "path")):
        os.makedirs(where, exist_ok=True)
        with open(os.path.join(where, "shm-inspect"), "w", encoding="utf-8") as file:
            file.write('#!/bin/sh\necho %s "$@"\nexit 7\n' % word)
        os.chmod(os.path.join(where, "shm-inspect"), 0o755)
    env, bus.env = bus.env, dict(bus.env, PATH=elsewhere + ":" + bus.env["PATH"])
    bus.env.setdefault("LD_LIBRARY_PATH", os.path.join(os.path.dirname(bus.tools), "lib"))
    program = os.path.join(place, "ringbus")
    for arguments in (("top", "--help"), ("doctor", "a b", "-j"), ("top",)):
        result = bus.run(program, *arguments)
        same((result.returncode, result.stdout.decode()), (7, "beside %s\n" % " ".join(arguments)))
    os.unlink(os.path.join(place, "shm-inspect"))
    same(bus.run(program, "top", "x").stdout, b"path top x\n")
    os.unlink(os.path.join(elsewhere, "shm-inspect"))
    bus.env["PATH"] = elsewhere
    result = bus.run(program, "doctor")
    assert result.returncode == 1 and b"cannot run shm-inspect" in result.stderr, result
    bus.env = env


# ---- input and progress ----

def file_chunks_and_made_up_payloads_arrive(bus):
    path = os.path.join(bus.work, "file")
    data = bytes(i * 7 % 256 for i in range(100001))
    with open(path, "wb") as file:
        file.write(data)
    child = verb(bus, "subscribed", "subscribe", "x", "-f", "raw", "-C", "1")
    run(bus, "emit", "x", "--file", path)
    same(output(child), data)
    child = verb(bus, "subscribed", "subscribe", "x", "--json", "-C", "26")
    result = run(bus, "emit", "x", "--file", path, "--chunk", "4000", "--json")
    same((json.loads(result.stdout)["sent"], json.loads(result.stdout)["bytes"]), (26, len(data)))
    same([o["size"] for o in objects(output(child))], [4000] * 25 + [1])
    child = verb(bus, "subscribed", "subscribe", "x", "-C", "2")
    run(bus, "emit", "x", "--size", "30", "-C", "2")
    same(output(child), b"abcdefghijklmnopqrstuvwxyzabcd\n" * 2)
    child = verb(bus, "subscribed", "subscribe", "x", "-f", "raw", "-C", "7")
    run(bus, "emit", "x", "--file", "-", "--chunk", "3", input=b"0123456789abcdefghi")
    same(output(child), b"0123456789abcdefghi")
    run(bus, "contact", "nobody", "--file", path, status=3)


def unreadable_files_are_a_failure(bus):
    for path, text in ((os.path.join(bus.work, "none"), b"No such file"), (bus.work, b"directory")):
        result = run(bus, "emit", "x", "--file", path, status=1)
        assert path.encode() in result.stderr and text in result.stderr, result.stderr


def a_payload_over_the_limit_is_told_with_its_size_and_the_limit(bus):
    limit = 128 << 20
    path = os.path.join(bus.work, "large")
    with open(path, "wb") as file:
        file.truncate(300 << 20)
    for arguments, text in ((("emit", "x", "--size", "1T"), "%d bytes" % (1 << 40)),
                            (("emit", "x", "--file", path), "%d bytes" % (300 << 20)),
                            (("latency", "x", "--size", "200M"), "%d bytes" % (200 << 20))):
        mirror = verb(bus, "listening", "listen", "--name", "x")
        result = run(bus, *arguments, status=1)
        said = "ringbus: %s: a payload of %s; this bus carries at most %d (--pool-bytes)\n"
        same(result.stderr.decode(), said % (arguments[0], text, limit))
        mirror.terminate()
        same(mirror.wait(LIMIT), 0)
    result = bus.run("sh", "-c", 'cat "$0" | ringbus emit x', path)
    wanted = r"a payload of more than (\d+) bytes; this bus carries at most %d " % limit
    told = re.search(wanted, result.stderr.decode())
    assert told and limit <= int(told.group(1)) < 300 << 20, result.stderr


def terminal(bus, *arguments, stderr=True, env=None):
    """Runs a verb with stderr on a terminal; returns the child and the terminal's master."""
    master, slave = pty.openpty()
    old, bus.env = bus.env, {**bus.env, "TERM": "xterm", **(env or {})}
    child = bus.start("ringbus", *arguments, stdout=PIPE, stderr=slave if stderr else PIPE, stdin=PIPE)
    bus.env = old
    os.close(slave)
    return child, master


def read_until(master, word):
    text = b""
    while word not in text:
        ready, _, _ = select.select([master], [], [], LIMIT)
        assert ready, text
        try:
            part = os.read(master, 4096)
        except OSError:  # the last slave was closed
            part = b""
        assert part, text
        text += part
    return text


def progress_is_shown_on_a_terminal_only_and_taken_away(bus):
    child, master = terminal(bus, "emit", "x", "--size", "100", "-r", "1000")
    text = read_until(master, b" messages, ")
    assert text.startswith(b"\r"), text
    child.send_signal(signal.SIGINT)
    same(child.wait(LIMIT), 0)
    rest = b""
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:
            break
        if not part:
            break
        rest += part
    assert (text + rest).endswith(b"\r\033[K"), (text, rest)
    same(child.stdout.read(), b"")
    os.close(master)


def progress_tells_the_share_of_a_known_whole(bus):
    child, master = terminal(bus, "emit", "x", "--size", "10", "-C", "100000", "-r", "1000")
    text = read_until(master, b" %")
    assert re.search(rb"\d+ messages, .*/s, \d+ %", text), text
    child.send_signal(signal.SIGINT)
    same(child.wait(LIMIT), 1)
    os.close(master)


def no_progress_when_quiet_or_piped_or_dumb(bus):
    for more, env, stderr in ((["-q"], {}, True), ([], {}, False), ([], {"TERM": "dumb"}, True)):
        # so long that progress would be shown: 700 messages at 1000 a second
        child, master = terminal(bus, "emit", "x", "y", "-C", "700", "-r", "1000", *more, env=env, stderr=stderr)
        same(child.wait(LIMIT), 0)
        if stderr:
            ready, _, _ = select.select([master], [], [], 0)
            got = b""
            if ready:
                try:
                    got = os.read(master, 4096)
                except OSError:
                    pass
        else:
            got = child.stderr.read()
        same(got, b"", (more, env))
        os.close(master)


def colour_is_for_terminals_unless_told(bus):
    same(run(bus, "ls", "--color", "always").stdout[:1], b"\033")
    assert b"\033" not in run(bus, "ls").stdout
    for more, env, wanted in (([], {}, True), ([], {"NO_COLOR": "1"}, False), (["--color=never"], {}, False),
                              ([], {"TERM": "dumb"}, False),
                              (["--color=always"], {"NO_COLOR": "1"}, True)):
        master, slave = pty.openpty()
        old, bus.env = bus.env, {**bus.env, "TERM": "xterm", **env}
        result = bus.run("ringbus", "ls", *more, stdout=slave)
        bus.env = old
        text = os.read(master, 65536)
        same((result.returncode, b"\033[" in text), (0, wanted), (more, env, text))
        os.close(master)
        os.close(slave)


# ---- Ctrl-C ----

def rings(bus):
    return json.loads(bus.run("shm-inspect", "rings", "--json").stdout)["rings"]


def held_back(bus, child):
    """A subscriber that does not read, and an emitter that waits for it."""
    child.send_signal(signal.SIGSTOP)
    emitter = bus.start("ringbus", "emit", "full", "--size", "4000", "-C", "100000", "-W", "1h", stderr=PIPE)
    bus.until(lambda: any(r["full"] > 0 for r in rings(bus)), "a full ring")
    return emitter


def interrupt_ends_each_wait(bus):
    child = verb(bus, "subscribed", "subscribe", "full", stdout=subprocess.DEVNULL)
    emitter = held_back(bus, child)
    emitter.send_signal(signal.SIGINT)
    same(emitter.wait(LIMIT), 1)
    assert b"interrupted" in emitter.stderr.read()
    child.send_signal(signal.SIGCONT)
    child.send_signal(signal.SIGINT)
    same(child.wait(LIMIT), 0)
    for arguments, status in (
            (("emit", "x", "--lines"), 0), (("emit", "x"), 1), (("emit", "x", "--lines", "-C", "5"), 1),
            (("emit", "x", "y", "--wait-subscribers", "9"), 1), (("contact", "nobody", "--wait"), 1),
            (("emit", "x", "y", "-r", "1"), 0), (("emit", "x", "y", "-C", "9", "-r", "1"), 1),
            (("subscribe", "x"), 0), (("subscribe", "x*", "y"), 0), (("subscribe", "x", "-C", "1"), 1),
            (("listen",), 0), (("listen", "--echo"), 0), (("hz", "x"), 0), (("bw",), 0), (("wait-signal",), 1),
            (("signal", "nobody", "--wait"), 1), (("latency", "nobody", "--wait"), 1)):
        for number in (signal.SIGINT, signal.SIGTERM):
            child = bus.start("ringbus", *arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE)
            joined(bus, child)
            caught = 1 << (number - 1)
            bus.until(lambda: int(re.search(r"SigCgt:\t(\w+)", open("/proc/%d/status" % child.pid).read()).group(1),
                                  16) & caught, "a handler")
            child.send_signal(number)
            same(child.wait(LIMIT), status, (arguments, child.stderr.read()))


def interrupt_ends_a_verb_whose_reader_does_not_read(bus):
    child = verb(bus, "subscribed", "subscribe", "full")
    emitter = bus.start("ringbus", "emit", "full", "--size", "4000", "-r", "1000000000", "-W", "1h")
    bus.until(lambda: any(r["full"] > 0 for r in rings(bus)), "a full ring")
    child.send_signal(signal.SIGINT)
    same(child.wait(LIMIT), 0)
    for _ in range(20):  # wherever it falls
        child = verb(bus, "subscribed", "subscribe", "full")
        bus.until(lambda: any(n["pid"] == child.pid and n["received"] > 0 for n in ls(bus)["nodes"]), "messages")
        child.send_signal(signal.SIGINT)
        same(child.wait(LIMIT), 0)
    emitter.send_signal(signal.SIGINT)
    same(emitter.wait(LIMIT), 0)


main([
    pattern_takes_events_of_now_and_later,
    pattern_stays_with_an_event_that_changes_its_owner,
    pattern_joins_an_event_again_after_its_end_and_a_name_does_not,
    question_mark_is_one_character_and_literal_is_itself,
    name_and_pattern_for_one_event_give_each_message_once,
    many_events_are_all_joined_while_messages_flow,
    hz_counts_what_comes_and_ends_with_the_total,
    hz_of_a_steady_emitter_has_its_mean_interval,
    hz_window_is_of_the_last_messages,
    hz_without_event_measures_contacts,
    bw_adds_up_bytes,
    measuring_never_holds_the_emitter_back_and_counts_losses,
    measuring_ends_as_told,
    latency_times_round_trips,
    latency_of_a_node_that_does_not_answer_times_out,
    answers_of_others_are_not_taken_for_pongs,
    bench_measures_and_leaves_nothing_behind,
    interrupted_bench_ends_its_children,
    bench_works_on_one_processor,
    top_and_doctor_are_those_beside_the_program,
    file_chunks_and_made_up_payloads_arrive,
    unreadable_files_are_a_failure,
    a_payload_over_the_limit_is_told_with_its_size_and_the_limit,
    progress_is_shown_on_a_terminal_only_and_taken_away,
    progress_tells_the_share_of_a_known_whole,
    no_progress_when_quiet_or_piped_or_dumb,
    colour_is_for_terminals_unless_told,
    interrupt_ends_each_wait,
    interrupt_ends_a_verb_whose_reader_does_not_read,
])
