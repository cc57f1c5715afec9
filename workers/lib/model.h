/*
 * model.h: a read model as its SQL file describes it.
 *
 * One file per model under schemas/read_models/, in the form that
 * schemas/README.md documents. hotpathctl makes the table, hotpath-project
 * runs the statement; both read the file through here, so both refuse the
 * same mistakes with the same words. Unit tests:
 * tests/unit/test_workers_model.c.
 */
#ifndef HPW_MODEL_H
#define HPW_MODEL_H

#include "buffer.h"
#include "database.h"

#define HPW_MODEL_EVENTS 64

typedef struct {
    char name[64];
    char *events[HPW_MODEL_EVENTS];
    int event_count;
    char *table; /* DDL */
    char *apply; /* what follows the CTE "batch" */
} hpw_model_t;

/* Reads text (terminated) as the file called path. 0, or -1 with a sentence.
 * hpw_model_free() in either case. */
int hpw_model_parse(hpw_model_t *model, const char *path, const char *text,
                    char *error, size_t size);
void hpw_model_free(hpw_model_t *model);

/* Reads all *.sql of a directory, ordered by name. 0 with *models to be freed
 * by hpw_models_free(), or -1. */
int hpw_models_read(const char *directory, hpw_model_t **models, int *count,
                    char *error, size_t size);
void hpw_models_free(hpw_model_t *models, int count);

/* Checks that hotpath.<name> has the columns and the key that the projector
 * and nginx count on. 0; 1 with a sentence where it has not or is not there;
 * -1 where the database could not be asked. */
int hpw_model_verify(const hpw_model_t *model, hpw_db_t *db, char *error,
                     size_t size);

#endif
