/* Progressive JPEG to an eighth: the scans of the means, and of chrominance all others where its blocks become four
 * samples. The scans of the other coefficients, most of the file, are passed over. */
#ifndef LOWCLIP_JPEG_PROGRESSIVE_H
#define LOWCLIP_JPEG_PROGRESSIVE_H

#include <stdlib.h>

#include "_jpeg_approximation.h"
#include "_jpeg_markers.h"
#include "_jpeg_scan.h"

enum { MAX_APPROXIMATION = 13 };

static int allocate_coefficients(Jpeg *jpeg)
{
    int i, j, luma_width = jpeg->components[0].horizontal, luma_height = jpeg->components[0].vertical;
    int mcus = (jpeg->width + 8 * luma_width - 1) / (8 * luma_width);
    int rows = (jpeg->height + 8 * luma_height - 1) / (8 * luma_height);
    for (i = 0; i < 3; i++) {
        Component *component = &jpeg->components[i];
        component->columns = (jpeg->width * component->horizontal + 8 * luma_width - 1) / (8 * luma_width);
        component->rows = (jpeg->height * component->vertical + 8 * luma_height - 1) / (8 * luma_height);
        component->stride = mcus * component->horizontal;
        component->kept = component->side == 1 ? 1 : BLOCK;
        component->coefficients =
            calloc((size_t)component->stride * rows * component->vertical, component->kept * sizeof(int16_t));
        if (!component->coefficients) {
            return 0;
        }
        for (j = 0; j < BLOCK; j++) {
            component->missing[j] = -1;
        }
    }
    return 1;
}

/* The scan, if the one before it in each of its coefficients is what it goes on from. */
static int define_scan(Jpeg *jpeg, const uint8_t *data, int length, Scan *scan)
{
    int i, j, count = length ? data[0] : 0;
    if (count < 1 || count > 3 || length != 4 + 2 * count) {
        return 0;
    }
    memset(scan, 0, sizeof *scan);
    scan->components = count;
    scan->first = data[1 + 2 * count];
    scan->last = data[2 + 2 * count];
    scan->refines = data[3 + 2 * count] >> 4;
    scan->low = data[3 + 2 * count] & 15;
    if (scan->first ? scan->last < scan->first || scan->last >= BLOCK || count != 1 : scan->last != 0) {
        return 0;
    }
    if (scan->low > MAX_APPROXIMATION || (scan->refines && scan->low != scan->refines - 1)) {
        return 0;
    }
    for (i = 0; i < count; i++) {
        Component *component;
        int at = i ? scan->of[i - 1] + 1 : 0;
        while (at < 3 && jpeg->components[at].id != data[1 + 2 * i]) {
            at++;
        }
        if (at == 3) {
            return 0;
        }
        scan->of[i] = at;
        component = &jpeg->components[at];
        component->dc_table = data[2 + 2 * i] >> 4;
        component->ac_table = data[2 + 2 * i] & 15;
        component->dc = 0;
        if (component->dc_table > 3 || component->ac_table > 3 ||
            !jpeg->quantization_defined[component->quantization] ||
            (scan->first ? !jpeg->ac[component->ac_table].defined
                         : !scan->refines && !jpeg->dc[component->dc_table].defined)) {
            return 0;
        }
        if (scan->first && component->missing[0] < 0) { /* means come first */
            return 0;
        }
        for (j = scan->first; j <= scan->last; j++) {
            if (component->missing[j] != (scan->refines ? scan->refines : -1)) {
                return 0;
            }
            component->missing[j] = (int8_t)scan->low;
        }
    }
    return 1;
}

static int read_scan_block(Jpeg *jpeg, Reader *reader, Component *component, Scan *scan, int row, int column)
{
    int16_t *block = component->coefficients + ((size_t)row * component->stride + column) * component->kept;
    const Huffman *ac = &jpeg->ac[component->ac_table];
    if (!scan->first) {
        return read_mean(reader, component, &jpeg->dc[component->dc_table], scan, block);
    }
    return scan->refines ? read_refinement(reader, ac, scan, block) : read_first(reader, ac, scan, block);
}

static int read_scan_mcu(Jpeg *jpeg, Reader *reader, Scan *scan, int row, int column)
{
    int i, h, v;
    if (scan->components == 1) {
        return read_scan_block(jpeg, reader, &jpeg->components[scan->of[0]], scan, row, column);
    }
    for (i = 0; i < scan->components; i++) {
        Component *component = &jpeg->components[scan->of[i]];
        for (v = 0; v < component->vertical; v++) {
            for (h = 0; h < component->horizontal; h++) {
                if (!read_scan_block(jpeg, reader, component, scan, row * component->vertical + v,
                                     column * component->horizontal + h)) {
                    return 0;
                }
            }
        }
    }
    return 1;
}

