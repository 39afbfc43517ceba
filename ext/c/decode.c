/* Reading a launch program, as strictly as program.decode() in Python does, its oracle. */

#include <errno.h>
#include <string.h>

#include "launch.h"

static const struct bx_row table[BXP_OP_LIMIT] = {BXP_OP_TABLE(BX_ROW)};

const char *bx_op_name(unsigned code)
{
    return code < BXP_OP_LIMIT && table[code].name ? table[code].name : "program";
}

int bx_op_is_parents(unsigned code)
{
    return code < BXP_OP_LIMIT && table[code].parent;
}

static size_t padding(size_t size)
{
    return -size & 7;
}

/* `size` bytes off the front, or NULL. */
static const unsigned char *take(struct bx_cursor *in, size_t size)
{
    if ((size_t)(in->end - in->at) < size)
        return NULL;
    const unsigned char *piece = in->at;
    in->at += size;
    return piece;
}

/* `length` bytes, then at least `tail` zeros up to the alignment. */
static const unsigned char *take_padded(struct bx_cursor *in, size_t length, size_t tail)
{
    size_t rest = tail + padding(length + tail);
    const unsigned char *piece = take(in, length + rest);
    if (!piece)
        return NULL;
    for (size_t i = 0; i < rest; i++)
        if (piece[length + i])
            return NULL;
    return piece;
}

static int take_u32s(struct bx_cursor *in, uint32_t *first, uint32_t *second)
{
    const unsigned char *piece = take(in, 8);
    if (!piece)
        return -EPROTO;
    memcpy(first, piece, 4);
    memcpy(second, piece + 4, 4);
    return 0;
}

static const unsigned char *take_string(struct bx_cursor *in, uint32_t length)
{
    if (length > BXP_MAX_STRING)
        return NULL;
    const unsigned char *piece = take_padded(in, length, 1);
    return piece && !memchr(piece, 0, length) ? piece : NULL;
}

/* Walks a list; with `out` its strings are put there. The number of strings, or -EPROTO. */
static int walk_list(const unsigned char *data, uint32_t length, const char **out, size_t room)
{
    struct bx_cursor in = {.at = data, .end = data + length};
    uint32_t count, reserved;
    if (take_u32s(&in, &count, &reserved) < 0 || reserved || count > BXP_MAX_LIST)
        return -EPROTO;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t size;
        if (take_u32s(&in, &size, &reserved) < 0 || reserved)
            return -EPROTO;
        const unsigned char *text = take_string(&in, size);
        if (!text)
            return -EPROTO;
        if (out && i < room)
            out[i] = (const char *)text;
    }
    return in.at == in.end ? (int)count : -EPROTO;
}

int bx_list_count(const struct bx_arg *list)
{
    return walk_list(list->data, list->length, NULL, 0);
}

/* Fills `out` with pointers into the program and a final NULL. */
int bx_list_fill(const struct bx_arg *list, const char **out, size_t room)
{
    int count = bx_list_count(list);
    if (count < 0)
        return count;
    if ((size_t)count + 1 > room)
        return -E2BIG;
    walk_list(list->data, list->length, out, room);
    out[count] = NULL;
    return count;
}

static int take_number(struct bx_cursor *in, struct bx_arg *arg)
{
    const unsigned char *piece = arg->length == 8 ? take(in, 8) : NULL;
    if (!piece)
        return -EPROTO;
    memcpy(&arg->number, piece, 8);
    return arg->kind == BXP_KIND_SLOT && arg->number >= BXP_MAX_SLOTS ? -EPROTO : 0;
}

static int take_arg(struct bx_cursor *in, struct bx_arg *arg, unsigned kind)
{
    if (take_u32s(in, &arg->kind, &arg->length) < 0 || arg->kind != kind)
        return -EPROTO;
    switch (kind) {
    case BXP_KIND_STR:
        arg->data = take_string(in, arg->length);
        return arg->data ? 0 : -EPROTO;
    case BXP_KIND_BYTES:
    case BXP_KIND_LIST:
        arg->data = take_padded(in, arg->length, 0);
        if (!arg->data)
            return -EPROTO;
        return kind == BXP_KIND_LIST && bx_list_count(arg) < 0 ? -EPROTO : 0;
    default:
        return take_number(in, arg);
    }
}

int bx_program_open(struct bx_cursor *cursor, const void *program, size_t size)
{
    struct {
        uint32_t magic;
        uint16_t version, reserved;
        uint32_t count, size;
    } head;
    if (size < sizeof head || size > BXP_MAX_SIZE || (uintptr_t)program % 8)
        return -EPROTO;
    memcpy(&head, program, sizeof head);
    if (head.magic != BXP_MAGIC || head.version != BXP_VERSION || head.reserved ||
        head.size != size || head.count > BXP_MAX_OPS)
        return -EPROTO;
    cursor->at = (const unsigned char *)program + sizeof head;
    cursor->end = (const unsigned char *)program + size;
    cursor->left = head.count;
    cursor->index = (uint32_t)-1;
    return 0;
}

/* Takes one item off. */
int bx_item(struct bx_cursor *cursor, const struct bx_row *rows, unsigned limit, struct bx_op *op)
{
    struct {
        uint16_t code, count;
        uint32_t length;
    } head;
    const unsigned char *piece = take(cursor, sizeof head);
    if (!piece)
        return -EPROTO;
    memcpy(&head, piece, sizeof head);
    if (head.code >= limit || !rows[head.code].name || head.count != rows[head.code].count ||
        head.length > (size_t)(cursor->end - cursor->at))
        return -EPROTO;
    struct bx_cursor body = {.at = cursor->at, .end = cursor->at + head.length};
    memset(op, 0, sizeof *op);
    op->code = head.code;
    op->count = head.count;
    for (unsigned i = 0; i < head.count; i++)
        if (take_arg(&body, &op->args[i], rows[head.code].kinds[i]) < 0)
            return -EPROTO;
    if (body.at != body.end)
        return -EPROTO;
    cursor->at = body.end;
    return 0;
}

int bx_program_next(struct bx_cursor *cursor, struct bx_op *op)
{
    if (!cursor->left)
        return cursor->at == cursor->end ? 0 : -EPROTO;
    if (bx_item(cursor, table, BXP_OP_LIMIT, op) < 0)
        return -EPROTO;
    cursor->left--;
    cursor->index++;
    return 1;
}

/* Slots that nobody sent are found when they are used: `source` fills further ones. */
int bx_program_check(const void *program, size_t size, unsigned slots)
{
    struct bx_cursor cursor;
    struct bx_op op = {0};
    int childs = 0, status = bx_program_open(&cursor, program, size);
    if (status < 0 || slots > BXP_MAX_SLOTS)
        return -EPROTO;
    unsigned last = 0;
    while ((status = bx_program_next(&cursor, &op)) > 0) {
        int parents = bx_op_is_parents(op.code);
        if ((parents && childs) || last == BXP_OP_EXEC)
            return -EPROTO;
        childs |= !parents;
        last = op.code;
    }
    return status < 0 || last != BXP_OP_EXEC ? -EPROTO : 0;
}
