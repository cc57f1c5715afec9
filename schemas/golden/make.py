#!/usr/bin/env python3
"""Writes the golden vectors: ids.json, event_group.json, push.json.

One job: a second implementation of schemas/framing.md, written from that
document and from nothing else, so that the C code and this one can only agree
where both do what is written. Standard library only; XXH64 is spelled out
below. Nothing here is random: the same bytes come out every time.

    make.py           writes the files beside itself
    make.py --check   exits 1 where a file is not what would be written

In the files every byte string is hexadecimal, every 64 bit integer a decimal
string (a JSON number may lose its last digits in a reader). "refused" frames
break exactly one rule each; a reader must give an error for all of them.

Read by tests/unit/test_id.c, tests/unit/test_frame.c, and as seeds by
tests/fuzz/.
"""

import hashlib
import json
import pathlib
import struct
import sys

HERE = pathlib.Path(__file__).resolve().parent
MASK = (1 << 64) - 1
P1 = 0x9E3779B185EBCA87
P2 = 0xC2B2AE3D27D4EB4F
P3 = 0x165667B19E3779F9
P4 = 0x85EBCA77C2B2AE63
P5 = 0x27D4EB2F165667C5


def rotl(value, count):
    return ((value << count) | (value >> (64 - count))) & MASK


def xxh64(data, seed=0):
    def mix(acc, lane):
        return rotl((acc + lane * P2) & MASK, 31) * P1 & MASK

    pos = 0
    if len(data) >= 32:
        accs = [(seed + P1 + P2) & MASK, (seed + P2) & MASK, seed,
                (seed - P1) & MASK]
        while pos + 32 <= len(data):
            lanes = struct.unpack_from("<4Q", data, pos)
            accs = [mix(acc, lane) for acc, lane in zip(accs, lanes)]
            pos += 32
        h = sum(rotl(acc, n) for acc, n in zip(accs, (1, 7, 12, 18))) & MASK
        for acc in accs:
            h = ((h ^ mix(0, acc)) * P1 + P4) & MASK
    else:
        h = (seed + P5) & MASK

    h = (h + len(data)) & MASK
    while pos + 8 <= len(data):
        h ^= mix(0, struct.unpack_from("<Q", data, pos)[0])
        h = (rotl(h, 27) * P1 + P4) & MASK
        pos += 8
    if pos + 4 <= len(data):
        h ^= struct.unpack_from("<I", data, pos)[0] * P1 & MASK
        h = (rotl(h, 23) * P2 + P3) & MASK
        pos += 4
    for byte in data[pos:]:
        h ^= byte * P5 & MASK
        h = rotl(h, 11) * P1 & MASK

    h = (h ^ h >> 33) * P2 & MASK
    h = (h ^ h >> 29) * P3 & MASK
    return h ^ h >> 32


def text16(data):
    return struct.pack("<H", len(data)) + data


def stamp(raw, version):
    raw = bytearray(raw)
    raw[6] = version << 4 | raw[6] & 0x0F
    raw[8] = 0x80 | raw[8] & 0x3F
    return bytes(raw)


def uuid_text(raw):
    h = raw.hex()
    return "-".join((h[:8], h[8:12], h[12:16], h[16:20], h[20:]))


def operation_id(tenant, route, key):
    hashed = (b"hotpath/operation/1\0" + text16(tenant) + text16(route)
              + text16(key))
    return stamp(hashlib.sha256(hashed).digest()[:16], 8)


def uuid7(unix_ms, random):
    return stamp(unix_ms.to_bytes(6, "big") + random, 7)


def fingerprint(kind, payload):
    return hashlib.sha256(text16(kind) + payload).digest()


def partition(tenant, key, op_id, partitions):
    return xxh64(tenant + b"\0" + (key or op_id)) % partitions


# Bytes that look random and are the same every time.
def filler(length, salt):
    out = b""
    while len(out) < length:
        out += hashlib.sha256(f"{salt}/{len(out)}".encode()).digest()
    return out[:length]


def printable(length, salt):
    return bytes(0x21 + byte % 0x5E for byte in filler(length, salt))


