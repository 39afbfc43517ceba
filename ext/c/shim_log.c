/* The json-file log as Docker writes it: one JSON object per line of output, lines cut at 16 KiB
 * (the cut piece has no newline), rotated by size. Entries are collected and written once per
 * turn of the loop, so that a burst costs few writes and a single line is on disk at once. */

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "shim.h"

enum {
    LINE = 16 << 10,   /* Docker's copier: longer lines are partial entries */
    BUFFER = 24 << 10,
    FILES = 1000,
};

static struct {
    int fd;
    char *path;
    char *attributes; /* `"attrs":{...},` or empty */
    uint64_t max_size;
    unsigned max_files;
    uint64_t size;    /* of the file, with what is in the buffer */
    uint64_t written; /* up to here the file is whole entries */
    char buffer[BUFFER];
    size_t used;
    int cut;          /* the present entry could not be written: its rest is dropped */
    int torn;         /* the file ends in a piece of an entry: the next one begins a new line */
    struct {
        char text[LINE];
        size_t length;
    } lines[2];
} sink = {.fd = -1};

/* Takes over `fd`, which is closed when it will not do. */
static int adopt(int fd)
{
    struct stat st;
    if (fd < 0)
        return -errno;
    /* The mode is Docker's, whatever our umask. */
    if (fchmod(fd, 0640) < 0 || fstat(fd, &st) < 0) {
        int error = errno;
        bx_close(&fd);
        return -error;
    }
    bx_close(&sink.fd);
    sink.fd = fd;
    sink.size = sink.written = (uint64_t)st.st_size;
    return 0;
}

static int open_file(const char *path, int more)
{
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | more, 0640);
}

int log_open(const char *path, const struct bx_arg *attributes, uint64_t max_size,
             uint64_t max_files)
{
    size_t length = attributes->length;
    sink.path = strdup(path);
    sink.attributes = calloc(1, length + 16);
    if (!sink.path || !sink.attributes)
        return -ENOMEM;
    if (length)
        snprintf(sink.attributes, length + 16, "\"attrs\":%.*s,", (int)length,
                 (const char *)attributes->data);
    sink.max_size = max_size;
    sink.max_files = max_files > FILES ? FILES : (unsigned)max_files;
    return adopt(open_file(path, 0));
}

/* A disk that is full cuts an entry: the rest of the file must stay whole lines. What could not
 * be written is lost, and the container goes on. */
void log_flush(void)
{
    size_t done = 0;
    while (done < sink.used && sink.fd >= 0) {
        ssize_t count = write(sink.fd, sink.buffer + done, sink.used - done);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0) {
            if (ftruncate(sink.fd, (off_t)sink.written) < 0)
                sink.torn = 1;
            sink.size = sink.written;
            sink.cut = 1;
            break;
        }
        done += (size_t)count;
    }
    if (done == sink.used)
        sink.written = sink.size;
    sink.used = 0;
}

static void numbered(char out[PATH_MAX], unsigned number)
{
    int length = number ? snprintf(out, PATH_MAX, "%s.%u", sink.path, number)
                        : snprintf(out, PATH_MAX, "%s", sink.path);
    if (length < 0 || length >= PATH_MAX)
        out[0] = 0;
}

/* log.N-2 -> log.N-1, ..., log -> log.1; with one file it is emptied. The new file is there before
 * the old one moves: when the disk or the table of descriptors does not want to, the log grows on,
 * nothing is lost, and the next entry tries again. */
static void rotate(void)
{
    char from[PATH_MAX], to[PATH_MAX], fresh[PATH_MAX];
    log_flush();
    if (sink.max_files < 2) {
        if (!ftruncate(sink.fd, 0))
            sink.size = sink.written = 0;
        return;
    }
    int length = snprintf(fresh, sizeof fresh, "%s.new", sink.path);
    BX_FD fd = length < PATH_MAX ? open_file(fresh, O_TRUNC) : -1;
    if (fd < 0)
        return;
    for (unsigned number = sink.max_files - 1; number; number--) {
        numbered(from, number - 1);
        numbered(to, number);
        if (rename(from, to) < 0 && errno != ENOENT)
            break;
    }
    numbered(to, 0);
    /* Where the old file could not move away it stays the log. */
    if (!access(to, F_OK) || rename(fresh, to) < 0) {
        unlink(fresh);
        return;
    }
    adopt(bx_take(&fd));
}

