#!/usr/bin/env python3
"""shm-inspect doctor: each situation that it knows is built for real, and its verdict compared.

Usage: e2e_doctor.py BUILD-DIRECTORY [TEST]...
"""

import ctypes
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys

from cli_bus import Bus, main
from driven import Node, pair

SCHEMA = {
    "schema": str, "verdict": str, "ok": bool, "text": str, "region": (str, type(None)),
    "from": (dict, type(None)), "to": (dict, type(None)), "event": (str, type(None)),
    "evidence": list, "advice": list, "notes": list,
}


def doctor(bus, *words, status=None, **more):
    """Its document, checked; the text form must say the same."""
    result = bus.run("shm-inspect", "doctor", "--json", *[str(w) for w in words], **more)
    said = json.loads(result.stdout)
    assert said["schema"] == "shm-inspect.doctor/1", said
    assert set(said) == set(SCHEMA), set(said) ^ set(SCHEMA)
    for key, kind in SCHEMA.items():
        assert isinstance(said[key], kind), (key, said[key])
    if status is None:
        status = 0 if said["verdict"] == "ok" else 1
    assert result.returncode == status, (result.returncode, said)
    assert said["ok"] == (said["verdict"] == "ok"), said
    assert said["ok"] or said["advice"] or said["verdict"] == "no-process", "nothing to do: %r" % said
    return said


def verdict(bus, wanted, *words, evidence=None, **more):
    said = doctor(bus, *words, **more)
    assert said["verdict"] == wanted, "wanted %s, got %s" % (wanted, json.dumps(said, indent=1))
    told = " / ".join([said["text"]] + said["evidence"] + said["notes"])
    for text in [evidence] if isinstance(evidence, str) else evidence or []:
        assert text in told, "%r is not told in %r" % (text, told)
    return said


def region(bus):
    return os.path.join(bus.directory, "%d.bus" % bus.port)


def talking(bus, *names):
    """a emits "news" to the others, who listen."""
    nodes = pair(bus, "a", *names)
    nodes[0]("create", "news")
    for node in nodes[1:]:
        node("subscribe", "news", 0)
        node("listen")
    return nodes


def read_by(bus, name, count):
    """Waits until a node has taken so many messages."""
    def there():
        out = bus.run("shm-inspect", "nodes", "--json").stdout
        return [n["received"] for n in json.loads(out)["nodes"] if n["name"] == name] == [count]

    bus.until(there, "%s to receive %d" % (name, count))


def a_bus_on_which_all_is_well_is_ok(bus):
    a, _ = talking(bus, "b")
    assert a("emit", "news", 10, 5) == 5
    read_by(bus, "b", 5)
    verdict(bus, "ok", "a", "b", "news", evidence="5 messages sent, 0 unread")
    verdict(bus, "ok", "a", "b")
    verdict(bus, "ok")
    text = bus.run("shm-inspect", "doctor", "a", "b", "news").stdout.decode()
    assert text.startswith("ok: nothing stands in the way\n") and "\033" not in text, text


def nodes_are_named_by_name_pid_and_slot(bus):
    a, b = talking(bus, "b")
    assert a("emit", "news", 10, 5) == 5
    read_by(bus, "b", 5)
    for words in ((a.pid, b.pid), (0, 1), ("0:1", "1:1"), ("a", b.pid)):
        said = verdict(bus, "ok", *words)
        assert (said["from"]["name"], said["to"]["name"]) == ("a", "b"), said
    verdict(bus, "same-node", "a", a.pid)
    verdict(bus, "not-joined", "0:7", "b")


def no_bus_is_told_apart_from_a_held_port(bus):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        verdict(bus, "no-bus", "-p", port, status=3, evidence=region(bus))
        free.listen()
        verdict(bus, "port-held", "-p", port, status=3, evidence="process %d (" % os.getpid())


def one_that_never_joined_is_not_joined(bus):
    talking(bus, "b")
    verdict(bus, "not-joined", "nobody", "b", evidence="on it is b")
    verdict(bus, "not-joined", "a", "nobody", "news")
    waiting = Node(bus)
    verdict(bus, "not-joined", "a", waiting.pid, evidence="process %d (node_driver) runs" % waiting.pid)
    gone = subprocess.Popen(["true"])
    gone.wait()
    verdict(bus, "no-process", "a", gone.pid)


