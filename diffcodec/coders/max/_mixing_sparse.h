/* Sparse tensors: which elements are not zero, their signs, their magnitudes. note.md derives it. */

#ifndef MIXING_SPARSE_H
#define MIXING_SPARSE_H

#include "_mixing_range.h"

enum {
    SEGMENT = 96,                  /* most elements that one "all zero" flag may cover */
    WIDTH_MOST = 65536,
    HISTORY_MOST = 1 << 23,        /* larger tensors do without their gates' history */
    GATE_CONTEXTS = 8,             /* which of three gates have a non-zero here */
    FACTORS = 4,                   /* rank of the sign model */
    SIGN_INPUTS = 5,
    Q_CLASSES = 10,                /* classes of one magnitude context */
    SLOTS = 256,                   /* nodes of the magnitude trees of 1..7 bits */
    HITS_MOST = 63,
    SEEN_HITS = 63,                /* means forget from here on */
    DOUBT = 4,
    STRIDE = 8, STRIDE_SHORT = 2,
    ROW_RATES = 1024,
    EMPTY_RATES = 60,
    EMPTY_MOST = ONE,              /* expected non-zeros from which emptiness is not asked */
};

typedef struct {
    /* Constant tables. */
    uint16_t squash[SQUASH_SIZE];
    int32_t rates[SEEN_MOST + 1];
    int16_t column_rates[HITS_MOST + 1];
    uint16_t row_rates[ROW_RATES];
    int32_t gate_rates[HITS_MOST + 1];
    int32_t shares[SEEN_HITS + 5];
    /* What one tensor teaches the next. */
    int32_t weight_column[2], weight_row[2], weight_gate[2];   /* 2^20 = 1; [gates are there] */
    int32_t gate[4 * GATE_CONTEXTS];
    uint8_t gate_hits[4 * GATE_CONTEXTS];
    uint32_t empty[64 * 8];        /* 2^22 = 1 */
    uint8_t empty_seen[64 * 8];
    int32_t lift[64 * 2];
    int64_t sign_weight[SIGN_INPUTS];
    Vote magnitude[VOTERS][Q_CLASSES * SLOTS];
    /* One tensor. */
    int64_t size, lag, at, left, remaining;
    int32_t width, step, largest, bits, base;
    int32_t magnitude_sum, magnitude_count, mean, per_mean;
    int was_empty;
    /* One row. */
    int32_t row, row_seen, row_mean;
    uint32_t row_mass;
    int32_t factor[FACTORS], agreement[3];
    /* By column: width entries each, FACTORS times as many factors. */
    int32_t *column;
    int16_t *column_rate, *column_leaning;
    int32_t *column_factor, *column_mean;
    uint8_t *column_seen;
    int8_t *history;               /* all elements but the last `lag` */
    size_t column_room, history_room;
} Sparse;

static void sparse_init(Sparse *s)
{
    memset(s, 0, sizeof *s);
    fill_squash(s->squash);
    fill_rates(s->rates, LEAST_SPARSE);
    for (int n = 0; n <= HITS_MOST; n++) {       /* 1 / (1.5 + 0.6 n), at least 0.02; 2^14 = 1 */
        int32_t rate = 163840 / (15 + 6 * n);
        s->column_rates[n] = (int16_t)(rate < 328 ? 328 : rate);
    }
    for (int n = 0; n <= HITS_MOST; n++) {       /* 1 / (2 + 2 n), at least 0.02 */
        int32_t rate = 16384 / (2 + 2 * n);
        s->gate_rates[n] = rate < 328 ? 328 : rate;
    }
    for (int n = 0; n < SEEN_HITS + 5; n++) {    /* a new value's share of a mean of n others */
        s->shares[n] = 16384 / (n + 1);
    }
    for (int k = 0; k < ROW_RATES; k++) {        /* 1 / (0.6 + mass), mass in sixteenths */
        s->row_rates[k] = (uint16_t)((1 << 30) / (39322 + 4096 * k));
    }
    for (int k = 0; k < 2; k++) {
        s->weight_column[k] = 838861;            /* 0.8 */
        s->weight_row[k] = 629146;               /* 0.6 */
        s->weight_gate[k] = 838861;
    }
    for (int q = 0; q < 64; q++) {
        for (int k = 0; k < 8; k++) {
            s->empty[q * 8 + k] = (uint32_t)EMPTY[q < 40 ? q : 39] << 6;
        }
        s->lift[q * 2] = LIFT[q < 40 ? q : 39];
        s->lift[q * 2 + 1] = s->lift[q * 2] / 2;
    }
    static const int64_t start[SIGN_INPUTS] = {98304, 19661, 131072, 131072, 131072};
    memcpy(s->sign_weight, start, sizeof start);
}

