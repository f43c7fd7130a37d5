/* A baseline JPEG decoded to an eighth of its width and height, to the bit as libjpeg-turbo decodes it.
 *
 * Of each block of 8x8 pixels one is kept, for which its mean is enough. What takes the time is to find where the next
 * block begins: libjpeg reads the Huffman code of every coefficient by itself. Here a table tells for the next 13 bits
 * how many whole codes are in them, how many bits these take and how many coefficients they stand for, so that several are
 * passed over in one step (MEASURED, photos of 12 MP and 3.2 MB: 13 ms of a core, 29 by libjpeg-turbo 3.2).
 *
 * Only what is common and undamaged is decoded: three components in one scan, 8 bits, Huffman, YCbCr, luminance sampled
 * 1x1, 2x1, 1x2 or 2x2. Of anything else `decode` returns None, and Pillow decodes it or says what is wrong with it.
 * Names are those of the standard, ITU-T T.81.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__GNUC__)
#define INLINE inline __attribute__((always_inline))
#define NOT_INLINE __attribute__((noinline))
#else
#define INLINE inline
#define NOT_INLINE
#endif

enum { LOOK_BITS = 9, SKIP_BITS = 13, BLOCK = 64, MAX_DEQUANTIZED = 2047 };
enum { SKIPS = 4 };           /* at one filling of the bits */
enum { SKIP_END = 64 };       /* added to the coefficients of an entry that ends the block */
enum { SKIP_LONG = 255 << 8 }; /* entry of a code longer than SKIP_BITS, together with the bits that follow it */

typedef struct {
    int defined;
    uint16_t look[1 << LOOK_BITS]; /* length << 8 | value of a code that is no longer than LOOK_BITS, else 0 */
    int32_t maxcode[17];           /* greatest code of each length, -1 where there is none */
    int32_t offset[17];            /* of the values, less the least code of that length */
    uint8_t values[256];
} Huffman;

typedef struct {
    const uint8_t *next, *end;
    uint64_t bits; /* the next bit is the highest */
    int count;     /* of bits that may be read */
    int padding;   /* of these, zeros after the end of the data */
} Reader;

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
    uint8_t *samples[3]; /* of one row of MCUs */
    int16_t block[BLOCK]; /* zeros between its uses */
} Jpeg;

static const uint8_t natural_order[BLOCK] = {
    0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48,
    41, 34, 27, 20, 13, 6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23,
    30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
};

static const int16_t no_coefficients[BLOCK] = {0};

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
            if (code >= (int32_t)1 << length) {
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

static void inverse_dct_2x2(const int16_t *block, uint8_t *out, int stride)
{
    static const int columns[5] = {0, 1, 3, 5, 7};
    int32_t rows[2][8];
    int i;
    for (i = 0; i < 5; i++) {
        const int16_t *column = block + columns[i];
        int32_t even = column[0] * (1 << 15), odd = odd_part(column[8], column[24], column[40], column[56]);
        rows[0][columns[i]] = descale(even + odd, 13);
        rows[1][columns[i]] = descale(even - odd, 13);
    }
    for (i = 0; i < 2; i++) {
        const int32_t *row = rows[i];
        int32_t even = row[0] * (1 << 15), odd = odd_part(row[1], row[3], row[5], row[7]);
        out[i * stride] = clamp(descale(even + odd, 20) + 128);
        out[i * stride + 1] = clamp(descale(even - odd, 20) + 128);
    }
}

static void to_rgb(int32_t y, int32_t cb, int32_t cr, uint8_t *out)
{
    cb -= 128;
    cr -= 128;
    out[0] = clamp(y + ((91881 * cr + 32768) >> 16));
    out[1] = clamp(y + ((-22554 * cb - 46802 * cr + 32768) >> 16));
    out[2] = clamp(y + ((116130 * cb + 32768) >> 16));
}

/* The scan */

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
            inverse_dct_2x2(jpeg->block, out, stride);
            memcpy(jpeg->block, no_coefficients, sizeof jpeg->block); /* memset was a loop */
        } else {
            out[0] = out[1] = out[stride] = out[stride + 1] = clamp(descale(mean, 3) + 128);
        }
        return reach;
    }
    *out = clamp(descale(mean, 3) + 128);
    return skip_ac(reader, &jpeg->ac[component->ac_table], jpeg->skip[component->ac_table]);
}

static INLINE int read_mcu(Jpeg *jpeg, Reader *reader, int column, int mcus)
{
    int i, h, v;
    int horizontal = jpeg->components[0].horizontal, vertical = jpeg->components[0].vertical;
    int doubled = horizontal == 2 && vertical == 2;
    for (v = 0; v < vertical; v++) {
        for (h = 0; h < horizontal; h++) {
            uint8_t *out = jpeg->samples[0] + (size_t)v * mcus * horizontal + (size_t)column * horizontal + h;
            if (!read_block(jpeg, reader, &jpeg->components[0], out, 0, 0)) {
                return 0;
            }
        }
    }
    for (i = 1; i < 3; i++) {
        uint8_t *out = jpeg->samples[i] + (size_t)column * (doubled ? 2 : 1);
        if (!read_block(jpeg, reader, &jpeg->components[i], out, mcus * 2, doubled)) {
            return 0;
        }
    }
    return 1;
}

