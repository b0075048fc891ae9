#!/usr/bin/env python3
"""shm-inspect top on a terminal of its own: sizes, keys, and that the terminal is given back at every exit.

Usage: e2e_top.py BUILD-DIRECTORY [TEST]...
"""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time

from cli_bus import LIMIT, main
from driven import Node, pair

SIZES = ((80, 24), (120, 40), (200, 60))
SEQUENCE = re.compile(r"\033\[(\??)([0-9;]*)([A-Za-z])")


class Screen:
    """As much of a terminal as top uses; what it does not know is an error."""

    def __init__(self, columns, rows):
        self.alternate = False
        self.cursor = True
        self.wraps = True
        self.rest = ""
        self.plain = ""  # what came outside the alternate screen
        self.resize(columns, rows)

    def resize(self, columns, rows):
        self.columns, self.rows = columns, rows
        self.cells = [[" "] * columns for _ in range(rows)]
        self.x = self.y = 0

    def put(self, c):
        if not self.alternate:
            self.plain += c
        if c == "\r":
            self.x = 0
        elif c == "\n":
            assert self.y < self.rows - 1 or not self.alternate, "the screen scrolls"
            self.y = min(self.y + 1, self.rows - 1)
        elif c >= " " and self.alternate:
            assert not self.wraps
            self.cells[self.y][min(self.x, self.columns - 1)] = c
            self.x += 1

    def command(self, private, numbers, letter):
        if private:
            on = letter == "h"
            assert letter in "hl", letter
            if numbers == "1049":
                self.alternate = on
                self.x = self.y = 0
            elif numbers == "25":
                self.cursor = on
            else:
                assert numbers == "7", numbers
                self.wraps = on
        elif letter == "H":
            self.x = self.y = 0
        elif letter == "K":
            self.cells[self.y][min(self.x, self.columns - 1):] = " " * (self.columns - min(self.x, self.columns - 1))
        elif letter == "J":
            assert numbers == "2", numbers
            self.cells = [[" "] * self.columns for _ in range(self.rows)]
        else:
            assert letter == "m", "an unknown sequence: %s%s%s" % (private, numbers, letter)

    def feed(self, text):
        text = self.rest + text
        at = 0
        self.rest = ""
        while at < len(text):
            if text[at] != "\033":
                self.put(text[at])
                at += 1
                continue
            match = SEQUENCE.match(text, at)
            if not match:
                assert len(text) - at < 16, "no sequence: %r" % text[at : at + 16]
                self.rest = text[at:]
                return
            self.command(*match.groups())
            at = match.end()

    def lines(self):
        return ["".join(row).rstrip() for row in self.cells]

    def text(self):
        return "\n".join(self.lines())


class Terminal:
    def __init__(self, bus, columns, rows, command=("shm-inspect", "top", "-w", "0.2"), kind="xterm"):
        bus.env.pop("TERM", None)
        if kind is not None:
            bus.env["TERM"] = kind
        self.master, self.slave = pty.openpty()
        self.screen = Screen(columns, rows)
        self.size(columns, rows)
        self.before = termios.tcgetattr(self.slave)
        self.bytes = b""
        self.child = bus.start(*command, stdin=self.slave, stdout=self.slave, stderr=self.slave,
                               preexec_fn=self.control)

    def control(self):
        os.setsid()
        fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)

    def size(self, columns, rows):
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self, seconds=0.05):
        while select.select([self.master], [], [], seconds)[0]:
            self.bytes += os.read(self.master, 65536)
            good = self.bytes.decode("utf-8", "ignore")
            whole = good.encode()
            if self.bytes.startswith(whole):
                self.screen.feed(good)
                self.bytes = self.bytes[len(whole):]
            seconds = 0

    def until(self, condition, what):
        end = time.monotonic() + LIMIT
        while True:
            self.read()
            if condition(self.screen):
                return
            assert time.monotonic() < end, "waited in vain for %s on\n%s" % (what, self.screen.text())

    def shows(self, *texts):
        self.until(lambda s: all(t in s.text() for t in texts), repr(texts))

    def hides(self, text):
        self.until(lambda s: text not in s.text(), "the end of %r" % text)

    def key(self, keys):
        os.write(self.master, keys.encode())

    def is_given_back(self):
        self.read(0.2)
        assert termios.tcgetattr(self.slave) == self.before, "the terminal's modes"
        assert (self.screen.alternate, self.screen.cursor, self.screen.wraps) == (False, True, True), "the screen"

    def close(self):
        self.child.kill()
        self.child.wait()
        os.close(self.master)
        os.close(self.slave)


