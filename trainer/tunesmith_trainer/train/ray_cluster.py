"""The Ray of one run: one of its own on this machine, or the cluster that the stage was started in.

`stage` opens it around the training, `ray_train` runs in it. Ray of its own is started, used, and
gone without a trace: it puts its workers into process groups of their own, so that a signal to the
stage's group does not reach them; whatever Ray leaves behind is ended here, also when the stage is
told to stop by SIGTERM, and then after training has kept its step. A stage killed outright takes
Ray's daemons with it (they follow their parent), and the workers leave once these are gone. A
cluster that was there before is joined, and left as it was.
"""

import ctypes
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import FrameType

from tunesmith_engine.stages.contracts import LEAVING
from tunesmith_trainer.train.leaving import leave, waited_for

# NB: this very address. Of every other one, 127.0.0.2 included, Ray's daemons listen on all
# interfaces of the machine.
LOOPBACK = "127.0.0.1"
# Of a machine that may be part of a cluster Ray replaces it by an address that others reach.
_ONE_MACHINE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}

# Ray sets it for what it starts as a job of a cluster, KubeRay in every pod of one.
_ADDRESS = "RAY_ADDRESS"

# Nearly the least that Ray takes: nothing but requests and results goes through it, and /dev/shm of
# a pod is small.
_OBJECT_STORE_BYTES = 80 * 1024 * 1024

# For the stage and all its workers.
_SETTINGS = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # what is taken away is started again by others
    "RAY_USAGE_STATS_ENABLED": "0",  # it calls home by default
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # Ray Train would move each worker into a folder of its own
    "HF_HUB_OFFLINE": "1",  # all was fetched by prepare; a look at the hub would be a hidden input
    "TOKENIZERS_PARALLELISM": "false",  # its threads and forked processes do not go together
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # or sums differ from run to run, says NVIDIA's manual
    "TQDM_DISABLE": "1",  # the log is read by people
}

_LONGEST_FOLDER = 38  # Unix sockets lie below it, and their paths may have 107 bytes
_FOLDER_PREFIX = "tunesmith-ray-"
_TRAINING = b"ray::RayTrainWorker"  # as Ray names the process of an actor
_PR_SET_CHILD_SUBREAPER = 36
STOPPED = 128 + signal.SIGTERM  # as a shell tells it

# Ray's own 30 s are too short where other work leaves its daemons a tenth of a processor to start.
_START_WAIT_S = 240.0
# Well below the 30 s that a pod has by default between SIGTERM and SIGKILL.
_STOP_WAIT_S = 10.0


def is_in_cluster() -> bool:
    """Whether this process was started in a cluster of Ray."""
    return _ADDRESS in os.environ


@contextmanager
def joined_ray(*, folder: Path) -> Iterator[Path]:
    """Join the cluster that this process was started in; yield `folder`, emptied.

    `folder` takes Ray Train's records, which workers of ours never read; it is deleted in the end.

    Raises:
        SystemExit: SIGTERM arrived; the cluster is left by then.
    """
    import ray

    os.environ.update(_SETTINGS)
    with _exit_on_sigterm() as arm, ExitStack() as cleanup:
        # An attempt that was killed here may have left it: the head is new, the volume is not.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
        cleanup.callback(ray.shutdown)
        # The settings go along: this process is one of many in the cluster, and its workers
        # inherit nothing from its environment.
        ray.init(
            address=os.environ[_ADDRESS],
            runtime_env={"env_vars": _SETTINGS},
        )
        arm()  # NB: Ray has put its own handler in place of ours
        with waited_for():
            yield folder


@contextmanager
def local_ray(*, workers: int, gpus: int, record: Path) -> Iterator[Path]:
    """Start Ray with room for the workers; yield a folder that is deleted with it.

    `record` is a file that names this folder while Ray runs: the next attempt of a stage that was
    killed deletes what it left.

    Raises:
        SystemExit: SIGTERM arrived; training has kept its step, and Ray is down by then.
    """
    import ray
    from ray._private import ray_constants

    # It may have been imported, and have read its environment, long before.
    ray_constants.ENABLE_RAY_CLUSTER = False
    # Ray's daemons inherit it, and the workers from them.
    os.environ.update(
        {
            **_SETTINGS,
            **_ONE_MACHINE,
            "RAY_task_events_report_interval_ms": "0",  # telling them takes Ray 5 s at the end
            "RAY_worker_niceness": "0",  # added to our own; Ray's 15 starves training on a laptop
            "GLOO_SOCKET_IFNAME": "lo",  # gloo would look for the address of the host's name
            "OMP_NUM_THREADS": str(threads_per_worker(workers)),
        }
    )
    # Ray's agents start as where the dashboard is not installed: nobody asks them for it here. With
    # all of it they take several times as long, and on a busy machine too long for Ray.
    sys.modules["ray.dashboard.optional_deps"] = None  # type: ignore[assignment]
    _adopt_orphans()
    with (
        _exit_on_sigterm(_have_workers_leave) as arm,
        _recorded_folder(record) as folder,
        _token_in(folder / "token"),
        _told_to_leave_in(folder / "leaving"),
    ):
        try:
            with _patient_start():
                ray.init(
                    address="local",
                    # A worker asks for one: more workers than processors would wait for ever.
                    num_cpus=max(workers, os.cpu_count() or 1),
                    num_gpus=gpus,
                    include_dashboard=False,
                    object_store_memory=_OBJECT_STORE_BYTES,
                    # Below the private one: Ray lets everybody write to what it is given.
                    _temp_dir=str(folder / "r"),
                    _node_ip_address=LOOPBACK,
                )
            arm()  # NB: Ray has put its own handler in place of ours
            yield folder
        except SystemExit:
            _end_training()
            raise
        finally:
            # NB: in this order. Ray ends its own daemons; what it leaves is ended after it.
            ray.shutdown()
            _end_descendants()


