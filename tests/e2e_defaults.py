#!/usr/bin/env python3
"""What happens when nothing is named: where buses live, and where ringbusd is looked for.

The default places are those of the whole machine. So the tests run with a /dev/shm, a /run and a network of their own,
where that is allowed; where not, only those run that do without.
"""

import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import sys

from cli_bus import main

OWN = "RINGBUS_TEST_OWN"  # set: /dev/shm, /run and the ports are ours
OTHER_USER = 65534


def same(got, wanted, what=""):
    assert got == wanted, "%s: got %r, wanted %r" % (what, got, wanted)


def unnamed(bus):
    """The environment without what names places."""
    del bus.env["RINGBUS_DIR"], bus.env["RINGBUSD"]


def where(bus):
    """The directories of the buses on our port, as who names none finds them."""
    result = bus.run("shm-inspect", "--json")
    same(result.returncode, 0, result.stderr)
    same(bus.run("ringbus", "ls").returncode, 0)
    return [b["where"] for b in json.loads(result.stdout)["buses"] if b["port"] == bus.port]


def until_gone(bus):
    bus.until(lambda: bus.run("ringbus", "ls").returncode == 3, "the end of the bus")


def own_directory():
    return "/dev/shm/ringbus-%d" % os.geteuid()


def a_bus_without_a_place_is_made_in_ones_own_directory(bus):
    unnamed(bus)
    same(bus.run("ringbus", "emit", "x", "y").returncode, 0)
    same(where(bus), [own_directory()])
    same(os.stat(own_directory()).st_mode & 0o777, 0o700)
    until_gone(bus)
    assert not os.path.exists("%s/%d.bus" % (own_directory(), bus.port))
    if OWN in os.environ:
        assert not os.path.exists(own_directory()), "the empty directory is left"


def the_port_is_54121_if_none_is_named(bus):
    if OWN not in os.environ:
        return
    unnamed(bus)
    del bus.env["RINGBUS_PORT"]
    bus.port = 54121
    same(bus.run("ringbus", "emit", "x", "y").returncode, 0)
    same(where(bus), [own_directory()])
    assert b'"port": 54121,' in bus.run("shm-inspect", "header", "--json").stdout
    bus.env["RINGBUS_PORT"] = "54121x"
    for command in (("ringbus", "ls"), ("shm-inspect", "nodes")):
        result = bus.run(*command)
        same(result.returncode, 2)
        assert b"54121x" in result.stderr, result.stderr
    del bus.env["RINGBUS_PORT"]
    until_gone(bus)


STARTER = """#include <ringbus.h>
#include <stdio.h>
int main(void)
{
	struct ringbus_node_options options = {.size = sizeof options, .autostart = true, .timeout_ns = 3000000000u};
	struct ringbus_node *node;
	int r = ringbus_node_open(&node, &options);
	printf("%d %s\\n", r, r < 0 ? ringbus_error_detail() : "");
	ringbus_node_close(node);
	return 0;
}
"""


def says(path, text):
    """A program that only says so; the library passes it on."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write("#!/bin/sh\necho %s >&2\nexit 1\n" % text)
    os.chmod(path, 0o755)


def ringbusd_is_looked_for_beside_the_program_then_in_a_build_tree_then_in_the_path(bus):
    unnamed(bus)
    program = bus.compile("starter", STARTER)
    os.makedirs(os.path.join(bus.work, "tests"))
    program = shutil.move(program, os.path.join(bus.work, "tests", "starter"))
    kept = bus.env["PATH"]
    searched = ["relative"] + [os.path.join(bus.work, d) for d in ("none", "one", "two")] + ["/usr/bin", "/bin"]
    bus.env["PATH"] = ":".join(searched)
    places = [os.path.join(bus.work, where, "ringbusd") for where in ("tests", "tools", "one", "two")]
    for place in places:
        says(place, place)
    says(os.path.join(bus.work, "relative", "ringbusd"), "a relative one")
    if os.path.exists("/usr/local/bin/ringbusd") or os.path.exists("/usr/bin/ringbusd"):
        places = places[:2]
    for place in places:
        out = bus.run(program).stdout.decode()
        assert " was started and ended: %s\n" % place in out, (place, out)
        os.remove(place)
    if len(places) == 4:
        out = bus.run(program).stdout.decode()
        same(out, "-2 cannot find ringbusd to start it; put it in PATH or name it with RINGBUSD\n")
    os.symlink(os.path.join(bus.tools, "ringbusd"), places[1])
    same(bus.run(program).stdout, b"0 \n")
    bus.env["PATH"] = kept
    same(where(bus), [own_directory()])
    until_gone(bus)


def subscriber(bus):
    """Starts one and waits until it is on the bus."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    child = bus.start("ringbus", "subscribe", "x", "--name", "watcher", **quiet)
    bus.until(lambda: b"watcher" in bus.run("ringbus", "ls").stdout, "a subscriber")
    return child


