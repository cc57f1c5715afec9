/*
 * hp_base.h: the two types that everything in core/ shares.
 *
 * core/ is pure C: no nginx, no I/O, no clock, no allocation. Whoever calls
 * owns every buffer; a result that points into an input lives as long as that
 * input. It is compiled into the nginx module and into the workers, and unit
 * tested on its own under ASan and UBSan (tests/unit/).
 */
#ifndef HP_BASE_H
#define HP_BASE_H

#include <stddef.h>
#include <stdint.h>

/* Bytes somebody else owns; not terminated; data may be NULL if len is 0. */
typedef struct {
    const unsigned char *data;
    size_t len;
} hp_str_t;

#define HP_STR(literal)                                                        \
    {                                                                          \
        (const unsigned char *)(literal), sizeof(literal) - 1                  \
    }

#define HP_UUID_SIZE 16
#define HP_UUID_TEXT 36
#define HP_FINGERPRINT_SIZE 32

#define HP_TENANT_MAX 64
#define HP_ROUTE_MAX 64
#define HP_KEY_MAX 255
#define HP_TYPE_MAX 255
#define HP_TRACE_LEN 55

#endif
