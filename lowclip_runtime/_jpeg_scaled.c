/* A JPEG decoded to an eighth or a quarter of its width and height, to the bit as libjpeg-turbo decodes it.
 *
 * At an eighth one pixel is kept of each block of 8x8, for which its mean is enough. What takes the time is to find where
 * the next block begins: libjpeg reads the Huffman code of every coefficient by itself. Here a table tells for the next
 * 13 bits how many whole codes are in them, how many bits these take and how many coefficients they stand for, so that
 * several are passed over in one step (MEASURED, photos of 12 MP and 3.2 MB: 13 ms of a core, 29 by libjpeg-turbo 3.2).
 * Where a block becomes more than one sample, another table gives the next two coefficients at once (8 MP and 2.2 MB, a
 * quarter: two thirds of libjpeg-turbo's time). Of a progressive file, most of which is about other coefficients than the
 * means, only the scans that count are read (12 MP and 3.0 MB, an eighth: 17 ms, 148 by libjpeg-turbo).
 *
 * Only what is common and undamaged is decoded: three components, 8 bits, Huffman, YCbCr, luminance sampled 1x1, 2x1, 1x2
 * (at an eighth) or 2x2, baseline in one scan or progressive (at an eighth). Of anything else `decode` returns None, and
 * Pillow decodes it or says what is wrong with it. Names are those of the standard, ITU-T T.81.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <stdlib.h>

#include "_jpeg_markers.h"
#include "_jpeg_progressive.h"
#include "_jpeg_scan.h"

/* How large a square of samples each block becomes, and the tables to read it by. libjpeg takes twice as many samples of
 * chrominance that has a quarter of the blocks, which makes them as many as the pixels. */
static int define_blocks(Jpeg *jpeg)
{
    const Component *luma = &jpeg->components[0];
    int i, side = 8 / jpeg->scale, is_doubled = luma->horizontal == 2 && luma->vertical == 2;
    int skipped = 0, read = 0; /* Huffman tables of which there is such a table already */
    for (i = 0; i < 3; i++) {
        Component *component = &jpeg->components[i];
        int table = component->ac_table;
        component->side = is_doubled && i ? 2 * side : side;
        if (jpeg->is_progressive) {
            continue;
        }
        if (component->side == 1 && !(skipped & 1 << table)) {
            define_skip(jpeg->skip[table], &jpeg->ac[table]);
            skipped |= 1 << table;
        } else if (component->side > 1 && !(read & 1 << table)) {
            define_pairs(jpeg->pairs[table], &jpeg->ac[table]);
            read |= 1 << table;
        }
    }
    if (jpeg->is_progressive && side > 1) { /* all of it would have to be read, which libjpeg does as fast */
        return 0;
    }
    /* at a quarter, chrominance of half the height alone takes rows above and below, half the width three samples */
    return side == 1 || is_doubled || (luma->vertical == 1 && (luma->horizontal == 1 || jpeg->width > 16));
}

/* From the first scan, whose header is `data`. */
static int decode_rgb(Jpeg *jpeg, Reader *reader, const uint8_t *data, int length, uint8_t *out)
{
    size_t width = (size_t)jpeg->width / jpeg->scale + 16; /* samples in a row of MCUs, of up to 4 lines */
    uint8_t *samples = calloc(3 * 4 + 2, width);
    int i, fine;
    if (!samples) {
        return 0;
    }
    for (i = 0; i < 3; i++) {
        jpeg->samples[i] = samples + (size_t)i * 4 * width;
    }
    for (i = 0; i < 2; i++) {
        jpeg->wide[i] = samples + (size_t)(12 + i) * width;
    }
    fine = jpeg->is_progressive ? read_scans(jpeg, reader, data, length, out) : read_scan(jpeg, reader, out);
    free(samples);
    for (i = 0; i < 3; i++) {
        free(jpeg->components[i].coefficients);
    }
    return fine;
}

static PyObject *decode(PyObject *module, PyObject *args)
{
    Py_buffer data;
    PyObject *pixels = NULL;
    Jpeg *jpeg;
    Reader reader = {0};
    const uint8_t *header = NULL; /* of the first scan */
    int width, height, scale, fine, length = 0;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*iii", &data, &width, &height, &scale)) {
        return NULL;
    }
    jpeg = calloc(1, sizeof *jpeg);
    if (!jpeg) {
        PyBuffer_Release(&data);
        return PyErr_NoMemory();
    }
    jpeg->scale = scale;
    reader.next = data.buf;
    reader.end = reader.next + data.len;
    Py_BEGIN_ALLOW_THREADS
    fine = (scale == 8 || scale == 4) && read_headers(jpeg, &reader, &header, &length) && jpeg->width == width &&
           jpeg->height == height && define_blocks(jpeg);
    Py_END_ALLOW_THREADS
    if (fine) {
        pixels = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)scaled(width, scale) * scaled(height, scale) * 3);
    }
    if (pixels) {
        uint8_t *out = (uint8_t *)PyBytes_AsString(pixels);
        Py_BEGIN_ALLOW_THREADS
        fine = decode_rgb(jpeg, &reader, header, length, out);
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
     "decode(data, width, height, scale) -> RGB bytes, ceil(height / scale) rows of ceil(width / scale) pixels, or None."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_jpeg_scaled", "JPEG to an eighth or a quarter of its size.", 0, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__jpeg_scaled(void)
{
    return PyModule_Create(&module);
}
