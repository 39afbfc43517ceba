#include "zones.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint32_t hash(const void *data, size_t size)
{
    const uint8_t *bytes = data;
    uint32_t value = 2166136261u; /* FNV-1a: the names are the engine's own, not a stranger's */
    for (size_t i = 0; i < size; i++)
        value = (value ^ bytes[i]) * 16777619u;
    return value;
}

/* Reads the record at `at`; where the next begins, 0: broken. */
static uint32_t read_record(const uint8_t *data, uint32_t size, uint32_t at, struct record *out)
{
    if (at >= size)
        return 0;
    out->length = data[at++];
    if (!out->length || size - at < out->length + 1)
        return 0;
    out->name = (const char *)data + at;
    at += out->length;
    out->count = data[at++];
    out->addresses = data + at;
    for (unsigned i = 0; i < out->count; i++) {
        if (at >= size || (data[at] != 4 && data[at] != 16) || size - at < data[at] + 1u)
            return 0;
        at += 1u + data[at];
    }
    return at;
}

static uint32_t power_above(uint32_t count)
{
    uint32_t power = 8;
    while (power < count + count / 2 + 1)
        power *= 2;
    return power;
}

static void put_name(struct names *names, uint32_t at, const struct record *record)
{
    uint32_t place = hash(record->name, record->length) & names->name_mask;
    while (names->by_name[place])
        place = (place + 1) & names->name_mask;
    names->by_name[place] = at + 1;
}

/* The place of an address, or the free one where it belongs. */
static uint32_t address_place(const struct names *names, const uint8_t *bytes, unsigned size)
{
    uint32_t place = hash(bytes, size) & names->address_mask;
    for (;; place = (place + 1) & names->address_mask) {
        uint32_t at = names->by_address[2 * place];
        if (!at || (names->records[at - 1] == size && !memcmp(names->records + at, bytes, size)))
            return place;
    }
}

static void put_addresses(struct names *names, uint32_t at, const struct record *record)
{
    const uint8_t *address = record->addresses;
    for (unsigned i = 0; i < record->count; i++, address += 1 + *address) {
        uint32_t place = address_place(names, address + 1, *address);
        if (names->by_address[2 * place])
            continue;
        names->by_address[2 * place] = (uint32_t)(address - names->records) + 1;
        names->by_address[2 * place + 1] = at;
    }
}

int names_build(struct names *names, uint8_t *records, uint32_t size)
{
    struct names made = {.records = records, .size = size};
    struct record record;
    uint32_t addresses = 0, next;
    for (uint32_t at = 0; at < size; at = next) {
        next = read_record(records, size, at, &record);
        if (!next)
            return -EPROTO;
        made.count++;
        addresses += record.count;
    }
    if (made.count) {
        made.name_mask = power_above(made.count) - 1;
        made.address_mask = power_above(addresses) - 1;
        made.by_name = calloc(made.name_mask + 1, sizeof *made.by_name);
        made.by_address = calloc(made.address_mask + 1, 2 * sizeof *made.by_address);
        if (!made.by_name || !made.by_address) {
            free(made.by_name);
            free(made.by_address);
            return -ENOMEM;
        }
    }
    for (uint32_t at = 0; at < size; at = next) {
        next = read_record(records, size, at, &record);
        put_name(&made, at, &record);
        put_addresses(&made, at, &record);
    }
    names_free(names);
    *names = made;
    return 0;
}

void names_free(struct names *names)
{
    free(names->records);
    free(names->by_name);
    free(names->by_address);
    memset(names, 0, sizeof *names);
}

int names_find(const struct names *names, const char *name, size_t length, struct record *out)
{
    if (!names->count)
        return 0;
    uint32_t place = hash(name, length) & names->name_mask;
    for (uint32_t at; (at = names->by_name[place]); place = (place + 1) & names->name_mask) {
        read_record(names->records, names->size, at - 1, out);
        if (out->length == length && !memcmp(out->name, name, length))
            return 1;
    }
    return 0;
}

int names_reverse(const struct names *names, const struct address *address, struct record *out)
{
    if (!names->count)
        return 0;
    uint32_t place = address_place(names, address->bytes, address->size);
    if (!names->by_address[2 * place])
        return 0;
    return read_record(names->records, names->size, names->by_address[2 * place + 1], out) != 0;
}
