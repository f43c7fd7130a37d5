/* Blocks of 8x8 coefficients, and the one or four samples that each becomes. */
#ifndef LOWCLIP_JPEG_BLOCKS_H
#define LOWCLIP_JPEG_BLOCKS_H

#include "_jpeg_huffman.h"

enum { MAX_DEQUANTIZED = 2047 };

typedef struct {
    int id, horizontal, vertical, quantization, dc_table, ac_table;
    int32_t dc;
} Component;

typedef struct {
    int width, height, restart_interval;
    int quantization_defined[4];
    uint16_t quantization[4][BLOCK]; /* in zigzag order */
    Huffman dc[4], ac[4];
    uint16_t skip[4][1 << SKIP_BITS]; /* coefficients << 8 | bits of the whole codes that these bits begin with */
    Component components[3];
    uint8_t *samples[3];  /* of one row of MCUs */
    int16_t block[BLOCK]; /* zeros between its uses */
} Jpeg;

static const uint8_t natural_order[BLOCK] = {
    0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48,
    41, 34, 27, 20, 13, 6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23,
    30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
};

static const int16_t no_coefficients[BLOCK] = {0};

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
 * Returns how far they reach, 1 where there are none, 0 for damaged ones. */
static INLINE int read_ac(Reader *reader, const Huffman *huffman, const uint16_t *quantization, int16_t *block)
{
    int k = 1, reach = 1;
    while (k < BLOCK) {
        int entry, size;
        need(reader, 32);
        entry = code_at(huffman, (uint32_t)(reader->bits >> 48));
        if (!entry) {
            return 0;
        }
        take(reader, entry >> 8);
        size = entry & 15;
        k += (entry & 255) >> 4;
        if (size) {
            int32_t value;
            if (k >= BLOCK) {
                return 0;
            }
            value = take_number(reader, size) * quantization[k];
            if (value > MAX_DEQUANTIZED || value < -MAX_DEQUANTIZED) {
                return 0;
            }
            block[natural_order[k]] = (int16_t)value;
            reach = k + 1;
        } else if ((entry & 255) >> 4 != 15) {
            return reach;
        }
        k++;
    }
    return k == BLOCK ? reach : 0;
}

/* Samples; the arithmetic is that of libjpeg's jidctred.c and jdcolor.c */

static INLINE uint8_t clamp(int32_t value)
{
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

static INLINE int32_t descale(int32_t value, int bits)
{
    return (value + ((int32_t)1 << (bits - 1))) >> bits;
}

static INLINE int32_t odd_part(int32_t first, int32_t third, int32_t fifth, int32_t seventh)
{
    return 29692 * first - 10426 * third + 6967 * fifth - 5906 * seventh;
}

/* Whether all are within what libjpeg clamps alike with SIMD and without. */
static int inverse_dct_2x2(const int16_t *block, uint8_t *out, int stride)
{
    static const int columns[5] = {0, 1, 3, 5, 7};
    int32_t rows[2][8];
    int i, within = 1;
    for (i = 0; i < 5; i++) {
        const int16_t *column = block + columns[i];
        int32_t even = column[0] * (1 << 15), odd = odd_part(column[8], column[24], column[40], column[56]);
        rows[0][columns[i]] = descale(even + odd, 13);
        rows[1][columns[i]] = descale(even - odd, 13);
    }
    for (i = 0; i < 2; i++) {
        const int32_t *row = rows[i];
        int32_t even = row[0] * (1 << 15), odd = odd_part(row[1], row[3], row[5], row[7]);
        int32_t left = descale(even + odd, 20), right = descale(even - odd, 20);
        within &= left >= -512 && left < 512 && right >= -512 && right < 512;
        out[i * stride] = clamp(left + 128);
        out[i * stride + 1] = clamp(right + 128);
    }
    return within;
}

static void to_rgb(int32_t y, int32_t cb, int32_t cr, uint8_t *out)
{
    cb -= 128;
    cr -= 128;
    out[0] = clamp(y + ((91881 * cr + 32768) >> 16));
    out[1] = clamp(y + ((-22554 * cb - 46802 * cr + 32768) >> 16));
    out[2] = clamp(y + ((116130 * cb + 32768) >> 16));
}

/* One block of a component into its samples: 1x1, or 2x2 where chrominance has a quarter of the blocks. */
static INLINE int read_block(Jpeg *jpeg, Reader *reader, Component *component, uint8_t *out, int stride, int doubled)
{
    const uint16_t *quantization = jpeg->quantization[component->quantization];
    int32_t mean;
    if (!read_dc(reader, component, &jpeg->dc[component->dc_table])) {
        return 0;
    }
    mean = component->dc * quantization[0];
    if (mean > MAX_DEQUANTIZED || mean < -MAX_DEQUANTIZED) {
        return 0;
    }
    if (doubled) {
        int reach = read_ac(reader, &jpeg->ac[component->ac_table], quantization, jpeg->block);
        if (reach > 1) {
            jpeg->block[0] = (int16_t)mean;
            reach = inverse_dct_2x2(jpeg->block, out, stride) ? reach : 0;
            memcpy(jpeg->block, no_coefficients, sizeof jpeg->block); /* memset was a loop */
        } else {
            out[0] = out[1] = out[stride] = out[stride + 1] = clamp(descale(mean, 3) + 128);
        }
        return reach;
    }
    *out = clamp(descale(mean, 3) + 128);
    return skip_ac(reader, &jpeg->ac[component->ac_table], jpeg->skip[component->ac_table]);
}

#endif
