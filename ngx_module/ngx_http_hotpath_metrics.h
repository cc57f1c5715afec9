/*
 * ngx_http_hotpath_metrics.h: counters and gauges of the whole instance.
 *
 * Every worker process adds to a row of its own in shared memory (its process
 * slot), so adding takes no lock and no atomic; a scrape sums the rows.
 * Counters outlive workers and reloads. Knows shm.
 */
#ifndef _NGX_HTTP_HOTPATH_METRICS_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_METRICS_H_INCLUDED_


#include "ngx_http_hotpath_shm.h"


/*
 * X(symbol, kind, name, labels, help). kind: COUNTER only goes up; GAUGE is
 * what this process holds now and is set to zero when its process starts.
 * Rows with the same name stand together; the help is that of the first. The
 * name of a COUNTER ends in _total.
 */
#define NGX_HTTP_HOTPATH_METRICS(X)                                           \
    X(WRITE_ACCEPTED, COUNTER, "hotpath_write_requests_total",                \
      "result=\"accepted\"", "Write requests by how they ended.")             \
    X(WRITE_REPLAYED, COUNTER, "hotpath_write_requests_total",                \
      "result=\"replayed\"", "")                                              \
    X(WRITE_REFUSED, COUNTER, "hotpath_write_requests_total",                 \
      "result=\"refused\"", "")                                               \
    X(WRITE_CONFLICT, COUNTER, "hotpath_write_requests_total",                \
      "result=\"conflict\"", "")                                              \
    X(WRITE_UNAVAILABLE, COUNTER, "hotpath_write_requests_total",             \
      "result=\"unavailable\"", "")                                           \
    X(WRITE_TIMEOUT, COUNTER, "hotpath_write_requests_total",                 \
      "result=\"timeout\"", "")                                               \
    X(WRITE_BATCHES, COUNTER, "hotpath_write_batches_total", "",              \
      "Write requests with an array of events.")                              \
    X(ACCEPTED_NORMAL, COUNTER, "hotpath_priority_accepted_total",            \
      "priority=\"normal\"", "Events accepted, by their priority.")           \
    X(ACCEPTED_HIGH, COUNTER, "hotpath_priority_accepted_total",              \
      "priority=\"high\"", "")                                                \
    X(ACCEPTED_LOW, COUNTER, "hotpath_priority_accepted_total",               \
      "priority=\"low\"", "")                                                 \
    X(SHED_NORMAL, COUNTER, "hotpath_priority_shed_total",                    \
      "priority=\"normal\"",                                                  \
      "Events refused so that there is room for those of higher priority.")   \
    X(SHED_LOW, COUNTER, "hotpath_priority_shed_total",                       \
      "priority=\"low\"", "")                                                 \
    X(WRITE_BODY_BYTES, GAUGE, "hotpath_write_body_bytes", "",                \
      "Memory that bodies being received and decoded hold.")                  \
    X(OPERATIONS_LOST, COUNTER, "hotpath_operations_lost_total", "",          \
      "Accepted operations that were found to be lost.")                      \
    X(FOLLOW_ASKED, COUNTER, "hotpath_status_questions_total", "",            \
      "Questions to Postgres, what has become of an operation.")              \
    X(WAITING, GAUGE, "hotpath_waiting", "",                                  \
      "Requests that wait for what becomes of an operation.")                 \
    X(WAIT_DECIDED, COUNTER, "hotpath_waits_total",                           \
      "result=\"decided\"",                                                   \
      "Waits for what becomes of an operation, by how they ended.")           \
    X(WAIT_OVER, COUNTER, "hotpath_waits_total",                              \
      "result=\"deadline\"", "")                                              \
    X(WAIT_FULL, COUNTER, "hotpath_waits_total",                              \
      "result=\"full\"", "")                                                  \
    X(READ_HIT, COUNTER, "hotpath_read_requests_total",                       \
      "source=\"zone\"", "Read requests by what answered them.")              \
    X(READ_STALE, COUNTER, "hotpath_read_requests_total",                     \
      "source=\"zone_stale\"", "")                                            \
    X(READ_REVALIDATED, COUNTER, "hotpath_read_requests_total",               \
      "source=\"zone_revalidating\"", "")                                     \
    X(READ_REDIS, COUNTER, "hotpath_read_requests_total",                     \
      "source=\"redis\"", "")                                                 \
    X(READ_POSTGRES, COUNTER, "hotpath_read_requests_total",                  \
      "source=\"postgres\"", "")                                              \
    X(READ_COLLAPSED, COUNTER, "hotpath_read_requests_total",                 \
      "source=\"collapsed\"", "")                                             \
    X(READ_UNAVAILABLE, COUNTER, "hotpath_read_requests_total",               \
      "source=\"none\"", "")                                                  \
    X(READ_RENEWALS, COUNTER, "hotpath_read_renewals_total", "",              \
      "Documents fetched in the background, stale or ahead of that.")         \
    X(READ_JOINED_WORKER, COUNTER, "hotpath_read_waits_total",                \
      "for=\"worker\"", "Fetches that waited for another's of the same key.") \
    X(READ_JOINED_FLEET, COUNTER, "hotpath_read_waits_total",                 \
      "for=\"instance\"", "")                                                 \
    X(OUTPUT_HIT, COUNTER, "hotpath_output_requests_total",                   \
      "result=\"hit\"",                                                       \
      "Requests for an upstream behind a cache by what became of them.")      \
    X(OUTPUT_REVALIDATED, COUNTER, "hotpath_output_requests_total",           \
      "result=\"stale_revalidating\"", "")                                    \
    X(OUTPUT_STALE, COUNTER, "hotpath_output_requests_total",                 \
      "result=\"stale\"", "")                                                 \
    X(OUTPUT_COLLAPSED, COUNTER, "hotpath_output_requests_total",             \
      "result=\"collapsed\"", "")                                             \
    X(OUTPUT_MISS, COUNTER, "hotpath_output_requests_total",                  \
      "result=\"miss\"", "")                                                  \
    X(OUTPUT_PASSED, COUNTER, "hotpath_output_requests_total",                \
      "result=\"passed\"", "")                                                \
    X(OUTPUT_RENEWALS, COUNTER, "hotpath_output_renewals_total", "",          \
      "Answers renewed in the background, stale or ahead of that.")           \
    X(OUTPUT_STORED, COUNTER, "hotpath_output_answers_total",                 \
      "result=\"stored\"", "Answers of upstreams by what became of them.")    \
    X(OUTPUT_VALIDATED, COUNTER, "hotpath_output_answers_total",              \
      "result=\"validated\"", "")                                             \
    X(OUTPUT_REFUSED, COUNTER, "hotpath_output_answers_total",                \
      "result=\"refused\"", "")                                               \
    X(OUTPUT_WAITING, GAUGE, "hotpath_output_waiting", "",                    \
      "Requests that wait for the answer of another one.")                    \
    X(OUTPUT_INVALIDATED, COUNTER, "hotpath_output_invalidated_total", "",    \
      "Keys made invalid by a request that changes something.")               \
    X(GUARD_PASSED, COUNTER, "hotpath_guard_requests_total",                  \
      "result=\"passed\"",                                                    \
      "Requests with an idempotency key for an upstream, by result.")         \
    X(GUARD_REPLAYED, COUNTER, "hotpath_guard_requests_total",                \
      "result=\"replayed\"", "")                                              \
    X(GUARD_IN_FLIGHT, COUNTER, "hotpath_guard_requests_total",               \
      "result=\"in_flight\"", "")                                             \
    X(GUARD_REUSED, COUNTER, "hotpath_guard_requests_total",                  \
      "result=\"reused\"", "")                                                \
    X(GUARD_NO_ANSWER, COUNTER, "hotpath_guard_requests_total",               \
      "result=\"no_answer\"", "")                                             \
    X(GUARD_REFUSED, COUNTER, "hotpath_guard_requests_total",                 \
      "result=\"refused\"", "")                                               \
    X(GUARD_UNAVAILABLE, COUNTER, "hotpath_guard_requests_total",             \
      "result=\"unavailable\"", "")                                           \
    X(GUARD_ANSWER_KEPT, COUNTER, "hotpath_guard_answers_total",              \
      "result=\"kept\"",                                                      \
      "What became of the requests that were passed on.")                     \
    X(GUARD_ANSWER_NOT_KEPT, COUNTER, "hotpath_guard_answers_total",          \
      "result=\"not_kept\"", "")                                              \
    X(GUARD_ANSWER_LOST, COUNTER, "hotpath_guard_answers_total",              \
      "result=\"lost\"", "")                                                  \
    X(GUARD_ANSWER_UNSENT, COUNTER, "hotpath_guard_answers_total",            \
      "result=\"unsent\"", "")                                                \
    X(GUARD_ANSWER_RETRY, COUNTER, "hotpath_guard_answers_total",             \
      "result=\"retry\"", "")                                                 \
    X(GUARD_REDIS_ERRORS, COUNTER, "hotpath_guard_redis_errors_total", "",    \
      "Times Redis could not be asked or told of an idempotency key.")        \
    X(GUARD_DIVERGED, COUNTER, "hotpath_guard_diverged_total", "",            \
      "Answers whose key had been passed on by another instance as well.")    \
    X(PUBLISH_MESSAGES, COUNTER, "hotpath_publish_messages_total", "",        \
      "JetStream messages published.")                                        \
    X(PUBLISH_EVENTS, COUNTER, "hotpath_publish_events_total", "",            \
      "Events in those messages.")                                            \
    X(PUBLISH_ERRORS, COUNTER, "hotpath_publish_errors_total", "",            \
      "Publishes that the broker refused or did not acknowledge in time.")    \
    X(PUBLISH_REPEATS, COUNTER, "hotpath_publish_repeats_total", "",          \
      "Messages sent again because their connection was lost.")               \
    X(TIER_PROCESS, GAUGE, "hotpath_durability", "tier=\"process\"",          \
      "1 for what an accepted event survives, by the configuration.")         \
    X(TIER_REPLICATED, GAUGE, "hotpath_durability",                           \
      "tier=\"replicated\"", "")                                              \
    X(TIER_SYNC, GAUGE, "hotpath_durability", "tier=\"sync\"", "")            \
    X(NATS_CONNECTS, COUNTER, "hotpath_nats_connects_total", "",              \
      "Connections made to a NATS server.")                                   \
    X(NATS_CONNECTED, GAUGE, "hotpath_nats_connections", "",                  \
      "Connections to NATS that are ready.")                                  \
    X(PUSH_DOCUMENTS, COUNTER, "hotpath_push_documents_total",                \
      "result=\"stored\"", "Pushed documents by what became of them.")        \
    X(PUSH_OLDER, COUNTER, "hotpath_push_documents_total",                    \
      "result=\"older\"", "")                                                 \
    X(PUSH_DROPPED, COUNTER, "hotpath_push_documents_total",                  \
      "result=\"dropped\"", "")                                               \
    X(PUSH_GAPS, COUNTER, "hotpath_push_gaps_total", "",                      \
      "Times the push channel lost messages and the zones were distrusted.")  \
    X(REDIS_ERRORS, COUNTER, "hotpath_redis_errors_total", "",                \
      "Redis commands that failed or passed their deadline.")                 \
    X(REDIS_COMMANDS, COUNTER, "hotpath_redis_commands_total", "",            \
      "Commands sent to Redis.")                                              \
    X(REDIS_TIMEOUTS, COUNTER, "hotpath_redis_timeouts_total", "",            \
      "Redis commands that passed their deadline.")                           \
    X(REDIS_SKIPPED_DOWN, COUNTER, "hotpath_redis_skipped_total",             \
      "reason=\"down\"", "Redis commands not sent, by what was in the way.")  \
    X(REDIS_SKIPPED_BREAKER, COUNTER, "hotpath_redis_skipped_total",          \
      "reason=\"breaker\"", "")                                               \
    X(REDIS_SKIPPED_FULL, COUNTER, "hotpath_redis_skipped_total",             \
      "reason=\"full\"", "")                                                  \
    X(REDIS_CONNECTS, COUNTER, "hotpath_redis_connects_total", "",            \
      "Connections made to Redis.")                                           \
    X(REDIS_CONNECTED, GAUGE, "hotpath_redis_connections", "",                \
      "Connections to Redis that are ready.")                                 \
    X(REDIS_WAITING, GAUGE, "hotpath_redis_waiting", "",                      \
      "Commands that Redis has not answered yet.")                            \
    X(REDIS_OPEN, GAUGE, "hotpath_redis_breakers_open", "calls=\"all\"",      \
      "Workers whose circuit breaker keeps calls from Redis.")                \
    X(REDIS_OPEN_SCRIPTS, GAUGE, "hotpath_redis_breakers_open",               \
      "calls=\"scripts\"", "")                                                \
    X(POSTGRES_ERRORS, COUNTER, "hotpath_postgres_errors_total", "",          \
      "Postgres queries that failed or passed their deadline.")               \
    X(POSTGRES_TIMEOUTS, COUNTER, "hotpath_postgres_timeouts_total", "",      \
      "Postgres queries that passed their deadline.")                         \
    X(POSTGRES_REFUSED, COUNTER, "hotpath_postgres_refused_total", "",        \
      "Postgres queries refused: queue full, breaker open, no connection.")   \
    X(POSTGRES_CANCELS, COUNTER, "hotpath_postgres_cancels_total", "",        \
      "Requests to a Postgres server to stop working on a query.")            \
    X(POSTGRES_RETRIES, COUNTER, "hotpath_postgres_retries_total", "",        \
      "Postgres queries that were sent once more.")                           \
    X(POSTGRES_CONNECTIONS, GAUGE, "hotpath_postgres_connections", "",        \
      "Connections to Postgres that are open or being opened.")               \
    X(POSTGRES_BUSY, GAUGE, "hotpath_postgres_busy", "",                      \
      "Connections to Postgres with a query under way.")                      \
    X(POSTGRES_WAITING, GAUGE, "hotpath_postgres_waiting", "",                \
      "Postgres queries that wait for a connection.")                         \
    X(POSTGRES_BREAKER, GAUGE, "hotpath_postgres_breaker_open", "",           \
      "Workers whose circuit breaker lets no Postgres query pass.")           \
    X(LIMIT_REJECTED, COUNTER, "hotpath_limit_rejected_total", "",            \
      "Requests refused by a rate limit.")                                    \
    X(LIMIT_FORCED, COUNTER, "hotpath_limit_forced_evictions_total", "",      \
      "Keys forgotten early because a limit zone was full.")                  \
    X(INFLIGHT_REJECTED, COUNTER, "hotpath_inflight_rejected_total", "",      \
      "Requests refused by the bound on requests in flight.")                 \
    X(IDEMPOTENCY_FORCED, COUNTER,                                            \
      "hotpath_idempotency_forced_evictions_total", "",                       \
      "Operations forgotten early because the table was full.")               \
    X(PUSH_LISTENING, GAUGE, "hotpath_push_listening", "",                    \
      "1 while the instance hears what the projector pushes.")                \
    X(COMPRESSED, COUNTER, "hotpath_compressed_total", "",                    \
      "Documents that got coded bodies.")                                     \
    X(COMPRESS_DROPPED, COUNTER, "hotpath_compress_dropped_total", "",        \
      "Coded bodies not made or not kept, for lack of room.")                 \
    X(COMPRESS_SAVED, COUNTER, "hotpath_compress_saved_bytes_total", "",      \
      "Bytes by which the smallest coded bodies are smaller.")                \
    X(WARM_LOADED, COUNTER, "hotpath_warm_documents_total",                   \
      "result=\"loaded\"", "Documents that were hot before a start.")         \
    X(WARM_MISSED, COUNTER, "hotpath_warm_documents_total",                   \
      "result=\"missed\"", "")                                                \
    X(WARM_UNFINISHED, COUNTER, "hotpath_warm_unfinished_total", "",          \
      "Zones taken as warm before all that was hot had been tried.")          \
    X(WARMING, GAUGE, "hotpath_warming", "",                                  \
      "Zones that are being warmed.")                                         \
    X(PURGE_COMPLETE, COUNTER, "hotpath_purges_total",                        \
      "result=\"complete\"", "Purges that were asked of this instance.")      \
    X(PURGE_INCOMPLETE, COUNTER, "hotpath_purges_total",                      \
      "result=\"incomplete\"", "")                                            \
    X(PURGE_REFUSED, COUNTER, "hotpath_purges_total",                         \
      "result=\"refused\"", "")                                               \
    X(PURGED_ENTRIES, COUNTER, "hotpath_purged_entries_total", "",            \
      "Entries of cache zones that were purged.")                             \
    X(PURGED_REDIS, COUNTER, "hotpath_purged_redis_total", "",                \
      "Documents that purges removed from Redis.")                            \
    X(PURGE_ERRORS, COUNTER, "hotpath_purge_errors_total", "",                \
      "Parts of purges that may have left something.")                        \
    X(LIMIT_BYPASSED, COUNTER, "hotpath_limit_bypassed_total", "",            \
      "Checks left out because the limit zone's lock was busy.")


