"""Progress of the command line: bars on a terminal, finished lines alone in a pipe."""

import subprocess
import sys

import pytest

# Two stages, the second of which works in two pieces, as they report.
WORK = """
import time
from show1_engine.commands.terminal import Bar, say

first, second = Bar("keyframes"), Bar("upscale")
first.plan("8 frames, 3 steps")
for step in range(1, 4):
    first(step, 3)
    time.sleep(0.12)
say("keyframes: 8 frames 64x40")
for piece in range(2):
    second.plan("the same for every piece")
    for step in range(1, 3):
        second(step, 2)
        time.sleep(0.12)  # a bar is drawn at most ten times a second
    second.note = f"{8 * (piece + 1)} frames written"
second(1, 2)
say("error: out of luck")
print("out.mp4")
"""
SAID = [
    "keyframes: 8 frames, 3 steps",
    "keyframes: 8 frames 64x40",
    "upscale: the same for every piece",
    "error: out of luck",
]


def test_a_pipe_gets_finished_lines_alone(pack):
    done = subprocess.run(
        [sys.executable, "-c", WORK], cwd=pack, capture_output=True, text=True, check=True
    )
    assert done.stdout == "out.mp4\n"
    assert done.stderr.splitlines() == SAID


def test_generate_tells_a_pipe_what_each_stage_does_and_what_it_made(pack):
    words = ["generate", "--prompt", "a red circle", "--until", "interpolate"]
    words += ["--keyframes-num-frames", "2", "--keyframes-steps", "6", "--interpolate-steps", "4"]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "show1_engine", *words],
        cwd=pack,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    lines = done.stderr.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["keyframes"] * 2 + ["interpolated"] * 2
    assert lines[0].endswith("; 6 steps") and lines[2].endswith("; 4 steps")


def test_a_terminal_gets_bars_that_go_when_they_are_done(pack):
    shown = on_a_terminal([sys.executable, "-c", WORK], pack)
    for what in ("keyframes:  33%", "2/3", "upscale:  50%", "16 frames written"):
        assert what in shown
    # What stays: every line as it stands after its last carriage return.
    lines = [line.rstrip("\r").rpartition("\r")[2].strip() for line in shown.split("\n")]
    assert [line for line in lines if line] == SAID


def on_a_terminal(command: list[str], folder) -> str:
    """What a command shows on a terminal of 100 columns, by its stderr."""
    pty = pytest.importorskip("pty")  # there is none on Windows
    import fcntl
    import os
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 4096):
                shown += part
        except OSError:  # Linux says so when the other side is closed
            pass
        finally:
            os.close(ours)
    assert process.returncode == 0
    return shown.decode()
