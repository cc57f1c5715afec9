/*
 * hp_nats.c: the NATS client protocol as bytes, without any I/O.
 *
 * Owns nothing, allocates nothing: every result points into the caller's
 * buffer. Runs in nginx workers, for every byte that a NATS server sends, so
 * it must not loop without progress nor read past what it was given, whatever
 * the server (or whoever answers on its port) says. See hp_nats.h;
 * tests/unit/test_nats.c, tests/fuzz/fuzz_nats.c.
 */
#include "hp_nats.h"
#include "hp_json.h"

#include <string.h>

#define HP_NATS_JSON_DEPTH 32

static int hp_nats_verb(const unsigned char *line, size_t len, const char *verb,
                        size_t verb_len)
{
    size_t i;

    if (len < verb_len) {
        return 0;
    }
    for (i = 0; i < verb_len; i++) {
        /* verbs are letters, and case does not count in them */
        if ((line[i] | 0x20) != (unsigned char)verb[i]) {
            return 0;
        }
    }
    return len == verb_len || line[verb_len] == ' ' || line[verb_len] == '\t';
}

/* The next word of the line; empty at its end. */
static hp_str_t hp_nats_word(hp_str_t *line)
{
    hp_str_t word;
    size_t i = 0, start;

    while (i < line->len && (line->data[i] == ' ' || line->data[i] == '\t')) {
        i++;
    }
    start = i;
    while (i < line->len && line->data[i] != ' ' && line->data[i] != '\t') {
        i++;
    }
    word.data = line->data + start;
    word.len = i - start;
    line->data += i;
    line->len -= i;
    return word;
}

static int hp_nats_number(hp_str_t text, uint64_t *value)
{
    size_t i;

    /* 18 digits cannot overflow */
    if (text.len == 0 || text.len > 18) {
        return -1;
    }
    *value = 0;
    for (i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') {
            return -1;
        }
        *value = *value * 10 + (uint64_t)(text.data[i] - '0');
    }
    return 0;
}

static hp_str_t hp_nats_trim(hp_str_t text)
{
    while (text.len && (text.data[0] == ' ' || text.data[0] == '\t')) {
        text.data++;
        text.len--;
    }
    while (text.len && (text.data[text.len - 1] == ' ' ||
                        text.data[text.len - 1] == '\t')) {
        text.len--;
    }
    return text;
}

static unsigned hp_nats_header_status(hp_str_t headers)
{
    static const char prefix[] = "NATS/1.0 ";
    size_t skip = sizeof(prefix) - 1;
    const unsigned char *p = headers.data + skip;

    if (headers.len < skip + 3 || memcmp(headers.data, prefix, skip) != 0 ||
        p[0] < '1' || p[0] > '9' || p[1] < '0' || p[1] > '9' || p[2] < '0' ||
        p[2] > '9') {
        return 0;
    }
    return (unsigned)(p[0] - '0') * 100 + (unsigned)(p[1] - '0') * 10 +
           (unsigned)(p[2] - '0');
}

static hp_nats_op_e hp_nats_message(hp_str_t data, size_t line_end,
                                    hp_str_t args, int with_headers,
                                    size_t payload_max, hp_nats_op_t *op,
                                    size_t *consumed, size_t *wanted)
{
    hp_str_t word[6];
    size_t n, sizes;
    uint64_t header_size = 0, total, need;

    for (n = 0; n < 6; n++) {
        word[n] = hp_nats_word(&args);
        if (word[n].len == 0) {
            break;
        }
    }
    sizes = with_headers ? 2 : 1;
    if (n != 2 + sizes && n != 3 + sizes) {
        return HP_NATS_BROKEN;
    }
    op->subject = word[0];
    if (hp_nats_number(word[1], &op->sid) != 0 ||
        hp_nats_number(word[n - 1], &total) != 0 || total > payload_max) {
        return HP_NATS_BROKEN;
    }
    if (n == 3 + sizes) {
        op->reply = word[2];
    }
    if (with_headers && (hp_nats_number(word[n - 2], &header_size) != 0 ||
                         header_size > total)) {
        return HP_NATS_BROKEN;
    }

    need = (uint64_t)line_end + total + 2;
    if (data.len < need) {
        *wanted = (size_t)need;
        return HP_NATS_MORE;
    }
    if (data.data[need - 2] != '\r' || data.data[need - 1] != '\n') {
        return HP_NATS_BROKEN;
    }
    op->headers.data = data.data + line_end;
    op->headers.len = (size_t)header_size;
    op->payload.data = op->headers.data + header_size;
    op->payload.len = (size_t)(total - header_size);
    op->status = hp_nats_header_status(op->headers);
    *consumed = (size_t)need;
    return HP_NATS_MSG;
}

