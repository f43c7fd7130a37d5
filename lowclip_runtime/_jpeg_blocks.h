/* Blocks of 8x8 coefficients, and the square of samples that each becomes. */
#ifndef LOWCLIP_JPEG_BLOCKS_H
#define LOWCLIP_JPEG_BLOCKS_H

#include "_jpeg_huffman.h"
#include "_jpeg_samples.h"

enum { LEAST_DEQUANTIZED = -2048, MAX_DEQUANTIZED = 2047 };

/* A coefficient's, by its place in zigzag order. */
typedef struct {
    uint16_t quantization, natural; /* its place in the block */
} Place;

typedef struct {
    int id, horizontal, vertical, quantization, dc_table, ac_table;
    int side; /* of the square of samples that a block becomes: 1, 2 or 4 */
    int32_t dc;
    /* of a progressive picture: own rows and columns of blocks, those kept in a row, and how many coefficients of each */
    int rows, columns, stride, kept;
    int16_t *coefficients; /* in natural order */
    int8_t missing[BLOCK]; /* how many of the lowest bits are still to come, by place in zigzag order; -1: all */
} Component;

typedef struct {
    int width, height, restart_interval;
    int is_progressive, is_begun;
    int scale; /* by which width and height are divided: 8 or 4 */
    int quantization_defined[4];
    Place places[4][BLOCK];
    Huffman dc[4], ac[4];
    Pair pairs[4][1 << READ_BITS];
    uint16_t skip[4][1 << SKIP_BITS]; /* coefficients << 8 | bits of the whole codes that these bits begin with */
    Component components[3];
    uint8_t *samples[3];  /* of one row of MCUs */
    uint8_t *wide[2];     /* a row of chrominance in the width of luminance */
    int16_t block[BLOCK]; /* zeros between its uses */
} Jpeg;

static const uint8_t natural_order[BLOCK] = {
    0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48,
    41, 34, 27, 20, 13, 6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23,
    30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
};

static const int16_t no_coefficients[BLOCK] = {0};

/* Returns how far the value is above the least that may be. */
static INLINE uint32_t put(int32_t coefficient, const Place *place, int16_t *block)
{
    int32_t value = coefficient * place->quantization;
    block[place->natural] = (int16_t)value;
    return (uint32_t)(value - LEAST_DEQUANTIZED);
}

static INLINE int within(uint32_t values, int k)
{
    return values <= (uint32_t)(MAX_DEQUANTIZED - LEAST_DEQUANTIZED) ? k : 0;
}

static INLINE int scaled(int size, int scale)
{
    return (size + scale - 1) / scale;
}

/* Blocks */

static INLINE int read_dc(Reader *reader, Component *component, const Huffman *huffman)
{
    int entry;
    need(reader, 32);
    entry = code_at(huffman, (uint32_t)(reader->bits >> 48));
    if (!entry) {
        return 0;
    }
    take(reader, entry >> 8);
    component->dc += take_number(reader, entry & 255);
    return component->dc >= -32767 && component->dc <= 32767;
}

/* Passes over a block's other coefficients. `passed` counts as entries do: coefficients << 8 | bits since the last refill. */
static INLINE int skip_ac(Reader *reader, const Huffman *huffman, const uint16_t *skip)
{
    const uint32_t full = BLOCK << 8;
    uint32_t passed = 1 << 8, entry;
    for (;;) {
        uint64_t bits;
        int i;
        need(reader, SKIPS * SKIP_BITS);
        bits = reader->bits;
        for (i = 0; i < SKIPS; i++) {
            entry = skip[bits >> (64 - SKIP_BITS)];
            if (passed + entry >= full) {
                break;
            }
            passed += entry;
            bits <<= entry & 63;
        }
        reader->bits = bits;
        reader->count -= passed & 255;
        passed &= ~(uint32_t)255;
        if (i == SKIPS) {
            continue;
        }
        if (entry < SKIP_END << 8 ? passed + (entry & ~(uint32_t)255) == full : passed + entry < (SKIP_END + BLOCK) << 8) {
            take(reader, entry & 63);
            return 1;
        }
        /* the first code is long, or the block is full before these codes end: one code by itself */
        need(reader, 32);
        entry = (uint32_t)code_at(huffman, (uint32_t)(reader->bits >> 48));
        if (!entry) {
            return 0;
        }
        take(reader, (int)entry >> 8);
        if ((entry & 15) == 0 && (entry & 255) >> 4 != 15) {
            return 1;
        }
        take(reader, entry & 15);
        passed += (((entry & 255) >> 4) + 1) << 8;
        if (passed >= full) {
            return passed == full;
        }
    }
}

