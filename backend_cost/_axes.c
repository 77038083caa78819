/* What crosses an operand's boundaries, from tables of its axes: accesses and mean durations. traffic.py and timing_tables.py are
 * the same in NumPy.
 *
 * The table of an axis is (kinds, rows, entries, products) of doubles; kinds are sizes and then how often they occur. Axes are
 * independent: entries and products of several are all combinations, and values multiply. Formats of the buffers are checked.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define MOST_AXES 16
#define MOST_KINDS 3

typedef struct {
    const double *values;
    int64_t rows, entries, products; /* one row stands for all */
} Axis;

typedef struct {
    int kinds, axes;
    int64_t rows, entries, products;
    Axis axis[MOST_AXES];
    Py_buffer views[MOST_AXES];
    double *room[2]; /* (kinds, entries, products) of one row, and of what comes before the last axis */
} Axes;

static void release_axes(Axes *all) {
    while (all->axes--) PyBuffer_Release(&all->views[all->axes]);
    PyMem_Free(all->room[0]);
}

static int wrong(void) {
    PyErr_SetString(PyExc_ValueError, "the tables do not belong together");
    return -1;
}

/* Tables of some kinds for so many rows. */
static int take_axes(Axes *all, PyObject *tables, int kinds, int64_t rows) {
    memset(all, 0, sizeof *all);
    all->kinds = kinds;
    all->rows = rows;
    all->entries = all->products = 1;
    if (!PyTuple_Check(tables) || PyTuple_Size(tables) > MOST_AXES) return wrong();
    for (Py_ssize_t i = 0; i < PyTuple_Size(tables); i++) {
        Py_buffer *view = &all->views[i];
        if (PyObject_GetBuffer(PyTuple_GetItem(tables, i), view, PyBUF_C_CONTIGUOUS | PyBUF_ND) < 0) {
            release_axes(all);
            return -1;
        }
        all->axes++;
        if (view->itemsize != 8 || view->ndim != 4 || view->shape[0] != kinds || (view->shape[1] != 1 && view->shape[1] != rows)) {
            release_axes(all);
            return wrong();
        }
        all->axis[i] = (Axis){view->buf, view->shape[1], view->shape[2], view->shape[3]};
        all->entries *= view->shape[2];
        all->products *= view->shape[3];
        if (all->entries < 1 || all->products < 1 || all->entries > INT32_MAX || all->products > INT32_MAX) {
            release_axes(all);
            return wrong();
        }
    }
    size_t many = (size_t)all->kinds * (size_t)all->entries * (size_t)all->products;
    all->room[0] = PyMem_Malloc(2 * many * sizeof(double));
    if (!all->room[0]) {
        release_axes(all);
        PyErr_NoMemory();
        return -1;
    }
    all->room[1] = all->room[0] + many;
    return 0;
}

/* All combinations of one row: (kinds, entries, products); ``common`` is what all have in common, by kind. */
static const double *combined(const Axes *all, int64_t row, const double *common) {
    double *found = all->room[0], *next = all->room[1];
    int64_t entries = 1, products = 1;
    for (int k = 0; k < all->kinds; k++) found[k] = common[k];
    for (int i = 0; i < all->axes; i++) {
        const Axis *axis = &all->axis[i];
        double *out = next;
        for (int k = 0; k < all->kinds; k++) {
            const double *more = axis->values + (k * axis->rows + (axis->rows > 1 ? row : 0)) * axis->entries * axis->products;
            for (int64_t e = 0; e < entries; e++)
                for (int64_t f = 0; f < axis->entries; f++)
                    for (int64_t p = 0; p < products; p++) {
                        double one = found[(k * entries + e) * products + p];
                        for (int64_t q = 0; q < axis->products; q++) *out++ = one * more[f * axis->products + q];
                    }
        }
        entries *= axis->entries;
        products *= axis->products;
        double *swap = found;
        found = next;
        next = swap;
    }
    return found;
}

/* accesses(tables, common, bits, steps, result): tables of (sizes, counts) by threshold; common (2, thresholds); bits of each kind of
 * word; steps and result by (boundaries, sides, kinds[, products]). Side 0 of boundary a counts at threshold a + 1, side 1 at a. */