def make_ids():
    triples = [
        (b"acme", b"events", b"0b6cb8a1-7d7f-4d0c-9a43-6f1f1d6f7a10"),
        (b"acme", b"events", b"1"),
        (b"acme", b"event", b"s1"),
        (b"acm", b"eevents", b"1"),
        (b"a", b"b", b"c"),
        (b"A.b_c-9", b"orders", b"a key with spaces"),
        (b"t" * 64, b"r" * 64, printable(255, "key")),
        (b"acme", b"events", b"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"),
        (b"acme", b"events", b"nul\0inside"),
        (b"", b"", b""),
    ]
    operations = [{
        "tenant": t.hex(), "route": r.hex(), "key": k.hex(),
        "id": operation_id(t, r, k).hex(),
        "text": uuid_text(operation_id(t, r, k)),
    } for t, r, k in triples]

    prints = [{
        "type": t.hex(), "payload": p.hex(),
        "fingerprint": fingerprint(t, p).hex(),
    } for t, p in [
        (b"price_set", b'{"productId":42,"amount":19.99,"currency":"EUR"}'),
        (b"price_set", b'{"amount":19.99,"productId":42,"currency":"EUR"}'),
        (b"price_se", b't{"productId":42,"amount":19.99,"currency":"EUR"}'),
        (b"page_view", b"null"),
        (b"x" * 255, filler(5000, "payload")),
        (b"block", filler(64, "b")),
        (b"y" * 300, b"1"),
        (b"", b""),
    ]]

    some_id = operation_id(b"acme", b"events", b"1")
    partitions = [{
        "tenant": t.hex(), "partition_key": k.hex(), "id": some_id.hex(),
        "partitions": n, "partition": partition(t, k, some_id, n),
    } for t, k, n in [
        (t, k, n)
        for t in (b"acme", b"b", b"t" * 64)
        for k in (b"", b"42", b"customer-7", b"k" * 100, filler(31, "p"))
        for n in (1, 2, 3, 8, 1000, 4294967295)
    ]]

    hashes = [{
        "data": filler(n, "hash").hex(), "seed": str(seed),
        "hash": str(xxh64(filler(n, "hash"), seed)),
    } for n in list(range(41)) + [63, 64, 65, 255, 1000]
        for seed in (0, 1, 0x0123456789ABCDEF, MASK)]

    sevens = [{
        "unix_ms": str(ms), "random": r.hex(), "id": uuid7(ms, r).hex(),
        "text": uuid_text(uuid7(ms, r)),
    } for ms, r in [
        (0, bytes(10)),
        (1769860800123, bytes(range(10))),
        (281474976710655, b"\xff" * 10),
        (0x017F22E279B0, bytes.fromhex("0cc318c4dc0c0c07398f")),
    ]]

    return {"operations": operations, "fingerprints": prints,
            "partitions": partitions, "xxh64": hashes, "uuid7": sevens}


EVENT_TEXTS = ("tenant", "route", "key", "type", "traceparent", "attributes",
               "payload")


def event_record(event):
    texts = [event[name] for name in EVENT_TEXTS]
    lengths = [len(text) for text in texts]
    body = event["operation_id"] + event["fingerprint"]
    body += struct.pack("<qHHHHBBH", event["accepted_us"], *lengths[:5],
                        event["data"], lengths[5])
    body += b"".join(texts)
    assert len(body) == 68 + sum(lengths)
    return struct.pack("<I", len(body)) + body


def event_group(events, count=None):
    head = b"HPE\x01" + struct.pack("<I", len(events) if count is None
                                    else count)
    return head + b"".join(event_record(event) for event in events)


