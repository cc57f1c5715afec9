/*
 * json_texts.h: JSON texts that are to be taken, and the scanner on a copy.
 *
 * Shared by test_json.c and test_json_event.c: the same list proves the
 * scanner by itself and inside the event envelope. Every text in it keeps to
 * RFC 8259 and to what jsonb stores; none nests deeper than DEPTH.
 */
#ifndef JSON_TEXTS_H
#define JSON_TEXTS_H

#include "support.h"

#include "hp_json.h"

#define DEPTH 32

static const char *const accepted[] = {
    "null",
    "true",
    "false",
    "0",
    "-0",
    "1",
    "-1",
    "10",
    "1234567890",
    "0.0",
    "-0.5",
    "1.25",
    "0e0",
    "0E+0",
    "1e10",
    "1E-10",
    "1.5e+3",
    "-1.0E2",
    "1e0001",
    "123456789012345678901234567890.123456789012345678901234567890",
    "\"\"",
    "\"a\"",
    "\" \"",
    "\"\x7f\"",
    "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
    "\"\\u0001\\u001f\\u0020\\u007f\\u0080\\u07ff\\u0800\\uffff\"",
    "\"\\uABCD\\uabcd\\uEfAb\"",
    "\"\\ud800\\udc00\\uDBFF\\uDFFF\"",
    "\"\\ud83d\\ude00\"",
    "\"\\\\u0000\"",
    "\"\\\\\\\\\"",
    "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"",
    "\"\xef\xbb\xbf\"",
    "\"\xef\xbf\xbe\xef\xbf\xbf\xf4\x8f\xbf\xbf\"",
    "\"\xe2\x80\xa8\xe2\x80\xa9\"",
    "[]",
    "{}",
    "[ ]",
    "{ }",
    "[1]",
    "[1,2]",
    "[[],[[]],{}]",
    "{\"\":0}",
    "{\"a\":1,\"a\":1}",
    "{\"a\":{\"b\":[{\"c\":null}]}}",
    "{\"\\u0061\":1}",
    " \t\r\n1 \t\r\n",
    " { \"a\" : [ 1 , 2 ] , \"b\" : { } } ",
    "[1\n]",
    "[true,false,null,0,\"\",[],{}]",
    "{\"a\":\"b\",\"c\":[\"]\",\"}\",\"{\",\"[\"]}",
    "[\"asd\",\"asd\"]",
    "{\"asd\":\"sdf\",\"dfg\":\"fgh\"}",
    "\"12345678\"",
    "\"123456789012345\"",
    "\"1234567890123456\"",
    "\"1234567\\n\"",
    "[1e-2,-1e+2,0.1E1]",
};

static inline hp_json_status_t check_bytes(const void *data, size_t len,
                                           unsigned depth, size_t *offset)
{
    hp_json_status_t status;
    hp_str_t copy;

    copy = exact(data, len);
    status = hp_json_check(copy, depth, offset);

    if (status != HP_JSON_OK) {
        assert_in_range(*offset, 0, len);
    }

    drop(&copy);
    return status;
}

#endif
