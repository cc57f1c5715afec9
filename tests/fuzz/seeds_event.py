#!/usr/bin/env python3
"""Writes the first corpus of what takes events in: seeds_event.py DIR.

One job: DIR/event, DIR/schema and DIR/gunzip, one small file per seed, beside
what seeds.py writes for the others. Existing files of a corpus stay, so that
what a fuzzer found is kept.
"""

import gzip
import pathlib
import sys

EVENT = [
    b'{"specversion":"1.0","id":"A-1","source":"/my/context","type":"com.a",'
    b'"time":"2018-04-05T17:31:00.5+01:00","subject":"s","dataschema":"x:y",'
    b'"datacontenttype":"application/vnd.x+json; charset=utf-8","data":{"a":'
    b'[1, 2]},"partitionkey":"p","ext1":true,"ext2":-5,"ext3":null}',
    b'{"specversion":"1.0","id":"\\u00e4","source":"urn:x:%20","type":"t",'
    b'"data_base64":"AB+\\/","datacontenttype":"text/xml"}',
    b'{"specversion":"1.0","id":"i","source":"s","type":"t","data":"<a/>",'
    b'"datacontenttype":"text/xml"}',
    b'[{"specversion":"1.0","id":"i","source":"s","type":"t"},{},[1]," ] "]',
    b'[{"eventType":"a","payload":{"b":[ ]}} , {"idempotencyKey":"k"}]',
    b'[]', b' [ 1 , 2 ] ', b'{"a":1,"\\u0061":2}', b'{"data":1,"data":2}',
    b'specversion: 1.0\nid: "a \\" b"\nsource: /s%2F\nTYPE: t\n'
    b'content-type: application/json;charset="utf-8"\nx: %E2%82%AC\n\n{"a":1}',
    b'specversion:1.0\nid:i\nsource:s\ntype:t\n\n',
    b'1998-12-31T23:59:60Z', b'https://a/b?c#d', b'text/json; a="\\""',
]

SCHEMA = [
    b'{"type":"object","required":["id"],"additionalProperties":false,'
    b'"properties":{"id":{"$ref":"#/$defs/id"},"n":{"type":["integer","null"],'
    b'"minimum":1,"exclusiveMaximum":1e2}},"$defs":{"id":{"type":"string",'
    b'"pattern":"^[a-z]{1,3}$"}}}\n{"id":"abc","n":5.0}',
    b'{"items":{"enum":["a",1,true,null],"minLength":1}}\n["a",1.0,null,"b"]',
    b'{"const":"a","format":"uuid","maxLength":36}\n"a"',
    b'{"format":"date-time"}\n"2024-02-29T23:59:59.5Z"',
    b'{"format":"date"}\n"2024-02-29"',
    b'{"minProperties":1,"maxProperties":2,"properties":{"a/b~":false}}\n'
    b'{"a/b~":1}',
    b'{"minItems":1,"maxItems":2,"items":{"maximum":3,"exclusiveMinimum":0,'
    b'"minimum":0.5}}\n[1,2.5,0]',
    b'{"pattern":"^(?:a|\\\\d+[^x-z\\\\s]|\\\\u00e4)*?(b.c){2,}$"}\n'
    b'"a1bbxcb.c"',
    b'{"pattern":"[\\\\w-]+@(\\\\D|\\\\x41)$|^$"}\n"\\u00e4@A"',
    b'{"$schema":"https://json-schema.org/draft/2020-12/schema","title":"t",'
    b'"examples":[1],"default":{},"$id":"x"}\n1',
    b'{"$defs":{"a":{"items":{"$ref":"#/$defs/b"}},"b":true},"$ref":'
    b'"#/$defs/a"}\n[[]]',
    b'true\n1', b'false\n1', b'{"oneOf":[]}\n1',
]

# a size of pieces, then what is decoded
GUNZIP = [
    b"\x03" + gzip.compress(b'{"a":[1,2,3]}', mtime=0),
    b"\x00" + gzip.compress(b"", mtime=0),
    b"\x10" + gzip.compress(b"one", mtime=0) + gzip.compress(b"two", mtime=0),
    b"\xff" + gzip.compress(b" " * 70000, mtime=0),
    b"\x20" + gzip.compress(bytes(range(256)) * 3, 0, mtime=0),
]


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)

    base = pathlib.Path(sys.argv[1])
    for name, seeds in (("event", EVENT), ("schema", SCHEMA),
                        ("gunzip", GUNZIP)):
        folder = base / name
        folder.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(seeds):
            (folder / f"seed-{number:03d}").write_bytes(data)


if __name__ == "__main__":
    main()
