"""A contender in a process of its own: TensorFlow and PyTorch must share neither memory nor threads."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from bertgrid_tf.errors import UserError
from bertgrid_tf.system.host import process_memory

# transformers imports both frameworks wherever it finds them, for 300 MB and some seconds; its TensorFlow models are
# those of tf_keras, and TensorFlow asks which Keras to take when it is first imported.
# A process that waits for its turn must not hold all of a GPU's memory.
ENVIRONMENT = {
    "tensorflow": {
        "USE_TF": "1",
        "USE_TORCH": "0",
        "TF_USE_LEGACY_KERAS": "1",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    },
    "torch": {"USE_TORCH": "1", "USE_TF": "0"},
}
Reply = dict[str, Any]


def serve(prepare: Callable[[Mapping[str, Any]], Callable[[], Reply]]) -> None:
    """Serve rounds in the child process: call `prepare` with the parent's request, then its result once a round.

    The reply of a round is what that returns, and the peak resident memory so far (bytes).
    """
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a library that prints does not reply
    play = prepare(json.loads(sys.stdin.readline()))
    for _ in sys.stdin:
        reply = play() | {"peak_bytes": process_memory("VmHWM")}
        print(json.dumps(reply), file=replies, flush=True)


class Process(AbstractContextManager["Process"]):
    """The parent's end of a contender's process.

    Args:
        module: Module of `benchmarks.contenders` that calls `serve`.
        framework: Framework that transformers uses there, "tensorflow" or "torch".
        request: Argument of `prepare`, of JSON's types, which gets the start of the process ("began", by
            `time.monotonic`, which all processes share).
        log: File for the output of the process and its libraries.
    """

    def __init__(self, module: str, framework: str, request: Mapping[str, Any], log: Path) -> None:
        self._log = log
        began = monotonic()
        with log.open("w") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"benchmarks.contenders.{module}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                env=os.environ | ENVIRONMENT[framework],
            )
        self._send(json.dumps({**request, "began": began}))

    def play(self) -> Reply:
        """Run one round.

        Raises:
            UserError: The process has ended; the message has the last line of its log.
        """
        self._send("play")
        assert self._process.stdout is not None
        reply = self._process.stdout.readline()
        if not reply:
            raise self._ended()
        result: Reply = json.loads(reply)
        return result

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            print(line, file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise self._ended() from None

    def _ended(self) -> UserError:
        self._process.wait()
        last = self._log.read_text().strip().splitlines()[-1:]
        return UserError(f"The contender {self._log.stem} ended with code {self._process.returncode}: {''.join(last)}.")


@dataclass(frozen=True)
class Contender:
    """A contender: its name, and the arguments of its `Process`."""

    name: str
    module: str
    framework: str
    request: Mapping[str, Any]

    def process(self, log: Path) -> Process:
        """Start the process."""
        return Process(self.module, self.framework, self.request, log)
