/* What the child's operations share. Each returns 0 or a negative errno; the first string
 * argument names the object of a failure unless the operation names another. */
#pragma once

#include "launch.h"
#include "util.h"

struct bx_child {
    int slots[BXP_MAX_SLOTS];
    int stdio[3];
    int report;       /* socket to whoever launched */
    int root;         /* of the container, O_PATH; -1: not yet known, then "/" */
    int proc;         /* private procfs, -1: not yet made */
    int masks;        /* an empty read-only tmpfs, -1: not yet made */
    int null;         /* the verified /dev/null of the container, -1: not yet opened */
    int propagated;   /* `propagation` was run */
    int pdeath;       /* signal, 0: none; armed again by command: a change of uid clears it */
    mode_t umask;
    unsigned short rows, columns;
    const char *path; /* what exec executes */
    char object[sizeof(((struct bx_report *)0)->object)];
};

/* An operation names the object that its failure is reported with. */
void bx_object(struct bx_child *child, const char *first, const char *second);
int bx_slot(const struct bx_child *child, uint64_t slot); /* a descriptor or -EBADF */
int bx_root(struct bx_child *child);                      /* a descriptor or negative errno */

/* paths.c: beneath the root. `no_links`: a symbolic link anywhere is ELOOP. */
enum { BX_DIRECTORY, BX_FILE };
struct bx_make {
    int kind, no_links;
    mode_t mode;
    uid_t uid;
    gid_t gid;
};
int bx_open_beneath(int root, const char *path, uint64_t flags, uint64_t resolve);
int bx_make_beneath(int root, const char *path, const struct bx_make *make, int *made);
int bx_open_parent(int root, const char *path, const char **name);

#define BX_OP(name)                                                                   \
    int bx_op_##name(BX_UNUSED struct bx_child *child, BX_UNUSED const struct bx_op *op)
#define BX_STR(i) ((const char *)op->args[i].data)
#define BX_NUM_OF(op, i) ((op)->args[i].number)
#define BX_NUM(i) BX_NUM_OF(op, i)

/* mounts.c */
BX_OP(propagation);
BX_OP(source);
BX_OP(source_beneath);
BX_OP(root);
BX_OP(bind);
BX_OP(bind_fd);
BX_OP(mount);
BX_OP(attr);
BX_OP(pivot);
/* nodes.c */
BX_OP(mkdir);
BX_OP(mknod);
BX_OP(symlink);
BX_OP(mask);
BX_OP(readonly);
int bx_null_of(struct bx_child *child); /* the verified /dev/null, O_PATH */
/* terminal.c */
BX_OP(console);
BX_OP(stdio);
/* kernel.c */
BX_OP(join);
BX_OP(cgroup_tasks);
BX_OP(visit);
BX_OP(unshare);
BX_OP(parent_death);
BX_OP(setsid);
BX_OP(sysctl);
BX_OP(hostname);
BX_OP(domainname);
BX_OP(loopback);
BX_OP(rlimit);
BX_OP(oom_score_adj);
BX_OP(keyring);
BX_OP(umask);
BX_OP(personality);
/* posture.c */
BX_OP(groups);
BX_OP(gid);
BX_OP(uid);
BX_OP(bounding);
BX_OP(capabilities);
BX_OP(no_new_privileges);
BX_OP(seccomp);
/* payload.c */
BX_OP(cwd);
BX_OP(env);
BX_OP(command);
BX_OP(exec);
