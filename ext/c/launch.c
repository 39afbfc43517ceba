/* Runs a launch program: the parent's part, the loop of the child, and the report between them. */

#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "child.h"

struct parent {
    uint64_t flags; /* CLONE_NEW* */
    int cgroup;     /* -1: none */
    int pid_namespace;
    const char *uid_map, *gid_map;
};

void bx_object(struct bx_child *child, const char *first, const char *second)
{
    snprintf(child->object, sizeof child->object, "%s%s%s", first, second ? ": " : "",
             second ? second : "");
}

int bx_slot(const struct bx_child *child, uint64_t slot)
{
    return slot < BXP_MAX_SLOTS && child->slots[slot] >= 0 ? child->slots[slot] : -EBADF;
}

int bx_root(struct bx_child *child)
{
    if (child->root < 0)
        child->root = bx_sys(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
    return child->root;
}

static int nothing(struct bx_child *child, const struct bx_op *op)
{
    (void)child, (void)op;
    return 0;
}

static int (*const operations[BXP_OP_LIMIT])(struct bx_child *, const struct bx_op *) = {
    [BXP_OP_NAMESPACES] = nothing,
    [BXP_OP_JOIN] = bx_op_join,
    [BXP_OP_UID_MAP] = nothing,
    [BXP_OP_GID_MAP] = nothing,
    [BXP_OP_CGROUP2] = nothing,
    [BXP_OP_CGROUP_TASKS] = bx_op_cgroup_tasks,
    [BXP_OP_UNSHARE] = bx_op_unshare,
    [BXP_OP_VISIT] = bx_op_visit,
    [BXP_OP_PARENT_DEATH] = bx_op_parent_death,
    [BXP_OP_SETSID] = bx_op_setsid,
    [BXP_OP_PROPAGATION] = bx_op_propagation,
    [BXP_OP_SOURCE] = bx_op_source,
    [BXP_OP_SOURCE_BENEATH] = bx_op_source_beneath,
    [BXP_OP_ROOT] = bx_op_root,
    [BXP_OP_BIND] = bx_op_bind,
    [BXP_OP_BIND_FD] = bx_op_bind_fd,
    [BXP_OP_MOUNT] = bx_op_mount,
    [BXP_OP_ATTR] = bx_op_attr,
    [BXP_OP_MKDIR] = bx_op_mkdir,
    [BXP_OP_MKNOD] = bx_op_mknod,
    [BXP_OP_SYMLINK] = bx_op_symlink,
    [BXP_OP_MASK] = bx_op_mask,
    [BXP_OP_READONLY] = bx_op_readonly,
    [BXP_OP_CONSOLE] = bx_op_console,
    [BXP_OP_STDIO] = bx_op_stdio,
    [BXP_OP_PIVOT] = bx_op_pivot,
    [BXP_OP_SYSCTL] = bx_op_sysctl,
    [BXP_OP_HOSTNAME] = bx_op_hostname,
    [BXP_OP_DOMAINNAME] = bx_op_domainname,
    [BXP_OP_LOOPBACK] = bx_op_loopback,
    [BXP_OP_RLIMIT] = bx_op_rlimit,
    [BXP_OP_OOM_SCORE_ADJ] = bx_op_oom_score_adj,
    [BXP_OP_KEYRING] = bx_op_keyring,
    [BXP_OP_UMASK] = bx_op_umask,
    [BXP_OP_PERSONALITY] = bx_op_personality,
    [BXP_OP_CWD] = bx_op_cwd,
    [BXP_OP_GROUPS] = bx_op_groups,
    [BXP_OP_GID] = bx_op_gid,
    [BXP_OP_UID] = bx_op_uid,
    [BXP_OP_BOUNDING] = bx_op_bounding,
    [BXP_OP_CAPABILITIES] = bx_op_capabilities,
    [BXP_OP_NO_NEW_PRIVILEGES] = bx_op_no_new_privileges,
    [BXP_OP_SECCOMP] = bx_op_seccomp,
    [BXP_OP_ENV] = bx_op_env,
    [BXP_OP_COMMAND] = bx_op_command,
    [BXP_OP_EXEC] = bx_op_exec,
};

static void name_object(struct bx_child *child, const struct bx_op *op)
{
    child->object[0] = 0;
    for (unsigned i = 0; i < op->count; i++)
        if (op->args[i].kind == BXP_KIND_STR) {
            bx_object(child, (const char *)op->args[i].data, NULL);
            return;
        }
}

static void send_failure(struct bx_child *child, uint32_t index, uint32_t code, int status)
{
    /* To who reads it, a payload that is not there is one that cannot be executed. */
    if (code == BXP_OP_COMMAND)
        code = BXP_OP_EXEC;
    struct bx_report report = {
        .kind = BX_FAILED, .index = index, .code = code, .error = -status};
    memcpy(report.object, child->object, sizeof report.object);
    /* A write and not a send: a filter is likelier to allow it. */
    if (write(child->report, &report, sizeof report) < 0)
        _exit(126);
}

/* A program that reached this was checked as a whole; only the kernel can refuse now. */
static void run(struct bx_child *child, const struct bx_launch *launch)
{
    struct bx_cursor cursor;
    struct bx_op op = {0};
    int status = bx_program_open(&cursor, launch->program, launch->size);
    while (!status && (status = bx_program_next(&cursor, &op)) > 0) {
        name_object(child, &op);
        if (launch->at) {
            memcpy(launch->at->object, child->object, sizeof launch->at->object);
            launch->at->code = op.code;
        }
        status = operations[op.code] ? operations[op.code](child, &op) : -ENOSYS;
        if (status > 0)
            status = 0;
    }
    send_failure(child, cursor.index, op.code, status);
}

/* The maps are there, or the parent gave up. */
static void wait_for_maps(int report)
{
    char byte;
    if (recv(report, &byte, 1, 0) != 1)
        _exit(125);
}

static _Noreturn void be_child(const struct bx_launch *launch, int report, int maps)
{
    static struct bx_child child;
    memset(&child, -1, offsetof(struct bx_child, propagated));
    child.umask = 022;
    child.report = report;
    child.pdeath = launch->death;
    child.rows = launch->rows;
    child.columns = launch->columns;
    memcpy(child.stdio, launch->stdio, sizeof child.stdio);
    memcpy(child.slots, launch->slots, launch->count * sizeof *launch->slots);
    if (maps)
        wait_for_maps(report);
    /* Not dumpable: nobody who shares the new PID namespace may look into this copy of the shim,
     * or reach its executable through /proc (CVE-2019-5736). */
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    prctl(PR_SET_PDEATHSIG, child.pdeath, 0, 0, 0);
    umask(0);
    run(&child, launch);
    _exit(125);
}

/* Reads the operations that say how the process is made. */
static int gather(const struct bx_launch *launch, struct parent *out, struct bx_report *failure)
{
    struct bx_cursor cursor;
    struct bx_op op = {0};
    *out = (struct parent){.cgroup = -1, .pid_namespace = -1};
    int status = bx_program_check(launch->program, launch->size, launch->count);
    if (status < 0)
        return status;
    bx_program_open(&cursor, launch->program, launch->size);
    while (bx_program_next(&cursor, &op) > 0 && bx_op_is_parents(op.code)) {
        int uses_slot = op.code == BXP_OP_JOIN || op.code == BXP_OP_CGROUP2;
        failure->index = cursor.index;
        failure->code = op.code;
        if (uses_slot && BX_NUM_OF(&op, 0) >= launch->count)
            return -EBADF;
        if (op.code == BXP_OP_NAMESPACES)
            out->flags |= BX_NUM_OF(&op, 0);
        if (op.code == BXP_OP_CGROUP2)
            out->cgroup = launch->slots[BX_NUM_OF(&op, 0)];
        if (op.code == BXP_OP_JOIN && BX_NUM_OF(&op, 1) & BXP_CLONE_NEWPID)
            out->pid_namespace = launch->slots[BX_NUM_OF(&op, 0)];
        if (op.code == BXP_OP_UID_MAP)
            out->uid_map = (const char *)op.args[0].data;
        if (op.code == BXP_OP_GID_MAP)
            out->gid_map = (const char *)op.args[0].data;
    }
    return 0;
}

static const uint64_t namespace_flags = BXP_CLONE_NEWTIME | BXP_CLONE_NEWNS |
                                        BXP_CLONE_NEWCGROUP | BXP_CLONE_NEWUTS |
                                        BXP_CLONE_NEWIPC | BXP_CLONE_NEWUSER | BXP_CLONE_NEWPID |
                                        BXP_CLONE_NEWNET;

static int clone_child(const struct parent *parent, int *pidfd)
{
    struct clone_args args = {
        .flags = parent->flags | CLONE_PIDFD | CLONE_CLEAR_SIGHAND |
                 (parent->cgroup >= 0 ? CLONE_INTO_CGROUP : 0),
        .pidfd = (uintptr_t)pidfd,
        .exit_signal = SIGCHLD,
        .cgroup = parent->cgroup >= 0 ? (uint64_t)parent->cgroup : 0,
    };
    if (parent->flags & ~namespace_flags)
        return -EINVAL;
    return bx_sys(syscall(SYS_clone3, &args, sizeof args));
}

/* A PID namespace is entered by the children of who joins it: joined, cloned, and left again. */
static int clone_into(const struct parent *parent, int *pidfd)
{
    if (parent->pid_namespace < 0)
        return clone_child(parent, pidfd);
    BX_FD own = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
    if (own < 0 || syscall(SYS_setns, parent->pid_namespace, BXP_CLONE_NEWPID) < 0)
        return -errno;
    /* The copy is visible inside at once, before it can say this of itself. */
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    int pid = clone_child(parent, pidfd);
    if (pid)
        prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    if (pid && syscall(SYS_setns, own, BXP_CLONE_NEWPID) < 0)
        abort(); /* every later launch would land in the wrong container */
    return pid;
}

static int write_map(pid_t pid, const char *name, const char *text)
{
    char path[64];
    if (!text)
        return 0;
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    BX_FD fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        return -errno;
    return 0;
}

static int write_maps(const struct parent *parent, pid_t pid, int report)
{
    int status = write_map(pid, "uid_map", parent->uid_map);
    if (!status)
        status = write_map(pid, "gid_map", parent->gid_map);
    if (!status && send(report, "", 1, MSG_NOSIGNAL) != 1)
        status = -errno;
    return status;
}

static int begin(const struct bx_launch *launch, struct bx_started *out, struct bx_report *failure)
{
    struct parent parent;
    int pair[2], status = gather(launch, &parent, failure);
    if (status < 0)
        return status;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    BX_FD mine = pair[0];
    BX_FD childs = pair[1];
    BX_FD pidfd = -1;
    int maps = parent.uid_map || parent.gid_map;
    int pid = clone_into(&parent, &pidfd);
    if (pid < 0)
        return pid;
    if (!pid)
        be_child(launch, childs, maps);
    if (maps && (status = write_maps(&parent, pid, mine)) < 0) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        return status;
    }
    *out = (struct bx_started){
        .pid = pid, .pidfd = bx_take(&pidfd), .report = bx_take(&mine)};
    return 0;
}

int bx_launch_begin(const struct bx_launch *launch, struct bx_started *out,
                    struct bx_report *failure)
{
    memset(failure, 0, sizeof *failure);
    int status = begin(launch, out, failure);
    failure->kind = BX_FAILED;
    failure->error = -status;
    return status;
}

int bx_launch_read(int report, struct bx_report *out, int *fd)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {.iov_base = out, .iov_len = sizeof *out};
    struct msghdr packet = {.msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = &control,
                            .msg_controllen = sizeof control};
    *fd = -1;
    ssize_t size = recvmsg(report, &packet, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (size <= 0)
        return size < 0 && errno != ECONNRESET ? -errno : 0;
    struct cmsghdr *head = CMSG_FIRSTHDR(&packet);
    if (head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS)
        memcpy(fd, CMSG_DATA(head), sizeof(int));
    out->object[sizeof out->object - 1] = 0;
    return size == sizeof *out ? 1 : -EPROTO;
}