static PyObject *accesses(PyObject *self, PyObject *args) {
    PyObject *tables, *given[4];
    Py_buffer v[4];
    Axes all;
    int taken = 0, good = 0;
    if (!PyArg_ParseTuple(args, "OOOOO", &tables, &given[0], &given[1], &given[2], &given[3])) return NULL;
    for (; taken < 4; taken++)
        if (PyObject_GetBuffer(given[taken], &v[taken], PyBUF_C_CONTIGUOUS | (taken == 3 ? PyBUF_WRITABLE : 0)) < 0) goto done;
    int64_t rows = v[0].len / 16, kinds = v[1].len / 8, boundaries = rows - 1;
    if (rows < 2 || kinds < 1 || take_axes(&all, tables, 2, rows) < 0) {
        if (!PyErr_Occurred()) wrong();
        goto done;
    }
    if (v[2].len == boundaries * 2 * kinds * 8 && v[3].len == v[2].len * all.products) {
        const double *bits = v[1].buf, *steps = v[2].buf, *both = v[0].buf;
        Py_BEGIN_ALLOW_THREADS
        for (int64_t row = 0; row < rows; row++) {
            double common[2] = {both[row], both[rows + row]};
            const double *sizes = combined(&all, row, common), *counts = sizes + all.entries * all.products;
            for (int side = 0; side < 2; side++) {
                int64_t a = row - 1 + side;
                if (a < 0 || a >= boundaries) continue;
                for (int64_t k = 0; k < kinds; k++) {
                    int64_t at = (a * 2 + side) * kinds + k;
                    double *out = (double *)v[3].buf + at * all.products;
                    memset(out, 0, (size_t)all.products * sizeof(double));
                    for (int64_t e = 0; e < all.entries; e++)
                        for (int64_t p = 0; p < all.products; p++)
                            out[p] += ceil(sizes[e * all.products + p] * bits[k] / steps[at]) * counts[e * all.products + p];
                }
            }
        }
        Py_END_ALLOW_THREADS
        good = 1;
    } else wrong();
    release_axes(&all);
done:
    while (taken--) PyBuffer_Release(&v[taken]);
    if (!good) return NULL;
    Py_RETURN_NONE;
}

/* means(tables, transfers, result): tables of (fed, feeding, stays) by boundary; transfers (some, boundaries, 3): bits of an element,
 * bits per cycle above and below; result (some, boundaries, products): mean cycles of a transfer. */
static PyObject *means(PyObject *self, PyObject *args) {
    PyObject *tables, *given[2];
    Py_buffer v[2];
    Axes all;
    int taken = 0, good = 0;
    long long boundaries;
    if (!PyArg_ParseTuple(args, "OLOO", &tables, &boundaries, &given[0], &given[1])) return NULL;
    for (; taken < 2; taken++)
        if (PyObject_GetBuffer(given[taken], &v[taken], PyBUF_C_CONTIGUOUS | (taken == 1 ? PyBUF_WRITABLE : 0)) < 0) goto done;
    if (boundaries < 1 || take_axes(&all, tables, 3, boundaries) < 0) {
        if (!PyErr_Occurred()) wrong();
        goto done;
    }
    int64_t some = v[0].len / 24 / boundaries, many = all.entries * all.products;
    if (v[0].len == some * boundaries * 24 && v[1].len == some * boundaries * all.products * 8) {
        static const double ones[3] = {1, 1, 1};
        Py_BEGIN_ALLOW_THREADS
        for (int64_t b = 0; b < boundaries; b++) {
            const double *fed = combined(&all, b, ones), *feeding = fed + many, *stays = feeding + many;
            for (int64_t s = 0; s < some; s++) {
                const double *transfer = (const double *)v[0].buf + (s * boundaries + b) * 3;
                double *out = (double *)v[1].buf + (s * boundaries + b) * all.products;
                for (int64_t p = 0; p < all.products; p++) {
                    double sum = 0, count = 0;
                    for (int64_t e = 0; e < all.entries; e++) {
                        int64_t i = e * all.products + p;
                        double above = ceil(feeding[i] * transfer[0] / transfer[1]), below = ceil(fed[i] * transfer[0] / transfer[2]);
                        sum += (above > below ? above : below) * stays[i];
                        count += stays[i];
                    }
                    out[p] = sum / (count > 1 ? count : 1);
                }
            }
        }
        Py_END_ALLOW_THREADS
        good = 1;
    } else wrong();
    release_axes(&all);
done:
    while (taken--) PyBuffer_Release(&v[taken]);
    if (!good) return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"accesses", accesses, METH_VARARGS, "accesses(tables, common, bits, steps, result): fills result (boundaries, sides, kinds, products)."},
    {"means", means, METH_VARARGS, "means(tables, boundaries, transfers, result): fills result (transfers, boundaries, products)."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_axes", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__axes(void) { return PyModule_Create(&module); }
