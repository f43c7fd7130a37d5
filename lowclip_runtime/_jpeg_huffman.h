/* The bits of a scan, their Huffman codes, and the tables by which coefficients are read and passed over. */
#ifndef LOWCLIP_JPEG_HUFFMAN_H
#define LOWCLIP_JPEG_HUFFMAN_H

#include <stdint.h>
#include <string.h>

#if defined(__GNUC__)
#define INLINE inline __attribute__((always_inline))
#define NOT_INLINE __attribute__((noinline))
#else
#define INLINE inline
#define NOT_INLINE
#endif

enum { LOOK_BITS = 9, READ_BITS = 12, SKIP_BITS = 13, BLOCK = 64 };
enum { READS = 4 };       /* at one filling of the bits */
enum { READ_END = 128 };  /* as a step: the end of the block */
enum { READ_LONG = 255 }; /* a code that is longer than READ_BITS, together with the bits that follow it */
enum { SKIPS = 4 };            /* at one filling of the bits */
enum { SKIP_END = 64 };        /* added to the coefficients of an entry that ends the block */
enum { SKIP_LONG = 255 << 8 }; /* entry of a code longer than SKIP_BITS, together with the bits that follow it */

typedef struct {
    const uint8_t *next, *end;
    uint64_t bits; /* the next bit is the highest */
    int count;     /* of bits that may be read */
    int padding;   /* of these, zeros after the end of the data */
} Reader;

typedef struct {
    int defined;
    uint16_t look[1 << LOOK_BITS]; /* length << 8 | value of a code that is no longer than LOOK_BITS, else 0 */
    int32_t maxcode[17];           /* greatest code of each length, -1 where there is none */
    int32_t offset[17];            /* of the values, less the least code of that length */
    uint8_t values[256];
} Huffman;

/* The one or two coefficients that READ_BITS begin with. Where the second is not whole it is the first again. */
typedef struct {
    int16_t first, second;
    uint8_t first_step, second_step; /* from the coefficient before to this one */
    uint8_t length, both;            /* bits of the first, and of both */
} Pair;

/* Bits */

/* Byte by byte: where a byte 0xFF is near, or the end. */
static NOT_INLINE Reader refilled(Reader reader)
{
    while (reader.count <= 56) {
        if (reader.next < reader.end && *reader.next != 0xFF) {
            reader.bits |= (uint64_t)*reader.next++ << (56 - reader.count);
        } else if (reader.end - reader.next >= 2 && reader.next[1] == 0) { /* 0xFF is followed by a zero */
            reader.bits |= (uint64_t)0xFF << (56 - reader.count);
            reader.next += 2;
        } else { /* a marker, or the end */
            reader.padding += 8;
        }
        reader.count += 8;
    }
    return reader;
}

/* At least 56 bits, where there are no more than 56. */
static INLINE void refill(Reader *reader)
{
    if (reader->end - reader->next >= 8) {
        const uint8_t *p = reader->next;
        uint64_t word = (uint64_t)p[0] << 56 | (uint64_t)p[1] << 48 | (uint64_t)p[2] << 40 | (uint64_t)p[3] << 32 |
                        (uint64_t)p[4] << 24 | (uint64_t)p[5] << 16 | (uint64_t)p[6] << 8 | (uint64_t)p[7];
        if (!((~word - UINT64_C(0x0101010101010101)) & word & UINT64_C(0x8080808080808080))) { /* no byte is 0xFF */
            reader->bits |= word >> reader->count;
            reader->next += (63 - reader->count) >> 3;
            reader->count |= 56;
            return;
        }
    }
    *reader = refilled(*reader);
}

static INLINE void need(Reader *reader, int bits)
{
    if (reader->count < bits) {
        refill(reader);
    }
}

static INLINE uint32_t take(Reader *reader, int bits) /* up to 32 of them */
{
    uint32_t value = (uint32_t)(reader->bits >> 1 >> (63 - bits));
    reader->bits <<= bits;
    reader->count -= bits;
    return value;
}

/* The number that a category of T.81's table F.1 and so many more bits stand for. Without a branch, which would be guessed
 * wrongly every other time. */
static INLINE int32_t take_number(Reader *reader, int category)
{
    int32_t value = (int32_t)take(reader, category);
    return value + (-(value < ((int32_t)1 << category) >> 1) & (1 - ((int32_t)1 << category)));
}

