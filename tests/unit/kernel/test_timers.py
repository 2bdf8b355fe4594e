"""What the log says of a timer that goes on failing. In a process of its own: only workers are on eventlet."""

import json
import subprocess
import sys

SCRIPT = """
from forecourt.worker import bridge

bridge.install()

import json, os
from types import SimpleNamespace

from structlog.testing import capture_logs

from forecourt.worker import timers

timer = timers.Every(seconds=1)
timer.container = SimpleNamespace(service_name="probe")
timer.method_name, timer._name = "tick", "probe.tick"
said = {}
for now in (0, 1, 2, 300, 301, 302, 601, 602, 603, 604):
    error = None if now in (0, 602, 603) else ValueError("a person's name")
    timers.monotonic = lambda: 1_000.0 + now
    with capture_logs() as lines:
        timer._finished(error)
    said |= {now: line for line in lines}
print(json.dumps(said), flush=True)
os._exit(0)
"""


def test_a_failure_that_goes_on_is_named_again_every_five_minutes() -> None:
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    events = {moment: line["event"] for moment, line in said.items()}
    failing = dict.fromkeys(("1", "301", "601", "604"), "timer fails")
    assert events == {**failing, "602": "timer works again"}
    assert (said["301"]["timer"], said["301"]["error"]) == ("probe.tick", "ValueError")
    assert "a person's name" not in done.stdout
