/* The egress broker: see broker.c. filter.c writes the set elements, confine.c shuts the rest. */
#pragma once

#include <stdint.h>

#include "broker_messages.h"
#include "helper/dns.h"
#include "launch.h"
#include "util.h"

struct rule {
    uint8_t protocol; /* 0: any */
    uint8_t port[2];  /* network order; 0: any */
    char pattern[DNS_NAME];
};

struct policy {
    struct policy *next;
    char id[BXE_MAX_ID];
    struct address sources[BXE_MAX_SOURCES];
    unsigned source_count, rule_count;
    struct rule rules[BXE_MAX_RULES];
};

/* Takes the netlink socket; `table` outlives all. 0 or -errno. */
int filter_begin(int fd, const char *table);
/* Opens one destination for one source, in place of what is open there. 0 or -errno. */
int filter_open(const struct address *source, const struct found *found, const struct rule *rule);
int broker_confine(void);
