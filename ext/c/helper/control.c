/* The daemon's connection: one packet is one message of helper_protocol.py. At most one daemon at a
 * time; the newest counts. Its words are read as strictly as a stranger's. */

#include <stdlib.h>
#include <sys/time.h>

#include "helper.h"
#include "message.h"

static const struct bx_row rows[BXH_LIMIT] = {BXH_TABLE(BX_ROW)};
static const struct bx_protocol protocol = {rows, BXH_VERSION, BXH_LIMIT, BXH_REPLY,
                                            BX_MESSAGE_FDS};
_Static_assert(BXH_MAX_MESSAGE == BX_MESSAGE_ROOM, "as helper_protocol.py has it");
static struct source control = {.fd = -1}, listener = {.fd = -1};
static char build[BXH_MAX_ID];
static uid_t owner;

enum {
    ASKED_A_SECOND = 200,
    SEND_SECONDS = 5, /* for a daemon that does not read: then it is hung up on */
};

#define NUM(i) (packet->op.args[i].number)
#define STR(i) ((const char *)packet->op.args[i].data)
#define ARG(i) (&packet->op.args[i])

int control_connected(void)
{
    return control.fd >= 0;
}

/* ---- messages out */

static void put_string(struct bx_writer *out, const char *text)
{
    bx_put_string(out, text, BXH_MAX_ID);
}

static void finish(struct bx_writer *out, unsigned code, const int *fds, unsigned count)
{
    _Alignas(struct cmsghdr) char rights[CMSG_SPACE((BXH_MAX_INSIDE + 2) * sizeof(int))] = {0};
    struct iovec part = {out->data, out->used};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    bx_end(out, BXH_VERSION, code, rows[code].count);
    if (count) {
        message.msg_control = rights;
        message.msg_controllen = CMSG_SPACE(count * sizeof *fds);
        struct cmsghdr *first = CMSG_FIRSTHDR(&message);
        first->cmsg_level = SOL_SOCKET;
        first->cmsg_type = SCM_RIGHTS;
        first->cmsg_len = CMSG_LEN(count * sizeof *fds);
        memcpy(CMSG_DATA(first), fds, count * sizeof *fds);
    }
    if (control.fd >= 0 && sendmsg(control.fd, &message, MSG_NOSIGNAL) < 0)
        close_source(&control);
}

static void reply(uint64_t request, int error, const char *operation, const char *object)
{
    struct bx_writer out;
    bx_begin(&out);
    bx_put_number(&out, BXP_KIND_U64, request);
    bx_put_number(&out, BXP_KIND_I64, (uint64_t)(int64_t)error);
    put_string(&out, operation);
    put_string(&out, object);
    finish(&out, BXH_REPLY, NULL, 0);
}

static void present(unsigned kind, const char *id, const char *key, unsigned inside,
                    const int *fds, unsigned count)
{
    struct bx_writer out;
    bx_begin(&out);
    bx_put_number(&out, BXP_KIND_U64, kind);
    put_string(&out, id);
    put_string(&out, key);
    bx_put_number(&out, BXP_KIND_U64, inside);
    finish(&out, BXH_PRESENT, fds, count);
}

static void present_sandbox(struct sandbox *sandbox, int give)
{
    int fds[2 + BXH_MAX_INSIDE] = {sandbox->datagrams.fd, sandbox->listener.fd};
    memcpy(fds + 2, sandbox->inside, sandbox->inside_count * sizeof *fds);
    give = give && sandbox->datagrams.fd >= 0 && sandbox->listener.fd >= 0;
    present(BXH_KIND_SANDBOX, sandbox->id, "", sandbox->inside_datagrams, fds,
            give ? 2 + sandbox->inside_count : 0);
}

static void present_all(int give)
{
    struct bx_writer out;
    bx_begin(&out);
    for (struct zone *zone = zones; zone; zone = zone->next)
        if (zone->there)
            present(BXH_KIND_ZONE, zone->id, "", 0, NULL, 0);
    for (struct sandbox *sandbox = sandboxes; sandbox; sandbox = sandbox->next)
        present_sandbox(sandbox, give);
    for (struct port *port = ports; port; port = port->next)
        present(BXH_KIND_PORT, port->owner, port->key, 0, &port->source.fd, give ? 1 : 0);
    put_string(&out, build);
    finish(&out, BXH_READY, NULL, 0);
}

/* Never waits, for what a container asks must not: what the daemon does not take is lost, and so is
 * what comes too fast for it. */
