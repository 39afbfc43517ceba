#include "message.h"

#include <errno.h>
#include <sys/socket.h>

#include "util.h"

/* Strict, as a program is read: version, size, a message for us, nothing after it. */
static int parse(const struct bx_protocol *protocol, const unsigned char *data, size_t size,
                 struct bx_op *op)
{
    struct {
        uint16_t version, reserved;
        uint32_t size;
    } head;
    if (size < sizeof head)
        return -EPROTO;
    memcpy(&head, data, sizeof head);
    if (head.version != protocol->version || head.reserved || head.size != size)
        return -EPROTO;
    struct bx_cursor cursor = {.at = data + sizeof head, .end = data + size};
    if (bx_item(&cursor, protocol->rows, protocol->codes, op) < 0 || cursor.at != cursor.end)
        return -EPROTO;
    return op->code < protocol->replies ? 0 : -EPROTO;
}

static void take_fds(struct msghdr *message, struct bx_packet *packet)
{
    for (struct cmsghdr *head = CMSG_FIRSTHDR(message); head; head = CMSG_NXTHDR(message, head)) {
        if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        if (count > BX_MESSAGE_FDS - packet->count)
            count = BX_MESSAGE_FDS - packet->count;
        memcpy(packet->fds + packet->count, CMSG_DATA(head), count * sizeof(int));
        packet->count += (unsigned)count;
    }
}

int bx_receive(int fd, const struct bx_protocol *protocol, struct bx_packet *packet)
{
    static unsigned char data[BX_MESSAGE_ROOM + 8] __attribute__((aligned(8)));
    /* Room for all that the kernel passes: what did not fit in ours it would still have opened. */
    static char ancillary[CMSG_SPACE(BX_MESSAGE_FDS * sizeof(int))] __attribute__((aligned(8)));
    struct iovec part = {.iov_base = data, .iov_len = BX_MESSAGE_ROOM + 1};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = ancillary,
                             .msg_controllen = sizeof ancillary};
    packet->count = 0;
    packet->value = 0;
    ssize_t size = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (size <= 0)
        return -1;
    take_fds(&message, packet);
    if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC) || packet->count > protocol->fds)
        return -1;
    return parse(protocol, data, (size_t)size, &packet->op) < 0 ? -1 : 1;
}

void bx_packet_close(struct bx_packet *packet)
{
    for (unsigned i = 0; i < packet->count; i++)
        bx_close(&packet->fds[i]);
}

int bx_peer_is(int fd, uid_t owner)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
        return 0;
    return !peer.uid || peer.uid == owner;
}

void bx_put_string(struct bx_writer *out, const char *text, size_t limit)
{
    bx_put_bytes(out, BXP_KIND_STR, text, strnlen(text, limit));
}
