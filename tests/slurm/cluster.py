"""A real SLURM of two nodes on one machine, in a folder of its own: munge, one slurmctld, two slurmd, no systemd.

python tests/slurm/cluster.py install          apt-get install slurm-wlm munge (Debian, Ubuntu; as root)
python tests/slurm/cluster.py start FOLDER     start it and print what to export; FOLDER holds all that it writes
python tests/slurm/cluster.py stop FOLDER      cancel what runs and end it

Partitions: jobs of `low` are taken down by those of `high` at once, and requeued; those of `graced` after a grace time.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")
SEARCHED = "/usr/sbin:/usr/local/sbin"
NODES = ("n1", "n2")
INSTALL = ["apt-get", "install", "-y", "--no-install-recommends", "slurm-wlm", "munge"]
# Process groups stand for what cgroups do on a cluster in earnest: SIGTERM reaches a job's shell and its tasks, but not
# the srun between them. One machine has no two sets of cgroups; proctrack/linuxproc would signal every descendant.
CONFIG = """
ClusterName=modalign
SlurmctldHost=localhost(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=30
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=86400
SchedulerParameters=bf_interval=1,batch_sched_delay=0,sched_interval=1
{nodes}
PartitionName=low Nodes=ALL PriorityTier=1 PreemptMode=REQUEUE
PartitionName=graced Nodes=ALL PriorityTier=1 PreemptMode=REQUEUE GraceTime=60
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF
"""
NODE = "NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs=4 RealMemory=500 State=UNKNOWN"


@dataclass(frozen=True)
class Cluster:
    """A cluster whose files lie in `folder`."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs to reach this cluster; the names of its nodes mean nothing, so all meet at home."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf"), "MASTER_ADDR": "127.0.0.1"}

    def run(self, *words: str, check: bool = True, cwd: Path | None = None) -> str:
        """What one of SLURM's programs says."""
        done = subprocess.run(
            words, env=os.environ | self.environment, capture_output=True, text=True, check=False, timeout=60, cwd=cwd
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr or done.stdout}")
        return done.stdout.strip()

    def job(self, number: str) -> dict[str, str]:
        """Everything that SLURM knows of a job."""
        shown = self.run("scontrol", "show", "job", "--oneliner", number)
        return dict(re.findall(r"(\w+)=(\S*)", shown))

    def start(self) -> Cluster:
        """Start the daemons and wait until both nodes are idle."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        for name in ("state", *NODES):
            (self.folder / name).mkdir(exist_ok=True)
        key = self.folder / "munge.key"
        key.unlink(missing_ok=True)
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        ports = _free_ports(1 + len(NODES))
        user = pwd.getpwuid(os.getuid()).pw_name
        nodes = [NODE.format(name=name, port=port) for name, port in zip(NODES, ports[1:], strict=True)]
        text = CONFIG.format(user=user, port=ports[0], folder=self.folder, nodes="\n".join(nodes))
        (self.folder / "slurm.conf").write_text(text.lstrip())
        files = {name: self.folder / f"munge.{name}" for name in ("socket", "pid", "log", "seed")}
        words = [
            "--force", f"--key-file={key}", f"--socket={files['socket']}", f"--pid-file={files['pid']}",
            f"--log-file={files['log']}", f"--seed-file={files['seed']}",
        ]  # fmt: skip
        self._daemon("munged", *words)
        self._daemon("slurmctld")
        for name in NODES:
            self._daemon("slurmd", "-N", name)
        self.wait(self.idle)
        return self

    def idle(self) -> bool:
        """Whether all nodes are free, and nothing of an earlier job is still ending on them."""
        return self.run("sinfo", "-h", "-p", "low", "-t", "idle", "-o", "%D", check=False) == str(len(NODES))

    def stop(self) -> None:
        """Cancel what runs, then end the daemons and what is left of jobs, those of this folder alone."""
        with contextlib.suppress(RuntimeError, TimeoutError, subprocess.TimeoutExpired):
            for partition in ("low", "graced", "high"):
                self.run("scancel", f"--partition={partition}")
            self.wait(lambda: not self.run("squeue", "-h"), 45.0)
        for name in (*(f"slurmd-{node}" for node in NODES), "slurmctld", "munge"):
            _end(self.folder / f"{name}.pid")
        for process in self._left_over():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def _left_over(self) -> Iterator[int]:
        """Processes of this cluster's jobs: they know its configuration, and slurmstepd lives in its folder."""
        own = f"SLURM_CONF={self.folder}/slurm.conf".encode()
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                known = (place / "environ").read_bytes().split(b"\0")
                job = own in known and any(entry.startswith(b"SLURM_JOB_ID=") for entry in known)
                keeper = (place / "cmdline").read_bytes().startswith(b"slurmstepd") and (place / "cwd").resolve()
                if job or keeper == self.folder:
                    yield int(place.name)

    def wait(self, until: Callable[[], object], seconds: float = 60.0) -> None:
        """Come back when `until` holds; TimeoutError, with what the daemons last said, where it does not."""
        deadline = time.monotonic() + seconds
        while not until():
            if time.monotonic() > deadline:
                logs = [f"{log.name}: {log.read_text()[-1500:]}" for log in sorted(self.folder.glob("*.log"))]
                raise TimeoutError(f"not within {seconds:.0f} s\n" + "\n".join(logs))
            time.sleep(0.2)

    def _daemon(self, program: str, *words: str) -> None:
        found = find(program)
        assert found is not None
        subprocess.run([found, *words], env=os.environ | self.environment, check=True, timeout=60)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """A cluster for as long as the block lasts."""
    cluster = Cluster(folder.resolve())
    try:
        yield cluster.start()
    finally:
        cluster.stop()


def missing() -> str:
    """What keeps a cluster from being started here, empty where nothing does."""
    lacking = [program for program in PROGRAMS if find(program) is None]
    return f"no {', '.join(lacking)}: python tests/slurm/cluster.py install (as root)" if lacking else ""


def find(program: str) -> str | None:
    """A program's path; daemons are often on nobody's search path."""
    return shutil.which(program) or shutil.which(program, path=SEARCHED)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for taken in sockets:
            taken.bind(("127.0.0.1", 0))
        return [taken.getsockname()[1] for taken in sockets]


def _end(pid_file: Path) -> None:
    """End the process that a file names, harder where it does not listen."""
    if not pid_file.is_file() or not (text := pid_file.read_text().strip()):
        return
    with contextlib.suppress(ProcessLookupError):
        for number, patience_s in ((signal.SIGTERM, 20.0), (signal.SIGKILL, 5.0)):
            os.kill(int(text), number)
            deadline = time.monotonic() + patience_s
            while time.monotonic() < deadline:
                os.kill(int(text), 0)
                time.sleep(0.1)


def main(words: list[str]) -> int:
    """Install, start or stop."""
    if words == ["install"]:
        subprocess.run(["apt-get", "update", "-q"], check=False)
        return subprocess.run(INSTALL, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"}, check=False).returncode
    if len(words) != 2 or words[0] not in ("start", "stop") or missing():
        sys.stderr.write(f"{missing() or __doc__}\n")
        return 2
    cluster = Cluster(Path(words[1]).resolve())
    if words[0] == "stop":
        cluster.stop()
        return 0
    cluster.start()
    sys.stdout.write("".join(f"export {name}={value}\n" for name, value in cluster.environment.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