static int read_scan_data(Jpeg *jpeg, Reader *reader, Scan *scan)
{
    const Component *only = &jpeg->components[scan->of[0]], *luma = &jpeg->components[0];
    int columns = scan->components == 1 ? only->columns : luma->stride / luma->horizontal;
    int rows = scan->components == 1 ? only->rows : (jpeg->height + 8 * luma->vertical - 1) / (8 * luma->vertical);
    int row, column, restarts = 0, until_restart = jpeg->restart_interval;
    reader->bits = 0;
    reader->count = reader->padding = 0;
    for (row = 0; row < rows; row++) {
        for (column = 0; column < columns; column++) {
            if (jpeg->restart_interval && until_restart-- == 0) {
                if (scan->end_of_blocks || !read_restart(jpeg, reader, restarts++)) {
                    return 0;
                }
                until_restart = jpeg->restart_interval - 1;
            }
            if (!read_scan_mcu(jpeg, reader, scan, row, column)) {
                return 0;
            }
        }
        if (reader->count < reader->padding) { /* the data ended before */
            return 0;
        }
    }
    return at_marker(reader) && !scan->end_of_blocks;
}

/* To the next marker that is not of a restart. */
static int pass_over_data(Reader *reader)
{
    for (;;) {
        const uint8_t *marker = memchr(reader->next, 0xFF, (size_t)(reader->end - reader->next));
        if (!marker || reader->end - marker < 2) {
            return 0;
        }
        reader->next = marker;
        if (marker[1] != 0 && marker[1] != 0xFF && (marker[1] < 0xD0 || marker[1] > 0xD7)) {
            return 1;
        }
        reader->next += marker[1] == 0xFF ? 1 : 2;
    }
}

/* Samples of a block of which all coefficients are known. */
static int write_block(Jpeg *jpeg, const Component *component, const int16_t *coefficients, uint8_t *out, int stride)
{
    const Place *places = jpeg->places[component->quantization];
    uint32_t values = put(coefficients[0], &places[0], jpeg->block);
    if (component->kept == BLOCK && memcmp(coefficients + 1, no_coefficients + 1, (BLOCK - 1) * sizeof *coefficients)) {
        int k;
        for (k = 1; k < BLOCK; k++) {
            values |= put(coefficients[natural_order[k]], &places[k], jpeg->block);
        }
        return within(values, 1) && inverse_dct_2x2(jpeg->block, out, stride);
    }
    fill(out, component->side, stride, clamp(descale(jpeg->block[0], 3) + 128));
    return within(values, 1);
}

/* Samples of a row of MCUs. */
static int write_samples(Jpeg *jpeg, int row)
{
    int i, column, line;
    for (i = 0; i < 3; i++) {
        const Component *component = &jpeg->components[i];
        int side = component->side, stride = component->stride * side;
        const int16_t *block =
            component->coefficients + (size_t)row * component->vertical * component->stride * component->kept;
        for (line = 0; line < component->vertical; line++) {
            uint8_t *out = jpeg->samples[i] + (size_t)line * stride * side;
            for (column = 0; column < component->stride; column++, block += component->kept, out += side) {
                if (!write_block(jpeg, component, block, out, stride)) {
                    return 0;
                }
            }
        }
    }
    return 1;
}

static int write_image(Jpeg *jpeg, uint8_t *out)
{
    const Component *luma = &jpeg->components[0];
    int width = scaled(jpeg->width, 8), left = scaled(jpeg->height, 8), row;
    for (row = 0; left > 0; row++, left -= luma->vertical) {
        int rows = left < luma->vertical ? left : luma->vertical;
        if (!write_samples(jpeg, row)) {
            return 0;
        }
        write_rows(jpeg, luma->stride / luma->horizontal, rows, width, out);
        out += (size_t)rows * width * 3;
    }
    return 1;
}

/* From the first scan, whose header is `data`, to the end of the picture. */
static int read_scans(Jpeg *jpeg, Reader *reader, const uint8_t *data, int length, uint8_t *out)
{
    int i, j, counts, marker = 0xDA;
    Scan scan;
    if (!allocate_coefficients(jpeg)) {
        return 0;
    }
    while (marker == 0xDA) {
        if (!define_scan(jpeg, data, length, &scan)) {
            return 0;
        }
        counts = !scan.first || jpeg->components[scan.of[0]].kept == BLOCK;
        if (!(counts ? read_scan_data(jpeg, reader, &scan) : pass_over_data(reader))) {
            return 0;
        }
        marker = read_markers(jpeg, reader, &data, &length);
    }
    for (i = 0; i < 3; i++) {
        for (j = 0; j < BLOCK; j++) { /* where some were never sent, libjpeg guesses them */
            if (jpeg->components[i].missing[j]) {
                return 0;
            }
        }
    }
    return marker == 0xD9 && write_image(jpeg, out);
}

#endif
