#!/usr/bin/env python3
"""shm-inspect tap and last; what every verb writes as JSON; and that none changes the bus.

Usage: e2e_tap.py BUILD-DIRECTORY [TEST]...
"""

import base64
import hashlib
import json
import os
import signal
import struct
import subprocess
import threading
import time

from cli_bus import LIMIT, main
from driven import Node, pair

NULL = type(None)
NUMBER = (int, float)
MAYBE = (int, float, NULL)
TEXT = (str, NULL)
END = {"slot": int, "generation": (int, NULL), "pid": (int, NULL), "name": TEXT}
MESSAGE = {
    "schema": str, "from": END, "to": END, "position": int, "state": str, "kind": str, "event": TEXT,
    "unread": bool, "pooled": bool, "lost_so_far": MAYBE, "stamp_ns": MAYBE, "after_ns": MAYBE, "before_ns": MAYBE,
    "after_realtime_ns": MAYBE, "before_realtime_ns": MAYBE, "size": int, "truncated": bool,
}
OPTIONAL = {"event_index": int, "event_generation": int, "data": str, "data_b64": str}
GAP = {"schema": str, "from": END, "to": END, "position": int, "state": str, "kind": NULL, "skipped_bytes": int}
COUNTS = ("sent", "sent_bytes", "received", "received_bytes", "unread", "unread_bytes", "dropped_lossy",
          "dropped_gone", "dropped_unsubscribed", "full", "wakes", "sleeps", "safety_wakes", "dispatches", "signals",
          "corrupt", "dead_peers", "rings", "pools", "slot", "generation", "pid", "uid", "handler_event",
          "handler_since_ns", "granted_ns")
LISTS = {
    None: {"buses": {"port": int, "where": str, "state": str, "nodes": int, "events": int, "file_bytes": int,
                     "memory_bytes": int}},
    "nodes": {"nodes": dict({c: int for c in COUNTS}, state=str, process=str, name=str, age_ns=MAYBE, mode=str,
                            handler=str, handler_ns=MAYBE, unfenced=bool, no_membarrier=bool, in_handler=bool,
                            in_contact=bool, inbox_asleep=bool, room_asleep=bool, paired=list, fill_percent=NUMBER)},
    "events": {"events": {"index": int, "name": str, "state": str, "mode": str, "all_lossy": bool, "generation": int,
                          "owner_name": TEXT, "owner": MAYBE, "owner_generation": MAYBE, "emitters": int,
                          "receivers": int, "changes": int, "members": list, "deliver": list, "lossy": list}},
    "rings": {"rings": dict({c: int for c in (
        "from", "to", "messages", "bytes", "received", "received_bytes", "unread_records", "unread_bytes", "drops",
        "drops_seen", "stale", "bad", "full", "wakes", "asked", "answered", "lost", "offset", "capacity", "head",
        "tail", "hint", "position", "start", "high_water", "full_since_ns")},
        from_name=str, to_name=str, fill_percent=NUMBER, high_water_percent=NUMBER, unread_ns=MAYBE, full_ns=MAYBE,
        damage=TEXT)},
    "pools": {
        "pools": dict({c: int for c in ("slot", "extent", "serial", "offset", "bytes", "class", "chunk_bytes",
                                        "chunks", "used", "queued", "queued_bytes", "borrowed")},
                      owner=str, kind=str, big=bool, borrowers=list, damage=TEXT),
        "holds": {"owner": int, "owner_name": str, "holder": int, "holder_name": str, "queued": int,
                  "queued_bytes": int, "borrowed": int, "borrowed_bytes": int, "unread_ns": MAYBE}},
    "latency": {"links": dict({"%s_p%s_ns" % (part, q): MAYBE for part in ("queue", "wake", "handler")
                               for q in ("50", "90", "99", "999")},
                              **{"from": int, "to": int}, from_name=str, to_name=str, samples=int)},
    "check": {"findings": {"severity": str, "code": str, "text": str}},
}
RATES = {
    "nodes": ("sent_per_s", "received_per_s", "sent_bytes_per_s", "received_bytes_per_s", "dropped_per_s",
              "wakes_per_s", "dispatches_per_s"),
    "rings": ("messages_per_s", "bytes_per_s", "drops_per_s", "full_per_s", "wakes_per_s"),
}


