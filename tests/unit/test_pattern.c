/*
 * test_pattern.c: unit tests of ngx_module/core/hp_pattern.c and
 * hp_pattern_parse.c.
 *
 * Patterns with texts that match and texts that do not, in one list; patterns
 * that are refused, with the message; every limit from both sides; a pattern
 * that ruins a backtracking matcher, on a long text. Expected answers are
 * those of ECMA-262 with the u flag. Every cut of every pattern is compiled,
 * too. Texts are blocks of exactly their size, for AddressSanitizer; memory is
 * counted and taken away at every single request for it. One process, no
 * files; tests/unit/Makefile.
 */
#include "support.h"

#include "hp_pattern.h"

/* A pool whose blocks are freed together; left: requests until there is no
 * memory. */
typedef struct {
    void *blocks[16];
    size_t count;
    size_t left;
} pool_t;

static void *take(void *data, size_t size)
{
    pool_t *pool = data;

    if (pool->left == 0) {
        return NULL;
    }

    pool->left--;
    assert_true(pool->count < COUNT_OF(pool->blocks));
    pool->blocks[pool->count] = malloc(size);
    assert_non_null(pool->blocks[pool->count]);
    return pool->blocks[pool->count++];
}

static void empty(pool_t *pool)
{
    while (pool->count != 0) {
        free(pool->blocks[--pool->count]);
    }

    pool->left = 1000;
}

static const hp_pattern_t *compile(const char *text, size_t len, pool_t *pool,
                                   const char **error)
{
    const hp_pattern_t *pattern;
    hp_str_t copy;

    copy = exact(text, len);
    pattern = hp_pattern_compile(copy, take, pool, error);
    drop(&copy);
    assert_true((pattern == NULL) == (*error != NULL));
    return pattern;
}

static void expect(const char *text, const char *yes, const char *no)
{
    pool_t pool = {.left = 1000};
    const hp_pattern_t *pattern;
    const char *error, *list, *end;
    hp_str_t subject;
    int expected;

    pattern = compile(text, strlen(text), &pool, &error);

    if (pattern == NULL) {
        fail_msg("%s: %s", text, error);
    }

    /* subjects are separated by '\v' */
    for (expected = 0; expected < 2; expected++) {
        for (list = expected ? yes : no; list != NULL;
             list = *end == '\0' ? NULL : end + 1) {
            end = list + strcspn(list, "\v");
            subject = exact(list, (size_t)(end - list));

            if (hp_pattern_match(pattern, subject) != expected) {
                fail_msg("%s on '%.*s': not %d", text, (int)subject.len, list,
                         expected);
            }

            drop(&subject);
        }
    }

    empty(&pool);
}

