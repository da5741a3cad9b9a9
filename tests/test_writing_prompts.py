"""Tokens become text again, posts become stories, files become splits; and all that is wrong with files."""

import csv
import json
import re
from pathlib import Path

import datasets
import pytest

from storylib import data
from storylib.data import writing_prompts
from storylib.data.detokenise import restore
from storylib.data.forum import notice, split_tag, strip_notes
from storylib.data.writing_prompts import WISHES, load, prepare
from storylib.errors import UserError
from storylib.files import DATA
from storylib.prompts import wish_prompt

SAMPLES = Path(__file__).resolve().parents[2] / "shared" / "corpora" / "writingprompts"
COLUMNS = ["prompt", "completion", "premise", "tag", *WISHES]
FOX = "The fox came to the bridge and the toll man held out his hand ."

PAIRS = [  # as tokens, as text
    (
        "`` I do n't know , '' said the miller , `` and I ca n't ask . ''",
        '"I don\'t know," said the miller, "and I can\'t ask."',
    ),
    (
        "She 's late . <newline> <newline> We 'd have gone , they 'll say , if you 're sure you 've time .",
        "She's late.\n\nWe'd have gone, they'll say, if you're sure you've time.",
    ),
    (
        "I 'm gon na sing . You wan na hear ? I got ta , I can not help it .",
        "I'm gonna sing. You wanna hear? I gotta, I cannot help it.",
    ),
    ("The door opened -- slowly -- and then -- -- nothing .", "The door opened—slowly—and then—nothing."),
    (
        "The map ( the old one ) lay open [ torn ] ; it cost $ 40 , 10 % off .",
        "The map (the old one) lay open [torn]; it cost $40, 10% off.",
    ),
    ("*What was that ? * , he thought . It was _ very _ dark .", "*What was that?*, he thought. It was _very_ dark."),
    ("“ It ’ s mine , ” he said . “ Don ’ t ! ”", '"It\'s mine," he said. "Don\'t!"'),
    (
        "Wait ... what ? ! The sailors ' boots , fillin ' with water !",
        "Wait... what?! The sailors' boots, fillin' with water!",
    ),
    (
        "'Twas `` the '' night , 't was cold , with a .45 in his hand : )",
        "'Twas \"the\" night, 'twas cold, with a .45 in his hand :)",
    ),
    (
        "Dear < name > , tea & amp ; cake at 5 o'clock ; bring the kid ( s ) .",
        "Dear <name>, tea & cake at 5 o'clock; bring the kid(s).",
    ),
]
LEFTOVERS = {
    "a newline token": r"<newline>",
    "the tokeniser's quotation marks": r"``|''(?!')",
    "curly quotation marks": r"[“”‘’]",
    "a cut contraction": r"\w n't\b|\w '(?:s|re|ve|ll|d)\b|\bI 'm\b",
    "a halved word": r"\b(?:gon|wan) na\b|\bgot ta\b",
    "a space before a stop": r"(?<=\S) [.,!?;:](?:\s|$)",
    "a space inside brackets": r"\( | \)",
    "two spaces": r"  ",
    "a blank at a line's end": r"[ \t]\n|\s$|^\s",
    "two blank lines": r"\n\n\n",
    "an invisible sign": r"[\0\ufeff\u200b\xa0]",
    "an address": r"https?: ?//|\]\(",
}


# Text from tokens


@pytest.mark.parametrize("tokens, text", PAIRS)
def test_before_and_after(tokens, text):
    assert restore(tokens) == text


@pytest.mark.parametrize("text", [text for _, text in PAIRS])
def test_text_stays_text(text):
    assert restore(text) == text


def take_apart(text):
    """What a tokeniser of the Penn Treebank kind makes of plain prose."""
    text = re.sub(r'(?<!\S)"', "`` ", text).replace('"', " ''")
    return re.sub(r"(?<=\w)(?=n't\b|'(?:s|re|ve|ll|d|m)\b)|(?<=\S)(?=[.,!?:;](?:\W|$))", " ", text)


