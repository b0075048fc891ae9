#!/usr/bin/env python3
"""ringbusd as a service manager runs it: handed a socket, asked for notifications, short of descriptors."""

import fcntl
import os
import re
import resource
import socket
import subprocess
import sys

from cli_bus import main

CODE = """
import os, sys
fd, directory, *command = sys.argv[1:]
if fd != "-":
    os.dup2(int(fd), 3)
os.environ["LISTEN_PID"] = str(os.getpid())
os.environ["LISTEN_FDS"] = "1"
os.execvp(command[0], command)
"""


def same(got, wanted, what=""):
    assert got == wanted, "%s: %r, not %r" % (what, got, wanted)


def bare(test):
    test.no_service = True
    return test


def listening(address="127.0.0.1"):
    sock = socket.socket()
    sock.bind((address, 0))
    sock.listen(8)
    return sock


def adopt(bus, sock, *arguments, **more):
    """Starts ringbusd as socket activation does: with descriptor 3."""
    return bus.start(sys.executable, "-c", CODE, str(sock.fileno()), bus.directory, "ringbusd", *arguments,
                     pass_fds=(sock.fileno(),), **more)


def refused(bus, sock, *arguments):
    child = adopt(bus, sock, *arguments, stderr=subprocess.PIPE)
    said = child.communicate(timeout=60)[1].decode()
    same(child.returncode, 1, said)
    same(len(said.splitlines()), 1, said)
    return said


@bare
def a_socket_that_is_handed_over_is_served(bus):
    with listening() as sock:
        bus.env.pop("RINGBUS_PORT")
        bus.port = sock.getsockname()[1]
        bus.env["RINGBUS_PORT"] = str(bus.port)
        child = adopt(bus, sock, "--quiet")
        bus.until_served()
    nodes = bus.run("ringbus", "ls")
    same(nodes.returncode, 0, nodes.stderr)
    receiver = bus.start("ringbus", "listen", "--name", "r", "--count", "1", stdout=subprocess.PIPE)
    sent = bus.run("ringbus", "contact", "r", "hello", "--wait")
    same(sent.returncode, 0, sent.stderr)
    assert b"hello" in receiver.communicate(timeout=60)[0]
    # a successor that is handed the same socket would find the bus; this one ends cleanly
    child.terminate()
    same(child.wait(60), 0)


@bare
def the_port_of_the_socket_wins_over_the_environment(bus):
    with listening() as sock:
        child = adopt(bus, sock, "--quiet")  # RINGBUS_PORT is another
        bus.port = sock.getsockname()[1]
        bus.env["RINGBUS_PORT"] = str(bus.port)
        bus.until_served()
        assert os.path.exists(os.path.join(bus.directory, "%d.bus" % bus.port))
        child.terminate()
        same(child.wait(60), 0)


@bare
def a_socket_that_does_not_fit_is_told_of(bus):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        assert "no listening IPv4 socket" in refused(bus, sock)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.path.join(bus.work, "other"))
        sock.listen(1)
        assert "no listening IPv4 socket" in refused(bus, sock)
    with listening("0.0.0.0") as sock:
        assert "does not listen on 127.0.0.1" in refused(bus, sock)
    with listening() as sock:
        port = sock.getsockname()[1]
        other = port - 1 if port > 60000 else port + 1
        said = refused(bus, sock, "--port", str(other))
        assert "listens on port %d, not on %d" % (port, other) in said, said
    with open("/dev/null", encoding="ascii") as null:
        assert "no listening IPv4 socket" in refused(bus, null)
    same(os.listdir(bus.directory), [])


@bare
def what_was_meant_for_another_process_is_left_alone(bus):
    bus.env.update(LISTEN_PID="1", LISTEN_FDS="1")
    bus.start_service()
    same(bus.run("ringbus", "ls").returncode, 0)


def await_word(sock, word):
    sock.settimeout(60)
    while word not in sock.recv(4096).decode().split("\n"):
        pass


