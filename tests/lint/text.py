#!/usr/bin/python3
"""What a text file of the project looks like, whatever is in it.

UTF-8, ends with one newline, no trailing white space, no tab outside makefiles
and Go; code and configuration within 80 columns; a header that says what
the file is for; no word that marks unfinished work.
"""

import os
import re
import sys

from project import ROOT, complain, files, verdict

CODE = (".c", ".h", ".py", ".sql", ".conf", ".js", ".sh")
# Written so that this file does not complain about itself.
UNFINISHED = re.compile(
    r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK|place" r"holder|for " r"now"
    r"|not imple" r"mented|stub" r"bed)\b", re.I)
# Where make and gofmt want tabs.
TABBED = ("Makefile", ".mk", ".go", "go.mod")
COLUMNS = 80
# A header of C names its file and says its job: at least this many lines.
HEADER_LINES = 4


def is_script(text):
    return text.startswith("#!")


def check_lines(path, text, code):
    for number, line in enumerate(text.split("\n"), 1):
        if line != line.rstrip():
            complain(path, number, "trailing white space")
        if "\t" in line and not path.endswith(TABBED):
            complain(path, number, "a tab")
        if code and len(line) > COLUMNS and "://" not in line:
            complain(path, number, f"{len(line)} columns, over {COLUMNS}")
        match = UNFINISHED.search(line)
        if match:
            complain(path, number, f"unfinished: {match.group()}")
    if text and (not text.endswith("\n") or text.endswith("\n\n")):
        complain(path, text.count("\n") + 1, "ends with no or two newlines")


def check_header(path, text):
    base = os.path.basename(path)
    if path.endswith((".c", ".h")):
        match = re.match(r"/\*\n \* (.*?)\n( \*[ \n].*?)?\*/\n", text, re.S)
        if not match:
            complain(path, 1, "opens with no header comment")
        elif not match.group(1).startswith(f"{base}: "):
            complain(path, 2, f"the header does not say '{base}: its job'")
        elif match.group().count("\n") < HEADER_LINES:
            complain(path, 1, "the header says too little")
    elif path.endswith(".py"):
        if not re.match(r'(#!.*\n)?"""\S', text):
            complain(path, 1, "opens with no docstring")
    elif path.endswith(".sql"):
        if not text.startswith("--"):
            complain(path, 1, "opens with no comment")
    elif path.endswith((".conf", ".yml")) or base.startswith("Makefile"):
        if not text.startswith("#"):
            complain(path, 1, "opens with no comment")
    elif is_script(text) and not re.match(r"#!.*\n# \S", text):
        complain(path, 1, "opens with no comment")


def main():
    for path in files():
        if path == "LICENSE":
            continue
        with open(os.path.join(ROOT, path), "rb") as file:
            raw = file.read()
        if b"\0" in raw[:8192]:
            continue
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            complain(path, raw.count(b"\n", 0, error.start) + 1, "not UTF-8")
            continue
        code = path.endswith(CODE) or is_script(text)
        check_lines(path, text, code)
        if text:
            check_header(path, text)
    return verdict()


if __name__ == "__main__":
    sys.exit(main())
