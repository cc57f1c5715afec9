/*
 * fuzz_cache.c: fuzzer of the cache zone's operations.
 *
 * The bytes choose the shape of a zone and a sequence of gets, puts, coded
 * bodies, purges, walks and distrusts; after each step the zone must give what
 * a plain map has, and its structure must add up: tests/unit/cache_model.h,
 * which says what a byte means. Nothing outlives an input.
 */
#include "cache_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    model_done_t done;

    memset(&done, 0, sizeof(done));
    model_run(data, size, &done);
    return 0;
}
