"""What every check in tests/lint/ needs: the project's files, and a verdict.

Files are those that git knows or would add, so that a check sees a change
before it is committed and never what a build left behind. A check calls
complain() for each finding and ends with sys.exit(verdict()).
"""

import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
_complaints = 0


def files(*endings):
    """Paths relative to the root, sorted; of any ending if none is given."""
    listed = subprocess.run(
        ["git", "-C", ROOT, "-c", f"safe.directory={ROOT}", "ls-files", "-z",
         "--cached", "--others", "--exclude-standard"],
        stdout=subprocess.PIPE, check=True).stdout.decode()
    return sorted(
        path for path in set(listed.split("\0"))
        if path and path.endswith(endings or "")
        and os.path.isfile(os.path.join(ROOT, path)))


def read(path):
    """The text of a file of the project; '' where it is missing."""
    try:
        with open(os.path.join(ROOT, path), encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def complain(path, line, message):
    global _complaints
    _complaints += 1
    print(f"{path}:{line}: {message}")


def verdict():
    if _complaints:
        name = os.path.basename(sys.argv[0])
        print(f"{name}: {_complaints} complaint(s)", file=sys.stderr)
    return 1 if _complaints else 0
