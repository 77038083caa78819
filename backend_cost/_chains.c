/* The hot part of the mapping search: least chains through a lattice of loop products (docs/mapping-search.md).
 *
 * A lattice has one axis per prime factor of a loop; points are numbered in C order. Operand o makes counts[o] cuts, one
 * after the other; cut k at point p costs cost[k][p] (infinite: not allowed), and all cuts together form a chain. A state
 * says how many cuts each operand has made. backend_cost/chains.py is the same in NumPy, where no compiler was found.
 */
#include "_views.h"
#include <math.h>
#include <string.h>

#define MOST_AXES 64
#define MOST_OPERANDS 8
#define MOST_CUTS 32
#define MOST_MEASURES 16

typedef struct {
    int axes, operands, cuts;
    int64_t size, states;                    /* points; states */
    int64_t shape[MOST_AXES];
    int64_t counts[MOST_OPERANDS], stride[MOST_OPERANDS], first[MOST_OPERANDS];
    const double *cost;
    Py_buffer views[3];
} Problem;

static void release_problem(Problem *problem) { release_views(problem->views, 3); }

/* Reads (shape, counts, cost), the cost of each measure, and checks that they belong together. */
static int take_problem(Problem *problem, PyObject *shape, PyObject *counts, PyObject *cost, int measures) {
    PyObject *given[3] = {shape, counts, cost};
    if (take_views(given, problem->views, 3, 3, 0) < 0) return -1;
    Py_ssize_t axes = problem->views[0].len / 8, operands = problem->views[1].len / 8;
    int64_t points = 1, states = 1, cuts = 0;
    if (axes < 1 || axes > MOST_AXES || operands < 1 || operands > MOST_OPERANDS) goto wrong;
    problem->axes = (int)axes;
    problem->operands = (int)operands;
    memcpy(problem->shape, problem->views[0].buf, axes * sizeof(int64_t));
    memcpy(problem->counts, problem->views[1].buf, operands * sizeof(int64_t));
    for (int a = 0; a < axes; a++) {
        if (problem->shape[a] < 1 || problem->shape[a] > INT32_MAX / points) goto wrong;
        points *= problem->shape[a];
    }
    for (int o = 0; o < operands; o++) {
        if (outside(problem->counts[o], MOST_CUTS + 1)) goto wrong;
        problem->first[o] = cuts;
        cuts += problem->counts[o];
    }
    for (int o = (int)operands - 1; o >= 0; o--) {
        problem->stride[o] = states;
        states *= problem->counts[o] + 1;
    }
    if (cuts > MOST_CUTS || problem->views[2].len != (Py_ssize_t)(measures * cuts * points * 8)) goto wrong;
    problem->size = points;
    problem->states = states;
    problem->cuts = (int)cuts;
    problem->cost = (const double *)problem->views[2].buf;
    return 0;
wrong:
    release_problem(problem);
    PyErr_SetString(PyExc_ValueError, "shape, counts and cost do not belong together");
    return -1;
}

static int64_t made_by(const Problem *problem, int64_t state, int o) {
    return state / problem->stride[o] % (problem->counts[o] + 1);
}

static const double *cost_of(const Problem *problem, int o, int64_t cut) {
    return problem->cost + (problem->first[o] + cut) * problem->size;
}

/* Replaces each value by the least of all points below (up > 0) or above (up < 0) it. */
static void spread(const Problem *problem, double *values, int up) {
    int64_t inner = 1;
    for (int a = problem->axes - 1; a >= 0; a--) {
        int64_t block = problem->shape[a] * inner;
        if (problem->shape[a] > 1)
            for (int64_t base = 0; base < problem->size; base += block) {
                double *row = values + base;
                if (up > 0) {
                    for (int64_t k = inner; k < block; k++)
                        if (row[k - inner] < row[k]) row[k] = row[k - inner];
                } else {
                    for (int64_t k = block - inner - 1; k >= 0; k--)
                        if (row[k + inner] < row[k]) row[k] = row[k + inner];
                }
            }
        inner = block;
    }
}

/* Whether a point lies at or below another; moved: the axes along which they differ, one bit each. */
static int below(const Problem *problem, int64_t low, int64_t high, uint64_t *moved) {
    uint64_t differs = 0;
    if (low > high) return 0;
    for (int a = problem->axes - 1; a >= 0; a--) {
        int64_t n = problem->shape[a], from = low % n, to = high % n;
        if (from > to) return 0;
        differs |= (uint64_t)(from < to) << a;
        low /= n;
        high /= n;
    }
    *moved = differs;
    return 1;
}

/* reach[s][p]: least cost of the cuts of state s, all at or below p. made: the same with the last cut at p. */
static void forwards(const Problem *problem, double *made, double *reach) {
    int64_t size = problem->size;
    memset(reach, 0, size * sizeof(double));
    for (int64_t s = 1; s < problem->states; s++) {
        double *m = made + s * size, *r = reach + s * size;
        int fresh = 1;
        for (int o = 0; o < problem->operands; o++) {
            int64_t cut = made_by(problem, s, o);
            if (!cut) continue;
            const double *e = cost_of(problem, o, cut - 1), *before = reach + (s - problem->stride[o]) * size;
            if (fresh)
                for (int64_t p = 0; p < size; p++) m[p] = before[p] + e[p];
            else
                for (int64_t p = 0; p < size; p++) {
                    double value = before[p] + e[p];
                    m[p] = value < m[p] ? value : m[p];
                }
            fresh = 0;
        }
        memcpy(r, m, size * sizeof(double));
        spread(problem, r, 1);
    }
}

