"""YAML is read as kubectl reads it, and refused where kubectl would guess."""

import pytest

from tunesmith_api.yaml_io import MAX_CHARACTERS, YamlError, read_yaml

# Each as `kubectl label --local -o json` of Kubernetes 1.34 printed it.
SCALARS_OF_KUBECTL = {
    "1e-4": 0.0001,
    "1e3": 1000,
    "1E5": 100000,
    "1.5e+3": 1500,
    ".5": 0.5,
    "-.5": -0.5,
    "5.": 5,
    "16.0": 16,
    "+5": 5,
    "-0": 0,
    "0x10": 16,
    "-0x10": -16,
    "0o10": 8,
    "010": 8,
    "-010": -8,
    "08": 8,
    "0b11": 3,
    "1_000": 1000,
    "1_000.5": 1000.5,
    "1e400": "1e400",
    "0xG": "0xG",
    "1.2.3": "1.2.3",
    "1:30": "1:30",
    "_1": "_1",
    "e5": "e5",
    "1e": "1e",
    "2026-11-24": "2026-11-24",
    "2026-11-24T10:00:00Z": "2026-11-24T10:00:00Z",
    "y": True,
    "N": False,
    "yes": True,
    "no": False,
    "On": True,
    "oN": "oN",
    "OFF": False,
    "TRUE": True,
    "tRUE": "tRUE",
    "~": None,
    "Null": None,
    "": None,
    "'no'": "no",
    '"1e-4"': "1e-4",
    "!!str 5": "5",
    r'"\U0001F600"': "\U0001f600",
}


@pytest.mark.parametrize(("written", "read"), SCALARS_OF_KUBECTL.items())
def test_scalars_mean_what_kubectl_takes_them_for(written: str, read: object) -> None:
    """The same file means the same on a laptop and in a cluster."""
    found = read_yaml(f"a: {written}\n").value["a"]

    assert found == read
    assert type(found) is type(read)


@pytest.mark.parametrize(
    "written",
    [
        pytest.param("9" * 400, id="too large for a float"),
        pytest.param("-" + "9" * 5000, id="too long for Python"),
        pytest.param("0x" + "f" * 400, id="hexadecimal"),
        pytest.param("0" + "7" * 400, id="octal"),
    ],
)
def test_a_whole_number_without_end_stays_the_text_it_is(written: str) -> None:
    """Python reads no more than 4,300 digits; kubectl takes each of these for text."""
    assert read_yaml(f"a: {written}\n").value["a"] == written


@pytest.mark.parametrize(
    ("text", "line", "complaint"),
    [
        ("", 0, "empty"),
        ("# nothing\n---\n", 0, "empty"),
        ("- a\n", 1, "no mapping"),
        ("just words\n", 1, "no mapping"),
        ("a: 1\n---\nb: 2\n", 3, "2 documents in one file"),
        ("a:\n  b: 1\n  c: 2\n  b: 3\n", 4, "given twice, first on line 2"),
        ("a: [1\n", 2, "no YAML"),
        ("a:\n\tb: 1\n", 2, "no YAML"),
        ("a: *unknown\n", 1, "undefined alias"),
        ('a:\n  - "\\ud800"\n', 2, "half of a character"),
        ('"\\udfff": 1\n', 1, "half of a character"),
        ("a: !!python/object:os.system x\n", 1, "could not determine a constructor"),
        ("a: !!binary aGk=\n", 0, "a value of type bytes"),
        ("[a]: 1\n", 1, "a field's name must be plain text"),
        ("? [a]\n: 1\n", 1, "a field's name must be plain text"),
        ("a: &a [*a]\n", 0, "nested deeper than 100"),
        ("a: \x00\n", 0, "special characters are not allowed"),
        ("a: " + "[" * 5000, 1, "nested deeper than 100"),
        ("- " * 5000, 0, "nested deeper than 100"),
        ("a" * (MAX_CHARACTERS + 1), 0, "500,001 characters"),
    ],
)
def test_what_is_no_single_mapping_is_refused(text: str, line: int, complaint: str) -> None:
    """The error says what is wrong, and where it is known, on which line."""
    with pytest.raises(YamlError) as caught:
        read_yaml(text)

    assert complaint in caught.value.message
    assert caught.value.line == line


def test_an_alias_bomb_is_refused_before_it_unfolds() -> None:
    """A billion laughs take a thousand characters to write."""
    bomb = "a0: &a0 [x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
    )

    with pytest.raises(YamlError, match="more than 20,000 values"):
        read_yaml(bomb)


def test_pairs_of_escapes_are_one_character() -> None:
    """As Python and others write JSON, which is YAML for us; kubectl reads JSON by itself."""
    assert read_yaml(r'{"\ud83d\ude00": ["\ud83d\ude00!"]}').value == {
        "\U0001f600": ["\U0001f600!"]
    }


def test_documents_without_content_do_not_count() -> None:
    """Generators leave a separator at either end."""
    assert read_yaml("---\na: 1\n---\n").value == {"a": 1}


def test_aliases_and_merges_are_read() -> None:
    """They are part of YAML 1.1, and kubectl reads them."""
    found = read_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: *a\n").value

    assert found == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 1, "y": 2}}


def test_field_names_are_text_whatever_they_look_like() -> None:
    """`n` is the number of rows behind a result, not false."""
    assert read_yaml("{n: 1, 5: 2, yes: 3}").value == {"n": 1, "5": 2, "yes": 3}


def test_a_field_is_found_on_its_line_or_near_it() -> None:
    """A field that was not given is shown at the record around it."""
    source = read_yaml("a:\n  b:\n  - c: 1\n    d: 2\n")

    assert source.line_of(("a", "b", 0, "d")) == 4
    assert source.line_of(("a", "b", 0, "e", "f")) == 3
    assert source.line_of(("z",)) == 1
