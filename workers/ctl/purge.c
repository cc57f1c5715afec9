/*
 * purge.c: asks the instances of nginx to purge what they cached.
 *
 * One message on <subject_prefix>.purge.run, which one instance takes: it sees
 * to Redis, to the others and to itself, says every half second that it is
 * still at it, and in the end what each of them did. That answer is printed, as
 * it came (--json) or as a table. The exit status is 0 only where every
 * instance that is known has done all of it.
 *
 * What the options say is checked by the rules that the instances have
 * (core/hp_purge.c), before anybody is asked. Must never purge more than was
 * said: an option that is not known is an error. Messages: schemas/framing.md.
 */
#include "ctl.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buffer.h"
#include "hp_purge.h"
#include "signals.h"

/* An instance that is silent for so long stands still, or is gone. */
#define HPW_PURGE_SILENCE_MS 1500

/* How often somebody is asked, since it may be the same one again. */
#define HPW_PURGE_TRIES 6

/* How often a signal is looked for. */
#define HPW_PURGE_WAIT_MS 200

/* The request as JSON, which the caller frees; NULL, said, where the options
 * are wrong. */
static char *hpw_purge_options(int argc, char **argv, int *json)
{
    static const struct option options[] = {
        {"model", required_argument, NULL, 'm'},
        {"tenant", required_argument, NULL, 't'},
        {"key", required_argument, NULL, 'k'},
        {"tag", required_argument, NULL, 'g'},
        {"soft", no_argument, NULL, 's'},
        {"hard", no_argument, NULL, 'h'},
        {"json", no_argument, NULL, 'j'},
        {0},
    };
    cJSON *request = cJSON_CreateObject(), *keys = NULL;
    unsigned char *scratch;
    hp_purge_status_t status;
    hp_purge_t purge;
    hp_str_t text;
    char *body;
    int option;

    optind = 1;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'm':
            cJSON_AddStringToObject(request, "model", optarg);
            break;
        case 't':
            cJSON_AddStringToObject(request, "tenant", optarg);
            break;
        case 'k':
            if (keys == NULL)
                keys = cJSON_AddArrayToObject(request, "keys");
            cJSON_AddItemToArray(keys, cJSON_CreateString(optarg));
            break;
        case 'g':
            cJSON_AddStringToObject(request, "tag", optarg);
            break;
        case 's':
        case 'h':
            cJSON_AddStringToObject(request, "mode",
                                    option == 's' ? "soft" : "hard");
            break;
        case 'j':
            *json = 1;
            break;
        default: /* getopt has said it */
            cJSON_Delete(request);
            return NULL;
        }
    }
    if (optind < argc) {
        hpw_ctl_error("purge: unexpected \"%s\"", argv[optind]);
        cJSON_Delete(request);
        return NULL;
    }

    body = cJSON_PrintUnformatted(request);
    cJSON_Delete(request);
    text.data = (const unsigned char *)body;
    text.len = strlen(body);
    scratch = (unsigned char *)hpw_strdup(body); /* of its length */
    status = hp_purge_read(&purge, text, scratch);
    free(scratch);
    if (status == HP_PURGE_OK)
        return body;
    hpw_ctl_error("purge: %s", hp_purge_code(&purge, status));
    cJSON_free(body);
    return NULL;
}

/* The last message about it; NULL where there is none. */
static cJSON *hpw_purge_wait(natsSubscription *sub, natsStatus *status)
{
    int64_t until = hpw_monotonic_ms() + HPW_PURGE_SILENCE_MS;
    natsMsg *msg = NULL;
    cJSON *answer;

    while (!hpw_stopping() && hpw_monotonic_ms() < until) {
        *status = natsSubscription_NextMsg(&msg, sub, HPW_PURGE_WAIT_MS);
        if (*status == NATS_TIMEOUT)
            continue;
        if (*status != NATS_OK)
            return NULL;
        answer = cJSON_ParseWithLength(natsMsg_GetData(msg),
                                       (size_t)natsMsg_GetDataLength(msg));
        natsMsg_Destroy(msg);
        if (!cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(answer, "running")))
            return answer;
        cJSON_Delete(answer);
        until = hpw_monotonic_ms() + HPW_PURGE_SILENCE_MS;
    }
    return NULL;
}

