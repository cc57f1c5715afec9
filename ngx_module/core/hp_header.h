/*
 * hp_header.h: the grammars of the request headers that Hotpath reads.
 *
 * Idempotency-Key (draft-ietf-httpapi-idempotency-key-header: an RFC 8941
 * string; the bare form is accepted too), X-Forwarded-For, traceparent (W3C
 * Trace Context level 1). Results point into the input.
 */
#ifndef HP_HEADER_H
#define HP_HEADER_H

#include "hp_base.h"

/* The rule for an idempotency key, wherever it came from: 1 to 255 bytes of
 * printable ASCII (0x20 to 0x7e), no leading or trailing space. 1 or 0. */
int hp_key_valid(hp_str_t key);

/* Reads an Idempotency-Key field value into dst (at least value.len bytes):
 * "quoted" with \" and \\ resolved, or a bare token of printable ASCII without
 * quotes, commas and semicolons. Parameters after a quoted string are refused.
 * Returns the length of the key, or -1. */
int hp_key_parse(unsigned char *dst, hp_str_t value);

/* Walks X-Forwarded-For from the right. *rest starts as the whole value (or
 * several field lines joined by commas). Returns 1 with *element the rightmost
 * one, trimmed, without port and without brackets around an IPv6 address, and
 * *rest what stands left of it; 0 when nothing is left; -1 where the rightmost
 * element is empty or longer than 64 bytes. The element is not checked to be
 * an address. */
int hp_forwarded_previous(hp_str_t *rest, hp_str_t *element);

/* 1 where value is a valid traceparent (version 00, 55 characters, lower-case
 * hex, neither id all zero; a higher version with at least these 55 characters
 * and then nothing or '-' is accepted, version ff is not). */
int hp_traceparent_valid(hp_str_t value);

/* 1 where value is a host as RFC 3986 allows in an authority: a name of
 * letters, digits, '-', '.', '_', or an IPv4 or bracketed IPv6 address, with an
 * optional port; 1 to 255 bytes. */
int hp_host_valid(hp_str_t value);

#endif