/* Rows of pixels from the samples of a row of MCUs. */
static void write_rows(const Jpeg *jpeg, int mcus, int rows, int width, uint8_t *out)
{
    int horizontal = jpeg->components[0].horizontal, vertical = jpeg->components[0].vertical;
    int doubled = horizontal == 2 && vertical == 2;
    int x, y;
    for (y = 0; y < rows; y++) {
        const uint8_t *luma = jpeg->samples[0] + (size_t)y * mcus * horizontal;
        size_t chroma = doubled ? (size_t)y * mcus * 2 : 0;
        for (x = 0; x < width; x++, out += 3) {
            size_t at = chroma + (size_t)(doubled ? x : x / horizontal);
            to_rgb(luma[x], jpeg->samples[1][at], jpeg->samples[2][at], out);
        }
    }
}

static int read_restart(Jpeg *jpeg, Reader *reader, int number)
{
    int i;
    if (!at_marker(reader) || reader->next[0] != 0xFF || reader->next[1] != 0xD0 + (number & 7)) {
        return 0;
    }
    reader->next += 2;
    reader->bits = 0;
    reader->count = reader->padding = 0;
    for (i = 0; i < 3; i++) {
        jpeg->components[i].dc = 0;
    }
    return 1;
}

static int read_scan(Jpeg *jpeg, Reader *scan, uint8_t *out)
{
    Reader copy = *scan, *reader = &copy;
    int horizontal = jpeg->components[0].horizontal, vertical = jpeg->components[0].vertical;
    int width = (jpeg->width + 7) / 8, height = (jpeg->height + 7) / 8;
    int mcus = (jpeg->width + 8 * horizontal - 1) / (8 * horizontal);
    int row, column, restarts = 0, until_restart = jpeg->restart_interval;
    for (row = 0; row < height; row += vertical) {
        int rows = height - row < vertical ? height - row : vertical;
        for (column = 0; column < mcus; column++) {
            if (jpeg->restart_interval && until_restart-- == 0) {
                if (!read_restart(jpeg, reader, restarts++)) {
                    return 0;
                }
                until_restart = jpeg->restart_interval - 1;
            }
            if (!read_mcu(jpeg, reader, column, mcus)) {
                return 0;
            }
        }
        if (reader->count < reader->padding) { /* the data ended before */
            return 0;
        }
        write_rows(jpeg, mcus, rows, width, out);
        out += (size_t)rows * width * 3;
    }
    return at_marker(reader) && reader->next[0] == 0xFF && reader->next[1] == 0xD9;
}

/* Markers; each returns whether what it read can be decoded */

static int read_quantization(Jpeg *jpeg, const uint8_t *data, int length)
{
    while (length > 0) {
        int wide = data[0] >> 4, table = data[0] & 15, size = 1 + BLOCK * (wide + 1), i;
        if (wide > 1 || table > 3 || length < size) {
            return 0;
        }
        for (i = 0; i < BLOCK; i++) {
            jpeg->quantization[table][i] =
                wide ? (uint16_t)(data[1 + 2 * i] << 8 | data[2 + 2 * i]) : data[1 + i];
        }
        jpeg->quantization_defined[table] = 1;
        data += size;
        length -= size;
    }
    return 1;
}

static int read_huffman(Jpeg *jpeg, const uint8_t *data, int length)
{
    while (length > 0) {
        int is_ac = data[0] >> 4, table = data[0] & 15, total = 0, i;
        if (length < 17 || is_ac > 1 || table > 3) {
            return 0;
        }
        for (i = 0; i < 16; i++) {
            total += data[1 + i];
        }
        if (total > 256 || length < 17 + total) {
            return 0;
        }
        for (i = 0; i < total && !is_ac; i++) {
            if (data[17 + i] > 11) { /* bits of a difference */
                return 0;
            }
        }
        if (!define_huffman(is_ac ? &jpeg->ac[table] : &jpeg->dc[table], data + 1, data + 17, total)) {
            return 0;
        }
        data += 17 + total;
        length -= 17 + total;
    }
    return 1;
}

static int read_frame(Jpeg *jpeg, const uint8_t *data, int length)
{
    int i;
    if (length != 15 || data[0] != 8 || data[5] != 3) {
        return 0;
    }
    if (data[6] == 'R' && data[9] == 'G' && data[12] == 'B') {
        return 0;
    }
    jpeg->height = data[1] << 8 | data[2];
    jpeg->width = data[3] << 8 | data[4];
    for (i = 0; i < 3; i++) {
        Component *component = &jpeg->components[i];
        component->id = data[6 + 3 * i];
        component->horizontal = data[7 + 3 * i] >> 4;
        component->vertical = data[7 + 3 * i] & 15;
        component->quantization = data[8 + 3 * i];
        if (component->quantization > 3 || component->horizontal < 1 || component->vertical < 1 ||
            component->horizontal > (i ? 1 : 2) || component->vertical > (i ? 1 : 2)) {
            return 0;
        }
    }
    return jpeg->width > 0 && jpeg->height > 0;
}

