"""Show a run while it goes on, in a notebook; what stands at the end is a plain picture."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from storylib.files import read_log


@contextmanager
def follow(run: str | Path, draw: Callable[[list[dict]], object], seconds: float = 3.0) -> Iterator[None]:
    """Show `draw(log)` of the run in that folder every few seconds until the block ends, and once more then.

    draw: makes of the log, as `storylib.plots` takes it, what is to be shown. It is called from the first logged loss
    on. What it raises in between is left for the last call, in which it shows.
    """
    from IPython.display import display

    path, done = Path(run) / "log.jsonl", threading.Event()
    handle = display({"text/plain": "waiting for the first step …"}, raw=True, display_id=True)

    def show() -> None:
        log = read_log(path)
        if any("loss" in row for row in log):
            handle.update(draw(log))

    def watch() -> None:
        while not done.wait(seconds):
            try:
                show()
            except Exception:  # such as a log that is being written
                continue

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
        show()
