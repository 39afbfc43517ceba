/* Judges DNS messages and tables of names under the sanitizers. On stdin a kind ('q', 'a', 'z'), u32
 * length, bytes, and again; for 'a' two of them, the question and the answer. On stdout a line for
 * each: q: RCODE (or -1), type, end, labels, limit and the name in hexadecimal, and what a reply to
 * it weighs; a: 1 or 0, and how many addresses; z: 0 or the error, and the names that are found in it again. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "helper/dns.h"
#include "helper/zones.h"

/* Exactly as large as it is, so that one byte too far is found. */
static uint8_t *next(uint32_t *size)
{
    if (fread(size, sizeof *size, 1, stdin) != 1)
        exit(2);
    uint8_t *data = malloc(*size ? *size : 1);
    if (!data || fread(data, 1, *size, stdin) != *size)
        exit(2);
    return data;
}

static void answer(const uint8_t *message, const struct question *question)
{
    size_t room = 4096;
    uint8_t *reply = malloc(room);
    size_t size = dns_begin(reply, message, question, 0);
    struct address address = dns_reverse(question->name);
    for (int i = 0; i < DNS_ADDRESSES; i++)
        size = dns_add(reply, size, room, TYPE_AAAA, address.bytes, 16);
    size = dns_add_name(reply, size, room, question->name);
    size = dns_end(reply, size, question);
    printf(" %zu %u", size, address.size);
    size = dns_cut(reply, question);
    printf(" %zu", size);
    free(reply);
}

static void judge_query(void)
{
    uint32_t size;
    uint8_t *message = next(&size);
    struct question question = {0};
    int rcode = dns_query(message, size, &question);
    printf("%d", rcode);
    if (!rcode) {
        printf(" %u %u %u %u ", question.type, question.end, question.labels, question.limit);
        for (const char *c = question.name; question.plain && *c; c++)
            printf("%02x", (unsigned char)*c);
        answer(message, &question);
    }
    putchar('\n');
    free(message);
}

static void judge_answer(void)
{
    uint32_t query_size, size;
    struct question question;
    uint8_t *query = next(&query_size), *message = next(&size);
    int good = !dns_query(query, query_size, &question);
    int status = good ? dns_answers(message, size, query, question.end) : -1;
    struct found found[4];
    printf("%d %u\n", status, status > 0 ? dns_addresses(message, size, &question, found, 4) : 0);
    free(query);
    free(message);
}

static void judge_zone(void)
{
    uint32_t size;
    uint8_t *records = next(&size);
    struct names names = {0};
    int status = names_build(&names, records, size);
    printf("%d", status);
    if (status < 0)
        free(records);
    else {
        unsigned found = 0, back = 0;
        for (uint32_t at = 0, i = 0; i < names.count; i++) {
            struct record record;
            unsigned length = records[at], count = records[at + 1 + length];
            found += (unsigned)names_find(&names, (char *)records + at + 1, length, &record);
            at += 2 + length;
            for (; count; count--) {
                struct address address = {.size = records[at]};
                memcpy(address.bytes, records + at + 1, records[at]);
                back += (unsigned)names_reverse(&names, &address, &record);
                at += 1u + records[at];
            }
        }
        printf(" %u %u %u", names.count, found, back);
    }
    putchar('\n');
    names_free(&names);
}

int main(void)
{
    int kind;
    while ((kind = getchar()) != EOF) {
        if (kind == 'q')
            judge_query();
        else if (kind == 'a')
            judge_answer();
        else
            judge_zone();
    }
    return 0;
}
