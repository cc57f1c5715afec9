/*
 * fuzz_gunzip.c: libFuzzer target of ngx_module/core/hp_gunzip.c.
 *
 * The input is a coded body whose first byte says how large the pieces are. It
 * is decoded at once and in pieces: both must give the same text and the same
 * end, but that a text which ends exactly with the room may be found whole one
 * call later. The text is coded anew and must come back. A wrong answer aborts.
 * Seeds: seeds_event.py. Run by make -C tests/fuzz.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hp_gunzip.h"

#define ROOM 65536

#define MUST(condition)                                                        \
    do {                                                                       \
        if (!(condition)) {                                                    \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);            \
            abort();                                                           \
        }                                                                      \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static hp_gunzip_t gunzip;
static unsigned char whole[ROOM], pieces[ROOM], coded[ROOM + 1024];

static hp_gunzip_status_t decode(hp_str_t src, size_t step, unsigned char *dst,
                                 size_t *len)
{
    hp_gunzip_status_t status;
    unsigned char *piece;
    size_t room, one;

    *len = 0;
    status = hp_gunzip_begin(&gunzip, src);

    while (status == HP_GUNZIP_MORE && *len < ROOM) {
        room = step < ROOM - *len ? step : ROOM - *len;
        piece = malloc(room);
        MUST(piece != NULL);
        status = hp_gunzip_next(&gunzip, piece, room, &one);
        MUST(one <= room);
        MUST(status != HP_GUNZIP_MORE || one == room);
        memcpy(dst + *len, piece, one);
        *len += one;
        free(piece);
    }

    MUST(status != HP_GUNZIP_NO_MEMORY);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hp_gunzip_status_t status, again;
    size_t whole_len, pieces_len, step;
    z_stream stream;
    hp_str_t src;

    if (size == 0) {
        return 0;
    }

    step = (size_t)data[0] + 1;
    src.data = data + 1;
    src.len = size - 1;
    status = decode(src, ROOM, whole, &whole_len);
    again = decode(src, step, pieces, &pieces_len);
    MUST(whole_len == pieces_len);
    MUST(memcmp(whole, pieces, whole_len) == 0);
    MUST(status == again || whole_len == ROOM);

    if (status != HP_GUNZIP_DONE) {
        return 0;
    }

    memset(&stream, 0, sizeof(stream));
    MUST(deflateInit2(&stream, 1, Z_DEFLATED, 16 + MAX_WBITS, 8,
                      Z_DEFAULT_STRATEGY) == Z_OK);
    stream.next_in = whole;
    stream.avail_in = (uInt)whole_len;
    stream.next_out = coded;
    stream.avail_out = sizeof(coded);
    MUST(deflate(&stream, Z_FINISH) == Z_STREAM_END);
    src.data = coded;
    src.len = stream.total_out;
    deflateEnd(&stream);
    MUST(decode(src, step, pieces, &pieces_len) == HP_GUNZIP_DONE ||
         whole_len == ROOM);
    MUST(whole_len == pieces_len);
    MUST(memcmp(whole, pieces, whole_len) == 0);
    return 0;
}
