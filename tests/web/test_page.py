#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The page for browsers, used on a real mezzd by page.js."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "api"))
import daemon  # noqa: E402  (the folder is not a package)

# Where Debian's packages put modules, for a Node that is not Debian's.
ENV = {**os.environ, "NODE_PATH": "/usr/share/nodejs:/usr/lib/nodejs"}
PATIENCE_S = 120


def have_browser():
    """Whether there are Node and jsdom."""
    return shutil.which("node") and not subprocess.run(
        ["node", "-e", "require('jsdom')"], env=ENV, check=False, timeout=60,
        stderr=subprocess.DEVNULL).returncode


class Page(unittest.TestCase):
    """All that a person can do there."""

    def test_page(self):
        """By TCP with a token, since that is how browsers come."""
        mezzd = daemon.Daemon()
        self.addCleanup(mezzd.close)
        port = mezzd.use_tcp()
        mezzd.start()
        person = subprocess.Popen(
            ["node", HERE / "page.js", f"http://127.0.0.1:{port}/", daemon.TOKEN], env=ENV,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.addCleanup(person.stdout.close)
        said = []
        try:
            for line in person.stdout:
                said.append(line)
                if line == "mezzd?\n":
                    mezzd.end(signal.SIGKILL)
                    mezzd.start()
                    person.stdin.write("it is there\n")
                    person.stdin.close()
            self.assertEqual(0, person.wait(PATIENCE_S), "".join(said))
        finally:
            person.kill()
            person.wait()
        self.assertEqual(10, sum(line.startswith("ok: ") for line in said), said)


if __name__ == "__main__":
    if not have_browser():
        print("skipped: no Node.js with jsdom (Debian's packages nodejs, node-jsdom)")
        sys.exit(77)
    unittest.main()
