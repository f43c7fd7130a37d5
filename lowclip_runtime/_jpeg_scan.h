/* The data of the one scan: MCUs, restart markers, and rows of pixels. */
#ifndef LOWCLIP_JPEG_SCAN_H
#define LOWCLIP_JPEG_SCAN_H

#include "_jpeg_blocks.h"

static INLINE int read_mcu(Jpeg *jpeg, Reader *reader, int column, int mcus)
{
    int i, h, v;
    for (i = 0; i < 3; i++) {
        Component *component = &jpeg->components[i];
        int side = component->side, stride = mcus * component->horizontal * side;
        uint8_t *out = jpeg->samples[i] + (size_t)column * component->horizontal * side;
        for (v = 0; v < component->vertical; v++, out += (size_t)stride * side) {
            for (h = 0; h < component->horizontal; h++) {
                if (!read_block(jpeg, reader, component, out + h * side, stride)) {
                    return 0;
                }
            }
        }
    }
    return 1;
}

/* `count` samples as twice as many: each twice, or by jdsample.c's h2v1_fancy_upsample where a block became several. */
static void widen(const uint8_t *samples, int count, int is_fancy, uint8_t *out)
{
    int i;
    for (i = 0; i < count; i++) {
        int to_left = samples[is_fancy && i > 0 ? i - 1 : i], to_right = samples[is_fancy && i < count - 1 ? i + 1 : i];
        out[2 * i] = (uint8_t)((3 * samples[i] + to_left + 1) >> 2);
        out[2 * i + 1] = (uint8_t)((3 * samples[i] + to_right + 2) >> 2);
    }
}

/* Rows of pixels from the samples of a row of MCUs. */
static void write_rows(const Jpeg *jpeg, int mcus, int rows, int width, uint8_t *out)
{
    const Component *luma = &jpeg->components[0], *chroma = &jpeg->components[1];
    int luma_stride = mcus * luma->horizontal * luma->side, chroma_stride = mcus * chroma->side;
    int is_halved = luma_stride == 2 * chroma_stride, shared = luma->vertical * luma->side / chroma->side;
    int i, x, y;
    for (y = 0; y < rows; y++) {
        const uint8_t *row[3];
        row[0] = jpeg->samples[0] + (size_t)y * luma_stride;
        for (i = 1; i < 3; i++) {
            row[i] = jpeg->samples[i] + (size_t)(y / shared) * chroma_stride;
            if (is_halved) {
                widen(row[i], (width + 1) / 2, chroma->side > 1, jpeg->wide[i - 1]);
                row[i] = jpeg->wide[i - 1];
            }
        }
        for (x = 0; x < width; x++, out += 3) {
            to_rgb(row[0][x], row[1][x], row[2][x], out);
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
    int horizontal = jpeg->components[0].horizontal, lines = jpeg->components[0].vertical * jpeg->components[0].side;
    int width = scaled(jpeg->width, jpeg->scale), height = scaled(jpeg->height, jpeg->scale);
    int mcus = (jpeg->width + 8 * horizontal - 1) / (8 * horizontal);
    int row, column, restarts = 0, until_restart = jpeg->restart_interval;
    for (row = 0; row < height; row += lines) {
        int rows = height - row < lines ? height - row : lines;
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
