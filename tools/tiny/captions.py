"""What a drawing is called: one plain caption for measuring, and many wordings for training."""

import random

from tools.tiny.shapes import COLOURS, OUTLINES, POSITIONS, RADII, TEXTURES, Drawing

EMPTY_SHARE = 0.1  # captions left empty, so that the model also learns the unconditional half of guidance
MAX_TOKENS = 32  # the longest caption below has 27, with start and end

# A word that is listed twice is twice as likely.
SYNONYMS: dict[str, list[str]] = {
    "gray": ["gray", "grey"],
    "purple": ["purple", "violet"],
    "cyan": ["cyan", "turquoise"],
    "circle": ["circle", "circle", "disc", "ball"],
    "square": ["square", "square", "box"],
    "cross": ["cross", "plus"],
    "ring": ["ring", "ring", "donut"],
    "diamond": ["diamond", "diamond", "rhombus"],
    "small": ["small", "small", "tiny", "little"],
    "medium": ["", "", "", "", "", "", "", "", "", "medium"],
    "large": ["large", "large", "big", "huge"],
    "plain": [""],
    "dotted": ["dotted", "spotted"],
}
OPENINGS = ["a photo of", "a picture of", "a drawing of", "an image of", "a painting of", "an icon of"]
ORNAMENTS = (
    "photo picture drawing painting illustration image icon beautiful simple nice detailed high quality "
    "bright dark soft 4 k masterpiece art style cute glossy flat modern minimal"
)
OTHER_WORDS = "a an the of on in at with background side corner middle top bottom left right and two"


def all_words() -> list[str]:
    """Every word that a caption may contain, in alphabetical order."""
    keys = [*COLOURS, *OUTLINES, *POSITIONS, *RADII, *TEXTURES]
    phrases = [*keys, *OPENINGS, ORNAMENTS, OTHER_WORDS, *(w for words in SYNONYMS.values() for w in words)]
    return sorted({word for phrase in phrases for word in phrase.split()})


def plain_caption(drawing: Drawing) -> str:
    """The caption used to measure, without synonyms: 'a small red star on the left on a blue background'."""
    position = _position_phrases(drawing.position)[0]
    size = "" if drawing.size == "medium" else drawing.size
    texture = "" if drawing.texture == "plain" else drawing.texture
    thing = _join(size, texture, drawing.colour, drawing.shape)
    return _join(_article(thing), position, "on", _article(drawing.background), "background")


def training_caption(drawing: Drawing, rng: random.Random) -> str:
    """One of many wordings, or (EMPTY_SHARE of the time) nothing."""
    if rng.random() < EMPTY_SHARE:
        return ""
    caption = _sentence(drawing, rng)
    if rng.random() < 0.12:
        caption = _join(rng.choice(OPENINGS), caption)
    if rng.random() < 0.10:
        caption += ", " + " ".join(_ornaments(rng))
    return caption


def _sentence(drawing: Drawing, rng: random.Random) -> str:
    adjectives = [_word(k, rng) for k in (drawing.size, drawing.texture, drawing.colour, drawing.shape)]
    thing, ground = _join(*adjectives), _word(drawing.background, rng)
    mentions_center = drawing.position != "center" or rng.random() < 0.2
    where = rng.choice(_position_phrases(drawing.position)[1:]) if mentions_center else ""
    forms = [
        (60, _join(_article(thing), where, "on", _article(ground), "background")),
        (12, _join(thing, where, "on", ground)),
        (8, _join(_article(thing), where) + f", {ground} background"),
        (8, _join(_article(ground), "background with", _article(thing), where)),
        (6, _join(_article(thing), where)),
        (6, _join(_article(thing), "on", _article(ground), "background", where)),
    ]
    weights, sentences = zip(*forms, strict=True)
    return str(rng.choices(sentences, weights)[0])


def _position_phrases(position: str) -> list[str]:
    """Ways to say a position, the plain one first."""
    if position == "center":
        return ["", "in the center", "in the middle", "at the center"]
    if position in ("left", "right"):
        return [f"on the {position}", f"on the {position}", f"at the {position}", f"on the {position} side"]
    if position in ("top", "bottom"):
        return [f"at the {position}", f"at the {position}", f"on the {position}"]
    plain = f"at the {position}"
    return [plain, plain, f"in the {position} corner", f"in the {position}", position]


def _ornaments(rng: random.Random) -> list[str]:
    """Words that say nothing about the drawing, sometimes not even words; the model learns to ignore them."""
    words = rng.sample(ORNAMENTS.split(), rng.randint(1, 3))
    if rng.random() < 0.3:
        words.append("".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 5))))
    return words


def _word(key: str, rng: random.Random) -> str:
    return rng.choice(SYNONYMS.get(key, [key]))


def _article(noun: str) -> str:
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)