static void test_matches(void **state)
{
    (void)state;

    /* nothing, anywhere */
    expect("", "\va\vabc", NULL);
    expect("a", "a\vba\vab\vbab", "\vb\vA");
    expect("^", "\va", NULL);
    expect("$", "\va", NULL);
    expect("^$", "", "a\v\\n");
    expect("$^", "", "a");
    expect("^^a$$", "a", "aa");
    expect("a$b", NULL, "a\vab\va$b");
    expect("a^b", NULL, "ab\va^b");
    /* anchors */
    expect("^a", "a\vab", "ba\v");
    expect("a$", "a\vba", "ab\va\\n");
    expect("^a$", "a", "aa\vab\vba\v");
    expect("^a|b$", "a\vab\vb\vxb\vax", "xa\vbx");
    expect("(^a|b)c", "ac\vbc\vxbc", "xac\vc");
    expect("a(b$|c)d?", "ab\vac\vacd", "abd\va");
    expect("(^|,)a(,|$)", "a\va,b\vb,a\vb,a,c", "ba\vab\vb,aa");
    /* quantifiers */
    expect("^a*$", "\va\vaaa", "b\vab");
    expect("^a+$", "a\vaaa", "\vb");
    expect("^a?$", "\va", "aa");
    expect("^a{3}$", "aaa", "aa\vaaaa");
    expect("^a{2,}$", "aa\vaaaaa", "a\v");
    expect("^a{1,3}$", "a\vaa\vaaa", "\vaaaa");
    expect("^a{0}$", "", "a");
    expect("^a{0,2}b", "b\vab\vaab", "aaab\va");
    expect("^(ab){2}$", "abab", "ab\vababab");
    expect("^(a|bc)*d$", "d\vad\vbcd\vabcad", "bd\vcd");
    expect("^(a*)*$", "\va\vaa", "b");
    expect("^(a*)+$", "\va\vaa", "b");
    expect("^((a?){3}){2}$", "\va\vaaaaaa", "aaaaaaa");
    expect("^(){5}a$", "a", "");
    expect("^a*?b+?c??d{2,3}?$", "bdd\vaabbcddd", "dd\vbd\vbdddd");
    expect("(a|)b", "b\vab\vxb", "a");
    expect("a||b", "", NULL);
    /* classes */
    expect("^.$", "a\v\xc3\xa4\v\xf0\x9f\x98\x80\v\\t",
           "\v\\n\v\\r\v\\u2028\v\xe2\x80\xa9\vab");
    expect("^[abc]$", "a\vb\vc", "d\v\vab");
    expect("^[^abc]$", "d\v\\n\v\xc3\xa4", "a\v");
    expect("^[a-cx-z]$", "a\vb\vc\vx\vz", "d\vw\v-");
    expect("^[-a]$", "-\va", "b");
    expect("^[a-]$", "-\va", "b");
    expect("^[a\\-c]$", "a\v-\vc", "b");
    expect("^[\\]\\[\\\\^]$", "]\v[\v\\\\\v^", "a");
    expect("^[.*+?(){}|$]$", ".\v*\v+\v?\v(\v)\v{\v}\v|\v$", "a");
    expect("[]", NULL, "\va");
    expect("^[^]$", "a\v\\n", "\vab");
    expect("^[\xc3\xa4-\xc3\xbc]$", "\xc3\xa4\v\xc3\xb6\v\\u00fc",
           "a\v\xc3\xbd");
    expect("^[a-zA-Z_][a-zA-Z0-9_]*$", "a\v_1\vAb9", "1a\v\va-b");
    /* shorthands */
    expect("^\\d+$", "0\v0123456789", "\va\v\xd9\xa3");
    expect("^\\D$", "a\v\xd9\xa3", "0");
    expect("^\\w+$", "aZ_09", "-\v\xc3\xa4\v");
    expect("^\\W$", "-\v\xc3\xa4\v ", "a\v_");
    expect("^\\s$", " \v\\t\v\\n\v\\f\v\\r\v\\u000b\v\\u00a0\v\\ufeff\v\\u2003",
           "a\v\\u200b");
    expect("^\\S$", "a\v\\u200b", " \v\\n");
    expect("^[\\d.]+$", "1.5\v.", "1,5");
    expect("^[^\\d]$", "a", "1");
    expect("^[\\D]$", "a", "1");
    expect("^[\\D\\d]$", "a\v1\v\\n", "");
    expect("^[^\\D5]$", "1", "5\va");
    expect("^[\\w-]+$", "a-b", "a b");
    expect("^[\\s\\S]$", "a\v\\n", "");
    /* escapes */
    expect("^\\.\\*\\+\\?\\(\\)\\[\\]\\{\\}\\|\\^\\$\\\\\\/$",
           ".*+?()[]{}|^$\\\\/", "");
    expect("^\\t\\n\\v\\f\\r$", "\\t\\n\\u000b\\f\\r", "");
    expect("^\\x41\\u00e4\\u{1F600}$",
           "A\xc3\xa4\xf0\x9f\x98\x80\vA\\u00e4"
           "\\ud83d\\ude00",
           "A");
    expect("^\\ud83d\\ude00$", "\xf0\x9f\x98\x80", "");
    expect("^[\\b\\x41-\\x43]$", "\\b\vB", "D");
    expect("^\xf0\x9f\x98\x80{2}$", "\xf0\x9f\x98\x80\xf0\x9f\x98\x80",
           "\xf0\x9f\x98\x80");
    expect("^[^\\u{10ffff}]$", "a\v\xf4\x8f\xbf\xbe", "\xf4\x8f\xbf\xbf");
    /* groups and choices */
    expect("^(?:a|b(c|d)e)f$", "af\vbcef\vbdef", "bf\vaf \vbcf");
    expect("a|b|c", "a\vb\vxcx", "d\v");
    expect("^(red|green|blue)$", "red\vgreen\vblue", "re\vredgreen\vRed");
    /* what people write */
    expect("^[A-Z]{3}$", "EUR", "EU\vEURO\veur");
    expect("^\\d{4}-\\d{2}-\\d{2}$", "2024-02-29", "2024-2-29\v2024-02-291");
    expect("^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$", "a\va-b", "-a\va-\v");
    expect("^\\+?[1-9]\\d{1,14}$", "+4930123456", "0123\v+0");
    expect("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", "a@b.c\va.b@c.d.e",
           "a@b\va b@c.d\v@b.c");
    expect("^(?:25[0-5]|2[0-4]\\d|1?\\d?\\d)(?:\\.(?:25[0-5]|2[0-4]\\d|1?\\d?"
           "\\d)){3}$",
           "192.0.2.1\v255.255.255.255", "256.0.0.1\v1.2.3\v1.2.3.4.5");
    expect("ab.*cd", "abcd\vxabxxcdx", "ab\vcdab\vab\\ncd");
    expect("aab", "aab\vaaab\vaaaaab", "aaa\vabab");
}

