/* Markers up to the scan's data. Each function returns whether what it read can be decoded. */
#ifndef LOWCLIP_JPEG_MARKERS_H
#define LOWCLIP_JPEG_MARKERS_H

#include "_jpeg_blocks.h"

enum { MAX_SIDE = 65500 }; /* libjpeg's JPEG_MAX_DIMENSION */

static int read_quantization(Jpeg *jpeg, const uint8_t *data, int length)
{
    while (length > 0) {
        int wide = data[0] >> 4, table = data[0] & 15, size = 1 + BLOCK * (wide + 1), i;
        if (wide > 1 || table > 3 || length < size) {
            return 0;
        }
        for (i = 0; i < BLOCK; i++) {
            jpeg->places[table][i].natural = natural_order[i];
            jpeg->places[table][i].quantization =
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
    return jpeg->width > 0 && jpeg->height > 0 && jpeg->width <= MAX_SIDE && jpeg->height <= MAX_SIDE;
}

static int read_scan_header(Jpeg *jpeg, const uint8_t *data, int length)
{
    int i;
    if (length != 10 || data[0] != 3 || data[7] != 0 || data[8] != 63 || data[9] != 0) {
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
    return 1;
}

/* Reads up to the data of the next scan, or the end of the picture: its marker and the segment's data, or 0. */
static int read_markers(Jpeg *jpeg, Reader *reader, const uint8_t **data, int *length)
{
    for (;;) {
        int marker, fine = 1;
        if (reader->end - reader->next < 2 || reader->next[0] != 0xFF) {
            return 0;
        }
        marker = reader->next[1];
        if (marker == 0xD9) {
            return marker;
        }
        if (reader->end - reader->next < 4) {
            return 0;
        }
        *data = reader->next + 4;
        *length = (reader->next[2] << 8 | reader->next[3]) - 2;
        if (*length < 0 || reader->end - *data < *length) {
            return 0;
        }
        reader->next = *data + *length;
        if (marker == 0xDB) { /* libjpeg keeps the table that a component's first scan had */
            fine = !jpeg->is_begun && read_quantization(jpeg, *data, *length);
        } else if (marker == 0xC4) {
            fine = read_huffman(jpeg, *data, *length);
        } else if (marker == 0xC0 || marker == 0xC2) {
            jpeg->is_progressive = marker == 0xC2;
            fine = !jpeg->width && read_frame(jpeg, *data, *length);
        } else if (marker == 0xDD) {
            fine = *length == 2;
            jpeg->restart_interval = fine ? (*data)[0] << 8 | (*data)[1] : 0;
        } else if (marker == 0xEE && *length >= 12 && !memcmp(*data, "Adobe", 5)) {
            fine = (*data)[11] == 1; /* YCbCr */
        } else if (marker == 0xDA) {
            jpeg->is_begun = 1;
            return jpeg->width ? marker : 0;
        } else {
            fine = (marker >= 0xE0 && marker <= 0xEF) || marker == 0xFE;
        }
        if (!fine) {
            return 0;
        }
    }
}

/* Reads up to the first scan's data. */
static int read_headers(Jpeg *jpeg, Reader *reader, const uint8_t **data, int *length)
{
    if (reader->end - reader->next < 2 || reader->next[0] != 0xFF || reader->next[1] != 0xD8) {
        return 0;
    }
    reader->next += 2;
    return read_markers(jpeg, reader, data, length) == 0xDA &&
           (jpeg->is_progressive || read_scan_header(jpeg, *data, *length));
}

#endif
