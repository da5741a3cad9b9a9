"""One job at a time beside the kernel, so that a cell or a click never waits for a story."""

from collections.abc import Callable
from contextlib import suppress
from threading import Lock, Thread

from storylib.errors import UserError


class OneAtATime:
    """Runs a job in a thread and tells how it failed in a plain sentence.

    `failed` is given the sentence; `done` is called last, however the job ended. Both run in the job's thread.
    """

    def __init__(self, failed: Callable[[str], None], done: Callable[[], None]) -> None:
        self.failed, self.done = failed, done
        self.busy = Lock()
        self.thread: Thread | None = None

    def start(self, job: Callable[[], None]) -> bool:
        """Start the job, or say False where another one is still running."""
        if not self.busy.acquire(blocking=False):
            return False
        self.thread = Thread(target=self.run, args=(job,), daemon=True)  # a kernel may end in mid-story
        self.thread.start()
        return True

    def run(self, job: Callable[[], None]) -> None:
        try:
            job()
        except Exception as error:
            with suppress(Exception):  # of a page that is gone: there is nobody to tell
                self.failed(sentence(error))
        finally:
            with suppress(Exception):
                self.done()
            self.busy.release()  # whatever happened, the next job may start

    def wait(self, timeout: float | None = None) -> bool:
        """Wait up to `timeout` seconds for the job; whether none is running any more."""
        if self.thread:
            self.thread.join(timeout)
        return not self.busy.locked()


def sentence(error: Exception) -> str:
    """An error as a reader should see it.

    >>> sentence(UserError("no adapter in runs/mine; train one or name another folder"))
    'No adapter in runs/mine; train one or name another folder.'
    """
    text = " ".join(str(error).split()) or type(error).__name__
    if not isinstance(error, UserError):
        text = f"something went wrong ({type(error).__name__}: {text}); try again"
    return text[0].upper() + text[1:] + ("" if text[-1] in ".!?" else ".")
