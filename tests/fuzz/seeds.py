#!/usr/bin/env python3
"""Writes the first corpus of every fuzzer: seeds.py DIRECTORY.

One job: DIRECTORY/json and the like, one small file per seed. Frames
are the golden vectors, taken and refused ones; JSON and headers stand below.
Existing files of a corpus stay, so that what a fuzzer found is kept.
"""

import json
import pathlib
import sys

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "schemas" / "golden"

JSON = [
    b'{"idempotencyKey":"k-1","eventType":"price_set",'
    b'"payload":{"productId":42,"amount":19.99,"currency":"EUR"}}',
    b' { "payload" : [ 1 , { "a" : null } , true ] , "eventType" : "t" } ',
    b'{"\\u0065ventType":"\\ud83d\\ude00","payload":"\\u0000"}',
    b'{"payload":1,"payload":2}', b'{"x":[[[[]]]],"x":{}}',
    b'[0,-0,1.5e3,1e131071,1e131072,1e-16383,0e999999999]',
    b'["\\"\\\\\\/\\b\\f\\n\\r\\t","\\ud800","\\udc00\\ud800"]',
    '["\u00e4\u20ac\U0001f600","\u07ff\u0800\uffff"]'.encode(),
    b'["\xed\xa0\x80\xc0\x80\xf5"]', b'"0123456789abcdef\\n01234567"',
    b'nul', b'-', b'1.', b'01', b'{"a":1,}', b'[1}', b'', b' ', b'1 2',
]

HEADER = [
    b'"8e03978e-40d5-43dd-bc93-6894a57f9324"', b'"a\\"b\\\\c d"',
    b'8e03978e-40d5-43dd-bc93-6894a57f9324', b'"a";q=1', b'"a", "b"',
    b'192.0.2.1, [2001:db8::1]:443,\t10.0.0.1:80 , ::1', b'a,,b,', b',a',
    b'unknown', b'[::1', b':80', b'[]:80', b'example.com:8080',
    b'[2001:db8::ffff:192.0.2.1]:65535', b'[::1]:65536', b'a_b-c.d:0',
    b'00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
    b'01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x',
    b'ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
    b'00-00000000000000000000000000000000-00f067aa0ba902b7-01',
]

NATS = [
    b'PING\r\nPONG\r\n+OK\r\n-ERR \'Stale Connection\'\r\n',
    b'MSG a.b 9 5\r\nhello\r\nMSG a 1 _R.1 0\r\n\r\n',
    b'HMSG x 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n',
    b'HMSG x 1 r 18 20\r\nNATS/1.0\r\nA: b\r\n\r\nhi\r\n',
    b'INFO {"server_id":"N","version":"2.10.27","headers":true,'
    b'"max_payload":1048576,"nonce":"abc","connect_urls":["h:1"]}\r\n',
    b'{"stream":"S","seq":7,"duplicate":true}',
    b'{"error":{"code":503,"err_code":10077,"description":"full"},'
    b'"stream":"S","seq":0}',
    b'Permissions Violation for Publish to "a.b"', b'Authorization Violation',
    b'{"config":{"subjects":["x","a.b.*"],"discard":"new","storage":"file",'
    b'"num_replicas":1,"duplicate_window":120000000000,"max_msg_size":-1},'
    b'"created":"2026-01-31T12:00:00Z"}', b'["10.0.0.1:4222", "[::1]:4222"]',
]

_SEED = b"SUAAAAICAMCAKBQHBAEQUCYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4H776Y"
NKEY = [
    _SEED, b" " + _SEED + b"\n",
    b"-----BEGIN NATS USER JWT-----\na.b.c\n------END NATS USER JWT------\n"
    b"-----BEGIN USER NKEY SEED-----\n" + _SEED +
    b"\n------END USER NKEY SEED------\n", bytes(range(96)),
]

# How many commands wait, in how large pieces it comes, and what comes.
REDIS = [
    b"\1\0+OK\r\n", b"\3\1$5\r\nhello\r\n$-1\r\n:42\r\n",
    b"\0\0-ERR max number of clients reached\r\n", b"\0\0+PONG\r\n",
    b"\2\7*2\r\n$1\r\n0\r\n*2\r\n$3\r\na:b\r\n$0\r\n\r\n*-1\r\n",
    b"\1\0*2147483647\r\n:1\r\n", b"\1\0*-2\r\n", b"\1\0$-2\r\n",
    b"\1\0*16384\r\n*1\r\n:1\r\n", b"\1\0*8000\r\n*8000\r\n*8000\r\n",
    b"\1\0" + b"*1\r\n" * 12 + b":1\r\n", b"\1\0$9223372036854775807\r\n",
    b"\1\0%1\r\n+a\r\n:1\r\n", b"\1\0~1\r\n:1\r\n", b"\1\0>1\r\n+m\r\n",
    b"\1\0,1.5\r\n", b"\1\0#t\r\n", b"\1\0_\r\n", b"\1\0(12345\r\n",
    b"\1\0=7\r\ntxt:abc\r\n", b"\1\0:99999999999999999999\r\n",
]


_KEY = bytes(range(32))
REPLAY = [
    b"I\1C\0" + _KEY + bytes(16),
    b"I\1A\0" + _KEY + bytes(8) + b"\xc9\0\0\0\4\0\0\0\2\0\0\0head{}",
    b"I\1N\0" + _KEY + bytes(8) + b"\xc9\0" + bytes(10),
    b"I\1U\0" + _KEY + bytes(20),
]


def frames():
    for name in ("event_group.json", "push.json"):
        content = json.loads((GOLDEN / name).read_text(encoding="ascii"))
        for key in ("accepted", "refused", "refused_values"):
            for item in content.get(key, ()):
                data = bytes.fromhex(item.get("frame") or item.get("value")
                                     or "")
                if len(data) <= 4096:
                    yield data
                for doc in item.get("documents", ()):
                    yield bytes.fromhex(doc["value"])


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)

    base = pathlib.Path(sys.argv[1])
    for name, seeds in (("json", JSON), ("frame", frames()),
                        ("header", HEADER), ("nats", NATS), ("nkey", NKEY),
                        ("redis", REDIS), ("replay", REPLAY)):
        folder = base / name
        folder.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(seeds):
            (folder / f"seed-{number:03d}").write_bytes(data)


if __name__ == "__main__":
    main()