def one_on_another_bus_is_found_there(bus):
    talking(bus, "b")
    with Bus(sys.argv[1]) as other:
        other.start_service()
        stray = Node(other, "stray")
        verdict(bus, "other-bus", "a", stray.pid, "news", evidence=region(other))
        shutil.copy(region(other), os.path.join(bus.directory, "%d.bus" % other.port))
        verdict(bus, "other-bus", "a", "stray", evidence="port %d" % other.port)


def one_on_a_deleted_region_is_told(bus):
    a, b = talking(bus, "b")
    with open(region(bus), "rb") as file:
        data = file.read()
    os.unlink(region(bus))
    with open(region(bus), "wb") as file:  # as if the bus had been started again
        file.write(data)
    verdict(bus, "other-region", "a", "b", evidence="which is deleted")
    wiped = bytearray(data)
    slots = data.index(struct.pack("<Q", 1 << 32 | a.pid << 8 | 3))
    wiped[slots : slots + 8] = wiped[slots + 512 : slots + 520] = bytes(8)
    with open(region(bus), "wb") as file:
        file.write(wiped)
    verdict(bus, "other-region", "a", "b", evidence="a deleted %s" % region(bus))
    verdict(bus, "other-region", a.pid, b.pid)


def one_that_died_or_left_is_told_from_one_that_never_came(bus):
    a, b, c = talking(bus, "b", "c")
    b.kill()

    def freed():
        return b"\n" in bus.run("shm-inspect", "nodes", "--filter", "NAME=b").stdout.rstrip(b"\n")

    bus.until(lambda: not freed(), "the dead one's slot to be freed")
    verdict(bus, "dead", "a", "b", "news", evidence="it died")
    verdict(bus, "dead", "a", b.pid)
    c("close")
    bus.until(lambda: bus.run("shm-inspect", "nodes").stdout.count(b"\n") == 2, "c to be freed")
    verdict(bus, "left", "a", "c", evidence="it left")
    a.kill()
    bus.service.kill()
    bus.service.wait()


def one_that_died_and_is_not_yet_freed_is_dead(bus):
    _, b = talking(bus, "b")
    bus.service.kill()
    bus.service.wait()
    b.kill()
    verdict(bus, "dead", "a", "b", "news", evidence="process %d does not exist" % b.pid)
    verdict(bus, "dead")


def a_stopped_process_is_stopped(bus):
    _, b = talking(bus, "b")
    os.kill(b.pid, signal.SIGSTOP)
    verdict(bus, "stopped", "a", "b", "news", evidence="SIGSTOP")
    verdict(bus, "stopped")
    verdict(bus, "stopped", b.pid, "a")
    os.kill(b.pid, signal.SIGCONT)


def a_process_of_another_user_is_told(bus):
    if os.geteuid() != 0:
        return
    talking(bus, "b")
    stranger = subprocess.Popen(["sleep", "1000"], user=65534)
    try:
        verdict(bus, "other-user", "a", stranger.pid, evidence="of user 65534")
    finally:
        stranger.kill()
        stranger.wait()
    os.chmod(bus.directory, 0o755)
    os.chmod(region(bus), 0o600)
    tool = os.path.join(bus.work, "shm-inspect")
    # the build may lie where others may not look
    shutil.copy(os.path.join(bus.tools, "shm-inspect"), tool)
    for name in os.listdir(os.path.join(os.path.dirname(bus.tools), "lib")):
        if name.startswith("libringbus.so") and not name.endswith(".p"):
            shutil.copy(os.path.join(os.path.dirname(bus.tools), "lib", name), bus.work)
    os.chmod(bus.work, 0o755)
    said = json.loads(subprocess.run(
        [tool, "doctor", "-d", bus.directory, "-p", str(bus.port), "--json"], user=65534, group=65534, extra_groups=[],
        env={"LD_LIBRARY_PATH": bus.work, "PATH": "/usr/bin:/bin"}, stdout=subprocess.PIPE, check=False).stdout)
    assert said["verdict"] == "other-user", said


