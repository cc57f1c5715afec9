#!/usr/bin/env python3
"""Compares hp_schema.c with python3-jsonschema: PROGRAM [SCHEMAS] [SEED].

PROGRAM is schema_check, built by the Makefile. Makes SCHEMAS random schemas of
the supported subset and, for each, values that are near to what it allows; both
sides must agree whether a value is valid, and what hp_schema names (keyword
and place) must be among the errors of the other. Not compared: what the two
define differently (members that stand twice, which Python's reader drops, and
text outside ASCII under \\d and \\w, which is not made here). As many random
patterns are compared with Python's re, on short texts of few letters.

Ends with 1 at the first difference, and prints it; the same seed repeats it.
"""

import datetime
import json
import random
import re
import subprocess
import sys

import jsonschema

SCHEMAS = 1500
VALUES = 20
DEPTH = 4
URI = "https://json-schema.org/draft/2020-12/schema"

NAMES = ["a", "b", "c", "a/b", "m~n", "", "\u00e4\"", "k" * 20]
STRINGS = ["", "a", "b", "ab", "abc", "12", "a-1", "x@y.z", "\u00e4\u20ac",
           "\U0001f600", "\"\\/", "A", "aaa", "2024-02-29", "2023-02-29",
           "2024-02-29T23:59:59Z", "2024-02-29T24:00:00Z",
           "2024-02-29t23:59:59.5+01:00",
           "8e03978e-40d5-43dd-bc93-6894a57f9324",
           "8e03978e40d543ddbc936894a57f9324"]
NUMBERS = [0, -0.0, 1, 1.0, -1, 2, 2.5, 3, -2.75, 10, 100.0, 1e20, 2**53,
           2**53 + 1, -2**60, 0.125]
PATTERNS = ["a", "^a", "b$", "^[a-c]+$", "^\\d{2}$", "^(a|ab)(c|)$", "",
            "^[^@\\s]+@[^@\\s]+$", "\\w-\\d", "^.{2,3}$", "a?b+", "[^\\d\\s]b",
            "^(?:a{2}|[A-Z])*$", "x|^$", "\u00e4"]

CHECKER = jsonschema.FormatChecker(formats=())
TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt]([01]\d|2[0-3]):[0-5]\d:[0-5]\d"
                  r"(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)\Z", re.A)


def is_date(text):
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.A):
        return False
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        return False
    return True


@CHECKER.checks("date")
def check_date(value):
    return not isinstance(value, str) or is_date(value)


@CHECKER.checks("date-time")
def check_time(value):
    if not isinstance(value, str):
        return True
    match = TIME.match(value)
    return bool(match) and is_date(match.group(1))


@CHECKER.checks("uuid")
def check_uuid(value):
    return not isinstance(value, str) or bool(
        re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
                     value))


def some(rng, items, most):
    return rng.sample(items, rng.randint(0, min(most, len(items))))


def scalar(rng):
    return rng.choice([None, True, False, rng.choice(NUMBERS),
                       rng.choice(STRINGS), rng.choice(STRINGS)])


def distinct(values):
    """Without those that JSON Schema calls equal: 1 and 1.0."""
    seen, kept = set(), []
    for value in values:
        key = (isinstance(value, bool), type(value) is str, value)
        if key not in seen:
            seen.add(key)
            kept.append(value)
    return kept


