/* boxwood-broker: opens the packet filter for the addresses of names that a sandbox may reach, and
 * can do nothing else.
 *
 * It keeps one privilege (CAP_NET_ADMIN: nftables asks for it with every message) and one netlink
 * socket, and no system call that could open another. It parses nothing that a container or a DNS
 * server said: names and addresses come from the helper, and what does not fit the policy that the
 * daemon set is refused. Started with its listening control socket as descriptor 3, the netlink
 * socket as 4; its arguments are the name of its build and the table's. It outlives the daemon.
 */

#include <arpa/inet.h>
#include <linux/netlink.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "broker.h"
#include "message.h"

enum { LISTENER_FD = 3, NETLINK_FD = 4 };
enum { ON_LISTEN, ON_DAEMON, ON_HELPER, PLACES };

static const struct bx_row rows[BXE_LIMIT] = {BXE_TABLE(BX_ROW)};
static const struct bx_protocol protocol = {rows, BXE_VERSION, BXE_LIMIT, BXE_REPLY, 1};
_Static_assert(BXE_MAX_MESSAGE == BX_MESSAGE_ROOM, "as broker_protocol.py has it");
static struct policy *policies;
static int epoll, places[PLACES] = {-1, -1, -1};
static const char *build;

#define NUM(i) (packet->op.args[i].number)
#define STR(i) ((const char *)packet->op.args[i].data)
#define ARG(i) (&packet->op.args[i])

static struct policy *find(const char *id)
{
    struct policy *policy = policies;
    while (policy && strcmp(policy->id, id))
        policy = policy->next;
    return policy;
}

static void drop(const char *id)
{
    struct policy **place = &policies;
    while (*place && strcmp((*place)->id, id))
        place = &(*place)->next;
    struct policy *policy = *place;
    if (policy) {
        *place = policy->next;
        free(policy);
    }
}

static int do_keep(struct bx_packet *packet)
{
    static const char *ids[4096];
    int count = bx_list_fill(&packet->op.args[1], ids, sizeof ids / sizeof *ids);
    struct policy *next;
    for (struct policy *policy = policies; policy && count >= 0; policy = next) {
        int wanted = 0;
        next = policy->next;
        for (int i = 0; i < count && !wanted; i++)
            wanted = !strcmp(ids[i], policy->id);
        if (!wanted)
            drop(policy->id);
    }
    return count < 0 ? count : 0;
}

static void hang_up(int place)
{
    if (places[place] >= 0)
        epoll_ctl(epoll, EPOLL_CTL_DEL, places[place], NULL);
    bx_close(&places[place]);
}

static int use(int place, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)place};
    hang_up(place);
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        return -errno;
    places[place] = fd;
    return 0;
}

/* ---- messages */

static int read_sources(struct policy *policy, const struct bx_arg *arg)
{
    const uint8_t *at = arg->data, *end = at + arg->length;
    for (; at < end; at += 1 + *at) {
        if ((*at != 4 && *at != 16) || end - at < 1 + *at || policy->source_count == BXE_MAX_SOURCES)
            return -EINVAL;
        struct address *source = &policy->sources[policy->source_count++];
        source->size = *at;
        memcpy(source->bytes, at + 1, *at);
    }
    return 0;
}

static int read_rules(struct policy *policy, const struct bx_arg *arg)
{
    const uint8_t *at = arg->data, *end = at + arg->length;
    for (; at < end; at += 4 + at[3]) {
        if (end - at < 4 || end - at < 4 + at[3] || !at[3] || policy->rule_count == BXE_MAX_RULES)
            return -EINVAL;
        struct rule *rule = &policy->rules[policy->rule_count++];
        rule->protocol = at[0];
        memcpy(rule->port, at + 1, 2);
        memcpy(rule->pattern, at + 4, at[3]);
        rule->pattern[at[3]] = 0;
    }
    return 0;
}

static int do_policy(struct bx_packet *packet)
{
    struct policy *policy = calloc(1, sizeof *policy);
    if (!policy)
        return -ENOMEM;
    int status = ARG(1)->length >= BXE_MAX_ID || !*STR(1) ? -EINVAL : read_sources(policy, ARG(2));
    if (!status)
        status = read_rules(policy, ARG(3));
    if (status) {
        free(policy);
        return status;
    }
    memcpy(policy->id, STR(1), ARG(1)->length + 1);
    drop(policy->id);
    policy->next = policies;
    policies = policy;
    return 0;
}

/* An address that a name must not lead to: the sandbox itself, the link (where clouds keep the
 * machine's secrets), all at once. The host's own are closed by the filter's chain. */
static int is_special(const struct address *address)
{
    const uint8_t *b = address->bytes;
    static const uint8_t zero[15], mapped[12] = {[10] = 255, [11] = 255};
    if (address->size == 4)
        return !b[0] || b[0] == 127 || b[0] >= 224 || (b[0] == 169 && b[1] == 254);
    if (!memcmp(b, zero, 15) || !memcmp(b, mapped, 12))
        return 1;
    return b[0] == 0xff || (b[0] == 0xfe && (b[1] & 0xc0) == 0x80);
}

