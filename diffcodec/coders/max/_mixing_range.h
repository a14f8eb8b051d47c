/* Binary range coder and the probabilities it is fed with: all integers, the same everywhere.
 *
 * Range coder: 64-bit interval [low, low + range), renormalised by 32 bits. A bit that is 1 with
 * probability p / 65536 takes the lower (range >> 16) * p of the interval. The stream is the
 * shortest byte string whose value, read as a fraction with zeros behind it, lies in the last
 * interval; so it never ends in a zero byte, and there is exactly one for given bits.
 *
 * Logits: natural log-odds, 65,536 = 1 nat. Right shifts of negative numbers round downwards
 * (arithmetic shift, as every compiler that CPython is built with does). */

#ifndef MIXING_RANGE_H
#define MIXING_RANGE_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "_mixing_tables.h"

#if defined(__GNUC__) || defined(__clang__)
#define ALWAYS_INLINE inline __attribute__((always_inline))
#define UNLIKELY(condition) __builtin_expect(!!(condition), 0)
#else
#define ALWAYS_INLINE inline
#define UNLIKELY(condition) (condition)
#endif

enum {
    ONE = 65536,          /* probability 1, and 1 nat of a logit */
    SQUASH_HALF = 11 * 128, /* entries of the full table on each side: 11 nats, 1/128 nat apart */
    SQUASH_SIZE = 2 * SQUASH_HALF,
    ANCHOR_STEPS = 16,    /* entries between two of the 89 constants, 1/8 nat apart */
};

/* ---- probabilities -------------------------------------------------------------------- */

static int64_t clamp64(int64_t value, int64_t limit)
{
    return value > limit ? limit : value < -limit ? -limit : value;
}

static ALWAYS_INLINE int32_t clamp32(int32_t value, int32_t limit)
{
    value = value > limit ? limit : value;
    return value < -limit ? -limit : value;
}

static ALWAYS_INLINE int32_t between(int32_t value, int32_t least, int32_t most)
{
    value = value > most ? most : value;
    return value < least ? least : value;
}

/* table[i] = 65536 / (1 + exp(-x)) at the middle of entry i, x = (i + 1/2 - 1408) / 128, by
 * straight lines between the constants; from 1 to 65535. */
static void fill_squash(uint16_t *table)
{
    for (int i = 0; i < SQUASH_HALF; i++) {
        int anchor = i / ANCHOR_STEPS, twice = 2 * (i % ANCHOR_STEPS) + 1;
        int a = SQUASH[anchor], b = SQUASH[anchor + 1];
        int small = (a * (2 * ANCHOR_STEPS - twice) + b * twice + ANCHOR_STEPS) / (2 * ANCHOR_STEPS);
        table[SQUASH_HALF - 1 - i] = (uint16_t)small;
        table[SQUASH_HALF + i] = (uint16_t)(ONE - small);
    }
}

static ALWAYS_INLINE uint32_t squash(const uint16_t *table, int32_t logit)
{
    return table[between((logit >> 9) + SQUASH_HALF, 0, SQUASH_SIZE - 1)];
}

