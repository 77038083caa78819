/* What the compiled parts have in common: masks, indices, and the buffers that Python hands over. */
#ifndef DFC_VIEWS_H
#define DFC_VIEWS_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

#define MOST_VIEWS 64 /* in one call: masks of buffers have 64 bits */

static inline uint64_t bit(int i) { return (uint64_t)1 << i; }

static inline int outside(int64_t value, int64_t end) { return value < 0 || value >= end; }

static inline void release_views(Py_buffer *views, int count) {
    while (count--) PyBuffer_Release(&views[count]);
}

/* Buffers of all objects, from number ``written`` on to be written to. Items are of 8 bytes, or of 1 where ``small`` says so. */
static inline int take_views(PyObject *const *given, Py_buffer *views, int count, int written, uint64_t small) {
    for (int i = 0; i < count; i++) {
        if (PyObject_GetBuffer(given[i], &views[i], PyBUF_C_CONTIGUOUS | (i >= written ? PyBUF_WRITABLE : 0)) < 0) {
            release_views(views, i);
            return -1;
        }
        if (views[i].itemsize != ((small & bit(i)) ? 1 : 8)) {
            release_views(views, i + 1);
            PyErr_SetString(PyExc_ValueError, "items of 8 bytes, and of 1 where they are flags");
            return -1;
        }
    }
    return 0;
}

/* The same of all that a tuple holds. */
static inline int take_tuple(PyObject *tuple, Py_buffer *views, int count, int written, uint64_t small) {
    PyObject *given[MOST_VIEWS];
    if (PyTuple_Size(tuple) != count) {
        PyErr_SetString(PyExc_ValueError, "a buffer is missing");
        return -1;
    }
    for (int i = 0; i < count; i++) given[i] = PyTuple_GetItem(tuple, i);
    return take_views(given, views, count, written, small);
}

/* What a call returns that only fills buffers, which are released: an error if one was raised. */
static inline PyObject *finish(Py_buffer *views, int count) {
    release_views(views, count);
    if (PyErr_Occurred()) return NULL;
    Py_RETURN_NONE;
}
#endif
