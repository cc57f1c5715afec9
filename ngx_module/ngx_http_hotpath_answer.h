/*
 * ngx_http_hotpath_answer.h: the answers that Hotpath itself gives.
 *
 * Every refusal is a problem document (RFC 9457) with a stable code out of one
 * table. Knows nginx only.
 */
#ifndef _NGX_HTTP_HOTPATH_ANSWER_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_ANSWER_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/* X(symbol, code, status, retry after in seconds or 0, title) */
#define NGX_HTTP_HOTPATH_PROBLEMS(X)                                          \
    X(BODY_EMPTY, "body_empty", 400, 0, "The request has no body")            \
    X(JSON_SYNTAX, "json_syntax", 400, 0, "The body is not valid JSON")       \
    X(JSON_TRAILING, "json_trailing", 400, 0,                                 \
      "Something follows the JSON value")                                     \
    X(JSON_UTF8, "json_utf8", 400, 0, "The body is not valid UTF-8")          \
    X(JSON_NUL, "json_nul", 400, 0, "A string contains U+0000")               \
    X(JSON_SURROGATE, "json_surrogate", 400, 0,                               \
      "A string contains half of a surrogate pair")                           \
    X(JSON_NUMBER, "json_number", 400, 0,                                     \
      "A number is outside the range that can be stored")                     \
    X(JSON_DEPTH, "json_depth", 400, 0, "The JSON is nested too deeply")      \
    X(BODY_NOT_OBJECT, "body_not_object", 400, 0,                             \
      "The body is not a JSON object")                                        \
    X(MEMBER_DUPLICATE, "member_duplicate", 400, 0,                           \
      "A member appears twice")                                               \
    X(MEMBER_UNKNOWN, "member_unknown", 400, 0,                               \
      "There is a member that is not known")                                  \
    X(MEMBER_TYPE, "member_type", 400, 0,                                     \
      "A member is not of its type")                                          \
    X(EVENT_TYPE_REQUIRED, "event_type_required", 400, 0,                     \
      "eventType is required")                                                \
    X(EVENT_TYPE_INVALID, "event_type_invalid", 400, 0,                       \
      "eventType must have 1 to 255 bytes")                                   \
    X(PAYLOAD_REQUIRED, "payload_required", 400, 0, "payload is required")    \
    X(KEY_REQUIRED, "idempotency_key_required", 400, 0,                       \
      "An idempotency key is required")                                       \
    X(KEY_INVALID, "idempotency_key_invalid", 400, 0,                         \
      "The idempotency key must be 1 to 255 printable ASCII characters")      \
    X(KEY_MISMATCH, "idempotency_key_mismatch", 400, 0,                       \
      "Header and body name different idempotency keys")                      \
    X(KEY_REUSED, "idempotency_key_reused", 422, 0,                           \
      "The idempotency key was used with another payload")                    \
    X(OPERATION_IN_FLIGHT, "operation_in_flight", 409, 1,                     \
      "A request with this idempotency key is being processed")               \
    X(KEY_TABLE_FULL, "idempotency_table_full", 503, 1,                       \
      "Too many requests with an idempotency key, nothing was passed on")     \
    X(KEY_UNAVAILABLE, "idempotency_unavailable", 503, 1,                     \
      "The idempotency key cannot be looked up, nothing was passed on")       \
    X(ANSWER_NOT_KEPT, "idempotency_answer_not_kept", 409, 0,                 \
      "The first request with this key was answered, but not kept")           \
    X(ANSWER_UNKNOWN, "idempotency_outcome_unknown", 409, 0,                  \
      "The first request with this key got no answer, and may have been "     \
      "carried out")                                                          \
    X(UPSTREAM_INCOMPLETE, "upstream_incomplete", 502, 0,                     \
      "The answer ended before it was whole")                                 \
    X(TENANT_INVALID, "tenant_invalid", 400, 0,                               \
      "The tenant is missing or not 1 to 64 of A-Z a-z 0-9 . _ -")            \
    X(OPERATION_ID_INVALID, "operation_id_invalid", 400, 0,                   \
      "The operation id is not a UUID")                                       \
    X(OPERATION_UNKNOWN, "operation_unknown", 404, 0,                         \
      "No such operation is known")                                           \
    X(OPERATION_DEAD, "operation_dead", 422, 0,                               \
      "The event was accepted, and the database refused it")                  \
    X(OPERATION_LOST, "operation_lost", 503, 1,                               \
      "The event was accepted and is lost; send it again with its key")       \
    X(READ_KEY_INVALID, "read_key_invalid", 400, 0,                           \
      "The key must be 1 to 1024 bytes of UTF-8 without NUL")                  \
    X(PARAMETER_REQUIRED, "parameter_required", 400, 0,                       \
      "A parameter is missing")                                               \
    X(PARAMETER_INVALID, "parameter_invalid", 400, 0,                         \
      "A parameter is not what it has to be")                                 \
    X(PARAMETER_UNKNOWN, "parameter_unknown", 400, 0,                         \
      "The query has an argument that is not known")                          \
    X(CURSOR_INVALID, "cursor_invalid", 400, 0,                               \
      "The cursor is not one that was given out for this list")               \
    X(CURSOR_EXPIRED, "cursor_expired", 400, 0,                               \
      "The cursor is too old; begin with the first page again")               \
    X(DOCUMENT_UNKNOWN, "document_unknown", 404, 0, "No such document")       \
    X(PRECONDITION_FAILED, "precondition_failed", 412, 0,                     \
      "The document is not the one that If-Match or If-Unmodified-Since "     \
      "names")                                                                \
    X(FIELDS_INVALID, "fields_invalid", 400, 0,                               \
      "The fields must be 1 to 32 names of members, separated by commas")     \
    X(METHOD_NOT_ALLOWED, "method_not_allowed", 405, 0,                       \
      "The method is not allowed here")                                       \
    X(BODY_TOO_LARGE, "body_too_large", 413, 0, "The body is too large")      \
    X(CONTENT_TYPE_UNSUPPORTED, "content_type_unsupported", 415, 0,           \
      "The content type is none that events are taken in")                    \
    X(LENGTH_REQUIRED, "length_required", 411, 0,                             \
      "The body needs a Content-Length, or chunks")                           \
    X(CONTENT_TYPE_INVALID, "content_type_invalid", 400, 0,                   \
      "Content-Type is not a media type")                                     \
    X(CHARSET_UNSUPPORTED, "charset_unsupported", 415, 0,                     \
      "The charset must be utf-8")                                            \
    X(CONTENT_ENCODING_UNSUPPORTED, "content_encoding_unsupported", 415, 0,   \
      "The content coding must be gzip")                                      \
    X(BODY_ENCODING_INVALID, "body_encoding_invalid", 400, 0,                 \
      "The body is not what its content coding says")                         \
    X(BODY_MEMORY_FULL, "body_memory_full", 503, 1,                           \
      "Too many bodies are being received")                                   \
    X(BATCH_NOT_ARRAY, "batch_not_array", 400, 0,                             \
      "The batch is not a JSON array")                                        \
    X(BATCH_TOO_MANY, "batch_too_many", 413, 0,                               \
      "The batch has too many events")                                        \
    X(KEY_ON_BATCH, "idempotency_key_on_batch", 400, 0,                       \
      "A batch has no key of its own, each event has one")                    \
    X(EVENT_TOO_LARGE, "event_too_large", 413, 0, "The event is too large")   \
    X(CE_NOT_OBJECT, "ce_not_object", 400, 0,                                 \
      "A CloudEvent must be a JSON object")                                   \
    X(CE_SPECVERSION, "ce_specversion_unsupported", 400, 0,                   \
      "specversion must be 1.0")                                              \
    X(CE_ATTRIBUTE_NAME, "ce_attribute_name", 400, 0,                         \
      "No attribute may have such a name")                                    \
    X(CE_ATTRIBUTE_DUPLICATE, "ce_attribute_duplicate", 400, 0,               \
      "An attribute appears twice")                                           \
    X(CE_ATTRIBUTE_REQUIRED, "ce_attribute_required", 400, 0,                 \
      "A required attribute is missing")                                      \
    X(CE_ATTRIBUTE_TYPE, "ce_attribute_type", 400, 0,                         \
      "An attribute is not of its type")                                      \
    X(CE_ATTRIBUTE_VALUE, "ce_attribute_value", 400, 0,                       \
      "An attribute has not the form that it must have")                      \
    X(CE_ATTRIBUTE_ENCODING, "ce_attribute_encoding", 400, 0,                 \
      "An attribute is not encoded as it must be")                            \
    X(CE_ATTRIBUTES_TOO_MANY, "ce_attributes_too_many", 400, 0,               \
      "The event has too many attributes")                                    \
    X(CE_ATTRIBUTES_TOO_LARGE, "ce_attributes_too_large", 400, 0,             \
      "The attributes are too long")                                          \
    X(CE_DATA_DUPLICATE, "ce_data_duplicate", 400, 0,                         \
      "The event has its data twice")                                         \
    X(CE_DATA_TYPE, "ce_data_type", 400, 0, "The data must be a string")      \
    X(CE_DATA_BASE64, "ce_data_base64", 400, 0, "data_base64 is not base64")  \
    X(EVENT_TYPE_UNKNOWN, "event_type_unknown", 422, 0,                       \
      "No schema is known for this type of event")                            \
    X(SCHEMA_FALSE, "schema_false", 422, 0, "Nothing is allowed here")        \
    X(SCHEMA_TYPE, "schema_type", 422, 0, "A value is not of its type")       \
    X(SCHEMA_ENUM, "schema_enum", 422, 0,                                     \
      "A value is none of those allowed")                                     \
    X(SCHEMA_CONST, "schema_const", 422, 0,                                   \
      "A value is not the one allowed")                                       \
    X(SCHEMA_MINIMUM, "schema_minimum", 422, 0, "A number is too small")      \
    X(SCHEMA_MAXIMUM, "schema_maximum", 422, 0, "A number is too large")      \
    X(SCHEMA_EXCLUSIVE_MINIMUM, "schema_exclusive_minimum", 422, 0,           \
      "A number is too small")                                                \
    X(SCHEMA_EXCLUSIVE_MAXIMUM, "schema_exclusive_maximum", 422, 0,           \
      "A number is too large")                                                \
    X(SCHEMA_MIN_LENGTH, "schema_min_length", 422, 0,                         \
      "A string is too short")                                                \
    X(SCHEMA_MAX_LENGTH, "schema_max_length", 422, 0,                         \
      "A string is too long")                                                 \
    X(SCHEMA_PATTERN, "schema_pattern", 422, 0,                               \
      "A string does not match its pattern")                                  \
    X(SCHEMA_FORMAT, "schema_format", 422, 0,                                 \
      "A string is not of its format")                                        \
    X(SCHEMA_MIN_ITEMS, "schema_min_items", 422, 0,                           \
      "An array has too few items")                                           \
    X(SCHEMA_MAX_ITEMS, "schema_max_items", 422, 0,                           \
      "An array has too many items")                                          \
    X(SCHEMA_MIN_PROPERTIES, "schema_min_properties", 422, 0,                 \
      "An object has too few members")                                        \
    X(SCHEMA_MAX_PROPERTIES, "schema_max_properties", 422, 0,                 \
      "An object has too many members")                                       \
    X(SCHEMA_REQUIRED, "schema_required", 422, 0, "A member is missing")      \
    X(SCHEMA_ADDITIONAL, "schema_additional", 422, 0,                         \
      "A member is not allowed")                                              \
    X(SCHEMA_DUPLICATE, "schema_duplicate", 422, 0,                           \
      "A member appears twice")                                               \
    X(RATE_LIMITED, "rate_limited", 429, 1, "Too many requests")              \
    X(TOO_MANY_IN_FLIGHT, "too_many_in_flight", 503, 1,                       \
      "Too many requests are being processed")                                \
    X(NO_MEMORY, "no_memory", 503, 1, "The server is short of memory")        \
    X(BROKER_UNAVAILABLE, "broker_unavailable", 503, 1,                       \
      "The broker is not available, nothing was accepted")                    \
    X(BROKER_REFUSED, "broker_refused", 503, 5,                               \
      "The broker refused the event, nothing was accepted")                   \
    X(BROKER_DEGRADED, "broker_degraded", 503, 2,                             \
      "The broker cannot store at the moment, nothing was accepted")          \
    X(BROKER_DENIED, "broker_denied", 503, 30,                                \
      "The broker does not permit the event, nothing was accepted")           \
    X(STREAM_FULL, "stream_full", 503, 5,                                     \
      "The broker has no more room, nothing was accepted")                    \
    X(STREAM_UNFIT, "stream_unfit", 503, 5,                                   \
      "The broker has no fit stream for the event, nothing was accepted")     \
    X(PUBLISH_QUEUE_FULL, "publish_queue_full", 503, 1,                       \
      "Too many events wait for the broker, nothing was accepted")            \
    X(PRIORITY_SHED, "priority_shed", 503, 2,                                 \
      "Room is left for events of higher priority, nothing was accepted")     \
    X(OUTCOME_UNKNOWN, "outcome_unknown", 503, 1,                             \
      "The broker did not answer in time; retry with the same key")           \
    X(PURGE_MODEL_INVALID, "purge_model_invalid", 400, 0,                     \
      "The purge names no model")                                             \
    X(PURGE_TARGET_INVALID, "purge_target_invalid", 400, 0,                   \
      "Only one of key, keys (1 to 100) and tag (1 to 255 bytes) is allowed") \
    X(PURGE_MODE_INVALID, "purge_mode_invalid", 400, 0,                       \
      "The mode of a purge is soft or hard")                                  \
    X(UNAUTHORIZED, "unauthorized", 401, 0, "A valid token is required")      \
    X(PURGE_BUSY, "purge_busy", 503, 1, "Too many purges are under way")      \
    X(BACKEND_UNAVAILABLE, "backend_unavailable", 503, 1,                     \
      "The document cannot be had at the moment")                             \
    X(NOT_CACHED, "not_cached", 504, 0,                                       \
      "The cache does not have it, and was not to ask")


