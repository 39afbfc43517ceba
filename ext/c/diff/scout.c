/* Looking through two trees with several threads, to know in which directories something has
 * changed: the walk that writes the changes is one thread's, in order, and skips all the others.
 *
 * A thread puts the directories that it meets in a short queue, and goes down itself when that is
 * full, so that few descriptors are open at a time and hardly ever one waits for another: waking a
 * thread costs as much as looking at ten files. The oldest is taken first, which has the most below
 * it. A directory of many files stands in the queue itself, so that others help with it. What a
 * scout cannot look at counts as changed: the walk comes by and says what is wrong. */
#include "../threads.h"
#include "internal.h"

#include <dirent.h>
#include <stdlib.h>

#define THREADS 8
#define WAITING 16 /* directories handed over and not taken yet */
#define MANY 128   /* files of a directory that are looked at by more than one */
#define PIECE 32   /* of them taken at a time */
#define FDS 512    /* descriptors at a time, but for very deep trees */
#define DIRECTORY (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK)

struct task {
    struct node *node;
    int new_fd, old_fd;
    bool copied;        /* new's names are those that were copied from old */
    struct files *help; /* NULL: a directory that nobody has looked at */
};

/* The files that both directories of a task have. */
struct files {
    struct task task; /* its descriptors are closed with the last holder */
    struct names names;
    size_t count, next; /* of names.list, which holds them first; the first that nobody has taken */
    unsigned holders;
};

/* A name of a file that has several. */
struct name {
    struct identity file;
    struct node *node; /* of its directory; NULL: it is new, so it becomes an entry anyway */
    bool changed;
};

struct team {
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct task tasks[WAITING]; /* a ring */
    unsigned first, waiting, idle, members;
    const struct walk *walk; /* the caller's */
    bool lost; /* no memory to remember a name */
    uint64_t compared;
    struct blob shared; /* of struct name */
};

struct member {
    struct team *team;
    struct walk *walk;
    struct blob shared;
    bool lost;
};

static void mark_changed(struct node *node) {
    for (; node && !__atomic_exchange_n(&node->changed, true, __ATOMIC_RELAXED);)
        node = node->parent;
}

static struct node *new_node(struct node *parent, const char *name) {
    size_t length = strlen(name) + 1;
    struct node *node = calloc(1, sizeof *node + length);
    if (!node)
        return NULL;
    memcpy(node->name, name, length);
    node->parent = parent;
    if (parent && parent->last)
        parent->last->next = node;
    else if (parent)
        parent->children = parent->cursor = node;
    if (parent)
        parent->last = node;
    return node;
}

static void free_nodes(struct node *node) {
    while (node) {
        struct node *next = node->next;
        free_nodes(node->children);
        free(node);
        node = next;
    }
}

static bool hand_over(struct team *team, struct task task) {
    if (team->members == 1)
        return false;
    pthread_mutex_lock(&team->lock);
    bool taken = team->waiting < WAITING;
    if (taken) {
        team->tasks[(team->first + team->waiting++) % WAITING] = task;
        if (team->idle)
            pthread_cond_signal(&team->more);
    }
    pthread_mutex_unlock(&team->lock);
    return taken;
}

static void look_through(struct member *member, struct task task);

static void remember(struct member *member, const struct stat *st, struct node *node,
                     bool changed) {
    struct name name = {{st->st_dev, st->st_ino}, node, changed};
    if (member->team->walk->listing || S_ISDIR(st->st_mode) || st->st_nlink < 2)
        return;
    if (reserve(member->walk, &member->shared, sizeof name) < 0) {
        member->lost = true;
        return;
    }
    memcpy(member->shared.data + member->shared.used, &name, sizeof name);
    member->shared.used += sizeof name;
}

/* What only new has: for the sake of files that have another name elsewhere. What cannot be looked
 * at is the walk's to complain of. */
