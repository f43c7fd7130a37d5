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
#include <stdlib.h>

#include "_jpeg_markers.h"
#include "_jpeg_scan.h"

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
    Py_BEGIN_ALLOW_THREADS
    fine = read_headers(jpeg, &reader) && jpeg->width == width && jpeg->height == height;
    Py_END_ALLOW_THREADS
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
