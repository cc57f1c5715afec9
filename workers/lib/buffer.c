/*
 * buffer.c: growing memory, and PostgreSQL's binary format written into it.
 *
 * Building the arrays of a prepared statement and the rows of a COPY straight
 * in the server's format costs a copy of the bytes and nothing more: no
 * quoting here, no parsing there. Called by one lane's thread on its own
 * buffers. Nothing in here reads the network or knows a table.
 *
 * See buffer.h for who owns what; tests/unit/test_workers_buffer.c.
 */
#include "buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"

static void hpw_out_of_memory(size_t size)
{
    hpw_log(HPW_LOG_ERROR, "out of memory", hpw_i("bytes", (int64_t)size));
    _exit(1);
}

void *hpw_alloc(size_t count, size_t size)
{
    void *ptr = calloc(count ? count : 1, size ? size : 1);

    if (ptr == NULL)
        hpw_out_of_memory(count * size);
    return ptr;
}

void *hpw_realloc(void *ptr, size_t count, size_t size)
{
    ptr = reallocarray(ptr, count ? count : 1, size ? size : 1);
    if (ptr == NULL)
        hpw_out_of_memory(count * size);
    return ptr;
}

char *hpw_strdup(const char *text)
{
    size_t len = strlen(text) + 1;

    return memcpy(hpw_alloc(1, len), text, len);
}

void hpw_buf_free(hpw_buf_t *buf)
{
    free(buf->data);
    memset(buf, 0, sizeof(*buf));
}

unsigned char *hpw_buf_extend(hpw_buf_t *buf, size_t len)
{
    unsigned char *end;
    size_t size = buf->size ? buf->size : 256;

    while (size - buf->len < len)
        size *= 2;
    if (size != buf->size) {
        buf->data = hpw_realloc(buf->data, 1, size);
        buf->size = size;
    }
    end = buf->data + buf->len;
    buf->len += len;
    return end;
}

void hpw_buf_add(hpw_buf_t *buf, const void *data, size_t len)
{
    if (len)
        memcpy(hpw_buf_extend(buf, len), data, len);
}

void hpw_buf_printf(hpw_buf_t *buf, const char *format, ...)
{
    va_list args;
    int len;

    va_start(args, format);
    len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (len < 0)
        return;

    va_start(args, format);
    vsnprintf((char *)hpw_buf_extend(buf, (size_t)len + 1), (size_t)len + 1,
              format, args);
    va_end(args);
    buf->len--;
}

char *hpw_buf_text(hpw_buf_t *buf)
{
    *hpw_buf_extend(buf, 1) = 0;
    buf->len--;
    return (char *)buf->data;
}

static void hpw_set_u16(unsigned char *dst, uint16_t value)
{
    dst[0] = (unsigned char)(value >> 8);
    dst[1] = (unsigned char)value;
}

static void hpw_set_u32(unsigned char *dst, uint32_t value)
{
    value = __builtin_bswap32(value);
    memcpy(dst, &value, 4);
}

static void hpw_set_u64(unsigned char *dst, uint64_t value)
{
    value = __builtin_bswap64(value);
    memcpy(dst, &value, 8);
}

void hpw_put_bytes(hpw_buf_t *buf, const void *data, size_t len)
{
    unsigned char *dst = hpw_buf_extend(buf, 4 + len);

    hpw_set_u32(dst, (uint32_t)len);
    if (len)
        memcpy(dst + 4, data, len);
}

void hpw_put_text(hpw_buf_t *buf, hp_str_t text)
{
    hpw_put_bytes(buf, text.data, text.len);
}

void hpw_put_null(hpw_buf_t *buf)
{
    hpw_set_u32(hpw_buf_extend(buf, 4), UINT32_MAX);
}

void hpw_put_int2(hpw_buf_t *buf, int16_t value)
{
    unsigned char *dst = hpw_buf_extend(buf, 6);

    hpw_set_u32(dst, 2);
    dst[4] = (unsigned char)((uint16_t)value >> 8);
    dst[5] = (unsigned char)value;
}

