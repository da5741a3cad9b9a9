"""Texts that say the same again: word for word, or nearly so."""

import hashlib
import zlib
from collections.abc import Sequence

import regex

BLANK = regex.compile(r"[\p{Z}\p{P}\p{C}\p{Sk}]+")  # spaces, punctuation, controls, and ` and ´ used as quotes
PLAIN_BLANK = bytes(code for code in range(128) if BLANK.fullmatch(chr(code)))
NO_SPACES = r"[\p{Han}\p{Hiragana}\p{Katakana}ー\p{Thai}]"  # scripts in which each character counts as a word
LETTERS = rf"[\w--[_{NO_SPACES}]]+"
WORD = regex.compile(rf"{NO_SPACES}|{LETTERS}(?:['’-]{LETTERS})*", regex.V1)
PERMUTATIONS = 128  # numbers in a signature: its estimate of a similarity is off by about 0.04


def fingerprint(text: str) -> str:
    """32 hex digits, equal for texts that differ only in case, spacing and punctuation.

    >>> fingerprint("Don't go, said the fox.") == fingerprint("do n't go - said\\nthe Fox")
    True
    >>> fingerprint("🦔🏰") == fingerprint("🦊🏰")
    False
    """
    most = text.casefold().encode().translate(None, PLAIN_BLANK).decode()  # leaves the slow pattern little to do
    return hashlib.blake2b(BLANK.sub("", most).encode(), digest_size=16).hexdigest()


def words(text: str) -> list[str]:
    """The words in lower case without punctuation; in scripts without spaces, each character.

    >>> words("“Don’t go,” said the Owl. 再见！")
    ['don’t', 'go', 'said', 'the', 'owl', '再', '见']
    """
    return WORD.findall(text.lower())


def near_duplicates(texts: Sequence[str], threshold: float = 0.7, words: int = 5) -> dict[int, int]:
    """Index of each text to drop -> index of the earlier text, not dropped itself, that it nearly repeats.

    Two texts nearly repeat each other when of all their runs of `words` words at least `threshold` are in both
    (Jaccard). MinHash finds the candidates and the runs themselves decide, so none is taken for another by chance.
    Texts without a word repeat nothing.

    >>> near_duplicates(["the cat sat on the mat today", "a dog", "The cat sat on the mat, today!"])
    {2: 0}
    """
    from datasketch import MinHash, MinHashLSH  # seconds to load, and not every corpus asks

    # weights: a candidate too many costs a comparison, one too few is a duplicate missed
    index = MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS, weights=(0.1, 0.9))
    signatures = MinHash.generator((runs(text, words) for text in texts), num_perm=PERMUTATIONS, hashfunc=zlib.crc32)
    found = {}
    for place, signature in enumerate(signatures):
        if signature.is_empty():
            continue
        for earlier in sorted(index.query(signature)):
            if jaccard(runs(texts[place], words), runs(texts[earlier], words)) >= threshold:
                found[place] = earlier
                break
        else:
            index.insert(place, signature)
    return found


def runs(text: str, length: int) -> set[bytes]:
    """The different runs of that many words; of a shorter text, the whole."""
    found = words(text)
    return {" ".join(found[i : i + length]).encode() for i in range(max(1, len(found) - length + 1))} - {b""}


def jaccard(one: set, other: set) -> float:
    """Share of the members of either that are members of both."""
    return len(one & other) / len(one | other)