static double hpw_purge_number(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

static const char *hpw_purge_text(const cJSON *object, const char *name)
{
    const char *text =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));

    return text ? text : "";
}

static void hpw_purge_line(const char *name, const cJSON *row)
{
    printf("%-52s %12.0f %12.0f  %s\n", name, hpw_purge_number(row, "purged"),
           hpw_purge_number(row, "redis"), hpw_purge_text(row, "error"));
}

static int hpw_purge_print(const cJSON *answer, int json)
{
    const cJSON *row;
    char *text;

    if (json) {
        text = cJSON_Print(answer);
        puts(text);
        cJSON_free(text);
    } else {
        printf("%-52s %12s %12s\n", "instance", "purged", "redis");
        cJSON_ArrayForEach(
            row, cJSON_GetObjectItemCaseSensitive(answer, "instances"))
        {
            hpw_purge_line(hpw_purge_text(row, "instance"), row);
        }
        hpw_purge_line("sum", answer);
    }
    if (*hpw_purge_text(answer, "error"))
        return hpw_ctl_error("purge: %s", hpw_purge_text(answer, "error"));
    if (!cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(answer, "complete")))
        return hpw_ctl_error("purge: not complete; it can be asked again"
                             " without harm");
    return 0;
}

/* Asks one instance. NULL with *status set where none answered. */
static cJSON *hpw_purge_ask(hpw_ctl_t *ctl, const char *body,
                            natsStatus *status)
{
    natsSubscription *sub = NULL;
    natsInbox *inbox = NULL;
    cJSON *answer = NULL;
    char subject[128];

    snprintf(subject, sizeof(subject), "%s.purge.run",
             ctl->settings.common.subject_prefix);
    *status = natsInbox_Create(&inbox);
    if (*status == NATS_OK)
        *status = natsConnection_SubscribeSync(&sub, ctl->nats.nc, inbox);
    if (*status == NATS_OK)
        *status = natsConnection_PublishRequestString(ctl->nats.nc, subject,
                                                      inbox, body);
    if (*status == NATS_OK)
        answer = hpw_purge_wait(sub, status);
    natsSubscription_Destroy(sub);
    natsInbox_Destroy(inbox);
    return answer;
}

/* Whoever took it may stand still: then somebody else is asked, with luck. */
static int hpw_purge_run(hpw_ctl_t *ctl, const char *body, int json)
{
    natsStatus status = NATS_TIMEOUT;
    cJSON *answer = NULL;
    int tries, rc;

    for (tries = 0; tries < HPW_PURGE_TRIES && answer == NULL &&
                    status == NATS_TIMEOUT && !hpw_stopping();
         tries++)
        answer = hpw_purge_ask(ctl, body, &status);

    if (status == NATS_NO_RESPONDERS)
        return hpw_ctl_error("purge: no instance of nginx listens");
    if (!cJSON_IsObject(answer)) {
        cJSON_Delete(answer);
        return hpw_ctl_error("purge: %s", natsStatus_GetText(status));
    }
    rc = hpw_purge_print(answer, json);
    cJSON_Delete(answer);
    return rc;
}

int hpw_ctl_purge(hpw_ctl_t *ctl, int argc, char **argv)
{
    int json = 0, rc = -1;
    char *body = hpw_purge_options(argc, argv, &json);

    if (body == NULL)
        return HPW_CTL_USAGE;
    if (hpw_ctl_open(ctl, 0) == 0)
        rc = hpw_purge_run(ctl, body, json);
    cJSON_free(body);
    return rc;
}
