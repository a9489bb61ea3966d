"""Near-duplicates of the texts in a file, by one of three programs, with time and memory.

`near_duplicates.py` runs it: ours in the trainer's environment, the others in one of their own.
All look for pairs of words that texts share, with 128 permutations, at one threshold.
"""

import json
import re
import resource
import sys
import time
from itertools import pairwise
from pathlib import Path

THRESHOLD = 0.7
_PERMUTATIONS = 128
_WORD = re.compile(r"\w+")


def ours(texts: list[str]) -> set[int]:
    """Places of texts that are like an earlier one."""
    from tunesmith_trainer.data.cleaning.near_duplicates import near_duplicate_groups

    groups = near_duplicate_groups(texts, THRESHOLD, 0)
    return {place for place, first in enumerate(groups) if place != first}


def datasketch(texts: list[str]) -> set[int]:
    """MinHashLSH as its documentation shows it: each text is asked for, then inserted."""
    from datasketch import MinHash, MinHashLSH  # type: ignore[import-not-found]

    index, found = MinHashLSH(threshold=THRESHOLD, num_perm=_PERMUTATIONS), set()
    for place, text in enumerate(texts):
        minhash = MinHash(num_perm=_PERMUTATIONS)
        minhash.update_batch([pair.encode() for pair in _pairs(text)])
        if index.query(minhash):
            found.add(place)
        else:
            index.insert(place, minhash)
    return found


def rensa(texts: list[str]) -> set[int]:
    """RMinHashDeduplicator with its index, as its documentation shows it."""
    from rensa import (  # type: ignore[import-not-found]
        RMinHash,
        RMinHashDeduplicator,
    )

    deduplicator = RMinHashDeduplicator(THRESHOLD, _PERMUTATIONS, use_lsh=True, seed=0)
    found = set()
    for place, text in enumerate(texts):
        minhash = RMinHash(num_perm=_PERMUTATIONS, seed=0)
        minhash.update(_pairs(text))
        if not deduplicator.add(str(place), minhash):
            found.add(place)
    return found


def _pairs(text: str) -> list[str]:
    words = _WORD.findall(text.casefold())
    return [f"{one} {other}" for one, other in pairwise(words)] or words


def main(program: str, file: Path, copies: Path) -> None:
    """Print time, memory above that of the texts, and which of the planted copies were found."""
    texts = file.read_text(encoding="utf-8").split("\0")
    planted = set(json.loads(copies.read_text(encoding="utf-8")))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin, busy = time.perf_counter(), time.process_time()
    found = {"ours": ours, "datasketch": datasketch, "rensa": rensa}[program](texts)
    print(
        json.dumps(
            {
                "rows": len(texts),
                "seconds": round(time.perf_counter() - begin, 2),
                "processorSeconds": round(time.process_time() - busy, 2),
                "mebibytesMore": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
                >> 10,
                "found": len(found),
                "recall": round(len(found & planted) / len(planted), 4),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
