/*
 * hp_fleet.h: what instances tell one another, as JSON.
 *
 * Heartbeats, a purge as one instance asks it of the others, and what they say
 * about it: schemas/framing.md has the members. Readers trust nothing: what
 * they give may be copied into a buffer of the sizes below and written into
 * JSON as it is. A member that is not known is passed over, so that a newer
 * instance may say more. No allocation; results point into the message. Unit
 * tests: tests/unit/test_fleet.c.
 */
#ifndef HP_FLEET_H
#define HP_FLEET_H

#include "hp_json.h"

/* An instance's name: 1 to so many of A-Z a-z 0-9 . _ - and ":". */
#define HP_INSTANCE_MAX 95

/* A purge's id: so many of 0-9 a-f. */
#define HP_PURGE_ID 16

typedef struct {
    hp_str_t instance;
    uint64_t began_us; /* when the worker that says so began; 0: not said */
    unsigned leaving : 1;
} hp_beat_t;

typedef struct {
    hp_str_t id;
    hp_str_t from;  /* the instance that asks, and purges by itself */
    hp_str_t purge; /* for hp_purge_read(); not checked but for being JSON */
} hp_purge_ask_t;

typedef struct {
    hp_str_t id;
    hp_str_t instance;
    uint64_t purged;
    uint64_t redis;
    hp_str_t error;    /* empty: none; else 1 to 32 of a-z and _ */
    unsigned done : 1; /* else it is still at it */
} hp_purge_answer_t;

/* 0, or -1 where the message is none. */
int hp_beat_read(hp_beat_t *beat, hp_str_t message);
int hp_purge_ask_read(hp_purge_ask_t *ask, hp_str_t message);
int hp_purge_answer_read(hp_purge_answer_t *answer, hp_str_t message);

/* Whether c may be in an instance's name. */
int hp_instance_char(unsigned char c);

#endif