static void sparse_free(Sparse *s)
{
    free(s->column);
    free(s->column_rate);
    free(s->column_leaning);
    free(s->column_factor);
    free(s->column_mean);
    free(s->column_seen);
    free(s->history);
}

/* What the tensors before taught is a start, but the first values of this one weigh more. */
static void doubt(Sparse *s)
{
    for (int k = 0; k < 4 * GATE_CONTEXTS; k++) {
        s->gate_hits[k] = s->gate_hits[k] > DOUBT ? DOUBT : s->gate_hits[k];
    }
    for (int k = 0; k < VOTERS; k++) {
        for (int q = 0; q < Q_CLASSES; q++) {
            for (int slot = 1 << s->bits; slot < 2 << s->bits; slot++) {
                Vote *vote = &s->magnitude[k][q * SLOTS + slot];
                vote->seen = vote->seen > DOUBT ? DOUBT : vote->seen;
            }
        }
    }
}

/* Start a tensor; 0 on success, -1 without memory. The caller has checked the arguments. */
static int sparse_begin(Sparse *s, int64_t size, int32_t width, int64_t lag, int64_t count,
                        int32_t largest)
{
    size_t room = (size_t)width + SEGMENT;
    if (room > s->column_room) {
        s->column_room = 0;
#define GROW(name, entries)                                                  \
    do {                                                                     \
        void *grown = realloc(s->name, (entries) * sizeof *s->name);         \
        if (grown == NULL) {                                                 \
            return -1;                                                       \
        }                                                                    \
        s->name = grown;                                                     \
    } while (0)
        GROW(column, room);
        GROW(column_rate, room);
        GROW(column_leaning, room);
        GROW(column_factor, room * FACTORS);
        GROW(column_mean, room);
        GROW(column_seen, room);
        s->column_room = room;
    }
    const size_t history = lag ? (size_t)(size - lag) : 0;
    if (history > s->history_room) {
        s->history_room = 0;
        GROW(history, history);
        s->history_room = history;
    }
#undef GROW
    memset(s->column, 0, room * sizeof *s->column);
    memset(s->column_leaning, 0, room * sizeof *s->column_leaning);
    memset(s->column_seen, 0, room);
    if (lag) {
        memset(s->history, 0, history);
    }
    for (size_t j = 0; j < room; j++) {
        s->column_rate[j] = s->column_rates[0];
        for (uint32_t d = 0; d < FACTORS; d++) {  /* any fixed noise within +-0.5; 2^12 = 1 */
            uint32_t noise = ((uint32_t)j * FACTORS + d + 1) * 2654435761u;
            s->column_factor[j * FACTORS + d] = (int32_t)(noise >> 20) - 2048;
        }
    }
    s->size = size;
    s->lag = lag;
    s->at = 0;
    s->left = size;
    s->remaining = count;
    s->width = width;
    int32_t segments = (width + SEGMENT - 1) / SEGMENT;
    s->step = (width + segments - 1) / segments;
    s->largest = largest;
    s->bits = 0;
    while ((1 << s->bits) < largest) {
        s->bits++;
    }
    s->base = stretch_ratio(s->squash, (uint64_t)count, (uint64_t)size);
    s->magnitude_sum = s->magnitude_count = 0;
    s->was_empty = 0;
    doubt(s);
    return 0;
}

static void begin_row(Sparse *s)
{
    s->row = s->row_seen = 0;
    s->row_mass = 0;
    memset(s->factor, 0, sizeof s->factor);
    memset(s->agreement, 0, sizeof s->agreement);
}

static ALWAYS_INLINE int32_t row_rate(const Sparse *s)
{
    uint32_t sixteenths = s->row_mass >> 12;
    return s->row_rates[sixteenths < ROW_RATES ? sixteenths : ROW_RATES - 1];
}