void hpw_put_int4(hpw_buf_t *buf, int32_t value)
{
    unsigned char *dst = hpw_buf_extend(buf, 8);

    hpw_set_u32(dst, 4);
    hpw_set_u32(dst + 4, (uint32_t)value);
}

void hpw_put_int8(hpw_buf_t *buf, int64_t value)
{
    unsigned char *dst = hpw_buf_extend(buf, 12);

    hpw_set_u32(dst, 8);
    hpw_set_u64(dst + 4, (uint64_t)value);
}

void hpw_put_time(hpw_buf_t *buf, int64_t unix_us)
{
    /* A time that does not fit is left for PostgreSQL to refuse (22008): its
     * own lower bound is far above this one. INT64_MIN and INT64_MAX mean
     * infinity there, which no event was accepted at. */
    if (unix_us < INT64_MIN + HPW_EPOCH_2000_US + 1)
        unix_us = INT64_MIN + HPW_EPOCH_2000_US + 1;
    hpw_put_int8(buf, unix_us - HPW_EPOCH_2000_US);
}

void hpw_put_jsonb(hpw_buf_t *buf, hp_str_t text)
{
    unsigned char *dst = hpw_buf_extend(buf, 5 + text.len);

    hpw_set_u32(dst, (uint32_t)text.len + 1);
    dst[4] = 1;
    if (text.len)
        memcpy(dst + 5, text.data, text.len);
}

void hpw_array_begin(hpw_buf_t *buf, uint32_t oid, uint32_t count, int nulls)
{
    unsigned char *dst;

    buf->len = 0;
    dst = hpw_buf_extend(buf, count ? 20 : 12);
    hpw_set_u32(dst, count ? 1 : 0); /* dimensions */
    hpw_set_u32(dst + 4, nulls ? 1 : 0);
    hpw_set_u32(dst + 8, oid);
    if (count) {
        hpw_set_u32(dst + 12, count);
        hpw_set_u32(dst + 16, 1); /* lower bound */
    }
}

void hpw_copy_begin(hpw_buf_t *buf)
{
    static const unsigned char header[19] = "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0";

    buf->len = 0;
    hpw_buf_add(buf, header, sizeof(header));
}

void hpw_copy_row(hpw_buf_t *buf, uint16_t fields)
{
    hpw_set_u16(hpw_buf_extend(buf, 2), fields);
}

void hpw_copy_end(hpw_buf_t *buf)
{
    hpw_set_u16(hpw_buf_extend(buf, 2), UINT16_MAX);
}

int64_t hpw_get_int8(const void *src)
{
    uint64_t value;

    memcpy(&value, src, 8);
    return (int64_t)__builtin_bswap64(value);
}

int32_t hpw_get_int4(const void *src)
{
    uint32_t value;

    memcpy(&value, src, 4);
    return (int32_t)__builtin_bswap32(value);
}

int hpw_utf8_valid(hp_str_t text)
{
    const unsigned char *p = text.data, *last = text.data + text.len;
    uint32_t point, least;
    int more;

    while (p < last) {
        point = *p++;
        if (point == 0)
            return 0;
        if (point < 0x80)
            continue;
        if (point >= 0xc2 && point <= 0xdf) {
            more = 1, least = 0x80, point &= 0x1f;
        } else if (point >= 0xe0 && point <= 0xef) {
            more = 2, least = 0x800, point &= 0x0f;
        } else if (point >= 0xf0 && point <= 0xf4) {
            more = 3, least = 0x10000, point &= 0x07;
        } else {
            return 0;
        }
        while (more--) {
            if (p == last || (*p & 0xc0) != 0x80)
                return 0;
            point = point << 6 | (*p++ & 0x3f);
        }
        if (point < least || point > 0x10ffff ||
            (point >= 0xd800 && point <= 0xdfff))
            return 0;
    }
    return 1;
}
