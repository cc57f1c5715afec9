/*
 * ngx_http_hotpath_param.c: typed parameters of a location.
 *
 * hotpath_param names a value that requests give in path, query or headers, and
 * the rule it must keep (core/hp_param.h). A request that breaks one is refused
 * with 400 in the phase precontent: after access control, so that a stranger
 * learns nothing, and before any content handler, zone or upstream. What
 * passes has one spelling, which is the variable $hotpath_param_<name>, so that
 * one thing has one key in caches and one form in logs.
 *
 * Keeps nothing between check and use: a parameter is worked out again where
 * its variable is, which costs a look through the query, and is right after a
 * rewrite, an internal redirect and in a subrequest too. Owns nothing; what has
 * to be decoded or spelt anew goes into the request's pool. Never in here: a
 * value that is repaired, except by clamp, which the operator asked for.
 *
 * Reference: README.md, "Parameters"; tests: tests/integration/test_params.py,
 * the rules in tests/unit/test_param.c.
 */


#include "ngx_http_hotpath_module.h"


static char *ngx_http_hotpath_param_source(ngx_conf_t *cf,
    ngx_http_hotpath_param_t *param, ngx_str_t *source);
static char *ngx_http_hotpath_param_absent(ngx_conf_t *cf,
    ngx_http_hotpath_param_t *param, ngx_str_t *text);
static char *ngx_http_hotpath_param_bounds(ngx_conf_t *cf,
    ngx_http_hotpath_param_t *param);
static ngx_int_t ngx_http_hotpath_param_name_valid(ngx_str_t *name,
    ngx_uint_t variable);
static ngx_int_t ngx_http_hotpath_param_variable(ngx_conf_t *cf,
    ngx_str_t *name);
static ngx_int_t ngx_http_hotpath_param_value(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static int ngx_http_hotpath_param_find(ngx_http_request_t *r,
    ngx_http_hotpath_param_t *param, hp_str_t *text);
static int ngx_http_hotpath_param_find_segment(ngx_http_request_t *r,
    ngx_uint_t segment, hp_str_t *text);
static int ngx_http_hotpath_param_find_header(ngx_http_request_t *r,
    ngx_str_t *name, hp_str_t *text);
static ngx_int_t ngx_http_hotpath_param_unknown(ngx_http_request_t *r,
    ngx_http_hotpath_param_conf_t *conf, ngx_str_t *fields, ngx_str_t *name);
static ngx_uint_t ngx_http_hotpath_param_known(
    ngx_http_hotpath_param_t *params, ngx_uint_t n, hp_str_t name);


char *
ngx_http_hotpath_param_set(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    char                           *rv;
    hp_str_t                        rule;
    ngx_str_t                      *value, s;
    ngx_uint_t                      i;
    const char                     *wrong;
    ngx_http_hotpath_param_t       *param;
    ngx_http_hotpath_param_conf_t  *pcf;

    pcf = (ngx_http_hotpath_param_conf_t *) (p + cmd->offset);
    value = cf->args->elts;

    if (pcf->declared == NULL) {
        pcf->declared = ngx_array_create(cf->pool, 4,
                                         sizeof(ngx_http_hotpath_param_t));
        if (pcf->declared == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    param = pcf->declared->elts;

    for (i = 0; i < pcf->declared->nelts; i++) {
        if (param[i].name.len == value[1].len
            && ngx_strncmp(param[i].name.data, value[1].data, value[1].len)
               == 0)
        {
            return "is duplicate";
        }
    }

    if (i == NGX_HTTP_HOTPATH_PARAMS_MAX) {
        return "is there too often, a location has 16 at most";
    }

    param = ngx_array_push(pcf->declared);
    if (param == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(param, sizeof(ngx_http_hotpath_param_t));

    if (ngx_http_hotpath_param_name_valid(&value[1], 1) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter name \"%V\": a lower-case letter "
                           "and then up to 31 of a-z 0-9 _ are allowed",
                           &value[1]);
        return NGX_CONF_ERROR;
    }

    param->name = value[1];

    rv = ngx_http_hotpath_param_source(cf, param, &value[2]);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    rule.data = value[3].data;
    rule.len = value[3].len;

    wrong = hp_param_rule(&param->rule, rule);

    if (wrong) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid rule \"%V\": %s", &value[3], wrong);
        return NGX_CONF_ERROR;
    }

    for (i = 4; i < cf->args->nelts; i++) {

        if (ngx_strcmp(value[i].data, "clamp") == 0) {

            rv = ngx_http_hotpath_param_bounds(cf, param);
            if (rv != NGX_CONF_OK) {
                return rv;
            }

            continue;
        }

        if (ngx_strncmp(value[i].data, "default=", 8) == 0) {

            s.data = value[i].data + 8;
            s.len = value[i].len - 8;

            rv = ngx_http_hotpath_param_absent(cf, param, &s);
            if (rv != NGX_CONF_OK) {
                return rv;
            }

            continue;
        }

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\"", &value[i]);
        return NGX_CONF_ERROR;
    }

    return ngx_http_hotpath_param_variable(cf, &param->name) == NGX_OK
           ? NGX_CONF_OK : NGX_CONF_ERROR;
}