def make_schema(rng, depth, refs):
    if rng.random() < 0.05:
        return rng.random() < 0.7
    if refs and rng.random() < 0.15:
        return {"$ref": "#/$defs/" + rng.choice(refs)}
    schema = {}

    def maybe(chance, key, value):
        if rng.random() < chance:
            schema[key] = value()

    types = ["null", "boolean", "object", "array", "string", "number",
             "integer"]
    maybe(0.4, "type", lambda: rng.choice(types) if rng.random() < 0.6
          else rng.sample(types, rng.randint(1, 4)))
    maybe(0.1, "enum", lambda: distinct(scalar(rng) for _ in range(
        rng.randint(1, 6))))
    maybe(0.05, "const", lambda: scalar(rng))
    for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
        maybe(0.1, key, lambda: rng.choice(NUMBERS))
    for key, most in (("minLength", 3), ("maxLength", 25), ("minItems", 2),
                      ("maxItems", 4), ("minProperties", 2),
                      ("maxProperties", 4)):
        maybe(0.1, key, lambda top=most: rng.randint(0, top))
    maybe(0.1, "pattern", lambda: rng.choice(PATTERNS))
    maybe(0.1, "format", lambda: rng.choice(["date", "date-time", "uuid"]))
    maybe(0.15, "required", lambda: some(rng, NAMES, 2))
    maybe(0.1, "additionalProperties", lambda: rng.random() < 0.3)
    maybe(0.05, "title", lambda: "t")
    if depth > 0:
        maybe(0.5, "properties", lambda: {
            name: make_schema(rng, depth - 1, refs)
            for name in some(rng, NAMES, 5)})
        maybe(0.35, "items", lambda: make_schema(rng, depth - 1, refs))
    return schema


def make_root(rng):
    count = rng.randint(0, 3)
    defs = {}
    for number in range(count):
        # each refers only to those before it: no circles
        defs[f"d{number}"] = make_schema(rng, 2, list(defs))
    root = make_schema(rng, DEPTH, list(defs))
    if isinstance(root, dict) and defs:
        root["$defs"] = defs
    if isinstance(root, dict) and rng.random() < 0.1:
        root["$schema"] = URI
    return root


def make_value(rng, schema, defs, depth):
    """A value that the schema may well allow."""
    if isinstance(schema, dict) and "$ref" in schema:
        schema = defs[schema["$ref"].rsplit("/", 1)[1]]
    if isinstance(schema, bool) or rng.random() < 0.1:
        schema = {}
    if "const" in schema and rng.random() < 0.8:
        return schema["const"]
    if "enum" in schema and rng.random() < 0.8:
        return rng.choice(schema["enum"])
    types = schema.get("type")
    if types is None:
        types = ["object"] if "properties" in schema or "required" in schema \
            else ["array"] if "items" in schema else \
            ["null", "boolean", "string", "number", "array", "object"]
    kind = rng.choice([types] if isinstance(types, str) else types)
    if kind == "null":
        return None
    if kind == "boolean":
        return rng.random() < 0.5
    if kind == "string":
        return rng.choice(STRINGS)
    if kind == "number":
        return rng.choice(NUMBERS)
    if kind == "integer":
        return rng.choice([n for n in NUMBERS if n == int(n)])
    if kind == "array":
        if depth == 0:
            return []
        return [make_value(rng, schema.get("items", {}), defs, depth - 1)
                for _ in range(rng.randint(0, 4))]
    if depth == 0:
        return {}
    properties = schema.get("properties", {})
    names = some(rng, NAMES, 2)
    names += [n for n in schema.get("required", ()) if rng.random() < 0.9]
    names += [n for n in properties if rng.random() < 0.7]
    rng.shuffle(names)
    return {name: make_value(rng, properties.get(name, {}), defs, depth - 1)
            for name in names}


def pointer(path):
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1")
                   for step in path)


def place(error, code, where):
    """Whether this error of jsonschema is what we said."""
    path = pointer(error.absolute_path)
    if code == "schema_false":
        # some versions of jsonschema name the array of `items: false`, or
        # leave out the last step
        return error.validator in (None, "items") and \
            path in (where, where.rpartition("/")[0])
    keyword = {"schema_additional": "additionalProperties"}.get(
        code, re.sub(r"_(\w)", lambda m: m.group(1).upper(),
                     code[len("schema_"):]))
    if error.validator != keyword:
        return False
    if code == "schema_required":
        return any(where == path + pointer([name])
                   and name not in error.instance
                   for name in error.validator_value)
    if code == "schema_additional":
        return any(where == path + pointer([name]) for name in error.instance
                   if name not in error.schema.get("properties", {}))
    return where == path