static void gather(struct member *member, int dir_fd, const char *name) {
    struct stat st;
    struct names names;
    if (member->team->walk->listing || fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return;
    remember(member, &st, NULL, true);
    if (!S_ISDIR(st.st_mode) || member->walk->depth == LEVELS)
        return;
    BX_FD below = openat(dir_fd, name, DIRECTORY);
    if (below < 0 || read_names(member->walk, below, &names) < 0)
        return;
    member->walk->depth++;
    for (size_t i = 0; i < names.count; i++)
        gather(member, below, names.list[i]);
    member->walk->depth--;
    free_names(&names);
}

/* A directory of both; false: it has changed itself. Asked by its descriptor, what must be opened
 * anyway costs half of what it does by name. */
static bool go_down(struct member *member, struct task task, const char *name) {
    struct task below = {.node = new_node(task.node, name)};
    struct stat new, old;
    if (!below.node)
        return false;
    below.new_fd = openat(task.new_fd, name, DIRECTORY);
    below.old_fd = openat(task.old_fd, name, DIRECTORY);
    if (below.new_fd < 0 || below.old_fd < 0 || fstat(below.new_fd, &new) < 0 ||
        fstat(below.old_fd, &old) < 0) {
        mark_changed(below.node);
        bx_close(&below.new_fd);
        bx_close(&below.old_fd);
        return false;
    }
    below.copied = is_copied(member->walk, &new, old.st_ino);
    bool unchanged =
        below.copied || same(member->walk, below.new_fd, below.old_fd, ITSELF, &new, &old) > 0;
    if (!hand_over(member->team, below))
        look_through(member, below);
    return unchanged;
}

/* An entry that both have, and that is not a directory in both; false: it has changed. */
static bool is_same(struct member *member, struct task task, const char *name) {
    struct walk *walk = member->walk;
    struct stat new, old;
    if (fstatat(task.new_fd, name, &new, AT_SYMLINK_NOFOLLOW) < 0)
        return false;
    bool unchanged = task.copied && is_copied(walk, &new, (uint64_t)new.st_size);
    if (!unchanged && fstatat(task.old_fd, name, &old, AT_SYMLINK_NOFOLLOW) < 0)
        return false;
    if (S_ISDIR(new.st_mode))
        gather(member, task.new_fd, name);
    if (!unchanged)
        unchanged = same(walk, task.new_fd, task.old_fd, name, &new, &old) > 0;
    remember(member, &new, task.node, !unchanged);
    return unchanged;
}

/* Whether both names are directories'; where the file system does not say so, it is asked. */
static bool are_directories(struct task task, const char *new_name, const char *old_name) {
    unsigned char new = type_of(new_name), old = type_of(old_name);
    struct stat st, other;
    if (new != DT_UNKNOWN && old != DT_UNKNOWN)
        return new == DT_DIR && old == DT_DIR;
    return !fstatat(task.new_fd, new_name, &st, AT_SYMLINK_NOFOLLOW) && S_ISDIR(st.st_mode) &&
           !fstatat(task.old_fd, old_name, &other, AT_SYMLINK_NOFOLLOW) && S_ISDIR(other.st_mode);
}

static void close_task(struct task *task) {
    bx_close(&task->new_fd);
    bx_close(&task->old_fd);
}

static void let_go(struct files *files) {
    if (__atomic_sub_fetch(&files->holders, 1, __ATOMIC_ACQ_REL))
        return;
    close_task(&files->task);
    free_names(&files->names);
    free(files);
}

/* Looks at files until none is left, and lets go of them. */
static void look_at(struct member *member, struct files *files) {
    for (size_t at; (at = __atomic_fetch_add(&files->next, PIECE, __ATOMIC_RELAXED)) < files->count;)
        for (size_t i = at; i < files->count && i < at + PIECE; i++)
            if (!is_same(member, files->task, files->names.list[i]))
                mark_changed(files->task.node);
    let_go(files);
}

/* Hands over the task's descriptors and the names. */
static void look_at_all(struct member *member, struct task task, struct names *names,
                        size_t count) {
    struct files here = {.task = task, .names = *names, .count = count, .holders = 2};
    struct files *shared = count < MANY || member->team->members == 1 ? NULL : malloc(sizeof *shared);
    if (shared) {
        *shared = here;
        if (!hand_over(member->team, (struct task){.new_fd = -1, .old_fd = -1, .help = shared}))
            shared->holders = 1;
        look_at(member, shared);
        return;
    }
    for (size_t i = 0; i < count; i++)
        if (!is_same(member, task, names->list[i]))
            mark_changed(task.node);
    free_names(names);
    close_task(&task);
}

/* Closes the task's descriptors. Directories come first, in their order: others may take them. */
static void look_through(struct member *member, struct task task) {
    struct walk *walk = member->walk;
    struct names new, old = {.list = NULL};
    const struct names *theirs = task.copied ? &new : &old;
    bool changed = read_names(walk, task.new_fd, &new) < 0 ||
                   (!task.copied && read_names(walk, task.old_fd, &old) < 0);
    size_t files = 0;
    for (size_t i = 0, j = 0; !changed && (i < new.count || j < theirs->count);) {
        int order = i == new.count        ? 1
                    : j == theirs->count ? -1
                                         : strcmp(new.list[i], theirs->list[j]);
        if (order < 0)
            gather(member, task.new_fd, new.list[i]);
        if (order)
            mark_changed(task.node); /* go on: what is below is to be known too */
        else if (are_directories(task, new.list[i], theirs->list[j])) {
            if (walk->depth++ >= LEVELS || !go_down(member, task, new.list[i]))
                mark_changed(task.node);
            walk->depth--;
        } else
            new.list[files++] = new.list[i];
        walk->result->compared += !order;
        i += order <= 0;
        j += order >= 0;
    }
    if (changed)
        mark_changed(task.node);
    free_names(&old);
    look_at_all(member, task, &new, files);
}

/* The next task; false when all wait for one, so none will come. */
static bool take(struct team *team, struct task *task) {
    pthread_mutex_lock(&team->lock);
    team->idle++;
    if (team->idle == team->members && !team->waiting)
        pthread_cond_broadcast(&team->more);
    while (!team->waiting && team->idle < team->members)
        pthread_cond_wait(&team->more, &team->lock);
    bool found = team->waiting > 0;
    if (found) {
        *task = team->tasks[team->first];
        team->first = (team->first + 1) % WAITING;
        team->waiting--;
        team->idle--;
    } else
        pthread_cond_broadcast(&team->more);
    pthread_mutex_unlock(&team->lock);
    return found;
}

static void *work(void *argument) {
    struct team *team = argument;
    struct bw_diff_result result = {.what = ""};
    struct walk *walk = new_walk(&result);
    struct member member = {.team = team, .walk = walk};
    struct task task;
    if (walk) {
        walk->looks = team->walk->looks;
        walk->listing = team->walk->listing;
        walk->content = team->walk->content;
        walk->copied = team->walk->copied;
        walk->copied_count = team->walk->copied_count;
        walk->device = team->walk->device;
    }
    while (take(team, &task)) {
        if (walk && task.help)
            look_at(&member, task.help);
        else if (walk)
            look_through(&member, task);
        else if (task.help)
            let_go(task.help); /* who brought them looks at all */
        else {
            mark_changed(task.node);
            close_task(&task);
        }
    }
    if (walk)
        free_walk(walk);
    pthread_mutex_lock(&team->lock);
    team->compared += result.compared;
    team->lost |= member.lost;
    if (member.shared.used) {
        size_t size = team->shared.used + member.shared.used;
        unsigned char *grown = realloc(team->shared.data, size);
        if (grown) {
            memcpy(grown + team->shared.used, member.shared.data, member.shared.used);
            team->shared = (struct blob){.data = grown, .used = size, .room = size};
        }
        team->lost |= !grown;
    }
    pthread_mutex_unlock(&team->lock);
    free(member.shared.data);
    return NULL;
}

int by_identity(const void *one, const void *other) {
    const struct identity *a = one, *b = other;
    if (a->device != b->device)
        return a->device < b->device ? -1 : 1;
    return a->number < b->number ? -1 : a->number > b->number;
}

/* Which files have a changed name; their other names are to be come by. `names` begins with the
 * identity, so it can be sorted by that. */
static int settle(struct walk *walk, struct blob *shared) {
    struct name *names = (struct name *)shared->data;
    size_t count = shared->used / sizeof *names, kept = 0;
    qsort(names, count, sizeof *names, by_identity);
    walk->found.shared = calloc(count, sizeof *walk->found.shared);
    if (!walk->found.shared)
        return fail(walk, BW_DIFF_SYSTEM, ENOMEM, "remember links");
    for (size_t first = 0, end; first < count; first = end) {
        bool changed = false;
        for (end = first; end < count && !by_identity(&names[end], &names[first]); end++)
            changed |= names[end].changed;
        if (!changed)
            continue;
        walk->found.shared[kept++] = names[first].file;
        for (size_t i = first; i < end; i++)
            mark_changed(names[i].node);
    }
    walk->found.shared_count = kept;
    return 0;
}

void free_found(struct found *found) {
    free_nodes(found->root);
    free(found->shared);
    *found = (struct found){.root = NULL};
}

static unsigned processors(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) < 0)
        return 1;
    unsigned count = (unsigned)CPU_COUNT(&set);
    return count > THREADS ? THREADS : count;
}

