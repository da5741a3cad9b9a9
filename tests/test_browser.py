"""The page as a child meets it: Voilà serves it, a headless Chromium opens it, a hand or a keyboard uses it.

    PICKER_PICTURE=figures/picker.png python -m pytest tests/test_browser.py -k real

also takes the picture for the README (nicest with the fonts Lato and Noto Color Emoji).
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import pytest

from storylib.feedback import FeedbackStore
from storylib.picking import groups

api = pytest.importorskip("playwright.sync_api", reason="the playwright package is not installed")
nbformat = pytest.importorskip("nbformat", reason="the voila package is not installed")
pytest.importorskip("voila", reason="the voila package is not installed")

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium found; on Debian: apt-get install chromium")
PATIENCE = 30_000  # milliseconds for a click's answer on a busy machine
START = 120_000  # a kernel is started for each page
FIRST_STORY = 150_000  # torch and the model are loaded for it
WIDE, PHONE = {"width": 1100, "height": 900}, {"width": 360, "height": 740}

NEVER_SHOWN = "print('this cell is not of the page'); 1 / 0"
REAL = """
from storylib.feedback import FeedbackStore
from storylib.storyteller import storyteller
from storylib.widgets import emoji_picker
emoji_picker(storyteller(), store=FeedbackStore("feedback.sqlite"), folder="stories", surprise_seed=1)
"""
SCRIPTED = """
import time
from types import SimpleNamespace
from storylib.widgets import emoji_picker
asked = []

def tell(emojis, *, seed, max_new_tokens, on_text):
    asked.append(emojis)
    for _ in range(4):
        on_text("A slow fox. ")
        time.sleep(0.5)
    html = "<script>window.ran = 1</script> <img src=x onerror='window.ran = 1'> A <b>bold</b> fox."
    return SimpleNamespace(prompt="x", seed=seed, text=f"Story {len(asked)}. {html}", ended="eos")

emoji_picker(tell)
"""


def write_notebook(path: Path, page: str) -> None:
    cells = [
        nbformat.v4.new_code_cell(NEVER_SHOWN),
        nbformat.v4.new_code_cell(page.strip(), metadata={"tags": ["page"]}),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    write_notebook(folder / "real.ipynb", REAL)
    write_notebook(folder / "scripted.ipynb", SCRIPTED)
    return folder


@pytest.fixture(scope="module")
def address(folder):
    """Where the folder's pages are served."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "storylib.demo", str(folder), "--port", str(port), "--no-browser"]
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    try:
        for _ in range(300):
            time.sleep(0.2)
            if server.poll() is not None:
                break
            try:
                with urlopen(f"http://127.0.0.1:{port}/", timeout=5):
                    yield f"http://127.0.0.1:{port}/voila/render"
                    return
            except OSError:
                pass
        pytest.fail("the page is not served: " + (folder / "server.log").read_text()[-2000:])
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


@pytest.fixture(scope="module")
def browser():
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=START)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, address):
    """Opens a page on its own; nothing outside this machine is asked for, and no dialog may open."""
    contexts, dialogs = [], []

    def visit(name: str, viewport: dict = WIDE):
        context = browser.new_context(viewport=viewport)
        context.route(re.compile(r"^https?://(?!127\.0\.0\.1)"), lambda route: route.abort())
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        page.goto(f"{address}/{name}.ipynb", timeout=START, wait_until="commit")
        button(page, "hedgehog").wait_for(timeout=START)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not dialogs


def button(page, name: str):
    """The button whose text ends so; emojis stand before it."""
    return page.get_by_role("button", name=re.compile(f"{name}$"))


def choose(page, *names: str) -> None:
    for name in names:
        button(page, name).filter(visible=True).last.click()
    page.get_by_text("All three are chosen").wait_for()


def story_after(page, press: Callable[[], None], timeout: int = PATIENCE) -> str:
    """The finished story that a press brings; it must be another than the one that was there."""
    before = page.locator(".storylib-told").text_content()
    press()
    page.wait_for_function(
        """before => document.querySelector('.storylib-notice').textContent === 'Your story is ready.'
            && ![before, ''].includes(document.querySelector('.storylib-told').textContent)""",
        arg=before,
        timeout=timeout,
    )
    return page.locator(".storylib-told").inner_text()


def rows(path: Path, count: int) -> list[dict]:
    """The ratings of a store, once there are so many."""
    deadline = time.monotonic() + PATIENCE / 1000
    while len(found := FeedbackStore(path).ratings()) < count and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def fits(page) -> bool:
    """Whether nothing has to be scrolled sideways."""
    return page.evaluate(
        "() => [...document.querySelectorAll('.storylib, .storylib *')].every("
        "e => e.getBoundingClientRect().right <= innerWidth + 1)"
    )


CONTRASTS = """() => {
  const numbers = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ground = e => {
    for (; e; e = e.parentElement) {
      const colour = numbers(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll('.storylib button, .storylib p, .storylib h1, .storylib h2, .storylib label')]
    .filter(e => e.offsetParent && e.textContent.trim())
    .map(e => {
      const [a, b] = [light(numbers(getComputedStyle(e).color)), light(ground(e))];
      return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.textContent];
    })
    .filter(([ratio]) => ratio < 4.5);
}"""  # the formula of https://www.w3.org/TR/WCAG21/#dfn-contrast-ratio