hp_nats_op_e hp_nats_read(hp_str_t data, size_t payload_max, hp_nats_op_t *op,
                          size_t *consumed, size_t *wanted)
{
    const unsigned char *lf;
    hp_str_t line;
    size_t line_end, look;

    memset(op, 0, sizeof(*op));
    *consumed = 0;
    *wanted = data.len + 1;
    if (data.len == 0) {
        return HP_NATS_MORE;
    }

    look = data.len < HP_NATS_LINE_MAX ? data.len : HP_NATS_LINE_MAX;
    lf = memchr(data.data, '\n', look);
    if (lf == NULL) {
        return look == HP_NATS_LINE_MAX ? HP_NATS_BROKEN : HP_NATS_MORE;
    }
    line_end = (size_t)(lf - data.data) + 1;
    line.data = data.data;
    line.len = line_end - 1;
    if (line.len == 0 || line.data[line.len - 1] != '\r') {
        return HP_NATS_BROKEN;
    }
    line.len--;

    if (hp_nats_verb(line.data, line.len, "msg", 3)) {
        line.data += 3;
        line.len -= 3;
        return hp_nats_message(data, line_end, line, 0, payload_max, op,
                               consumed, wanted);
    }
    if (hp_nats_verb(line.data, line.len, "hmsg", 4)) {
        line.data += 4;
        line.len -= 4;
        return hp_nats_message(data, line_end, line, 1, payload_max, op,
                               consumed, wanted);
    }

    *consumed = line_end;
    if (hp_nats_verb(line.data, line.len, "ping", 4)) {
        return HP_NATS_PING;
    }
    if (hp_nats_verb(line.data, line.len, "pong", 4)) {
        return HP_NATS_PONG;
    }
    if (hp_nats_verb(line.data, line.len, "info", 4)) {
        op->text.data = line.data + 4;
        op->text.len = line.len - 4;
        op->text = hp_nats_trim(op->text);
        return HP_NATS_INFO;
    }
    if (line.len >= 3 && memcmp(line.data, "+OK", 3) == 0) {
        return HP_NATS_OK;
    }
    if (line.len >= 4 && memcmp(line.data, "-ERR", 4) == 0) {
        op->text.data = line.data + 4;
        op->text.len = line.len - 4;
        op->text = hp_nats_trim(op->text);
        if (op->text.len >= 2 && op->text.data[0] == '\'' &&
            op->text.data[op->text.len - 1] == '\'') {
            op->text.data++;
            op->text.len -= 2;
        }
        return HP_NATS_ERR;
    }
    *consumed = 0;
    return HP_NATS_BROKEN;
}

/* Members of a checked object: 1 found and of the type, 0 absent, -1 else. */

static int hp_nats_member_number(hp_str_t object, const char *name,
                                 uint64_t *value)
{
    hp_str_t key = {(const unsigned char *)name, strlen(name)};
    hp_json_slice_t slice;
    int is_string;

    if (!hp_json_member(object, key, &slice, &is_string)) {
        return 0;
    }
    return !is_string && hp_nats_number(slice.raw, value) == 0 ? 1 : -1;
}

static int hp_nats_member_string(hp_str_t object, const char *name,
                                 hp_str_t *value)
{
    hp_str_t key = {(const unsigned char *)name, strlen(name)};
    hp_json_slice_t slice;
    int is_string;

    if (!hp_json_member(object, key, &slice, &is_string)) {
        return 0;
    }
    if (!is_string) {
        return -1;
    }
    *value = slice.raw;
    return 1;
}

static int hp_nats_member_true(hp_str_t object, const char *name)
{
    hp_str_t key = {(const unsigned char *)name, strlen(name)};
    hp_json_slice_t slice;
    int is_string;

    return hp_json_member(object, key, &slice, &is_string) && !is_string &&
           slice.raw.len == 4 && memcmp(slice.raw.data, "true", 4) == 0;
}