def the_systems_bus_goes_before_ones_own(bus):
    if OWN not in os.environ:
        return
    unnamed(bus)
    service = bus.start("ringbusd", "--quiet", "--directory", "/run/ringbus")
    bus.until_served()
    same(where(bus), ["/run/ringbus"])
    same(bus.run("ringbus", "emit", "x", "y").returncode, 0)
    # its service gone, it is brought back where it was: by hand, and by who needs it
    watcher = subscriber(bus)
    service.kill()
    service.wait()
    service = bus.start("ringbusd", "--quiet")
    bus.until_served()
    same(where(bus), ["/run/ringbus"])
    watcher.terminate()
    watcher.wait()
    service.kill()
    service.wait()
    listener = subscriber(bus)
    same(where(bus), ["/run/ringbus"])
    listener.terminate()
    listener.wait()
    until_gone(bus)
    shutil.rmtree("/run/ringbus")


def a_systems_directory_of_a_stranger_does_not_keep_us_from_our_own(bus):
    if os.environ.get(OWN) != "root":
        return
    unnamed(bus)
    os.makedirs("/run/ringbus")
    os.chown("/run/ringbus", OTHER_USER, -1)
    try:
        same(bus.run("ringbus", "emit", "x", "y").returncode, 0)
        same(where(bus), [own_directory()])
        until_gone(bus)
    finally:
        os.rmdir("/run/ringbus")


def a_shared_bus_wants_a_directory_that_was_named(bus):
    unnamed(bus)
    result = bus.run("ringbusd", "--group", str(os.getegid()))
    same(result.returncode, 1)
    assert b"a shared bus needs a directory of its own; give one with --directory" in result.stderr, result.stderr
    assert not bus.listens()


def names_that_lead_nowhere_are_told(bus):
    for directory, text in (("/" + "x" * 600, b"too long"), (bus.work + "/file", b"there is no")):
        open(bus.work + "/file", "w", encoding="utf-8").close()
        result = bus.run("ringbus", "ls", "--directory", directory)
        same(result.returncode in (1, 3), True, result.stderr)
        assert text in result.stderr, (directory[:20], result.stderr[-200:])
    result = bus.run("ringbusd", "--directory", "/" + "x" * 600)
    same(result.returncode, 1)
    assert b"longer than 511 bytes; use a shorter one" in result.stderr, result.stderr[-200:]
    result = bus.run("ringbusd", "--group", "no such group", "--directory", bus.work + "/shared")
    same(result.returncode, 1)
    assert b"there is no group 'no such group'" in result.stderr, result.stderr
    assert not os.path.exists(bus.work + "/shared")


def loopback_up():
    with socket.socket() as s:
        fcntl.ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP


def own_places():
    """Starts this program again where /dev/shm, /run and the network are its own, if that is allowed."""
    inside = "mount -t tmpfs none /dev/shm && chmod 1777 /dev/shm && mount -t tmpfs none /run && exec \"$@\""
    if OWN in os.environ:
        loopback_up()
        return
    for kind, options in (("root", ["-m", "-n"]), ("mapped", ["-r", "-m", "-n"])):
        if not shutil.which("unshare"):
            break
        unshare = ["unshare"] + options + ["sh", "-c", inside, "sh"]
        if subprocess.run(unshare + ["true"], stderr=subprocess.DEVNULL, check=False).returncode == 0:
            os.environ[OWN] = kind
            os.execvp(unshare[0], unshare + [sys.executable] + sys.argv)
    print("SKIPPED: no mounts and network of our own, so nothing of /run/ringbus and the default port")


TESTS = [
    a_bus_without_a_place_is_made_in_ones_own_directory,
    the_port_is_54121_if_none_is_named,
    ringbusd_is_looked_for_beside_the_program_then_in_a_build_tree_then_in_the_path,
    the_systems_bus_goes_before_ones_own,
    a_systems_directory_of_a_stranger_does_not_keep_us_from_our_own,
    a_shared_bus_wants_a_directory_that_was_named,
    names_that_lead_nowhere_are_told,
]

if __name__ == "__main__":
    for each in TESTS:
        each.no_service = True
    own_places()
    main(TESTS)