static void test_refused(void **state)
{
    static const struct {
        const char *pattern;
        const char *part; /* of the message */
    } cases[] = {
        {"(", "not closed"},
        {"(a", "not closed"},
        {"a)", "closes no group"},
        {")", "closes no group"},
        {"[", "not closed"},
        {"[a", "not closed"},
        {"[^", "not closed"},
        {"[a\\", "backslash"},
        {"]", "with a meaning"},
        {"}", "with a meaning"},
        {"{", "with a meaning"},
        {"a{", "no {n}"},
        {"a{,3}", "no {n}"},
        {"a{1", "no {n}"},
        {"a{1,", "no {n}"},
        {"a{2,1}", "no {n}"},
        {"a{1,x}", "no {n}"},
        {"a{1001}", "more than 1000"},
        {"a{0,1001}", "more than 1000"},
        {"a{99999999999999999999}", "more than 1000"},
        {"*", "with a meaning"},
        {"+a", "with a meaning"},
        {"?", "with a meaning"},
        {"a|*", "with a meaning"},
        {"a**", "with a meaning"},
        {"a*??", "with a meaning"},
        {"^*", "with a meaning"},
        {"$?", "with a meaning"},
        {"(?=a)", "only groups"},
        {"(?!a)", "only groups"},
        {"(?<=a)", "only groups"},
        {"(?<n>a)", "only groups"},
        {"(?i)a", "only groups"},
        {"\\", "backslash"},
        {"\\b", "not supported"},
        {"\\B", "not supported"},
        {"\\1", "not supported"},
        {"\\0", "not supported"},
        {"\\k<n>", "not supported"},
        {"\\p{L}", "not supported"},
        {"\\cA", "not supported"},
        {"\\a", "not supported"},
        {"\\-", "not supported"},
        {"\\x4", "hexadecimal"},
        {"\\u004", "hexadecimal"},
        {"\\u{}", "hexadecimal"},
        {"\\u{110000}", "code point"},
        {"\\u{41", "hexadecimal"},
        {"\\ud83d", "surrogate"},
        {"\\ude00", "surrogate"},
        {"\\ud83d\\u0041", "surrogate"},
        {"[b-a]", "range"},
        {"[\\d-a]", "range"},
        {"[a-\\d]", "range"},
        {"[\\B]", "not supported"},
        {"\xff", "UTF-8"},
        {"[\xc3]", "UTF-8"},
    };

    pool_t pool = {.left = 1000};
    const hp_pattern_t *pattern;
    const char *error;
    size_t i;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        pattern =
            compile(cases[i].pattern, strlen(cases[i].pattern), &pool, &error);

        if (pattern != NULL || strstr(error, cases[i].part) == NULL) {
            fail_msg("%s: %s", cases[i].pattern,
                     pattern != NULL ? "accepted" : error);
        }

        assert_int_equal(pool.count, 0);
    }
}

/* len copies of unit, between head and tail. */
static char *repeated(const char *head, const char *unit, size_t len,
                      const char *tail)
{
    char *text, *p;
    size_t i;

    text = malloc(strlen(head) + len * strlen(unit) + strlen(tail) + 1);
    assert_non_null(text);
    p = text + sprintf(text, "%s", head);

    for (i = 0; i < len; i++) {
        p += sprintf(p, "%s", unit);
    }

    sprintf(p, "%s", tail);
    return text;
}

/* NULL: accepted; else the message. */
static const char *compiled(char *text)
{
    pool_t pool = {.left = 1000};
    const char *error;

    (void)compile(text, strlen(text), &pool, &error);
    free(text);
    empty(&pool);
    return error;
}

