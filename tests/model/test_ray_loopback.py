"""A Ray that a run starts for itself is reached from this machine alone, and by its owner alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.heavy


LISTENING = """
import json, os, stat, sys
from pathlib import Path
from tunesmith_trainer.train import ray_cluster

def listening():
    own = {os.getpid(), *ray_cluster._descendants(os.getpid())}
    inodes = set()
    for pid in own:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                inodes.add(os.readlink(link))
            except OSError:
                pass
    found = []
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                found.append(fields[1].partition(":")[0])
    return found

with ray_cluster.local_ray(workers=1, gpus=0, record=Path(sys.argv[1])) as folder:
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "token")]
    print(json.dumps([listening(), modes]))
"""


def test_a_ray_of_ones_own_listens_on_loopback_alone_and_its_token_is_private(
    tmp_path: Path,
) -> None:
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", LISTENING, str(tmp_path / "record")],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    addresses, modes = json.loads(done.stdout.splitlines()[-1])

    # In the kernel's table: 127.0.0.1 and ::1, also as one of IPv4 in IPv6.
    loopback = ("0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F")
    assert addresses
    assert set(addresses) <= set(loopback)
    assert modes == [0o700, 0o600]
    assert not (tmp_path / ".ray" / "auth_token").exists()