def test_a_real_story_is_told_liked_kept_and_fits_a_phone(visit, folder, tmp_path):
    page = visit("real")
    assert page.title() == "Three emojis, one bedtime story"
    assert (
        page.get_by_text("this cell is not of the page").count() == 0 and page.get_by_text("emoji_picker").count() == 0
    )
    button(page, "Tell me a story").click()
    page.get_by_text("Choose an emoji for “Who?” and “Where?” and “What about?” first").wait_for()
    choose(page, "hedgehog", "castle", "learning")
    page.screenshot(path=tmp_path / "picked.png")
    assert page.evaluate(CONTRASTS) == []
    story = story_after(page, button(page, "Tell me a story").click, FIRST_STORY)
    assert "hedgehog" in story and story.count(".") >= 3
    assert page.locator(".storylib-card h2").inner_text().endswith("hedgehog, castle, learning")
    assert page.evaluate(CONTRASTS) == []
    page.screenshot(path=tmp_path / "told.png")
    if picture := os.environ.get("PICKER_PICTURE"):
        page.mouse.move(0, 0)
        page.set_viewport_size({"width": 1000, "height": 1000})
        form = page.locator(".storylib").bounding_box()
        page.screenshot(path=picture, clip={"x": 0, "y": 0, "width": 1000, "height": form["height"] + 2 * form["y"]})

    button(page, "I like it").click()
    page.get_by_text("Thank you").wait_for()
    (rating,) = rows(folder / "feedback.sqlite", 1)
    assert rating["score"] == 5 and rating["story"].split() == story.split()
    button(page, "Keep").click()
    page.get_by_text("Kept in stories/hedgehog-castle-learning.md").wait_for()
    assert "hedgehog, castle, learning" in (folder / "stories" / "hedgehog-castle-learning.md").read_text("utf-8")

    page.get_by_label("Search").fill("bunn")
    button(page, "hedgehog").filter(visible=True).nth(1).wait_for(state="hidden")
    button(page, "rabbit").click()
    button(page, "Who\\? rabbit").wait_for()
    button(page, "Surprise me").click()
    page.get_by_text("A surprise").wait_for()
    surprise = [page.locator(".storylib-slots button").nth(place).inner_text() for place in range(3)]
    for told, (question, group) in zip(surprise, groups().items(), strict=True):
        emoji, words = told.split("\n")
        assert words == f"{question} {group[emoji]}"
    another = story_after(page, button(page, "Tell me a story").click)
    assert story_after(page, button(page, "Again").click) not in (story, another)

    page.set_viewport_size(PHONE)
    button(page, "Settings ▾").click()
    page.get_by_label("Age of the child").select_option("5 to 7 years")
    page.get_by_text("For a child of 5 to 7 years").wait_for()
    page.wait_for_function("() => document.querySelector('.storylib').getBoundingClientRect().right <= innerWidth")
    assert fits(page) and page.evaluate(CONTRASTS) == []
    page.screenshot(path=tmp_path / "phone.png")


def test_a_keyboard_is_enough(visit):
    page = visit("scripted")

    def focused() -> str:
        return page.evaluate("document.activeElement.innerText ?? ''").replace("\n", " ").strip()

    button(page, "Who\\?").focus()
    for stop in ("Where?", "What about?", "", "Surprise me", "Clear", "girl"):  # the search field has no text
        page.keyboard.press("Tab")
        assert focused().endswith(stop) and (stop or page.evaluate("document.activeElement.tagName") == "INPUT")
    outline = page.evaluate("getComputedStyle(document.activeElement).outline")
    assert "solid" in outline and "3px" in outline
    page.keyboard.press("Enter")
    for slot, first in (("Who\\? girl", "school"), ("Where\\? school", "friendship")):
        button(page, slot).wait_for()
        button(page, first).wait_for()
        page.keyboard.press("Tab")  # goes on where the pressed button was, at the first of the next group
        assert focused().endswith(first)
        page.keyboard.press("Enter")
    page.get_by_text("All three are chosen").wait_for()


def test_two_clicks_tell_one_story_as_text_and_a_closed_page_leaves_others_be(visit, tmp_path):
    page = visit("scripted", PHONE)
    choose(page, "fox", "sea", "music")
    story = story_after(page, button(page, "Tell me a story").dblclick)
    assert story == "Story 1. <script>window.ran = 1</script> <img src=x onerror='window.ran = 1'> A <b>bold</b> fox."
    assert page.evaluate("window.ran") is None
    assert page.locator(".storylib-told").locator("script, img, b").count() == 0
    page.screenshot(path=tmp_path / "script.png")
    assert story_after(page, button(page, "Tell me a story").click).startswith("Story 2.")
    button(page, "Again").click()
    page.get_by_text("A slow fox.").wait_for()
    page.close()  # in mid-story
    page = visit("scripted", PHONE)
    choose(page, "bee", "moon", "hope")
    assert story_after(page, button(page, "Tell me a story").click).startswith("Story 1.") and fits(page)
