/* The coder `max` in C: a thin skin around the three models, for diffcodec.coders.max.
 *
 * One type, Coder, is an encoder or a decoder of one stream. Python hands it buffers and takes
 * bytes; the work itself runs without the interpreter lock on memory of its own. There is no
 * state outside the objects. What the streams are is note.md, what the bits mean the headers. */

#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "_mixing_range.h"
#include "_mixing_sparse.h"
#include "_mixing_streams.h"

enum { SPARSE, SYMBOLS, BYTES, KINDS };

/* Most input bytes that one segment, symbol or element may take, and what priming takes. */
enum {
    SEGMENT_BYTES = SEGMENT * WORST_BYTES + 8,
    ELEMENT_BYTES = 64,
    SLACK = 16,
};

typedef struct {
    PyObject_HEAD
    int kind, decoding;
    int is_busy, is_finished;      /* guarded by the interpreter lock */
    Range range;
    union {
        Sparse *sparse;
        Symbols *symbols;
        Bytes *bytes;
        void *any;
    } model;
    int64_t total;                 /* elements of the tensor */
} Coder;

/* Refuse to be used from two threads at once, or after the end. */
static int enter(Coder *self)
{
    if (self->is_busy || self->is_finished) {
        PyErr_SetString(PyExc_RuntimeError, self->is_busy ? "the coder is in use"
                                                          : "the coder is finished");
        return -1;
    }
    self->is_busy = 1;
    return 0;
}

static PyObject *coder_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    int kind, decoding;
    (void)keywords;
    if (!PyArg_ParseTuple(args, "ip:Coder", &kind, &decoding)) {
        return NULL;
    }
    if (kind < 0 || kind >= KINDS) {
        PyErr_SetString(PyExc_ValueError, "expected a kind of 0, 1 or 2");
        return NULL;
    }
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Coder *self = (Coder *)alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->kind = kind;
    self->decoding = decoding;
    self->range.range = UINT64_MAX;
    static const size_t sizes[KINDS] = {sizeof(Sparse), sizeof(Symbols), sizeof(Bytes)};
    self->model.any = malloc(sizes[kind]);
    if (self->model.any == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    if (kind == SPARSE) {
        sparse_init(self->model.sparse);
    } else if (kind == SYMBOLS) {
        symbols_init(self->model.symbols);
    } else {
        bytes_init(self->model.bytes);
    }
    return (PyObject *)self;
}

