"""A process that decodes images and that can be stopped, for those that may take long.

Only the system can stop a library in the middle of an image. The process has a limit on its CPU time and on its memory,
is ended if nobody waits for the image any more, and takes its memory with it.

    python -m service.decoder    # what `DecoderProcess` starts
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any, Final

import cv2
import numpy as np

from service import images
from service.errors import InvalidImageError, MeaaError, StoppedError, TooLargeError
from service.images import Frame
from service.markers import Header

THREAD_PIXELS: Final[int] = 2_100_000
"""Most pixels of an image that needs no process, without those that its decoder skips: a full-HD frame."""

THREAD_RATIO: Final[int] = 3
"""Largest ratio of the sides of an image that needs no process. In longer images the detector may find more candidates:
one made of faces takes 0.1 s with sides of 3 to 2, and 0.5 s with sides of 27 to 1 (measured)."""

THREAD_VISITS: Final[int] = 20 * THREAD_PIXELS
"""Most pixels times scans of a JPEG file that needs no process."""

MEMORY: Final[int] = 240_000_000
"""Bytes that a process may allocate for an image; a transparent WebP of 25 megapixels takes 220 MB (measured)."""

_IDLE_SECONDS: Final[float] = 5.0
"""Time after which a process without work is ended; it starts in 0.15 s."""

_PATIENCE: Final[float] = 5.0
"""Longest wall-clock time per second of CPU time: on a busy machine a process gets a part of a core."""

_NICE: Final[int] = 5
"""Niceness of a process, so that large images do not slow down small ones."""

_READY: Final[bytes] = b"+"
_LENGTH: Final = struct.Struct("<I")
_ERRORS: Final[dict[str, type[MeaaError]]] = {kind.__name__: kind for kind in (InvalidImageError, TooLargeError)}


def needs_process(header: Header, working_side: int | None) -> bool:
    """Whether an image may take long or much memory, whatever is in it.

    Args:
        header: Header of the image.
        working_side: See `service.images.load`.
    """
    if header.uncommon or max(header.width, header.height) > THREAD_RATIO * min(header.width, header.height):
        return True
    if header.reducible:
        factor = images.reduction(min(header.width, header.height), working_side)
        return header.pixels > THREAD_PIXELS * factor**2
    most = THREAD_PIXELS if header.scans == 1 else THREAD_VISITS // header.scans
    return header.pixels > most


class DecoderProcess:
    """A process that decodes images, one at a time; started when it is needed, ended when it is idle."""

    def __init__(self, seconds: float) -> None:
        """No process yet.

        Args:
            seconds: CPU time that an image may take.
        """
        self._seconds = seconds
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._idle: threading.Timer | None = None
        self._stopped = False

    def load(self, header: Header, working_side: int | None = None) -> Frame:
        """As `service.images.load`, in the process.

        Raises:
            InvalidImageError: The image is corrupt or truncated, or the process failed at it.
            TooLargeError: The image takes more time or memory than it may.
            StoppedError: `stop` was called.
            RuntimeError: The process could not be started.
        """
        with self._turn:
            if self._idle is not None:
                self._idle.cancel()
            self._stopped = False
            overdue = _start_timer(_PATIENCE * self._seconds, self._kill)
            try:
                return _exchange(self._started(), header, working_side, self._seconds)
            except (OSError, EOFError):
                raise self._failure() from None
            finally:
                overdue.cancel()
                self._idle = _start_timer(_IDLE_SECONDS, self._end_idle)

    def stop(self) -> None:
        """End the decoding in progress, if there is one. May be called from any thread."""
        self._stopped = True
        self._kill()

    def close(self) -> None:
        """End the process, if there is one, after the image that it decodes."""
        with self._turn:
            self._end()

    def _started(self) -> subprocess.Popen[bytes]:
        """The process, which is started if there is none.

        Raises:
            RuntimeError: It could not be started.
        """
        if self._process is not None:
            return self._process
        # The settings hold the tokens, which a library that reads hostile files need not see.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MEAA_")}
        path = os.pathsep.join(filter(None, [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH")]))
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__],
                env={**inherited, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        except OSError as error:
            raise RuntimeError("the decoder did not start") from error
        if _output(self._process).read(1) != _READY and not self._stopped:
            raise RuntimeError(f"the decoder did not start: exit status {self._end()}")
        return self._process

    def _failure(self) -> Exception:
        """The error for an image at which the process ended."""
        status = self._end()
        if self._stopped:
            return StoppedError()
        if status in (-signal.SIGPROF, -signal.SIGKILL):  # by its own timer, or overdue
            return TooLargeError(
                f"The image takes more than {self._seconds:g} seconds to decode. "
                "Scale it down, or save it as a plain JPEG."
            )
        return InvalidImageError("The image cannot be decoded. Save it again with another program.")

    def _kill(self) -> None:
        process = self._process
        if process is not None:
            process.kill()

    def _end(self) -> int | None:
        """End the process; its exit status, None if there was none."""
        process, self._process = self._process, None
        if process is None:
            return None
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(timeout=1)  # without an input it ends by itself
        process.kill()
        return process.wait()

    def _end_idle(self) -> None:
        if self._turn.acquire(blocking=False):
            self._end()
            self._turn.release()


def _start_timer(seconds: float, function: Any) -> threading.Timer:
    timer = threading.Timer(seconds, function)
    timer.daemon = True
    timer.start()
    return timer


def _output(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdout is not None
    return process.stdout


def _exchange(process: subprocess.Popen[bytes], header: Header, working_side: int | None, seconds: float) -> Frame:
    """Send an image to a process, and receive its frame.

    Raises:
        InvalidImageError, TooLargeError: See `DecoderProcess.load`.
        OSError, EOFError: The process has ended.
    """
    assert process.stdin is not None
    request = {
        "header": {name: value for name, value in vars(header).items() if name != "content"},
        "length": len(header.content),
        "working_side": working_side,
        "seconds": seconds,
    }
    _send(process.stdin, request, header.content)
    output = _output(process)
    answer = _receive(output)
    if "error" in answer:
        raise _ERRORS[answer["error"]](answer["message"])
    pixels = np.empty(answer["shape"], np.uint8)
    if output.readinto(pixels.data.cast("B")) < pixels.size:  # type: ignore[attr-defined]
        raise EOFError
    return Frame(pixels, answer["width"], answer["height"])


def _send(stream: IO[bytes], message: dict[str, Any], content: bytes | memoryview = b"") -> None:
    """Write a message and bytes that belong to it."""
    text = json.dumps(message).encode()
    stream.write(_LENGTH.pack(len(text)) + text)
    stream.write(content)
    stream.flush()


def _receive(stream: IO[bytes]) -> dict[str, Any]:
    """Read a message.

    Raises:
        EOFError: The other process has ended.
    """
    message: dict[str, Any] = json.loads(_read(stream, *_LENGTH.unpack(_read(stream, _LENGTH.size))))
    return message


def _read(stream: IO[bytes], count: int) -> bytes:
    """Read bytes from a stream with a buffer.

    Raises:
        EOFError: There are fewer.
    """
    data = stream.read(count)
    if len(data) < count:
        raise EOFError
    return data


def serve() -> None:
    """Decode the images that arrive on the standard input, until it ends."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C ends the worker, and the end of the input this process
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    os.nice(_NICE)
    cv2.setNumThreads(1)
    _limit_resources()
    answers.write(_READY)
    answers.flush()
    with contextlib.suppress(EOFError):
        while True:
            _serve_one(requests, answers)


