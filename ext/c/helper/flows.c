/* Datagrams that the kernel cannot lead: for each sender a socket towards the target, until it has
 * been silent for a while. An answer leaves from the address that was written to. */

#include <stdlib.h>

#include "helper.h"

enum { DATAGRAM = 65535, CONTROL = 64 };

union ends {
    struct in_pktinfo v4;
    struct in6_pktinfo v6;
};

struct flow {
    struct source source;
    struct due due;
    struct port *port;
    struct flow *before, *next;
    struct sockaddr_storage sender;
    socklen_t sender_size;
    union ends host; /* our address that it writes to */
};

unsigned all_flows;

static uint8_t data[DATAGRAM + 1];

static void flow_close(struct flow *flow)
{
    struct port *port = flow->port;
    if (flow->before)
        flow->before->next = flow->next;
    else
        port->flows = flow->next;
    if (flow->next)
        flow->next->before = flow->before;
    due_clear(&flow->due);
    close_source(&flow->source);
    port->flow_count--;
    all_flows--;
    counters[COUNT_FLOWS_NOW]--;
    free_later(flow);
}

void flows_close(struct port *port)
{
    while (port->flows)
        flow_close(port->flows);
}

static void silent(struct due *due)
{
    flow_close(OWNER(due, flow, due));
}

static void answer(struct flow *flow, size_t size)
{
    _Alignas(struct cmsghdr) char control[CONTROL] = {0};
    struct iovec part = {data, size};
    struct msghdr message = {.msg_name = &flow->sender,
                             .msg_namelen = flow->sender_size,
                             .msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control};
    int v4 = flow->sender.ss_family == AF_INET;
    size_t length = v4 ? sizeof flow->host.v4 : sizeof flow->host.v6;
    message.msg_controllen = CMSG_SPACE(length);
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = v4 ? IPPROTO_IP : IPPROTO_IPV6;
    head->cmsg_type = v4 ? IP_PKTINFO : IPV6_PKTINFO;
    head->cmsg_len = CMSG_LEN(length);
    memcpy(CMSG_DATA(head), &flow->host, length);
    sendmsg(flow->port->source.fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* What the target says. An error (nobody listens) is the sender's to find out by silence. */
static void event(struct source *source, BX_UNUSED uint32_t events)
{
    struct flow *flow = OWNER(source, flow, source);
    for (int i = 0; i < BATCH; i++) {
        ssize_t size = recv(source->fd, data, DATAGRAM, MSG_DONTWAIT);
        if (size < 0)
            return;
        answer(flow, (size_t)size);
        due_set(&flow->due, LANE_FLOW, silent);
    }
}

static int same(const struct flow *flow, const struct sockaddr_storage *sender, socklen_t size,
                const union ends *host)
{
    if (flow->sender_size != size || memcmp(&flow->sender, sender, size))
        return 0;
    return sender->ss_family == AF_INET
               ? flow->host.v4.ipi_spec_dst.s_addr == host->v4.ipi_spec_dst.s_addr
               : !memcmp(&flow->host.v6.ipi6_addr, &host->v6.ipi6_addr, 16);
}

/* The one that was quiet longest leaves when there are too many: it is the last of the list, for
 * one that is used goes to the front. */
static void make_room(struct port *port)
{
    struct flow *last = port->flows;
    while (port->flow_count >= FLOWS && last->next)
        last = last->next;
    if (port->flow_count >= FLOWS)
        flow_close(last);
}

static struct flow *flow_new(struct port *port)
{
    struct flow *flow = calloc(1, sizeof *flow);
    if (!flow)
        return NULL;
    int fd = socket(port->target.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&port->target, port->target_size) < 0 ||
        watch(&flow->source, fd, EPOLLIN, event) < 0) {
        bx_close(&fd);
        free(flow);
        return NULL;
    }
    flow->port = port;
    port->flow_count++;
    all_flows++;
    counters[COUNT_FLOWS_NOW]++;
    return flow;
}

static void to_front(struct port *port, struct flow *flow)
{
    if (port->flows == flow)
        return;
    if (flow->before)
        flow->before->next = flow->next;
    if (flow->next)
        flow->next->before = flow->before;
    flow->before = NULL;
    flow->next = port->flows;
    if (flow->next)
        flow->next->before = flow;
    port->flows = flow;
}

static struct flow *flow_of(struct port *port, const struct sockaddr_storage *sender,
                            socklen_t size, const union ends *host)
{
    struct flow *flow = port->flows;
    while (flow && !same(flow, sender, size, host))
        flow = flow->next;
    if (!flow) {
        make_room(port);
        flow = flow_new(port);
        if (!flow)
            return NULL;
        flow->sender = *sender;
        flow->sender_size = size;
        flow->host = *host;
    }
    to_front(port, flow);
    due_set(&flow->due, LANE_FLOW, silent);
    return flow;
}

static void read_host(struct msghdr *message, union ends *host)
{
    for (struct cmsghdr *head = CMSG_FIRSTHDR(message); head; head = CMSG_NXTHDR(message, head)) {
        if (head->cmsg_level == IPPROTO_IP && head->cmsg_type == IP_PKTINFO) {
            memcpy(&host->v4, CMSG_DATA(head), sizeof host->v4);
            host->v4.ipi_ifindex = 0; /* the route says where to */
        } else if (head->cmsg_level == IPPROTO_IPV6 && head->cmsg_type == IPV6_PKTINFO) {
            memcpy(&host->v6, CMSG_DATA(head), sizeof host->v6);
            if (!IN6_IS_ADDR_LINKLOCAL(&host->v6.ipi6_addr))
                host->v6.ipi6_ifindex = 0;
        }
    }
}

void flow_receive(struct source *source, BX_UNUSED uint32_t events)
{
    struct port *port = OWNER(source, port, source);
    for (int i = 0; i < BATCH; i++) {
        _Alignas(struct cmsghdr) char control[CONTROL];
        struct sockaddr_storage sender = {0};
        union ends host = {0};
        struct iovec part = {data, DATAGRAM};
        struct msghdr message = {.msg_name = &sender,
                                 .msg_namelen = sizeof sender,
                                 .msg_iov = &part,
                                 .msg_iovlen = 1,
                                 .msg_control = control,
                                 .msg_controllen = sizeof control};
        ssize_t size = recvmsg(source->fd, &message, MSG_DONTWAIT);
        if (size < 0)
            return;
        read_host(&message, &host);
        struct flow *flow = port->target_size
                                ? flow_of(port, &sender, message.msg_namelen, &host)
                                : NULL;
        if (flow) {
            counters[COUNT_DATAGRAMS]++;
            send(flow->source.fd, data, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL);
        }
    }
}