def fits(value, schema, where):
    assert set(value) == set(schema), "%s: %s" % (where, set(value) ^ set(schema))
    for key, kind in schema.items():
        if isinstance(kind, dict):
            fits(value[key], kind, where + "." + key)
        else:
            assert isinstance(value[key], kind), "%s.%s is %r" % (where, key, value[key])
            assert kind is bool or kind is not int or not isinstance(value[key], bool), (where, key)


def message_fits(m):
    if m["state"] in ("overwritten", "damaged"):
        fits(m, GAP, "gap")
        return
    extra = {k: OPTIONAL[k] for k in m if k in OPTIONAL}
    assert len({"data", "data_b64"} & set(extra)) == 1, m
    assert ("event_index" in extra) == (m["kind"] == "event"), m
    fits(m, dict(MESSAGE, **extra), "message")


def document(bus, *words, status=0):
    result = bus.run("shm-inspect", *[str(w) for w in words], "--json")
    assert result.returncode == status, (words, result)
    return json.loads(result.stdout)


def messages(bus, *words, status=0):
    """Of tap or last; each checked."""
    result = bus.run("shm-inspect", *[str(w) for w in words], "--json")
    assert result.returncode == status, (words, result)
    found = [json.loads(line) for line in result.stdout.splitlines()]
    for m in found:
        message_fits(m)
        assert m["schema"] == "shm-inspect.%s/1" % words[0], m
    return found


def payload(m):
    return m["data"].encode() if "data" in m else base64.b64decode(m["data_b64"])


def bytes_from(first, size):
    return bytes((first + i) & 255 for i in range(size))


def region(bus):
    return os.path.join(bus.directory, "%d.bus" % bus.port)


TALK = 600  # three of them have a time stamp, at least


def talk(bus):
    """a emits TALK messages of growing size to b and c; b has read them, c has not. One contact, one large."""
    a, b, c = pair(bus, "a", "b", "c")
    a("create", "news")
    b("subscribe", "news", 0)
    b("listen")
    c("subscribe", "news", 0)
    for i in range(TALK):
        a("emit", "news", i % 50, 1, i)
    a("contact", "b", 256, 1, 7)
    a("emit", "news", 100000, 1, 3)

    def read():
        return [n["received"] for n in document(bus, "nodes")["nodes"] if n["name"] == "b"] == [TALK + 2]

    bus.until(read, "b to read all")
    return a, b, c


def check_talk(found):
    """What talk() left in the rings."""
    to_b = [m for m in found if m["to"]["name"] == "b"]
    to_c = [m for m in found if m["to"]["name"] == "c"]
    assert (len(to_b), len(to_c)) == (TALK + 2, TALK + 1), (len(to_b), len(to_c))
    for to, unread in ((to_b, False), (to_c, True)):
        assert {m["unread"] for m in to} == {unread}
        events = [m for m in to if m["kind"] == "event" and m["size"] < 100000]
        assert [m["size"] for m in events] == [i % 50 for i in range(TALK)]
        for i, m in enumerate(events):
            assert payload(m) == bytes_from(i, i % 50), (i, m)
            assert (m["from"]["name"], m["event"], m["state"], m["truncated"]) == ("a", "news", "intact", False), m
    contact = [m for m in to_b if m["kind"] == "contact"]
    assert len(contact) == 1 and payload(contact[0]) == bytes_from(7, 256), contact
    large = [m for m in found if m["size"] == 100000]
    assert [m["pooled"] for m in large] == [True, True], large
    # certain only where it is unread; here nothing has used its chunk again
    assert {(m["to"]["name"], m["state"]) for m in large} == {("b", "doubtful"), ("c", "intact")}, large
    for m in large:
        assert payload(m) == bytes_from(3, 100000)