/* path, path:2, arg, arg:name, header, header:name */

static char *
ngx_http_hotpath_param_source(ngx_conf_t *cf, ngx_http_hotpath_param_t *param,
    ngx_str_t *source)
{
    u_char                    *p;
    ngx_int_t                  n;
    ngx_str_t                  name;
    ngx_uint_t                 i;
    ngx_http_core_loc_conf_t  *clcf;

    p = (u_char *) ngx_strchr(source->data, ':');

    name.data = p ? p + 1 : source->data;
    name.len = p ? source->data + source->len - name.data : 0;
    n = p ? p - source->data : (ngx_int_t) source->len;

    if (n == 4 && ngx_strncmp(source->data, "path", 4) == 0) {

        clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

        if (clcf->exact_match || clcf->named
#if (NGX_PCRE)
            || clcf->regex
#endif
            )
        {
            return "of the source \"path\" needs a location that is given by "
                   "a prefix";
        }

        param->source = ngx_http_hotpath_param_path;

        if (p) {
            n = ngx_atoi(name.data, name.len);
            if (n < 1 || n > 64) {
                goto invalid;
            }

            param->segment = n;
        }

        return NGX_CONF_OK;
    }

    if (n == 3 && ngx_strncmp(source->data, "arg", 3) == 0) {
        param->source = ngx_http_hotpath_param_arg;

    } else if (n == 6 && ngx_strncmp(source->data, "header", 6) == 0) {
        param->source = ngx_http_hotpath_param_header;

    } else {
        goto invalid;
    }

    if (p) {
        if (ngx_http_hotpath_param_name_valid(&name, 0) != NGX_OK) {
            goto invalid;
        }

        param->from = name;
        return NGX_CONF_OK;
    }

    param->from.len = param->name.len;
    param->from.data = ngx_pstrdup(cf->pool, &param->name);
    if (param->from.data == NULL) {
        return NGX_CONF_ERROR;
    }

    if (param->source == ngx_http_hotpath_param_header) {
        for (i = 0; i < param->from.len; i++) {
            if (param->from.data[i] == '_') {
                param->from.data[i] = '-';
            }
        }
    }

    return NGX_CONF_OK;

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid source \"%V\", it must be \"path[:number]\", "
                       "\"arg[:name]\" or \"header[:name]\"", source);
    return NGX_CONF_ERROR;
}


/* Nothing: the parameter may be missing, and is empty then. */