/* Coefficients of a block, dequantized, into `block` in natural order; all others there are zero already.
 * Returns one more than the place of the last, 1 where there are none, 0 for damaged ones. */
static INLINE int read_ac(Reader *reader, const Huffman *huffman, const Pair *pairs, const Place *places, int16_t *block)
{
    int k = 1, next, entry, i;
    uint32_t values = 0; /* of each what it is above the least that may be, together */
    for (;;) {
        const Pair *pair = pairs;
        need(reader, READS * READ_BITS);
        for (i = 0; i < READS; i++) {
            pair = &pairs[reader->bits >> (64 - READ_BITS)];
            next = k + pair->first_step;
            if (next > BLOCK) {
                break;
            }
            values |= put(pair->first, &places[next - 1], block);
            k = next;
            next += pair->second_step;
            if (next > BLOCK) { /* the block ends, or is full and these bits are the next one's */
                int is_end = k < BLOCK && pair->second_step == READ_END;
                take(reader, is_end ? pair->both : pair->length);
                return is_end || k == BLOCK ? within(values, k) : 0;
            }
            values |= put(pair->second, &places[next - 1], block);
            k = next;
            take(reader, pair->both);
        }
        if (i == READS) {
            continue;
        }
        if (k == BLOCK) {
            return within(values, k);
        }
        if (pair->first_step == READ_END) {
            take(reader, pair->length);
            return within(values, k);
        }
        /* the code is long, or goes beyond the block */
        need(reader, 32);
        entry = code_at(huffman, (uint32_t)(reader->bits >> 48));
        if (!entry) {
            return 0;
        }
        take(reader, entry >> 8);
        if ((entry & 15) == 0 && (entry & 255) >> 4 != 15) {
            return within(values, k);
        }
        k += ((entry & 255) >> 4) + 1;
        if (k > BLOCK) {
            return 0;
        }
        values |= put(take_number(reader, entry & 15), &places[k - 1], block);
    }
}

/* One block of a component into the square of its samples. */
static INLINE int read_block(Jpeg *jpeg, Reader *reader, Component *component, uint8_t *out, int stride)
{
    const Place *places = jpeg->places[component->quantization];
    const Huffman *ac = &jpeg->ac[component->ac_table];
    int32_t mean;
    int reach;
    if (!read_dc(reader, component, &jpeg->dc[component->dc_table])) {
        return 0;
    }
    mean = component->dc * places[0].quantization;
    if (mean > MAX_DEQUANTIZED || mean < LEAST_DEQUANTIZED) {
        return 0;
    }
    if (component->side == 1) {
        *out = clamp(descale(mean, 3) + 128);
        return skip_ac(reader, ac, jpeg->skip[component->ac_table]);
    }
    reach = read_ac(reader, ac, jpeg->pairs[component->ac_table], places, jpeg->block);
    if (reach > 1) {
        int fine;
        jpeg->block[0] = (int16_t)mean;
        fine = component->side == 2 ? inverse_dct_2x2(jpeg->block, out, stride)
                                    : inverse_dct_4x4(jpeg->block, out, stride);
        memcpy(jpeg->block, no_coefficients, sizeof jpeg->block); /* memset was a loop */
        return fine;
    }
    fill(out, component->side, stride, clamp(descale(mean, 3) + 128));
    return reach;
}

#endif