def _serve_one(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Decode one image.

    Raises:
        EOFError: The input has ended.
    """
    request = _receive(requests)
    header = Header(**request["header"], content=_read(requests, request["length"]))
    signal.setitimer(signal.ITIMER_PROF, request["seconds"])  # after that time the system ends this process
    answer, pixels = _load(header, request["working_side"])
    signal.setitimer(signal.ITIMER_PROF, 0)
    _send(answers, answer, pixels)


def _limit_resources() -> None:
    """Forbid core dumps and files, and limit the memory if the system can (Linux does, macOS does not)."""
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        resource.setrlimit(limit, (0, 0))
    with contextlib.suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[5])
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _load(header: Header, working_side: int | None) -> tuple[dict[str, Any], bytes | memoryview]:
    """The answer to a request: the message, and the pixels if there are any."""
    try:
        frame = images.load(header, working_side)
    except InvalidImageError as error:
        # The libraries do not tell whether they found damage or no memory.
        message = f"{error} If it is whole, scale it down, or save it as a plain JPEG: it may take too much memory."
        return {"error": InvalidImageError.__name__, "message": message}, b""
    except (MemoryError, cv2.error):
        message = "The image takes too much memory to decode. Scale it down, or save it as a plain JPEG."
        return {"error": TooLargeError.__name__, "message": message}, b""
    answer = {"shape": frame.pixels.shape, "width": frame.width, "height": frame.height}
    return answer, frame.pixels.data.cast("B")


if __name__ == "__main__":
    serve()