/* Elements of the next segment: it ends with the row and with the tensor. */
static int32_t segment_length(const Sparse *s, int32_t start)
{
    int64_t length = s->width - start < s->step ? s->width - start : s->step;
    return (int32_t)(length < s->left ? length : s->left);
}

/* A class of a mean magnitude: its ratio to the tensor's mean, in eighths from 4/8 on. */
static ALWAYS_INLINE int32_t relative_class(const Sparse *s, int32_t mean)
{
    return between((int32_t)((int64_t)mean * s->per_mean >> 21) - 4, 0, Q_CLASSES - 1);
}

/* The tensor's mean magnitude (256 = 1) and its reciprocal, taken anew for each segment. */
static void refresh_mean(Sparse *s)
{
    s->mean = s->magnitude_count ? 256 * s->magnitude_sum / s->magnitude_count
                                 : 115 * s->largest;          /* 0.45 of the largest */
    s->mean = s->mean < 256 ? 256 : s->mean;
    s->per_mean = (1 << 24) / s->mean;
}

static ALWAYS_INLINE int32_t code_magnitude(Sparse *s, Range *c, const int decoding, int32_t j,
                                            int32_t logit, const int8_t *around,
                                            int32_t magnitude)
{
    int32_t gate_sum = 0, gate_count = 0, of_gates = 0;
    for (int k = 0; k < 3; k++) {
        gate_sum += around[k] < 0 ? -around[k] : around[k];
        gate_count += around[k] != 0;
    }
    if (gate_count) {
        static const int32_t share[4] = {0, 6, 3, 2};         /* sixths */
        int64_t mean = (int64_t)gate_sum * share[gate_count] * s->per_mean * 4;
        of_gates = (int32_t)(mean / 6 >> 16);
        of_gates = between(of_gates, 1, 7);
    }
    const int32_t seen = s->column_seen[j];
    const int32_t column_mean = seen ? s->column_mean[j] : s->mean;
    const int32_t row_mean = s->row_seen ? s->row_mean : s->mean;
    const int32_t classes[VOTERS] = {
        0,
        relative_class(s, row_mean),
        relative_class(s, column_mean),
        of_gates,
        between((logit >> 16) + 6, 0, Q_CLASSES - 1),
    };
    const int32_t most = s->largest - 1, wanted = magnitude - 1;
    int32_t node = 1, value = 0;
    for (int32_t bit_at = s->bits - 1; bit_at >= 0; bit_at--) {
        int bit = 0;
        if ((value | 1 << bit_at) <= most) {
            Vote *voters[VOTERS];
            for (int k = 0; k < VOTERS; k++) {
                voters[k] = &s->magnitude[k][classes[k] * SLOTS + (1 << s->bits) + node - 1];
            }
            bit = code_voted(c, decoding, s->squash, s->rates, voters, wanted >> bit_at & 1);
        }
        node = 2 * node + bit;
        value |= bit << bit_at;
    }
    magnitude = value + 1;
    s->magnitude_sum += magnitude;
    if (++s->magnitude_count > 400) {
        s->magnitude_sum /= 2;
        s->magnitude_count /= 2;
    }
    s->row_mean = row_mean + ((256 * magnitude - row_mean) * s->shares[s->row_seen + 2] >> 14);
    s->column_mean[j] = column_mean + ((256 * magnitude - column_mean) * s->shares[seen + 4] >> 14);
    return magnitude;
}