static int read_scan_header(Jpeg *jpeg, const uint8_t *data, int length)
{
    int i;
    if (!jpeg->width || length != 10 || data[0] != 3 || data[7] != 0 || data[8] != 63 || data[9] != 0) {
        return 0;
    }
    for (i = 0; i < 3; i++) {
        Component *component = &jpeg->components[i];
        component->dc_table = data[2 + 2 * i] >> 4;
        component->ac_table = data[2 + 2 * i] & 15;
        if (data[1 + 2 * i] != component->id || component->dc_table > 3 || component->ac_table > 3 ||
            !jpeg->dc[component->dc_table].defined || !jpeg->ac[component->ac_table].defined ||
            !jpeg->quantization_defined[component->quantization]) {
            return 0;
        }
    }
    for (i = 0; i < 4; i++) {
        if (jpeg->ac[i].defined) {
            define_skip(jpeg->skip[i], &jpeg->ac[i]);
        }
    }
    return 1;
}

/* Reads up to the scan's data. */
static int read_headers(Jpeg *jpeg, Reader *reader)
{
    if (reader->end - reader->next < 2 || reader->next[0] != 0xFF || reader->next[1] != 0xD8) {
        return 0;
    }
    reader->next += 2;
    for (;;) {
        const uint8_t *data = reader->next + 4;
        int marker, length, fine = 1;
        if (reader->end - reader->next < 4 || reader->next[0] != 0xFF) {
            return 0;
        }
        marker = reader->next[1];
        length = (reader->next[2] << 8 | reader->next[3]) - 2;
        if (length < 0 || reader->end - data < length) {
            return 0;
        }
        reader->next = data + length;
        if (marker == 0xDB) {
            fine = read_quantization(jpeg, data, length);
        } else if (marker == 0xC4) {
            fine = read_huffman(jpeg, data, length);
        } else if (marker == 0xC0) {
            fine = !jpeg->width && read_frame(jpeg, data, length);
        } else if (marker == 0xDD) {
            fine = length == 2;
            jpeg->restart_interval = fine ? data[0] << 8 | data[1] : 0;
        } else if (marker == 0xEE && length >= 12 && !memcmp(data, "Adobe", 5)) {
            fine = data[11] == 1; /* YCbCr */
        } else if (marker == 0xDA) {
            return read_scan_header(jpeg, data, length);
        } else {
            fine = (marker >= 0xE0 && marker <= 0xEF) || marker == 0xFE;
        }
        if (!fine) {
            return 0;
        }
    }
}

static int decode_rgb(Jpeg *jpeg, Reader *reader, uint8_t *out)
{
    size_t most = ((size_t)jpeg->width / 8 + 2) * 2; /* samples of a component in a row of MCUs, at two lines each */
    uint8_t *samples = calloc(3, most);
    int i, fine;
    if (!samples) {
        return 0;
    }
    for (i = 0; i < 3; i++) {
        jpeg->samples[i] = samples + (size_t)i * most;
    }
    fine = read_scan(jpeg, reader, out);
    free(samples);
    return fine;
}

static PyObject *decode(PyObject *module, PyObject *args)
{
    Py_buffer data;
    PyObject *pixels = NULL;
    Jpeg *jpeg;
    Reader reader = {0};
    int width, height, fine;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*ii", &data, &width, &height)) {
        return NULL;
    }
    jpeg = calloc(1, sizeof *jpeg);
    if (!jpeg) {
        PyBuffer_Release(&data);
        return PyErr_NoMemory();
    }
    reader.next = data.buf;
    reader.end = reader.next + data.len;
    fine = read_headers(jpeg, &reader) && jpeg->width == width && jpeg->height == height;
    if (fine) {
        pixels = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)((width + 7) / 8) * ((height + 7) / 8) * 3);
    }
    if (pixels) {
        uint8_t *out = (uint8_t *)PyBytes_AsString(pixels);
        Py_BEGIN_ALLOW_THREADS
        fine = decode_rgb(jpeg, &reader, out);
        Py_END_ALLOW_THREADS
    }
    free(jpeg);
    PyBuffer_Release(&data);
    if (fine || PyErr_Occurred()) {
        return pixels;
    }
    Py_XDECREF(pixels);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"decode", decode, METH_VARARGS,
     "decode(data, width, height) -> RGB bytes of ceil(height / 8) rows of ceil(width / 8) pixels, or None."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_jpeg_eighth", "Baseline JPEG to an eighth of its size.", 0, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__jpeg_eighth(void)
{
    return PyModule_Create(&module);
}