/* A checked JSON object, or not. */
static int hp_nats_object(hp_str_t *text)
{
    size_t offset;

    while (text->len && (text->data[0] == ' ' || text->data[0] == '\t' ||
                         text->data[0] == '\r' || text->data[0] == '\n')) {
        text->data++;
        text->len--;
    }
    return text->len != 0 && text->data[0] == '{' &&
           hp_json_check(*text, HP_NATS_JSON_DEPTH, &offset) == HP_JSON_OK;
}

int hp_nats_info_read(hp_nats_info_t *info, hp_str_t text)
{
    static const hp_str_t urls = HP_STR("connect_urls");
    hp_json_slice_t slice;
    int is_string;

    memset(info, 0, sizeof(*info));
    if (!hp_nats_object(&text)) {
        return -1;
    }
    if (hp_nats_member_number(text, "max_payload", &info->max_payload) < 0 ||
        hp_nats_member_string(text, "version", &info->version) < 0 ||
        hp_nats_member_string(text, "nonce", &info->nonce) < 0) {
        return -1;
    }
    info->headers = hp_nats_member_true(text, "headers") != 0;
    info->auth_required = hp_nats_member_true(text, "auth_required") != 0;
    info->tls_required = hp_nats_member_true(text, "tls_required") != 0;
    info->tls_available = hp_nats_member_true(text, "tls_available") != 0;
    info->lame_duck = hp_nats_member_true(text, "ldm") != 0;
    if (hp_json_member(text, urls, &slice, &is_string) && !is_string) {
        info->connect_urls = slice.raw;
    }
    return 0;
}

int hp_nats_url_next(hp_str_t *urls, hp_str_t *url)
{
    const unsigned char *p, *end, *from;
    int escaped, found = 0;

    if (urls->len == 0) {
        return 0;
    }
    p = urls->data;
    end = p + urls->len;

    /* checked JSON with INFO: a quote outside of a string begins one, and a
     * string ends */
    while (p < end && !found) {
        if (*p++ != '"') {
            continue;
        }
        from = p;
        escaped = 0;
        while (p < end && *p != '"') {
            if (*p == '\\') {
                escaped = 1;
                p++;
            }
            p += p < end;
        }
        url->data = from;
        url->len = (size_t)(p - from);
        found =
            p < end && !escaped && url->len != 0 && url->len <= HP_NATS_URL_MAX;
        p += p < end;
    }
    urls->data = p;
    urls->len = (size_t)(end - p);
    return found;
}

static unsigned char hp_nats_lower(unsigned char c)
{
    return c >= 'A' && c <= 'Z' ? (unsigned char)(c | 0x20) : c;
}

/* Whether text has the words, which are lower case, at its beginning. */
static int hp_nats_begins(hp_str_t text, const char *words)
{
    size_t i;

    for (i = 0; words[i]; i++) {
        if (i == text.len ||
            hp_nats_lower(text.data[i]) != (unsigned char)words[i]) {
            return 0;
        }
    }
    return 1;
}

