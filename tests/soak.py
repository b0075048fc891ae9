#!/usr/bin/env python3
"""Random operations and faults for as long as is asked, each with a seed of its own.

    soak.py BUILD --minutes N [--seed S]    one program after the other, by turns, with fresh seeds
    soak.py BUILD --together SECONDS        traffic, sleep and wake, kills, restarts of the service, inspection at once

A run that fails ends the soak, with its output and the line that replays it. The last line is "N passed, N failed,
N skipped". --seed begins at the first fresh seed that an earlier soak printed.
"""
import argparse
import collections
import glob
import os
import random
import re
import subprocess
import sys
import threading
import time

import ledger

# program and arguments, variable of its seed (None: it draws nothing), settings that make a turn a minute at most
TURNS = [
    ("stress_kill", "KILL_SEED", {"KILL_ROUNDS": "100"}),
    ("killat", "KILLAT_SEED",
     {"KILLAT_KILLS": "1500", "KILLAT_STOPS": "150", "KILLAT_SERVICE": "50", "KILLAT_IDLE": "50"}),
    ("fuzz_chaos", "CHAOS_SEED", {"CHAOS_ROUNDS": "3000"}),
    ("explore", "EXPLORE_SEED", {"EXPLORE_SCALE": "1"}),
    ("fuzz_hostile", "HOSTILE_SEED", {"HOSTILE_LOADS": "1000000"}),
    ("fuzz_hostile_life", "HOSTILE_SEED", {"HOSTILE_LOADS": "1000000"}),
    ("stress_delivery", None, {"STRESS_MESSAGES": "300000", "STRESS_SMALL": "30000000"}),
    ("stress_service", None, {"SERVICE_MESSAGES": "500000"}),
    ("stress_wake", None, {"WAKE_ROUNDS": "30000", "ONE_CPU_ROUNDS": "500000"}),
    ("stress_stop", None, {}),
    ("stress_bystander", None, {}),
    ("fuzz_syserr", None, {}),
    ("fuzz_syserr_service", None, {}),
    ("fuzz_overload", None, {"OVERLOAD_SIGNALS": "300000"}),
    ("fuzz_memory", None, {}),
]
TOGETHER = [
    ("stress_delivery", None, {"STRESS_MESSAGES": "100000", "STRESS_SMALL": "5000000"}),
    ("stress_kill", "KILL_SEED", {"KILL_ROUNDS": "40"}),
    ("stress_service", None, {"SERVICE_MESSAGES": "200000"}),
    ("stress_wake", None, {"WAKE_ROUNDS": "10000", "ONE_CPU_ROUNDS": "50000"}),
]
LOOKS = ["nodes", "rings", "pools", "events", "latency", "last", "header", "check"]
SECONDS = 600  # a run that takes longer hangs
begin = time.monotonic()


def say(text):
    print(f"{time.monotonic() - begin:6.0f} s  {text}", flush=True)