int scout(struct walk *walk, int new_fd, int old_fd) {
    struct team team = {.lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER,
                        .walk = walk, .members = 1};
    pthread_t threads[THREADS];
    cpu_set_t allowed;
    unsigned started = 0, wanted = processors();
    struct task first = {.node = new_node(NULL, ""),
                         .new_fd = fcntl(new_fd, F_DUPFD_CLOEXEC, 3),
                         .old_fd = fcntl(old_fd, F_DUPFD_CLOEXEC, 3)};
    if (!first.node || first.new_fd < 0 || first.old_fd < 0) {
        int error = first.node ? errno : ENOMEM;
        bx_close(&first.new_fd);
        bx_close(&first.old_fd);
        free(first.node);
        return fail(walk, BW_DIFF_SYSTEM, error, "look through");
    }
    struct stat new, old;
    first.copied = !fstat(new_fd, &new) && !fstat(old_fd, &old) &&
                   is_copied(walk, &new, old.st_ino);
    walk->found.root = first.node;
    team.tasks[team.waiting++] = first;
    bx_room_for_fds(new_fd, FDS);
    bx_hold(&allowed);
    for (; started + 1 < wanted; started++) {
        pthread_mutex_lock(&team.lock);
        team.members++;
        pthread_mutex_unlock(&team.lock);
        if (!bx_thread(&threads[started], started + 1, &allowed, work, &team)) {
            pthread_mutex_lock(&team.lock);
            team.members--;
            pthread_mutex_unlock(&team.lock);
            break;
        }
    }
    work(&team);
    for (unsigned i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    bx_let_go(&allowed);
    walk->result->compared += team.compared;
    int status = team.lost ? fail(walk, BW_DIFF_SYSTEM, ENOMEM, "remember links") : 0;
    if (!status && team.shared.used)
        status = settle(walk, &team.shared);
    free(team.shared.data);
    return status;
}