hp_nats_trouble_e hp_nats_trouble(hp_str_t text, hp_str_t *subject)
{
    static const struct {
        const char *words;
        hp_nats_trouble_e trouble;
    } known[] = {
        {"permissions violation for publish to", HP_NATS_TROUBLE_PUBLISH},
        {"permissions violation for subscription to",
         HP_NATS_TROUBLE_SUBSCRIBE},
        /* what is left of them: a reply subject that may not be used */
        {"permissions violation", HP_NATS_TROUBLE_SUBSCRIBE},
        {"authorization violation", HP_NATS_TROUBLE_AUTH},
        {"user authentication", HP_NATS_TROUBLE_AUTH},
        {"account authentication", HP_NATS_TROUBLE_AUTH},
        {"authentication", HP_NATS_TROUBLE_AUTH},
        {"failed account registration", HP_NATS_TROUBLE_AUTH},
        {"maximum connections exceeded", HP_NATS_TROUBLE_LIMIT},
        {"maximum account active connections", HP_NATS_TROUBLE_LIMIT},
        {"maximum subscriptions exceeded", HP_NATS_TROUBLE_LIMIT},
        {"connection throttling", HP_NATS_TROUBLE_LIMIT},
        {"maximum payload", HP_NATS_TROUBLE_PAYLOAD},
        {"stale connection", HP_NATS_TROUBLE_BROKEN},
        {"slow consumer", HP_NATS_TROUBLE_BROKEN},
        {"secure connection", HP_NATS_TROUBLE_BROKEN},
        {"unknown protocol", HP_NATS_TROUBLE_BROKEN},
        {"parser error", HP_NATS_TROUBLE_BROKEN},
        {"maximum control line", HP_NATS_TROUBLE_BROKEN},
        {"invalid client protocol", HP_NATS_TROUBLE_BROKEN},
        {"attempted to connect to", HP_NATS_TROUBLE_BROKEN},
        {"no responders requires headers", HP_NATS_TROUBLE_BROKEN},
        {"message headers not supported", HP_NATS_TROUBLE_BROKEN},
    };
    const unsigned char *quote, *end;
    size_t i;

    subject->data = text.data;
    subject->len = 0;
    for (i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (hp_nats_begins(text, known[i].words)) {
            break;
        }
    }
    if (i == sizeof(known) / sizeof(known[0])) {
        return HP_NATS_TROUBLE_OTHER;
    }
    if (known[i].trouble == HP_NATS_TROUBLE_PUBLISH ||
        known[i].trouble == HP_NATS_TROUBLE_SUBSCRIBE) {
        quote = memchr(text.data, '"', text.len);
        if (quote) {
            quote++;
            end = memchr(quote, '"', (size_t)(text.data + text.len - quote));
            if (end) {
                subject->data = quote;
                subject->len = (size_t)(end - quote);
            }
        }
    }
    return known[i].trouble;
}

/* The next token of a subject; the dot behind it is eaten. */
static hp_str_t hp_nats_token(hp_str_t *subject)
{
    hp_str_t token = *subject;
    const unsigned char *dot;

    dot = subject->len ? memchr(subject->data, '.', subject->len) : NULL;
    if (dot) {
        token.len = (size_t)(dot - subject->data);
    }
    subject->data += token.len + (dot != NULL);
    subject->len -= token.len + (dot != NULL);
    return token;
}

int hp_nats_subject_match(hp_str_t pattern, hp_str_t subject)
{
    hp_str_t wanted, token;

    while (pattern.len && subject.len) {
        wanted = hp_nats_token(&pattern);
        token = hp_nats_token(&subject);
        if (wanted.len == 1 && wanted.data[0] == '>' && pattern.len == 0) {
            return 1;
        }
        if (wanted.len == 1 && wanted.data[0] == '*') {
            continue;
        }
        if (wanted.len != token.len || wanted.len == 0 ||
            memcmp(wanted.data, token.data, token.len) != 0) {
            return 0;
        }
    }
    return pattern.len == 0 && subject.len == 0;
}

int hp_nats_puback_read(hp_nats_puback_t *ack, hp_str_t payload)
{
    static const hp_str_t error = HP_STR("error");
    hp_json_slice_t slice;
    uint64_t value;
    int is_string;

    memset(ack, 0, sizeof(*ack));
    if (!hp_nats_object(&payload)) {
        return -1;
    }
    if (hp_nats_member_string(payload, "stream", &ack->stream) < 0) {
        return -1;
    }
    if (hp_json_member(payload, error, &slice, &is_string)) {
        if (is_string || slice.raw.len == 0 || slice.raw.data[0] != '{') {
            return -1;
        }
        ack->error = 1;
        value = 0;
        if (hp_nats_member_number(slice.raw, "code", &value) > 0) {
            ack->code = (uint32_t)value;
        }
        value = 0;
        if (hp_nats_member_number(slice.raw, "err_code", &value) > 0) {
            ack->err_code = (uint32_t)value;
        }
        (void)hp_nats_member_string(slice.raw, "description",
                                    &ack->description);
        return 0;
    }
    /* without an error both are the promise itself */
    if (ack->stream.len == 0 ||
        hp_nats_member_number(payload, "seq", &ack->sequence) <= 0 ||
        ack->sequence == 0) {
        return -1;
    }
    ack->duplicate = hp_nats_member_true(payload, "duplicate") != 0;
    return 0;
}
