/*
 * fuzz_cursor.c: libFuzzer target of ngx_module/core/hp_cursor.c.
 *
 * The input is taken three ways. As the text that a client sends: it must be
 * refused, as nobody knows the secret here. As a payload that was signed with
 * the key: whatever it holds, what is accepted must lie inside the cursor and
 * be written again as the same text. As the parts of a cursor to write: it must
 * come back as it was, and with any one character changed it must not.
 *
 * A wrong answer aborts; texts are read from blocks of exactly their size. Run
 * by make -C tests/fuzz.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "hp_cursor.h"

#define MUST(condition)                                                        \
    do {                                                                       \
        if (!(condition)) {                                                    \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);            \
            abort();                                                           \
        }                                                                      \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char secret[] = "nobody knows this one, not even a fuzzer";
static hp_cursor_key_t key;

static hp_cursor_status_t read_exactly(hp_cursor_t *cursor, const void *text,
                                       size_t len, uint64_t scope)
{
    hp_cursor_status_t status;
    unsigned char *block;
    hp_str_t copy;

    block = malloc(len == 0 ? 1 : len);
    MUST(block != NULL);

    if (len != 0) {
        memcpy(block, text, len);
    }

    copy.data = block;
    copy.len = len;
    status = hp_cursor_read(cursor, copy, &key, 1, scope, 1000);
    free(block);
    return status;
}

static void check_signed(const uint8_t *data, size_t size)
{
    unsigned char bytes[HP_CURSOR_BYTES_MAX], mac[EVP_MAX_MD_SIZE];
    unsigned char text[HP_CURSOR_TEXT_MAX + 8], again[HP_CURSOR_TEXT_MAX];
    hp_cursor_status_t status;
    hp_cursor_t cursor;
    unsigned mac_len, i;
    uint64_t scope;
    size_t len, at;

    if (size < 14 || size > sizeof(bytes) - 16) {
        return;
    }

    memcpy(bytes, data, size);
    MUST(HMAC(EVP_sha256(), secret, (int)strlen(secret), bytes, size, mac,
              &mac_len) != NULL);
    memcpy(bytes + size, mac, 16);
    len = size + 16;
    (void)EVP_EncodeBlock(text, bytes, (int)len);
    len = (len * 4 + 2) / 3;

    for (at = 0; at < len; at++) {
        text[at] = text[at] == '+' ? '-' : text[at] == '/' ? '_' : text[at];
    }

    for (i = 0, scope = 0; i < 8; i++) {
        scope = scope << 8 | data[1 + i];
    }

    MUST(read_exactly(&cursor, text, len, scope + 1) != HP_CURSOR_OK);
    status = read_exactly(&cursor, text, len, scope);
    MUST(status != HP_CURSOR_SYNTAX && status != HP_CURSOR_FORGED &&
         status != HP_CURSOR_FOREIGN);

    if (status == HP_CURSOR_OK) {
        MUST(cursor.count <= HP_CURSOR_PARTS);

        for (i = 0; i < cursor.count; i++) {
            MUST(cursor.parts[i].bytes.data >= cursor.bytes);
            MUST(cursor.parts[i].bytes.data + cursor.parts[i].bytes.len <=
                 cursor.bytes + size);
        }

        MUST(hp_cursor_write(again, sizeof(again), &key, scope,
                             cursor.expires_s, cursor.parts,
                             cursor.count) == len);
        MUST(memcmp(again, text, len) == 0);
    }
}

static void check_written(const uint8_t *data, size_t size)
{
    hp_cursor_part_t parts[HP_CURSOR_PARTS];
    unsigned char text[HP_CURSOR_TEXT_MAX];
    size_t left, len, at;
    hp_cursor_t cursor;
    unsigned count, i;

    left = size;

    for (count = 0; count < HP_CURSOR_PARTS && left != 0; count++) {
        len = data[size - left] * 4u;
        left--;
        len = len > left ? left : len;
        parts[count].type = (unsigned char)len;
        parts[count].bytes.data = data + (size - left);
        parts[count].bytes.len = len;
        left -= len;
    }

    len = hp_cursor_write(text, sizeof(text), &key, size, 0, parts, count);

    if (len == 0) {
        MUST(size > HP_CURSOR_BYTES_MAX - 14 - 16 - 3 * HP_CURSOR_PARTS);
        return;
    }

    MUST(read_exactly(&cursor, text, len, size) == HP_CURSOR_OK);
    MUST(cursor.count == count);

    for (i = 0; i < count; i++) {
        MUST(cursor.parts[i].type == parts[i].type);
        MUST(cursor.parts[i].bytes.len == parts[i].bytes.len);
        MUST(memcmp(cursor.parts[i].bytes.data, parts[i].bytes.data,
                    parts[i].bytes.len) == 0);
    }

    if (size != 0) {
        at = data[0] * 7u % len;
        text[at] = text[at] == 'A' ? 'B' : 'A';
        MUST(read_exactly(&cursor, text, len, size) != HP_CURSOR_OK);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const hp_str_t text = HP_STR(secret);

    hp_cursor_t cursor;

    MUST(hp_cursor_key(&key, text) == 0);
    MUST(read_exactly(&cursor, data, size, 0) != HP_CURSOR_OK);
    check_signed(data, size);
    check_written(data, size);
    return 0;
}
