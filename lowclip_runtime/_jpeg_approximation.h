/* Blocks of a progressive scan, which gives some of a block's coefficients, without their lowest bits or one bit more of
 * them (T.81, annex G). */
#ifndef LOWCLIP_JPEG_APPROXIMATION_H
#define LOWCLIP_JPEG_APPROXIMATION_H

#include "_jpeg_blocks.h"

/* What a scan is about: coefficients `first` to `last` (T.81: Ss, Se) but for their lowest `low` bits (Al). */
typedef struct {
    int components, of[3], first, last, refines, low;
    int end_of_blocks; /* how many blocks more have no coefficients in this scan (T.81: EOBRUN) */
} Scan;

/* Whether a value without its lowest bits is one of 16 bits with them. */
static INLINE int fits(int32_t value, int low)
{
    return value <= INT16_MAX >> low && value >= INT16_MIN >> low;
}

static INLINE int read_mean(
    Reader *reader, Component *component, const Huffman *huffman, const Scan *scan, int16_t *block)
{
    if (scan->refines) {
        need(reader, 1);
        block[0] = (int16_t)(block[0] | take(reader, 1) << scan->low);
        return 1;
    }
    if (!read_dc(reader, component, huffman) || !fits(component->dc, scan->low)) {
        return 0;
    }
    block[0] = (int16_t)(component->dc * (1 << scan->low));
    return 1;
}

/* How many blocks, from this one on, the code for their end is about. */
static INLINE int read_run(Reader *reader, int bits)
{
    return (1 << bits) + (int)take(reader, bits);
}

static int read_first(Reader *reader, const Huffman *huffman, Scan *scan, int16_t *block)
{
    int k;
    if (scan->end_of_blocks) {
        scan->end_of_blocks--;
        return 1;
    }
    for (k = scan->first; k <= scan->last; k++) {
        int entry, run, size;
        need(reader, 32);
        entry = code_at(huffman, (uint32_t)(reader->bits >> 48));
        if (!entry) {
            return 0;
        }
        take(reader, entry >> 8);
        run = (entry & 255) >> 4;
        size = entry & 15;
        if (size) {
            int32_t value = take_number(reader, size);
            k += run;
            if (k > scan->last || !fits(value, scan->low)) {
                return 0;
            }
            block[natural_order[k]] = (int16_t)(value * (1 << scan->low));
        } else if (run == 15) {
            k += 15;
        } else {
            scan->end_of_blocks = read_run(reader, run) - 1;
            return 1;
        }
    }
    return k == scan->last + 1;
}

/* One more bit of each coefficient that has some already, up to the one before which there are `zeros` others. */
static int refine(Reader *reader, const Scan *scan, int16_t *block, int k, int zeros)
{
    for (; k <= scan->last; k++) {
        int16_t *coefficient = &block[natural_order[k]];
        if (*coefficient) {
            need(reader, 1);
            if (take(reader, 1) && !(*coefficient & 1 << scan->low)) {
                *coefficient = (int16_t)(*coefficient + (*coefficient > 0 ? 1 : -1) * (1 << scan->low));
            }
        } else if (--zeros < 0) {
            break;
        }
    }
    return k;
}

static int read_refinement(Reader *reader, const Huffman *huffman, Scan *scan, int16_t *block)
{
    int k = scan->first;
    while (!scan->end_of_blocks && k <= scan->last) {
        int entry, run, sign = 0;
        need(reader, 32);
        entry = code_at(huffman, (uint32_t)(reader->bits >> 48));
        if (!entry || (entry & 15) > 1) {
            return 0;
        }
        take(reader, entry >> 8);
        run = (entry & 255) >> 4;
        if (entry & 15) {
            sign = take(reader, 1) ? 1 : -1;
        } else if (run != 15) {
            scan->end_of_blocks = read_run(reader, run);
            break;
        }
        k = refine(reader, scan, block, k, run);
        if (sign) {
            if (k > scan->last) {
                return 0;
            }
            block[natural_order[k]] = (int16_t)(sign * (1 << scan->low));
        }
        k++;
    }
    if (scan->end_of_blocks) {
        refine(reader, scan, block, k, BLOCK);
        scan->end_of_blocks--;
    }
    return 1;
}

#endif