static void test_limits(void **state)
{
    char classes[16 * 300], *p, *groups;
    unsigned i;

    (void)state;

    /* states */
    assert_null(compiled(repeated("^", "a", 1000, "$")));
    assert_null(compiled(repeated("^a{1000}$", "", 0, "")));
    assert_string_equal(compiled(repeated("^", "a{900}", 2, "$")),
                        "it is too complex");
    assert_string_equal(compiled(repeated("(a|b)*a", "(a|b)", 12, "")),
                        "it is too complex");
    assert_null(compiled(repeated("(a|b)*a", "(a|b)", 8, "")));
    /* the program */
    assert_string_equal(compiled(repeated("", "(a{1000}){1000}", 1, "")),
                        "it is too complex");
    assert_null(compiled(repeated("(((()){1000}){1000}){1000}", "", 0, "")));
    /* the tree */
    assert_string_equal(compiled(repeated("", "a", 1030, "")),
                        "it is too long");
    /* groups */
    groups = repeated("", "(", 32, "a");
    assert_null(compiled(repeated(groups, ")", 32, "")));
    free(groups);
    groups = repeated("", "(", 33, "a");
    assert_string_equal(compiled(repeated(groups, ")", 33, "")),
                        "its groups are nested too deeply");
    free(groups);
    assert_string_equal(compiled(repeated("", "(", 100000, "")),
                        "its groups are nested too deeply");

    /* symbols: n single code points with gaps make 2 n + 1 */
    for (i = 0, p = classes; i < 127; i++) {
        p += sprintf(p, "\\u%04x", 0x100 + 2 * i);
    }

    assert_null(compiled(repeated(classes, "", 0, "")));
    p += sprintf(p, "\\u%04x", 0x900);
    assert_string_equal(compiled(repeated(classes, "", 0, "")),
                        "it tells too many characters apart");

    /* ranges in one class */
    for (i = 0, p = classes, *p++ = '['; i < 1023; i++) {
        p += sprintf(p, "%s", i % 2 ? "b" : "a");
    }

    strcpy(p, "]");
    assert_null(compiled(repeated(classes, "", 0, "")));
    strcpy(p, "cc]");
    assert_string_equal(compiled(repeated(classes, "", 0, "")),
                        "its classes are too long");
}

/* One step a character: these take for ever where a matcher goes back. */
static void test_linear(void **state)
{
    static const char *const patterns[] = {
        "^(a+)+$",
        "^(a|aa)+$",
        "^(a*)*b$",
        "(x+x+)+y",
        "a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?aaaaaaaaaaaaaaaab$",
    };

    pool_t pool = {.left = 1000};
    const hp_pattern_t *pattern;
    const char *error;
    hp_str_t subject;
    char *text;
    size_t i;

    (void)state;

    for (i = 0; i < COUNT_OF(patterns); i++) {
        pattern = compile(patterns[i], strlen(patterns[i]), &pool, &error);
        assert_non_null(pattern);
        text = repeated("", i == 3 ? "x" : "a", 1000000, "!");
        subject = exact_text(text);
        assert_int_equal(hp_pattern_match(pattern, subject), 0);
        drop(&subject);
        free(text);
        empty(&pool);
    }
}

static void test_no_memory(void **state)
{
    pool_t pool = {.left = 0};
    const char *error;
    size_t left;

    (void)state;

    for (left = 0;; left++) {
        pool.left = left;

        if (compile("^[a-z]+$", 8, &pool, &error) != NULL) {
            break;
        }

        assert_string_equal(error, "no memory");
        empty(&pool);
    }

    assert_true(left > 1);
    empty(&pool);
}

static void test_cuts(void **state)
{
    static const char text[] =
        "^(?:25[0-5]|\\d{1,3}|[^\\x41\\u00e4\\u{1F600}\\ud83d\\ude00\xc3\xa4]"
        "*?)(\\.\\w+){3,}$";

    pool_t pool = {.left = 1000};
    const hp_pattern_t *pattern;
    const char *error;
    hp_str_t subject;
    size_t len, whole;

    (void)state;

    for (len = 0, whole = 0; len < sizeof(text); len++) {
        pattern = compile(text, len, &pool, &error);

        if (pattern != NULL) {
            subject = exact_text("25.\xc3\xa4.\\ud83d\\ude00");
            (void)hp_pattern_match(pattern, subject);
            drop(&subject);
            whole++;
        }

        empty(&pool);
        pool.left = 1000;
    }

    assert_true(whole > 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matches),   cmocka_unit_test(test_refused),
        cmocka_unit_test(test_limits),    cmocka_unit_test(test_linear),
        cmocka_unit_test(test_no_memory), cmocka_unit_test(test_cuts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
