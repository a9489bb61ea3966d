"""Images: unprivileged, from a base of one's choice, made from the locks."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FILES = {
    "operator": ROOT / "operator" / "Dockerfile",
    "trainer": ROOT / "trainer" / "Dockerfile",
    "compressor": ROOT / "trainer" / "Dockerfile.compressor",
    "server": ROOT / "serving" / "Dockerfile",
    "edge": ROOT / "trainer" / "Dockerfile.edge",
}
LOCKS = [
    *(f"requirements/{name}.txt" for name in FILES),
    *(f"requirements/gpu/{name}.txt" for name in ("torch", "trainer", "compressor", "server")),
    "requirements/tpu/trainer.txt",
]
HASHED = "pip install --no-deps --require-hashes"


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def steps(name: str) -> list[tuple[str, str]]:
    """Every instruction and its arguments, comments left out and long lines joined."""
    text = FILES[name].read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def arguments(name: str, instruction: str) -> list[str]:
    return [rest for word, rest in steps(name) if word == instruction]


@pytest.mark.parametrize("name", FILES)
def test_an_image_runs_as_a_numbered_user_who_is_not_root(name: str) -> None:
    """`runAsNonRoot` is judged by the number alone."""
    assert arguments(name, "USER")[-1] == "65532:65532"


@pytest.mark.parametrize("name", FILES)
def test_every_stage_starts_from_the_base_that_the_builder_names(name: str) -> None:
    first, *_ = steps(name)
    assert first[0] == "ARG"
    assert first[1].startswith("BASE=")
    assert {each.split()[0] for each in arguments(name, "FROM")} == {"${BASE}"}


@pytest.mark.parametrize("name", FILES)
def test_packages_are_pinned_by_the_lock_of_the_environment(name: str) -> None:
    text = FILES[name].read_text(encoding="utf-8")

    assert f"requirements/{name}.txt" in text
    assert arguments(name, "ADD") == []
    assert not [step for step in arguments(name, "RUN") if "lock-" in step and HASHED not in step]


@pytest.mark.parametrize("path", LOCKS)
def test_a_lock_has_a_hash_of_every_file_and_no_tool_of_tests(path: str) -> None:
    """Torch's builds for CPUs have none: PyTorch's index and a mirror may each have built them."""
    pins = re.findall(r"^([^ #\n]+)==(\S+)( \\\n +--hash=sha256:)?", read(path), re.MULTILINE)
    unhashed = [f"{name}=={version}" for name, version, hashed in pins if not hashed]

    assert unhashed == [each for each in unhashed if each.endswith("+cpu")]
    assert not {"pytest", "hypothesis"} & {name for name, _, _ in pins}


def test_the_operators_image_has_the_versions_that_are_tested() -> None:
    operator, control = (
        set(re.findall(r"^([^ #\n]+==\S+)", read(f"requirements/{name}.txt"), re.MULTILINE))
        for name in ("operator", "control")
    )

    assert operator < control


def test_an_image_names_the_build_of_torch_that_its_lock_pins() -> None:
    """It is an argument for the sake of GPUs; its default is the lock's."""
    for name in ("trainer", "compressor", "server", "edge"):
        lock = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
        (default,) = (a for a in arguments(name, "ARG") if a.startswith("TORCH="))
        assert re.search(rf"^{re.escape(default.removeprefix('TORCH='))}$", lock, re.MULTILINE)


@pytest.mark.parametrize("name", ["trainer", "compressor", "server"])
def test_the_accelerator_chooses_between_two_locks_that_the_context_holds(name: str) -> None:
    copies = dict(rest.split() for rest in arguments(name, "COPY") if rest.startswith("req"))
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()

    assert "ACCELERATOR=cpu" in arguments(name, "ARG")
    assert copies[f"requirements/{name}.txt"] == "/opt/tunesmith/lock-cpu.txt"
    assert copies[f"requirements/gpu/{name}.txt"] == "/opt/tunesmith/lock-gpu.txt"
    assert all((ROOT / path).is_file() for path in copies)
    assert {f"!requirements/{kind}*.txt" for kind in ("", "gpu/", "tpu/")} <= set(ignored)


def test_the_trainer_alone_has_a_lock_for_tpus_with_the_pins_of_the_one_for_cpus() -> None:
    copies = dict(rest.split() for rest in arguments("trainer", "COPY") if rest.startswith("req"))
    pins, tpu_pins = (
        dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / path).read_text("utf-8"), re.MULTILINE))
        for path in ("requirements/trainer.txt", "requirements/tpu/trainer.txt")
    )

    assert copies["requirements/tpu/trainer.txt"] == "/opt/tunesmith/lock-tpu.txt"
    assert {"torch-tpu", "libtpu"} <= tpu_pins.keys() - pins.keys()
    assert pins.keys() - tpu_pins.keys() == {"bitsandbytes"}
    assert {name: tpu_pins[name] for name in pins.keys() & tpu_pins.keys()}.items() <= pins.items()


def test_the_context_holds_what_the_wheel_is_made_of() -> None:
    """Whatever is not named in .dockerignore stays outside of every image."""
    allowed = {
        line.removeprefix("!").rstrip("/")
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]

    assert {path.partition("/")[0] for path in packages} <= allowed
    assert {"pyproject.toml", project["project"]["readme"], "LICENSE"} <= allowed
