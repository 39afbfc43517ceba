/* The daemon's connection: one packet is one message of protocol.py. At most one daemon at a
 * time; the newest counts. A daemon that breaks the protocol is hung up on, never obeyed. */

#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "message.h"
#include "shim.h"

static const struct bx_row rows[BXM_LIMIT] = {BXM_TABLE(BX_ROW)};
static int control = -1, listener = -1, folder = -1;
static ino_t inode;

static const struct bx_protocol protocol = {rows, BXM_VERSION, BXM_LIMIT, BXM_REPLY,
                                            BX_MESSAGE_FDS};
_Static_assert(BXM_MAX_MESSAGE == BX_MESSAGE_ROOM, "as protocol.py has it");

int control_connected(void)
{
    return control >= 0;
}

static void hang_up(void)
{
    watched_close(&control);
}

void control_begin(int fd)
{
    hang_up();
    control = fd;
    watch(fd, ON_CONTROL, 0, 0, EPOLLIN, EPOLL_CTL_ADD);
}

/* Three of them fit a message with room to spare. */
static void put_string(struct bx_writer *out, const char *text)
{
    bx_put_string(out, text, 1024);
}

static void finish(struct bx_writer *out, unsigned code)
{
    bx_end(out, BXM_VERSION, code, rows[code].count);
    /* A daemon that does not read is hung up on: when it connects again it is told the state. */
    if (control >= 0 && send(control, out->data, out->used, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        hang_up();
}

void control_reply(uint64_t request, int error, const char *operation, const char *object,
                   uint64_t value)
{
    struct bx_writer out;
    bx_begin(&out);
    bx_put_number(&out, BXP_KIND_U64, request);
    bx_put_number(&out, BXP_KIND_I64, (uint64_t)(int64_t)error);
    put_string(&out, operation);
    put_string(&out, object);
    bx_put_number(&out, BXP_KIND_U64, value);
    finish(&out, BXM_REPLY);
}

void control_exited(struct task *task)
{
    struct bx_writer out;
    bx_begin(&out);
    put_string(&out, task->name);
    bx_put_number(&out, BXP_KIND_U64, (uint64_t)task->code);
    bx_put_number(&out, BXP_KIND_U64, (uint64_t)task->signal);
    bx_put_number(&out, BXP_KIND_U64, (uint64_t)task->finished);
    finish(&out, BXM_EXITED);
}

void control_detached(const struct task *task)
{
    struct bx_writer out;
    bx_begin(&out);
    put_string(&out, task->name);
    finish(&out, BXM_DETACHED);
}

static void tell_state(const struct task *task)
{
    struct bx_writer out;
    bx_begin(&out);
    put_string(&out, task->name);
    bx_put_number(&out, BXP_KIND_U64, (uint64_t)task->state);
    bx_put_number(&out, BXP_KIND_U64, (uint64_t)task->pid);
    bx_put_number(&out, BXP_KIND_U64, (uint64_t)task->code);
    bx_put_number(&out, BXP_KIND_U64, (uint64_t)task->signal);
    bx_put_number(&out, BXP_KIND_U64, (uint64_t)task->finished);
    finish(&out, BXM_STATE);
}

static void tell_all(void)
{
    struct bx_writer out;
    for (unsigned i = 0; i < BXM_MAX_TASKS; i++)
        if (shim.tasks[i])
            tell_state(shim.tasks[i]);
    bx_begin(&out);
    put_string(&out, shim.id);
    put_string(&out, shim.exit_path);
    finish(&out, BXM_READY);
}

void control_accept(void)
{
    BX_FD fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)) {
        /* Who waits is reported without end: not to be asked for before there may be room. */
        watch(listener, ON_LISTEN, 0, 0, 0, EPOLL_CTL_MOD);
        shim.listen_again = now_ms() + LISTEN_PAUSE;
    }
    if (fd < 0 || !bx_peer_is(fd, geteuid()))
        return;
    control_begin(bx_take(&fd));
    tell_all();
}

void control_step(void)
{
    if (!shim.listen_again || now_ms() < shim.listen_again)
        return;
    shim.listen_again = 0;
    watch(listener, ON_LISTEN, 0, 0, EPOLLIN, EPOLL_CTL_MOD);
}

