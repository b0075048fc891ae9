"""A private bus for the end-to-end tests of the tools: directory, port, ringbusd, and their end."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

LIMIT = 60  # seconds; only a watchdog
SOURCE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CC = os.environ.get("CC", "cc").split()


def sanitizers(build):
    """A library built with a sanitizer wants its programs to have it too."""
    path = os.path.join(build, "meson-info", "intro-buildoptions.json")
    with open(path, encoding="utf-8") as file:
        chosen = [o["value"] for o in json.load(file) if o["name"] == "b_sanitize"]
    return ["-fsanitize=" + value for value in chosen if value != "none"]


class Bus:
    def __init__(self, build, service=True):
        self.tools = os.path.join(os.path.abspath(build), "tools")
        self.directory = tempfile.mkdtemp(prefix="ringbus-e2e-", dir="/dev/shm")
        self.work = tempfile.mkdtemp(prefix="ringbus-e2e-")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("RINGBUS")}
        self.env.update(
            RINGBUS_DIR=self.directory,
            RINGBUS_PORT=str(self.port),
            RINGBUSD=os.path.join(self.tools, "ringbusd"),
            RINGBUS_LINGER="1",
            PATH=self.tools + ":" + self.env.get("PATH", "/usr/bin:/bin"),
        )
        self.children = []
        self.service = None

    def __enter__(self):
        return self

    def start_service(self):
        self.service = self.start("ringbusd", "--quiet")
        self.until_served()

    def listens(self):
        """The region is there before the port is: what only looks at the file is too early."""
        with open("/proc/net/tcp", encoding="ascii") as table:
            rows = [line.split() for line in table]
        return any(row[1].endswith(":%04X" % self.port) and row[3] == "0A" for row in rows[1:])

    def until_served(self):
        self.until(lambda: self.listens() and self.run("ringbus", "ls").returncode == 0, "ringbusd")

    def start(self, *command, **more):
        more.setdefault("stdin", subprocess.DEVNULL)
        child = subprocess.Popen(command, env=self.env, cwd=self.work, **more)
        self.children.append(child)
        return child

    def run(self, *command, input=b"", **more):
        more.setdefault("stdout", subprocess.PIPE)
        more.setdefault("stderr", subprocess.PIPE)
        return subprocess.run(command, env=self.env, cwd=self.work, input=input, timeout=LIMIT, **more)

    def compile(self, name, text):
        """Makes a program from C text in the work directory and returns its path."""
        build = os.path.dirname(self.tools)
        library = os.path.join(build, "lib")
        path = os.path.join(self.work, name)
        with open(path + ".c", "w", encoding="utf-8") as file:
            file.write(text)
        subprocess.run(
            CC + ["-std=c11", "-Wall", "-Wextra", "-Werror", path + ".c", "-o", path,
                  "-I", os.path.join(SOURCE, "include"), "-L", library, "-lringbus", "-Wl,-rpath," + library]
            + sanitizers(build),
            check=True)
        return path

    def until(self, condition, what):
        end = time.monotonic() + LIMIT
        while not condition():
            if time.monotonic() > end:
                raise AssertionError("waited in vain for " + what)
            time.sleep(0.01)

    def __exit__(self, *_):
        for child in self.children:
            if child.poll() is None:
                child.terminate()
        for child in self.children:
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        shutil.rmtree(self.directory, ignore_errors=True)
        shutil.rmtree(self.work, ignore_errors=True)


def main(tests):
    """Runs each test on a fresh bus with a service; names from argv[2:] choose among them."""
    if len(sys.argv) < 2:
        sys.exit("usage: %s BUILD-DIRECTORY [TEST]..." % sys.argv[0])
    unknown = set(sys.argv[2:]) - {test.__name__ for test in tests}
    if unknown:
        sys.exit("there is no test %s" % ", ".join(sorted(unknown)))
    failed = 0
    for test in tests:
        if sys.argv[2:] and test.__name__ not in sys.argv[2:]:
            continue
        try:
            with Bus(sys.argv[1]) as bus:
                if not getattr(test, "no_service", False):
                    bus.start_service()
                test(bus)
        except Exception as error:  # each test reports for itself
            failed += 1
            print("FAIL %s: %s: %s" % (test.__name__, type(error).__name__, error))
            print("  again: python3 %s %s %s" % (sys.argv[0], sys.argv[1], test.__name__))
        else:
            print("ok   %s" % test.__name__)
    sys.exit(1 if failed else 0)