void control_asked(const struct sandbox *sandbox, const char *name, int allowed)
{
    static int64_t second;
    static unsigned told;
    struct bx_writer out;
    bx_begin(&out);
    int64_t now = now_ms() / 1000;
    told = now == second ? told + 1 : 0;
    second = now;
    if (control.fd < 0 || told >= ASKED_A_SECOND)
        return;
    put_string(&out, sandbox->id);
    bx_put_bytes(&out, BXP_KIND_STR, name, strlen(name));
    bx_put_number(&out, BXP_KIND_U64, (uint64_t)allowed);
    bx_end(&out, BXH_VERSION, BXH_ASKED, rows[BXH_ASKED].count);
    send(control.fd, out.data, out.used, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* ---- messages in */

static int do_zone(struct bx_packet *packet)
{
    return zone_part(STR(1), STR(2), NUM(3) != 0, ARG(4)->data, ARG(4)->length);
}

/* u8 inside, u8 length of the address, u16 port, address: the place behind it, or NULL. */
static const uint8_t *read_upstream(const uint8_t *at, const uint8_t *end, struct upstream *out)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)&out->address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&out->address;
    memset(out, 0, sizeof *out);
    if (end - at < 4 || (at[1] != 4 && at[1] != 16) || end - at < 4 + at[1])
        return NULL;
    out->inside = at[0];
    if (at[1] == 4) {
        v4->sin_family = AF_INET;
        memcpy(&v4->sin_port, at + 2, 2);
        memcpy(&v4->sin_addr, at + 4, 4);
        out->size = sizeof *v4;
    } else {
        v6->sin6_family = AF_INET6;
        memcpy(&v6->sin6_port, at + 2, 2);
        memcpy(&v6->sin6_addr, at + 4, 16);
        out->size = sizeof *v6;
    }
    return at + 4 + at[1];
}

static uint8_t *copy_of(const struct bx_arg *arg)
{
    uint8_t *copy = malloc(arg->length + 1);
    if (copy)
        memcpy(copy, arg->data, arg->length);
    return copy;
}

static int do_view(struct bx_packet *packet)
{
    const char *ids[BXH_MAX_ZONES + 1];
    struct upstream upstreams[BXH_MAX_UPSTREAMS];
    unsigned count = 0;
    int zone_count = bx_list_fill(ARG(2), ids, BXH_MAX_ZONES + 1);
    const uint8_t *at = ARG(4)->data, *end = at + ARG(4)->length;
    if (zone_count < 0 || !*STR(1))
        return -EINVAL;
    while (at < end) {
        if (count == BXH_MAX_UPSTREAMS || !(at = read_upstream(at, end, &upstreams[count++])))
            return -EINVAL;
    }
    struct view view = {.zones = ids, .zone_count = (unsigned)zone_count,
                        .names_size = ARG(3)->length, .upstreams = upstreams,
                        .upstream_count = count, .flags = (unsigned)NUM(5),
                        .patterns_size = ARG(7)->length};
    view.names = copy_of(ARG(3));
    view.patterns = copy_of(ARG(7));
    if (view.names && view.patterns)
        return sandbox_view(STR(1), &view, packet->fds, packet->count, (unsigned)NUM(6));
    free(view.names);
    free(view.patterns);
    return -ENOMEM;
}

static int do_close(struct bx_packet *packet)
{
    struct sandbox *sandbox = sandbox_find(STR(1));
    if (sandbox)
        sandbox_close(sandbox);
    return 0;
}

static int fill_keys(struct bx_packet *packet, const char **keys)
{
    int count = bx_list_fill(ARG(2), keys, BX_MESSAGE_FDS + 1);
    if (count < 0 || ARG(1)->length >= BXH_MAX_ID)
        return -EINVAL;
    for (int i = 0; i < count; i++)
        if (strlen(keys[i]) >= BXH_MAX_ID)
            return -EINVAL;
    return count;
}

/* All or none. */
static int do_hold(struct bx_packet *packet)
{
    const char *keys[BX_MESSAGE_FDS + 1];
    int count = fill_keys(packet, keys), status = 0, done = 0;
    if (count < 0 || (unsigned)count != packet->count)
        return -EINVAL;
    for (int i = 0; i < count; i++)
        if (port_find(STR(1), keys[i]))
            return -EEXIST;
    while (done < count && !(status = port_hold(STR(1), keys[done], packet->fds[done])))
        packet->fds[done++] = -1;
    while (status < 0 && done--)
        port_close(port_find(STR(1), keys[done]));
    return status;
}