/* Whether all data up to the next marker was read and no more than that. */
static int at_marker(Reader *reader)
{
    int left;
    if (reader->count <= 56) {
        refill(reader);
    }
    left = reader->count - reader->padding;
    return left >= 0 && left < 8 && reader->end - reader->next >= 2;
}

/* Huffman codes */

/* length << 8 | value of the code that these 16 bits begin with, 0 if there is none */
static INLINE int code_at(const Huffman *huffman, uint32_t bits)
{
    int length, entry = huffman->look[bits >> (16 - LOOK_BITS)];
    if (entry) {
        return entry;
    }
    for (length = LOOK_BITS + 1; length <= 16; length++) {
        int32_t code = (int32_t)(bits >> (16 - length));
        if (code <= huffman->maxcode[length]) {
            return length << 8 | huffman->values[(code + huffman->offset[length]) & 255];
        }
    }
    return 0;
}

/* counts[i]: codes of i + 1 bits */
static int define_huffman(Huffman *huffman, const uint8_t counts[16], const uint8_t *values, int total)
{
    int length, i, k = 0;
    int32_t code = 0;
    memset(huffman, 0, sizeof *huffman);
    memcpy(huffman->values, values, (size_t)total);
    for (length = 1; length <= 16; length++) {
        huffman->offset[length] = k - code;
        for (i = 0; i < counts[length - 1]; i++, code++, k++) {
            if (code >= ((int32_t)1 << length) - 1) { /* T.81, annex C: no code is of ones alone */
                return 0;
            }
            if (length <= LOOK_BITS) {
                int spare = LOOK_BITS - length, j;
                for (j = 0; j < 1 << spare; j++) {
                    huffman->look[(code << spare) + j] = (uint16_t)(length << 8 | values[k]);
                }
            }
        }
        huffman->maxcode[length] = counts[length - 1] ? code - 1 : -1;
        code <<= 1;
    }
    huffman->defined = 1;
    return 1;
}

/* The coefficient that these bits, the highest of 32, begin with: whether all of it is within `most` of them. */
static int define_value(const Huffman *huffman, uint32_t bits, int most, uint8_t *length, uint8_t *step, int16_t *value)
{
    int entry = code_at(huffman, bits >> 16), size = entry & 15, run = (entry & 255) >> 4;
    Reader rest = {0};
    if (!entry || (entry >> 8) + size > most) {
        return 0;
    }
    rest.bits = (uint64_t)bits << (entry >> 8) << 32;
    *length = (uint8_t)((entry >> 8) + size);
    *step = (uint8_t)(size == 0 && run != 15 ? READ_END : run + 1);
    *value = (int16_t)take_number(&rest, size);
    return 1;
}

static void define_pairs(Pair *pairs, const Huffman *huffman)
{
    uint32_t window;
    for (window = 0; window < 1 << READ_BITS; window++) {
        uint32_t bits = window << (32 - READ_BITS);
        Pair *pair = &pairs[window];
        uint8_t length = 0;
        if (!define_value(huffman, bits, READ_BITS, &pair->length, &pair->first_step, &pair->first)) {
            pair->first_step = READ_LONG;
            continue;
        }
        pair->both = pair->length;
        pair->second = pair->first;
        if (pair->first_step != READ_END && define_value(huffman, bits << pair->length, READ_BITS - pair->length, &length,
                                                         &pair->second_step, &pair->second)) {
            pair->both = (uint8_t)(pair->length + length);
            if (pair->second_step == READ_END) {
                pair->second = pair->first;
            }
        }
    }
}

static void define_skip(uint16_t *skip, const Huffman *huffman)
{
    uint32_t window;
    for (window = 0; window < 1 << SKIP_BITS; window++) {
        int used = 0, coefficients = 0;
        while (coefficients < SKIP_END) {
            uint32_t rest = (window << (16 - SKIP_BITS + used)) & 0xFFFF;
            int entry = code_at(huffman, rest), run = (entry & 255) >> 4, size = entry & 15;
            int bits = (entry >> 8) + size;
            if (!entry || used + bits > SKIP_BITS) {
                break;
            }
            if (size == 0 && run != 15) {
                coefficients += SKIP_END;
            } else if (coefficients + run + 1 < SKIP_END) {
                coefficients += run + 1;
            } else {
                break; /* more than a block has */
            }
            used += bits;
        }
        skip[window] = (uint16_t)(used ? coefficients << 8 | used : SKIP_LONG);
    }
}

#endif
