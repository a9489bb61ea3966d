"""The Ray of one run: one of its own on this machine, or the cluster that the stage was started in.

`stage` opens it around the training. Ray of its own is started, used, and gone without a trace: it
puts its workers into process groups of their own, so that a signal to the stage's group does not
reach them; whatever Ray leaves behind is ended here, also when the stage is told to stop by
SIGTERM. A stage killed outright takes Ray's daemons with it (they follow their parent), and the
workers leave once these are gone. A cluster that was there before is joined, and left as it was.
"""

import ctypes
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType

# Ray replaces 127.0.0.1 by an address that others can reach; this one is loopback just as well.
LOOPBACK = "127.0.0.2"

# Ray sets it for what it starts as a job of a cluster, KubeRay in every pod of one.
_ADDRESS = "RAY_ADDRESS"

_OBJECT_STORE_BYTES = 80 * 1024 * 1024

# For the stage and all its workers.
_SETTINGS = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # what is taken away is started again by others
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
}

_LONGEST_FOLDER = 40  # Unix sockets lie below it, and their paths may have 107 bytes
_FOLDER_PREFIX = "tunesmith-ray-"
_TRAINING = b"ray::RayTrainWorker"  # as Ray names the process of an actor
_PR_SET_CHILD_SUBREAPER = 36
_STOPPED = 128 + signal.SIGTERM
_STOP_WAIT_S = 10.0


def is_in_cluster() -> bool:
    """Whether this process was started in a cluster of Ray."""
    return _ADDRESS in os.environ


@contextmanager
def joined_ray(*, folder: Path) -> Iterator[Path]:
    """Join the cluster that this process was started in; yield `folder`, emptied.

    `folder` is on a volume that all workers share, and is deleted in the end.

    Raises:
        SystemExit: SIGTERM arrived; the cluster is left by then.
    """
    import ray

    os.environ.update(_SETTINGS)
    with _exit_on_sigterm() as arm, _emptied(folder):
        try:
            ray.init(
                address=os.environ[_ADDRESS],
                runtime_env={"env_vars": _SETTINGS},
            )
            arm()  # Ray has put its own handler in place of ours
            yield folder
        finally:
            ray.shutdown()


@contextmanager
def local_ray(*, workers: int, gpus: int, record: Path) -> Iterator[Path]:
    """Start Ray with room for the workers; yield a folder that is deleted with it.

    `record` is a file that names this folder while Ray runs: the next attempt of a stage that was
    killed deletes what it left.

    Raises:
        SystemExit: SIGTERM arrived; Ray is down by then.
    """
    import ray

    _set_environment(workers)
    _leave_dashboard_out()
    _adopt_orphans()
    with _exit_on_sigterm() as arm, _recorded_folder(record) as folder:
        try:
            ray.init(
                address="local",
                num_cpus=max(workers, os.cpu_count() or 1),
                num_gpus=gpus,
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                _temp_dir=str(folder),
                _node_ip_address=LOOPBACK,
            )
            arm()  # Ray has put its own handler in place of ours
            yield folder
        except SystemExit:
            _end_training()
            raise
        finally:
            ray.shutdown()
            _end_descendants()


@contextmanager
def _emptied(folder: Path) -> Iterator[None]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def threads_per_worker(num_workers: int) -> int:
    """Threads for the arithmetic of each of the workers that share this machine."""
    return max(1, len(os.sched_getaffinity(0)) // num_workers)


def _set_environment(workers: int) -> None:
    """What Ray's daemons and workers inherit."""
    os.environ.update(
        {
            **_SETTINGS,
            "RAY_task_events_report_interval_ms": "0",  # telling them takes Ray 5 s at the end
            "GLOO_SOCKET_IFNAME": "lo",
            "OMP_NUM_THREADS": str(threads_per_worker(workers)),
        }
    )


def _leave_dashboard_out() -> None:
    """Start Ray's agents as where the dashboard is not installed: nobody asks them for it here.

    With all of it they take several times as long, and on a busy machine too long for Ray.
    """
    sys.modules["ray.dashboard.optional_deps"] = None  # type: ignore[assignment]


@contextmanager
def _recorded_folder(record: Path) -> Iterator[Path]:
    _delete_recorded(record)
    folder = _temporary_folder()
    record.write_text(str(folder), encoding="utf-8")
    try:
        yield folder
    finally:
        _delete_recorded(record)


def _temporary_folder() -> Path:
    parent = tempfile.gettempdir()
    if len(parent) > _LONGEST_FOLDER:
        parent = "/tmp"  # noqa: S108 - mkdtemp makes a private folder in it
    return Path(tempfile.mkdtemp(prefix=_FOLDER_PREFIX, dir=parent))


def _delete_recorded(record: Path) -> None:
    if not record.exists():
        return
    folder = Path(record.read_text(encoding="utf-8"))
    if folder.name.startswith(_FOLDER_PREFIX):
        shutil.rmtree(folder, ignore_errors=True)
    record.unlink()


@contextmanager
def _exit_on_sigterm() -> Iterator[Callable[[], object]]:
    """Turn SIGTERM into SystemExit; yield what puts the handler back in place."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    arm = partial(signal.signal, signal.SIGTERM, _exit)
    arm()
    try:
        yield arm
    except SystemExit as stop:  # Ray, waiting in C++, hands it on with a code of its own
        raise SystemExit(_STOPPED) from stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _exit(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)
    sys.exit(_STOPPED)


def _adopt_orphans() -> None:
    """Make this process the parent of whatever its children leave behind, where Linux can."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _end_training() -> None:
    """Kill the workers, which would train on for the seconds that Ray takes to end.

    Only them: a driver whose Ray is gone is ended by it at once.
    """
    for pid in _descendants(os.getpid()):
        if _name(pid).startswith(_TRAINING):
            _kill(pid)


def _name(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _end_descendants() -> None:
    """Kill and reap every process below this one until none is left."""
    deadline = time.monotonic() + _STOP_WAIT_S
    while (found := _descendants(os.getpid())) and time.monotonic() < deadline:
        for pid in found:
            _kill(pid)
        time.sleep(0.05)
    _reap()


def _descendants(ancestor: int) -> list[int]:
    parents = _parents()
    below = [ancestor]
    for pid in below:
        below += [child for child, parent in parents.items() if parent == pid]
    return below[1:]


def _parents() -> dict[int, int]:
    """The parent of every process that runs; those that have ended are left out."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            found[int(entry.name)] = int(fields[1])
    return found


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return