class Soak:
    def __init__(self, build, seed):
        self.build = os.path.abspath(build)
        self.random = random.Random(seed)
        self.passed = collections.Counter()
        self.failed = []
        self.skipped = collections.Counter()
        self.figures = {}
        self.lock = threading.Lock()
        self.over = threading.Event()

    def run(self, program, variable, settings):
        """One run of a program of tests/."""
        with self.lock:
            seed = str(self.random.randrange(1, 1 << 24)) if variable else None
        chosen = dict(settings, **({variable: seed} if variable else {}))
        replay = " ".join([f"{k}={v}" for k, v in chosen.items()] + [f"{self.build}/tests/{program}"])
        if not os.access(f"{self.build}/tests/{program}", os.X_OK):
            self.skipped[program] += 1
            return
        environment = dict(os.environ, RINGBUSD=f"{self.build}/tools/ringbusd", RINGBUS_TOOLS=f"{self.build}/tools",
                           **chosen)
        start = time.monotonic()
        done = subprocess.Popen([f"{self.build}/tests/{program}"], env=environment, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True)
        try:
            output, _ = done.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(done.pid, 9)
            output, _ = done.communicate()
            output += f"\nit ran for more than {SECONDS} s"
        with self.lock:
            if done.returncode == 0:
                self.passed[program] += 1
                for name, value in ledger.LINE.findall(output):
                    if ledger.HOW.get(name) == ledger.SUM:  # times say nothing of a machine that does other things too
                        ledger.combine(self.figures, name, float(value))
                say(f"passed {program} in {time.monotonic() - start:.0f} s: {replay}")
            elif done.returncode == 77:
                self.skipped[program] += 1
            else:
                self.fails(program, replay, output, done.returncode)

    def fails(self, program, replay, output, code):
        lines = output.strip().split("\n")
        print("\n".join(lines[-40:]))
        say(f"FAILED {program} with exit code {code}; replay: {replay}")
        self.failed.append(program)
        self.over.set()

    def inspect(self, look):
        """One look of shm-inspect at every bus of a test that is there; buses come and go, but it never crashes."""
        for path in glob.glob("/dev/shm/ringbus-test-*/*.bus"):
            port = re.sub(r"\D", "", os.path.basename(path))
            command = [f"{self.build}/tools/shm-inspect", look, "--port", port, "--directory", os.path.dirname(path)]
            try:
                done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                      errors="replace", timeout=60, check=False)
            except subprocess.TimeoutExpired:
                done = subprocess.CompletedProcess(command, -9, "it ran for more than 60 s")
            with self.lock:
                if done.returncode < 0 or done.returncode > 100 or "Sanitizer" in done.stdout:
                    self.fails("shm-inspect", " ".join(command), done.stdout, done.returncode)
                elif done.returncode == 0:
                    self.passed[f"shm-inspect {look}"] += 1

    def by_turns(self, seconds):
        end = time.monotonic() + seconds
        turn = 0
        while not self.over.is_set() and time.monotonic() < end:
            self.run(*TURNS[turn % len(TURNS)])
            turn += 1
        self.figures["soak-minutes"] = round((time.monotonic() - begin) / 60)
        path = os.path.join(self.build, "soak.figures")
        with open(path, "w", encoding="utf-8") as f:
            for name, value in self.figures.items():
                f.write(f"ledger: {name} {value:.2f}\n")
        say(f"to add the figures: python3 tests/ledger.py --soak tests/README.md {path}")

    def together(self, seconds):
        end = time.monotonic() + seconds

        def repeat(work):
            while not self.over.is_set() and time.monotonic() < end:
                work()

        def look():
            for verb in LOOKS:
                self.inspect(verb)
            time.sleep(0.2)

        threads = [threading.Thread(target=repeat, args=(lambda t=turn: self.run(*t),)) for turn in TOGETHER]
        threads.append(threading.Thread(target=repeat, args=(look,)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(f"ledger: together-seconds {seconds:.0f}")

    def sum_up(self):
        for name in sorted(set(self.passed) | set(self.skipped)):
            say(f"{name}: {self.passed[name]} passed, {self.skipped[name]} skipped")
        # looks come by the thousand: each kind of them is one test
        runs = sum(1 if name.startswith("shm-inspect") else n for name, n in self.passed.items())
        print(f"{runs} passed, {len(self.failed)} failed, {len(self.skipped)} skipped")
        return 1 if self.failed or not self.passed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("build")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--together", type=float, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "little"))
    options = parser.parse_args()
    if (options.minutes is None) == (options.together is None):
        parser.error("give one of --minutes and --together")
    say(f"seed {options.seed}")
    soak = Soak(options.build, options.seed)
    if options.together is not None:
        soak.together(options.together)
    else:
        soak.by_turns(options.minutes * 60)
    return soak.sum_up()


if __name__ == "__main__":
    sys.exit(main())
