/* Second buffers of the exact model's memories, one mapping after the other: timing.py is the same in NumPy.
 *
 * Formats of the buffers are checked by size; indices are checked before they are used.
 */
#include "_views.h"

#define MOST_HELD 64 /* memories of all operands */

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

/* The buffers of ``parts``: (final, partial, reduces) of each column. Returns -1 for an error. */
static int take_held(PyObject *parts, Py_buffer *views, Held *held, int columns) {
    if (!PyTuple_Check(parts) || PyTuple_Size(parts) != 3 * columns) {
        PyErr_SetString(PyExc_ValueError, "three buffers for each column");
        return -1;
    }
    for (int c = 0; c < columns; c++) {
        Py_buffer *v = &views[3 * c];
        PyObject *given[3];
        for (int i = 0; i < 3; i++) given[i] = PyTuple_GetItem(parts, 3 * c + i);
        if (take_views(given, v, 3, 3, bit(2)) < 0) {
            release_views(views, 3 * c);
            return -1;
        }
        if (v[0].len != v[1].len) {
            release_views(views, 3 * c + 3);
            PyErr_SetString(PyExc_ValueError, "finished and partial bits do not belong together");
            return -1;
        }
        held[c].final = v[0].buf;
        held[c].partial = v[1].buf;
        held[c].points = v[0].len / 8;
        held[c].reduces = v[2].buf;
        held[c].reducing = v[2].len;
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
    if (take_views(given, v, HERE, OUTCOME, bit(OUTCOME)) < 0) return NULL;
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
    if (taken) release_views(views, 3 * columns);
    if (!good && !PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "points, cuts and contents do not belong together");
    return finish(v, HERE);
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