def traffic(bus):
    a, b, c = pair(bus, "anna", "bert", "cora")
    a("create", "news")
    b("subscribe", "news", 0)
    b("listen")
    c("subscribe", "news", 0)
    a("emit", "news", 100, 500)
    return a, b, c


def on_terminal(bus, columns, rows, test, first="anna"):
    terminal = Terminal(bus, columns, rows)
    try:
        terminal.shows(first, "SENDER")
        test(terminal)
    finally:
        terminal.close()


def each_size_is_filled_and_no_wider(bus):
    traffic(bus)
    for columns, rows in SIZES:

        def test(terminal):
            terminal.shows("port %d" % bus.port, "SLOT", "NAME", "FILL", "RECEIVER", "QUEUE50", "500", "q quit")
            lines = terminal.screen.lines()
            assert lines[-1].startswith("? help  q quit"), lines[-1]
            if columns >= 80:
                assert lines[0].endswith(" free") and lines[-1].endswith("space pause"), (lines[0], lines[-1])
            assert max(len(line) for line in lines) <= columns
            fill = [line for line in lines if "bert" in line and "anna" in line]
            assert len(fill) == 1 and "%" in fill[0], lines
            # the wider, the more columns
            assert ("WAITS" in "".join(lines)) == (columns >= 120), lines
            assert ("HANDL99" in "".join(lines)) == (columns >= 200), lines

        on_terminal(bus, columns, rows, test)


def a_resize_is_followed(bus):
    traffic(bus)

    def test(terminal):
        for columns, rows in ((120, 40), (40, 10), (20, 4), (200, 60), (1, 1), (80, 24)):
            terminal.screen.resize(columns, rows)
            terminal.size(columns, rows)  # the kernel sends SIGWINCH
            if columns >= 40:
                terminal.until(lambda s: s.lines()[-1].startswith("? help"), "the last line at %d" % rows)
        terminal.shows("anna", "QUEUE50")

    on_terminal(bus, 80, 24, test)


def keys_choose_sort_and_filter(bus):
    traffic(bus)

    def test(terminal):
        terminal.key("n")
        terminal.hides("SENDER")
        terminal.key("r")
        terminal.shows("SENDER")
        terminal.hides("SLOT")
        terminal.key("b")
        terminal.shows("SENDER", "SLOT")
        terminal.shows("MSG/s*")
        terminal.key("s")
        terminal.hides("MSG/s*")
        terminal.key("S")
        terminal.shows("MSG/s*")
        terminal.key("R")
        terminal.shows("MSG/s^")
        terminal.key("/cora")
        terminal.shows("filter: cora_")
        terminal.hides("bert")
        terminal.key("\x7f\x7f\x7f\x7fbert\r")
        terminal.shows("filter: bert", "bert")
        terminal.hides("cora")
        terminal.key("\033")
        terminal.shows("cora", "bert")
        terminal.key("?")
        terminal.shows("space     pause")
        terminal.key("?")
        terminal.key(" ")
        terminal.shows("PAUSED")
        terminal.key(" ")
        terminal.hides("PAUSED")
        terminal.key("+")
        terminal.shows("each 0.4 s")
        terminal.key("-")
        terminal.shows("each 0.2 s")
        terminal.key("q")
        assert terminal.child.wait(LIMIT) == 0
        terminal.is_given_back()

    on_terminal(bus, 80, 24, test)


def order_follows_the_column(bus):
    """Unread messages of cora's ring: first downwards, last upwards."""
    traffic(bus)

    def order(screen):
        return [line.split()[1] for line in screen.lines() if line.startswith("anna ")]

    def test(terminal):
        terminal.key("r")
        terminal.shows("MSG/s*")
        while "UNREAD*" not in terminal.screen.text():
            terminal.key("s")
            terminal.read(0.3)
        terminal.until(lambda s: order(s) == ["cora", "bert"], "cora first")
        terminal.key("R")
        terminal.until(lambda s: order(s) == ["bert", "cora"], "bert first")

    on_terminal(bus, 120, 40, test)


