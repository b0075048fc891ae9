"""What looking costs those who are looked at: messages a second of one pair of processes, alone and
while an inspection runs, in turns; whether it took a slot or memory of the bus.

    bench/inspect.py BUILD [--seconds S] [--passes N] [--rate N] [--apart]

Each figure is the median over the passes of the quotient to the run alone in the same pass; "alone
again" is the same without anything, and tells how far the machine can be trusted: what differs less
from 100 % than it, or lies within its spread, is not there. --apart: the pair on the first processor
and the inspection on the second, so that what is left is not the sharing of a processor. --rate: at
most so many messages a second; then the question is whether they are still reached.
"""

import argparse
import json
import os
import pty
import statistics
import subprocess
import sys
import tempfile
import time

VERBS = {
    "alone": None,
    "alone again": None,
    "top": ["top"],
    "rings": ["rings", "--watch", "1"],
    "tap": ["tap"],
    "latency": ["latency", "--watch", "1"],
}
SIZE = 64
PORT = 47123


class Pair:
    """A service, a counting subscriber, and a sender for each run."""

    def __init__(self, options):
        self.tools = os.path.join(options.build, "tools")
        self.options = options
        self.directory = tempfile.mkdtemp(prefix="ringbus-inspect-", dir="/dev/shm")
        self.environment = dict(os.environ, RINGBUS_DIR=self.directory, RINGBUS_PORT=str(PORT), TERM="xterm")
        self.region = os.path.join(self.directory, "%d.bus" % PORT)
        self.service = self.start("ringbusd", stdout=subprocess.PIPE)
        self.service.stdout.readline()
        self.reader = self.start("ringbus", "hz", "load", cpu=0)

    def start(self, program, *args, cpu=None, **more):
        more.setdefault("stdout", subprocess.DEVNULL)
        more.setdefault("stderr", subprocess.DEVNULL)
        command = [os.path.join(self.tools, program), *args]
        if self.options.apart and cpu is not None:
            command = ["taskset", "-c", str(cpu)] + command
        return subprocess.Popen(command, env=self.environment, **more)

    def send(self, count):
        """Seconds of wall time, and of the sender's processor time, for so many messages."""
        args = ["emit", "load", "--size", str(SIZE), "--count", str(count), "--wait-subscribers", "1"]
        if self.options.rate:
            args += ["--rate", str(self.options.rate)]
        before = time.monotonic()
        sender = self.start("ringbus", *args, cpu=0)
        _, status, usage = os.wait4(sender.pid, 0)
        if status != 0:
            sys.exit("the sender failed: %d" % status)
        sender.returncode = 0
        return time.monotonic() - before, usage.ru_utime + usage.ru_stime

    def state(self):
        """Slots taken and blocks of the region."""
        nodes = subprocess.run([os.path.join(self.tools, "shm-inspect"), "nodes", "--json"], env=self.environment,
                               stdout=subprocess.PIPE, check=True).stdout
        rows = [json.loads(line) for line in nodes.decode().splitlines() if line.strip()]
        file = os.stat(self.region)
        return len(rows[0]) if rows and isinstance(rows[0], list) else len(rows), file.st_size, file.st_blocks

    def close(self):
        for child in (self.reader, self.service):
            child.terminate()
            child.wait()
        for name in os.listdir(self.directory):
            os.unlink(os.path.join(self.directory, name))
        os.rmdir(self.directory)


def run(pair, verb, count):
    """(seconds, processor seconds of the sender, processor seconds of the inspection a second)."""
    inspector = terminal = None
    if verb:
        terminal, side = pty.openpty()
        shows = side if verb[0] == "top" else subprocess.DEVNULL
        inspector = pair.start("shm-inspect", *verb, cpu=1, stdin=side, stdout=shows, stderr=shows)
        os.close(side)
        time.sleep(0.1)
        if inspector.poll() is not None:
            sys.exit("shm-inspect %s ended: %d" % (" ".join(verb), inspector.returncode))
    begin = time.monotonic()
    seconds, cpu = pair.send(count)
    looked = 0.0
    if inspector:
        if inspector.poll() is not None:
            sys.exit("shm-inspect %s ended: %d" % (" ".join(verb), inspector.returncode))
        inspector.terminate()
        _, _, usage = os.wait4(inspector.pid, 0)
        inspector.returncode = 0
        os.close(terminal)
        looked = (usage.ru_utime + usage.ru_stime) / (time.monotonic() - begin + 0.1)
    return seconds, cpu, looked


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each run (1)")
    parser.add_argument("--passes", type=int, default=7)
    parser.add_argument("--rate", type=int, default=0)
    parser.add_argument("--apart", action="store_true")
    options = parser.parse_args()
    pair = Pair(options)
    try:
        probe = 200000
        count = int(probe / pair.send(probe)[0] * options.seconds)
        figures = {name: [] for name in VERBS}
        before = pair.state()
        for turn in range(options.passes):
            names = list(VERBS)[:: 1 if turn % 2 == 0 else -1]
            for name in names:
                figures[name].append(run(pair, VERBS[name], count))
        after = pair.state()
    finally:
        pair.close()
    alone = figures["alone"]
    print("%d messages of %d bytes a run, %d passes, %s; alone %.2f million a second, sender %.0f ns of processor each" % (
        count, SIZE, options.passes, "on processors of their own" if options.apart else "on any processor",
        statistics.median(count / a[0] for a in alone) / 1e6, statistics.median(a[1] for a in alone) / count * 1e9))
    for name, runs in figures.items():
        quotients = sorted(a[0] / r[0] for a, r in zip(alone, runs))
        if name != "alone":
            print("%-12s rate %6.1f %% (%.1f to %.1f), inspection uses %4.1f %% of a processor" % (
                name, statistics.median(quotients) * 100, quotients[0] * 100,
                quotients[-1] * 100, statistics.median(r[2] for r in runs) * 100))
    print("slots, bytes, blocks: %s before, %s after" % (before, after))
    return 0 if before == after else 1


if __name__ == "__main__":
    sys.exit(main())
