"""Text again from tokens: WritingPrompts was published as "`` I ca n't , '' she said . <newline>", spaces and all."""

import re

ENTITY = re.compile(r"& ?(nbsp|amp|lt|gt|quot|#x200B|#39) ?;", re.IGNORECASE)
ENTITIES = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "#39": "'"}  # the others are kinds of space

# Each pattern begins with a literal, which `re` skips to quickly; what must stand before it is asked for after it.
QUOTES = [  # of the tokeniser, which opens with `` and closes with '', save where a line begins or ends
    (re.compile(r" ``(?=\n|$| [*\])}])"), '"'),
    (re.compile(r"`` *"), '"'),
    (re.compile(r"''(?: +(?<=\n'' )|(?=\w)(?<=\s''))"), '"'),
    (re.compile(r" ?''"), '"'),
]
APOSTROPHES = [  # a lone ' that ends in a contraction, opens a quotation, and closes one or stands for letters
    (re.compile(r" ' (?=(?:s|t|re|ve|ll|d|m)\b)(?<=\w ' )"), "'"),
    (re.compile(r"' (?=\w)(?:(?<=\n' )|(?<=[,:] ' ))"), "'"),
    (re.compile(r" '(?=[\s.,;:!?\")]|$)"), "'"),
]
CUT = re.compile(  # a space that the tokeniser put in
    r""" [ ](?: (?=[.,;:!?%…]+(?:[\s"'*_]|$))                # before stops, but not in " .45" and " :)"
              | (?=n't\b|N'T\b|'(?:s|re|ve|ll|d|S|RE|VE|LL|D)\b)  # do n't, she 'll
              | (?='m\b)(?<=\b[Ii][ ])                           # I 'm, but not "the rest of 'm"
              | (?=na\b)(?<=\b(?i:gon|wan)[ ])                   # and the words that it halves
              | (?=ta\b)(?<=\b(?i:got)[ ])
              | (?=me\b)(?<=\b(?i:gim|lem)[ ])
              | (?=not\b)(?!not[ ]only)(?<=\b(?i:can)[ ])
              | (?=is\b|was\b)(?<=[ \n"*]'[tT][ ]) )""",
    re.VERBOSE,
)
SMILEY = re.compile(r"[:;] (?:\)|[(DP](?= *$))", re.MULTILINE)
DASH = re.compile(r" ?--(?: --)*(?: -(?!\S))? ?")
BRACKETS = [("( ", "("), ("[ ", "["), ("{ ", "{"), (" )", ")"), (" ]", "]"), (" }", "}"), (" (s)", "(s)")]
MONEY = re.compile(r"[$£€#] (?=\d)")
ANGLES = re.compile(r"< (\w+(?: \w+)?) >")
EMPHASIS = re.compile(r"(([*_])(?<![\w*_].)\2{0,2}) ?(\S(?:[^*_\n]*[^*_\s])?) ?\1(?![\w*_])")


def restore(text: str) -> str:
    """The text that a tokeniser of the Penn Treebank kind took apart, as nearly as can be told.

    Quotation marks come out straight, two hyphens as a dash; other text that was never taken apart stays as it is.

    >>> print(restore("`` I ca n't , '' she said . <newline> `` You 're gon na be late -- are n't you ( again ) ? ''"))
    "I can't," she said.
    "You're gonna be late—aren't you (again)?"
    >>> print(restore("*What was that ? * All the dogs ' bowls , $ 400 worth , were gone by 5 o'clock ..."))
    *What was that?* All the dogs' bowls, $400 worth, were gone by 5 o'clock...
    """
    if "&" in text:
        text = ENTITY.sub(lambda entity: ENTITIES.get(entity[1].lower(), " "), text)
    text = "\n".join([line.strip() for line in text.split("<newline>")])
    text = SMILEY.sub(join, straight(text))
    text = CUT.sub("", text)
    if "' " in text or "'\n" in text:
        text = substitute(text, APOSTROPHES)
    if "--" in text:
        text = DASH.sub("—", text)
    for spaced, joined in BRACKETS:
        text = text.replace(spaced, joined)
    text = ANGLES.sub(r"<\1>", MONEY.sub(join, text))
    return EMPHASIS.sub(r"\1\3\1", text) if "*" in text or "_" in text else text


def straight(text: str) -> str:
    """Straight quotation marks in place of curly ones and of the tokeniser's, without the spaces inside them.

    >>> straight("“ No , ” he said , `` never . ''")
    '"No ," he said , "never ."'
    """
    text = text.replace("“", "`` ").replace(" ”", "''").replace("”", "''")
    text = text.replace("‘ ", "'").replace("‘", "'").replace("’", "'")
    return substitute(text, QUOTES).replace("`", "'")


def substitute(text: str, rules: list[tuple[re.Pattern, str]]) -> str:
    for pattern, replacement in rules:
        text = pattern.sub(replacement, text)
    return text


def join(found: re.Match) -> str:
    return found[0].replace(" ", "")
