/* Samples of a block from its coefficients: 1x1, 2x2 or 4x4. The arithmetic is that of libjpeg's jidctred.c. */
#ifndef LOWCLIP_JPEG_SAMPLES_H
#define LOWCLIP_JPEG_SAMPLES_H

#include <stdint.h>

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

/* Both return whether all are within what libjpeg clamps alike with SIMD and without. */

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

/* Four values from those at 0, 1, 2, 3, 5, 6 and 7 steps from `at`; the one at 4 counts for nothing. */
#define FOUR_OF_EIGHT(at, step, bits, to)                                                                              \
    do {                                                                                                               \
        int32_t mean = (at)[0] * (1 << 14);                                                                            \
        int32_t even = 15137 * (at)[2 * (step)] - 6270 * (at)[6 * (step)];                                             \
        int32_t first = (at)[step], third = (at)[3 * (step)], fifth = (at)[5 * (step)], seventh = (at)[7 * (step)];    \
        int32_t inner = 8697 * first - 17799 * third + 11893 * fifth - 1730 * seventh;                                 \
        int32_t outer = 20995 * first + 7373 * third - 4926 * fifth - 4176 * seventh;                                  \
        (to)[0] = descale(mean + even + outer, bits);                                                                  \
        (to)[1] = descale(mean - even + inner, bits);                                                                  \
        (to)[2] = descale(mean - even - inner, bits);                                                                  \
        (to)[3] = descale(mean + even - outer, bits);                                                                  \
    } while (0)

static int inverse_dct_4x4(const int16_t *block, uint8_t *out, int stride)
{
    static const int columns[7] = {0, 1, 2, 3, 5, 6, 7};
    int32_t rows[4][8], four[4];
    int i, j, within = 1;
    for (i = 0; i < 7; i++) {
        const int16_t *column = block + columns[i];
        FOUR_OF_EIGHT(column, 8, 12, four);
        for (j = 0; j < 4; j++) {
            within &= four[j] >= INT16_MIN && four[j] <= INT16_MAX;
            rows[j][columns[i]] = four[j];
        }
    }
    for (i = 0; i < 4; i++, out += stride) {
        const int32_t *row = rows[i];
        FOUR_OF_EIGHT(row, 1, 19, four);
        for (j = 0; j < 4; j++) {
            within &= four[j] >= -512 && four[j] < 512;
            out[j] = clamp(four[j] + 128);
        }
    }
    return within;
}

static INLINE void fill(uint8_t *out, int side, int stride, uint8_t value)
{
    int x, y;
    for (y = 0; y < side; y++, out += stride) {
        for (x = 0; x < side; x++) {
            out[x] = value;
        }
    }
}

/* YCbCr to RGB, as jdcolor.c does it. */
static INLINE void to_rgb(int32_t y, int32_t cb, int32_t cr, uint8_t *out)
{
    cb -= 128;
    cr -= 128;
    out[0] = clamp(y + ((91881 * cr + 32768) >> 16));
    out[1] = clamp(y + ((-22554 * cb - 46802 * cr + 32768) >> 16));
    out[2] = clamp(y + ((116130 * cb + 32768) >> 16));
}

#endif
