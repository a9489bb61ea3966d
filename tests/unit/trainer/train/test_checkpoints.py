"""Checkpoints are there whole or not at all, and a spoilt one is passed over."""

import json
import resource
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from tunesmith_trainer.train.checkpoints import Checkpoints, newest_step

WEIGHTS = {"weights": {"a": torch.arange(4.0)}}


@pytest.fixture
def kept(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path, config_digest="sha256:1", keep=2)


def _write(kept: Checkpoints, *steps: int, best_step: int = 0) -> None:
    for step in steps:
        kept.write(step, best_step=best_step, files=WEIGHTS, state={"loss": 0.1 + 0.2})


def test_what_was_written_comes_back_with_the_same_bits(kept: Checkpoints) -> None:
    _write(kept, 5)

    newest = kept.newest()

    assert newest is not None
    assert (newest.step, newest.state) == (5, {"loss": 0.1 + 0.2})
    assert torch.equal(newest.tensors("weights")["a"], torch.arange(4.0))


def test_the_newest_is_the_one_with_the_highest_step(kept: Checkpoints) -> None:
    _write(kept, 9, 10)

    newest = kept.newest()

    assert newest is not None
    assert newest.step == 10


def test_a_checkpoint_with_a_changed_byte_is_passed_over(kept: Checkpoints, tmp_path: Path) -> None:
    _write(kept, 1, 2)
    spoilt = tmp_path / "step-2" / "weights.safetensors"
    data = bytearray(spoilt.read_bytes())
    data[-1] ^= 1
    spoilt.write_bytes(data)

    newest = kept.newest()

    assert newest is not None
    assert newest.step == 1


@pytest.mark.parametrize("name", ["state.json", "weights.safetensors"])
def test_a_checkpoint_with_a_cut_or_missing_file_is_passed_over(
    kept: Checkpoints, tmp_path: Path, name: str
) -> None:
    _write(kept, 1, 2, 3)
    (tmp_path / "step-3" / name).unlink()
    (tmp_path / "step-2" / name).write_bytes((tmp_path / "step-2" / name).read_bytes()[:20])

    newest = kept.newest()

    assert newest is not None
    assert newest.step == 1


def test_a_checkpoint_of_another_configuration_is_none_of_ours(
    tmp_path: Path, kept: Checkpoints
) -> None:
    _write(kept, 1)

    assert Checkpoints(tmp_path, config_digest="sha256:2", keep=2).newest() is None


def test_of_a_checkpoint_of_another_run_it_is_said_what_differs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def kept(digest: str, **settings: str) -> Checkpoints:
        return Checkpoints(tmp_path, config_digest=digest, keep=2, settings=settings)

    _write(kept("sha256:1", workers="2", precision="bf16", seed="0"), 1)

    assert kept("sha256:2", workers="1", precision="fp32", seed="0", new="1").newest() is None
    assert "step-1 is passed over: it is of another run" in caplog.text
    assert "new was not set and is 1; precision was bf16 and is fp32" in caplog.text
    assert "workers was 2 and is 1" in caplog.text
    assert "seed" not in caplog.text


def test_of_another_release_the_format_is_told(
    kept: Checkpoints, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _write(kept, 1)
    state = tmp_path / "step-1" / "state.json"
    state.write_text(json.dumps({**json.loads(state.read_text()), "format": 1}))

    assert kept.newest() is None
    assert "its format is 1, and this release reads 4" in caplog.text


def test_a_disk_that_is_full_leaves_the_checkpoint_before_and_no_half_of_one(
    kept: Checkpoints, tmp_path: Path
) -> None:
    """Files of this process may not grow beyond 16 KiB, as if there were no more space."""
    _write(kept, 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16 << 10, before[1]))
    try:
        with pytest.raises((OSError, SafetensorError)):
            kept.write(2, best_step=0, files={"weights": {"a": torch.zeros(1 << 20)}}, state={})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    newest = kept.newest()

    assert newest is not None
    assert newest.step == 1
    assert torch.equal(newest.tensors("weights")["a"], WEIGHTS["weights"]["a"])
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]


def test_a_write_that_is_cut_off_leaves_nothing_that_looks_like_a_checkpoint(
    kept: Checkpoints, tmp_path: Path
) -> None:
    with pytest.raises(AttributeError):
        kept.write(1, best_step=1, files={"weights": {"a": None}}, state={})

    assert kept.newest() is None
    kept.discard_after(0)
    assert list(tmp_path.iterdir()) == []


def test_the_newest_and_the_best_are_kept(kept: Checkpoints, tmp_path: Path) -> None:
    _write(kept, 1, 2, 3, 4, best_step=2)
    kept.prune()

    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-2", "step-3", "step-4"]


def test_what_an_older_kept_checkpoint_calls_the_best_is_kept_too(
    kept: Checkpoints, tmp_path: Path
) -> None:
    """The newest may be spoilt one day; then the older one needs its best."""
    _write(kept, 1, 2, 3, best_step=1)
    _write(kept, 4, best_step=4)
    kept.prune()

    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-1", "step-3", "step-4"]


def test_a_checkpoint_holds_no_pickle(kept: Checkpoints, tmp_path: Path) -> None:
    _write(kept, 1)

    names = sorted(path.name for path in (tmp_path / "step-1").iterdir())
    assert names == ["state.json", "weights.safetensors"]


def test_the_newest_step_is_that_of_a_folder_of_a_checkpoint(tmp_path: Path) -> None:
    for name in ("step-9", "step-10", ".step-30.7"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)

    assert newest_step(tmp_path) == 10
    assert newest_step(tmp_path / "nothing") == 0
