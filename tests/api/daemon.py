# SPDX-License-Identifier: Apache-2.0
"""A mezzd for the tests of its API, whose VMs have no processor."""

import pathlib
import socket
import sys
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "tools"))
import lab  # noqa: E402  (the folder is not a package)
from built import BUILD, MEZZ, MEZZD, MIB, ROOT  # noqa: E402, F401  (for the tests, too)

FAKE_VM = BUILD / "tests" / "host" / "fake_vm"
TOKEN = "a-token-for-tests-0123456789"


class Daemon(lab.Mezzd):
    """One mezzd. What it answers is looked at as it comes."""

    def __init__(self, memory="128MiB", options=(), vm_program=FAKE_VM):
        super().__init__(memory, ["--vm-program", str(vm_program), *options])

    def use_tcp(self):
        """Listen there too from the next start on, for whoever says TOKEN. Return: the port."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        token = self.path / "token"
        token.write_text(TOKEN + "\n")
        token.chmod(0o600)
        self.command += ["--tcp", f"127.0.0.1:{port}", "--token-file", str(token)]
        return port

    def get(self, path, **query):
        """GET."""
        words = "?" + urllib.parse.urlencode(query) if query else ""
        return self.ask("GET", path + words)

    def create(self, name, size=64 * MIB, start=False, **config):
        """Define a VM, perhaps start it."""
        answer = self.ask("POST", "/v1/vms", {"name": name, "memorySize": size, **config})
        if answer.status == 201 and start:
            return self.ask("POST", f"/v1/vms/{name}/start")
        return answer
