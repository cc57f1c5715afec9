/*
 * ngx_http_hotpath_module.c: the command table, the configuration and the
 * life of the module; every decision is in a room of its own.
 *
 * Directives are read and merged here and checked against each other, so that
 * `nginx -t` says what does not fit. Phases: preaccess for the limits,
 * precontent for parameters, content for everything else. init_process starts
 * the backends of each worker in the order in which they depend on one another,
 * exit_process stops them in the reverse. Owns the configuration, in nginx's
 * configuration pool. Directive reference: ngx_module/README.md, which
 * `make lint` compares with the table below. Directives with a language of
 * their own are parsed in a room's *_conf.c. Long because the table, the
 * defaults and the merge belong before one pair of eyes.
 */


#include "ngx_http_hotpath_module.h"
#include "ngx_http_hotpath_collapse.h"
#include "ngx_http_hotpath_fleet.h"
#include "ngx_http_hotpath_fanout.h"
#include "ngx_http_hotpath_purge_http.h"
#include "ngx_http_hotpath_task.h"
#include "ngx_http_hotpath_warm.h"
#include "ngx_http_hotpath_fetch.h"
#include "ngx_http_hotpath_flight.h"
#include "ngx_http_hotpath_follow.h"
#include "ngx_http_hotpath_wait.h"
#include "ngx_http_hotpath_gather.h"
#include "ngx_http_hotpath_list.h"
#include "ngx_http_hotpath_publish_conf.h"
#include "core/hp_cloudevent.h"
#include "core/hp_id.h"


#define NGX_HTTP_HOTPATH_BATCH_SIZE_MAX  (64 * 1024 * 1024)


static ngx_int_t ngx_http_hotpath_preaccess_handler(ngx_http_request_t *r);
static ngx_array_t *ngx_http_hotpath_trusted(ngx_http_request_t *r);

