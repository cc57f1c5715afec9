/*
 * buffer.h: growing memory, and PostgreSQL's binary format written into it.
 *
 * A hpw_buf_t belongs to whoever declared it; it keeps its memory from batch
 * to batch until hpw_buf_free(). Memory that cannot be had ends the process:
 * every worker may die at any line without harm, and is started again.
 *
 * Array elements and COPY fields have one encoding (length, bytes), so a
 * column is written by the same hpw_put_* calls in both. Not for sharing
 * between threads. Unit tests: tests/unit/test_workers_buffer.c.
 */
#ifndef HPW_BUFFER_H
#define HPW_BUFFER_H

#include "hp_base.h"

typedef struct {
    unsigned char *data;
    size_t len;
    size_t size;
} hpw_buf_t;

/* Never NULL; zeroed. */
void *hpw_alloc(size_t count, size_t size);
void *hpw_realloc(void *ptr, size_t count, size_t size);
char *hpw_strdup(const char *text);

void hpw_buf_free(hpw_buf_t *buf);

/* Room for len more bytes; returns where they go, and counts them as there. */
unsigned char *hpw_buf_extend(hpw_buf_t *buf, size_t len);
void hpw_buf_add(hpw_buf_t *buf, const void *data, size_t len);
void hpw_buf_printf(hpw_buf_t *buf, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Terminates without counting the terminator. */
char *hpw_buf_text(hpw_buf_t *buf);

/* Types as in PostgreSQL's catalogue, which never change. */
#define HPW_OID_BYTEA 17
#define HPW_OID_INT8 20
#define HPW_OID_INT4 23
#define HPW_OID_TEXT 25
#define HPW_OID_TIMESTAMPTZ 1184
#define HPW_OID_UUID 2950

/* One element or field. */
void hpw_put_bytes(hpw_buf_t *buf, const void *data, size_t len);
void hpw_put_text(hpw_buf_t *buf, hp_str_t text);
void hpw_put_null(hpw_buf_t *buf);
void hpw_put_int2(hpw_buf_t *buf, int16_t value);
void hpw_put_int4(hpw_buf_t *buf, int32_t value);
void hpw_put_int8(hpw_buf_t *buf, int64_t value);
/* Microseconds since 1970, for timestamptz. */
void hpw_put_time(hpw_buf_t *buf, int64_t unix_us);
/* JSON text for jsonb, whose binary form opens with a version byte. */
void hpw_put_jsonb(hpw_buf_t *buf, hp_str_t text);

/* A one-dimensional array as a binary parameter: begin, put count elements. */
void hpw_array_begin(hpw_buf_t *buf, uint32_t oid, uint32_t count, int nulls);

/* COPY … WITH (FORMAT binary). */
void hpw_copy_begin(hpw_buf_t *buf);
void hpw_copy_row(hpw_buf_t *buf, uint16_t fields);
void hpw_copy_end(hpw_buf_t *buf);

/* Big-endian integers out of a binary result. */
int64_t hpw_get_int8(const void *src);
int32_t hpw_get_int4(const void *src);

/* PostgreSQL counts time from 2000-01-01. */
#define HPW_EPOCH_2000_US INT64_C(946684800000000)

/* 1 where text is UTF-8 (RFC 3629) without U+0000, so that it can be written
 * as a JSON string as it stands. */
int hpw_utf8_valid(hp_str_t text);

#endif
