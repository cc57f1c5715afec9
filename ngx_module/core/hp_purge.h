/*
 * hp_purge.h: what is to be purged, as a JSON text says it.
 *
 *   {"model":"prices"}                          all of a model
 *   {"model":"prices","tenant":"acme"}          one tenant's
 *   {"model":"prices","tenant":"acme","key":"42"}
 *   {"model":"prices","keys":["42","43"]}       1 to 100 of them
 *   {"model":"prices","tag":"spring"}           whatever has this tag
 *
 * with "mode":"soft" or "hard", which is the default. The same text comes over
 * HTTP and over NATS: schemas/framing.md. Strict: a member that is not known,
 * or there twice, is refused, since a misspelt "key" would purge the model.
 * Unit tests: tests/unit/test_purge.c.
 */
#ifndef HP_PURGE_H
#define HP_PURGE_H

#include "hp_json.h"

#define HP_PURGE_KEYS_MAX 100
#define HP_PURGE_KEY_MAX 1024
#define HP_PURGE_TAG_MAX 255

typedef enum {
    HP_PURGE_OK = 0,
    HP_PURGE_JSON,  /* purge->json says what is wrong, and error_offset where */
    HP_PURGE_MODEL, /* missing, or no name of a model */
    HP_PURGE_TENANT, /* no tenant's name, and not empty */
    HP_PURGE_KEY,    /* not 1 to 1024 bytes */
    HP_PURGE_TARGET, /* more than one of key, keys, tag; too many keys or none;
                        a tag of no or too many bytes */
    HP_PURGE_MODE    /* neither soft nor hard */
} hp_purge_status_t;

typedef struct {
    hp_str_t model;  /* as hp_model_valid(), or that behind a "@" */
    hp_str_t tenant; /* may be empty: what is shared by all */
    hp_str_t tag;    /* empty: none */
    hp_str_t keys[HP_PURGE_KEYS_MAX];
    unsigned nkeys;
    unsigned has_tenant : 1;
    unsigned soft : 1;
    hp_json_status_t json;
    size_t error_offset;
} hp_purge_t;

/* Texts of *purge point into text, or into scratch, which holds text.len
 * bytes, where they were written with escapes. */
hp_purge_status_t hp_purge_read(hp_purge_t *purge, hp_str_t text,
                                unsigned char *scratch);

/* The stable code of a status but OK, as problem documents have it. */
const char *hp_purge_code(const hp_purge_t *purge, hp_purge_status_t status);

#endif
