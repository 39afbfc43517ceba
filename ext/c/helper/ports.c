/* Sockets held on the host's ports. They come with a filter that drops everything, unseen: the
 * kernel leads their traffic before it gets here, and a sender whose packet slips through while
 * rules are being put back tries again. To serve one is to take the filter off; to put it on again
 * needs a privilege, so that one which is no longer served refuses what comes. */

#include <stdlib.h>

#include "helper.h"

struct port *ports;

struct port *port_find(const char *owner, const char *key)
{
    struct port *port = ports;
    while (port && (strcmp(port->owner, owner) || strcmp(port->key, key)))
        port = port->next;
    return port;
}

static int drop_nothing(int fd)
{
    int none = 0;
    return bx_sys(setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &none, sizeof none));
}

int port_hold(const char *owner, const char *key, int fd)
{
    struct port *port = calloc(1, sizeof *port);
    if (!port)
        return -ENOMEM;
    memcpy(port->owner, owner, strlen(owner) + 1);
    memcpy(port->key, key, strlen(key) + 1);
    port->datagrams = !!strncmp(key, "tcp/", 4);
    port->source.fd = fd;
    port->next = ports;
    ports = port;
    counters[COUNT_PORTS]++;
    return 0;
}

/* From which of the host's addresses an answer must come is told with each datagram. */
static void ask_for_addresses(int fd)
{
    int yes = 1;
    setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &yes, sizeof yes);
    setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &yes, sizeof yes);
}

int port_serve(struct port *port, const struct sockaddr_storage *target, socklen_t size)
{
    flows_close(port); /* they lead elsewhere; connections that are open stay as they are */
    counters[COUNT_SERVED] += (uint64_t)!!size - (uint64_t)!!port->target_size;
    port->target = *target;
    port->target_size = size;
    if (port->source.event || !size)
        return 0;
    if (port->datagrams)
        ask_for_addresses(port->source.fd);
    int status = watch(&port->source, port->source.fd, EPOLLIN,
                       port->datagrams ? flow_receive : pair_accept);
    if (!status)
        status = drop_nothing(port->source.fd);
    if (status < 0) {
        unwatch(&port->source);
        port->target_size = 0;
        counters[COUNT_SERVED]--;
        return status;
    }
    return 0;
}

void port_resume(struct port *port)
{
    if (port->source.event)
        watch_again(&port->source, EPOLLIN);
}

void port_close(struct port *port)
{
    struct port **place = &ports;
    while (*place != port)
        place = &(*place)->next;
    *place = port->next;
    flows_close(port);
    counters[COUNT_SERVED] -= (uint64_t)!!port->target_size;
    close_source(&port->source);
    counters[COUNT_PORTS]--;
    free_later(port);
}