#define NGX_HTTP_HOTPATH_PROBLEM_ENUM(symbol, code, status, retry, title)     \
    NGX_HTTP_HOTPATH_PROBLEM_##symbol,

typedef enum {
    NGX_HTTP_HOTPATH_PROBLEMS(NGX_HTTP_HOTPATH_PROBLEM_ENUM)
    NGX_HTTP_HOTPATH_PROBLEM_N
} ngx_http_hotpath_problem_e;


/* offset is where in the body the input stops being acceptable. */
#define NGX_HTTP_HOTPATH_NO_OFFSET  ((size_t) -1)

/*
 * Sends headers and body; what they return is for ngx_http_finalize_request().
 * The request body, if any is left, must have been read or discarded before.
 */
ngx_int_t ngx_http_hotpath_problem(ngx_http_request_t *r,
    ngx_http_hotpath_problem_e problem);
ngx_int_t ngx_http_hotpath_problem_at(ngx_http_request_t *r,
    ngx_http_hotpath_problem_e problem, size_t offset, ngx_uint_t retry_s);
/* With the members "parameter" and "reason"; the name, which may be empty, and
 * the reason, which may be NULL, need no escapes in JSON. */
ngx_int_t ngx_http_hotpath_problem_parameter(ngx_http_request_t *r,
    ngx_http_hotpath_problem_e problem, ngx_str_t *name, const char *reason);
