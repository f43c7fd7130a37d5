/* The data of the one scan: MCUs, restart markers, and rows of pixels. */
#ifndef LOWCLIP_JPEG_SCAN_H
#define LOWCLIP_JPEG_SCAN_H

#include "_jpeg_blocks.h"

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

#endif