static ALWAYS_INLINE int code_sign(Sparse *s, Range *c, const int decoding, int32_t j,
                                   const int8_t *around, int positive)
{
    int32_t *column = s->column_factor + (size_t)j * FACTORS;
    int64_t dot = 0;
    for (int d = 0; d < FACTORS; d++) {
        dot += (int64_t)s->factor[d] * column[d];
    }
    dot >>= 12;
    int64_t inputs[SIGN_INPUTS] = {clamp64(dot, 6 << 12), s->column_leaning[j]};
    for (int k = 0; k < 3; k++) {
        inputs[2 + k] = around[k] > 0 ? s->agreement[k] : around[k] < 0 ? -s->agreement[k] : 0;
    }
    int64_t logit = 0;
    for (int k = 0; k < SIGN_INPUTS; k++) {
        logit += s->sign_weight[k] * inputs[k] >> 12;
    }
    uint32_t p = squash(s->squash, (int32_t)clamp64(logit, 11 * ONE));
    positive = code_open_bit(c, decoding, p, positive);
    const int64_t error = positive * (int64_t)ONE - (int64_t)p;
    for (int k = 0; k < SIGN_INPUTS; k++) {
        s->sign_weight[k] = clamp64(s->sign_weight[k] + (error * inputs[k] >> 16), 8 * ONE);
    }
    const int64_t miss = positive * (int64_t)ONE
                         - (int64_t)squash(s->squash, (int32_t)clamp64(dot * 16, 11 * ONE));
    for (int d = 0; d < FACTORS; d++) {
        int64_t own = s->factor[d], other = column[d];
        s->factor[d] = (int32_t)clamp64(own + (miss * other >> 16), 8 << 12);
        column[d] = (int32_t)clamp64(other + (miss * own * 5 >> 20), 8 << 12);
    }
    int32_t leaning = s->column_leaning[j];
    s->column_leaning[j] = (int16_t)(leaning + (((positive ? 8192 : -8192) - leaning)
                                                * s->shares[s->column_seen[j] + 2] >> 14));
    for (int k = 0; k < 3; k++) {
        if (around[k]) {
            int agrees = (around[k] > 0) == positive;
            s->agreement[k] = clamp32(s->agreement[k] + (agrees ? 2048 : -2048), 3 << 12);
        }
    }
    return positive;
}

/* Class of the expected number of non-zeros in a segment (65,536 = 1), by half octaves. */
static int32_t mass_class(uint32_t mass)
{
    int32_t octave = 0;
    mass += mass == 0;
    while (mass >> octave > 1) {
        octave++;
    }
    return 2 * octave + (octave ? (int32_t)(mass >> (octave - 1) & 1) : 0);
}

/* One segment at work. */
typedef struct {
    int32_t start, length;         /* columns start .. start + length - 1 */
    int32_t gates;                 /* how many of the gates before exist: 0..3 */
    const int8_t *gate[3];
    int8_t *levels;
    uint8_t *found_at;             /* columns of the non-zeros, from `start` on */
    int32_t found;
    int32_t *lift;                 /* where an "all zero" flag was coded: before, after a hit */
    uint8_t context[SEGMENT];
    int16_t narrow[SEGMENT];       /* column votes, 2^10 = 1 nat */
    int16_t errors[SEGMENT];       /* bit - probability, 2^15 = 1 */
    int32_t logits[SEGMENT];       /* all but the row's part */
    int64_t row_slope;
} Segment;

/* Whether the segment holds no non-zero. Asked only where few are expected: else it is dear. */
static ALWAYS_INLINE int code_empty(Sparse *s, Range *c, const int decoding, Segment *g,
                                    int is_empty)
{
    uint32_t mass = (uint32_t)g->length * squash(s->squash, s->base + s->row);
    g->lift = NULL;
    if (mass >= EMPTY_MOST || s->remaining > s->left - g->length) {
        return 0;
    }
    int32_t q = mass_class(mass);
    int32_t context = q * 8 + (g->start > 0) * 4 + (s->row_seen > 0) * 2 + s->was_empty;
    uint32_t p = s->empty[context], seen = s->empty_seen[context];
    is_empty = code_bit(c, decoding, (uint32_t)between((int32_t)(p >> 6), 1, ONE - 1), is_empty);
    uint32_t miss = is_empty ? (1u << 22) - 1 - p : p;
    s->empty[context] = is_empty ? p + miss * 5 / (5 * seen + 8) : p - miss * 5 / (5 * seen + 8);
    s->empty_seen[context] = (uint8_t)(seen + (seen < EMPTY_RATES));
    s->was_empty = is_empty;
    if (is_empty) {
        s->row -= (int32_t)((int64_t)mass * row_rate(s) >> 15);
        s->row = s->row < -5 * ONE ? -5 * ONE : s->row;
    }
    g->lift = s->lift + q * 2;
    return is_empty;
}

