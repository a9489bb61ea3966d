"""What is read from files, and how broken ones are named."""

import gzip
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tunesmith_trainer.data import readers
from tunesmith_trainer.data.readers import read_rows
from tunesmith_trainer.data.rows import Problems, RawRow

PAIR = {"prompt": "Who?", "completion": "Me."}


def zstandard(content: bytes) -> bytes:
    return bytes(pa.compress(content, codec="zstd", asbytes=True))


READ: list[tuple[str, bytes, list[tuple[str, Any]]]] = [
    (
        "a.jsonl",
        b'{"prompt": "Who?", "completion": "Me."}\n\n["Who?", "Me."]',
        [("a.jsonl:1", PAIR), ("a.jsonl:3", ["Who?", "Me."])],
    ),
    ("a.jsonl", '\ufeff{"text": "é\u2028é"}\r\n'.encode(), [("a.jsonl:1", {"text": "é\u2028é"})]),
    ("a.json", b'[{"text": "x"},\n {"text": "y"}]', [("a.json:1", {"text": "x"}),
                                                     ("a.json:2", {"text": "y"})]),
    (
        "a.csv",
        b'prompt,completion\r\n"Who,\nthen?",Me.\r\n\r\nWho?,Me.\r\n',
        [("a.csv:2", {"prompt": "Who,\nthen?", "completion": "Me."}), ("a.csv:5", PAIR)],
    ),
    (
        "a.yml",
        b"title: x\nconversations:\n- - Who?\n  - Me.\n- - How many?\n  - 10\n- - Sure?\n  - yes",
        [("a.yml:3", ["Who?", "Me."]), ("a.yml:5", ["How many?", "10"]),
         ("a.yml:7", ["Sure?", "yes"])],
    ),
    ("a.yaml", b"- prompt: Who?\n  completion: Me.\n", [("a.yaml:1", PAIR)]),
]  # fmt: skip

# What the name does not say, and the bytes do.
TOLD_BY_CONTENT: list[tuple[str, bytes, list[tuple[str, Any]]]] = [
    ("a.json", b'{"text": "x"}\n{"text": "y"}\n', [("a.json:1", {"text": "x"}),
                                                   ("a.json:2", {"text": "y"})]),
    ("a.jsonl", b'[\n {"text": "x"}\n]\n', [("a.jsonl:1", {"text": "x"})]),
    ("a.jsonl", b'[{"text": "x"}, {"text": "y"}]\n', [("a.jsonl:1", {"text": "x"}),
                                                     ("a.jsonl:2", {"text": "y"})]),
    ("a.jsonl", b'["Who?", "Me."]\n', [("a.jsonl:1", ["Who?", "Me."])]),
    ("a.txt", b'{"text": "x"}\n{"text": "y"}\n', [("a.txt:1", {"text": "x"}),
                                                  ("a.txt:2", {"text": "y"})]),
    ("rows", b'{"text": "x"}\n', [("rows:1", {"text": "x"})]),
    ("a.csv", b'\n{"text": "x, y"}\n', [("a.csv:2", {"text": "x, y"})]),
    ("a.ndjson", b'{"text": "x"}\n', [("a.ndjson:1", {"text": "x"})]),
    ("a.csv", b"prompt;completion\nWho, then?;Me.\n", [("a.csv:2", {"prompt": "Who, then?",
                                                                    "completion": "Me."})]),
    ("a.tsv", b"prompt\tcompletion\nWho?\tMe.\n", [("a.tsv:2", PAIR)]),
    ("a.csv", b'"a;b",c\n1,2\n', [("a.csv:2", {"a;b": "1", "c": "2"})]),
    ("a.csv", b"text\na; b; c\n", [("a.csv:2", {"text": "a; b; c"})]),
]  # fmt: skip

