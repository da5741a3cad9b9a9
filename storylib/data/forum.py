"""What a forum post holds besides its story: tags, links, marks, its author's notes, a moderator's notices."""

import re

# Of r/WritingPrompts, then and now; its wiki says what each stands for
TAGS = "WP SP EU CW IP MP TT PI PM RF FF OT CC CS TH TBT NANO MOD MODPOST META CONTEST SERIOUS NSFW".split()
OFF_TOPIC = {"OT", "OFF TOPIC", "MOD", "MODPOST", "META", "CONTEST"}
NAME = rf"(?:{'|'.join(TAGS)}|Writing Prompts?|Off[ -]Topic)"
TAG = re.compile(rf"[\[({{] ?({NAME}(?: ?[/,&+] ?{NAME})*) ?[\])}}]|^({NAME}) ?[:|]", re.IGNORECASE)
ASIDE = re.compile(r"\((?:more|details?|info|see|read)\b[^)]{0,40}\)$|[\[(]x-?post[^\])]*[\])]", re.IGNORECASE)

DELETED = re.compile(r"\W*(?:deleted|removed)(?: by (?:user|moderator|reddit))?\W*", re.IGNORECASE)
MODERATOR = (  # in small letters
    "top-level comments must",
    "top level comments must",
    "off-topic discussion:",
    "off-topic comments:",
    "welcome to the prompt!",
    "i am a bot, and this action",
    "comment has been removed",
    "submission has been removed",
    "post has been removed",
)

ADDRESS = re.compile(r"https?: ?//\S+(?:(?<=[?#&]) \S+| [?#&] ?\S+)*|\bwww\.\S+")
LINK = re.compile(r"\[([^\]\n]{0,300})\] ?\((?:https?:|www\.|/[ru]/)[^)\n]{1,500}\)")
RAISED = re.compile(r"\^\(?(?=\S)|\\(?=[*_#])")  # ^superscript, and \* for a star that is meant
QUOTED = re.compile(r"(?:>|#+) *(?=\S)")  # > quotation, # heading
RULE = re.compile(r"[-*_=~#+.—– ]{3,}|[-—*~]{1,2}")  # a line between scenes

HOLDS = re.compile(r"https?:|\bwww\.|(?<!\w)/?[ru]/ ?\w{3}|\bsubreddit\b", re.IGNORECASE)
BEGINS = re.compile(
    r"\W*(?:(?:edit(?:ed|s)?|eta|update|notes?|author's notes?|a/n|disclaimer|afterword|warnings?|tl; ?dr)\b"
    r"[^\n:—-]{0,12}(?:[:—-]|$)|(?:to be )?continued\b|cont\b|part (?:\d+|two|three|i+)\b"
    r"|more (?:stories|of my|by me)\b|(?:sorry|apologies|pardon) (?:for |about )?(?:the|any|my)\b)",
    re.IGNORECASE,
)
SAYS = re.compile(
    r"thank(?:s| you)\b.{0,20} for (?:reading|the (?:gold|prompt))"
    r"|\bmy first (?:post|prompt|story|attempt|time posting)"
    r"|(?:feedback|criti(?:que|cism))\b.*(?:welcome|appreciated|please)"
    r"|(?:any|please|welcome).*(?:feedback|criti(?:que|cism))"
    r"|\b(?:this|great|original) (?:prompt|wp)\b|\bwriting ?prompts?\b|\bin the comments\b|\bformatting\b"
    r"|(?:hope|if) you (?:like|enjoy)(?:ed)? (?:this|it|my|reading)",
    re.IGNORECASE,
)
LONGEST_NOTE = 500  # characters


def split_tag(prompt: str) -> tuple[str, str]:
    """The tag of a prompt, several joined by "/", "" for none; and the premise without it.

    >>> split_tag("[ WP ] A fox finds a key .")
    ('WP', 'A fox finds a key .')
    >>> split_tag("[ ff ] [ MP/RF ] The Last Song")
    ('FF/MP/RF', 'The Last Song')
    """
    names = [re.split(r" ?[/,&+] ?", found[1] or found[2]) for found in TAG.finditer(prompt)]
    tags = dict.fromkeys(known(name) for group in names for name in group)
    premise = " ".join(TAG.sub(" ", prompt).split()) if tags else prompt
    return "/".join(tags), ASIDE.sub("", premise).strip()


def known(name: str) -> str:
    name = name.upper().replace("-", " ")
    return "WP" if name.startswith("WRITING") else name


def notice(tag: str, premise: str, story: str) -> str:
    """Why a post holds no story: "off-topic post", "deleted post", "moderator's post"; "" when it may hold one.

    >>> notice("WP", "A fox finds a key.", "[removed]")
    'deleted post'
    """
    if OFF_TOPIC & set(tag.split("/")):
        return "off-topic post"
    if DELETED.fullmatch(story) or DELETED.fullmatch(premise):
        return "deleted post"
    lowered = story.lower()
    return "moderator's post" if any(phrase in lowered for phrase in MODERATOR) else ""


def strip_notes(story: str) -> str:
    """The story without its author's notes before and after it: edits, links, thanks, news of a second part.

    Only whole lines go, and only until the first that is none. Links within the story leave their words, other marks of
    the forum go, and a line between scenes becomes ***.

    >>> strip_notes("He won.\\n\\n-----\\nEdit: spelling\\n[More](http://a.b/c) at r/foxtales")
    'He won.'
    """
    if "^" in story or "\\" in story:
        story = RAISED.sub("", story)
    lines = [bare(line) for line in story.split("\n")]
    first, last = 0, len(lines)
    while first < last and is_note(lines[last - 1]):
        last -= 1
    while first < last and is_note(lines[first]):
        first += 1
    text = "\n".join(lines[first:last])
    if "//" in text or "www." in text:
        text = ADDRESS.sub("", LINK.sub(r"\1", text))
    return text


def bare(line: str) -> str:
    """A line without the mark of a quotation or heading; *** for a line between scenes."""
    if line[:1].isalnum() or line[:1] == '"':  # nearly all are
        return line
    return "***" if RULE.fullmatch(line) else QUOTED.sub("", line, count=1) if line[:1] in "#>" else line


def is_note(line: str) -> bool:
    """Whether a line at either end of a post is none of its story."""
    if line in ("", "***"):
        return True
    if len(line) > LONGEST_NOTE:
        return False
    return bool(BEGINS.match(line) or '"' not in line and (HOLDS.search(line) or SAYS.search(line)))
