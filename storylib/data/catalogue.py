"""The fourteen books of horror and fairy tales at Project Gutenberg, and where each is to be had."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A book of the catalogue. `origin` never changes, so its bytes have `sha256`; mirrors hold later editions."""

    number: int  # Project Gutenberg's
    title: str
    author: str
    genre: str  # "fairy_tale" or "horror"
    origin: str | None = None  # a copy on GitHub: user/repository/HEAD/path
    sha256: str | None = None  # of that copy; None: never seen
    novel: bool = False  # one tale of many chapters
    until: str | None = None  # the first words of what follows the last tale without a heading of its own


BOOKS = (
    Entry(
        number=1597,
        title="Andersen's Fairy Tales",
        author="Hans Christian Andersen",
        genre="fairy_tale",
        origin="GITenberg/Andersen-s-Fairy-Tales_1597/HEAD/1597-0.txt",
        sha256="694271fa06569b61c5c3041f08cca1d4ff92341ec8a867f6c38b23862edb3adb",
    ),
    Entry(
        number=128,
        title="The Arabian Nights Entertainments",
        author="Andrew Lang (editor)",
        genre="fairy_tale",
        origin="GITenberg/The-Arabian-Nights-Entertainments_128/HEAD/128.txt",
        sha256="bc0bc9384c8da75922efe0b1d67d8ef565d85ca1c0b275211f56990a1fc475c9",
    ),
    Entry(
        number=7074,
        title="Beauty and the Beast",
        author="Jeanne-Marie Leprince de Beaumont",
        genre="fairy_tale",
        origin="GITenberg/Beauty-and-the-Beast_7074/HEAD/7074.txt",
        sha256="d95d2056df62528e7a4f9428316d02446ff644143bab0c8c8383fbc3ea5e9e1e",
    ),
    Entry(
        number=7439,
        title="English Fairy Tales",
        author="Joseph Jacobs (editor)",
        genre="fairy_tale",
        origin="GITenberg/English-Fairy-Tales_7439/HEAD/7439-0.txt",
        sha256="deef11602e7230a78e940aeed23e8b06d4690c44aa6cff4a20db3a4ee354e887",
    ),
    Entry(
        number=34206,
        title="The Thousand and One Nights, Volume I",
        author="Edward William Lane (translator)",
        genre="fairy_tale",
    ),
    Entry(
        number=500,
        title="The Adventures of Pinocchio",
        author="Carlo Collodi",
        genre="fairy_tale",
        origin="GITenberg/The-Adventures-of-Pinocchio_500/HEAD/500-0.txt",
        sha256="00b17e32606763a70c05a5687d36c238f4414cbaa2b7e3f426a8f671bb7fe119",
        novel=True,
    ),
    Entry(
        number=2591,
        title="Grimms' Fairy Tales",
        author="Jacob and Wilhelm Grimm",
        genre="fairy_tale",
        origin="AllenDowney/CompStats/HEAD/pg2591.txt",
        sha256="4d909d18d528fbf393a06ecc05487006d6983f69d55a16138e4bc7642213eb90",
        until="The Brothers Grimm, Jacob (1785-1863) and Wilhelm",
    ),
    Entry(
        number=29021,
        title="The Fairy Tales of Charles Perrault",
        author="Charles Perrault",
        genre="fairy_tale",
        origin="GITenberg/The-Fairy-Tales-of-Charles-Perrault_29021/HEAD/29021-8.txt",
        sha256="b547a25dbdfbaa5ee19a4df103016e70fd2af7e2022ba48b3cf9aebf90cedec0",
    ),
    Entry(
        number=53419,
        title="Twenty-Five Ghost Stories",
        author="W. Bob Holland (editor)",
        genre="horror",
        origin="GITenberg/Twenty-Five-Ghost-Stories_53419/HEAD/53419-0.txt",
        sha256="4dc1b4279b33ce6136a09553bc923ae5dbcb21444d3e473edd42359ce2e0ed4f",
    ),
    Entry(
        number=17893,
        title="The Best Ghost Stories",
        author="various authors",
        genre="horror",
        origin="GITenberg/The-Best-Ghost-Stories_17893/HEAD/17893-8.txt",
        sha256="5ae306c14ec417df98b3f792e6214a867dbd067b13b6c078b93bef2b48126605",
    ),
    Entry(
        number=345,
        title="Dracula",
        author="Bram Stoker",
        genre="horror",
        origin="GITenberg/Dracula_345/HEAD/345.txt",
        sha256="c802711470ddb2aaca81432fc101ed29c154e7c3d32df4172478695c33f68eae",
        novel=True,
    ),
    Entry(
        number=84,
        title="Frankenstein",
        author="Mary Wollstonecraft Shelley",
        genre="horror",
        origin="GITenberg/Frankenstein_84/HEAD/84-0.txt",
        sha256="c29a4f56dd91aa894a3f17d5f96b356ccb499e3e2c5a27964de911845e39efab",
        novel=True,
    ),
    Entry(
        number=15143,
        title="Famous Modern Ghost Stories",
        author="Dorothy Scarborough (editor)",
        genre="horror",
        origin="GITenberg/Famous-Modern-Ghost-Stories_15143/HEAD/15143-8.txt",
        sha256="1c4d587dbbc0168b8ee1a3c0da62438a9d7018a8c56c7cd5b78a5fef2704412f",
    ),
    Entry(
        number=43,
        title="The Strange Case of Dr. Jekyll and Mr. Hyde",
        author="Robert Louis Stevenson",
        genre="horror",
        origin="GITenberg/The-Strange-Case-of-Dr.-Jekyll-and-Mr.-Hyde_43/HEAD/43-0.txt",
        sha256="31df0a9af1bce24ccbb5ab3ccb659603353accde5b7e40f7c5b887fb88173d48",
        novel=True,
    ),
)
BY_NUMBER = {entry.number: entry for entry in BOOKS}
