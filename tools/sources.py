# SPDX-License-Identifier: Apache-2.0
"""Which files the checks look at, and a C scanner that is good enough for our own style."""

import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
C_FOLDERS = ("src", "tests", "guest", "bench")


def tracked():
    """Every file of the project: known to git or new and not ignored; sorted paths."""
    out = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True, capture_output=True).stdout
    names = sorted(set(out.decode().split("\0")) - {""})
    return [ROOT / name for name in names if (ROOT / name).is_file()]


def c_files(*suffixes):
    """C sources and headers of the project."""
    wanted = suffixes or (".c", ".h")
    return [p for p in tracked()
            if p.suffix in wanted and p.relative_to(ROOT).parts[0] in C_FOLDERS]


def name(path):
    """The path as people write it."""
    return str(path.relative_to(ROOT))


TOKEN = re.compile(
    r"(?P<comment>/\*.*?\*/|//[^\n]*)"
    r"|(?P<string>\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*')"
    r"|(?P<cpp>^[ \t]*\#(?:[^\n\\]|\\.|\\\n)*)",
    re.S | re.M)


def blank(text, keep=()):
    """Overwrite comments, strings and preprocessor lines by spaces; offsets stay true."""
    def repl(match):
        if match.lastgroup in keep:
            return match.group()
        return re.sub(r"[^\n]", " ", match.group())
    return TOKEN.sub(repl, text)


def line_of(text, offset):
    """Line number of an offset, from 1."""
    return text.count("\n", 0, offset) + 1
