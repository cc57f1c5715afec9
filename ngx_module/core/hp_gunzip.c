/*
 * hp_gunzip.c: the text of a body that was sent with Content-Encoding: gzip.
 *
 * One job: zlib with nothing left to chance: only the gzip format, members back
 * to back as RFC 1952 has them, a result of our own for every way in which it
 * may end. Owns nothing: zlib's state lies in the caller's hp_gunzip_t, and
 * beginning anew forgets all of it, so there is nothing to free. Any process,
 * any thread; in nginx it runs in the event loop, a bounded text a call.
 *
 * What must never happen here: a text that is given out as whole before its
 * checksum was compared, and a byte written past the room.
 *
 * Contract: hp_gunzip.h. Tests: tests/unit/test_gunzip.c,
 * tests/fuzz/fuzz_gunzip.c.
 */
#include "hp_gunzip.h"

#include <limits.h>
#include <string.h>

#define ALIGN 64
#define ONLY_GZIP (16 + MAX_WBITS)

static voidpf take(voidpf opaque, uInt items, uInt size)
{
    hp_gunzip_t *gunzip;
    size_t bytes;
    void *memory;

    gunzip = opaque;
    bytes = ((size_t)items * size + ALIGN - 1) / ALIGN * ALIGN;

    if (bytes > sizeof(gunzip->arena) - gunzip->used) {
        return Z_NULL;
    }

    memory = gunzip->arena + gunzip->used;
    gunzip->used += bytes;
    return memory;
}

static void give(voidpf opaque, voidpf address)
{
    (void)opaque;
    (void)address; /* all of it at once, by the next beginning */
}

hp_gunzip_status_t hp_gunzip_begin(hp_gunzip_t *gunzip, hp_str_t src)
{
    z_stream *stream;

    stream = &gunzip->stream;
    memset(stream, 0, sizeof(*stream));
    gunzip->used = (size_t)(-(uintptr_t)gunzip->arena % ALIGN);

    if (src.len == 0) {
        return HP_GUNZIP_CUT;
    }

    if (src.len > UINT_MAX) {
        return HP_GUNZIP_INVALID;
    }

    stream->zalloc = take;
    stream->zfree = give;
    stream->opaque = gunzip;
    stream->next_in = (z_const Bytef *)(uintptr_t)src.data;
    stream->avail_in = (uInt)src.len;

    return inflateInit2(stream, ONLY_GZIP) == Z_OK ? HP_GUNZIP_MORE
                                                   : HP_GUNZIP_NO_MEMORY;
}

hp_gunzip_status_t hp_gunzip_next(hp_gunzip_t *gunzip, unsigned char *dst,
                                  size_t size, size_t *len)
{
    z_stream *stream;
    int rc;

    stream = &gunzip->stream;
    stream->next_out = dst;
    stream->avail_out = size > UINT_MAX ? UINT_MAX : (uInt)size;

    for (;;) {
        rc = inflate(stream, Z_NO_FLUSH);
        *len = (size_t)(stream->next_out - dst);

        switch (rc) {
        case Z_STREAM_END:
            if (stream->avail_in == 0) {
                return HP_GUNZIP_DONE;
            }

            if (inflateReset(stream) != Z_OK) {
                return HP_GUNZIP_INVALID;
            }

            break;
        case Z_OK:
        case Z_BUF_ERROR:
            if (stream->avail_out == 0) {
                return HP_GUNZIP_MORE;
            }

            if (stream->avail_in == 0) {
                return HP_GUNZIP_CUT;
            }

            if (rc == Z_BUF_ERROR) {
                return HP_GUNZIP_INVALID;
            }

            break;
        case Z_MEM_ERROR:
            return HP_GUNZIP_NO_MEMORY;
        default:
            return HP_GUNZIP_INVALID;
        }
    }
}
