"""Ctrl-C and SIGTERM held back until a whole iteration is done, so that what is saved then is exact."""

import signal
import threading

HELD = (signal.SIGINT, signal.SIGTERM)


class HeldSignals:
    """A context in which the first signal is only noted, in `came`, and delivered at the end; a second one is not held.

    Outside the main thread, where Python delivers no signals, it does nothing.
    """

    def __init__(self) -> None:
        self.came: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "HeldSignals":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in HELD}
        return self

    def __exit__(self, *exception: object) -> None:
        self._restore()
        if self.came is not None:
            signal.raise_signal(self.came)
            raise KeyboardInterrupt(f"signal {self.came} came and its handler returned")

    def _note(self, number: int, frame: object) -> None:
        if self.came is not None:
            self._restore()
            signal.raise_signal(number)
        self.came = number

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