def check_times(found, begin_ns, end_ns):
    for to in ("b", "c"):
        last = 0
        stamps = 0
        for m in [m for m in found if m["to"]["name"] == to]:
            after, before = m["after_ns"], m["before_ns"]
            assert begin_ns <= after <= before <= end_ns, (begin_ns, m, end_ns)
            assert after >= last, "the order of times"
            last = after
            if m["stamp_ns"] is not None:
                stamps += 1
                assert after == before == m["stamp_ns"], m
        assert stamps >= 3, stamps


def what_was_read_still_stands(bus):
    begin = time.monotonic_ns()
    talk(bus)
    found = messages(bus, "tap", "-W", "0.1")
    check_talk(found)
    check_times(found, begin, time.monotonic_ns())
    times = [(m["after_ns"], m["after_realtime_ns"]) for m in found]
    assert len({real - mono for mono, real in times}) == 1, "one difference of clocks"
    assert abs(times[0][1] - time.time_ns()) < 3600 * 10**9


def killed_processes_leave_their_last_words(bus):
    nodes = talk(bus)
    for node in nodes:
        os.kill(node.pid, signal.SIGSTOP)  # nobody cleans up after the others
    bus.service.kill()
    for node in nodes:
        node.kill()
    bus.service.wait()
    check_talk(messages(bus, "tap"))
    last = {m["to"]["name"]: m for m in messages(bus, "last")}
    assert {k: m["size"] for k, m in last.items()} == {"b": 100000, "c": 100000}
    assert [m["size"] for m in messages(bus, "last", 3, "--to", "b")] == [49, 256, 100000]
    copy = os.path.join(bus.work, "copy.bus")
    with open(region(bus), "rb") as source, open(copy, "wb") as target:
        data = bytearray(source.read())
        data[40:76] = b"00000000-0000-0000-0000-000000000000"  # of another boot
        target.write(data)
    found = messages(bus, "tap", "--file", copy)
    check_talk(found)
    assert {m["after_realtime_ns"] for m in found} == {None}
    assert [m["size"] for m in messages(bus, "last", 1, "--file", copy)] == [100000, 100000]


def messages_are_shown_as_they_pass(bus):
    a, _, _ = talk(bus)
    tap = bus.start("shm-inspect", "tap", "--new", "--json", "-C", "6", stdout=subprocess.PIPE)
    sent = 0
    while tap.poll() is None:  # it may not yet look when the first are sent
        a("emit", "news", 10, 1, sent)
        sent += 1
        time.sleep(0.01)
    found = [json.loads(line) for line in tap.stdout]
    assert tap.returncode == 0 and len(found) == 6, found
    for m in found:
        message_fits(m)
        assert m["size"] == 10 and m["state"] == "intact", m
        assert 0 <= m["before_ns"] - m["after_ns"], m
    for to in ("b", "c"):
        # the first look may have come between the two rings
        numbers = [payload(m)[0] for m in found if m["to"]["name"] == to]
        assert len(numbers) >= 2 and numbers == list(range(numbers[0], numbers[0] + len(numbers))), numbers


def a_flood_is_followed_and_gaps_are_told(bus):
    """Payloads tell where they belong: nothing may be wrong, missing without a word, or out of order."""
    serve_rings(bus, 4096)
    a, b = pair(bus, "a", "b")
    a("create", "news")
    b("subscribe", "news", 0)
    b("listen")
    a("emit", "news", 1, 1)
    tap = bus.start("shm-inspect", "tap", "--json", "-C", "3000", stdout=subprocess.PIPE)
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(tap.stdout))
    reader.start()
    sent = 0
    while tap.poll() is None:
        for _ in range(50):
            sent += a("emit", "news", 20 + sent % 100, 1, sent)
        time.sleep(0.0005)
    reader.join()
    found = [json.loads(line) for line in lines]
    assert check_flood(found) == 3000
    print("     %d sent, %d gaps" % (sent, sum(m["kind"] is None for m in found)))


