/*
 * hp_nkey.h: NATS keys and credentials files as text, without any I/O.
 *
 * An nkey is an Ed25519 key in base32 with a kind and a checksum: seeds begin
 * with S and the letter of their kind (SU: a user's), public keys with the
 * letter alone. A credentials file holds a user's JWT and seed between lines of
 * dashes. Source: the description of nkeys and of credentials files in the NATS
 * documentation (prefix bytes, CRC-16/XMODEM, little endian). Signing is left
 * to the caller, who has a crypto library; so is wiping what he was given.
 * Strict: another length, a wrong checksum, stray bits or a kind that is not a
 * user's is refused. Unit tests: tests/unit/test_nkey.c;
 * tests/fuzz/fuzz_nkey.c.
 */
#ifndef HP_NKEY_H
#define HP_NKEY_H

#include "hp_base.h"

#define HP_NKEY_RAW 32
#define HP_NKEY_SEED_TEXT 58   /* "SU..." */
#define HP_NKEY_PUBLIC_TEXT 56 /* "U..." */

/* What a signature of 64 bytes takes as base64url without padding. */
#define HP_NKEY_SIGNATURE 64
#define HP_NKEY_SIGNATURE_TEXT 86

/* Text (white space around it does not count) as a user's seed. 0, or -1. */
int hp_nkey_seed(unsigned char raw[HP_NKEY_RAW], hp_str_t text);

/* A user's public key as text, without a terminating zero. */
void hp_nkey_public(unsigned char text[HP_NKEY_PUBLIC_TEXT],
                    const unsigned char raw[HP_NKEY_RAW]);

/* A signature as a CONNECT carries it. */
void hp_nkey_signature(unsigned char text[HP_NKEY_SIGNATURE_TEXT],
                       const unsigned char raw[HP_NKEY_SIGNATURE]);

/*
 * The JWT and the seed in a credentials file, as slices of it: what stands
 * between the first and the second pair of lines that begin with three dashes
 * or more. The JWT is three parts of base64url with dots between; the seed is
 * not looked at. 0, or -1.
 */
int hp_nkey_credentials(hp_str_t file, hp_str_t *jwt, hp_str_t *seed);

#endif
