/* What the branch and bound of _branch.c adds up over cuts, and the least that is to come: mapping_branch.py is the same in NumPy.
 *
 * Layouts are those of _timing.c, paths through the lattice those of _chains.c; both are part of this file.
 */
#define PyInit__timing PyInit__timing_in_measures
#define methods timing_methods
#define module timing_module
#include "_timing.c"
#undef methods
#undef module
#define PyInit__chains PyInit__chains_in_measures
#define methods chains_methods
#define module chains_module
#include "_chains.c"
#undef methods
#undef module

enum { SPENT, RESERVED, FIRST_PORT }; /* measures: energy, least reserve, ports, then ends: one fill of each input and the drain */
enum { SHAPE, COUNTS, LAYOUT, NUMBERS, FLOW_VALUES, STAY, PJ, ALLOWED, COST, LEFT, BASE, TAKEN };

typedef struct {
    Layout layout;
    Problem problem;
    const double *values, *stays;
    int measures, end_of[MOST_OPERANDS]; /* the measure of each input's fill; 0 for none */
    double *cost, *base;
} Measured;

static double *row_of(const Measured *m, int measure, int cut) {
    return m->cost + (measure * m->problem.cuts + cut) * m->problem.size;
}

/* Number the fills in the order of the flows, and return how many measures there are. */
static int count_measures(const Layout *layout, int *end_of) {
    int next = FIRST_PORT + layout->ports, first = next;
    memset(end_of, 0, MOST_OPERANDS * sizeof(int));
    for (int i = 0; i < layout->flows; i++) {
        const Flow *f = &layout->flow[i];
        if (f->kind == INTO && !end_of[f->operand]) end_of[f->operand] = next++;
    }
    return next > first ? next : next + 1;
}

static void add_flow(const Measured *m, int i) {
    const Flow *f = &m->layout.flow[i];
    int64_t size = m->problem.size, width = m->layout.flows + m->layout.boundaries;
    double *upper = row_of(m, FIRST_PORT + f->upper, f->boundary), *lower = row_of(m, FIRST_PORT + f->lower, f->boundary);
    double *reserve = row_of(m, RESERVED, f->boundary), *fill = f->kind == INTO ? row_of(m, m->end_of[f->operand], f->boundary) : NULL;
    for (int64_t p = 0; p < size; p++) {
        double cycles = m->values[p * width + i], carried = cycles * m->stays[p];
        upper[p] += carried;
        if (f->lower != f->upper) lower[p] += carried;
        if (f->contested && m->stays[p] > 1) reserve[p] += m->layout.contested * carried;
        if (fill) fill[p] += cycles;
    }
    if (f->kind != OUT) return;
    for (int e = FIRST_PORT + m->layout.ports; e < m->measures; e++) {
        double *drain = row_of(m, e, f->boundary);
        for (int64_t p = 0; p < size; p++) drain[p] += m->values[p * width + i];
    }
}

static void measure(const Measured *m, const double *energy, const char *allowed, double *left) {
    const Layout *layout = &m->layout;
    int64_t size = m->problem.size, many = m->problem.cuts * size;
    memset(m->base + 1, 0, (size_t)(m->measures - 1) * sizeof(double));
    for (int p = 0; p < layout->ports; p++) {
        double *base = &m->base[FIRST_PORT + p];
        if (layout->step_share != 0) *base += layout->step_share * layout->step_port[1][p] * layout->working;
        if (1 - layout->step_share != 0) *base += (1 - layout->step_share) * layout->step_port[0][p] * layout->working;
    }
    memset(m->cost, 0, (size_t)m->measures * many * sizeof(double));
    memcpy(m->cost, energy, (size_t)many * sizeof(double));
    for (int i = 0; i < layout->flows; i++) add_flow(m, i);
    for (int f = 0; f < m->measures; f++) {
        Problem one = m->problem;
        double *cost = m->cost + f * many;
        for (int64_t i = 0; i < many; i++)
            if (!allowed[i]) cost[i] = INFINITY;
        one.cost = cost;
        backwards(&one, left + f * one.states * size);
    }
}

/* Whether sums that come back never take longer than those that leave across the same boundary. */
static int is_back_small(const Measured *m) {
    const Layout *layout = &m->layout;
    int64_t width = layout->flows + layout->boundaries;
    for (int b = 0; b < layout->boundaries; b++) {
        int back = -1, up = -1;
        for (int n = 0; n < layout->boundary[b].count; n++) {
            int i = layout->boundary[b].flows[n];
            if (layout->flow[i].kind == BACK) back = i;
            if (layout->flow[i].kind == OUT) up = i;
        }
        if (back < 0 || up < 0) continue;
        for (int64_t p = 0; p < m->problem.size; p++)
            if (m->values[p * width + back] > m->values[p * width + up]) return 0;
    }
    return 1;
}

static int read_measured(Measured *m, const Py_buffer *v) {
    int64_t points = m->problem.size, cuts = m->problem.cuts;
    if (v[LAYOUT].len < 48 ||
        read_layout(&m->layout, v[LAYOUT].buf, v[LAYOUT].len / 8, v[NUMBERS].buf, v[NUMBERS].len / 8, ((const int64_t *)v[LAYOUT].buf)[5]) < 0)
        return 0;
    m->measures = count_measures(&m->layout, m->end_of);
    m->values = v[FLOW_VALUES].buf;
    m->stays = v[STAY].buf;
    m->cost = v[COST].buf;
    m->base = v[BASE].buf;
    return m->layout.boundaries == cuts && v[FLOW_VALUES].len == (m->layout.flows + cuts) * points * 8 && v[STAY].len == points * 8 &&
           v[ALLOWED].len == cuts * points && v[COST].len == m->measures * cuts * points * 8 &&
           v[LEFT].len == m->measures * m->problem.states * points * 8 && v[BASE].len == m->measures * 8;
}

static PyObject *measured(PyObject *self, PyObject *args) {
    PyObject *tuple;
    Py_buffer v[TAKEN];
    int good = 0, small = 0;
    if (!PyArg_ParseTuple(args, "O!", &PyTuple_Type, &tuple) || take_tuple(tuple, v, TAKEN, COST, bit(ALLOWED)) < 0) return NULL;
    Measured *m = PyMem_Malloc(sizeof *m);
    if (!m) PyErr_NoMemory();
    else if (take_problem(&m->problem, PyTuple_GetItem(tuple, SHAPE), PyTuple_GetItem(tuple, COUNTS), PyTuple_GetItem(tuple, PJ), 1) == 0) {
        good = read_measured(m, v);
        if (good) {
            Py_BEGIN_ALLOW_THREADS
            measure(m, v[PJ].buf, v[ALLOWED].buf, v[LEFT].buf);
            small = is_back_small(m);
            Py_END_ALLOW_THREADS
        } else PyErr_SetString(PyExc_ValueError, "the buffers do not belong together");
        release_problem(&m->problem);
    }
    PyMem_Free(m);
    release_views(v, TAKEN);
    return good ? PyBool_FromLong(small) : NULL;
}

static PyMethodDef methods[] = {
    {"measured", measured, METH_VARARGS,
     "measured(buffers) -> whether returning sums are never slower: fills the last three buffers with cost, what is left and base."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_measures", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__measures(void) { return PyModule_Create(&module); }