def check_flood(found):
    at, shown = 0, 0
    for m in found:
        message_fits(m)
        assert m["state"] != "damaged", m
        if m["kind"] is None:
            assert m["position"] >= at
            at = m["position"] + m["skipped_bytes"]
            continue
        assert m["position"] >= at, "out of order"
        assert m["position"] - at < 160 or at == 0, "%d bytes are missing" % (m["position"] - at)
        at = m["position"] + m["size"] + 8  # at least: most records say nothing but their payload
        shown += 1
        data = payload(m)
        if m["state"] == "intact" and m["size"] > 1:
            assert data == bytes_from(data[0], len(data)), m
    return shown


def filters_choose(bus):
    a, b, c = talk(bus)
    a("create", "other")
    c("subscribe", "other", 0)
    a("emit", "other", 5, 3)
    for words, wanted in (
        (("--to", "b"), TALK + 2), (("--to", "c"), TALK + 4),
        (("--from", "a"), 2 * TALK + 6), (("--from", a.pid), 2 * TALK + 6),
        (("--from", "b"), 0), (("--event", "other"), 3), (("--event", "news", "--to", b.pid), TALK + 1),
        (("--event", "none"), 0), (("--to", "2:1"), TALK + 4), (("--to", 2), TALK + 4), (("--to", "2:9"), 0),
    ):
        found = messages(bus, "tap", "-W", "0.05", *words)
        assert len(found) == wanted, (words, len(found))
    assert len(messages(bus, "tap", "-C", "5")) == 5
    assert messages(bus, "tap", "--new", "-C", "1", "-W", "0.1", status=4) == []
    assert messages(bus, "last", "--event", "other")[0]["size"] == 5


def names_that_nobody_has_are_told(bus):
    a, _, c = talk(bus)
    c("close")
    for words, known in (
        (("--from", "nobody"), False), (("--to", "nope"), False), (("-e", "nope"), False), (("--to", 77), False),
        (("--from", "9:1"), False), (("--from", "a"), True), (("--to", a.pid), True), (("--to", "c"), True),
        (("--to", 2), True), (("-e", "news"), True), (("--from", "a", "--to", "b", "-e", "news"), True),
    ):
        for verb in (["last"], ["tap", "-W", "0.02"]):
            result = bus.run("shm-inspect", *verb, *[str(w) for w in words])
            assert result.returncode == 0, (words, result)
            told = b"--" in result.stderr and str(words[-1]).encode() in result.stderr
            assert told != known and (known or not result.stdout), (words, result)


def serve_rings(bus, size):
    bus.service.terminate()
    bus.service.wait()
    bus.service = bus.start("ringbusd", "--quiet", "--ring-bytes", str(size))
    bus.until_served()


def leave(bus, *nodes):
    for node in nodes:
        node("close")
        node.kill()
    bus.until(lambda: document(bus, "nodes")["nodes"] == [], "the slots to be freed")


def last_words_outlive_the_burial_of_both_ends(bus):
    """A living service frees both slots; the messages stay until the slots are used again."""
    serve_rings(bus, 1 << 20)
    keeper = Node(bus, "keeper")
    a, b = pair(bus, "a", "b")
    a("create", "news")
    b("subscribe", "news", 0)
    for i in range(300):
        a("emit", "news", 1000, 1, i)
    a.kill()
    b.kill()
    bus.until(lambda: len(document(bus, "nodes")["nodes"]) == 1, "the dead to be buried")
    for found in (messages(bus, "last", 999), messages(bus, "tap", "-W", "0.05")):
        assert [payload(m) for m in found] == [bytes_from(i, 1000) for i in range(300)], len(found)
        assert {(m["from"]["name"], m["to"]["name"], m["state"]) for m in found} == {("a", "b", "intact")}
    held = document(bus, "header")["memory_bytes"]
    newcomer = Node(bus, "newcomer")
    assert document(bus, "header")["memory_bytes"] <= held - (1 << 20), "the ring is not given back"
    assert messages(bus, "last", 999) == []
    assert document(bus, "check")["errors"] == 0
    keeper("close")
    newcomer("close")