static char *
ngx_http_hotpath_param_absent(ngx_conf_t *cf, ngx_http_hotpath_param_t *param,
    ngx_str_t *text)
{
    hp_str_t            given;
    hp_param_value_t    value;
    hp_param_status_t   status;

    param->optional = 1;
    param->absent = *text;

    if (text->len == 0) {
        return NGX_CONF_OK;
    }

    given.data = text->data;
    given.len = text->len;

    status = hp_param_check(&param->rule, given, &value);

    if (status != HP_PARAM_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the default \"%V\" does not keep to the rule: %s",
                           text, hp_param_code(status));
        return NGX_CONF_ERROR;
    }

    if (value.text_len) {
        param->absent.len = value.text_len;
        param->absent.data = ngx_pnalloc(cf->pool, value.text_len);
        if (param->absent.data == NULL) {
            return NGX_CONF_ERROR;
        }

        ngx_memcpy(param->absent.data, value.text, value.text_len);
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_hotpath_param_bounds(ngx_conf_t *cf, ngx_http_hotpath_param_t *param)
{
    u_char  *p;

    if (param->rule.kind != HP_PARAM_INT) {
        return "has \"clamp\", which only numbers can have";
    }

    p = ngx_pnalloc(cf->pool, 2 * NGX_INT64_LEN);
    if (p == NULL) {
        return NGX_CONF_ERROR;
    }

    param->clamp = 1;

    param->low.data = p;
    p = ngx_sprintf(p, "%L", param->rule.min);
    param->low.len = p - param->low.data;

    param->high.data = p;
    p = ngx_sprintf(p, "%L", param->rule.max);
    param->high.len = p - param->high.data;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_hotpath_param_name_valid(ngx_str_t *name, ngx_uint_t variable)
{
    u_char      c;
    ngx_uint_t  i;

    if (name->len == 0 || name->len > (variable ? 32 : HP_PARAM_NAME_MAX)) {
        return NGX_ERROR;
    }

    for (i = 0; i < name->len; i++) {
        c = name->data[i];

        if ((c >= 'a' && c <= 'z')
            || (i && ((c >= '0' && c <= '9') || c == '_')))
        {
            continue;
        }

        /* what stands for itself in queries, headers' names and JSON */

        if (variable
            || !((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z')
                 || strchr("_-.~[]", c)))
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* One variable a name, whatever locations make of it. */

static ngx_int_t
ngx_http_hotpath_param_variable(ngx_conf_t *cf, ngx_str_t *name)
{
    ngx_str_t            *copy, full;
    ngx_http_variable_t  *v;

    full.len = sizeof("hotpath_param_") - 1 + name->len;
    full.data = ngx_pnalloc(cf->pool, full.len);
    copy = ngx_palloc(cf->pool, sizeof(ngx_str_t));

    if (full.data == NULL || copy == NULL) {
        return NGX_ERROR;
    }

    (void) ngx_sprintf(full.data, "hotpath_param_%V", name);

    v = ngx_http_add_variable(cf, &full, NGX_HTTP_VAR_CHANGEABLE
                                         |NGX_HTTP_VAR_NOCACHEABLE);
    if (v == NULL) {
        return NGX_ERROR;
    }

    if (v->get_handler == ngx_http_hotpath_param_value) {
        return NGX_OK;
    }

    if (v->get_handler) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the variable \"$%V\" is there already", &full);
        return NGX_ERROR;
    }

    *copy = *name;
    v->get_handler = ngx_http_hotpath_param_value;
    v->data = (uintptr_t) copy;

    return NGX_OK;
}


void
ngx_http_hotpath_param_merge(ngx_http_hotpath_param_conf_t *prev,
    ngx_http_hotpath_param_conf_t *conf)
{
    if (conf->declared == NULL) {
        conf->declared = prev->declared;
    }

    ngx_conf_merge_value(conf->strict, prev->strict, 0);
}


char *
ngx_http_hotpath_param_argument(ngx_conf_t *cf,
    ngx_http_hotpath_param_t *param, ngx_str_t *name, ngx_str_t *rule,
    ngx_str_t *absent)
{
    char        *rv;
    hp_str_t     text;

    ngx_memzero(param, sizeof(ngx_http_hotpath_param_t));

    param->name = *name;
    param->from = *name;
    param->source = ngx_http_hotpath_param_arg;

    if (rule == NULL) {
        param->raw = 1;
        param->optional = 1;
        return NGX_CONF_OK;
    }

    text.data = rule->data;
    text.len = rule->len;

    if (hp_param_rule(&param->rule, text)) {
        return NGX_CONF_ERROR;
    }

    rv = ngx_http_hotpath_param_bounds(cf, param);

    return rv == NGX_CONF_OK
           ? ngx_http_hotpath_param_absent(cf, param, absent) : rv;
}


static ngx_int_t
ngx_http_hotpath_param_value(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t *name = (ngx_str_t *) data;

    ngx_int_t                          rc;
    ngx_str_t                          value;
    ngx_uint_t                         i;
    ngx_http_hotpath_param_t          *param;
    ngx_http_hotpath_loc_conf_t       *lcf;
    ngx_http_hotpath_param_refusal_t   why;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_hotpath_module);

    if (lcf->param.declared == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    param = lcf->param.declared->elts;

    for (i = 0; i < lcf->param.declared->nelts; i++) {

        if (param[i].name.len != name->len
            || ngx_memcmp(param[i].name.data, name->data, name->len) != 0)
        {
            continue;
        }

        rc = ngx_http_hotpath_param_get(r, &param[i], &value, &why);

        if (rc == NGX_ERROR) {
            return NGX_ERROR;
        }

        if (rc != NGX_OK) {
            break;
        }

        v->data = value.data;
        v->len = value.len;
        v->valid = 1;
        v->no_cacheable = 0;
        v->not_found = 0;

        return NGX_OK;
    }

    v->not_found = 1;

    return NGX_OK;
}


ngx_int_t
ngx_http_hotpath_param_get(ngx_http_request_t *r,
    ngx_http_hotpath_param_t *param, ngx_str_t *value,
    ngx_http_hotpath_param_refusal_t *why)
{
    int                 n;
    u_char             *p;
    size_t              len;
    hp_str_t            text;
    hp_param_value_t    checked;
    hp_param_status_t   status;

    n = ngx_http_hotpath_param_find(r, param, &text);

    if (n == 0) {
        if (param->optional) {
            *value = param->absent;
            return NGX_OK;
        }

        why->problem = NGX_HTTP_HOTPATH_PROBLEM_PARAMETER_REQUIRED;
        why->reason = NULL;
        return NGX_DECLINED;
    }

    status = HP_PARAM_BAD_REPEAT;

    if (n > 1) {
        goto refused;
    }

    if (param->source == ngx_http_hotpath_param_arg
        && (memchr(text.data, '%', text.len)
            || memchr(text.data, '+', text.len)))
    {
        p = ngx_pnalloc(r->pool, text.len);
        if (p == NULL) {
            return NGX_ERROR;
        }

        status = hp_param_decode(p, &len, text, 1);
        if (status != HP_PARAM_OK) {
            goto refused;
        }

        text.data = p;
        text.len = len;
    }

    value->data = (u_char *) text.data;
    value->len = text.len;

    if (param->raw) {
        return NGX_OK;
    }

    status = hp_param_check(&param->rule, text, &checked);

    if (status == HP_PARAM_BAD_RANGE && param->clamp) {
        *value = checked.number < param->rule.min ? param->low : param->high;
        return NGX_OK;
    }

    if (status != HP_PARAM_OK) {
        goto refused;
    }

    if (checked.text_len == 0
        || (checked.text_len == text.len
            && ngx_memcmp(checked.text, text.data, text.len) == 0))
    {
        return NGX_OK;
    }

    value->len = checked.text_len;
    value->data = ngx_pnalloc(r->pool, checked.text_len);
    if (value->data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(value->data, checked.text, checked.text_len);

    return NGX_OK;

refused:

    why->problem = NGX_HTTP_HOTPATH_PROBLEM_PARAMETER_INVALID;
    why->reason = hp_param_code(status);

    return NGX_DECLINED;
}


/* How often it is given: 0, 1, or 2 for more. */

static int
ngx_http_hotpath_param_find(ngx_http_request_t *r,
    ngx_http_hotpath_param_t *param, hp_str_t *text)
{
    hp_str_t  query, name;

    switch (param->source) {

    case ngx_http_hotpath_param_path:
        return ngx_http_hotpath_param_find_segment(r, param->segment, text);

    case ngx_http_hotpath_param_header:
        return ngx_http_hotpath_param_find_header(r, &param->from, text);

    default:
        query.data = r->args.data;
        query.len = r->args.len;
        name.data = param->from.data;
        name.len = param->from.len;

        return hp_param_find(query, name, text);
    }
}


static int
ngx_http_hotpath_param_find_segment(ngx_http_request_t *r, ngx_uint_t segment,
    hp_str_t *text)
{
    u_char     *p, *last, *end;
    ngx_str_t   rest;

    ngx_http_hotpath_uri_rest(r, &rest);

    p = rest.data;
    end = p + rest.len;
    last = end;

    if (segment) {

        /* a location without a slash at its end leaves one here */
        if (p < end && *p == '/') {
            p++;
        }

        for ( ;; ) {
            last = ngx_strlchr(p, end, '/');
            if (last == NULL) {
                last = end;
            }

            if (--segment == 0) {
                break;
            }

            if (last == end) {
                return 0;
            }

            p = last + 1;
        }
    }

    text->data = p;
    text->len = last - p;

    return text->len != 0;
}


static int
ngx_http_hotpath_param_find_header(ngx_http_request_t *r, ngx_str_t *name,
    hp_str_t *text)
{
    int               n;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    n = 0;
    part = &r->headers_in.headers.part;
    h = part->elts;

    for (i = 0; n < 2; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                break;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        if (h[i].key.len == name->len
            && ngx_strncasecmp(h[i].key.data, name->data, name->len) == 0)
        {
            text->data = h[i].value.data;
            text->len = h[i].value.len;
            n++;
        }
    }

    return n;
}


ngx_int_t
ngx_http_hotpath_param_handler(ngx_http_request_t *r)
{
    ngx_int_t                          rc;
    ngx_str_t                          value, *name;
    ngx_uint_t                         i, n;
    ngx_http_hotpath_param_t          *param;
    ngx_http_hotpath_loc_conf_t       *lcf;
    ngx_http_hotpath_param_conf_t     *conf;
    ngx_http_hotpath_param_refusal_t   why;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_hotpath_module);
    conf = &lcf->param;

    if (conf->declared) {
        param = conf->declared->elts;
        n = conf->declared->nelts;

        for (i = 0; i < n; i++) {
            rc = ngx_http_hotpath_param_get(r, &param[i], &value, &why);

            if (rc != NGX_OK) {
                name = &param[i].name;
                goto refused;
            }
        }
    }

    if (!conf->strict) {
        return NGX_DECLINED;
    }

    rc = ngx_http_hotpath_param_unknown(r, conf, &lcf->rules.fields, &value);

    if (rc == NGX_OK) {
        return NGX_DECLINED;
    }

    name = &value;
    why.problem = NGX_HTTP_HOTPATH_PROBLEM_PARAMETER_UNKNOWN;
    why.reason = NULL;

refused:

    if (rc == NGX_ERROR) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_discard_request_body(r);

    if (rc == NGX_OK) {
        rc = ngx_http_hotpath_problem_parameter(r, why.problem, name,
                                                why.reason);
    }

    ngx_http_finalize_request(r, rc);

    return NGX_DONE;
}


/* NGX_DECLINED: the query has an argument that nobody has named, nor is it the
 * one that selects members (fields; empty: none does). *name is its name where
 * that can be repeated, else empty. */

static ngx_int_t
ngx_http_hotpath_param_unknown(ngx_http_request_t *r,
    ngx_http_hotpath_param_conf_t *conf, ngx_str_t *fields, ngx_str_t *name)
{
    hp_str_t    rest, given, value, selection;
    ngx_uint_t  declared;

    declared = conf->declared ? conf->declared->nelts : 0;

    selection.data = fields->data;
    selection.len = fields->len;

    rest.data = r->args.data;
    rest.len = r->args.len;

    while (hp_param_next(&rest, &given, &value)) {

        if ((declared
             && ngx_http_hotpath_param_known(conf->declared->elts, declared,
                                             given))
            || ngx_http_hotpath_param_known(conf->more, conf->nmore, given)
            || (fields->len && hp_param_named(given, selection)))
        {
            continue;
        }

        name->data = (u_char *) given.data;
        name->len = given.len;

        if (ngx_http_hotpath_param_name_valid(name, 0) != NGX_OK) {
            name->len = 0;
        }

        return NGX_DECLINED;
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_http_hotpath_param_known(ngx_http_hotpath_param_t *params, ngx_uint_t n,
    hp_str_t given)
{
    hp_str_t    name;
    ngx_uint_t  i;

    for (i = 0; i < n; i++) {

        if (params[i].source != ngx_http_hotpath_param_arg) {
            continue;
        }

        name.data = params[i].from.data;
        name.len = params[i].from.len;

        if (hp_param_named(given, name)) {
            return 1;
        }
    }

    return 0;
}