def rates_are_those_of_the_traffic(bus):
    a, _, _ = traffic(bus)

    def test(terminal):
        def sent(screen):
            a("emit", "news", 10, 1)
            match = re.search(r"sent ([0-9]+)/s", screen.text())
            return match and int(match.group(1)) > 0

        terminal.until(sent, "a rate")

    on_terminal(bus, 80, 24, test)


def signals_give_the_terminal_back(bus):
    traffic(bus)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT):

        def test(terminal):
            assert terminal.screen.alternate and not terminal.screen.cursor
            assert termios.tcgetattr(terminal.slave) != terminal.before
            terminal.child.send_signal(number)
            status = terminal.child.wait(LIMIT)
            assert status == (0 if number == signal.SIGINT else -number), (number, status)
            terminal.is_given_back()

        on_terminal(bus, 80, 24, test)


def ctrl_c_ends_it_well(bus):
    traffic(bus)

    def test(terminal):
        terminal.key("\x03")
        assert terminal.child.wait(LIMIT) == 0
        terminal.is_given_back()

    on_terminal(bus, 80, 24, test)


def a_stop_gives_the_terminal_back_and_going_on_takes_it(bus):
    """Under a shell with job control: a group whose parent is gone cannot be stopped."""
    traffic(bus)
    script = "set -m; shm-inspect top -w 0.2; echo stopped; read x; fg >/dev/null; echo ended"
    terminal = Terminal(bus, 80, 24, command=("sh", "-c", script))
    try:
        terminal.shows("anna", "q quit")
        terminal.key("\x1a")
        terminal.until(lambda s: not s.alternate and "stopped" in s.plain, "the shell")
        terminal.is_given_back()
        terminal.key("\n")
        terminal.until(lambda s: s.alternate and not s.cursor, "the screen again")
        terminal.shows("anna", "q quit")
        terminal.key("q")
        terminal.until(lambda s: not s.alternate and "ended" in s.plain, "the end")
        assert terminal.child.wait(LIMIT) == 0
        terminal.is_given_back()
    finally:
        terminal.close()


def many_nodes_are_cut_and_counted(bus):
    nodes = [Node(bus, "node%02d" % i) for i in range(30)]
    nodes[0]("create", "news")
    for node in nodes[1:]:
        node("subscribe", "news", 0)
    nodes[0]("emit", "news", 10, 1)

    def test(terminal):
        terminal.shows("more nodes", "more rings", "q quit")
        lines = terminal.screen.lines()
        assert len([line for line in lines if re.match(r" *[0-9]+ +[0-9]+ node", line)]) >= 7, lines
        terminal.key("n")
        terminal.until(lambda s: len(re.findall(r"node[0-9]{2}", s.text())) >= 18, "more of them")

    on_terminal(bus, 80, 24, test, first="node00")


def the_end_of_the_bus_is_shown(bus):
    traffic(bus)

    def test(terminal):
        for child in bus.children:
            if child is not terminal.child:
                child.kill()
                child.wait()
        terminal.shows("dead", "no service")
        terminal.key("q")
        assert terminal.child.wait(LIMIT) == 0

    on_terminal(bus, 80, 24, test)


def without_a_terminal_it_says_so(bus):
    result = bus.run("shm-inspect", "top")
    assert result.returncode == 1 and b"needs a terminal" in result.stderr and not result.stdout, result


def on_a_terminal_without_a_cursor_it_says_so(bus):
    for kind in ("dumb", "", None):
        terminal = Terminal(bus, 80, 24, kind=kind)
        assert terminal.child.wait(LIMIT) == 1
        terminal.read()
        assert "needs a terminal" in terminal.screen.plain, (kind, terminal.screen.plain)
        terminal.is_given_back()
        terminal.close()


TESTS = [
    each_size_is_filled_and_no_wider,
    a_resize_is_followed,
    keys_choose_sort_and_filter,
    order_follows_the_column,
    rates_are_those_of_the_traffic,
    signals_give_the_terminal_back,
    ctrl_c_ends_it_well,
    a_stop_gives_the_terminal_back_and_going_on_takes_it,
    many_nodes_are_cut_and_counted,
    the_end_of_the_bus_is_shown,
    without_a_terminal_it_says_so,
    on_a_terminal_without_a_cursor_it_says_so,
]

if __name__ == "__main__":
    main(TESTS)