def events_are_missing_dissolved_pending_or_orphaned(bus):
    a, b = talking(bus, "b")
    verdict(bus, "no-event", "a", "b", "olds", evidence="there is news (single, live)")
    a("create", "short")
    b("subscribe", "short", 0)
    a("dissolve", "short")
    verdict(bus, "dissolved", "a", "b", "short")
    b("subscribe", "later", 0)
    verdict(bus, "pending", "a", "b", "later", evidence="among them b")
    c = Node(bus, "c")
    c("create", "lost")
    b("subscribe", "lost", 0)
    c("close")
    verdict(bus, "orphan", "a", "b", "lost")


def rights_and_subscriptions_are_checked(bus):
    a, b, c = talking(bus, "b", "c")
    verdict(bus, "no-right", "b", "c", "news", evidence="its creator is a")
    a("create", "all", "multi")
    b("subscribe", "all", 0)
    verdict(bus, "no-right", "c", "b", "all", evidence="is not among its 2 members")
    verdict(bus, "not-subscribed", "a", "c", "all", evidence="has 1 subscribers")
    Node(bus, "d")
    verdict(bus, "not-subscribed", "a", "d", "news")


def nothing_sent_is_told(bus):
    talking(bus, "b")
    verdict(bus, "nothing-sent", "a", "b", "news", evidence="has sent 0 messages in all")


def silent(bus, *names, lossy=()):
    """a emits to nodes that do not receive."""
    nodes = pair(bus, "a", *names)
    nodes[0]("create", "news")
    for node in nodes[1:]:
        node("subscribe", "news", 0, *(["lossy"] if node.name in lossy else []))
    return nodes


def one_that_does_not_receive_is_told(bus):
    a, _ = silent(bus, "b")
    assert a("emit", "news", 100, 200) == 200
    verdict(bus, "not-receiving", "a", "b", "news", evidence=["200 unread", "has not looked for messages"])
    verdict(bus, "not-receiving", evidence="200 unread")


def a_full_ring_is_told_with_its_holder(bus):
    a, _ = silent(bus, "b")
    assert 0 < a("emit", "news", 100, 100000) < 100000
    verdict(bus, "ring-full", "a", "b", "news", evidence=["% of the ring", "oldest stamped unread", "found no room"])
    verdict(bus, "ring-full", "a", "b")
    verdict(bus, "ring-full")


def another_subscriber_that_holds_an_emission_back_is_told(bus):
    a, _, c = silent(bus, "b", "c")
    c("listen")
    assert 0 < a("emit", "news", 100, 100000) < 100000
    verdict(bus, "held-back", "a", "c", "news", evidence="held back by b")


def a_handler_that_runs_long_is_told(bus):
    a, b = pair(bus, "a", "b")
    a("create", "news")
    b("subscribe", "news", 600000)
    b("listen")
    assert a("emit", "news", 10, 3) == 3

    def busy():
        nodes = json.loads(bus.run("shm-inspect", "nodes", "--json").stdout)["nodes"]
        return [n["in_handler"] for n in nodes if n["name"] == "b"] == [True]

    bus.until(busy, "the handler to run")
    verdict(bus, "handler", "a", "b", "news", evidence="handler of event news")
    verdict(bus, "handler")


def losses_of_a_lossy_subscriber_are_counted(bus):
    a, _ = silent(bus, "b", lossy=("b",))
    assert a("emit", "news", 1000, 1000) == 1000
    said = verdict(bus, "lossy", "a", "b", "news", evidence="were not sent to b")
    rings = json.loads(bus.run("shm-inspect", "rings", "--json").stdout)["rings"]
    assert "has lost %d messages" % rings[0]["drops"] in said["text"] and rings[0]["drops"] > 0, said


def who_holds_an_exhausted_pool_is_told(bus):
    bus.service.terminate()
    bus.service.wait()
    bus.service = bus.start("ringbusd", "--quiet", "--pool-bytes", "1M")
    bus.until_served()
    a, b, c = silent(bus, "b", "c")
    assert 0 < a("contact", "b", 60000, 1000) < 1000
    verdict(bus, "pool-exhausted", "a", "b", evidence=["b holds the most", "chunks unread"])
    verdict(bus, "pool-exhausted", "a", "c")
    verdict(bus, "pool-exhausted")
    while b("next", 100, "borrow"):
        a("contact", "b", 60000, 1000)
    verdict(bus, "pool-exhausted", "a", "b", evidence="0 chunks unread")
    b("release")