/* With any members, each with a comma before it. */
ngx_int_t ngx_http_hotpath_problem_members(ngx_http_request_t *r,
    ngx_http_hotpath_problem_e problem, ngx_str_t *members);

/* The document alone, for what answers with several; at p is room for
 * ngx_http_hotpath_problem_size(). */
size_t ngx_http_hotpath_problem_size(ngx_http_hotpath_problem_e problem,
    ngx_str_t *members);
u_char *ngx_http_hotpath_problem_write(u_char *p,
    ngx_http_hotpath_problem_e problem, ngx_str_t *members);
ngx_uint_t ngx_http_hotpath_problem_status(
    ngx_http_hotpath_problem_e problem);

ngx_int_t ngx_http_hotpath_send(ngx_http_request_t *r, ngx_uint_t status,
    ngx_str_t *type, ngx_str_t *body);

/* Discards the body, then answers; for a content handler that refuses before
 * it has read one. Its result is the content handler's. */
ngx_int_t ngx_http_hotpath_refuse(ngx_http_request_t *r,
    ngx_http_hotpath_problem_e problem);

/* The same with 405; allow is the list of methods for Allow. */
ngx_int_t ngx_http_hotpath_refuse_method(ngx_http_request_t *r,
    ngx_str_t *allow);

extern ngx_str_t  ngx_http_hotpath_type_json;
extern ngx_str_t  ngx_http_hotpath_allow_get;

/* A field whose key and value the caller sets; NULL: no memory. */
static ngx_inline ngx_table_elt_t *
ngx_http_hotpath_header_push(ngx_http_request_t *r)
{
    ngx_list_t       *list;
    ngx_table_elt_t  *h;

    list = &r->headers_out.headers;

    if (list->last->nelts < list->nalloc) {
        h = list->last->elts;
        h += list->last->nelts++;

    } else {
        h = ngx_list_push(list);
        if (h == NULL) {
            return NULL;
        }
    }

    h->hash = 1;
#if (nginx_version >= 1023000)
    h->next = NULL;
#endif

    return h;
}

/* Name and value are not copied. */
ngx_int_t ngx_http_hotpath_header(ngx_http_request_t *r, ngx_str_t *name,
    ngx_str_t *value);
/* A header that nginx does not write on its own, with a constant name. */
#define ngx_http_hotpath_header_const(r, n, v)                                \
    ngx_http_hotpath_header(r, &(ngx_str_t) ngx_string(n),                    \
                            &(ngx_str_t) ngx_string(v))


#endif /* _NGX_HTTP_HOTPATH_ANSWER_H_INCLUDED_ */
