/* Second buffers of the exact model's memories, one mapping after the other: timing.py is the same in NumPy.
 *
 * Formats of the buffers are checked by size; indices are checked before they are used.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

#define MOST_HELD 64 /* memories of all operands */

static uint64_t bit(int i) { return (uint64_t)1 << i; }

static int outside(int64_t value, int64_t end) { return value < 0 || value >= end; }

static void release(Py_buffer *views, int count) {
    while (count--) PyBuffer_Release(&views[count]);
}

/* Buffers of all objects; only the last is written to. Their items are of 8 bytes, except where ``small`` says 1. */
static int take(PyObject *const *given, Py_buffer *views, int count, uint64_t small) {
    for (int i = 0; i < count; i++) {
        int flags = PyBUF_C_CONTIGUOUS | (i == count - 1 ? PyBUF_WRITABLE : 0);
        if (PyObject_GetBuffer(given[i], &views[i], flags) < 0) {
            release(views, i);
            return -1;
        }
        if (views[i].itemsize != ((small & bit(i)) ? 1 : 8)) {
            release(views, i + 1);
            PyErr_SetString(PyExc_ValueError, "items of 8 bytes, and of 1 where they are flags");
            return -1;
        }
    }
    return 0;
}

/* One memory of one operand: the buffers of what it holds per point, final and partial, and where sums are partial. */
typedef struct {
    const int64_t *final, *partial;
    const char *reduces;
    int64_t points, reducing;
    int slot, first; /* of the memories; whether nothing lies below */
} Held;

/* Grants a mapping's second buffers, first come, first served; returns whether every index lies where it may. */
static int grant(const Held *held, int columns, const double *size, const double *access, int slots, const int64_t *point,
                 int64_t loops, const int64_t *cuts, char *granted) {
    double whole[MOST_HELD], used[MOST_HELD];
    for (int s = 0; s < slots; s++) used[s] = 0;
    for (int c = 0; c < columns; c++) {
        const Held *h = &held[c];
        if (outside(cuts[c], loops) || outside(point[cuts[c]], h->points)) return 0;
        int64_t at = point[cuts[c]], below = h->first ? 0 : point[cuts[c - 1]];
        if (outside(below, h->reducing)) return 0;
        whole[c] = (double)(h->reduces[below] ? h->partial[at] : h->final[at]);
        used[h->slot] += whole[c];
    }
    for (int c = 0; c < columns; c++) {
        int s = held[c].slot;
        int once = whole[c] <= access[s], fits = used[s] + whole[c] <= size[s];
        if (fits && !once) used[s] += whole[c];
        granted[c] = (char)(fits || once);
    }
    return 1;
}

/* The buffers of ``parts``: (final, partial, reduces) of each column. Returns how many were taken, -1 for an error. */
static int take_held(PyObject *parts, Py_buffer *views, Held *held, int columns) {
    if (!PyTuple_Check(parts) || PyTuple_Size(parts) != 3 * columns) {
        PyErr_SetString(PyExc_ValueError, "three buffers for each column");
        return -1;
    }
    for (int i = 0; i < 3 * columns; i++) {
        int flag = i % 3 == 2;
        if (PyObject_GetBuffer(PyTuple_GetItem(parts, i), &views[i], PyBUF_C_CONTIGUOUS) < 0) {
            release(views, i);
            return -1;
        }
        if (views[i].itemsize != (flag ? 1 : 8) || (i % 3 == 1 && views[i].len != views[i - 1].len)) {
            release(views, i + 1);
            PyErr_SetString(PyExc_ValueError, "bits and flags do not belong together");
            return -1;
        }
        Held *h = &held[i / 3];
        if (i % 3 == 0) h->final = views[i].buf;
        if (i % 3 == 1) h->partial = views[i].buf;
        if (flag) h->reduces = views[i].buf;
        if (flag) h->reducing = views[i].len;
        else h->points = views[i].len / 8;
    }
    return 0;
}

static PyObject *granted(PyObject *self, PyObject *args) {
    enum { SLOTS, SIZE, ACCESS, POINTS, CUT, OUTCOME, HERE };
    PyObject *given[HERE], *parts;
    Py_buffer v[HERE], views[3 * MOST_HELD];
    Held held[MOST_HELD];
    int columns = 0, taken = 0, good = 0;
    if (!PyArg_ParseTuple(args, "OOOOOOO", &given[SLOTS], &given[SIZE], &given[ACCESS], &parts, &given[POINTS], &given[CUT],
                          &given[OUTCOME]))
        return NULL;
    if (take(given, v, HERE, bit(OUTCOME)) < 0) return NULL;
    Py_ssize_t wanted = v[SLOTS].len / 16, slots = v[SIZE].len / 8; /* (slot, first) of each column */
    if (wanted < 1 || wanted > MOST_HELD || slots > MOST_HELD || v[ACCESS].len != v[SIZE].len) goto done;
    columns = (int)wanted;
    const int64_t *slot = v[SLOTS].buf;
    for (int c = 0; c < columns; c++) {
        if (outside(slot[2 * c], slots) || (c == 0 && !slot[1])) goto done;
        held[c].slot = (int)slot[2 * c];
        held[c].first = slot[2 * c + 1] != 0;
    }
    if (take_held(parts, views, held, columns) < 0) goto done;
    taken = 1;
    int64_t mappings = v[OUTCOME].len / columns, loops = mappings ? v[POINTS].len / 8 / mappings : 0;
    if (v[OUTCOME].len != mappings * columns || v[CUT].len != mappings * columns * 8 || v[POINTS].len != mappings * loops * 8)
        goto done;
    good = 1;
    Py_BEGIN_ALLOW_THREADS
    for (int64_t m = 0; m < mappings && good; m++)
        good = grant(held, columns, v[SIZE].buf, v[ACCESS].buf, (int)slots, (const int64_t *)v[POINTS].buf + m * loops, loops,
                     (const int64_t *)v[CUT].buf + m * columns, (char *)v[OUTCOME].buf + m * columns);
    Py_END_ALLOW_THREADS
done:
    if (taken) release(views, 3 * columns);
    release(v, HERE);
    if (!good) {
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "points, cuts and contents do not belong together");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"granted", granted, METH_VARARGS,
     "granted(slots, sizes, accesses, parts, point, cuts, result): fills result (mappings, columns) of flags."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_buffers", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__buffers(void) {
    PyObject *made = PyModule_Create(&module);
    if (made && PyModule_AddIntConstant(made, "MOST_HELD", MOST_HELD) < 0) {
        Py_DECREF(made);
        return NULL;
    }
    return made;
}
