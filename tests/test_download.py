"""The downloader against a server on this machine that misbehaves as real ones do."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from storylib.data.catalogue import BOOKS, Entry
from storylib.data.download import Fetcher, download, retry_after
from storylib.errors import UserError

TEXT = ("\n".join(f"Line {number} of the tale." for number in range(20_000)) + "\n").encode()
BOOK = TEXT + b"*** END OF THE PROJECT GUTENBERG EBOOK DRACULA ***\n"
SHA = hashlib.sha256(BOOK).hexdigest()


class Server(ThreadingHTTPServer):
    """Answers each path with its script, one entry a request, the last for ever; keeps the requests it got."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.scripts, self.seen = {}, []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"

    def do_GET(self):
        script = self.server.scripts.get(self.path, ["missing"])
        action = script.pop(0) if len(script) > 1 else script[0]
        self.server.seen.append((self.path, self.headers.get("Range"), self.headers.get("If-Range")))
        getattr(self, action)()

    def missing(self):
        self.send_error(404)

    def whole(self, tag='"v1"', book=BOOK):
        """The book; of it what is asked for, if it is still that version."""
        start = 0
        if self.headers.get("Range") and self.headers.get("If-Range") == tag:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(book) - 1}/{len(book)}")
        else:
            self.send_response(200)
        self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(book) - start))
        self.end_headers()
        self.wfile.write(book[start:])

    def drops(self, headers=(("ETag", '"v1"'),)):
        """Half of the book, and the line goes dead."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(BOOK)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(BOOK[: len(BOOK) // 2])

    def drops_without_tag(self):
        self.drops(())

    def changed(self):
        self.whole('"v2"', BOOK.replace(b"Line", b"Word"))

    def truncated(self):
        """Half of the book, announced as all of it."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(BOOK) // 2))
        self.end_headers()
        self.wfile.write(BOOK[: len(BOOK) // 2])

    def unannounced(self):
        """Half of the book without any announcement of its length."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(BOOK[: len(BOOK) // 2])

    def captive(self):
        """The page on which a hotel asks for a password."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>Welcome, guest</html>")

    def slow_down(self):
        self.send_response(429)
        self.send_header("Retry-After", "7")
        self.end_headers()

    def tomorrow(self):
        self.send_response(503)
        self.send_header("Retry-After", "86400")
        self.end_headers()

    def busy(self):
        self.send_error(503)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def get(server, tmp_path):
    """Download one book by these scripts of origin and mirror; its path, and the seconds waited between requests."""

    def run(origin=(), mirror=(), sha256=SHA, **changes):
        server.scripts = {"/o/dracula.txt": [*origin] or ["missing"], "/3/4/345/345-0.txt": [*mirror] or ["missing"]}
        waits = []
        entry = Entry(
            number=345, title="Dracula", author="", genre="horror", origin="dracula.txt", sha256=sha256, **changes
        )
        folder = download(
            tmp_path / "books",
            books=[entry],
            origin=server.url + "/o/{origin}",
            mirrors=[server.url + "/{tree}/{number}/{number}-0.txt"],
            fetcher=Fetcher(pause=1, sleep=waits.append),
        )
        return folder / "horror" / "pg345.txt", waits

    return run


def files(tmp_path):
    return sorted(path.name for path in tmp_path.rglob("*") if path.is_file())


def test_a_book_is_fetched_once(get, server):
    path, waits = get(["whole"])
    assert path.read_bytes() == BOOK and waits == [] and len(server.seen) == 1
    assert get(["missing"])[0].read_bytes() == BOOK and len(server.seen) == 1


def test_a_broken_transfer_goes_on_where_it_stopped(get, server):
    path, waits = get(["drops", "drops", "whole"])
    assert path.read_bytes() == BOOK
    half = len(BOOK) // 2
    # the second answer ignores the range and breaks off again at the half
    assert [seen[1:] for seen in server.seen] == [(None, None)] + [(f"bytes={half}-", '"v1"')] * 2
    assert waits == [2, 4]


def test_without_a_tag_it_starts_again(get, server):
    path, _ = get(["drops_without_tag", "whole"])
    assert path.read_bytes() == BOOK and [seen[1] for seen in server.seen] == [None, None]


def test_two_versions_are_never_mixed(get):
    path, _ = get(["drops", "changed"], sha256=hashlib.sha256(BOOK.replace(b"Line", b"Word")).hexdigest())
    assert path.read_bytes() == BOOK.replace(b"Line", b"Word")


@pytest.mark.parametrize("action", ["truncated", "unannounced", "captive", "changed"])
def test_what_is_not_the_book_is_not_kept(get, tmp_path, action):
    assert get([action, "whole"])[0].read_bytes() == BOOK
    (tmp_path / "books" / "horror" / "pg345.txt").unlink()
    with pytest.raises(UserError, match="what came is not the whole book; tried 4 times"):
        get([action])
    assert files(tmp_path) == []


def test_it_waits_as_long_as_the_server_asks(get):
    assert get(["slow_down", "busy", "whole"])[1] == [7, 4]


def test_a_server_that_asks_for_a_day_is_left(get, server):
    path, waits = get(["tomorrow"], ["whole"])
    assert path.read_bytes() == BOOK and waits == [1]
    assert [seen[0] for seen in server.seen] == ["/o/dracula.txt", "/3/4/345/345-0.txt"]


def test_retry_after_as_a_date():
    assert 50 < retry_after(_in_a_minute()) <= 60
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0


def _in_a_minute():
    from datetime import datetime, timedelta, timezone
    from email.utils import format_datetime

    return format_datetime(datetime.now(timezone.utc) + timedelta(seconds=60), usegmt=True)


def test_a_mirror_may_have_another_edition(get):
    with pytest.warns(UserWarning, match="1 of 1 books are in another edition .*: Dracula"):
        path, waits = get(["missing"], ["truncated", "changed"])
    assert b"Word 19999" in path.read_bytes() and waits == [1, 2]


def test_an_unknown_checksum_needs_the_last_line(get):
    assert get(["captive", "whole"], sha256=None)[0].read_bytes() == BOOK


def test_no_address_has_it(get, tmp_path):
    with pytest.raises(UserError) as error:
        get(["missing"], ["busy"])
    text = str(error.value)
    assert text.startswith("Dracula is not to be had (") and "HTTP 404" in text and "HTTP 503; tried 4 times" in text
    assert files(tmp_path) == [] and "\n" not in text


def test_nobody_listens(tmp_path):
    server = Server()  # a port that is free again
    server.server_close()
    fetcher = Fetcher(sleep=lambda seconds: pytest.fail("waiting does not help here"))
    entry = Entry(number=345, title="Dracula", author="", genre="horror")
    with pytest.raises(UserError, match="refused"):
        download(tmp_path, books=[entry], mirrors=[server.url + "/{number}"], fetcher=fetcher)


def test_books_that_came_stay(server, tmp_path):
    server.scripts = {"/1": ["whole"], "/2": ["missing"]}
    entries = [Entry(number=number, title=f"Book {number}", author="", genre="horror") for number in (1, 2)]
    with pytest.raises(UserError, match="Book 2 is not to be had"):
        download(tmp_path, books=entries, mirrors=[server.url + "/{number}"], fetcher=Fetcher(sleep=lambda _: None))
    assert files(tmp_path) == ["pg1.txt"]


def test_the_catalogue():
    assert len(BOOKS) == 14 and len({book.number for book in BOOKS}) == 14
    assert [book.genre for book in BOOKS].count("horror") == 6
    assert [book.title for book in BOOKS if not book.sha256] == ["The Thousand and One Nights, Volume I"]
    assert all(bool(book.origin) == bool(book.sha256) for book in BOOKS)