def test_every_shipped_story_survives_being_taken_apart():
    rows = [json.loads(line) for path in (DATA / "personal").glob("*.jsonl") for line in path.open(encoding="utf-8")]
    texts = [row[name] for row in rows for name in ("prompt", "story")]
    assert len(texts) == 480 and all(" ," in take_apart(text) or "," not in text for text in texts)
    assert [restore(take_apart(text)) for text in texts] == texts
    assert [restore(text) for text in texts] == texts


# Stories from posts


@pytest.mark.parametrize(
    "prompt, tag, premise",
    [
        ("[ WP ] A bell rings .", "WP", "A bell rings ."),
        ("[WP] A bell rings.", "WP", "A bell rings."),
        ("{ wp } A bell rings .", "WP", "A bell rings ."),
        ("WP : A bell rings .", "WP", "A bell rings ."),
        ("[ EU ] [ CW ] A bell [ of bronze ] rings .", "EU/CW", "A bell [ of bronze ] rings ."),
        ("A bell rings . [ WP/RF ]", "WP/RF", "A bell rings ."),
        ("[ Off-Topic ] Who rings ?", "OFF TOPIC", "Who rings ?"),
        ("[ WP ] A bell rings . (more inside)", "WP", "A bell rings ."),
        ("The wp of bells", "", "The wp of bells"),
    ],
)
def test_tags(prompt, tag, premise):
    assert split_tag(prompt) == (tag, premise)


@pytest.mark.parametrize(
    "tag, story, reason",
    [
        ("OT", "Do you write in the morning?", "off-topic post"),
        ("WP/MODPOST", "We are four now.", "off-topic post"),
        ("WP", "[ deleted ]", "deleted post"),
        ("WP", "[removed by moderator]", "deleted post"),
        ("WP", "**Off-Topic Discussion:** All top-level comments must be a story or poem.", "moderator's post"),
        ("WP", "Welcome to the Prompt! All top-level comments must be a story.", "moderator's post"),
        ("WP", '"I am a bot," it said.', ""),
        ("WP", "The welcome was warm, and the discussion went off.", ""),
    ],
)
def test_posts_without_a_story(tag, story, reason):
    assert notice(tag, "A bell rings.", story) == reason


STORY = '"Stay," she said.\nHe stayed, and the editor of the paper: gone.\n\nThe end came in part two.'


@pytest.mark.parametrize(
    "note",
    [
        "EDIT: spelling",
        "Edit 2: thank you for the gold, kind reader",
        "**Edit** - mended the ending",
        "Part 2 in the comments",
        "( part 1/2, continued below )",
        "To be continued...",
        "Thanks for reading! Feedback is welcome.",
        "More stories at r/belltower",
        "[Part two](https: //www.example.org/r/x/2?a=1)",
        "^Written ^on ^the ^bus, ^for ^this ^prompt",
        "---\nSorry for the formatting, my phone is old.",
        "*****\n/r/belltower\n\n___",
    ],
)
def test_notes_around_a_story(note):
    assert strip_notes(f"{STORY}\n\n{note}") == STORY
    assert strip_notes(f"{note}\n\n{STORY}") == STORY


def test_what_looks_like_a_note_stays_within_the_story():
    story = 'Edit: she read the word twice.\n"Part 2," said the tape.\nNote the time, he thought.'
    middle = f"{STORY}\n{story}\n{STORY}"
    assert strip_notes(middle) == middle
    assert strip_notes('He wept.\n"Thanks for reading to me," she said.').endswith("she said.")


def test_marks_of_the_forum():
    story = (
        "# Night\nHe read [the note](http: //a.example/b) twice.\n-----\n> He ^^slept. See www.example.org/x now.\nEnd."
    )
    assert strip_notes(story) == "Night\nHe read the note twice.\n***\nHe slept. See  now.\nEnd."


# Files to splits


def tell(number, times=10):
    """A story of its own for each number, 14 words a time."""
    return f"Story {number} begins . " + f"{FOX} " * times


def write_pair(folder, prompts, stories, name="train"):
    folder.mkdir(exist_ok=True)
    for suffix, texts in (("source", prompts), ("target", stories)):
        (folder / f"{name}.wp_{suffix}").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return folder


def many(count=40, first=0):
    numbers = range(first, first + count)
    return [f"[ WP ] Bell number {n} rings ." for n in numbers], [tell(n) for n in numbers]


