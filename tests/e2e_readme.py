#!/usr/bin/env python3
"""README.md keeps its word: its C programs compile and run, its command lines work, its options exist.

Usage: e2e_readme.py BUILD-DIRECTORY
"""

import os
import re
import subprocess

from cli_bus import main

SOURCE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def readme():
    with open(os.path.join(SOURCE, "README.md"), encoding="utf-8") as file:
        return file.read()


def blocks(language):
    return re.findall(r"^```%s\n(.*?)^```$" % language, readme(), re.M | re.S)


def compile_programs(bus):
    names = []
    for text in blocks("c"):
        names.append(re.match(r"/\* (\w+)\.c \*/", text).group(1))
        bus.compile(names[-1], text)
    return names


def programs_of_the_first_screen_compile_and_talk(bus):
    assert sorted(compile_programs(bus)) == ["publisher", "subscriber"]
    subscriber = bus.start(os.path.join(bus.work, "subscriber"), stdout=subprocess.PIPE)
    publisher = bus.run(os.path.join(bus.work, "publisher"))
    assert publisher.returncode == 0, publisher
    out, _ = subscriber.communicate(timeout=60)
    assert out == b"hello\n" and subscriber.returncode == 0, (out, subscriber.returncode)


def programs_of_the_first_screen_have_about_ten_lines(bus):
    for text in blocks("c"):
        body = [line for line in text.splitlines() if re.search(r"[a-z]", line) and not line.startswith("/*")]
        assert len(body) <= 13, (len(body), text)


def command_lines_work_in_sequence(bus):
    expected = {
        "first": b"first\nsecond\n",
        "hello": b'"data": "hello"',
        "for you only": b"\tfor you only\n",
        "--name bob": b"3\n",
        "looked at": b"looked at\n",
        "sensor": b"sensor.left\t1.5\nsensor.right\t1.7\nalarm\ttoo hot\n",
        "hz tick": b'"period": "total", "seconds"',
        "bw tick": b"bytes min 1024 mean 1024.0 max 1024 dev 0.0  messages 50 lost 0  (total)",
        "latency mirror": b"10 round trips of 64 bytes",
        "ringbus bench": b"RTT/LINE",
    }
    seen = set()
    scripts = blocks("sh")
    assert len(scripts) >= 5
    for script in scripts:
        # "wait" alone forgets the status of background commands, so failures show as missing output
        result = bus.run("sh", "-eu", "-c", script)
        assert result.returncode == 0 and result.stderr == b"", (script, result)
        for key, output in expected.items():
            if key in script:
                assert output in result.stdout, (script, result)
                seen.add(key)
    assert seen == set(expected), seen


def options_of_ringbusd_are_documented(bus):
    text = bus.run("ringbusd", "--help").stdout.decode()
    there = set(re.findall(r"--([a-z-]+)", text)) - {"help", "version"}
    section = readme().split("## ringbusd", 1)[1].split("\n## ", 1)[0]
    told = set(re.findall(r"`--([a-z-]+)", section)) - {"help", "version"}
    assert there == told, "--help has %s more, README has %s more" % (there - told, told - there)


def anchors_of(text):
    return {re.sub(r"[^a-z0-9 -]", "", head.lower()).replace(" ", "-")
            for head in re.findall(r"^#+ (.*)$", text, re.M)}


def links_lead_somewhere(bus):
    text = readme()
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = text
        if path:
            assert os.path.exists(os.path.join(SOURCE, path)), target
        if path and anchor:
            with open(os.path.join(SOURCE, path), encoding="utf-8") as f:
                there = f.read()
        assert not anchor or anchor in anchors_of(there), target


main([
    programs_of_the_first_screen_compile_and_talk,
    programs_of_the_first_screen_have_about_ten_lines,
    command_lines_work_in_sequence,
    options_of_ringbusd_are_documented,
    links_lead_somewhere,
])