def successors_in_the_same_slots_are_seen_from_their_first_word(bus):
    """The ring goes on where the pair before it ended, amid a part, and at times with padding."""
    for size, rounds in ((262144, 3), (4096, 40)):
        serve_rings(bus, size)
        for n in range(rounds):
            a, b = pair(bus, "a", "b")
            a("create", "news")
            b("subscribe", "news", 0)
            sizes = [(n * 37 + i * 101) % 350 for i in range(6)]
            for i, bytes_ in enumerate(sizes):
                a("emit", "news", bytes_, 1, n + i)
            for found in (messages(bus, "tap", "-W", "0.02"), messages(bus, "last", 99)):
                assert {m["state"] for m in found} == {"intact"}, (size, n, found)
                assert [m["size"] for m in found] == sizes, (size, n, sizes, found)
                for i, m in enumerate(found):
                    assert payload(m) == bytes_from(n + i, sizes[i]), (size, n, m)
            leave(bus, a, b)


def all_byte_values_survive(bus):
    a, b = pair(bus, "a", "b")
    a("create", "news")
    b("subscribe", "news", 0)
    for first in range(256):
        a("emit", "news", 1, 1, first)
    a("emit", "news", 256, 1, 0)
    found = messages(bus, "last", 1000)
    assert b"".join(payload(m) for m in found[:256]) == bytes(range(256))
    assert payload(found[256]) == bytes(range(256))
    cut = messages(bus, "last", "--bytes", "100")[0]
    assert payload(cut) == bytes(range(100)) and cut["truncated"] and cut["size"] == 256
    text = bus.run("shm-inspect", "last").stdout
    assert not any(c < 0x20 and c != 10 or c == 0x7f for c in text), text
    assert b" !\"#$%&'()*+,-./0123456789:;<=>?" in text and b"..." in text, text
    dump = bus.run("shm-inspect", "last", "--format", "hex", "--bytes", "1k").stdout.decode()
    rows = [line.split("  ")[2:] for line in dump.splitlines()[1:]]
    assert len(rows) == 16 and "41 42 43 44" in dump and "@ABCDEFGHIJKLMNO" in dump, dump
    assert bus.run("shm-inspect", "last", "--format", "none").stdout.count(b"\n") == 1


def names_of_the_gone_are_told_rightly(bus):
    a, b = pair(bus, "a", "b")
    b("subscribe", "news", 0)
    first = Node(bus, "first")
    first("create", "news")
    first("emit", "news", 3, 1)
    first("close")
    bus.until(lambda: bus.run("shm-inspect", "nodes").stdout.count(b"\n") == 3, "its slot to be freed")
    m = messages(bus, "last", "--to", "b")[0]
    assert (m["from"]["name"], m["from"]["pid"]) == ("first", first.pid), m
    bus.run("ringbus", "contact", "a", "x")  # a nameless owner in the same slot
    names = [m["from"]["name"] for m in messages(bus, "last", 9)]
    assert sorted(str(n) for n in names) == ["None", "None"], names


def every_verb_keeps_its_schema(bus):
    a, b, c = talk(bus)
    b("subscribe", "later", 0)
    c("next", 300, "borrow")
    a("create", "all", "multi")
    a("emit", "news", 3000, 2)
    for verb, parts in LISTS.items():
        words = [verb] if verb else []
        said = document(bus, *words)
        assert said["schema"] == "shm-inspect.%s/1" % (verb or "buses")
        rest = {"errors", "warnings", "infos"} if verb == "check" else set()
        assert set(said) == {"schema"} | set(parts) | rest, (verb, set(said))
        for part, schema in parts.items():
            assert said[part] or verb == "check", (verb, part)
            for row in said[part]:
                fits(row, schema, "%s.%s" % (verb, part))
        if verb in (None, "check"):
            continue
        result = bus.run("shm-inspect", *words, "--json", "-w", "0.05", "-C", "3")
        looks = [json.loads(line) for line in result.stdout.splitlines()]
        assert len(looks) == 3, (verb, result)
        for n, look in enumerate(looks):
            for part, schema in parts.items():
                for row in look[part]:
                    rates = {r: NUMBER if n else NULL for r in RATES.get(verb, ())}
                    fits(row, dict(schema, **rates), verb)
    header = document(bus, "header")
    assert {"port": bus.port, "state": "live"}.items() <= header.items()