static char *ngx_http_hotpath_write(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_hotpath_partition_key(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);
static char *ngx_http_hotpath_status(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_hotpath_read(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_hotpath_cache(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_hotpath_fields(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_hotpath_health(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_hotpath_metrics(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_hotpath_purge(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_hotpath_handler(ngx_conf_t *cf,
    ngx_http_hotpath_loc_conf_t *lcf, ngx_http_handler_pt handler);

static ngx_int_t ngx_http_hotpath_preconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_http_hotpath_postconfiguration(ngx_conf_t *cf);
static void *ngx_http_hotpath_create_main_conf(ngx_conf_t *cf);
static char *ngx_http_hotpath_init_main_conf(ngx_conf_t *cf, void *conf);
static void *ngx_http_hotpath_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_hotpath_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child);
static void ngx_http_hotpath_merge_rules(
    ngx_http_hotpath_cache_rules_t *prev,
    ngx_http_hotpath_cache_rules_t *conf);
static char *ngx_http_hotpath_merge_read(ngx_conf_t *cf,
    ngx_http_hotpath_loc_conf_t *conf);
static char *ngx_http_hotpath_merge_documents(ngx_conf_t *cf,
    ngx_http_hotpath_loc_conf_t *conf);
static ngx_int_t ngx_http_hotpath_cache_control(ngx_conf_t *cf,
    ngx_http_hotpath_cache_rules_t *rules);
static ngx_int_t ngx_http_hotpath_init_module(ngx_cycle_t *cycle);
static ngx_int_t ngx_http_hotpath_init_process(ngx_cycle_t *cycle);
static void ngx_http_hotpath_exit_process(ngx_cycle_t *cycle);


static ngx_conf_num_bounds_t  ngx_http_hotpath_depth_bounds = {
    ngx_conf_check_num_bounds, 1, 1000
};


static ngx_conf_num_bounds_t  ngx_http_hotpath_wait_bounds = {
    ngx_conf_check_num_bounds, 0, 1000000
};


static ngx_conf_num_bounds_t  ngx_http_hotpath_batch_bounds = {
    ngx_conf_check_num_bounds, 0, 10000
};


static ngx_command_t  ngx_http_hotpath_commands[] = {

    { ngx_string("hotpath_nats"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_1MORE,
      ngx_http_hotpath_nats_set,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_hotpath_main_conf_t, nats),
      NULL },

    { ngx_string("hotpath_nats_user"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_hotpath_main_conf_t, nats.user),
      NULL },

    { ngx_string("hotpath_nats_password"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_hotpath_main_conf_t, nats.password),
      NULL },

    { ngx_string("hotpath_nats_token"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_hotpath_main_conf_t, nats.token),
      NULL },

    { ngx_string("hotpath_nats_nkey"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_hotpath_main_conf_t, nats.nkey),
      NULL },

    { ngx_string("hotpath_nats_credentials"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_hotpath_main_conf_t, nats.credentials),
      NULL },

    { ngx_string("hotpath_nats_ssl"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_enum_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_hotpath_main_conf_t, nats.tls),
      ngx_http_hotpath_nats_tls_modes },

    { ngx_string("hotpath_nats_ssl_trusted_certificate"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_hotpath_main_conf_t, nats.tls_trusted),
      NULL },

    { ngx_string("hotpath_nats_ssl_certificate"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_hotpath_main_conf_t, nats.tls_certificate),
      NULL },

    { ngx_string("hotpath_nats_ssl_certificate_key"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_hotpath_main_conf_t, nats.tls_certificate_key),
      NULL },

    { ngx_string("hotpath_nats_ssl_verify"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_hotpath_main_conf_t, nats.tls_verify),
      NULL },

    { ngx_string("hotpath_nats_ssl_name"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_hotpath_main_conf_t, nats.tls_name),
      NULL },

    { ngx_string("hotpath_nats_discovery"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_hotpath_main_conf_t, nats.discovery),
      NULL },

    { ngx_string("hotpath_nats_connect_timeout"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_hotpath_main_conf_t, nats.connect_timeout),
      NULL },

    { ngx_string("hotpath_nats_ping_interval"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_hotpath_main_conf_t, nats.ping_interval),
      NULL },

    { ngx_string("hotpath_nats_buffer"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_size_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_hotpath_main_conf_t, nats.buffer),
      NULL },

    { ngx_string("hotpath_stream"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_1MORE,
      ngx_http_hotpath_publish_set,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("hotpath_redis"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_1MORE,
      ngx_http_hotpath_redis_set,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_hotpath_main_conf_t, redis),
      NULL },

    { ngx_string("hotpath_postgres"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_1MORE,
      ngx_http_hotpath_postgres_set,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_hotpath_main_conf_t, postgres),
      NULL },

    { ngx_string("hotpath_cache_zone"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE12,
      ngx_http_hotpath_cache_zone,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("hotpath_warm"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE123,
      ngx_http_hotpath_warm_set,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("hotpath_idempotency_zone"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE12,
      ngx_http_hotpath_idempotency_zone,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_hotpath_main_conf_t, operations),
      NULL },

    { ngx_string("hotpath_idempotency"),
      NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_http_hotpath_guard_set,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_hotpath_loc_conf_t, guard),
      NULL },

    { ngx_string("hotpath_idempotency_wait"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_hotpath_loc_conf_t, key_wait),
      NULL },

    { ngx_string("hotpath_limit_zone"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE3|NGX_CONF_TAKE4,
      ngx_http_hotpath_limit_zone,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("hotpath_trusted_proxy"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_http_hotpath_trusted_proxy,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_hotpath_loc_conf_t, trusted),
      NULL },

    { ngx_string("hotpath_tenant"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_set_complex_value_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_hotpath_loc_conf_t, tenant),
      NULL },

    { ngx_string("hotpath_param"),
      NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF|NGX_HTTP_LMT_CONF|NGX_CONF_TAKE3
                       |NGX_CONF_TAKE4|NGX_CONF_TAKE5,
      ngx_http_hotpath_param_set,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_hotpath_loc_conf_t, param),
      NULL },

    { ngx_string("hotpath_param_strict"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF
                        |NGX_HTTP_LMT_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_hotpath_loc_conf_t, param.strict),
      NULL },

    { ngx_string("hotpath_limit"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE12,
      ngx_http_hotpath_limit_set,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_hotpath_loc_conf_t, limit),
      NULL },

    { ngx_string("hotpath_inflight"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_hotpath_inflight_set,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_hotpath_loc_conf_t, limit.inflight),
      NULL },

    { ngx_string("hotpath_write"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1234,
      ngx_http_hotpath_write,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("hotpath_partition_key"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_hotpath_partition_key,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("hotpath_priority"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_hotpath_priority_set,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("hotpath_body_max"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_size_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_hotpath_loc_conf_t, body_max),
      NULL },

    { ngx_string("hotpath_json_depth"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_hotpath_loc_conf_t, json_depth),
      &ngx_http_hotpath_depth_bounds },

    { ngx_string("hotpath_body_memory"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_size_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_hotpath_main_conf_t, body_memory),
      NULL },

    { ngx_string("hotpath_wait_max"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_hotpath_main_conf_t, wait_max),
      &ngx_http_hotpath_wait_bounds },

    { ngx_string("hotpath_cloudevents"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_hotpath_loc_conf_t, cloudevents),
      NULL },

    { ngx_string("hotpath_batch_max"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_hotpath_loc_conf_t, batch_max),
      &ngx_http_hotpath_batch_bounds },

    { ngx_string("hotpath_batch_size"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_size_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_hotpath_loc_conf_t, batch_size),
      NULL },

    { ngx_string("hotpath_schema"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE2,
      ngx_http_hotpath_schema_set,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_hotpath_loc_conf_t, schemas),
      NULL },

    { ngx_string("hotpath_schema_required"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_hotpath_loc_conf_t, schemas.required),
      NULL },

    { ngx_string("hotpath_status_wait"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_hotpath_loc_conf_t, status_wait),
      NULL },

    { ngx_string("hotpath_respond_sync"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_hotpath_loc_conf_t, respond_sync),
      NULL },

    { ngx_string("hotpath_status"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_hotpath_status,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("hotpath_read"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1234,
      ngx_http_hotpath_read,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("hotpath_read_statement"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_hotpath_loc_conf_t, statement),
      NULL },

    { ngx_string("hotpath_cursor_secret"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE12,
      ngx_http_hotpath_cursor_secret,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_hotpath_main_conf_t, cursors),
      NULL },

    { ngx_string("hotpath_list"),
      NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_http_hotpath_list_set,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("hotpath_list_statement"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_hotpath_loc_conf_t, list_statement),
      NULL },

    { ngx_string("hotpath_cache"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_http_hotpath_cache,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("hotpath_fields"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_hotpath_fields,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_hotpath_loc_conf_t, rules.fields),
      NULL },

    { ngx_string("hotpath_cache_key"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE123,
      ngx_http_hotpath_output_key,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_hotpath_loc_conf_t, output),
      NULL },

    { ngx_string("hotpath_cache_vary"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_http_hotpath_output_vary,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_hotpath_loc_conf_t, output),
      NULL },

    { ngx_string("hotpath_cache_tags"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_set_complex_value_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_hotpath_loc_conf_t, output.tags),
      NULL },

    { ngx_string("hotpath_cache_bypass"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_http_set_predicate_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_hotpath_loc_conf_t, output.bypass),
      NULL },

    { ngx_string("hotpath_cache_lock_timeout"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_hotpath_loc_conf_t, output.lock_timeout),
      NULL },

    { ngx_string("hotpath_health"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_hotpath_health,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("hotpath_metrics"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_hotpath_metrics,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("hotpath_purge"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS|NGX_CONF_TAKE1,
      ngx_http_hotpath_purge,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("hotpath_purge_token_file"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_hotpath_purge_token_file,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_hotpath_module_ctx = {
    ngx_http_hotpath_preconfiguration,   /* preconfiguration */
    ngx_http_hotpath_postconfiguration,  /* postconfiguration */

    ngx_http_hotpath_create_main_conf,   /* create main configuration */
    ngx_http_hotpath_init_main_conf,     /* init main configuration */

    NULL,                                /* create server configuration */
    NULL,                                /* merge server configuration */

    ngx_http_hotpath_create_loc_conf,    /* create location configuration */
    ngx_http_hotpath_merge_loc_conf      /* merge location configuration */
};


ngx_module_t  ngx_http_hotpath_module = {
    NGX_MODULE_V1,
    &ngx_http_hotpath_module_ctx,        /* module context */
    ngx_http_hotpath_commands,           /* module directives */
    NGX_HTTP_MODULE,                     /* module type */
    NULL,                                /* init master */
    ngx_http_hotpath_init_module,        /* init module */
    ngx_http_hotpath_init_process,       /* init process */
    NULL,                                /* init thread */
    NULL,                                /* exit thread */
    ngx_http_hotpath_exit_process,       /* exit process */
    NULL,                                /* exit master */
    NGX_MODULE_V1_PADDING
};


static ngx_int_t
ngx_http_hotpath_preaccess_handler(ngx_http_request_t *r)
{
    ngx_int_t                     rc;
    ngx_uint_t                    retry_s;
    ngx_http_hotpath_problem_e    problem;
    ngx_http_hotpath_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_hotpath_module);

    rc = ngx_http_hotpath_limit_check(r, &lcf->limit, &retry_s);

    switch (rc) {

    case NGX_OK:
    case NGX_DECLINED:
        return NGX_DECLINED;

    case NGX_BUSY:
        problem = NGX_HTTP_HOTPATH_PROBLEM_RATE_LIMITED;
        break;

    case NGX_AGAIN:
        problem = NGX_HTTP_HOTPATH_PROBLEM_TOO_MANY_IN_FLIGHT;
        break;

    default:
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_discard_request_body(r);

    if (rc == NGX_OK) {
        rc = ngx_http_hotpath_problem_at(r, problem,
                                         NGX_HTTP_HOTPATH_NO_OFFSET, retry_s);
    }

    ngx_http_finalize_request(r, rc);

    return NGX_DONE;
}


static ngx_array_t *
ngx_http_hotpath_trusted(ngx_http_request_t *r)
{
    ngx_http_hotpath_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_hotpath_module);

    return lcf->trusted;
}


ngx_int_t
ngx_http_hotpath_tenant(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf, ngx_str_t *tenant)
{
    hp_str_t  text;

    if (lcf->tenant == NULL) {
        ngx_str_set(tenant, "default");
        return NGX_OK;
    }

    if (ngx_http_complex_value(r, lcf->tenant, tenant) != NGX_OK) {
        return NGX_ERROR;
    }

    text.data = tenant->data;
    text.len = tenant->len;

    return hp_tenant_valid(text) ? NGX_OK : NGX_DECLINED;
}


void
ngx_http_hotpath_uri_rest(ngx_http_request_t *r, ngx_str_t *rest)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (clcf->name.len <= r->uri.len
        && ngx_strncmp(r->uri.data, clcf->name.data, clcf->name.len) == 0)
    {
        rest->data = r->uri.data + clcf->name.len;
        rest->len = r->uri.len - clcf->name.len;

    } else {
        ngx_str_null(rest);
    }
}


static char *
ngx_http_hotpath_write(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_hotpath_loc_conf_t *lcf = conf;

    hp_str_t                       route;
    ngx_str_t                     *value;
    ngx_uint_t                     i;
    ngx_http_hotpath_main_conf_t  *mcf;

    value = cf->args->elts;

    route.data = value[1].data;
    route.len = value[1].len;

    if (!hp_tenant_valid(route)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid route \"%V\": 1 to 64 of A-Z a-z 0-9 . _ "
                           "- are allowed", &value[1]);
        return NGX_CONF_ERROR;
    }

    lcf->route = value[1];

    for (i = 2; i < cf->args->nelts; i++) {

        if (ngx_strncmp(value[i].data, "status=/", 8) == 0) {
            lcf->status_uri.data = value[i].data + 7;
            lcf->status_uri.len = value[i].len - 7;
            continue;
        }

        if (ngx_strcmp(value[i].data, "filters=on") == 0) {
            lcf->direct = 0;
            continue;
        }

        if (ngx_strcmp(value[i].data, "filters=off") == 0) {
            lcf->direct = 1;
            continue;
        }

        if (ngx_strcmp(value[i].data, "key=required") == 0) {
            lcf->key_optional = 0;
            continue;
        }

        if (ngx_strcmp(value[i].data, "key=optional") == 0) {
            lcf->key_optional = 1;
            continue;
        }

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\"", &value[i]);
        return NGX_CONF_ERROR;
    }

    mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_hotpath_module);
    mcf->writes++;

    return ngx_http_hotpath_handler(cf, lcf, ngx_http_hotpath_write_handler);
}


static char *
ngx_http_hotpath_partition_key(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_hotpath_loc_conf_t *lcf = conf;

    ngx_str_t  *value;

    if (lcf->partition_key != NGX_CONF_UNSET_PTR
        || lcf->partition_member.data)
    {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strncmp(value[1].data, "payload=", 8) == 0) {

        if (value[1].len == 8) {
            return "needs the name of a member";
        }

        lcf->partition_member.data = value[1].data + 8;
        lcf->partition_member.len = value[1].len - 8;
        lcf->partition_key = NULL;

        return NGX_CONF_OK;
    }

    return ngx_http_hotpath_value(cf, &value[1], &lcf->partition_key)
           == NGX_OK ? NGX_CONF_OK : NGX_CONF_ERROR;
}


static char *
ngx_http_hotpath_status(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    return ngx_http_hotpath_handler(cf, conf,
                                    ngx_http_hotpath_status_handler);
}


static char *
ngx_http_hotpath_read(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_hotpath_loc_conf_t *lcf = conf;

    char                      *rv;
    ngx_str_t                 *value;
    ngx_uint_t                 i;
    ngx_http_hotpath_model_t  *model;

    model = ngx_pcalloc(cf->pool, sizeof(ngx_http_hotpath_model_t));
    if (model == NULL) {
        return NGX_CONF_ERROR;
    }

    rv = ngx_http_hotpath_model_set(cf, lcf, model);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    value = cf->args->elts;

    for (i = 2; i < cf->args->nelts; i++) {

        if (ngx_strncmp(value[i].data, "tag=", 4) == 0 && value[i].len > 4) {
            model->tag.data = value[i].data + 4;
            model->tag.len = value[i].len - 4;
            continue;
        }

        rv = ngx_http_hotpath_model_option(cf, lcf, &value[i]);
        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    return NGX_CONF_OK;
}


char *
ngx_http_hotpath_model_set(ngx_conf_t *cf, ngx_http_hotpath_loc_conf_t *lcf,
    ngx_http_hotpath_model_t *model)
{
    hp_str_t    name;
    ngx_str_t  *value;

    value = cf->args->elts;

    name.data = value[1].data;
    name.len = value[1].len;

    if (!hp_model_valid(name)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid read model \"%V\": a lower-case letter "
                           "and then up to 62 of a-z 0-9 _ are allowed",
                           &value[1]);
        return NGX_CONF_ERROR;
    }

    model->name = value[1];
    lcf->model = model;

    return ngx_http_hotpath_handler(cf, lcf, ngx_http_hotpath_read_handler);
}


char *
ngx_http_hotpath_model_option(ngx_conf_t *cf,
    ngx_http_hotpath_loc_conf_t *lcf, ngx_str_t *value)
{
    ngx_str_t  s;

    if (ngx_strcmp(value->data, "shared") == 0) {
        lcf->shared = 1;
        return NGX_CONF_OK;
    }

    if (ngx_strncmp(value->data, "key=", 4) == 0 && value->len > 4) {

        s.data = value->data + 4;
        s.len = value->len - 4;

        return ngx_http_hotpath_value(cf, &s, &lcf->key) == NGX_OK
               ? NGX_CONF_OK : NGX_CONF_ERROR;
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid parameter \"%V\"", value);
    return NGX_CONF_ERROR;
}


static char *
ngx_http_hotpath_cache(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_hotpath_loc_conf_t *lcf = conf;

    u_char                          *p;
    ngx_str_t                       *value, s;
    ngx_int_t                        n;
    ngx_uint_t                       i, j;
    ngx_http_hotpath_cache_rules_t  *rules;

    static struct {
        ngx_str_t   name;
        size_t      offset;
    } times[] = {
        { ngx_string("ttl"),
          offsetof(ngx_http_hotpath_cache_rules_t, ttl) },
        { ngx_string("negative_ttl"),
          offsetof(ngx_http_hotpath_cache_rules_t, negative_ttl) },
        { ngx_string("revalidate"),
          offsetof(ngx_http_hotpath_cache_rules_t, revalidate) },
        { ngx_string("stale"),
          offsetof(ngx_http_hotpath_cache_rules_t, stale) },
        { ngx_string("redis_ttl"),
          offsetof(ngx_http_hotpath_cache_rules_t, redis_ttl) },
        { ngx_null_string, 0 }
    };

    if (lcf->cache_name.data) {
        return "is duplicate";
    }

    value = cf->args->elts;
    lcf->cache_name = value[1];
    rules = &lcf->rules;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        lcf->cache_name.len = 0;
        return cf->args->nelts == 2 ? NGX_CONF_OK
                                    : "has parameters of a zone that is off";
    }

    for (i = 2; i < cf->args->nelts; i++) {

        if (ngx_strcmp(value[i].data, "status_key") == 0) {
            rules->status_key = 1;
            continue;
        }

        p = (u_char *) ngx_strchr(value[i].data, '=');
        if (p == NULL) {
            goto invalid;
        }

        s.data = p + 1;
        s.len = value[i].data + value[i].len - s.data;

        for (j = 0; times[j].name.len; j++) {
            if ((size_t) (p - value[i].data) == times[j].name.len
                && ngx_strncmp(value[i].data, times[j].name.data,
                               times[j].name.len) == 0)
            {
                break;
            }
        }

        if (times[j].name.len) {

            n = ngx_parse_time(&s, 0);
            if (n == NGX_ERROR || n > 365 * 86400 * (ngx_int_t) 1000) {
                goto invalid;
            }

            *(ngx_msec_t *) ((char *) rules + times[j].offset) = n;

        } else if (ngx_strncmp(value[i].data, "jitter=", 7) == 0
                   || ngx_strncmp(value[i].data, "refresh=", 8) == 0)
        {
            if (s.len < 2 || s.data[--s.len] != '%') {
                goto invalid;
            }

            n = ngx_atoi(s.data, s.len);
            if (n == NGX_ERROR || n > 50) {
                goto invalid;
            }

            if (value[i].data[0] == 'j') {
                rules->jitter = n;
            } else {
                rules->refresh = n;
            }

        } else if (ngx_strncmp(value[i].data, "compress=", 9) == 0) {

            if (ngx_strcmp(s.data, "off") == 0) {
                rules->compress_min = 0;
                continue;
            }

            n = ngx_parse_size(&s);
            if (n == NGX_ERROR || n < 1) {
                goto invalid;
            }

            rules->compress_min = n;

        } else if (ngx_strncmp(value[i].data, "request_control=", 16) == 0) {

            if (ngx_http_hotpath_value(cf, &s, &rules->request_control)
                != NGX_OK)
            {
                return NGX_CONF_ERROR;
            }

        } else {
            goto invalid;
        }
    }

    if (rules->redis_ttl == 0) {
        return "needs a \"redis_ttl\" that is not 0";
    }

    return NGX_CONF_OK;

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid parameter \"%V\"", &value[i]);
    return NGX_CONF_ERROR;
}


/* The argument that names members, empty where none does. */

static char *
ngx_http_hotpath_fields(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_hotpath_loc_conf_t *lcf = conf;

    u_char      ch;
    ngx_str_t  *value, *fields;
    ngx_uint_t  i;

    fields = &lcf->rules.fields;

    if (fields->data) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        ngx_str_set(fields, "");
        return NGX_CONF_OK;
    }

    if (ngx_strcmp(value[1].data, "on") == 0) {
        ngx_str_set(fields, "fields");
        return NGX_CONF_OK;
    }

    for (i = 0; i < value[1].len; i++) {
        ch = value[1].data[i];

        if (!((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z')
              || (ch >= '0' && ch <= '9') || ch == '_' || ch == '-'
              || ch == '.'))
        {
            break;
        }
    }

    if (i < value[1].len || i == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid argument name \"%V\": it has letters, "
                           "digits and \"_\", \"-\", \".\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    *fields = value[1];

    return NGX_CONF_OK;
}


ngx_int_t
ngx_http_hotpath_value(ngx_conf_t *cf, ngx_str_t *text,
    ngx_http_complex_value_t **value)
{
    ngx_http_compile_complex_value_t  ccv;

    *value = ngx_palloc(cf->pool, sizeof(ngx_http_complex_value_t));
    if (*value == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = text;
    ccv.complex_value = *value;

    return ngx_http_compile_complex_value(&ccv);
}


static char *
ngx_http_hotpath_health(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_str_t  *value;

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "live") == 0) {
        return ngx_http_hotpath_handler(cf, conf,
                                        ngx_http_hotpath_live_handler);
    }

    if (ngx_strcmp(value[1].data, "ready") == 0) {
        return ngx_http_hotpath_handler(cf, conf,
                                        ngx_http_hotpath_ready_handler);
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid value \"%V\", it must be \"live\" or "
                       "\"ready\"", &value[1]);
    return NGX_CONF_ERROR;
}


static char *
ngx_http_hotpath_metrics(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    return ngx_http_hotpath_handler(cf, conf,
                                    ngx_http_hotpath_metrics_handler);
}


static char *
ngx_http_hotpath_purge(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_hotpath_loc_conf_t *lcf = conf;

    char                          *rc;
    ngx_http_hotpath_main_conf_t  *mcf;

    rc = ngx_http_hotpath_handler(cf, lcf, ngx_http_hotpath_purge_handler);

    if (rc != NGX_CONF_OK) {
        return rc;
    }

    mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_hotpath_module);
    mcf->purges++;

    return ngx_http_hotpath_purge_set(cf, lcf);
}


/* One content handler a location. */

static char *
ngx_http_hotpath_handler(ngx_conf_t *cf, ngx_http_hotpath_loc_conf_t *lcf,
    ngx_http_handler_pt handler)
{
    ngx_http_core_loc_conf_t  *clcf;

    if (lcf->handler) {
        return "conflicts with another directive that answers in this "
               "location";
    }

    lcf->handler = handler;
    lcf->file = cf->conf_file->file.name.data;
    lcf->line = cf->conf_file->line;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    clcf->handler = handler;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_hotpath_preconfiguration(ngx_conf_t *cf)
{
    return ngx_http_hotpath_forwarded_variables(cf, ngx_http_hotpath_trusted);
}


static ngx_int_t
ngx_http_hotpath_postconfiguration(ngx_conf_t *cf)
{
    ngx_str_t                      sql;
    ngx_http_handler_pt           *h;
    ngx_http_core_main_conf_t     *cmcf;
    ngx_http_hotpath_main_conf_t  *mcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);
    mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_hotpath_module);

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_PREACCESS_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_hotpath_preaccess_handler;

    if (mcf->postgres) {
        ngx_str_set(&sql, NGX_HTTP_HOTPATH_FOLLOW_SQL);

        mcf->status = ngx_http_hotpath_postgres_statement(cf, mcf->postgres,
                                                          &sql);
        if (mcf->status == NULL) {
            return NGX_ERROR;
        }
    }

    if (ngx_http_hotpath_output_init(cf) != NGX_OK
        || (mcf->guards && ngx_http_hotpath_guard_init(cf) != NGX_OK)
        || ngx_http_hotpath_metrics_init(cf) != NGX_OK
        || ngx_http_hotpath_fleet_init(cf) != NGX_OK
        || ngx_http_hotpath_warm_init(cf, mcf) != NGX_OK
        || ngx_http_hotpath_flight_init(cf) != NGX_OK
        || ngx_http_hotpath_wait_init(cf) != NGX_OK
        || ngx_http_hotpath_inflight_init(cf) != NGX_OK)
    {
        return NGX_ERROR;
    }

    /* Of one phase, the handler that comes last is asked first: nobody answers
     * out of a cache what a parameter refuses. */

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_PRECONTENT_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_hotpath_param_handler;

    return NGX_OK;
}


static void *
ngx_http_hotpath_create_main_conf(ngx_conf_t *cf)
{
    ngx_http_hotpath_main_conf_t  *mcf;

    mcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_hotpath_main_conf_t));
    if (mcf == NULL) {
        return NULL;
    }

    if (ngx_array_init(&mcf->models, cf->pool, 8,
                       sizeof(ngx_http_hotpath_model_t *))
        != NGX_OK)
    {
        return NULL;
    }

    ngx_http_hotpath_nats_conf_create(&mcf->nats);
    ngx_http_hotpath_publish_conf_create(&mcf->publish);
    mcf->body_memory = NGX_CONF_UNSET_SIZE;
    mcf->wait_max = NGX_CONF_UNSET;

    return mcf;
}


static char *
ngx_http_hotpath_init_main_conf(ngx_conf_t *cf, void *conf)
{
    ngx_http_hotpath_main_conf_t *mcf = conf;

    char  *rv;

    rv = ngx_http_hotpath_nats_conf_init(cf, &mcf->nats);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    rv = ngx_http_hotpath_publish_conf_init(cf, mcf);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    ngx_conf_init_size_value(mcf->body_memory, 128 * 1024 * 1024);
    ngx_conf_init_value(mcf->wait_max, 4096);

    if (mcf->nats.buffer < 2 * mcf->publish.group_bytes + 65536) {
        return "\"hotpath_nats_buffer\" must hold two messages of "
               "\"group_size\"";
    }

    return NGX_CONF_OK;
}


static void *
ngx_http_hotpath_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_hotpath_loc_conf_t  *lcf;

    lcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_hotpath_loc_conf_t));
    if (lcf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     lcf->handler = NULL;
     *     lcf->route = { 0, NULL };
     *     lcf->model = NULL;
     *     lcf->limit = { all zero };
     */

    lcf->tenant = NGX_CONF_UNSET_PTR;
    lcf->partition_key = NGX_CONF_UNSET_PTR;
    lcf->priority = NGX_CONF_UNSET_PTR;
    lcf->body_max = NGX_CONF_UNSET_SIZE;
    lcf->json_depth = NGX_CONF_UNSET;
    lcf->key_wait = NGX_CONF_UNSET_MSEC;
    lcf->cloudevents = NGX_CONF_UNSET;
    lcf->batch_max = NGX_CONF_UNSET;
    lcf->batch_size = NGX_CONF_UNSET_SIZE;
    lcf->respond_sync = NGX_CONF_UNSET_MSEC;
    lcf->status_wait = NGX_CONF_UNSET_MSEC;
    lcf->schemas.required = NGX_CONF_UNSET;
    lcf->rules.ttl = NGX_CONF_UNSET_MSEC;
    lcf->rules.negative_ttl = NGX_CONF_UNSET_MSEC;
    lcf->rules.revalidate = NGX_CONF_UNSET_MSEC;
    lcf->rules.stale = NGX_CONF_UNSET_MSEC;
    lcf->rules.redis_ttl = NGX_CONF_UNSET_MSEC;
    lcf->rules.jitter = NGX_CONF_UNSET_UINT;
    lcf->rules.refresh = NGX_CONF_UNSET_UINT;
    lcf->rules.compress_min = NGX_CONF_UNSET_SIZE;
    lcf->rules.request_control = NGX_CONF_UNSET_PTR;
    lcf->param.strict = NGX_CONF_UNSET;
    lcf->trusted = NGX_CONF_UNSET_PTR;
    lcf->purge_tokens = NGX_CONF_UNSET_PTR;

    ngx_http_hotpath_output_create(&lcf->output);

    return lcf;
}


static char *
ngx_http_hotpath_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_hotpath_loc_conf_t *prev = parent;
    ngx_http_hotpath_loc_conf_t *conf = child;

    ngx_http_core_loc_conf_t        *clcf;
    ngx_http_hotpath_main_conf_t    *mcf;
    ngx_http_hotpath_cache_rules_t  *rules;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_hotpath_module);

    ngx_conf_merge_ptr_value(conf->tenant, prev->tenant, NULL);
    ngx_conf_merge_ptr_value(conf->trusted, prev->trusted, NULL);
    ngx_conf_merge_ptr_value(conf->purge_tokens, prev->purge_tokens, NULL);
    ngx_conf_merge_size_value(conf->body_max, prev->body_max, 65536);
    ngx_conf_merge_value(conf->json_depth, prev->json_depth, 64);
    ngx_conf_merge_msec_value(conf->key_wait, prev->key_wait, 0);
    ngx_conf_merge_value(conf->cloudevents, prev->cloudevents, 1);
    ngx_conf_merge_value(conf->batch_max, prev->batch_max, 1000);
    ngx_conf_merge_size_value(conf->batch_size, prev->batch_size, 1048576);
    ngx_conf_merge_msec_value(conf->respond_sync, prev->respond_sync, 0);
    ngx_conf_merge_msec_value(conf->status_wait, prev->status_wait, 30000);

    ngx_http_hotpath_schema_merge(&prev->schemas, &conf->schemas);

    ngx_conf_merge_ptr_value(conf->priority, prev->priority, NULL);

    if (conf->partition_key == NGX_CONF_UNSET_PTR) {
        conf->partition_member = prev->partition_member;
        ngx_conf_merge_ptr_value(conf->partition_key, prev->partition_key,
                                 NULL);
    }

    if (conf->cache_name.data == NULL) {
        conf->cache_name = prev->cache_name;
        conf->rules.status_key = prev->rules.status_key;
    }

    ngx_http_hotpath_merge_rules(&prev->rules, &conf->rules);

    ngx_http_hotpath_param_merge(&prev->param, &conf->param);
    ngx_http_hotpath_limit_merge(&prev->limit, &conf->limit);

    if (ngx_http_hotpath_guard_merge(cf, &prev->guard, &conf->guard,
                                     conf->handler != NULL,
                                     mcf->redis != NULL)
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (conf->guard.mode > NGX_HTTP_HOTPATH_GUARD_OFF) {
        mcf->guards++;
    }

    if (clcf->noname && conf->handler == NULL && prev->handler) {
        /* "if" and "limit_except" inside a location answer as it does */
        conf->handler = prev->handler;
        conf->route = prev->route;
        conf->status_uri = prev->status_uri;
        conf->key_optional = prev->key_optional;
        conf->direct = prev->direct;
        conf->model = prev->model;
        conf->key = prev->key;
        conf->shared = prev->shared;
        conf->param.more = prev->param.more;
        conf->param.nmore = prev->param.nmore;
        conf->purge_timeout = prev->purge_timeout;
        clcf->handler = prev->handler;
        return NGX_CONF_OK;
    }

    rules = NULL;

    if (conf->handler == NULL && conf->cache_name.len) {

        rules = &conf->rules;
        rules->cache = ngx_http_hotpath_cache_find(cf, &conf->cache_name);

        if (rules->cache == NULL) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "unknown cache zone \"%V\" in \"hotpath_cache\"",
                          &conf->cache_name);
            return NGX_CONF_ERROR;
        }
    }

    if (ngx_http_hotpath_output_merge(cf, &prev->output, &conf->output, rules)
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (conf->handler == ngx_http_hotpath_write_handler) {

        if (conf->status_uri.data == NULL) {
            ngx_str_set(&conf->status_uri, "/events/status/");
        }

        if (mcf->nats.servers == NULL) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "\"hotpath_write\" needs \"hotpath_nats\" at the "
                          "http level in %s:%ui", conf->file, conf->line);
            return NGX_CONF_ERROR;
        }

        if (HP_EVENT_GROUP_HEADER + HP_EVENT_FIXED + conf->body_max
            + 4 * HP_KEY_MAX
            + (conf->cloudevents ? HP_CLOUDEVENT_JSON_MAX : 0)
            > mcf->publish.group_bytes)
        {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "\"hotpath_body_max\" of %uz does not fit in "
                          "\"group_size\" of %uz in %s:%ui", conf->body_max,
                          mcf->publish.group_bytes, conf->file, conf->line);
            return NGX_CONF_ERROR;
        }

        if (conf->batch_max
            && (conf->batch_size == 0
                || conf->batch_size > NGX_HTTP_HOTPATH_BATCH_SIZE_MAX))
        {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "\"hotpath_batch_size\" must be 1 to 64m in %s:%ui",
                          conf->file, conf->line);
            return NGX_CONF_ERROR;
        }

        /* as sent, as decoded, and the smaller block it grows out of */
        if (mcf->body_memory
            < 3 * ngx_max(conf->body_max,
                          (conf->batch_max ? conf->batch_size : 0)))
        {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "\"hotpath_body_memory\" of %uz is less than three "
                          "of the longest bodies of %s:%ui",
                          mcf->body_memory, conf->file, conf->line);
            return NGX_CONF_ERROR;
        }

        /* the body room refuses by itself, with a problem document */
        clcf->client_max_body_size = 0;
    }

    if (conf->handler == ngx_http_hotpath_status_handler
        && mcf->operations == NULL && mcf->postgres == NULL)
    {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"hotpath_status\" needs "
                      "\"hotpath_idempotency_zone\" or "
                      "\"hotpath_postgres\" at the http level in %s:%ui",
                      conf->file, conf->line);
        return NGX_CONF_ERROR;
    }

    if (conf->handler == ngx_http_hotpath_purge_handler) {

        if (conf->purge_tokens == NULL) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "\"hotpath_purge\" needs "
                          "\"hotpath_purge_token_file\" in %s:%ui",
                          conf->file, conf->line);
            return NGX_CONF_ERROR;
        }

        /* the body room refuses by itself */
        clcf->client_max_body_size = 0;
    }

    return conf->model ? ngx_http_hotpath_merge_read(cf, conf)
                       : NGX_CONF_OK;
}


