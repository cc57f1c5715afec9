#!/usr/bin/env python3
"""Writes the first corpus of the read path's fuzzers: seeds_read.py DIRECTORY.

One job: DIRECTORY/http, /cursor, /param, /purge, /cache: a small file a seed.
The first byte of an http seed chooses the grammar (fuzz_http.c); a param seed
is a rule, a value and a document with zero bytes between (fuzz_param.c); a
cursor seed is a payload (hp_cursor.h); a purge seed is a body (hp_purge.h); a
cache seed is a row of operations (cache_model.h). Existing files stay.
"""

import pathlib
import sys

HTTP = (
    (b'"v1"', b'W/"v1", "a,b" ,,"c"', b' * ', b'"v1", *', b'"a\\", "v1"'),
    (b"Sun, 06 Nov 1994 08:49:37 GMT", b"Sunday, 06-Nov-94 08:49:37 GMT",
     b"Sun Nov  6 08:49:37 1994", b"Sat, 31 Dec 2016 23:59:60 GMT"),
    (b"public, max-age=60, s-maxage=\"5\", must-revalidate",
     b'private="a, b", no-cache, no-store, no-transform, proxy-revalidate',
     b"max-age=99999999999, stale-while-revalidate=30, stale-if-error=x",
     b"max-stale, min-fresh=5, only-if-cached, max-age=1", b'a="x, no-store'),
    (b"gzip;q=0.5, br, identity;q=0, *;q=0.001", b"x-gzip", b"*", b"br;q=1.",
     b"gzip ; Q=1.000 ,,"),
    (b'respond-async, wait = "10"; a ; b="c,d" ;;, respond-sync',
     b"accept-encoding, Accept-Language,, *", b"wait=5;x="),
    (b"\x01hotpath", b"\x02a b\"\\", b"\x8c/p/1?a=\xc3\xa4\n", b"\x40*a:/!"),
)

CURSOR = (
    bytes([1]) + bytes(12) + bytes([0]),
    bytes([1]) + bytes(range(8)) + bytes([255] * 4)
    + bytes([2, 1, 0, 3]) + b"abc" + bytes([2, 0, 0]),
    bytes([1]) + bytes(12) + bytes([9]), bytes([2]) + bytes(13),
    b"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
)

PARAM = (
    (b"int(-5..100)", b"-5", b"{}"), (b"uint", b"9223372036854775808", b"1"),
    (b"string(1..64,word)", b"a,b", b'{"a":1,"b":[{"a":"}"}],"c":null}'),
    (b"string", b"%c3%a4+%00&a=%zz&&b", b"[]"),
    (b"enum(asc|desc)", b"desc", b'{"desc":"\\u00e4"}'),
    (b"uuid", b"8E03978E-40D5-43DD-BC93-6894A57F9324", b"{"),
    (b"time", b"2024-02-29T23:59:59.5+01:00", b""), (b"bool", b"true", b""),
    (b"date", b"2024-02-29", b' { "2024-02-29" : 1 } '),
    (b"", b"a", b'{"\\u0061":1,"a":2}'),
)

PURGE = (
    b'{"model":"prices"}', b'{"model":"@http","tenant":""}',
    b'{"model":"prices","tenant":"acme","key":"\\u0034\\ud83d\\ude00"}',
    b' { "keys" : ["1","2"] , "mode" : "soft" , "model" : "p" } ',
    b'{"model":"p","tag":"spring","mode":"hard"}', b'{"model":"p","key":7}',
    b'{"model":"p","model":"q"}', b'{"model":"p","keys":[]}',
    b'{"instance":"web-1:8:0f","began":17,"leaving":false}',
    b'{"id":"0123456789abcdef","from":"a:1:2","purge":{"model":"p"}}',
    b'{"id":"0123456789abcdef","instance":"a:1:2","done":true,"purged":1,'
    b'"redis":2,"error":"zone_busy"}',
)

CACHE = (
    bytes(number * 37 + 7 & 255 for number in range(900)),
    bytes(range(256)) * 4,
    # puts of many keys into the smallest zone; then purges, walks and gets
    b"\x05" + b"".join(bytes((12, 200, 0, number, 9, number, 8))
                       for number in range(255)),
    b"\x0a" + b"".join(bytes((14, number, 1, 3, number, 5, number, 6, 65, 0, 3))
                       for number in range(90)),
)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)

    corpus = {
        "http": [bytes([grammar]) + value
                 for grammar, values in enumerate(HTTP) for value in values],
        "cursor": CURSOR,
        "param": [b"\0".join(pieces) for pieces in PARAM],
        "purge": PURGE,
        "cache": CACHE,
    }
    for name, seeds in corpus.items():
        folder = pathlib.Path(sys.argv[1]) / name
        folder.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(seeds):
            (folder / f"seed-{number:03d}").write_bytes(data)


if __name__ == "__main__":
    main()
