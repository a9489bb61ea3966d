"""In which language a text is: by its script, or by its most frequent words.

A few dozen function words make up half of what is said in any language, so that some twenty words
of text are enough to tell the languages of the Latin script apart. What is too short, or between
two languages, is of none.
"""

import re
import unicodedata
from collections import Counter
from typing import Final

_FREQUENT: Final[dict[str, frozenset[str]]] = {
    code: frozenset(words.split())
    for code, words in {
        "da": "og i jeg det at en er til på som de med han af for ikke der var sig et har om vi "
        "hvad men kan skal være mig du hvor hvis også ikke noget havde",
        "de": "und der die das ich nicht ist sie es ein zu in mit auf den dem eine wir du was auch "
        "wie für von so aber habe wird sind kann sich werden bei noch nur oder",
        "en": "the and of to a in is you that it he was for on are with as i his they be at this "
        "have from or had by but what we can your there do how if will my so not about just me",
        "es": "que de no la el y en lo un por me una los se con para mi está si bien pero como "
        "eso las su tu del al más esto cuando todo muy usted hay qué es yo",
        "fi": "ja on ei se että en hän mitä mutta niin olen minä sinä tämä kun oli voi ovat nyt "
        "vain jos mikä kuin myös sitä ole minun",
        "fr": "de je est pas le vous la tu que un il et à les ce en une on des pour dans mais qui "
        "nous avec sur au plus ne se elle suis cette être bien fait du comme votre",
        "it": "che non di il è la un per in sono mi ho si lo ma ti con una le cosa se come da ci "
        "questo qui del bene nel tutto della più anche io gli",
        "nl": "ik je het de is dat een niet en van wat we in ze op te hij zijn er maar die heb "
        "voor met als ben was dit aan om hebben naar heeft ook nog",
        "no": "og i jeg det er du at en ikke vi har som på til med for han den de meg hva kan om "
        "men deg seg skal være her også ble noe bare hvis",
        "pl": "nie to się w na i z że jest do co jak ale tak mi o mnie ja ty za czy tym go tego "
        "są był dla po już od może być tylko masz",
        "pt": "que não de o a e é um para eu me se uma com os do você por em isso está mas na ele "
        "no bem as como da mais muito foi ao nós aqui seu",
        "sv": "och i jag det är du att en inte vi har som på till med för han den de mig vad kan "
        "om men dig sig ska vara här också blev något bara",
        "tr": "bir ve bu ben ne için var da de o çok ama değil mi sen gibi daha evet hayır şey "
        "kadar olarak ile sonra benim olan",
    }.items()
}
_SCRIPTS: Final = {
    "ARABIC": "ar",
    "GREEK": "el",
    "HEBREW": "he",
    "DEVANAGARI": "hi",
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "HANGUL": "ko",
    "THAI": "th",
    "CJK": "zh",
}
_UKRAINIAN: Final = frozenset("іїєґ")
_WORD: Final = re.compile(r"[^\W\d_]+")
_LEAST_LETTERS: Final = 12
_LEAST_HITS: Final = 3
_LEAST_SHARE: Final = 0.2
# So many times as many frequent words as the next language's.
_LEAD: Final = 1.3
_MOST_LOOKED_AT: Final = 2000


def language_of(text: str) -> str | None:
    """The code of ISO 639-1; None where nothing tells."""
    words = _WORD.findall(text[:_MOST_LOOKED_AT].casefold())
    letters = [letter for word in words for letter in word]
    if len(letters) < _LEAST_LETTERS:
        return None
    scripts = Counter(_script_of(letter) for letter in letters)
    script, number = scripts.most_common(1)[0]
    if script == "LATIN":
        return _by_words(words)
    if scripts["HIRAGANA"] + scripts["KATAKANA"] > len(letters) // 10:
        return "ja"
    if number < len(letters) // 2:
        return None
    if script == "CYRILLIC":
        return "uk" if _UKRAINIAN & set(letters) else "ru"
    return _SCRIPTS.get(script)


def _script_of(letter: str) -> str:
    return "LATIN" if letter.isascii() else unicodedata.name(letter, "?").partition(" ")[0]


def _by_words(words: list[str]) -> str | None:
    hits = Counter(
        {code: sum(word in known for word in words) for code, known in _FREQUENT.items()}
    )
    (first, most), (_, next_most) = hits.most_common(2)
    is_clear = most >= max(_LEAST_HITS, _LEAST_SHARE * len(words)) and most >= _LEAD * next_most
    return first if is_clear else None