static void
ngx_http_hotpath_merge_rules(ngx_http_hotpath_cache_rules_t *prev,
    ngx_http_hotpath_cache_rules_t *conf)
{
    ngx_conf_merge_msec_value(conf->ttl, prev->ttl, 60000);
    ngx_conf_merge_msec_value(conf->negative_ttl, prev->negative_ttl, 5000);
    ngx_conf_merge_msec_value(conf->revalidate, prev->revalidate, 0);
    ngx_conf_merge_msec_value(conf->stale, prev->stale, 600000);
    ngx_conf_merge_msec_value(conf->redis_ttl, prev->redis_ttl, 86400000);
    ngx_conf_merge_uint_value(conf->jitter, prev->jitter, 10);
    ngx_conf_merge_uint_value(conf->refresh, prev->refresh, 0);
    ngx_conf_merge_size_value(conf->compress_min, prev->compress_min, 0);
    ngx_conf_merge_ptr_value(conf->request_control, prev->request_control,
                             NULL);
    ngx_conf_merge_str_value(conf->fields, prev->fields, "");
}


/* What the answers of these rules say about themselves. */

static ngx_int_t
ngx_http_hotpath_cache_control(ngx_conf_t *cf,
    ngx_http_hotpath_cache_rules_t *rules)
{
    hp_response_control_t  control;

    ngx_memzero(&control, sizeof(hp_response_control_t));

    control.max_age_s = rules->ttl / 1000;
    control.s_maxage_s = -1;
    control.stale_while_revalidate_s = rules->revalidate / 1000;
    control.stale_if_error_s = rules->stale / 1000;

    if (control.stale_while_revalidate_s == 0) {
        control.stale_while_revalidate_s = -1;
    }

    if (control.stale_if_error_s == 0) {
        control.stale_if_error_s = -1;
    }

    rules->cache_control.data = ngx_pnalloc(cf->pool, HP_CACHE_CONTROL_MAX);
    if (rules->cache_control.data == NULL) {
        return NGX_ERROR;
    }

    rules->cache_control.len = hp_cache_control_write(
                                   rules->cache_control.data,
                                   HP_CACHE_CONTROL_MAX, &control);
    return NGX_OK;
}