def rates_are_those_between_two_looks(bus):
    a, b = pair(bus, "a", "b")
    a("create", "news")
    b("subscribe", "news", 0)
    b("listen")
    watch = bus.start("shm-inspect", "rings", "--json", "-w", "0.3", stdout=subprocess.PIPE)
    assert json.loads(watch.stdout.readline())["rings"] == []
    a("emit", "news", 10, 1)
    total, seen, begin = 1, 0, time.monotonic()
    while seen < 3:
        look = json.loads(watch.stdout.readline())["rings"]
        assert time.monotonic() - begin < LIMIT
        if look and look[0]["messages_per_s"] is not None:
            # no more than were sent since the look before, in no less than the time between
            assert look[0]["messages_per_s"] <= 100 / 0.3, look
            seen += look[0]["messages_per_s"] > 0
        total += a("emit", "news", 10, 100)
    watch.send_signal(signal.SIGINT)
    assert watch.wait(LIMIT) == 0
    table = bus.run("shm-inspect", "rings", "-w", "0.05", "-C", "2").stdout.decode()
    first, second = table.split("\n\n")
    assert "MSG/s" in first and first.split("\n")[0].split() == second.split("\n")[0].split()


def tables_are_sorted_and_filtered(bus):
    talk(bus)

    def column(name, *words):
        return [r[name] for r in document(bus, "rings", *words)["rings"]]

    assert column("to_name", "--sort", "UNREAD") == ["c", "b"]
    assert column("to_name", "--sort", "unread_records", "--reverse") == ["b", "c"]
    assert column("to_name", "-s", "RECEIVER") == ["b", "c"]
    assert column("to_name", "--filter", "UNREAD>0") == ["c"]
    assert column("to_name", "--filter", "UNREAD<1") == ["b"]
    assert column("to_name", "--filter", "RECEIVER=C") == ["c"]
    assert column("to_name", "--filter", "MESSAGES=%d" % (TALK + 2)) == ["b"]
    assert column("to_name", "--filter", "none such") == []
    assert bus.run("shm-inspect", "rings", "--sort", "NONE").returncode == 2
    assert bus.run("shm-inspect", "rings", "--filter", "NONE=1").returncode == 2
    wide = bus.run("shm-inspect", "rings", "--long").stdout.splitlines()[0].split()
    assert {"HEAD", "TAIL", "OFFSET"} <= {w.decode() for w in wide}


def histograms_become_percentiles(bus):
    """Written into a copy: what is counted where, is told there."""
    talk(bus)
    ring = document(bus, "rings")["rings"][0]
    with open(region(bus), "rb") as file:
        data = bytearray(file.read())
    page = ring["offset"] + 4096 + ring["capacity"]
    for part in range(3):
        base = page + 1024 + part * 1024
        data[base : base + 1024] = bytes(1024)
        # 4 * n + 1 in units of 32 ns: 5 to 6 times 2 to the n-1
        for bucket, count in ((4 * (3 + part) + 1, 90), (4 * (8 + part) + 1, 10)):
            struct.pack_into("<Q", data, base + 8 * bucket, count)
    path = os.path.join(bus.work, "copy.bus")
    with open(path, "wb") as file:
        file.write(data)
    link = document(bus, "latency", "--file", path)["links"][0]
    assert link["samples"] == 100, link
    for part, name in enumerate(("queue", "wake", "handler")):
        low, high = 5 * 32 << (2 + part), 6 * 32 << (2 + part)
        assert low <= link[name + "_p50_ns"] <= high, (name, link)
        low, high = 5 * 32 << (7 + part), 6 * 32 << (7 + part)
        assert low <= link[name + "_p99_ns"] <= high, (name, link)
    table = bus.run("shm-inspect", "latency", "--file", path).stdout.decode()
    assert "QUEUE-50" in table and "us" in table, table