def a_dead_service_is_told(bus):
    talking(bus, "b")
    bus.service.kill()
    bus.service.wait()
    verdict(bus, "service-down", evidence="no ringbusd serves port %d" % bus.port)
    verdict(bus, "service-down", "a", "latecomer")


def a_stranger_on_the_port_is_told(bus):
    talking(bus, "b")
    bus.service.kill()
    bus.service.wait()
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", bus.port))
        stranger.listen()
        verdict(bus, "port-stranger", evidence="process %d (" % os.getpid())
        verdict(bus, "port-stranger", "a", "latecomer")


def another_layout_is_told(bus):
    with open(region(bus), "rb") as file:
        data = bytearray(file.read())
    path = os.path.join(bus.work, "copy.bus")

    def write():
        with open(path, "wb") as file:
            file.write(data)

    struct.pack_into("<I", data, 8, 77)
    write()
    verdict(bus, "layout", "--file", path, evidence="number 77")
    struct.pack_into("<I", data, 8, 1)
    data[16] ^= 1
    write()
    verdict(bus, "layout", "--file", path)
    data[0] ^= 1
    write()
    verdict(bus, "damaged", "--file", path)


def damaged_rings_are_told(bus):
    a, _ = silent(bus, "b")
    assert a("emit", "news", 100, 20) == 20
    ring = json.loads(bus.run("shm-inspect", "rings", "--json").stdout)["rings"][0]
    with open(region(bus), "rb") as file:
        data = bytearray(file.read())
    struct.pack_into("<Q", data, ring["offset"] + 4096 + ring["head"], 1234)
    path = os.path.join(bus.work, "copy.bus")
    with open(path, "wb") as file:
        file.write(data)
    verdict(bus, "damaged", "a", "b", "--file", path, evidence="record at %d" % ring["head"])


def a_full_file_system_is_told(bus):
    """A small tmpfs of its own, where that may be mounted."""
    bus.service.terminate()
    bus.service.wait()
    place = os.path.join(bus.work, "small")
    os.mkdir(place)
    script = """
        mount -t tmpfs -o size=3M none {0} || exit 77
        export RINGBUS_DIR={0}
        ringbusd --quiet & service=$!
        until ringbus ls >{0}/../ls 2>&1; do sleep 0.01; done
        (echo open a; read x <{0}/../go) | {1}/tests/node_driver >{0}/../a.out &
        (echo open b; read x <{0}/../go) | {1}/tests/node_driver >{0}/../b.out &
        until [ -s {0}/../a.out ] && [ -s {0}/../b.out ]; do sleep 0.01; done
        head -c 3000000 /dev/zero >{0}/ballast 2>{0}/../ls
        shm-inspect doctor a b --json >{0}/../pair
        shm-inspect doctor --json >{0}/../alone
        exec 9<>{0}/../go; echo >&9; echo >&9
        kill $service; wait
    """.format(place, os.path.dirname(bus.tools))
    os.mkfifo(os.path.join(bus.work, "go"))
    result = bus.run("unshare", "-m", "sh", "-c", script)
    if not os.path.exists(os.path.join(bus.work, "pair")):
        print("     left out: cannot mount here: %r" % result.stderr)
        return
    for name in ("pair", "alone"):
        with open(os.path.join(bus.work, name), encoding="utf-8") as file:
            said = json.load(file)
        assert said["verdict"] == "tmpfs-full", said