/* What is known of each element before the first is coded: work for vectors. */
static ALWAYS_INLINE void predict(Sparse *s, Segment *g)
{
    const int32_t length = g->length;
    g->gates = 0;
    while (g->gates < 3 && s->lag && s->at >= (g->gates + 1) * s->lag) {
        g->gate[g->gates] = s->history + s->at - (g->gates + 1) * s->lag;
        g->gates++;
    }
    const int32_t *column = s->column + g->start;
    memset(g->context, 0, sizeof g->context);
    for (int k = 0; k < g->gates; k++) {
        const int8_t *gate = g->gate[k];
        const uint8_t flag = (uint8_t)(4 >> k);
        for (int j = 0; j < length; j++) {
            g->context[j] |= gate[j] ? flag : 0;
        }
    }
    const int16_t by_column = (int16_t)(s->weight_column[g->gates > 0] >> 8);   /* 2^12 = 1 */
    const int32_t by_gate = s->weight_gate[g->gates > 0] >> 8;
    const int32_t *votes = s->gate + g->gates * GATE_CONTEXTS;
    int32_t gate_logit[GATE_CONTEXTS];
    for (int k = 0; k < GATE_CONTEXTS; k++) {
        gate_logit[k] = s->base + ((votes[k] >> 6) * by_gate >> 6);
    }
    for (int j = 0; j < length; j++) {
        g->narrow[j] = (int16_t)(column[j] >> 6);
        g->logits[j] = g->narrow[j] * by_column >> 6;
    }
    for (int j = 0; j < length; j++) {
        g->logits[j] += gate_logit[g->context[j]];
    }
}

/* A non-zero in column j of the segment: sign, magnitude, and what both teach. */
static ALWAYS_INLINE void code_hit(Sparse *s, Range *c, const int decoding, Segment *g, int32_t j,
                                   int32_t logit)
{
    int8_t around[3] = {0, 0, 0};
    for (int k = 0; k < g->gates; k++) {
        around[k] = g->gate[k][j];
    }
    const int32_t column = g->start + j, level = g->levels[j];
    int positive = code_sign(s, c, decoding, column, around, level > 0);
    int32_t magnitude = code_magnitude(s, c, decoding, column, logit, around,
                                       level < 0 ? -level : level);
    s->column_seen[column] += s->column_seen[column] < SEEN_HITS;
    s->row_seen += s->row_seen < SEEN_HITS;
    g->levels[j] = (int8_t)(positive ? magnitude : -magnitude);
    g->found_at[g->found++] = (uint8_t)j;
    s->remaining--;
}

/* Every element, the row's own rate being learnt on the way: after every hit, and at the latest
 * after STRIDE elements, so that the probabilities of a stride can be looked up together. */
static ALWAYS_INLINE void code_elements(Sparse *s, Range *c, const int decoding, Segment *g)
{
    const int32_t by_row = s->weight_row[g->gates > 0] >> 8;
    const int must_all = s->remaining == s->left;
    int32_t at = 0;
    while (at < g->length && s->remaining) {
        const int32_t part = ((s->row >> 4) * by_row >> 8)
                             + (g->lift ? g->lift[g->found > 0] : 0);
        /* A segment that is not empty has its non-zero in the last element, if not before. */
        const int last_is_known = g->lift && g->found == 0;
        int32_t stride = g->length - last_is_known - at;
        /* What one zero teaches the row, in nats: where it is much, teach it sooner. */
        const int64_t lesson = (int64_t)squash(s->squash, s->base + part) * row_rate(s) >> 14;
        const int32_t most = lesson < ONE / 16 ? STRIDE : STRIDE_SHORT;
        stride = stride < most ? stride : most;
        if (UNLIKELY(must_all || stride == 0)) {
            g->errors[at] = 0;
            code_hit(s, c, decoding, g, at, g->logits[at] + part);
            at++;
            continue;
        }
        uint16_t p[STRIDE];
        for (int32_t k = 0; k < stride; k++) {
            p[k] = (uint16_t)squash(s->squash, g->logits[at + k] + part);
        }
        int32_t run = 0;
        while (!decoding && run < stride && g->levels[at + run] == 0) {
            run++;
        }
        run = code_run(c, decoding, p, stride, run);
        const int is_hit = run < stride;
        int32_t mass = 0;
        for (int32_t k = 0; k < run + is_hit; k++) {
            mass += p[k];
            g->errors[at + k] = (int16_t)(-(int32_t)p[k] >> 1);
        }
        const int32_t error = (is_hit ? ONE : 0) - mass;
        g->row_slope += (int64_t)error * (s->row >> 6);
        s->row_mass += (uint32_t)mass;
        s->row = clamp32(s->row + (int32_t)((int64_t)error * row_rate(s) >> 14), 6 * ONE);
        if (g->lift) {
            int32_t *lift = g->lift + (g->found > 0);
            *lift = clamp32(*lift + (error >> 6), 6 * ONE);
        }
        at += run;
        if (is_hit) {
            g->errors[at] = (int16_t)(((int32_t)ONE - p[run]) >> 1);
            code_hit(s, c, decoding, g, at, g->logits[at] + part);
            at++;
        }
    }
}