static char *
ngx_http_hotpath_merge_read(ngx_conf_t *cf, ngx_http_hotpath_loc_conf_t *conf)
{
    char                           *rv;
    ngx_http_hotpath_cache_t       *cache;
    ngx_http_hotpath_model_t       *model, **slot;
    ngx_http_hotpath_main_conf_t   *mcf;

    mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_hotpath_module);
    model = conf->model;

    if (conf->cache_name.len == 0) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"hotpath_%s\" of \"%V\" needs \"hotpath_cache\" in "
                      "%s:%ui", model->page ? "list" : "read", &model->name,
                      conf->file, conf->line);
        return NGX_CONF_ERROR;
    }

    cache = ngx_http_hotpath_cache_find(cf, &conf->cache_name);

    if (cache == NULL) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "unknown cache zone \"%V\" in %s:%ui",
                      &conf->cache_name, conf->file, conf->line);
        return NGX_CONF_ERROR;
    }

    model->rules = conf->rules;
    model->rules.cache = cache;
    model->rules.fields_data = model->page ? 1 : 0;

    if (ngx_http_hotpath_cache_control(cf, &model->rules) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    rv = model->page ? ngx_http_hotpath_list_merge(cf, conf)
                     : ngx_http_hotpath_merge_documents(cf, conf);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    slot = ngx_array_push(&mcf->models);
    if (slot == NULL) {
        return NGX_CONF_ERROR;
    }

    *slot = model;

    return NGX_CONF_OK;
}