/* Not the socket of the shim of a later start. */
void control_end(void)
{
    struct stat st;
    if (listener >= 0 && !fstatat(folder, "shim.sock", &st, AT_SYMLINK_NOFOLLOW) &&
        st.st_ino == inode)
        unlinkat(folder, "shim.sock", 0);
}

/* The path may be longer than a socket's address takes: through the directory's descriptor. */
void control_listen(const char *directory)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    folder = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (folder < 0 || listener < 0)
        return;
    unlinkat(folder, "shim.sock", 0);
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/shim.sock", folder);
    mode_t before = umask(0177);
    int status = bind(listener, (struct sockaddr *)&address, sizeof address);
    umask(before);
    struct stat st;
    if (status < 0 || listen(listener, 64) < 0 ||
        fstatat(folder, "shim.sock", &st, AT_SYMLINK_NOFOLLOW) < 0) {
        bx_close(&listener);
        return;
    }
    inode = st.st_ino;
    watch(listener, ON_LISTEN, 0, 0, EPOLLIN, EPOLL_CTL_ADD);
}

#define NUM(i) (packet->op.args[i].number)
#define STR(i) ((const char *)packet->op.args[i].data)

static int do_configure(struct bx_packet *packet)
{
    char parent[4096];
    const char *slash = strrchr(STR(3), '/');
    size_t length = slash ? (size_t)(slash - STR(3)) : 0;
    if (shim.configured || !slash || !length || length >= sizeof parent || !slash[1] ||
        strlen(slash + 1) >= sizeof shim.exit_name ||
        packet->op.args[3].length >= sizeof shim.exit_path || packet->op.args[1].length >= NAME_LIMIT)
        return -EINVAL;
    memcpy(parent, STR(3), length);
    parent[length] = 0;
    memcpy(shim.exit_name, slash + 1, strlen(slash + 1) + 1);
    memcpy(shim.exit_path, STR(3), packet->op.args[3].length + 1);
    memcpy(shim.id, STR(1), packet->op.args[1].length + 1);
    shim.directory = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (shim.directory < 0)
        return -errno;
    int status = *STR(4) ? log_open(STR(4), &packet->op.args[5], NUM(6), NUM(7)) : 0;
    if (status < 0)
        return status;
    shim.has_log = !!*STR(4);
    shim.durable = !!NUM(11);
    if (!task_new("", !!NUM(8), !!NUM(9), !!NUM(10)))
        return -ENOMEM;
    control_listen(STR(2));
    shim.configured = 1;
    return 0;
}

static int do_task(struct bx_packet *packet)
{
    if (!shim.configured || !*STR(1) || packet->op.args[1].length >= NAME_LIMIT)
        return -EINVAL;
    if (task_find(STR(1)))
        return -EEXIST;
    return task_new(STR(1), !!NUM(2), !!NUM(3), 1) ? 0 : -ENOMEM;
}

/* The log has every line that was finished by now; a held client gets the rest, that of a line
 * that is not finished first. Output and log are told apart by their times: entries are stamped
 * when they are written, all of it in this one thread. */
static int hold(struct bx_packet *packet, struct client *client)
{
    struct timespec now;
    const char *text;
    if (client_hold(client, packet->fds[1]) < 0) {
        int error = errno;
        client->hold = -1;
        client_drop(client);
        return -error;
    }
    packet->fds[1] = -1;
    for (int stream = 0; stream < 2 && !client->task->name[0] && shim.has_log; stream++) {
        unsigned flag = stream ? BXM_CLIENT_STDERR : BXM_CLIENT_STDOUT;
        size_t size = log_begun(stream, &text);
        if (size && client->flags & flag)
            client_put(client, stream, text, size);
        if (!is_open(client))
            return -ENOMEM;
    }
    log_flush();
    clock_gettime(CLOCK_REALTIME, &now);
    packet->value = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    return 0;
}