def a_region_that_logout_deletes_is_told(bus):
    if os.geteuid() != 0:
        return
    talking(bus, "b")
    root = os.path.join(bus.work, "root")
    os.makedirs(os.path.join(root, "run/systemd/system"))
    os.makedirs(os.path.join(root, "etc/systemd/logind.conf.d"))
    verdict(bus, "ok", "--root", root)  # root's files are left alone
    os.chown(region(bus), 54321, 0)
    verdict(bus, "remove-ipc", "--root", root, evidence="when user 54321 logs out")
    conf = os.path.join(root, "etc/systemd/logind.conf")
    for text, wanted in (("#RemoveIPC=no\n", "remove-ipc"), ("[Login]\nRemoveIPC=no\n", "ok")):
        with open(conf, "w", encoding="utf-8") as file:
            file.write(text)
        verdict(bus, wanted, "--root", root)
    with open(os.path.join(root, "etc/systemd/logind.conf.d/50.conf"), "w", encoding="utf-8") as file:
        file.write("[Login]\nRemoveIPC=yes\n")
    verdict(bus, "remove-ipc", "--root", root)
    os.makedirs(os.path.join(root, "var/lib/systemd/linger"))
    with open(os.path.join(root, "var/lib/systemd/linger/54321"), "w", encoding="utf-8"):
        pass
    verdict(bus, "ok", "--root", root)
    os.chown(region(bus), 0, 0)


def deny(number):
    """A seccomp filter that answers one system call with EPERM; for preexec_fn."""
    def install():
        code = struct.pack("HBBI", 0x20, 0, 0, 0)  # load the number
        code += struct.pack("HBBI", 0x15, 0, 1, number)
        code += struct.pack("HBBI", 0x06, 0, 0, 0x00050001)  # errno EPERM
        code += struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000)  # allow
        text = ctypes.create_string_buffer(code)
        program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(text)))
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(program)):
            os._exit(99)

    return install


def denied_system_calls_are_told(bus):
    numbers = {"x86_64": {"futex": 202, "membarrier": 324, "pidfd": 434},
               "aarch64": {"futex": 98, "membarrier": 283, "pidfd": 434}}[os.uname().machine]
    a, _ = talking(bus, "b")
    assert a("emit", "news", 10, 5) == 5
    read_by(bus, "b", 5)
    for name, number in numbers.items():
        verdict(bus, name + "-denied", preexec_fn=deny(number))
        verdict(bus, name + "-denied", "a", "b", "news", preexec_fn=deny(number))


def a_node_under_a_filter_is_noted(bus):
    number = {"x86_64": 324, "aarch64": 283}[os.uname().machine]
    a = Node(bus, "a")
    a("create", "news")
    b = Node(bus, "b", preexec_fn=deny(number))
    b("subscribe", "news", 0)
    b("listen")
    assert a("emit", "news", 10, 5) == 5
    read_by(bus, "b", 5)
    verdict(bus, "ok", "a", "b", "news", evidence=["seccomp: system calls of b are filtered", "b may not call it"])


def wrong_words_are_refused(bus):
    assert bus.run("shm-inspect", "doctor", "a").returncode == 2
    assert bus.run("shm-inspect", "doctor", "a", "b", "c", "d").returncode == 2
    assert bus.run("shm-inspect", "doctor", "--sort", "x").returncode == 2
    assert b"Usage: shm-inspect doctor" in bus.run("shm-inspect", "doctor", "--help").stdout


TESTS = [
    a_bus_on_which_all_is_well_is_ok,
    nodes_are_named_by_name_pid_and_slot,
    no_bus_is_told_apart_from_a_held_port,
    one_that_never_joined_is_not_joined,
    one_on_another_bus_is_found_there,
    one_on_a_deleted_region_is_told,
    one_that_died_or_left_is_told_from_one_that_never_came,
    one_that_died_and_is_not_yet_freed_is_dead,
    a_stopped_process_is_stopped,
    a_process_of_another_user_is_told,
    events_are_missing_dissolved_pending_or_orphaned,
    rights_and_subscriptions_are_checked,
    nothing_sent_is_told,
    one_that_does_not_receive_is_told,
    a_full_ring_is_told_with_its_holder,
    another_subscriber_that_holds_an_emission_back_is_told,
    a_handler_that_runs_long_is_told,
    losses_of_a_lossy_subscriber_are_counted,
    who_holds_an_exhausted_pool_is_told,
    a_dead_service_is_told,
    a_stranger_on_the_port_is_told,
    another_layout_is_told,
    damaged_rings_are_told,
    a_full_file_system_is_told,
    a_region_that_logout_deletes_is_told,
    denied_system_calls_are_told,
    a_node_under_a_filter_is_noted,
    wrong_words_are_refused,
]

if __name__ == "__main__":
    main(TESTS)
