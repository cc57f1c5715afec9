/*
 * fuzz_nkey.c: libFuzzer target of ngx_module/core/hp_nkey.c.
 *
 * The input is a file that an operator names: as a seed, and as credentials.
 * What is found must lie inside of it, a JWT must be one that can stand in JSON
 * without escapes, and a seed that is taken must have the one length and the
 * letters that a user's has. Then 96 of its bytes as a public key and a
 * signature: whatever they are, the texts have their alphabet's characters.
 *
 * A wrong answer aborts; AddressSanitizer sees a byte read too far. Seeds:
 * seeds.py. Run by make -C tests/fuzz.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hp_nkey.h"

#define MUST(condition)                                                        \
    do {                                                                       \
        if (!(condition)) {                                                    \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);            \
            abort();                                                           \
        }                                                                      \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void of_alphabet(const unsigned char *text, size_t len,
                        const char *alphabet)
{
    size_t i;

    for (i = 0; i < len; i++) {
        MUST(text[i] && strchr(alphabet, text[i]));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char base32[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    static const char jwt_letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";
    unsigned char raw[HP_NKEY_RAW], text[HP_NKEY_SIGNATURE_TEXT];
    hp_str_t file = {data, size}, jwt, seed;

    if (hp_nkey_seed(raw, file) == 0) {
        MUST(size >= HP_NKEY_SEED_TEXT);
        while (*file.data <= ' ') {
            file.data++;
        }
        MUST(memcmp(file.data, "SU", 2) == 0);
        of_alphabet(file.data, HP_NKEY_SEED_TEXT, base32);
    }

    file.data = data;
    if (hp_nkey_credentials(file, &jwt, &seed) == 0) {
        MUST(jwt.len >= 5 && jwt.data > data && jwt.data < data + size);
        MUST(seed.len > 0 && seed.data > jwt.data + jwt.len);
        MUST(seed.data + seed.len <= data + size);
        of_alphabet(jwt.data, jwt.len, jwt_letters);
        (void)hp_nkey_seed(raw, seed);
    }

    if (size >= HP_NKEY_RAW + HP_NKEY_SIGNATURE) {
        hp_nkey_public(text, data);
        MUST(text[0] == 'U');
        of_alphabet(text, HP_NKEY_PUBLIC_TEXT, base32);
        hp_nkey_signature(text, data + HP_NKEY_RAW);
        of_alphabet(text, HP_NKEY_SIGNATURE_TEXT, jwt_letters);
    }
    return 0;
}
