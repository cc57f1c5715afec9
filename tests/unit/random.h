/*
 * random.h: numbers that look random and are the same in every run, for tests,
 * fuzzers and what they share. One function; its state is the caller's, one
 * word of any value, and two callers never disturb one another.
 */
#ifndef RANDOM_H
#define RANDOM_H

#include <stdint.h>

static inline uint64_t next_random(uint64_t *state)
{
    uint64_t z;

    /* splitmix64 */
    *state += 0x9e3779b97f4a7c15u;
    z = *state;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

#endif