#define NGX_HTTP_HOTPATH_METRIC_ENUM(symbol, kind, name, labels, help)        \
    NGX_HTTP_HOTPATH_##symbol,

typedef enum {
    NGX_HTTP_HOTPATH_METRICS(NGX_HTTP_HOTPATH_METRIC_ENUM)
    NGX_HTTP_HOTPATH_METRIC_N
} ngx_http_hotpath_metric_e;


/* The row of this process; a private one before the workers start. */
extern uint64_t  *ngx_http_hotpath_metrics_row;

#define ngx_http_hotpath_count(symbol)                                        \
    (ngx_http_hotpath_metrics_row[NGX_HTTP_HOTPATH_##symbol]++)
#define ngx_http_hotpath_set(symbol, n)                                       \
    (ngx_http_hotpath_metrics_row[NGX_HTTP_HOTPATH_##symbol] = (uint64_t) (n))
#define ngx_http_hotpath_add(symbol, n)                                       \
    (ngx_http_hotpath_metrics_row[NGX_HTTP_HOTPATH_##symbol] += (uint64_t) (n))


/* Adds the shared zone; once per configuration, from postconfiguration. */
ngx_int_t ngx_http_hotpath_metrics_init(ngx_conf_t *cf);

/* In every worker, at init_process: finds its row, zeroes its gauges. */
void ngx_http_hotpath_metrics_start(ngx_cycle_t *cycle);

/* Sum over all rows. */
uint64_t ngx_http_hotpath_metric_sum(ngx_uint_t metric);

/* All of them as Prometheus text 0.0.4 (or OpenMetrics 1.0 without its last
 * "# EOF" line, but with room for it), in a new buffer from pool with room for
 * so many bytes more; NULL where there is no memory. */
ngx_buf_t *ngx_http_hotpath_metrics_text(ngx_pool_t *pool,
    ngx_uint_t openmetrics, size_t room);

/* The lines in front of the samples of one name, for metrics that stand
 * elsewhere. Up to METRICS_HEAD bytes and the texts, the name twice. */
#define NGX_HTTP_HOTPATH_METRICS_HEAD  40
u_char *ngx_http_hotpath_metrics_head(u_char *p, u_char *last, ngx_str_t *name,
    ngx_uint_t counter, ngx_str_t *help, ngx_uint_t openmetrics);


#endif /* _NGX_HTTP_HOTPATH_METRICS_H_INCLUDED_ */