static int open_address(const struct policy *policy, const char *name, const struct found *found)
{
    int status = -EPERM;
    for (unsigned r = 0; r < policy->rule_count; r++) {
        const struct rule *rule = &policy->rules[r];
        if (!dns_fits(name, rule->pattern))
            continue;
        status = 0;
        for (unsigned s = 0; s < policy->source_count && !status; s++)
            if (policy->sources[s].size == found->address.size)
                status = filter_open(&policy->sources[s], found, rule);
        if (status)
            break;
    }
    return status;
}

static int do_open(struct bx_packet *packet)
{
    const struct policy *policy = find(STR(1));
    const uint8_t *at = ARG(3)->data, *end = at + ARG(3)->length;
    int status = policy ? 0 : -ENOENT;
    for (unsigned i = 0; at < end && !status; at += 5 + *at, i++) {
        struct found found = {0};
        if ((*at != 4 && *at != 16) || end - at < 5 + *at || i == BXE_MAX_ADDRESSES)
            return -EINVAL;
        found.address.size = *at;
        memcpy(found.address.bytes, at + 1, *at);
        memcpy(&found.seconds, at + 1 + *at, 4);
        found.seconds = ntohl(found.seconds);
        if (!is_special(&found.address))
            status = open_address(policy, STR(2), &found);
    }
    return status;
}

static int do_helper(struct bx_packet *packet)
{
    return packet->count ? use(ON_HELPER, bx_take(&packet->fds[0])) : -EINVAL;
}

static void say(int place, struct bx_writer *out, unsigned code)
{
    bx_end(out, BXE_VERSION, code, rows[code].count);
    if (send(places[place], out->data, out->used, MSG_NOSIGNAL) < 0)
        hang_up(place);
}

static void reply(int place, uint64_t request, int error)
{
    struct bx_writer out;
    bx_begin(&out);
    bx_put_number(&out, BXP_KIND_U64, request);
    bx_put_number(&out, BXP_KIND_I64, (uint64_t)(int64_t)error);
    say(place, &out, BXE_REPLY);
}

static void say_ready(void)
{
    struct bx_writer out;
    bx_begin(&out);
    bx_put_string(&out, build, BXE_MAX_ID - 8);
    say(ON_DAEMON, &out, BXE_READY);
}

static void dispatch(int place, struct bx_packet *packet)
{
    int status = -EPERM;
    if (packet->op.code == BXE_OPEN)
        status = do_open(packet);
    else if (place == ON_DAEMON && packet->op.code == BXE_POLICY)
        status = do_policy(packet);
    else if (place == ON_DAEMON && packet->op.code == BXE_KEEP)
        status = do_keep(packet);
    else if (place == ON_DAEMON && packet->op.code == BXE_HELPER)
        status = do_helper(packet);
    else if (place == ON_DAEMON && packet->op.code == BXE_CLOSE) {
        drop(STR(1));
        status = 0;
    }
    reply(place, NUM(0), -status);
}

/* One message; who breaks the protocol is hung up on. */
static void receive(int place)
{
    struct bx_packet packet;
    int status = bx_receive(places[place], &protocol, &packet);
    if (status > 0)
        dispatch(place, &packet);
    else if (status < 0)
        hang_up(place);
    bx_packet_close(&packet);
}

static uid_t owner;

static void on_daemon(void)
{
    struct timeval patience = {.tv_sec = 5};
    BX_FD fd = accept4(LISTENER_FD, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0 || !bx_peer_is(fd, owner))
        return;
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (!use(ON_DAEMON, fd)) {
        bx_take(&fd);
        say_ready();
    }
}

/* Without a policy and without a daemon there is nothing to be there for. */
static int is_over(int begun)
{
    return begun && places[ON_DAEMON] < 0 && !policies;
}

int main(int argc, char **argv)
{
    struct epoll_event event;
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    const int ignored[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGUSR1, SIGUSR2};
    int begun = 0, count = 0;
    if (argc < 3 || fcntl(LISTENER_FD, F_SETFD, FD_CLOEXEC) < 0) {
        fputs("boxwood-broker: started by the engine, not by hand\n", stderr);
        return 2;
    }
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
        sigaction(ignored[i], &ignore, NULL);
    prctl(PR_SET_NAME, "boxwood-broker");
    build = argv[1];
    owner = geteuid();
    epoll = epoll_create1(EPOLL_CLOEXEC);
    listen(LISTENER_FD, 16); /* so that who connects is told that it is ours */
    if (epoll < 0 || use(ON_LISTEN, LISTENER_FD) < 0 || filter_begin(NETLINK_FD, argv[2]) < 0 ||
        broker_confine() < 0)
        return 1;
    while (!is_over(begun)) {
        count = epoll_wait(epoll, &event, 1, begun || count < 0 ? -1 : 10000);
        if (!count && !begun)
            return 0; /* nobody came */
        if (count <= 0)
            continue;
        if (event.data.u32 == ON_LISTEN) {
            on_daemon();
            begun = 1;
        } else
            receive((int)event.data.u32);
    }
    return 0;
}