BROKEN = [
    (
        "a.jsonl",
        b'{"text": "x"}\n{"text": "y',
        "a.jsonl:2: given a line of 11 characters; this is not a",
    ),
    ("a.jsonl", b'{"text": "x"}\n17\n', "a.jsonl:2: given a number; a row is an object"),
    ("a.jsonl", b'{"text": "x"}\n{"text": "\xff"}\n', "a.jsonl:2: given the byte 0xff"),
    ("a.jsonl", b"", "a.jsonl: given a file without rows"),
    ("a.jsonl", b"\n \n", "a.jsonl: given a file without rows"),
    (
        "a.json",
        b'[{"text": "x"},\n{"text":',
        "a.json:2: given a line of 8 characters; this is not JSON",
    ),
    ("a.json", b'{"text": "x"}', "name the file .jsonl"),
    ("a.csv", b"a,b\n1,2\n1,2,3\n", "a.csv:3: given 3 fields; every row has the 2 fields"),
    ("a.csv", b"a;b\n1;2\n1;2;3\n", "put fields that hold ';' or line ends in"),
    ("a.jsonl.gz", b"\x1f\x8b and no more", "a.jsonl.gz: given damaged or cut off data; this is"),
    ("a.csv.zst", b"\x28\xb5\x2f\xfd and no more", "this is not Zstandard"),
    ("a.csv", b"a,a\n1,2\n", "names each column once"),
    ("a.csv", b'a,b\n1,"2\n', "a.csv:2: given a row that does not end"),
    ("a.csv", b"a,b\n", "a.csv: given a file without rows"),
    ("a.parquet", b"PAR1 and no more", "a.parquet: given damaged or cut off data"),
    (
        "a.yml",
        b"conversations:\n- - Who?\n  - it: me\n",
        "a.yml:3: given an object of 1 field; a turn",
    ),
    ("a.yml", b"conversations:\n- - Who?\n  - 'Me\n", "this is not YAML"),
    ("a.yml", b"categories:\n- x\n", "a.yml:1: given a document without conversations"),
    ("a.yml", b"? [a]\n: - x\n", "a.yml:1: given a document without conversations"),
    ("a.yml", b"", "a.yml: given a file without rows"),
    ("a.txt", b"hello", "a.txt: given a file that ends with '.txt'"),
]


def _read(folder: Path, name: str, content: bytes) -> tuple[list[RawRow], Problems]:
    path = folder / name
    path.write_bytes(content)
    problems = Problems()
    return list(read_rows(path, label=name, problems=problems)), problems


@pytest.mark.parametrize(("name", "content", "expected"), READ + TOLD_BY_CONTENT)
def test_every_row_knows_its_file_and_line(
    tmp_path: Path, name: str, content: bytes, expected: list[tuple[str, Any]]
) -> None:
    rows, problems = _read(tmp_path, name, content)

    assert problems.shown == []
    assert [(row.source, row.value) for row in rows] == expected


@pytest.mark.parametrize(
    ("end", "pack"), [(".gz", gzip.compress), (".zst", zstandard), ("", bytes)]
)
@pytest.mark.parametrize(("name", "content", "expected"), READ)
def test_a_compressed_file_is_read_as_what_it_holds(
    tmp_path: Path,
    *,
    end: str,
    pack: Callable[[bytes], bytes],
    name: str,
    content: bytes,
    expected: list[tuple[str, Any]],
) -> None:
    """As hubs serve data; `""` is what a server has decompressed on the way."""
    file = name + (end or ".gz")
    rows, problems = _read(tmp_path, file, pack(content))

    assert problems.shown == []
    assert [row.value for row in rows] == [value for _, value in expected]
    assert all(row.source.startswith(f"{file}:") for row in rows)


def test_a_compressed_parquet_file_is_read(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([PAIR]), tmp_path / "a.parquet")
    packed = gzip.compress((tmp_path / "a.parquet").read_bytes())

    rows, _ = _read(tmp_path, "a.parquet.gz", packed)

    assert [row.value for row in rows] == [PAIR]


@pytest.mark.parametrize(("name", "content", "said"), BROKEN)
def test_a_broken_file_is_named_with_its_line(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    _, problems = _read(tmp_path, name, content)

    assert problems.count == 1
    assert said in problems.shown[0]


def test_rows_of_a_parquet_file_are_numbered(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([PAIR, PAIR]), tmp_path / "a.parquet")

    rows = list(read_rows(tmp_path / "a.parquet", label="a.parquet", problems=Problems()))

    assert [(row.source, row.value) for row in rows] == [
        ("a.parquet:1", PAIR),
        ("a.parquet:2", PAIR),
    ]


def test_lines_around_a_broken_one_are_read(tmp_path: Path) -> None:
    rows, problems = _read(tmp_path, "a.jsonl", b'{"a": 1}\n{\n{"b": 2}\n')

    assert [row.source for row in rows] == ["a.jsonl:1", "a.jsonl:3"]
    assert problems.count == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b'{"text": "hush'),
        ("a.jsonl", b'"hush"'),
        ("a.json", b'[{"text": "hush'),
        ("a.json", b'{"hush": "hush"}'),
        ("a.csv", b"I said hush to them all,I said hush to them all\n1,2\n"),
        ("a.csv", b'a,b\n"hush" hush,1\n'),
        ("a.csv", b"a,b\nhush,hush,hush\n"),
        ("a.yml", b"- - hush\n  - hush: hush\n"),
        ("a.yml", b"- {text: !hush x}\n"),
        ("a.yml", b"- {text: *hush}\n"),
        ("a.yml", b"- {text: !!int hush}\n"),
    ],
)
def test_what_is_said_of_a_broken_file_has_none_of_its_words(
    tmp_path: Path, name: str, content: bytes
) -> None:
    _, problems = _read(tmp_path, name, content)

    (said,) = problems.shown
    assert "hush" not in said