def no_verb_changes_the_bus(bus):
    """Neither bytes nor allocated blocks, live and in a sparse copy; and no slot is taken."""
    nodes = talk(bus)
    for node in nodes:
        os.kill(node.pid, signal.SIGSTOP)
    os.kill(bus.service.pid, signal.SIGSTOP)
    sparse = os.path.join("/dev/shm", os.path.basename(bus.directory), "sparse")
    subprocess.run(["cp", "--sparse=always", region(bus), sparse], check=True)

    def state(path):
        st = os.stat(path)
        with open(path, "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
        return digest, st.st_blocks, st.st_size, st.st_mtime_ns, st.st_ctime_ns

    commands = [[], ["header"], ["nodes"], ["events"], ["rings"], ["pools"], ["latency"], ["check"],
                ["last", "9"], ["tap", "-W", "0.05"], ["doctor"], ["doctor", "a", "b", "news"], ["rings", "-w", "0.01",
                                                                                              "-C", "3"]]
    for path, words in ((region(bus), []), (sparse, ["--file", sparse])):
        before = state(path)
        assert before[1] * 512 < before[2] or path != sparse
        for command in commands:
            bus.run("shm-inspect", *command, *words)
            assert state(path) == before, "%r changed %s" % (command, path)
    assert len(document(bus, "nodes")["nodes"]) == 3
    os.kill(bus.service.pid, signal.SIGCONT)
    for node in nodes:
        os.kill(node.pid, signal.SIGCONT)


def a_reader_that_goes_ends_it_quietly(bus):
    a, _, _ = talk(bus)
    tap = bus.start("shm-inspect", "tap", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    tap.stdout.readline()
    tap.stdout.close()
    end = time.monotonic() + LIMIT
    while tap.poll() is None and time.monotonic() < end:
        a("emit", "news", 10, 10)
        time.sleep(0.01)
    assert tap.returncode == 0 and tap.stderr.read() == b""
    tap = bus.start("shm-inspect", "tap", "--new", stdout=subprocess.PIPE)
    bus.until(lambda: "shm-inspect" in open("/proc/%d/comm" % tap.pid, encoding="utf-8").read(), "it to run")
    time.sleep(0.2)
    tap.send_signal(signal.SIGINT)
    assert tap.wait(LIMIT) == 0


def help_is_there_for_each_verb(bus):
    text = bus.run("shm-inspect", "--help").stdout.decode()
    for verb in ("header", "nodes", "events", "rings", "pools", "latency", "tap", "last", "doctor", "top", "check"):
        assert "\n  %s " % verb in text, verb
        for words in ((verb, "--help"), ("--help", verb)):
            result = bus.run("shm-inspect", *words)
            assert result.returncode == 0 and b"Usage: shm-inspect %s " % verb.encode() in result.stdout, result
    for words in (("header", "--sort", "x"), ("tap", "--sort", "x"), ("nodes", "--from", "a"), ("last", "x"),
                  ("last", "1", "2"), ("tap", "--format", "x"), ("nodes", "-w", "0"), ("tap", "-C", "0")):
        assert bus.run("shm-inspect", *words).returncode == 2, words


TESTS = [
    what_was_read_still_stands,
    killed_processes_leave_their_last_words,
    messages_are_shown_as_they_pass,
    a_flood_is_followed_and_gaps_are_told,
    filters_choose,
    names_that_nobody_has_are_told,
    last_words_outlive_the_burial_of_both_ends,
    successors_in_the_same_slots_are_seen_from_their_first_word,
    all_byte_values_survive,
    names_of_the_gone_are_told_rightly,
    every_verb_keeps_its_schema,
    rates_are_those_between_two_looks,
    tables_are_sorted_and_filtered,
    histograms_become_percentiles,
    no_verb_changes_the_bus,
    a_reader_that_goes_ends_it_quietly,
    help_is_there_for_each_verb,
]

if __name__ == "__main__":
    main(TESTS)
