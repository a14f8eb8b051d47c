/* Symbols (levels of hash arrays and low-rank factors) and the XOR bytes of lossless tensors.
 *
 * Both are sums of votes (_mixing_range.h) with the neighbours as contexts: the two elements
 * before, the element above where the data has rows, and the column. */

#ifndef MIXING_STREAMS_H
#define MIXING_STREAMS_H

#include "_mixing_range.h"

enum {
    Q_LENGTHS = 10,                /* classes of a neighbourhood: bit lengths 0..9 */
    LENGTHS = 33,                  /* bit lengths 0..32 */
    FLAG_CLASSES = 81,
    TREE = 256,                    /* nodes of a tree of up to 7 bits, by its depth */
    HEADS = 128,                   /* nodes of a tree of up to 7 leading bits */
};

typedef struct {
    uint16_t squash[SQUASH_SIZE];
    int32_t rates[SEEN_MOST + 1];
    Vote zero[VOTERS][FLAG_CLASSES];
    Vote sign[VOTERS][FLAG_CLASSES];
    Vote magnitude[VOTERS][Q_LENGTHS * TREE];
    int64_t left;
    int32_t width, column, largest, bits;
    int32_t before, before_that;
    int8_t *above;
} Symbols;

typedef struct {
    uint16_t squash[SQUASH_SIZE];
    int32_t rates[SEEN_MOST + 1];
    Vote zero[VOTERS][LENGTHS];
    Vote length[VOTERS][LENGTHS * 32];
    Vote head[VOTERS][LENGTHS * HEADS];
    Vote tail[VOTERS][LENGTHS * 4];
    int64_t left;
    int32_t width, column, itemsize;
    int32_t before, before_that, zeros, tail_before;
    uint8_t *above;                /* bit lengths of the row above */
} Bytes;

static ALWAYS_INLINE int32_t bit_length(uint32_t value)
{
    int32_t length = 0;
    while (value >> length) {
        length++;
        if (length == 32) {
            break;
        }
    }
    return length;
}

static ALWAYS_INLINE int32_t magnitude_of(int32_t level)
{
    return level < 0 ? -level : level;
}

static ALWAYS_INLINE int32_t sign_of(int32_t level)    /* 0, 1, 2 */
{
    return level == 0 ? 0 : level > 0 ? 1 : 2;
}

/* ---- symbols -------------------------------------------------------------------------- */

static void symbols_init(Symbols *s)
{
    memset(s, 0, sizeof *s);
    fill_squash(s->squash);
    fill_rates(s->rates, LEAST_STREAM);
}

static int symbols_begin(Symbols *s, int64_t size, int32_t width, int32_t largest)
{
    int8_t *above = realloc(s->above, (size_t)width + 1);
    if (above == NULL) {
        return -1;
    }
    s->above = memset(above, 0, (size_t)width + 1);
    s->left = size;
    s->width = width;
    s->column = s->before = s->before_that = 0;
    s->largest = largest;
    s->bits = 0;
    while ((1 << s->bits) < largest) {
        s->bits++;
    }
    return 0;
}

static ALWAYS_INLINE int code_one_of(Range *c, const int decoding, const uint16_t *squash_table,
                                     const int32_t *rates, Vote *tables, int32_t row_length,
                                     const int32_t *at, int bit)
{
    Vote *voters[VOTERS];
    for (int k = 0; k < VOTERS; k++) {
        voters[k] = tables + (size_t)k * (size_t)row_length + at[k];
    }
    return code_voted(c, decoding, squash_table, rates, voters, bit);
}

static ALWAYS_INLINE int32_t code_symbol(Symbols *s, Range *c, const int decoding, int32_t level)
{
    const int32_t above = s->above[s->column];     /* always 0 where there are no rows */
    const int32_t b = s->before, bb = s->before_that;
    const int32_t lb = bit_length((uint32_t)magnitude_of(b));
    const int32_t lbb = bit_length((uint32_t)magnitude_of(bb));
    const int32_t la = bit_length((uint32_t)magnitude_of(above));
    const int32_t sum = bit_length((uint32_t)(magnitude_of(b) + magnitude_of(bb)
                                              + 2 * magnitude_of(above)));
    const int32_t column = s->column < 63 ? s->column : 63;
    const int32_t zero_at[VOTERS] = {0, lb * 8 + lbb, la, column, sum};
    int non_zero = code_one_of(c, decoding, s->squash, s->rates, s->zero[0], FLAG_CLASSES,
                               zero_at, level != 0);
    int32_t result = 0;
    if (non_zero) {
        const int32_t sign_at[VOTERS] = {0, sign_of(b) * 3 + sign_of(bb), sign_of(above), column,
                                         sign_of(b) * 3 + sign_of(above)};
        int positive = code_one_of(c, decoding, s->squash, s->rates, s->sign[0], FLAG_CLASSES,
                                   sign_at, level > 0);
        const int32_t classes[VOTERS] = {0, lb, la, s->column < 9 ? s->column : 9, sum};
        int32_t node = 1, value = 0, wanted = magnitude_of(level) - 1;
        for (int32_t bit_at = s->bits - 1; bit_at >= 0; bit_at--) {
            int bit = 0;
            if ((value | 1 << bit_at) <= s->largest - 1) {
                int32_t nodes[VOTERS];
                for (int k = 0; k < VOTERS; k++) {
                    nodes[k] = classes[k] * TREE + (1 << s->bits) + node - 1;
                }
                bit = code_one_of(c, decoding, s->squash, s->rates, s->magnitude[0],
                                  Q_LENGTHS * TREE, nodes, wanted >> bit_at & 1);
            }
            node = 2 * node + bit;
            value |= bit << bit_at;
        }
        result = positive ? value + 1 : -(value + 1);
    }
    s->before_that = s->before;
    s->before = result;
    if (s->width) {
        s->above[s->column] = (int8_t)result;
        s->column = s->column + 1 == s->width ? 0 : s->column + 1;
    }
    return result;
}