static int do_attach(struct bx_packet *packet, struct task *task)
{
    const struct bx_arg *preread = &packet->op.args[3], *keys = &packet->op.args[4];
    unsigned held = NUM(2) & BXM_CLIENT_HELD;
    if (packet->count != (held ? 2 : 1) || keys->length > KEYS_LIMIT || preread->length > BXM_MAX_PREREAD)
        return -EINVAL;
    struct client *client = client_new(packet->fds[0], task, (unsigned)NUM(2));
    if (!client)
        return -EUSERS;
    packet->fds[0] = -1;
    int status = held ? hold(packet, client) : 0;
    if (status < 0)
        return status;
    memcpy(client->keys, keys->data, keys->length);
    client->keys_count = keys->length;
    stream_preread(client, (const char *)preread->data, preread->length);
    if (task->over && client->fd >= 0)
        client_finish(client);
    return 0;
}

static int do_resize(struct bx_packet *packet, struct task *task)
{
    if (!task->tty || NUM(2) > UINT16_MAX || NUM(3) > UINT16_MAX)
        return -EINVAL;
    task->rows = (unsigned short)NUM(2);
    task->columns = (unsigned short)NUM(3);
    return task_resize(task);
}

static int do_signal(struct bx_packet *packet, struct task *task)
{
    return task_signal(task, (int)NUM(2));
}

static int do_finish(struct bx_packet *packet, struct task *task)
{
    const struct bx_arg *text = &packet->op.args[2];
    if (task->state == BXM_TASK_STARTING || task->state == BXM_TASK_RUNNING)
        return -EBUSY;
    for (unsigned i = 0; text->length && i < BXM_MAX_CLIENTS; i++)
        if (is_open(&shim.clients[i]) && shim.clients[i].task == task)
            client_put(&shim.clients[i], 1, (const char *)text->data, text->length);
    if (text->length)
        task_let_go(task);
    else
        task_drop_clients(task);
    if (task->name[0])
        task_free(task);
    return 0;
}

static int do_quit(void)
{
    for (unsigned i = 0; i < BXM_MAX_TASKS; i++) {
        struct task *task = shim.tasks[i];
        if (task && (task->state == BXM_TASK_STARTING || task->state == BXM_TASK_RUNNING))
            return -EBUSY;
    }
    for (unsigned i = 0; i < BXM_MAX_TASKS; i++)
        if (shim.tasks[i] && shim.tasks[i]->state == BXM_TASK_CREATED)
            task_drop_clients(shim.tasks[i]);
        else if (shim.tasks[i])
            task_let_go(shim.tasks[i]);
    shim.quitting = 1;
    return 0;
}

static void do_start(struct bx_packet *packet, struct task *task)
{
    if (!packet->count || task->state != BXM_TASK_CREATED || task->report >= 0)
        control_reply(NUM(0), packet->count ? EALREADY : EINVAL, "start", STR(1), 0);
    else
        task_start(task, NUM(0), packet->fds, packet->count);
}

static void do_acknowledge(struct task *task)
{
    if (task && task->told)
        task->acknowledge = 0;
}

/* Messages about one task; their second argument is its name. */
static int on_task(struct bx_packet *packet, struct task *task)
{
    switch (packet->op.code) {
    case BXM_ATTACH:
        return do_attach(packet, task);
    case BXM_RESIZE:
        return do_resize(packet, task);
    case BXM_SIGNAL:
        return do_signal(packet, task);
    default:
        return do_finish(packet, task);
    }
}

static void dispatch(struct bx_packet *packet)
{
    unsigned code = packet->op.code;
    int status;
    if (code == BXM_ACKNOWLEDGE) {
        do_acknowledge(task_find(STR(0)));
        return;
    }
    if (code == BXM_CONFIGURE)
        status = do_configure(packet);
    else if (code == BXM_TASK)
        status = do_task(packet);
    else if (code == BXM_QUIT)
        status = do_quit();
    else {
        struct task *task = task_find(STR(1));
        if (task && code == BXM_START) {
            do_start(packet, task);
            return;
        }
        status = task ? on_task(packet, task) : -ENOENT;
    }
    control_reply(NUM(0), -status, rows[code].name, "", packet->value);
}

void control_event(BX_UNUSED unsigned events)
{
    struct bx_packet packet;
    int status = 1;
    for (int i = 0; i < 16 && status > 0 && control >= 0; i++) {
        status = bx_receive(control, &protocol, &packet);
        if (status > 0)
            dispatch(&packet);
        bx_packet_close(&packet);
    }
    if (status < 0)
        hang_up();
}