/* left[s][p]: least cost of all cuts that state s has not made, each at or above p. */
static void backwards(const Problem *problem, double *left) {
    int64_t size = problem->size;
    memset(left + (problem->states - 1) * size, 0, size * sizeof(double));
    for (int64_t s = problem->states - 2; s >= 0; s--) {
        double *f = left + s * size;
        int fresh = 1;
        for (int o = 0; o < problem->operands; o++) {
            int64_t cut = made_by(problem, s, o);
            if (cut == problem->counts[o]) continue;
            const double *e = cost_of(problem, o, cut), *after = left + (s + problem->stride[o]) * size;
            for (int64_t p = 0; p < size; p++) {
                double value = after[p] + e[p];
                f[p] = !fresh && f[p] < value ? f[p] : value;
            }
            fresh = 0;
        }
        spread(problem, f, -1);
    }
}

/* The points of a least chain: from the last cut backwards, always the first point and operand that has the value. */
static void trace(const Problem *problem, const double *made, const double *reach, int64_t *chain) {
    int64_t s = problem->states - 1, p = problem->size - 1, size = problem->size;
    while (s) {
        double value = reach[s * size + p];
        const double *m = made + s * size;
        int64_t q = 0;
        uint64_t moved;
        while (q < p && !(m[q] == value && below(problem, q, p, &moved))) q++;
        p = q;
        int found = 0;
        for (int o = 0; o < problem->operands && !found; o++) {
            int64_t cut = made_by(problem, s, o);
            if (!cut) continue;
            if (reach[(s - problem->stride[o]) * size + p] + cost_of(problem, o, cut - 1)[p] == value) {
                chain[problem->first[o] + cut - 1] = p;
                s -= problem->stride[o];
                found = 1;
            }
        }
        if (!found) return; /* cannot happen: the sum was made of the same numbers */
    }
}

static int writable(PyObject *object, Py_buffer *view, Py_ssize_t bytes) {
    if (PyObject_GetBuffer(object, view, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE) < 0) return -1;
    if (view->len < bytes) {
        PyBuffer_Release(view);
        PyErr_SetString(PyExc_ValueError, "the result has too little room");
        return -1;
    }
    return 0;
}

static PyObject *least(PyObject *self, PyObject *args) {
    PyObject *shape, *counts, *cost, *chain;
    Problem problem;
    Py_buffer out;
    if (!PyArg_ParseTuple(args, "OOOO", &shape, &counts, &cost, &chain) || take_problem(&problem, shape, counts, cost, 1) < 0) return NULL;
    if (writable(chain, &out, problem.cuts * 8) < 0) {
        release_problem(&problem);
        return NULL;
    }
    size_t bytes = (size_t)problem.states * problem.size * sizeof(double);
    double *made = PyMem_Malloc(2 * bytes), value = 0;
    if (made) {
        double *reach = made + problem.states * problem.size;
        Py_BEGIN_ALLOW_THREADS
        forwards(&problem, made, reach);
        value = reach[problem.states * problem.size - 1];
        if (isfinite(value)) trace(&problem, made, reach, (int64_t *)out.buf);
        Py_END_ALLOW_THREADS
        PyMem_Free(made);
    }
    PyBuffer_Release(&out);
    release_problem(&problem);
    return made ? PyFloat_FromDouble(value) : PyErr_NoMemory();
}

typedef struct {
    const Problem *problem;
    const double *left; /* (measures, states, points) */
    const double *limits;
    const int64_t *idle; /* per operand the axes that leave it where it is, one bit each */
    double product;
    int measures;
    int64_t most, found, looks, most_looks;
    int64_t *out;
    int64_t at[MOST_CUTS];
} Walk;

/* Whether what a chain has spent and must still spend stays within all limits. */
static int affordable(const Walk *walk, const double *spent, int64_t state, int64_t point) {
    int64_t layer = walk->problem->states * walk->problem->size;
    double first = 0, most = 0;
    for (int f = 0; f < walk->measures; f++) {
        double value = spent[f] + walk->left[f * layer + state * walk->problem->size + point];
        if (!(value <= walk->limits[f] && value < INFINITY)) return 0; /* infinite: a cut may not lie there */
        if (f == 0) first = value;
        else if (value > most) most = value;
    }
    return !(first * most > walk->product);
}

/* All closed chains within the limits, in order of operands and points; cuts at one point are made in the operands' order.
 *
 * stuck: axes that leave an operand where it is that is cut at this point. The next point has to move along another, or the
 * cut might as well lie further out.
 */