/* ---- bytes ---------------------------------------------------------------------------- */

static void bytes_init(Bytes *s)
{
    memset(s, 0, sizeof *s);
    fill_squash(s->squash);
    fill_rates(s->rates, LEAST_STREAM);
}

static int bytes_begin(Bytes *s, int64_t elements, int32_t width, int32_t itemsize)
{
    uint8_t *above = realloc(s->above, (size_t)width + 1);
    if (above == NULL) {
        return -1;
    }
    s->above = memset(above, 0, (size_t)width + 1);
    s->left = elements;
    s->width = width;
    s->column = s->before = s->before_that = s->zeros = s->tail_before = 0;
    s->itemsize = itemsize;
    return 0;
}

/* One element: its bit length, its leading bits with contexts, then noise as it is. */
static ALWAYS_INLINE uint32_t code_element(Bytes *s, Range *c, const int decoding, uint32_t value)
{
    const int32_t above = s->above[s->column], b = s->before, bb = s->before_that;
    const int32_t coarse = b / 8 * 5 + above / 8;              /* 0..24 */
    const int32_t zero_at[VOTERS] = {0, b, above, s->zeros, (b == 0) * 10 + (bb == 0) * 5
                                                            + (above + 7) / 8};
    int32_t length = bit_length(value);
    int non_zero = code_one_of(c, decoding, s->squash, s->rates, s->zero[0], LENGTHS, zero_at,
                               length != 0);
    uint32_t result = 0;
    if (non_zero) {
        const int32_t classes[VOTERS] = {0, b, above, (b + bb) / 2, coarse};
        const int32_t bits = s->itemsize == 4 ? 5 : s->itemsize == 2 ? 4 : 3;
        int32_t node = 1, wanted = length - 1;
        for (int32_t bit_at = bits - 1; bit_at >= 0; bit_at--) {
            int32_t nodes[VOTERS];
            for (int k = 0; k < VOTERS; k++) {
                nodes[k] = classes[k] * 32 + node;
            }
            node = 2 * node + code_one_of(c, decoding, s->squash, s->rates, s->length[0],
                                          LENGTHS * 32, nodes, wanted >> bit_at & 1);
        }
        length = node - (1 << bits) + 1;
        const int32_t most_head = s->itemsize == 4 ? 3 : s->itemsize == 2 ? 4 : 7;
        const int32_t head = length - 1 < most_head ? length - 1 : most_head;
        const int32_t tail = length - 1 - head;
        const int32_t about[VOTERS] = {0, length, b, above, coarse};
        node = 1;
        for (int32_t bit_at = head - 1; bit_at >= 0; bit_at--) {
            int32_t nodes[VOTERS];
            for (int k = 0; k < VOTERS; k++) {
                nodes[k] = about[k] * HEADS + node;
            }
            node = 2 * node + code_one_of(c, decoding, s->squash, s->rates, s->head[0],
                                          LENGTHS * HEADS, nodes,
                                          (int)(value >> (tail + bit_at) & 1));
        }
        result = (uint32_t)node;
        /* Whole zero bytes at the end: values that were once narrower than they are stored. */
        int32_t empty = 0, noise = tail;
        const int32_t tail_about[VOTERS] = {0, length, b, s->tail_before, coarse};
        while (noise >= 8) {
            int32_t nodes[VOTERS];
            for (int k = 0; k < VOTERS; k++) {
                nodes[k] = tail_about[k] * 4 + empty;
            }
            if (!code_one_of(c, decoding, s->squash, s->rates, s->tail[0], LENGTHS * 4, nodes,
                             (value >> (8 * empty) & 255) == 0)) {
                break;
            }
            empty++;
            noise -= 8;
        }
        s->tail_before = empty;
        uint32_t rest = 0, from = value >> (8 * empty);
        while (noise > 0) {
            int32_t now = noise < 16 ? noise : 16;
            noise -= now;
            rest = rest << now | code_raw(c, decoding, now, from >> noise & ((1u << now) - 1));
        }
        result = result << tail | rest << (8 * empty);
    } else {
        length = 0;
    }
    s->before_that = b;
    s->before = length;
    s->zeros = (s->zeros << 1 | (length == 0)) & 31;
    if (s->width) {
        s->above[s->column] = (uint8_t)length;
        s->column = s->column + 1 == s->width ? 0 : s->column + 1;
    }
    return result;
}

#endif