static int do_serve(struct bx_packet *packet)
{
    struct sockaddr_storage target = {0};
    struct sockaddr_in *v4 = (struct sockaddr_in *)&target;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&target;
    struct port *port = port_find(STR(1), STR(2));
    const uint8_t *data = ARG(3)->data;
    if (!port)
        return -ENOENT;
    switch (ARG(3)->length) {
    case 0:
        return port_serve(port, &target, 0);
    case 6:
        v4->sin_family = AF_INET;
        memcpy(&v4->sin_port, data, 2);
        memcpy(&v4->sin_addr, data + 2, 4);
        return port_serve(port, &target, sizeof *v4);
    case 18:
        v6->sin6_family = AF_INET6;
        memcpy(&v6->sin6_port, data, 2);
        memcpy(&v6->sin6_addr, data + 2, 16);
        return port_serve(port, &target, sizeof *v6);
    default:
        return -EINVAL;
    }
}

/* All or none. */
static int do_move(struct bx_packet *packet)
{
    const char *keys[BX_MESSAGE_FDS + 1];
    int count = fill_keys(packet, keys);
    if (count < 0 || ARG(3)->length >= BXH_MAX_ID)
        return -EINVAL;
    for (int i = 0; i < count; i++) {
        if (!port_find(STR(1), keys[i]))
            return -ENOENT;
        if (port_find(STR(3), keys[i]))
            return -EEXIST;
    }
    for (int i = 0; i < count; i++)
        memcpy(port_find(STR(1), keys[i])->owner, STR(3), strlen(STR(3)) + 1);
    return 0;
}

static int do_release(struct bx_packet *packet)
{
    const char *keys[BX_MESSAGE_FDS + 1];
    int count = fill_keys(packet, keys);
    struct port *next;
    if (count < 0)
        return count;
    for (struct port *port = ports; port; port = next) {
        int wanted = !count;
        next = port->next;
        for (int i = 0; i < count; i++)
            wanted |= !strcmp(keys[i], port->key);
        if (wanted && !strcmp(port->owner, STR(1)))
            port_close(port);
    }
    return 0;
}

static int do_count(void)
{
    struct bx_writer out;
    bx_begin(&out);
    bx_put_bytes(&out, BXP_KIND_BYTES, counters, sizeof counters);
    finish(&out, BXH_COUNTERS, NULL, 0);
    return 0;
}

/* From here on another helper serves; ours finishes what it has begun. */
static int do_give(void)
{
    present_all(1);
    for (struct sandbox *sandbox = sandboxes; sandbox; sandbox = sandbox->next)
        sandbox_let_go(sandbox);
    for (struct port *port = ports; port; port = port->next)
        unwatch(&port->source);
    close_source(&listener);
    leaving = 1;
    return 0;
}

static void dispatch(struct bx_packet *packet)
{
    int status;
    switch (packet->op.code) {
    case BXH_ZONE: status = do_zone(packet); break;
    case BXH_FORGET: status = zone_forget(STR(1)); break;
    case BXH_VIEW: status = do_view(packet); break;
    case BXH_CLOSE: status = do_close(packet); break;
    case BXH_HOLD: status = do_hold(packet); break;
    case BXH_SERVE: status = do_serve(packet); break;
    case BXH_RELEASE: status = do_release(packet); break;
    case BXH_MOVE: status = do_move(packet); break;
    case BXH_COUNT: status = do_count(); break;
    case BXH_BROKER: status = packet->count == 1 ? egress_use(&packet->fds[0]) : -EINVAL; break;
    default: status = do_give(); break;
    }
    const char *object = rows[packet->op.code].count > 1 ? STR(1) : "";
    reply(NUM(0), -status, rows[packet->op.code].name, object);
}

static void on_message(struct source *source, BX_UNUSED uint32_t events)
{
    struct bx_packet packet;
    int status = 1;
    for (int i = 0; i < 16 && status > 0 && source->fd >= 0; i++) {
        status = bx_receive(source->fd, &protocol, &packet);
        if (status > 0)
            dispatch(&packet);
        bx_packet_close(&packet);
    }
    if (status < 0)
        close_source(source);
}

static void on_daemon(struct source *source, BX_UNUSED uint32_t events)
{
    struct timeval patience = {.tv_sec = SEND_SECONDS};
    BX_FD fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0 && errno != EAGAIN) {
        watch_again(source, 0);
        loop_exhausted();
    }
    if (fd < 0 || !bx_peer_is(fd, owner))
        return;
    close_source(&control);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (watch(&control, fd, EPOLLIN, on_message) < 0) {
        control.event = NULL;
        control.fd = -1;
        return;
    }
    bx_take(&fd);
    present_all(0);
}

void control_resume(void)
{
    if (listener.event)
        watch_again(&listener, EPOLLIN);
}

/* Before it is confined: who connects is told by the kernel whose socket it is, and that we are. */
void control_begin(int fd, const char *name)
{
    owner = geteuid();
    listen(fd, SOMAXCONN);
    memcpy(build, name, strnlen(name, sizeof build - 1));
    watch(&listener, fd, EPOLLIN, on_daemon);
}
