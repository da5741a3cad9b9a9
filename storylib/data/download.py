"""The books of the catalogue, fetched politely into a local folder: one request at a time, with pauses, from mirrors.

A book lands under its name when all of it is there. A transfer that breaks off goes on where it stopped, if the server
can do that and the file has not changed; else it starts again.
"""

import hashlib
import http.client
import os
import re
import socket
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path

from storylib.data.catalogue import BOOKS, Entry
from storylib.data.gutenberg import END, LARGEST
from storylib.errors import UserError
from storylib.files import atomic_path

ORIGIN = "https://raw.githubusercontent.com/{origin}"
# {number} is Project Gutenberg's, {tree} the folder of its mirrors: 1/2 for 128. Its own site comes last: it asks
# programs to use mirrors.
MIRRORS = (
    "https://aleph.pglaf.org/cache/epub/{number}/pg{number}.txt",
    "https://aleph.pglaf.org/{tree}/{number}/{number}-0.txt",
    "https://readingroo.ms/{tree}/{number}/{number}-0.txt",
    "https://mirror.csclub.uwaterloo.ca/gutenberg/{tree}/{number}/{number}-0.txt",
    "https://www.gutenberg.org/cache/epub/{number}/pg{number}.txt",
)
HEADERS = {"User-Agent": "storylib (one book at a time, with pauses)", "Accept-Encoding": "identity"}
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})  # what may be over in a while
LONGEST_WAIT = 120  # seconds: a server that asks for more is left for the next
CHUNK = 2**16  # bytes


class Unreachable(Exception):
    """An address that does not give the book; the text says why."""


@dataclass
class Part:
    """What has come of a file, and the tag by which its server knows this version again."""

    data: bytearray = field(default_factory=bytearray)
    tag: str | None = None


@dataclass
class Fetcher:
    """One request at a time. `sleep` is called with the seconds to wait, in front of each request but the first."""

    pause: float = 2.0  # seconds between two requests at least
    tries: int = 4  # of one address
    timeout: float = 30  # seconds without a byte
    sleep: Callable[[float], None] = time.sleep
    requests: int = 0

    def fetch(self, url: str, whole: Callable[[bytes], bool]) -> bytes:
        """The bytes at an address for which `whole` holds; Unreachable with the last reason when the tries are spent.

        Each further try waits twice as long as the one before, or as long as the server asks.
        """
        part, reason, asked = Part(), "", 0.0
        for attempt in range(self.tries):
            self.wait(max(asked, 2.0**attempt if attempt else 0))
            asked = 0.0
            try:
                self.receive(url, part)
                if whole(bytes(part.data)):
                    return bytes(part.data)
                part, reason = Part(), "what came is not the whole book"
            except urllib.error.HTTPError as error:
                reason, asked = f"HTTP {error.code}", retry_after(error.headers.get("Retry-After"))
                if error.code == 416:  # the file has become shorter than what is here of it
                    part = Part()
                elif error.code not in BUSY or asked > LONGEST_WAIT:
                    raise Unreachable(reason + f", to come back in {asked:.0f} s" * (asked > 0)) from error
            except urllib.error.URLError as error:
                reason = str(error.reason)
                if isinstance(error.reason, (socket.gaierror, ConnectionRefusedError)):
                    raise Unreachable(reason) from error  # trying again at once changes nothing
            except (OSError, http.client.HTTPException) as error:
                reason = str(error) or type(error).__name__
        raise Unreachable(f"{reason}; tried {self.tries} times")

    def wait(self, seconds: float) -> None:
        if self.requests:
            self.sleep(max(self.pause, seconds))
        self.requests += 1

    def receive(self, url: str, part: Part) -> None:
        """Add what an address gives, or gives of the rest, to `part`; OSError or HTTPException where it breaks off."""
        rest = {"Range": f"bytes={len(part.data)}-", "If-Range": part.tag} if part.data and part.tag else {}
        with urllib.request.urlopen(urllib.request.Request(url, headers=HEADERS | rest), timeout=self.timeout) as reply:
            begins = re.match(r"bytes (\d+)-", reply.headers.get("Content-Range") or "")
            if reply.status != 206 or not begins or int(begins[1]) != len(part.data):
                part.data.clear()  # this is the file from its beginning
            tag = reply.headers.get("ETag") or reply.headers.get("Last-Modified")
            part.tag = None if tag and tag.startswith("W/") else tag  # a weak tag does not vouch for every byte
            total = len(part.data) + int(reply.headers.get("Content-Length") or 0)
            while chunk := reply.read(CHUNK):
                part.data += chunk
                if len(part.data) > LARGEST:
                    raise Unreachable(f"over {LARGEST >> 20} MiB, too much for a book")
            if len(part.data) < total:
                raise ConnectionError(f"broke off at {len(part.data):,} of {total:,} bytes")