static void coder_dealloc(Coder *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    if (self->model.any != NULL) {
        if (self->kind == SPARSE) {
            sparse_free(self->model.sparse);
        } else if (self->kind == SYMBOLS) {
            free(self->model.symbols->above);
        } else {
            free(self->model.bytes->above);
        }
        free(self->model.any);
    }
    if (!self->decoding) {
        free(self->range.out);
    }
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

/* begin(size, width, lag, count, largest): the next tensor. `largest` is the item size of bytes. */
static PyObject *coder_begin(Coder *self, PyObject *args)
{
    long long size, width, lag, count, largest;
    if (!PyArg_ParseTuple(args, "LLLLL:begin", &size, &width, &lag, &count, &largest)) {
        return NULL;
    }
    const long long widest = self->kind == SPARSE ? WIDTH_MOST : 1 << 20;
    int is_valid = size >= 1 && size <= INT64_MAX >> 20 && width >= 0 && width <= widest
                   && largest >= 1 && largest <= 127;
    if (self->kind == SPARSE) {
        is_valid = is_valid && width >= 1 && count >= 1 && count <= size && lag >= 0
                   && (lag == 0 || (size <= HISTORY_MOST && lag < size && size % lag == 0));
    } else if (self->kind == BYTES) {
        is_valid = is_valid && (largest == 1 || largest == 2 || largest == 4);
    }
    if (!is_valid) {
        PyErr_Format(PyExc_ValueError, "not a tensor of this stream: %lld, %lld, %lld, %lld, %lld",
                     size, width, lag, count, largest);
        return NULL;
    }
    if (enter(self) < 0) {
        return NULL;
    }
    int64_t left = self->kind == SPARSE ? self->model.sparse->left
                   : self->kind == SYMBOLS ? self->model.symbols->left : self->model.bytes->left;
    int failed = 0;
    if (left == 0) {
        if (self->kind == SPARSE) {
            failed = sparse_begin(self->model.sparse, size, (int32_t)width, lag, count,
                                  (int32_t)largest);
        } else if (self->kind == SYMBOLS) {
            failed = symbols_begin(self->model.symbols, size, (int32_t)width, (int32_t)largest);
        } else {
            failed = bytes_begin(self->model.bytes, size, (int32_t)width, (int32_t)largest);
        }
        self->total = size;
    }
    self->is_busy = 0;
    if (failed) {
        self->is_finished = 1;     /* half-grown arrays: let nobody go on */
        return PyErr_NoMemory();
    }
    if (left) {
        PyErr_Format(PyExc_RuntimeError, "%lld elements of the tensor before are still to come",
                     (long long)left);
        return NULL;
    }
    Py_RETURN_NONE;
}

/* ---- encoding -------------------------------------------------------------------------- */

/* 0, -1 without memory, -2 for positions or levels that the tensor cannot hold. */
static int encode_sparse(Coder *self, const int64_t *positions, const int8_t *levels,
                         int64_t count)
{
    Sparse *s = self->model.sparse;
    if (count != s->remaining || s->at != 0) {
        return -2;
    }
    int64_t last = -1;
    for (int64_t k = 0; k < count; k++) {
        if (positions[k] <= last || positions[k] >= s->size || levels[k] == 0
            || levels[k] > s->largest || levels[k] < -s->largest) {
            return -2;
        }
        last = positions[k];
    }
    int64_t next = 0;
    int32_t start = 0;
    int8_t segment[SEGMENT];
    uint8_t found_at[SEGMENT];
    while (s->left && s->remaining) {
        int32_t length = segment_length(s, start);
        int64_t first = next;
        if (start == 0) {
            begin_row(s);
        }
        memset(segment, 0, sizeof segment);
        while (next < count && positions[next] < s->at + length) {
            segment[positions[next] - s->at] = levels[next];
            next++;
        }
        if (reserve(&self->range, SEGMENT_BYTES + SLACK) < 0) {
            return -1;
        }
        code_segment(s, &self->range, 0, start, length, (int32_t)(next - first), segment,
                     found_at);
        s->at += length;
        s->left -= length;
        start = start + length == s->width ? 0 : start + length;
    }
    s->left = 0;
    return 0;
}

static int encode_symbols(Coder *self, const int8_t *levels, int64_t count)
{
    Symbols *s = self->model.symbols;
    if (count > s->left) {
        return -2;
    }
    for (int64_t k = 0; k < count; k++) {
        if (levels[k] > s->largest || levels[k] < -s->largest) {
            return -2;
        }
    }
    for (int64_t k = 0; k < count; k++) {
        if (reserve(&self->range, ELEMENT_BYTES + SLACK) < 0) {
            return -1;
        }
        code_symbol(s, &self->range, 0, levels[k]);
    }
    s->left -= count;
    return 0;
}

static int encode_bytes(Coder *self, const uint8_t *data, int64_t length)
{
    Bytes *s = self->model.bytes;
    if (length % s->itemsize || length / s->itemsize > s->left) {
        return -2;
    }
    for (int64_t at = 0; at < length; at += s->itemsize) {
        uint32_t value = 0;
        for (int32_t k = 0; k < s->itemsize; k++) {
            value |= (uint32_t)data[at + k] << (8 * k);
        }
        if (reserve(&self->range, ELEMENT_BYTES + SLACK) < 0) {
            return -1;
        }
        code_element(s, &self->range, 0, value);
    }
    s->left -= length / s->itemsize;
    return 0;
}

/* encode(data) or, sparse, encode(positions, levels): int64 and int8. */
static PyObject *coder_encode(Coder *self, PyObject *args)
{
    Py_buffer first = {0}, second = {0};
    const int is_sparse = self->kind == SPARSE;
    if (!PyArg_ParseTuple(args, is_sparse ? "y*y*:encode" : "y*:encode", &first, &second)) {
        return NULL;
    }
    int status = -2;
    if (self->decoding || (is_sparse && first.len / 8 != second.len)
        || (is_sparse && ((uintptr_t)first.buf % 8 || first.len % 8)) || self->total == 0) {
        PyErr_SetString(PyExc_ValueError, "expected an encoder, and aligned arrays of one length");
    } else if (enter(self) == 0) {
        Py_BEGIN_ALLOW_THREADS
        if (is_sparse) {
            status = encode_sparse(self, first.buf, second.buf, second.len);
        } else if (self->kind == SYMBOLS) {
            status = encode_symbols(self, first.buf, first.len);
        } else {
            status = encode_bytes(self, first.buf, first.len);
        }
        Py_END_ALLOW_THREADS
        self->is_busy = 0;
        if (status == -1) {
            self->is_finished = 1;
            PyErr_NoMemory();
        } else if (status == -2) {
            PyErr_SetString(PyExc_ValueError, "expected what was announced by begin");
        }
    }
    PyBuffer_Release(&first);
    if (is_sparse) {
        PyBuffer_Release(&second);
    }
    if (status != 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* ---- decoding -------------------------------------------------------------------------- */

typedef struct {
    int64_t *positions;            /* sparse alone */
    int8_t *data;
    int64_t room;                  /* entries of both, or bytes */
    int64_t covered, found;
} Taken;

static void decode_sparse(Coder *self, Taken *taken, int64_t elements, int is_final)
{
    Sparse *s = self->model.sparse;
    Range *c = &self->range;
    int32_t start = (int32_t)(s->at % s->width);
    int8_t segment[SEGMENT];
    uint8_t found_at[SEGMENT];
    while (s->left && taken->covered < elements) {
        int32_t length = s->remaining ? segment_length(s, start)
                                      : (int32_t)(s->left < 1 << 20 ? s->left : 1 << 20);
        if (s->remaining) {
            if ((!is_final && c->length - c->at < SEGMENT_BYTES)
                || taken->room - taken->found < length) {
                return;
            }
            if (start == 0) {
                begin_row(s);
            }
            int32_t hits = code_segment(s, c, 1, start, length, 0, segment, found_at);
            for (int32_t k = 0; k < hits; k++) {
                taken->positions[taken->found] = s->at + found_at[k];
                taken->data[taken->found++] = segment[found_at[k]];
            }
            start = start + length == s->width ? 0 : start + length;
        }
        s->at += length;
        s->left -= length;
        taken->covered += length;
    }
}

static void decode_symbols(Coder *self, Taken *taken, int64_t elements, int is_final)
{
    Symbols *s = self->model.symbols;
    Range *c = &self->range;
    while (s->left && taken->covered < elements && taken->covered < taken->room
           && (is_final || c->length - c->at >= ELEMENT_BYTES)) {
        taken->data[taken->covered++] = (int8_t)code_symbol(s, c, 1, 0);
        s->left--;
    }
}

static void decode_bytes(Coder *self, Taken *taken, int64_t elements, int is_final)
{
    Bytes *s = self->model.bytes;
    Range *c = &self->range;
    uint8_t *out = (uint8_t *)taken->data;
    while (s->left && taken->covered < elements
           && (taken->covered + 1) * s->itemsize <= taken->room
           && (is_final || c->length - c->at >= ELEMENT_BYTES)) {
        uint32_t value = code_element(s, c, 1, 0);
        for (int32_t k = 0; k < s->itemsize; k++) {
            out[taken->covered * s->itemsize + k] = (uint8_t)(value >> (8 * k));
        }
        taken->covered++;
        s->left--;
    }
}

/* decode(window, is_final, elements, data[, positions]) -> (consumed, covered, found).
 *
 * Stops early when the window runs low and is not the end of the stream; a sparse tensor may be
 * covered a little further than asked, to the end of a segment. `data` takes int8 levels or
 * bytes, `positions` int64; as many as the asked elements and one segment more always fit. */
static PyObject *coder_decode(Coder *self, PyObject *args)
{
    Py_buffer window = {0}, data = {0}, positions = {0};
    int is_final;
    long long elements;
    const int is_sparse = self->kind == SPARSE;
    if (!PyArg_ParseTuple(args, is_sparse ? "y*pLw*w*:decode" : "y*pLw*:decode", &window,
                          &is_final, &elements, &data, &positions)) {
        return NULL;
    }
    PyObject *result = NULL;
    Taken taken = {positions.buf, data.buf, data.len, 0, 0};
    if (!self->decoding || elements < 0 || self->total == 0
        || (is_sparse && (positions.len / 8 != data.len || (uintptr_t)positions.buf % 8))) {
        PyErr_SetString(PyExc_ValueError, "expected a decoder that has begun, and aligned arrays of one length");
    } else if (enter(self) == 0) {
        Range *c = &self->range;
        Py_BEGIN_ALLOW_THREADS
        c->in = window.buf;
        c->at = 0;
        c->length = (size_t)window.len;
        if (is_final || c->length >= SLACK || c->is_primed) {
            prime(c);
            if (is_sparse) {
                decode_sparse(self, &taken, elements, is_final);
            } else if (self->kind == SYMBOLS) {
                decode_symbols(self, &taken, elements, is_final);
            } else {
                decode_bytes(self, &taken, elements, is_final);
            }
        }
        c->in = NULL;
        Py_END_ALLOW_THREADS
        self->is_busy = 0;
        result = Py_BuildValue("nLL", (Py_ssize_t)c->at, (long long)taken.covered,
                               (long long)taken.found);
        c->at = c->length = 0;
    }
    PyBuffer_Release(&window);
    PyBuffer_Release(&data);
    if (is_sparse) {
        PyBuffer_Release(&positions);
    }
    return result;
}

/* finish() -> bytes of an encoder; of a decoder, whether the stream ended as it must. */
static PyObject *coder_finish(Coder *self, PyObject *ignored)
{
    (void)ignored;
    if (enter(self) < 0) {
        return NULL;
    }
    self->is_busy = 0;
    self->is_finished = 1;
    if (self->decoding) {
        prime(&self->range);       /* a stream of nothing: zeros */
        return PyBool_FromLong(is_canonical(&self->range));
    }
    if (reserve(&self->range, SLACK) < 0) {
        return PyErr_NoMemory();
    }
    finish_encoding(&self->range);
    return PyBytes_FromStringAndSize((const char *)self->range.out, (Py_ssize_t)self->range.at);
}

/* missing() -> non-zeros that the sparse tensor still lacks. */
static PyObject *coder_missing(Coder *self, PyObject *ignored)
{
    (void)ignored;
    return PyLong_FromLongLong(self->kind == SPARSE ? self->model.sparse->remaining : 0);
}

static PyMethodDef coder_methods[] = {
    {"begin", (PyCFunction)(void (*)(void))coder_begin, METH_VARARGS, NULL},
    {"encode", (PyCFunction)(void (*)(void))coder_encode, METH_VARARGS, NULL},
    {"decode", (PyCFunction)(void (*)(void))coder_decode, METH_VARARGS, NULL},
    {"finish", (PyCFunction)(void (*)(void))coder_finish, METH_NOARGS, NULL},
    {"missing", (PyCFunction)(void (*)(void))coder_missing, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot coder_slots[] = {
    {Py_tp_new, (void *)coder_new},
    {Py_tp_dealloc, (void *)coder_dealloc},
    {Py_tp_methods, coder_methods},
    {Py_tp_doc, "Coder(kind, decoding): one stream; diffcodec.coders.max is its Python face."},
    {0, NULL},
};

static PyType_Spec coder_spec = {
    "diffcodec.coders.max._mixing.Coder", sizeof(Coder), 0, Py_TPFLAGS_DEFAULT, coder_slots,
};

static int module_exec(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &coder_spec, NULL);
    if (type == NULL) {
        return -1;
    }
    int failed = PyModule_AddObjectRef(module, "Coder", type);
    Py_DECREF(type);
    return failed;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, (void *)module_exec},
    {0, NULL},
};

static PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_mixing", "The coder `max` in C.", 0, NULL, module_slots,
    NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__mixing(void)
{
    return PyModuleDef_Init(&module);
}