@bare
def the_service_manager_is_told_of_begin_and_end(bus):
    for abstract in (False, True):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            path = "\0ringbus-%d" % os.getpid() if abstract else os.path.join(bus.work, "notify")
            manager.bind(path)
            bus.env["NOTIFY_SOCKET"] = path.replace("\0", "@")
            child = bus.start("ringbusd", "--quiet")
            await_word(manager, "READY=1")
            bus.until_served()
            child.terminate()
            await_word(manager, "STOPPING=1")
            same(child.wait(60), 0)


@bare
def the_watchdog_of_the_service_manager_is_fed(bus):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(os.path.join(bus.work, "notify"))
        bus.env.update(NOTIFY_SOCKET=os.path.join(bus.work, "notify"), WATCHDOG_USEC="200000")
        child = bus.start("ringbusd", "--quiet")
        for _ in range(5):
            await_word(manager, "WATCHDOG=1")
        bus.until_served()  # the ticks do not end the service
        child.terminate()
        same(child.wait(60), 0)


@bare
def a_service_manager_that_is_gone_is_no_failure(bus):
    bus.env["NOTIFY_SOCKET"] = os.path.join(bus.work, "nobody")
    bus.start_service()
    same(bus.run("ringbus", "ls").returncode, 0)


@bare
def a_service_out_of_descriptors_refuses_and_goes_on(bus):
    child = bus.start("ringbusd", stderr=subprocess.PIPE, preexec_fn=lambda: resource.setrlimit(
        resource.RLIMIT_NOFILE, (24, 24)))
    bus.until_served()
    crowd = []
    for _ in range(60):
        sock = socket.socket()
        sock.settimeout(20)
        sock.connect(("127.0.0.1", bus.port))
        crowd.append(sock)
    # the last one is hung up on, not left without a word
    same(crowd[-1].recv(1), b"", "a connection too many")
    for sock in crowd:
        sock.close()
    bus.until_served()
    receiver = bus.start("ringbus", "listen", "--name", "r", "--count", "1", stdout=subprocess.PIPE)
    sent = bus.run("ringbus", "contact", "r", "still here", "--wait")
    same(sent.returncode, 0, sent.stderr)
    assert b"still here" in receiver.communicate(timeout=60)[0]
    child.terminate()
    said = child.communicate(timeout=60)[1]
    assert b"out of descriptors" in said and b"ulimit -n" in said, said
    # it says so once a second, or who connects could fill a pipe that nobody reads, and stop it
    assert said.count(b"out of descriptors") < 20, said


@bare
def a_log_that_nobody_reads_holds_nobody_up(bus):
    reader, writer = os.pipe()
    os.write(writer, b"-" * fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096))  # full
    child = bus.start("ringbusd", "--verbose", stderr=writer)
    os.close(writer)
    bus.until_served()
    for _ in range(3):  # the service has a line for each of them
        sent = bus.run("ringbus", "emit", "event", "message")
        same(sent.returncode, 0, sent.stderr)
    same(set(os.read(reader, 1 << 20)), {ord("-")})
    sent = bus.run("ringbus", "emit", "event", "the last")
    same(sent.returncode, 0, sent.stderr)
    child.terminate()
    same(child.wait(60), 0)
    said = b""
    while part := os.read(reader, 1 << 20):
        said += part
    os.close(reader)
    assert re.match(rb"ringbusd: [0-9]+ lines left out, for nobody read these\nringbusd: slot", said), said


TESTS = [
    a_socket_that_is_handed_over_is_served,
    the_port_of_the_socket_wins_over_the_environment,
    a_socket_that_does_not_fit_is_told_of,
    what_was_meant_for_another_process_is_left_alone,
    the_service_manager_is_told_of_begin_and_end,
    the_watchdog_of_the_service_manager_is_fed,
    a_service_manager_that_is_gone_is_no_failure,
    a_service_out_of_descriptors_refuses_and_goes_on,
    a_log_that_nobody_reads_holds_nobody_up,
]

if __name__ == "__main__":
    main(TESTS)
