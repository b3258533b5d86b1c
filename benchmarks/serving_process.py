"""`tfsac serve` in a process of its own, on ports that are free."""

import os
import pathlib
import re
import subprocess
import sys

_COMMAND = "import sys; from tfsac.cli import main; sys.exit(main())"


class Server:
    """A context manager.

    Args:
        folder: The model's; its name is the model's.
        options: Of `tfsac serve`.
    """

    def __init__(self, folder, *options):
        self._args = ["serve", folder, "--rest-port", 0, "--grpc-port", 0]
        self._args += options

    def __enter__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, *map(str, self._args)],
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        told = ""
        for line in self.process.stdout:
            told += line
            if line.startswith("Status"):
                break
        self.rest_port = int(re.search(r"REST .*:(\d+)/", told)[1])
        self.grpc_port = int(re.search(r"gRPC .*:(\d+)", told)[1])
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.communicate(timeout=60)

    def rss_mib(self):
        """The memory that it holds."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024

    def cpu_seconds(self):
        """The time that it has computed."""
        stat = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text()
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
