#!/usr/bin/python3
"""Nothing undocumented, nothing documented that is not there.

Directives: every one in an ngx_command_t table has a heading "### name" in
ngx_module/README.md and stands in a sample below config/, and every heading
and every name in a sample is a directive. Variables, problem codes, metrics of
the module: named in the same README. Options and metrics of the workers:
named in workers/README.md. In both directions where the reference has a table
row or a heading for it.
"""

import re
import sys

from project import complain, files, line_of, read, verdict

MODULE = "ngx_module/README.md"
WORKERS = "workers/README.md"

COMMAND = re.compile(r'ngx_string\("(hotpath\w*)"\),\s*NGX_(?!HTTP_VAR)')
VARIABLE = re.compile(r'ngx_string\("(hotpath_\w+)"\),\s*(?:NULL|ngx_http)')
PROBLEM = re.compile(r'X\(\w+,\s*"(\w+)",\s*\d{3},')
METRIC_ROW = re.compile(r'X\(\w+,\s*(?:COUNTER|GAUGE),\s*(?:\\\s*)?"(\w+)"')
METRIC_ZONE = re.compile(r'ZONE_METRIC\(\w+, [01],\s*"(\w+)"')
METRIC_TEXT = re.compile(r'# TYPE (hotpath_\w+)')
METRIC_WORKER = re.compile(
    r'(?:hpw_metric\(\s*[^,]+,|HPW_EACH\(|HPW_COUNT\()\s*"(\w+)"')
OPTION = re.compile(r'\{\s*"(\w+)",\s*HPW_SETTING_')


def found(pattern, paths):
    """name -> (path, line) of where the code has it first."""
    names = {}
    for path in paths:
        text = read(path)
        for match in pattern.finditer(text):
            names.setdefault(match.group(1),
                             (path, line_of(text, match.start())))
    return names


def documented(what, names, reference):
    """Every name of the code is in the reference, in backquotes."""
    text = read(reference)
    for name, (path, line) in sorted(names.items()):
        if not re.search(rf"`\$?{re.escape(name)}[`{{]", text):
            complain(path, line, f"{what} {name} is not in {reference}")


def exists(what, pattern, names, path, text=None):
    """Every name that a reference or a sample has is in the code."""
    text = read(path) if text is None else text
    for match in re.finditer(pattern, text, re.M):
        if match.group(1) not in names:
            complain(path, line_of(text, match.start()),
                     f"{what} {match.group(1)} is not in the code")


def section(text, word):
    """The text with everything blanked but sections titled with the word."""
    kept, inside = [], False
    for line in text.split("\n"):
        if line.startswith("#"):
            inside = word in line.lower()
        kept.append(line if inside else "")
    return "\n".join(kept)


def check_directives(sources):
    names = found(COMMAND, sources)
    reference = read(MODULE)
    samples = [path for path in files(".conf") if path.startswith("config/")]
    used = "\n".join(read(path) for path in samples)
    for name, (path, line) in sorted(names.items()):
        if not re.search(rf"^### {name}$", reference, re.M):
            complain(path, line, f"directive {name} is not in {MODULE}")
        if not re.search(rf"^[\s#]*{name}[\s;]", used, re.M):
            complain(path, line, f"directive {name} is in no sample")
    exists("directive", r"^### (hotpath\w*)$", names, MODULE)
    for path in samples:
        exists("directive", r"^\s*(hotpath\w*)[\s;]", names, path)


def main():
    module = [path for path in files(".c", ".h")
              if path.startswith("ngx_module/")]
    workers = [path for path in files(".c", ".h")
               if path.startswith("workers/")]

    check_directives([path for path in module if path.endswith(".c")])
    documented("variable", found(VARIABLE, module), MODULE)

    problems = found(PROBLEM, module)
    documented("problem", problems, MODULE)
    exists("problem", r"^\| `(\w+)` \| \d{3} \|", problems, MODULE)

    metrics = {**found(METRIC_ROW, module), **found(METRIC_ZONE, module),
               **found(METRIC_TEXT, module)}
    documented("metric", metrics, MODULE)
    exists("metric", r"^\| `(hotpath_\w+)[`{]", metrics, MODULE)

    metrics = found(METRIC_WORKER, workers)
    documented("metric", metrics, WORKERS)
    exists("metric", r"^\| `(hotpath_\w+)[`{]", metrics, WORKERS)

    options = found(OPTION, workers)
    documented("option", options, WORKERS)
    exists("option", r"^\| `(\w+)` \|", options, WORKERS,
           section(read(WORKERS), "setting"))
    for path in ("config/drain.json", "config/project.json"):
        exists("option", r'^\s*"(\w+)":', options, path)
    return verdict()


if __name__ == "__main__":
    sys.exit(main())