/* Columns, gate contexts and weights learn from the segment: work for vectors again. */
static ALWAYS_INLINE void learn(Sparse *s, Segment *g)
{
    const int32_t length = g->length;
    int32_t *column = s->column + g->start, *votes = s->gate + g->gates * GATE_CONTEXTS;
    int16_t *rates = s->column_rate + g->start;
    uint8_t *hits = s->gate_hits + g->gates * GATE_CONTEXTS;
    int32_t column_slope = 0, total = 0, gate_error[GATE_CONTEXTS] = {0};
    int64_t gate_slope = 0;
    for (int j = 0; j < length; j++) {
        column_slope += g->errors[j] * g->narrow[j] >> 8;
        total += g->errors[j];
    }
    for (int j = 0; j < length; j++) {
        column[j] = clamp32(column[j] + (g->errors[j] * rates[j] >> 13), 5 * ONE);
    }
    /* Most contexts are 0, so look at eight of them at once; those behind the end are 0 too. */
    for (int at = 0; at < length; at += 8) {
        uint64_t any;
        memcpy(&any, g->context + at, sizeof any);
        for (int j = at; any && j < at + 8 && j < length; j++) {
            gate_error[g->context[j]] += g->errors[j];
            total -= g->errors[j];
        }
    }
    gate_error[0] += total;
    for (int k = 0; k < g->found; k++) {
        int32_t j = g->found_at[k];
        uint8_t *seen = hits + g->context[j];
        *seen = (uint8_t)(*seen + (*seen < HITS_MOST));
        rates[j] = s->column_rates[s->column_seen[g->start + j]];
    }
    for (int k = 0; k < GATE_CONTEXTS; k++) {
        gate_slope += (int64_t)gate_error[k] * (votes[k] >> 6);
        int64_t step = (int64_t)gate_error[k] * s->gate_rates[hits[k]] >> 13;
        votes[k] = (int32_t)clamp64(votes[k] + step, 5 * ONE);
    }
    int32_t *weights[3] = {s->weight_column + (g->gates > 0), s->weight_row + (g->gates > 0),
                           s->weight_gate + (g->gates > 0)};
    /* 1/512 of the slope: error x logit, brought to 2^26 = 1, then to 2^20. */
    const int64_t slopes[3] = {(int64_t)column_slope * 512, g->row_slope, gate_slope * 2};
    for (int k = 0; k < 3; k++) {
        int64_t weight = *weights[k] + (slopes[k] >> 15);
        *weights[k] = (int32_t)(weight < 0 ? 0 : weight > (4 << 20) - 1 ? (4 << 20) - 1 : weight);
    }
}

/* One segment: its levels are read when encoding (`hits` non-zeros), written when decoding.
 * `found_at` takes where the non-zeros are. Returns how many there are. */
static ALWAYS_INLINE int32_t code_segment(Sparse *s, Range *shared, const int decoding,
                                          int32_t start, int32_t length, int32_t hits,
                                          int8_t *levels, uint8_t *found_at)
{
    Range local = *shared;
    Segment g;
    g.start = start;
    g.length = length;
    g.levels = levels;
    g.found_at = found_at;
    g.found = 0;
    g.row_slope = 0;
    if (decoding) {
        memset(levels, 0, (size_t)length);
    }
    if (!code_empty(s, &local, decoding, &g, hits == 0)) {
        refresh_mean(s);
        predict(s, &g);
        code_elements(s, &local, decoding, &g);
        if (s->remaining) {        /* else the rest of the tensor is zero: nothing to learn for */
            learn(s, &g);
            s->row_mass = s->row_mass < 1u << 30 ? s->row_mass : 1u << 30;
            if (s->lag && s->at < s->size - s->lag) {
                int64_t room = s->size - s->lag - s->at;
                memcpy(s->history + s->at, levels, (size_t)(length < room ? length : room));
            }
        }
    }
    *shared = local;
    return g.found;
}

#endif
