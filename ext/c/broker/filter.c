/* Elements of the table's sets: who may send where, for how long. Raw nfnetlink: one transaction
 * for each destination. */

#include <arpa/inet.h>
#include <endian.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "broker.h"

enum { FAMILY_INET = 1, WAIT_SECONDS = 5 };

struct batch {
    uint8_t data[2048] __attribute__((aligned(4)));
    size_t used;
};

static int netlink = -1;
static const char *table;

static size_t begin(struct batch *batch, unsigned type, unsigned flags, unsigned family,
                    unsigned resource)
{
    size_t at = batch->used;
    struct nlmsghdr head = {.nlmsg_type = (uint16_t)type,
                            .nlmsg_flags = (uint16_t)(flags | NLM_F_REQUEST), .nlmsg_seq = 1};
    struct nfgenmsg body = {.nfgen_family = (uint8_t)family, .res_id = htons((uint16_t)resource)};
    memcpy(batch->data + at, &head, sizeof head);
    memcpy(batch->data + at + sizeof head, &body, sizeof body);
    batch->used += sizeof head + sizeof body;
    return at;
}

static void end(struct batch *batch, size_t at)
{
    uint32_t length = (uint32_t)(batch->used - at);
    memcpy(batch->data + at, &length, sizeof length);
}

static size_t nest(struct batch *batch, unsigned type)
{
    size_t at = batch->used;
    struct nlattr head = {.nla_type = (uint16_t)(type | NLA_F_NESTED)};
    memcpy(batch->data + at, &head, sizeof head);
    batch->used += sizeof head;
    return at;
}

static void unnest(struct batch *batch, size_t at)
{
    uint16_t length = (uint16_t)(batch->used - at);
    memcpy(batch->data + at, &length, sizeof length);
}

static void put(struct batch *batch, unsigned type, const void *data, size_t size)
{
    struct nlattr head = {.nla_len = (uint16_t)(sizeof head + size), .nla_type = (uint16_t)type};
    memcpy(batch->data + batch->used, &head, sizeof head);
    memcpy(batch->data + batch->used + sizeof head, data, size);
    memset(batch->data + batch->used + sizeof head + size, 0, -size & 3);
    batch->used += sizeof head + size + (-size & 3);
}

/* One element of a set, to be added or removed. */
static void element(struct batch *batch, unsigned operation, unsigned flags, const char *set,
                    const void *key, size_t size, uint64_t milliseconds)
{
    unsigned type = NFNL_SUBSYS_NFTABLES << 8 | operation;
    size_t message = begin(batch, type, flags, FAMILY_INET, 0);
    put(batch, NFTA_SET_ELEM_LIST_TABLE, table, strlen(table) + 1);
    put(batch, NFTA_SET_ELEM_LIST_SET, set, strlen(set) + 1);
    size_t list = nest(batch, NFTA_SET_ELEM_LIST_ELEMENTS), one = nest(batch, NFTA_LIST_ELEM);
    size_t value = nest(batch, NFTA_SET_ELEM_KEY);
    put(batch, NFTA_DATA_VALUE, key, size);
    unnest(batch, value);
    if (milliseconds) {
        uint64_t timeout = htobe64(milliseconds);
        put(batch, NFTA_SET_ELEM_TIMEOUT, &timeout, sizeof timeout);
    }
    unnest(batch, one);
    unnest(batch, list);
    end(batch, message);
}

/* The first error, 0: the last change is acknowledged. */
static int commit(struct batch *batch)
{
    uint8_t answer[4096] __attribute__((aligned(4)));
    if (send(netlink, batch->data, batch->used, 0) < 0)
        return -errno;
    for (;;) {
        ssize_t size = recv(netlink, answer, sizeof answer, 0);
        if (size < 0 && errno == EINTR)
            continue;
        if (size < (ssize_t)(sizeof(struct nlmsghdr) + sizeof(int)))
            return size < 0 ? -errno : -EPROTO;
        struct nlmsghdr *head = (struct nlmsghdr *)answer;
        int status = head->nlmsg_type == NLMSG_ERROR ? *(int *)(head + 1) : -EPROTO;
        /* Of a batch that failed more may be said: it is read away before the next. */
        while (status && recv(netlink, answer, sizeof answer, MSG_DONTWAIT) > 0)
            ;
        return status;
    }
}

/* Kernels before 6.12 keep the old lifetime of what is added again: it is removed and added in one
 * transaction, so that no packet meets the gap. To be removed it must be there: added first. */
int filter_open(const struct address *source, const struct found *found, const struct rule *rule)
{
    static const struct rule any;
    int all = rule->protocol == any.protocol && !memcmp(rule->port, any.port, sizeof any.port);
    int v4 = source->size == 4;
    const char *set = all ? (v4 ? "hosts4" : "hosts6") : v4 ? "ports4" : "ports6";
    uint8_t key[40] = {0};
    size_t size = 2u * source->size;
    memcpy(key, source->bytes, source->size);
    memcpy(key + source->size, found->address.bytes, source->size);
    if (!all) {
        key[size] = rule->protocol;
        memcpy(key + size + 4, rule->port, 2);
        size += 8;
    }
    uint64_t seconds = found->seconds < BXE_TTL_MIN ? BXE_TTL_MIN
                       : found->seconds > BXE_TTL_MAX ? BXE_TTL_MAX : found->seconds;
    uint64_t lifetime = (seconds + BXE_GRACE) * 1000;
    struct batch batch = {.used = 0};
    end(&batch, begin(&batch, NFNL_MSG_BATCH_BEGIN, 0, 0, NFNL_SUBSYS_NFTABLES));
    element(&batch, NFT_MSG_NEWSETELEM, NLM_F_CREATE, set, key, size, lifetime);
    element(&batch, NFT_MSG_DELSETELEM, 0, set, key, size, 0);
    element(&batch, NFT_MSG_NEWSETELEM, NLM_F_CREATE | NLM_F_ACK, set, key, size, lifetime);
    end(&batch, begin(&batch, NFNL_MSG_BATCH_END, 0, 0, NFNL_SUBSYS_NFTABLES));
    return commit(&batch);
}

int filter_begin(int fd, const char *name)
{
    struct timeval patience = {.tv_sec = WAIT_SECONDS};
    if (strlen(name) > 200 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return -EINVAL;
    netlink = fd;
    table = name;
    return bx_sys(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience));
}