def event(payload, key=b"k-1", tenant=b"acme", route=b"events",
          kind=b"price_set", trace=b"", accepted_us=1769860800123456,
          attributes=b"", data=0):
    op_id = (operation_id(tenant, route, key) if key
             else uuid7(accepted_us // 1000 & (1 << 48) - 1, bytes(range(10))))
    return {"operation_id": op_id, "fingerprint": fingerprint(kind, payload),
            "accepted_us": accepted_us, "tenant": tenant, "route": route,
            "key": key, "type": kind, "traceparent": trace,
            "attributes": attributes, "data": data, "payload": payload}


def shown(record):
    return {name: value.hex() if isinstance(value, bytes)
            else str(value) if name in ("accepted_us", "version",
                                        "modified_us")
            else value for name, value in record.items()}


def patched(frame, offset, data):
    return frame[:offset] + data + frame[offset + len(data):]


def make_event_group():
    trace = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    price = b'{"productId":42,"amount":19.99,"currency":"EUR"}'
    one = [event(price, trace=trace)]
    accepted = [
        ("one", one),
        ("three", [event(price), event(b"null", key=b"", kind=b"page_view"),
                   event(b'"\xc3\xa4\xf0\x9f\x98\x80"', key=b"k-3",
                         trace=trace)]),
        ("smallest", [event(b"1", key=b"", tenant=b"t", route=b"r",
                            kind=b"x", accepted_us=0)]),
        ("greatest", [event(b"[" + b"1," * 2000 + b"1]",
                            key=printable(255, "k"), tenant=b"t" * 64,
                            route=b"r" * 64, kind=printable(255, "t"),
                            trace=trace, accepted_us=(1 << 63) - 1)]),
        ("cloudevents", [
            event(price, key=b"/shop 17", attributes=b'{"id":"17",'
                  b'"source":"/shop","specversion":"1.0"}'),
            event(b"null", key=b"/shop 18", attributes=b"{}", data=1),
            event(b'"<a/>"', key=b"/shop 19", attributes=b"{}", data=2),
            event(b'"AAEC"', key=b"/shop 20", data=3,
                  attributes=b'{"x":"' + b"y" * (65535 - 8) + b'"}')]),
        ("before_1970", [event(price, accepted_us=-1)]),
        ("hundred", [event(b"%d" % n, key=b"key-%d" % n)
                     for n in range(100)]),
    ]

    frame = event_group(one)
    record = len(frame) - 8
    refused = [
        ("empty message", b""),
        ("header cut short", frame[:7]),
        ("magic of a push", b"HPP" + frame[3:]),
        ("magic in lower case", b"hpe" + frame[3:]),
        ("version 0", patched(frame, 3, b"\0")),
        ("version 2", patched(frame, 3, b"\2")),
        ("count 0, no events", event_group([])),
        ("count 0, one event", event_group(one, 0)),
        ("count one too great", event_group(one, 2)),
        ("count one too small", event_group(one * 2, 1)),
        ("count 65536", event_group(one, 65536)),
        ("count of all ones", event_group(one, 0xFFFFFFFF)),
        ("no byte of the record", frame[:8]),
        ("cut within the length", frame[:11]),
        ("cut within the fixed part", frame[:40]),
        ("last byte missing", frame[:-1]),
        ("one byte behind", frame + b"\0"),
        ("record length 0", patched(frame, 8, struct.pack("<I", 0))),
        ("record length 67", patched(frame, 8, struct.pack("<I", 67))),
        ("record one longer than the message",
         patched(frame, 8, struct.pack("<I", record - 3))),
        ("record length of all ones", patched(frame, 8, b"\xff" * 4)),
        ("texts longer than the record", patched(frame, 8 + 66, b"\xff\0")),
        ("payload empty", event_group([event(b"")])),
        ("tenant empty", event_group([event(price, tenant=b"")])),
        ("tenant of 65", event_group([event(price, tenant=b"t" * 65)])),
        ("route empty", event_group([event(price, route=b"")])),
        ("route of 65", event_group([event(price, route=b"r" * 65)])),
        ("key of 256", event_group([event(price, key=b"k" * 256)])),
        ("type empty", event_group([event(price, kind=b"")])),
        ("type of 256", event_group([event(price, kind=b"t" * 256)])),
        ("trace of 1", event_group([event(price, trace=b"0")])),
        ("trace of 54", event_group([event(price, trace=trace[:54])])),
        ("trace of 56", event_group([event(price, trace=trace + b"-")])),
        ("data of no kind", patched(frame, 8 + 69, b"\4")),
        ("attributes past the end", patched(frame, 8 + 71, b"\x80")),
        ("second record broken", event_group(one, 2)
         + patched(event_record(one[0]), 69, b"\7")),
    ]
    return {
        "accepted": [{"name": name, "frame": event_group(events).hex(),
                      "events": [shown(e) for e in events]}
                     for name, events in accepted],
        "refused": [{"name": name, "frame": data.hex()}
                    for name, data in refused],
    }


def doc_value(doc):
    return (b"HPD" + bytes([1 if doc["deleted"] else 0])
            + b"%016x" % doc["version"]
            + struct.pack("<qHH", doc["modified_us"], len(doc["tenant"]),
                          len(doc["key"]))
            + doc["tenant"] + doc["key"] + doc["document"])


def doc_record(doc):
    value = doc_value(doc)
    return struct.pack("<I", len(value)) + value


def push(docs, lane=0, epoch_us=1769860800000000, sequence=1, count=None):
    return (b"HPP\x01" + struct.pack("<HHqQI", lane, 0, epoch_us, sequence,
                                     len(docs) if count is None else count)
            + b"".join(doc_record(doc) for doc in docs))


def document(text, key=b"42", tenant=b"", version=4711, deleted=0,
             modified_us=1769860800123456):
    return {"version": version, "modified_us": modified_us,
            "deleted": deleted, "tenant": tenant, "key": key,
            "document": text}


def make_push():
    price = b'{"productId":42,"amount":19.99,"currency":"EUR"}'
    one = [document(price)]
    accepted = [
        ("one", one, {}),
        ("heartbeat", [], {"lane": 1, "sequence": 17}),
        ("heartbeat before the first message", [], {"sequence": 0}),
        ("tombstone", [document(b"", deleted=1)], {"sequence": 2}),
        ("several", [document(price, tenant=b"acme"),
                     document(b"", key=b"a:b\0c", deleted=1, version=1),
                     document(b"{}", key=b"k" * 1024, tenant=b"t" * 64,
                              version=(1 << 64) - 1, modified_us=-1)],
         {"lane": 65535, "epoch_us": (1 << 63) - 1,
          "sequence": (1 << 64) - 1}),
        ("version 0", [document(b"1", version=0, key=b"k",
                                modified_us=-(1 << 63))],
         {"epoch_us": -1}),
    ]

    frame = push(one)
    value = doc_value(one[0])
    refused_values = [
        ("empty", b""),
        ("cut within the fixed part", value[:31]),
        ("magic of a push", b"HPP" + value[3:]),
        ("flag of bit 1", patched(value, 3, b"\2")),
        ("flag of bit 7", patched(value, 3, b"\x80")),
        ("deleted, with a document", patched(value, 3, b"\1")),
        ("not deleted, without a document", doc_value(document(b""))),
        ("version in upper case", patched(value, 4, b"000000000000000A")),
        ("version with a space", patched(value, 4, b"               1")),
        ("version with a sign", patched(value, 4, b"+000000000000001")),
        ("version with g", patched(value, 4, b"000000000000000g")),
        ("tenant of 65", doc_value(document(price, tenant=b"t" * 65))),
        ("key empty", doc_value(document(price, key=b""))),
        ("key of 1025", doc_value(document(price, key=b"k" * 1025))),
        ("key longer than the value", patched(value, 30, b"\xff\0")),
        ("tenant longer than the value",
         doc_value(document(b"1", key=b"k"))[:28] + b"\x40\0\1\0" + b"k1"),
    ]
    refused = [
        ("empty message", b""),
        ("header cut short", frame[:27]),
        ("magic of an event group", b"HPE" + frame[3:]),
        ("version 0", patched(frame, 3, b"\0")),
        ("version 2", patched(frame, 3, b"\2")),
        ("reserved byte 1", patched(frame, 6, b"\1")),
        ("reserved byte 2", patched(frame, 7, b"\1")),
        ("documents in sequence 0", push(one, sequence=0)),
        ("heartbeat with a byte behind", push([]) + b"\0"),
        ("heartbeat with a document behind", push(one, count=0)),
        ("count one too great", push(one, count=2)),
        ("count one too small", push(one * 2, count=1)),
        ("count 65536", push(one, count=65536)),
        ("count of all ones", push(one, count=0xFFFFFFFF)),
        ("cut within the length", frame[:30]),
        ("last byte missing", frame[:-1]),
        ("one byte behind", frame + b"\0"),
        ("record length 0", patched(frame, 28, bytes(4))),
        ("record length 31", patched(frame, 28, struct.pack("<I", 31))),
        ("record length of all ones", patched(frame, 28, b"\xff" * 4)),
    ] + [
        ("document: " + name,
         push([], count=1) + struct.pack("<I", len(data)) + data)
        for name, data in refused_values
    ]
    return {
        "accepted": [
            {"name": name, "frame": push(docs, **head).hex(),
             "partition": head.get("lane", 0),
             "epoch_us": str(head.get("epoch_us", 1769860800000000)),
             "sequence": str(head.get("sequence", 1)),
             "documents": [dict(shown(doc), value=doc_value(doc).hex())
                           for doc in docs]}
            for name, docs, head in accepted],
        "refused": [{"name": name, "frame": data.hex()}
                    for name, data in refused],
        "refused_values": [{"name": name, "value": data.hex()}
                           for name, data in refused_values],
    }


def main():
    # the vectors everybody has for XXH64
    assert xxh64(b"") == 0xEF46DB3751D8E999
    assert xxh64(b"abc") == 0x44BC2CF5AD770999

    check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check:
        sys.exit(__doc__)

    stale = []
    for name, content in (("ids.json", make_ids()),
                          ("event_group.json", make_event_group()),
                          ("push.json", make_push())):
        path = HERE / name
        text = json.dumps(content, indent=1) + "\n"
        if not check:
            path.write_text(text, encoding="ascii")
        elif not path.exists() or path.read_text(encoding="ascii") != text:
            stale.append(name)

    if stale:
        sys.exit("not what make.py writes: " + ", ".join(stale))


if __name__ == "__main__":
    main()
