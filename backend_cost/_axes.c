/* What crosses an operand's boundaries, from tables of its axes: accesses and mean durations. traffic.py and timing_tables.py are
 * the same in NumPy.
 *
 * The table of an axis is (kinds, rows, entries, products) of doubles; kinds are sizes and then how often they occur. Axes are
 * independent: entries and products of several are all combinations, and values multiply. Formats of the buffers are checked by size.
 */
#include "_views.h"
#include <math.h>
#include <string.h>

#define MOST_AXES 16
#define MOST_VALUES (1 << 28) /* of one kind, in all combinations */

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
    release_views(all->views, all->axes);
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
        const Py_ssize_t *shape = view->shape;
        if (view->itemsize != 8 || view->ndim != 4 || shape[0] != kinds || (shape[1] != 1 && shape[1] != rows) || shape[2] < 1 ||
            shape[3] < 1 || shape[2] > MOST_VALUES || shape[3] > MOST_VALUES ||
            all->entries * all->products * shape[2] > MOST_VALUES / shape[3]) {
            release_axes(all);
            return wrong();
        }
        all->axis[i] = (Axis){view->buf, shape[1], shape[2], shape[3]};
        all->entries *= shape[2];
        all->products *= shape[3];
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

static void add_accesses(const Axes *all, const double *both, const double *bits, int64_t kinds, const double *steps, double *result) {
    int64_t boundaries = all->rows - 1;
    for (int64_t row = 0; row < all->rows; row++) {
        double common[2] = {both[row], both[all->rows + row]};
        const double *sizes = combined(all, row, common), *counts = sizes + all->entries * all->products;
        for (int side = 0; side < 2; side++) {
            int64_t a = row - 1 + side;
            if (a < 0 || a >= boundaries) continue;
            for (int64_t k = 0; k < kinds; k++) {
                int64_t at = (a * 2 + side) * kinds + k;
                double *out = result + at * all->products;
                memset(out, 0, (size_t)all->products * sizeof(double));
                for (int64_t e = 0; e < all->entries; e++)
                    for (int64_t p = 0; p < all->products; p++)
                        out[p] += ceil(sizes[e * all->products + p] * bits[k] / steps[at]) * counts[e * all->products + p];
            }
        }
    }
}

/* accesses(tables, common, bits, steps, result): tables of (sizes, counts) by threshold; common (2, thresholds); bits of each kind of
 * word; steps and result by (boundaries, sides, kinds[, products]). Side 0 of boundary a counts at threshold a + 1, side 1 at a. */
static PyObject *accesses(PyObject *self, PyObject *args) {
    enum { COMMON, BITS, STEPS, RESULT, GIVEN };
    PyObject *tables, *given[GIVEN];
    Py_buffer v[GIVEN];
    Axes all;
    if (!PyArg_ParseTuple(args, "OOOOO", &tables, &given[COMMON], &given[BITS], &given[STEPS], &given[RESULT])) return NULL;
    if (take_views(given, v, GIVEN, RESULT, 0) < 0) return NULL;
    int64_t rows = v[COMMON].len / 16, kinds = v[BITS].len / 8;
    if (rows < 2 || kinds < 1) wrong();
    else if (take_axes(&all, tables, 2, rows) == 0) {
        if (v[STEPS].len == (rows - 1) * 2 * kinds * 8 && v[RESULT].len == v[STEPS].len * all.products) {
            Py_BEGIN_ALLOW_THREADS
            add_accesses(&all, v[COMMON].buf, v[BITS].buf, kinds, v[STEPS].buf, v[RESULT].buf);
            Py_END_ALLOW_THREADS
        } else wrong();
        release_axes(&all);
    }
    return finish(v, GIVEN);
}

static void average(const Axes *all, int64_t some, const double *transfers, double *result) {
    static const double ones[3] = {1, 1, 1};
    int64_t boundaries = all->rows, many = all->entries * all->products;
    for (int64_t b = 0; b < boundaries; b++) {
        const double *fed = combined(all, b, ones), *feeding = fed + many, *stays = feeding + many;
        for (int64_t s = 0; s < some; s++) {
            const double *transfer = transfers + (s * boundaries + b) * 3;
            double *out = result + (s * boundaries + b) * all->products;
            for (int64_t p = 0; p < all->products; p++) {
                double sum = 0, count = 0;
                for (int64_t e = 0; e < all->entries; e++) {
                    int64_t i = e * all->products + p;
                    double above = ceil(feeding[i] * transfer[0] / transfer[1]), below = ceil(fed[i] * transfer[0] / transfer[2]);
                    sum += (above > below ? above : below) * stays[i];
                    count += stays[i];
                }
                out[p] = sum / (count > 1 ? count : 1);
            }
        }
    }
}

/* means(tables, boundaries, transfers, result): tables of (fed, feeding, stays) by boundary; transfers (some, boundaries, 3): bits of an
 * element, bits per cycle above and below; result (some, boundaries, products): mean cycles of a transfer. */
static PyObject *means(PyObject *self, PyObject *args) {
    enum { TRANSFERS, RESULT, GIVEN };
    PyObject *tables, *given[GIVEN];
    Py_buffer v[GIVEN];
    Axes all;
    long long boundaries;
    if (!PyArg_ParseTuple(args, "OLOO", &tables, &boundaries, &given[TRANSFERS], &given[RESULT])) return NULL;
    if (take_views(given, v, GIVEN, RESULT, 0) < 0) return NULL;
    if (boundaries < 1 || boundaries > v[TRANSFERS].len / 24) wrong();
    else if (take_axes(&all, tables, 3, boundaries) == 0) {
        int64_t some = v[TRANSFERS].len / 24 / boundaries;
        if (v[TRANSFERS].len == some * boundaries * 24 && v[RESULT].len == some * boundaries * all.products * 8) {
            Py_BEGIN_ALLOW_THREADS
            average(&all, some, v[TRANSFERS].buf, v[RESULT].buf);
            Py_END_ALLOW_THREADS
        } else wrong();
        release_axes(&all);
    }
    return finish(v, GIVEN);
}

static PyMethodDef methods[] = {
    {"accesses", accesses, METH_VARARGS, "accesses(tables, common, bits, steps, result): fills result (boundaries, sides, kinds, products)."},
    {"means", means, METH_VARARGS, "means(tables, boundaries, transfers, result): fills result (transfers, boundaries, products)."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_axes", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__axes(void) { return PyModule_Create(&module); }