static void put(const char *data, size_t size)
{
    while (size && !sink.cut) {
        size_t part = BUFFER - sink.used < size ? BUFFER - sink.used : size;
        memcpy(sink.buffer + sink.used, data, part);
        sink.used += part;
        sink.size += part;
        data += part;
        size -= part;
        if (sink.used == BUFFER) {
            /* Not an entry's end: an error now takes the whole entry back. */
            uint64_t whole = sink.written;
            log_flush();
            sink.written = whole < sink.written ? whole : sink.written;
        }
    }
}

static void put_text(const char *text)
{
    put(text, strlen(text));
}

/* Bytes of the valid UTF-8 sequence at `text` as Go reads it, 0: there is none. */
static size_t sequence(const unsigned char *text, size_t size)
{
    unsigned char first = text[0];
    size_t length = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3
                    : first < 0xf5 ? 4 : 0;
    if (!length || length > size)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    if ((first == 0xe0 && text[1] < 0xa0) || (first == 0xed && text[1] > 0x9f) ||
        (first == 0xf0 && text[1] < 0x90) || (first == 0xf4 && text[1] > 0x8f))
        return 0;
    return length;
}

static int is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&';
}

/* One character that cannot stand as it is; how many bytes of text it was. */
static size_t put_special(const unsigned char *text, size_t size)
{
    char escape[8];
    size_t length = sequence(text, size);
    if (!length) {
        put_text("\\ufffd");
        return 1;
    }
    if (length == 3 && text[0] == 0xe2 && text[1] == 0x80 && (text[2] & 0xfe) == 0xa8) {
        put_text(text[2] & 1 ? "\\u2029" : "\\u2028");
        return length;
    }
    if (length > 1) {
        put((const char *)text, length);
        return length;
    }
    if (text[0] == '"' || text[0] == '\\')
        snprintf(escape, sizeof escape, "\\%c", text[0]);
    else if (text[0] == '\n' || text[0] == '\r')
        snprintf(escape, sizeof escape, "\\%c", text[0] == '\n' ? 'n' : 'r');
    else
        snprintf(escape, sizeof escape, "\\u%04x", text[0]);
    put_text(escape);
    return 1;
}

static void put_json(const char *data, size_t size)
{
    const unsigned char *text = (const unsigned char *)data;
    while (size) {
        size_t plain = 0;
        while (plain < size && is_plain(text[plain]))
            plain++;
        put((const char *)text, plain);
        text += plain;
        size -= plain;
        if (!size)
            return;
        size_t special = put_special(text, size);
        text += special;
        size -= special;
    }
}

/* RFC 3339 with nanoseconds, no trailing zeros: Go's RFC3339Nano in UTC. */
static void put_time(void)
{
    struct timespec now;
    struct tm tm;
    char text[48], nanos[16];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    put_text(text);
    int length = snprintf(nanos, sizeof nanos, ".%09ld", now.tv_nsec);
    while (length && nanos[length - 1] == '0')
        length--;
    if (length && nanos[length - 1] == '.')
        length--;
    put(nanos, (size_t)length);
    put_text("Z");
}

static void put_entry(int stream, size_t length, int whole)
{
    if (sink.max_size && sink.size >= sink.max_size)
        rotate();
    sink.cut = 0;
    if (sink.torn)
        put_text("\n");
    sink.torn = 0;
    put_text("{\"log\":\"");
    put_json(sink.lines[stream].text, length);
    put_text(whole ? "\\n\",\"stream\":\"" : "\",\"stream\":\"");
    put_text(stream ? "stderr\"," : "stdout\",");
    put_text(sink.attributes);
    put_text("\"time\":\"");
    put_time();
    put_text("\"}\n");
    sink.lines[stream].length = 0;
    if (sink.used > BUFFER / 2)
        log_flush();
}

void log_write(int stream, const char *data, size_t size)
{
    if (sink.fd < 0)
        return;
    while (size) {
        size_t *length = &sink.lines[stream].length, room = LINE - *length;
        size_t part = size < room ? size : room;
        const char *newline = memchr(data, '\n', part);
        if (newline)
            part = (size_t)(newline - data);
        memcpy(sink.lines[stream].text + *length, data, part);
        *length += part;
        data += part + !!newline;
        size -= part + !!newline;
        if (newline || *length == LINE)
            put_entry(stream, *length, !!newline);
    }
}

size_t log_begun(int stream, const char **text)
{
    *text = sink.lines[stream].text;
    return sink.lines[stream].length;
}

/* What has no newline at the end of the output is an entry without one. */
void log_end(void)
{
    for (int stream = 0; stream < 2 && sink.fd >= 0; stream++)
        if (sink.lines[stream].length)
            put_entry(stream, sink.lines[stream].length, 0);
    log_flush();
}