def retry_after(value: str | None) -> float:
    """Seconds that a Retry-After header asks for, given as such or as a date; 0 without one that can be read.

    >>> retry_after("7"), retry_after("soon"), retry_after(None)
    (7.0, 0.0, 0.0)
    """
    if value and value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(timezone.utc)).total_seconds())
    except (TypeError, ValueError):
        return 0.0


def download(
    folder: Path | None = None,
    books: Sequence[Entry] = BOOKS,
    origin: str = ORIGIN,
    mirrors: Sequence[str] = MIRRORS,
    fetcher: Fetcher | None = None,
) -> Path:
    """Fetch the books not there yet to `folder/GENRE/pgNUMBER.txt`; gives the folder, or that in the user's cache.

    Each is tried where the edition of the catalogue's checksum is kept, then at the mirrors; what comes from there, and
    where no checksum is known, must have Project Gutenberg's last line. Warns of books in another edition than the
    catalogue's. Raises UserError for a book that no address gives; those that have come stay.
    """
    from tqdm import tqdm

    folder = cache() / "books" if folder is None else Path(folder).expanduser()
    fetcher = fetcher or Fetcher()
    others = []
    for book in tqdm(books, desc="books", unit="book", disable=None):
        path = folder / book.genre / f"pg{book.number}.txt"
        if not path.exists():
            raw = fetch_book(book, origin, mirrors, fetcher, folder)
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as part:
                part.write_bytes(raw)
        if book.sha256 and digest(path.read_bytes()) != book.sha256:
            others.append(book.title)
    if others:
        counted = (
            f"{len(others)} of {len(books)} books are in another edition than the one that the cleaning was tried on"
        )
        warnings.warn(f"{counted}; look at their rows: {'; '.join(others)}", stacklevel=2)
    return folder


def fetch_book(book: Entry, origin: str, mirrors: Sequence[str], fetcher: Fetcher, folder: Path) -> bytes:
    addresses = {mirror.format(number=book.number, tree=tree(book.number)): ends for mirror in mirrors}
    if book.origin:
        same = (lambda raw: digest(raw) == book.sha256) if book.sha256 else ends
        addresses = {origin.format(origin=book.origin): same} | addresses
    reasons = []
    for url, whole in addresses.items():
        try:
            return fetcher.fetch(url, whole)
        except Unreachable as error:
            reasons.append(f"{url}: {error}")
    advice = f"try again later, or go on with those in {folder}: give it as the source"
    raise UserError(f"{book.title} is not to be had ({'; '.join(reasons) or 'no mirrors'}); {advice}")


def tree(number: int) -> str:
    """The folder of a book on a mirror: its digits but the last.

    >>> tree(345), tree(7)
    ('3/4', '0')
    """
    return "/".join(str(number)[:-1]) or "0"


def ends(raw: bytes) -> bool:
    """Whether Project Gutenberg's last line is there."""
    return bool(END.search(raw.decode("latin-1")))


def digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def cache() -> Path:
    """The user's cache folder for this library."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "storylib"