def test_a_line_without_end_is_passed_over_and_the_next_row_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "LONGEST_LINE", 1 << 20)
    endless = b'{"text": "' + b"a" * (3 << 20) + b'"}\n'

    rows, problems = _read(tmp_path, "a.jsonl", b'{"text": "x"}\n' + endless + b'{"text": "y"}\n')

    assert [row.source for row in rows] == ["a.jsonl:1", "a.jsonl:3"]
    assert "a.jsonl:2: given a line of more than 1 MiB; a row is one line" in problems.shown[0]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_binary_data_is_refused(tmp_path: Path, name: str) -> None:
    rows, problems = _read(tmp_path, name, b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 100)

    assert rows == []
    assert any("text is UTF-8" in problem for problem in problems.shown)


@pytest.mark.parametrize("name", ["a.json", "a.yaml"])
def test_what_is_parsed_whole_has_a_largest_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(readers, "_LARGEST_WHOLE", 1 << 20)

    rows, problems = _read(tmp_path, name, b'["' + b"a" * (2 << 20) + b'"]')

    assert rows == []
    assert problems.shown[0].startswith(f"{name}: given a file of more than 1 MiB; JSON and YAML")


# More than the part of a file by which it is told.
LONG = [b"%d %s" % (number, b"word " * 250) for number in range(1000)]


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b"".join(b'{"text": "%s"}\n' % text for text in LONG)),
        ("a.jsonl", b"[\n%s\n]" % b",\n".join(b'{"text": "%s"}' % text for text in LONG)),
        ("a.csv", b"text\n" + b"".join(b"%s\n" % text for text in LONG)),
    ],
    ids=["lines", "list", "csv"],
)
def test_of_a_large_file_the_beginning_tells_what_it_is(
    tmp_path: Path, *, pack: Callable[[bytes], bytes], name: str, content: bytes
) -> None:
    rows, problems = _read(tmp_path, name, pack(content))

    assert problems.shown == []
    assert [row.value["text"].encode() for row in rows] == LONG


def test_data_that_is_cut_off_behind_its_first_rows_is_refused(tmp_path: Path) -> None:
    packed = gzip.compress(b"".join(b'{"text": "%d"}\n' % n for n in range(10_000)))

    _, problems = _read(tmp_path, "a.jsonl.gz", packed[: len(packed) // 2])

    assert "damaged or cut off data; this is not gzip" in problems.shown[0]


def billion_laughs(leaf: str) -> str:
    levels = [f"a0: &a0 [{leaf}]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    return "\n  ".join(levels)


@pytest.mark.parametrize(
    "row",
    [
        billion_laughs("ha"),
        "text: &a [*a]",
        "&a\n  b: *a",
        "\n  ".join(
            ["m0: &m0 {x: y}"]
            + [f"m{n}: &m{n}\n    <<: [{', '.join([f'*m{n - 1}'] * 9)}]" for n in range(1, 12)]
        ),
        "text: " + "[" * 300 + "]" * 300,
        "text: " + "[" * 100_000,
    ],
)  # fmt: skip
def test_a_row_of_yaml_that_stands_for_more_than_is_written_is_refused_at_once(
    tmp_path: Path, row: str
) -> None:
    path, problems = tmp_path / "a.yaml", Problems()
    path.write_text(f"- text: fine\n- {row}\n")
    started = time.monotonic()
    rows = [each.value for each in read_rows(path, label="a.yaml", problems=problems)]

    assert rows in ([{"text": "fine"}], [])
    assert problems.count == 1
    assert time.monotonic() - started < 20


def test_aliases_that_repeat_a_long_text_count_as_often_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "_LARGEST_WHOLE", 10_000)
    path, problems = tmp_path / "a.yaml", Problems()
    path.write_text(f"- {{text: &a {'x' * 1000}}}\n" + "- {text: *a}\n" * 50)
    rows = list(read_rows(path, label="a.yaml", problems=problems))

    assert len(rows) < 11
    assert "write it without aliases" in str(problems.shown)


@pytest.mark.parametrize(
    "line",
    ['{"text": ' + "[" * 300 + "]" * 300 + "}", '{"text": ' + "9" * 5000 + "}", "[" * 90_000],
)
def test_a_line_of_json_that_python_cannot_take_is_one_bad_row(tmp_path: Path, line: str) -> None:
    path, problems = tmp_path / "a.jsonl", Problems()
    path.write_text(f'{{"text": "fine"}}\n{line}\n{{"text": "fine"}}\n')
    rows = [each.value for each in read_rows(path, label="a.jsonl", problems=problems)]

    assert rows == [{"text": "fine"}] * 2
    assert problems.count == 1