def compare(ask, rng, root, counts):
    answer = ask("S" + json.dumps(root))
    if answer != "ok":
        return f"schema: {answer}"
    other = jsonschema.Draft202012Validator(root, format_checker=CHECKER)
    defs = root.get("$defs", {}) if isinstance(root, dict) else {}
    for _ in range(VALUES):
        value = make_value(rng, root, defs, DEPTH + 1)
        text = json.dumps(value, ensure_ascii=rng.random() < 0.5)
        answer = ask("V" + text)
        errors = list(other.iter_errors(value))
        counts["ok" if not errors else "refused"] += 1
        if (answer == "ok") != (not errors):
            return f"value: {text}\nours: {answer}\nother: {errors[:3]}"
        if errors:
            code, _, where = answer.split(" ", 2)
            counts[code] = counts.get(code, 0) + 1
            if not any(place(error, code, where) for error in errors):
                return (f"value: {text}\nours: {answer}\nother: "
                        + str([(e.validator, list(e.absolute_path))
                               for e in errors]))
    return None


def make_pattern(rng, depth):
    """Of what both understand alike; texts hold no line break."""
    choice = rng.random()
    if depth == 0 or choice < 0.35:
        return rng.choice(["a", "b", "c", ".", "[ab]", "[^a]", "[a-c]", "\\w",
                           "\\d", "\\x61", "[^\\D1]", "^", "$", "aab"])
    if choice < 0.65:
        return "".join(make_pattern(rng, depth - 1)
                       for _ in range(rng.randint(1, 4)))
    if choice < 0.8:
        return rng.choice(["(%s)", "(?:%s)"]) % "|".join(
            rng.choice(["", make_pattern(rng, depth - 1),
                        make_pattern(rng, depth - 1)])
            for _ in range(rng.randint(1, 3)))
    return "(?:%s)%s" % (make_pattern(rng, depth - 1), rng.choice(
        ["*", "+", "?", "*?", "{2}", "{0,2}", "{1,}", "{0}", "{1,3}"]))


def compare_pattern(ask, rng, counts):
    pattern = make_pattern(rng, 4)
    answer = ask("S" + json.dumps({"pattern": pattern}))
    if answer.endswith("too complex") or answer.endswith("too long"):
        return None
    if answer != "ok":
        return f"pattern: {answer}"
    compiled = re.compile(pattern, re.A)
    for _ in range(VALUES):
        text = "".join(rng.choice("aaabbc1") for _ in range(rng.randint(0, 8)))
        matches = bool(compiled.search(text))
        counts["matches" if matches else "differs"] += 1
        if (ask("V" + json.dumps(text)) == "ok") != matches:
            return f"pattern: {pattern}\ntext: {text}\nother: {matches}"
    return None


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    schemas = int(sys.argv[2]) if len(sys.argv) > 2 else SCHEMAS
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else \
        random.SystemRandom().randrange(1 << 32)
    rng = random.Random(seed)
    counts = {"ok": 0, "refused": 0, "matches": 0, "differs": 0}
    with subprocess.Popen([sys.argv[1]], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, encoding="utf-8") as program:
        def ask(line):
            program.stdin.write(line + "\n")
            program.stdin.flush()
            return program.stdout.readline().rstrip("\n")

        for number in range(schemas):
            root = make_root(rng)
            problem = compare(ask, rng, root, counts) or \
                compare_pattern(ask, rng, counts)
            if problem:
                print(f"schema_differential: seed {seed}, schema {number}: "
                      f"{json.dumps(root)}\n{problem}")
                return 1
        program.stdin.close()
        if program.wait(timeout=10) != 0:
            print(f"schema_differential: {sys.argv[1]} failed")
            return 1
    # a run that compared nothing proves nothing
    if min(counts[key] for key in ("ok", "refused", "matches", "differs")) \
            < schemas or len(counts) < 17:
        print(f"schema_differential: too little was compared: {counts}")
        return 1
    print(f"schema_differential: seed {seed}, {schemas} schemas: "
          f"{counts['ok']} values valid, {counts['refused']} not; "
          f"{counts['matches']} texts match, {counts['differs']} do not")
    return 0


if __name__ == "__main__":
    sys.exit(main())
