"""Nodes of a private bus that a test drives, each a process of its own (node_driver.c)."""

import os
import subprocess


class Node:
    def __init__(self, bus, name=None, **more):
        path = os.path.join(os.path.dirname(bus.tools), "tests", "node_driver")
        self.child = bus.start(path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **more)
        self.pid = self.child.pid
        self.name = name
        if name:
            self("open", name)

    def send(self, *words):
        self.child.stdin.write((" ".join(str(w) for w in words) + "\n").encode())
        self.child.stdin.flush()

    def answer(self):
        line = self.child.stdout.readline().decode()
        assert line.startswith("ok "), "node %s: %r" % (self.name, line)
        return int(line.split()[1])

    def __call__(self, *words):
        self.send(*words)
        return self.answer()

    def kill(self):
        self.child.kill()
        self.child.wait()


def pair(bus, *names):
    return [Node(bus, name) for name in names]
