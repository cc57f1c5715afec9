/*
 * batch.c: messages become events; repeats inside the batch are found.
 *
 * A message is read to its end before any of its events counts: one whose
 * frame is broken counts as a whole, as broken. Repeats are found by a hash
 * table over the operation ids (seeded, so that nobody can aim at one chain),
 * because PostgreSQL's ON CONFLICT would not tell the first from the second.
 *
 * Runs on the lane's thread; allocates, but asks nobody anything. Items point
 * into messages, which live until hpw_batch_reset().
 */
#include "drain.h"

#include <stdlib.h>
#include <string.h>

#include "hp_id.h"

void hpw_batch_init(hpw_batch_t *batch)
{
    memset(batch, 0, sizeof(*batch));
    arc4random_buf(&batch->seed, sizeof(batch->seed));
}

static void hpw_batch_slot(hpw_batch_t *batch, int index)
{
    const unsigned char *id = batch->items[index].event.operation_id;
    uint32_t mask = batch->table_size - 1;
    uint32_t at = (uint32_t)hp_hash64(id, HP_UUID_SIZE, batch->seed) & mask;
    hpw_item_t *item = &batch->items[index], *first;

    for (; batch->table[at]; at = (at + 1) & mask) {
        first = &batch->items[batch->table[at] - 1];
        if (memcmp(first->event.operation_id, id, HP_UUID_SIZE) == 0) {
            item->repeat = 1;
            item->fate =
                memcmp(first->event.fingerprint, item->event.fingerprint,
                       HP_FINGERPRINT_SIZE) == 0
                    ? HPW_FATE_DUPLICATE
                    : HPW_FATE_CONFLICT;
            return;
        }
    }
    batch->table[at] = (uint32_t)index + 1;
}

/* Half full at most. */
static void hpw_batch_index(hpw_batch_t *batch, int first)
{
    uint32_t size = batch->table_size ? batch->table_size : 1024;

    while (size / 2 < (uint32_t)batch->item_count)
        size *= 2;
    if (size != batch->table_size) {
        free(batch->table);
        batch->table = hpw_alloc(size, sizeof(*batch->table));
        batch->table_size = size;
        first = 0;
    }
    for (; first < batch->item_count; first++) {
        if (!batch->items[first].repeat)
            hpw_batch_slot(batch, first);
    }
}

static hpw_item_t *hpw_batch_item(hpw_batch_t *batch)
{
    hpw_item_t *item;

    if (batch->item_count == batch->item_size) {
        batch->item_size = batch->item_size ? batch->item_size * 2 : 1024;
        batch->items = hpw_realloc(batch->items, (size_t)batch->item_size,
                                   sizeof(*batch->items));
    }
    item = &batch->items[batch->item_count++];
    memset(item, 0, sizeof(*item));
    return item;
}

void hpw_batch_add(hpw_batch_t *batch, const hpw_message_t *message)
{
    hp_str_t text = {(const unsigned char *)natsMsg_GetData(message->msg),
                     (size_t)natsMsg_GetDataLength(message->msg)};
    hp_frame_reader_t reader;
    hp_event_t event;
    hpw_item_t *item;
    int first = batch->item_count, rc;

    if (batch->message_count == batch->message_size) {
        batch->message_size =
            batch->message_size ? batch->message_size * 2 : 256;
        batch->messages =
            hpw_realloc(batch->messages, (size_t)batch->message_size,
                        sizeof(*batch->messages));
    }
    batch->messages[batch->message_count++] = *message;
    batch->bytes += text.len;
    batch->pending = message->pending;
    if (message->sequence > batch->last_sequence)
        batch->last_sequence = message->sequence;

    rc = hp_event_group_open(&reader, text) == 0 ? 1 : -1;
    while (rc == 1 && (rc = hp_event_group_next(&reader, &event)) == 1) {
        item = hpw_batch_item(batch);
        item->event = event;
        item->sequence = message->sequence;
    }
    if (rc == 0) {
        hpw_batch_index(batch, first);
        return;
    }
    batch->item_count = first;
    if (batch->broken_count == batch->broken_size) {
        batch->broken_size = batch->broken_size ? batch->broken_size * 2 : 16;
        batch->broken = hpw_realloc(batch->broken, (size_t)batch->broken_size,
                                    sizeof(*batch->broken));
    }
    batch->broken[batch->broken_count++] = batch->message_count - 1;
}

void hpw_batch_reset(hpw_batch_t *batch)
{
    int i;

    for (i = 0; i < batch->item_count; i++)
        free(batch->items[i].reason);
    for (i = 0; i < batch->message_count; i++)
        natsMsg_Destroy(batch->messages[i].msg);
    if (batch->item_count)
        memset(batch->table, 0, batch->table_size * sizeof(*batch->table));
    batch->message_count = 0;
    batch->broken_count = 0;
    batch->item_count = 0;
    batch->bytes = 0;
    batch->last_sequence = 0;
}

void hpw_batch_free(hpw_batch_t *batch)
{
    hpw_batch_reset(batch);
    free(batch->messages);
    free(batch->broken);
    free(batch->items);
    free(batch->table);
    memset(batch, 0, sizeof(*batch));
}