/* The least logit whose probability reaches numerator / denominator. */
static int32_t stretch_ratio(const uint16_t *table, uint64_t numerator, uint64_t denominator)
{
    uint64_t wanted = (numerator << 16) / denominator;
    int low = 0, high = SQUASH_SIZE - 1;
    while (low < high) {
        int middle = (low + high) / 2;
        if (table[middle] < wanted) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return (low - SQUASH_HALF) * 512 + 256;
}

/* ---- range coder ---------------------------------------------------------------------- */

typedef struct {
    uint64_t range;
    uint64_t low;         /* encoding: start of the interval; decoding: value - start */
    uint64_t window;      /* decoding: the last 8 bytes read */
    uint8_t *out;         /* encoding: bytes so far, capacity checked by reserve() */
    size_t at, length;    /* encoding: bytes written, capacity; decoding: read, present */
    const uint8_t *in;    /* decoding: the window that the caller lent for this call */
    int is_primed;
} Range;

enum { WORST_DECISIONS = 10, WORST_BYTES = 2 * WORST_DECISIONS };

/* Room for so many bytes more; 0 on success, -1 without memory. */
static int reserve(Range *c, size_t bytes)
{
    if (c->length - c->at >= bytes) {
        return 0;
    }
    size_t length = c->length * 2 + bytes;
    uint8_t *out = realloc(c->out, length);
    if (out == NULL) {
        return -1;
    }
    c->out = out;
    c->length = length;
    return 0;
}

/* The number so far grows by one in its last place. It stays below 1, so the walk ends in time. */
static void carry(Range *c)
{
    size_t at = c->at;
    while (at > 0 && ++c->out[--at] == 0) {
    }
}

/* Four bytes of input; behind the end of the stream stand zeros. */
static ALWAYS_INLINE uint32_t next_word(Range *c)
{
    uint32_t word = 0;
    if (c->length - c->at >= 4) {
        const uint8_t *in = c->in + c->at;
        word = (uint32_t)in[0] << 24 | (uint32_t)in[1] << 16 | (uint32_t)in[2] << 8 | in[3];
        c->at += 4;
        return word;
    }
    for (int i = 0; i < 4; i++) {
        word = word << 8 | (c->at < c->length ? c->in[c->at++] : 0);
    }
    return word;
}

static void prime(Range *c)
{
    if (!c->is_primed) {
        c->window = (uint64_t)next_word(c) << 32;
        c->window |= next_word(c);
        c->low = c->window;
        c->is_primed = 1;
    }
}

static ALWAYS_INLINE void renormalise(Range *c, const int decoding)
{
    if (UNLIKELY(c->range >> 32 == 0)) {
        if (decoding) {
            uint32_t word = next_word(c);
            c->window = c->window << 32 | word;
            c->low = c->low << 32 | word;
        } else {
            uint32_t word = (uint32_t)(c->low >> 32);
            for (int i = 0; i < 4; i++) {
                c->out[c->at++] = (uint8_t)(word >> (24 - 8 * i));
            }
            c->low <<= 32;
        }
        c->range <<= 32;
    }
}

/* Code one bit, 1 with probability p / 65536, 1 <= p <= 65535. Decoding ignores `bit`. */
static ALWAYS_INLINE int code_bit(Range *c, const int decoding, uint32_t p, int bit)
{
    uint64_t bound = (c->range >> 16) * p;
    if (decoding) {
        bit = c->low < bound;
    }
    if (bit) {
        c->range = bound;
    } else {
        if (decoding) {
            c->low -= bound;
        } else {
            uint64_t low = c->low + bound;
            if (UNLIKELY(low < bound)) {
                carry(c);
            }
            c->low = low;
        }
        c->range -= bound;
    }
    renormalise(c, decoding);
    return bit;
}

/* The same for a bit that may well be either: no jump for the processor to guess wrong. */
static ALWAYS_INLINE int code_open_bit(Range *c, const int decoding, uint32_t p, int bit)
{
    if (!decoding) {
        return code_bit(c, decoding, p, bit);
    }
    const uint64_t bound = (c->range >> 16) * p;
    bit = c->low < bound;
    const uint64_t lower = (uint64_t)0 - (uint64_t)bit;      /* all ones for a 1 */
    c->low -= bound & ~lower;
    c->range = (bound & lower) | ((c->range - bound) & ~lower);
    renormalise(c, decoding);
    return bit;
}

/* Code a run of zeros and the 1 that ends it, element k being 1 with probability p[k] / 65536.
 * Returns the zeros before the 1; `length` if there is none. Encoding is told that number. The
 * same bits as code_bit gives, with the interval in registers. */
static ALWAYS_INLINE int32_t code_run(Range *c, const int decoding, const uint16_t *p,
                                      int32_t length, int32_t run)
{
    Range local = *c;
    int32_t k = 0;
    for (; k < length; k++) {
        if (UNLIKELY(code_bit(&local, decoding, p[k], k == run))) {
            break;
        }
    }
    *c = local;
    return k;
}

/* Code `bits` (0..16) bits of a number that nothing is known about. */
static ALWAYS_INLINE uint32_t code_raw(Range *c, const int decoding, int bits, uint32_t value)
{
    uint64_t part = c->range >> bits;
    if (decoding) {
        uint64_t found = c->low / part, most = ((uint64_t)1 << bits) - 1;
        value = (uint32_t)(found < most ? found : most);
        c->low -= part * value;
    } else {
        uint64_t low = c->low + part * value;
        if (UNLIKELY(low < c->low)) {
            carry(c);
        }
        c->low = low;
    }
    c->range = value + 1 == (uint32_t)1 << bits ? c->range - part * value : part;
    renormalise(c, decoding);
    return value;
}

/* The value with most trailing zero bytes in [low, low + range), modulo 2^64. */
static uint64_t shortest(uint64_t low, uint64_t range)
{
    for (int bytes = 0; bytes < 8; bytes++) {
        uint64_t mask = UINT64_MAX >> (8 * bytes);
        uint64_t value = (low + mask) & ~mask;
        if (value - low < range) {
            return value;
        }
    }
    return low;
}

static void finish_encoding(Range *c)
{
    uint64_t value = shortest(c->low, c->range);
    if (value < c->low) {
        carry(c);
    }
    for (int i = 0; i < 8; i++) {
        c->out[c->at++] = (uint8_t)(value >> (56 - 8 * i));
    }
    while (c->at > 0 && c->out[c->at - 1] == 0) {
        c->at--;
    }
}

/* Whether the bits read are the ones that finish_encoding would have written. */
static int is_canonical(const Range *c)
{
    return c->low < c->range && shortest(c->window - c->low, c->range) == c->window;
}

/* ---- votes: a logit that is the sum of what several contexts say ------------------------ */

typedef struct {
    int32_t logit;
    int32_t seen;
} Vote;

enum {
    VOTERS = 5,
    SEEN_MOST = 255,
    LEAST_SPARSE = 768,            /* a vote never moves by less than 3/64 of the error, */
    LEAST_STREAM = 96,             /* or 3/512 where the data changes less on its way */
    VOTE_LIMIT = 8 * ONE,
};

/* One bit whose logit is the sum of the voters'. All voters learn from the common error, by
 * 1.5 / (n + 1.5) of it after n bits: so they share what they explain instead of counting it
 * twice, and need no weights. */
static ALWAYS_INLINE int code_voted(Range *c, const int decoding, const uint16_t *table,
                                    const int32_t *rates, Vote *const *voters, int bit)
{
    int32_t logit = 0;
    for (int k = 0; k < VOTERS; k++) {
        logit += voters[k]->logit;
    }
    uint32_t p = squash(table, logit);
    bit = code_open_bit(c, decoding, p, bit);
    const int32_t error = bit * ONE - (int32_t)p;
    for (int k = 0; k < VOTERS; k++) {
        Vote *vote = voters[k];
        vote->logit = clamp32(vote->logit + (error * rates[vote->seen] >> 14), VOTE_LIMIT);
        vote->seen += vote->seen < SEEN_MOST;
    }
    return bit;
}

/* rates[n] = 1.5 / (n + 1.5), but at least that; 16384 = 1. */
static void fill_rates(int32_t *rates, int32_t least)
{
    for (int n = 0; n <= SEEN_MOST; n++) {
        int32_t rate = 3 * 16384 / (2 * n + 3);
        rates[n] = rate < least ? least : rate;
    }
}

#endif
