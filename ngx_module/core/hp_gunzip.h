/*
 * hp_gunzip.h: the text of a body that was sent with Content-Encoding: gzip.
 *
 * All of the coded body is there; the text is given out piece by piece into
 * whatever room the caller has, so that a text that grows past its bound costs
 * the bound and no more. Only gzip (RFC 1952), one member or several back to
 * back; the checksum and length of each are checked. zlib does the work, in
 * memory that is part of hp_gunzip_t. Unit tests: tests/unit/test_gunzip.c;
 * fuzzed in tests/fuzz/fuzz_gunzip.c.
 */
#ifndef HP_GUNZIP_H
#define HP_GUNZIP_H

#include <zlib.h>

#include "hp_base.h"

/* What one stream takes: 40 KB with zlib 1.2 and 1.3. */
#define HP_GUNZIP_ARENA 65536

typedef enum {
    HP_GUNZIP_DONE = 0, /* that was all */
    HP_GUNZIP_MORE,     /* the room is full, there may be more */
    HP_GUNZIP_INVALID,  /* no gzip, damaged, or something behind it */
    HP_GUNZIP_CUT,      /* ends too early */
    HP_GUNZIP_NO_MEMORY /* this zlib wants more than the arena */
} hp_gunzip_status_t;

/* One for each worker, used for one body after another. */
typedef struct {
    z_stream stream;
    size_t used;
    unsigned char arena[HP_GUNZIP_ARENA];
} hp_gunzip_t;

/* src stays until the end, which is any status but MORE. MORE: begun. */
hp_gunzip_status_t hp_gunzip_begin(hp_gunzip_t *gunzip, hp_str_t src);

/* Writes at most size bytes, *len in all. */
hp_gunzip_status_t hp_gunzip_next(hp_gunzip_t *gunzip, unsigned char *dst,
                                  size_t size, size_t *len);

#endif