static char *
ngx_http_hotpath_merge_documents(ngx_conf_t *cf,
    ngx_http_hotpath_loc_conf_t *conf)
{
    u_char                        *p;
    ngx_str_t                      sql;
    ngx_http_hotpath_model_t      *model;
    ngx_http_hotpath_main_conf_t  *mcf;

    mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_hotpath_module);
    model = conf->model;

    if (mcf->redis == NULL && mcf->postgres == NULL) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"hotpath_read\" of \"%V\" needs \"hotpath_redis\" or "
                      "\"hotpath_postgres\" at the http level in %s:%ui",
                      &model->name, conf->file, conf->line);
        return NGX_CONF_ERROR;
    }

    if (mcf->postgres) {
        sql = conf->statement;

        if (sql.data == NULL) {
            sql.data = ngx_pnalloc(cf->pool, 256 + model->name.len);
            if (sql.data == NULL) {
                return NGX_CONF_ERROR;
            }

            p = ngx_sprintf(sql.data, "SELECT version, document,"
                            " (extract(epoch FROM modified_at) * 1000000)"
                            "::bigint, deleted FROM hotpath.%V"
                            " WHERE tenant = $1 AND key = $2%Z", &model->name);
            sql.len = p - sql.data - 1;
        }

        model->statement = ngx_http_hotpath_postgres_statement(cf,
                                                       mcf->postgres, &sql);
        if (model->statement == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_hotpath_init_module(ngx_cycle_t *cycle)
{
    ngx_http_hotpath_main_conf_t  *mcf;

    mcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_hotpath_module);

    if (mcf && mcf->writes
        && mcf->publish.durability == NGX_HTTP_HOTPATH_DURABILITY_PROCESS)
    {
        ngx_log_error(NGX_LOG_WARN, cycle->log, 0,
                      "hotpath: an accepted event survives the end of the "
                      "broker's process, not a power cut: \"durability\" of "
                      "\"hotpath_stream\" is \"process\"");
    }

    if (ngx_http_hotpath_flight_prepare(cycle) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_hotpath_wait_prepare(cycle);
}


static ngx_int_t
ngx_http_hotpath_init_process(ngx_cycle_t *cycle)
{
    ngx_http_hotpath_main_conf_t  *mcf;

    if (ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE)
    {
        return NGX_OK;
    }

    mcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_hotpath_module);

    if (mcf == NULL) {
        return NGX_OK;                 /* no http block */
    }

    ngx_http_hotpath_metrics_start(cycle);
    ngx_http_hotpath_inflight_start(cycle);

    if (ngx_http_hotpath_gather_start(cycle) != NGX_OK
        || ngx_http_hotpath_flight_start(cycle) != NGX_OK
        || ngx_http_hotpath_wait_start(cycle, mcf->wait_max) != NGX_OK
        || ngx_http_hotpath_collapse_start(cycle) != NGX_OK
        || ngx_http_hotpath_fetch_start(cycle) != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_http_hotpath_wait_wake_all();

    if (mcf->nats.servers) {
        mcf->client = ngx_http_hotpath_nats_start(cycle, &mcf->nats);

        if (mcf->client == NULL) {
            return NGX_ERROR;
        }
    }

    if (mcf->writes) {
        mcf->publisher = ngx_http_hotpath_publish_start(cycle, &mcf->publish,
                                        mcf->client,
                                        ngx_http_hotpath_write_outcome, mcf);
        if (mcf->publisher == NULL) {
            return NGX_ERROR;
        }

        if (ngx_worker == 0) {
            ngx_http_hotpath_metrics_row[NGX_HTTP_HOTPATH_TIER_PROCESS
                                         + mcf->publish.durability] = 1;
        }
    }

    if (mcf->client && ngx_worker == 0
        && ngx_http_hotpath_push_start(cycle, mcf) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_http_hotpath_fleet_start(cycle, mcf) != NGX_OK
        || ngx_http_hotpath_fanout_start(cycle, mcf) != NGX_OK
        || ngx_http_hotpath_task_start(cycle, mcf) != NGX_OK
        || ngx_http_hotpath_warm_start(cycle, mcf) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (mcf->redis
        && ngx_http_hotpath_redis_start(mcf->redis, cycle) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (mcf->postgres
        && ngx_http_hotpath_postgres_start(mcf->postgres, cycle) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_http_hotpath_exit_process(ngx_cycle_t *cycle)
{
    ngx_http_hotpath_main_conf_t  *mcf;

    if (ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE)
    {
        return;
    }

    mcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_hotpath_module);

    if (mcf == NULL) {
        return;
    }

    if (mcf->postgres) {
        ngx_http_hotpath_postgres_stop(mcf->postgres);
    }

    if (mcf->redis) {
        ngx_http_hotpath_redis_stop(mcf->redis);
    }

    if (mcf->publisher) {
        ngx_http_hotpath_publish_stop(mcf->publisher);
        mcf->publisher = NULL;
    }

    ngx_http_hotpath_flight_stop();
    ngx_http_hotpath_wait_stop();

    if (mcf->client) {
        ngx_http_hotpath_fleet_stop(mcf);
        ngx_http_hotpath_nats_stop(mcf->client);
        mcf->client = NULL;
    }
}