static void extend(Walk *walk, int64_t state, int64_t point, int last, const double *spent, uint64_t stuck) {
    const Problem *problem = walk->problem;
    int64_t size = problem->size;
    double sum[MOST_MEASURES];
    uint64_t moved = 0;
    if (state == problem->states - 1) {
        if (point < size - 1 && (!below(problem, point, size - 1, &moved) || !(moved & ~stuck))) return;
        if (walk->found < walk->most) memcpy(walk->out + walk->found * problem->cuts, walk->at, problem->cuts * sizeof(int64_t));
        walk->found++;
        return;
    }
    for (int o = 0; o < problem->operands; o++) {
        int64_t cut = made_by(problem, state, o), next = state + problem->stride[o];
        if (cut == problem->counts[o]) continue;
        const double *e = cost_of(problem, o, cut);
        int64_t start = o < last ? point + 1 : point;
        uint64_t idle = (uint64_t)walk->idle[o];
        if (walk->looks > walk->most_looks) return;
        walk->looks += size - start;
        for (int64_t p = start; p < size; p++) {
            if (walk->found > walk->most) return;
            for (int f = 0; f < walk->measures; f++) sum[f] = spent[f] + e[f * problem->cuts * size + p];
            if (!affordable(walk, sum, next, p) || !below(problem, point, p, &moved)) continue;
            if (p > point && !(moved & ~stuck)) continue;
            walk->at[problem->first[o] + cut] = p;
            extend(walk, next, p, o, sum, p > point ? idle : stuck | idle);
        }
    }
}

static PyObject *within(PyObject *self, PyObject *args) {
    enum { BASE, LIMITS, IDLE, RESULT, GIVEN };
    PyObject *shape, *counts, *cost, *given[GIVEN];
    Problem problem;
    Py_buffer v[GIVEN];
    Walk walk = {0};
    long long most_looks;
    if (!PyArg_ParseTuple(args, "OOOOOOdLO", &shape, &counts, &cost, &given[BASE], &given[LIMITS], &given[IDLE], &walk.product,
                          &most_looks, &given[RESULT]))
        return NULL;
    if (take_views(given, v, GIVEN, RESULT, 0) < 0) return NULL;
    walk.most_looks = most_looks;
    walk.measures = (int)(v[BASE].len / 8);
    if (walk.measures < 1 || walk.measures > MOST_MEASURES || v[LIMITS].len != v[BASE].len) {
        PyErr_SetString(PyExc_ValueError, "one limit for each of at most 16 measures");
        goto without_problem;
    }
    if (take_problem(&problem, shape, counts, cost, walk.measures) < 0) goto without_problem;
    if (v[IDLE].len != problem.operands * 8) {
        PyErr_SetString(PyExc_ValueError, "a number for each operand");
        goto without_left;
    }
    int64_t layer = problem.states * problem.size;
    double *left = PyMem_Malloc((size_t)walk.measures * layer * sizeof(double));
    if (left) {
        walk.problem = &problem;
        walk.left = left;
        walk.limits = v[LIMITS].buf;
        walk.idle = v[IDLE].buf;
        walk.most = problem.cuts ? v[RESULT].len / 8 / problem.cuts : 0;
        walk.out = v[RESULT].buf;
        Py_BEGIN_ALLOW_THREADS
        for (int f = 0; f < walk.measures; f++) {
            Problem one = problem;
            one.cost = problem.cost + f * problem.cuts * problem.size;
            backwards(&one, left + f * layer);
        }
        extend(&walk, 0, 0, 0, v[BASE].buf, 0);
        Py_END_ALLOW_THREADS
        PyMem_Free(left);
    } else PyErr_NoMemory();
without_left:
    release_problem(&problem);
without_problem:
    release_views(v, GIVEN);
    if (PyErr_Occurred()) return NULL;
    int cut_short = walk.looks > walk.most_looks;
    return PyLong_FromLongLong(cut_short && walk.found <= walk.most ? -walk.found - 1 : walk.found);
}

static PyObject *remaining(PyObject *self, PyObject *args) {
    PyObject *shape, *counts, *cost, *result;
    Problem problem;
    Py_buffer out;
    int measures;
    if (!PyArg_ParseTuple(args, "OOOiO", &shape, &counts, &cost, &measures, &result) ||
        take_problem(&problem, shape, counts, cost, measures) < 0)
        return NULL;
    int64_t layer = problem.states * problem.size;
    if (writable(result, &out, measures * layer * 8) < 0) {
        release_problem(&problem);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    for (int f = 0; f < measures; f++) {
        Problem one = problem;
        one.cost = problem.cost + f * problem.cuts * problem.size;
        backwards(&one, (double *)out.buf + f * layer);
    }
    Py_END_ALLOW_THREADS
    release_problem(&problem);
    return finish(&out, 1);
}

static PyMethodDef methods[] = {
    {"least", least, METH_VARARGS, "least(shape, counts, cost, chain) -> value: fills chain (cuts,) with a least chain."},
    {"within", within, METH_VARARGS, "within(shape, counts, cost, base, limits, idle, product, looks, result) -> chains found; -1 - that if cut short."},
    {"remaining", remaining, METH_VARARGS, "remaining(shape, counts, cost, measures, result): fills result (measures, states, points)."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_chains", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__chains(void) { return PyModule_Create(&module); }