def threads_per_worker(num_workers: int) -> int:
    """Threads for the arithmetic of each of the workers that share this machine."""
    return max(1, len(os.sched_getaffinity(0)) // num_workers)


@contextmanager
def _patient_start() -> Iterator[None]:
    """Wait longer than Ray does until its node has started within the block.

    NB: no setting says how long. `Node.__init__` of Ray 2.60 gives up when this function has failed
    for 30 s, so here it fails later.
    """
    from ray._private import services

    get_node = services.get_node

    def get_node_later(*where: str) -> object:
        give_up = time.monotonic() + _START_WAIT_S
        while True:
            try:
                return get_node(*where)
            except RuntimeError:  # it has not started yet
                if time.monotonic() > give_up:
                    raise
            time.sleep(0.1)

    services.get_node = get_node_later
    try:
        yield
    finally:
        services.get_node = get_node


@contextmanager
def _recorded_folder(record: Path) -> Iterator[Path]:
    _delete_recorded(record)
    parent = tempfile.gettempdir()
    if len(parent) > _LONGEST_FOLDER:
        parent = "/tmp"  # noqa: S108 - mkdtemp makes a private folder in it
    folder = Path(tempfile.mkdtemp(prefix=_FOLDER_PREFIX, dir=parent))
    record.write_text(str(folder), encoding="utf-8")
    try:
        yield folder
    finally:
        _delete_recorded(record)


def _delete_recorded(record: Path) -> None:
    if not record.exists():
        return
    # Whatever the file says, nothing else than a folder of this name is ever deleted.
    folder = Path(record.read_text(encoding="utf-8"))
    if folder.name.startswith(_FOLDER_PREFIX):
        shutil.rmtree(folder, ignore_errors=True)
    record.unlink()


@contextmanager
def _token_in(path: Path) -> Iterator[None]:
    """Within the block a Ray that is started asks for the token in this file, which is ours alone.

    Ray's own would lie in the home folder for every run, and for every user to read.
    """
    path.touch(mode=0o600)
    path.write_text(secrets.token_hex(32), encoding="utf-8")
    given = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path)}
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    _have_ray_reread_its_environment()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _have_ray_reread_its_environment()


def _have_ray_reread_its_environment() -> None:
    """What it read when it was imported, it keeps: we would be turned away by our own daemons."""
    from ray._raylet import AuthenticationTokenLoader, Config

    # NB: the order. A thread that ends late loads the token once more if it shall have one.
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def _told_to_leave_in(folder: Path) -> Iterator[None]:
    """Workers that are started within the block look there for the notice."""
    os.environ[LEAVING] = str(folder)
    try:
        yield
    finally:
        del os.environ[LEAVING]


def _have_workers_leave() -> None:
    folder = os.environ.get(LEAVING)
    if folder is not None:
        leave(Path(folder))


@contextmanager
def _exit_on_sigterm(
    before_exit: Callable[[], object] = lambda: None,
) -> Iterator[Callable[[], object]]:
    """Turn SIGTERM into SystemExit; yield what puts the handler back in place."""
    # Python lets no other thread set handlers; a test may run the stage in one.
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def stop(number: int, _frame: FrameType | None) -> None:
        # A second SIGTERM would cut the cleaning short that the first one asked for.
        signal.signal(number, signal.SIG_IGN)
        before_exit()
        sys.exit(STOPPED)

    arm = partial(signal.signal, signal.SIGTERM, stop)
    arm()
    try:
        yield arm
    # Ray, waiting in C++, hands it on with a code of its own.
    except SystemExit as error:
        raise SystemExit(STOPPED) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _adopt_orphans() -> None:
    """Make this process the parent of whatever its children leave behind, where Linux can.

    Otherwise the workers of a daemon that has ended would hang below init, out of our sight.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _end_training() -> None:
    """Kill the workers, which would train on for the seconds that Ray takes to end.

    Only them: a driver whose Ray is gone is ended by it at once.
    """
    for pid in _descendants(os.getpid()):
        try:
            name = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:  # it has ended since
            continue
        if name.startswith(_TRAINING):
            _kill(pid)


def _end_descendants() -> None:
    """Kill and reap every process below this one until none is left."""
    deadline = time.monotonic() + _STOP_WAIT_S
    # Again and again: a process may start another between the look at /proc and its end.
    while (pids := _descendants(os.getpid())) and time.monotonic() < deadline:
        for pid in pids:
            _kill(pid)
        time.sleep(0.05)
    # As their parent, by adoption, nobody else can: they would stay as zombies.
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def _descendants(ancestor: int) -> list[int]:
    """Every process that runs below `ancestor`; those that have ended are left out."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            # The second field is a name in brackets, which may hold spaces and brackets itself.
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(entry.name)] = int(fields[1])
    below = [ancestor]
    for pid in below:
        below += [child for child, parent in parents.items() if parent == pid]
    return below[1:]


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