def read(folder):
    return {path.stem: [json.loads(line) for line in path.open(encoding="utf-8")] for path in folder.glob("*.jsonl")}


def message(call, *args, **kwargs):
    with pytest.raises(UserError) as error:
        call(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_prepare_counts_what_it_drops(tmp_path):
    prompts, stories = many()
    prompts += [
        "[ OT ] Who rings ?",
        "[ WP ] A",
        "[ WP ] B",
        "[ WP ] C",
        "[ WP ] D",
        "[ NSFW ] E",
        "[ WP ]",
        "[ WP ] F",
    ]
    stories += [tell(90), "[ removed ]", "Too short .", tell(0).upper(), tell(91, 200), tell(92), tell(93), tell(94, 9)]
    stories[-1] = stories[-1].replace("fox", "fo\0x")
    report = prepare(write_pair(tmp_path / "raw", prompts, stories), tmp_path / "out", processes=1)
    assert sum(report.rows.values()) == 41
    assert sorted(report.notes) == [
        "1 rows dropped: adult content (tagged NSFW)",
        "1 rows dropped: deleted post",
        "1 rows dropped: fewer than 50 words",
        "1 rows dropped: more than 1500 words",
        "1 rows dropped: no prompt",
        "1 rows dropped: off-topic post",
        "1 rows dropped: the story repeats an earlier one",
        "1 rows mended: NUL bytes taken out",
    ]
    rows = {row["id"]: row for split in read(tmp_path / "out").values() for row in split}
    assert rows["train-1"]["story"].startswith("Story 0 begins. The fox came to the bridge and the toll man held out")
    assert list(rows["train-1"]) == list(writing_prompts.COLUMNS)
    assert rows["train-1"]["prompt"] == "Bell number 0 rings." and rows["train-1"]["tag"] == "WP"
    assert "fox" in rows["train-48"]["story"] and "\0" not in rows["train-48"]["story"]
    assert not [path for path in tmp_path.iterdir() if path.name not in ("raw", "out")]


def test_bounds_and_adult_content_are_options(tmp_path):
    prompts, stories = many()
    raw = write_pair(tmp_path / "raw", [*prompts, "[ NSFW ] E"], [*stories, tell(92, 2)])
    options = {"shortest": 20, "longest": 143, "processes": 1}
    assert sum(prepare(raw, tmp_path / "all", adult=True, **options).rows.values()) == 41
    assert sum(prepare(raw, tmp_path / "some", **options).rows.values()) == 40
    assert "143" in message(prepare, raw, tmp_path / "none", shortest=144, longest=143)


def test_splits_by_prompt_are_stable(tmp_path):
    prompts, stories = many(60)
    twice = [*prompts, *prompts], [*stories, *(tell(n) for n in range(100, 160))]
    backwards = [texts[::-1] + more for texts, more in zip(twice, many(30, first=200), strict=True)]
    split = {}
    for name, pair in (("one", (prompts, stories)), ("two", twice), ("three", backwards)):
        prepare(write_pair(tmp_path / name, *pair), tmp_path / f"{name}-out", processes=1)
        found = [(row["prompt"], part) for part, rows in read(tmp_path / f"{name}-out").items() for row in rows]
        assert len({prompt for prompt, _ in found}) == len(set(found))  # no prompt in two splits
        assert all(split.setdefault(prompt, part) == part for prompt, part in found)
    assert set(split.values()) == {"train", "validation", "test"}


def test_official_splits_are_kept(tmp_path):
    raw = write_pair(tmp_path / "raw", *many(40))
    write_pair(raw, *many(5, first=100), name="valid")
    prompts, stories = many(6, first=200)
    write_pair(raw, [*prompts[:4], "[ EU ] bell NUMBER 7 rings", "[ WP ] G"], [*stories[:5], tell(8)], name="test")
    report = prepare(raw, tmp_path / "out", processes=1)
    assert report.rows == {"train": 38, "validation": 5, "test": 6}
    assert sorted(report.notes) == [
        "1 rows dropped: the prompt is in test, too",  # train's Bell number 7
        "1 rows dropped: the story repeats an earlier one",  # train's story 8
    ]
    assert {row["id"] for row in read(tmp_path / "out")["validation"]} == {f"validation-{n}" for n in range(1, 6)}


def test_processes_make_no_difference(tmp_path):
    raw = write_pair(tmp_path / "raw", *many(1000))
    reports = [prepare(raw, tmp_path / str(count), processes=count) for count in (1, 2)]
    assert reports[0] == reports[1] and read(tmp_path / "1") == read(tmp_path / "2")


def test_own_rows_keep_their_wishes(tmp_path):
    prompts, stories = many()
    rows = [
        {"id": f"own-{n}", "prompt": p, "story": s, "tone": "warm", "arc": ""}
        for n, (p, s) in enumerate(zip(prompts, stories, strict=True))
    ]
    with (tmp_path / "own.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    prepare(tmp_path / "own.csv", tmp_path / "out", processes=1)
    found = [row for part in read(tmp_path / "out").values() for row in part]
    assert {row["tone"] for row in found} == {"warm"} and {row["setting"] for row in found} == {"a bridge"}
    assert {row["id"] for row in found} == {row["id"] for row in rows}
    assert "license: unknown" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_prepared_rows_load(tmp_path):
    raw = write_pair(tmp_path / "raw", *many())
    report = data.prepare("personal", raw, tmp_path / "out", processes=1)
    stories = data.load("personal", source=tmp_path / "out")
    assert {split: len(rows) for split, rows in stories.items()} == report.rows
    assert stories["train"].column_names == COLUMNS
    row = stories["train"][0]
    assert row["prompt"] == wish_prompt(row["premise"], **{wish: row[wish] for wish in WISHES})
    assert "\nSetting: a bridge\n" in row["prompt"] and row["prompt"].endswith("\nStory:\n")
    page = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in page.items()} == report.rows


@pytest.mark.skipif(not SAMPLES.exists(), reason="the samples of WritingPrompts are not beside the repository")
def test_real_samples_come_out_clean(tmp_path):
    report = prepare(SAMPLES, tmp_path / "out", processes=2)
    assert sum(report.rows.values()) > 500 and set(report.rows) == {"train", "validation", "test"}
    tag = re.compile(r"[\[({] ?(?:WP|EU|CW|IP|TT|PI|OT|MP|FF|RF) ?[\])}]", re.IGNORECASE)
    for row in (row for part in read(tmp_path / "out").values() for row in part):
        for name in ("prompt", "story"):
            assert row[name] and not tag.search(row[name])
            for fault, pattern in LEFTOVERS.items():
                assert not (found := re.search(pattern, row[name])), f"{row['id']}: {fault} in {found}"
        last = row["story"].rsplit("\n", 1)[-1]
        assert not re.match(r"\W*edit\b.{0,10}:|.*\br/\w+$", last, re.IGNORECASE), last


@pytest.mark.skipif(not SAMPLES.exists(), reason="the samples of WritingPrompts are not beside the repository")
def test_original_form_comes_out_clean():
    for line in (SAMPLES / "verbatim_head3.train.wp_target").read_text(encoding="utf-8").splitlines():
        text = restore(line)
        assert not [fault for fault, pattern in LEFTOVERS.items() if re.search(pattern, text)]
        assert sum(map(str.isalnum, text)) == sum(map(str.isalnum, line.replace("<newline>", "")))


# What is wrong with files


def test_bad_pairs(tmp_path):
    prompts, stories = many(3)
    cases = {
        "lengths": (prompts, stories[:2], "train.wp_source has 3 lines and", "train.wp_target has 2 lines"),
        "empty": ([], [], "are empty"),
    }
    for name, (some, others, *told) in cases.items():
        raw = write_pair(tmp_path / name, some, others)
        assert all(part in message(prepare, raw, tmp_path / "out") for part in told)
    for suffix, other in (("wp_source", "wp_target"), ("wp_target", "wp_source")):
        raw = write_pair(tmp_path / suffix, prompts, stories)
        (raw / f"train.{suffix}").unlink()
        assert f"train.{other} has no train.{suffix} beside it" in message(prepare, raw, tmp_path / "out")
    assert not list(tmp_path.glob("*out*"))


def test_wrong_encoding_is_named_with_its_offset(tmp_path):
    raw = write_pair(tmp_path / "raw", *many(3))
    path = raw / "train.wp_target"
    good = path.read_bytes()
    path.write_bytes(good + "A café .\n".encode("latin-1"))
    told = message(prepare, raw, tmp_path / "out")
    assert "line 4" in told and f"0xe9 at offset {len(good) + 5}" in told and not (tmp_path / "out").exists()


def test_a_line_of_200_megabytes_is_refused(tmp_path):
    raw = write_pair(tmp_path / "raw", *many(1))
    with (raw / "train.wp_target").open("wb") as file:
        file.truncate(200 * 2**20)  # zeros that take no space
    assert "line 1 is longer than 16 MiB" in message(prepare, raw, tmp_path / "out")


def test_bad_sources(tmp_path):
    raw = write_pair(tmp_path / "raw", *many(2))
    assert "the validation split would be empty" in message(prepare, raw, tmp_path / "out", processes=1)
    assert "no train.wp_source" in message(
        prepare, write_pair(tmp_path / "v", *many(2), name="valid"), tmp_path / "out"
    )
    assert f"there is no {tmp_path / 'nowhere'}" in message(prepare, tmp_path / "nowhere", tmp_path / "out")
    assert "exists already" in message(prepare, raw, raw)
    (tmp_path / "own.jsonl").write_text('{"prompt": "A bell"}\n', encoding="utf-8")
    assert (
        "row 1" in (told := message(prepare, tmp_path / "own.jsonl", tmp_path / "out", processes=1))
        and "'story'" in told
    )
    assert "belong together" in message(prepare, raw, tmp_path / "out", endpoint="http://localhost:1/v1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own.jsonl", "raw", "v"]


# The shipped stories and a user's own


def test_shipped_stories():
    stories = load()
    assert {split: len(stories[split]) for split in stories} == {"train": 200, "validation": 20, "test": 20}
    assert stories["test"].column_names == COLUMNS
    row = stories["train"][7]
    assert row["prompt"].startswith(f"Premise: {row['premise']}\nCharacter: {row['character']}\nTraits: ")
    assert all(row[wish] for row in stories["train"] for wish in WISHES)
    seen = {tuple(row[wish] for wish in WISHES) for row in stories["train"]}
    assert not seen & {
        tuple(row[wish] for wish in WISHES) for split in ("validation", "test") for row in stories[split]
    }


def test_the_shipped_folder_loads_as_a_data_set(tmp_path):
    stories = datasets.load_dataset(str(DATA / "personal"), cache_dir=str(tmp_path))
    assert {split: len(stories[split]) for split in stories} == {"train": 200, "validation": 20, "test": 20}
    assert set(stories["test"].column_names) == {"id", "prompt", "story", *WISHES}


def test_own_file_needs_only_prompts_and_stories(tmp_path):
    path = tmp_path / "own.jsonl"
    rows = [{"prompt": f"Bell {n} rings.", "story": tell(n), "tone": "eerie" if n else None} for n in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = {row["premise"]: row for part in load(path).values() for row in part}
    assert found["Bell 3 rings."]["prompt"] == "Premise: Bell 3 rings.\nTone: eerie\nStory:\n"
    assert found["Bell 0 rings."]["prompt"] == "Premise: Bell 0 rings.\nStory:\n"
    assert len(found) == 40 and found["Bell 3 rings."]["completion"] == tell(3)


def test_own_folder_that_lacks_something(tmp_path):
    for name, row, told in (
        ("a", {"prompt": "A bell", "text": "…"}, "no column 'story'"),
        ("b", {"prompt": "A bell", "story": " "}, "row 1"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
        assert told in message(load, tmp_path / name)


def test_every_wish_is_optional():
    told = ["a bell maker", "deaf and kind", "a tower", "a bell is stolen", "warm", "the quest"]
    wishes = dict(zip(WISHES, told, strict=True))
    lines = wish_prompt("A bell rings.", **wishes).split("\n")
    assert lines[0] == "Premise: A bell rings." and lines[3] == "Setting: a tower" and lines[-2:] == ["Story:", ""]
    for wish in WISHES:
        without = wish_prompt("A bell rings.", **wishes | {wish: ""}).split("\n")
        assert without == [line for line in lines if not line.startswith(wish.capitalize())]
    assert wish_prompt(tone="warm\nStory:") == "Tone: warm Story:\nStory:\n"
