/* Names that a policy opened are asked for again before their addresses are closed: a program that
 * asks once and keeps the address is not cut off as long as the name has it. */

#include <stdlib.h>

#include "broker_messages.h"
#include "helper.h"

#ifndef REFRESH_SECOND
#define REFRESH_SECOND 1000 /* ms; tests have shorter ones */
#endif

enum {
    REFRESHED = 64,        /* names of one sandbox, and types; the one that was asked for last wins */
    MESSAGE = 512,         /* bytes of a question */
    TRIES = 12,            /* turns, BXE_GRACE in all: then the address is closed */
    LONGEST = 24 * 60 * 60 /* seconds since the sandbox itself asked */
};

struct refresh {
    struct refresh *next;
    struct question question;
    int64_t at, asked; /* ms: when to ask again, and when the sandbox did */
    unsigned tries;
    size_t size;
    uint8_t message[MESSAGE];
};

static struct due turn;

static struct refresh *find(struct sandbox *sandbox, const struct question *question)
{
    struct refresh *one = sandbox->refreshes;
    while (one && (one->question.type != question->type ||
                   strcmp(one->question.name, question->name)))
        one = one->next;
    return one;
}

static void drop(struct sandbox *sandbox, struct refresh *gone)
{
    struct refresh **place = &sandbox->refreshes;
    while (*place != gone)
        place = &(*place)->next;
    *place = gone->next;
    free(gone);
}

void refresh_forget(struct sandbox *sandbox)
{
    while (sandbox->refreshes)
        drop(sandbox, sandbox->refreshes);
}

static void make_room(struct sandbox *sandbox)
{
    struct refresh *oldest = NULL;
    unsigned count = 0;
    for (struct refresh *one = sandbox->refreshes; one; one = one->next, count++)
        if (!oldest || one->asked < oldest->asked)
            oldest = one;
    if (count >= REFRESHED)
        drop(sandbox, oldest);
}

/* It may go on: the policy is not another one meanwhile, and the sandbox still a user of it. */
static int is_wanted(const struct sandbox *sandbox, const struct refresh *one, int64_t now)
{
    return sandbox->flags & BXH_VIEW_EGRESS && one->tries < TRIES &&
           now - one->asked < (int64_t)LONGEST * REFRESH_SECOND &&
           egress_allows(sandbox, one->question.name);
}

static void ask_again(struct due *due)
{
    int64_t now = now_ms();
    int any = 0;
    for (struct sandbox *sandbox = sandboxes; sandbox && !leaving; sandbox = sandbox->next) {
        struct asker nobody = {.sandbox = sandbox};
        struct refresh *next;
        for (struct refresh *one = sandbox->refreshes; one; one = next) {
            next = one->next;
            if (!is_wanted(sandbox, one, now)) {
                drop(sandbox, one);
                continue;
            }
            any = 1;
            if (one->at > now)
                continue;
            one->tries++;
            forward(&nobody, &one->question, one->message, one->size);
        }
    }
    if (any)
        due_set(due, LANE_REFRESH, ask_again);
}

void refresh_note(const struct asker *asker, const struct question *question,
                  const uint8_t *message, size_t size, uint32_t seconds)
{
    struct sandbox *sandbox = asker->sandbox;
    struct refresh *one = find(sandbox, question);
    int internal = asker_is_nobody(asker);
    if ((!one && internal) || size > MESSAGE)
        return;
    if (!one) {
        make_room(sandbox);
        one = calloc(1, sizeof *one);
        if (!one)
            return;
        one->next = sandbox->refreshes;
        sandbox->refreshes = one;
    }
    if (seconds < BXE_TTL_MIN)
        seconds = BXE_TTL_MIN;
    one->question = *question;
    one->size = size;
    memcpy(one->message, message, size);
    one->tries = 0;
    one->at = now_ms() + (int64_t)seconds * REFRESH_SECOND;
    if (!internal)
        one->asked = now_ms();
    if (!turn.after)
        due_set(&turn, LANE_REFRESH, ask_again);
}
