/* Chains of cuts as mappings of the exact model, one after the other: the order of their loops, where their cuts end up, which
 * memories have a second buffer, and the latency. mapping_space.py, evaluate.py and timing.py are the same in NumPy.
 *
 * The latency itself is that of _timing.c and the second buffers are those of _buffers.c, which are part of this file. Formats of
 * the buffers are checked by size; indices are checked before they are used.
 */
#define PyInit__timing PyInit__timing_in_play
#define methods timing_methods
#define module timing_module
#include "_timing.c"
#undef methods
#undef module
#define PyInit__buffers PyInit__buffers_in_play
#define methods buffers_methods
#define module buffers_module
#include "_buffers.c"
#undef methods
#undef module

#define MOST_AXES 62
#define MOST_CUTS 32
#define MOST_LOOPS 128 /* prime factors */

typedef struct {
    Layout layout;
    Held held[MOST_HELD];
    int axes, operands, cuts, columns, slots, loops;
    int64_t size, top; /* points; the greatest one's degree is loops */
    int64_t stride[MOST_AXES];
    const int64_t *shape, *exponents;  /* (axes,), (points, axes) */
    const int64_t *idle;               /* per operand the axes that leave it where it is, one bit each */
    int operand_of[MOST_HELD], cut_of[MOST_HELD]; /* of each column: an operand's memories, the uppermost without a cut */
    int column_of[MOST_CUTS];
    Durations durations;
    const double *sizes, *access, *energy; /* energy: (cuts, points) */
    double fixed_pj;
} Space;

/* A chain's cuts from the innermost outwards: which, how many loops lie below, and the axes that leave their operands where they
 * are: of each cut, and of any cut at the same point. */
typedef struct {
    int cut[MOST_CUTS], degree[MOST_CUTS];
    uint64_t idle[MOST_CUTS], stuck[MOST_CUTS];
} Ranked;

static int degree_of(const Space *s, int64_t point) {
    int64_t sum = 0;
    for (int a = 0; a < s->axes; a++) sum += s->exponents[point * s->axes + a];
    return (int)sum;
}

static void rank_cuts(const Space *s, const int64_t *chain, Ranked *r) {
    int degree[MOST_CUTS];
    for (int k = 0; k < s->cuts; k++) {
        int i = k;
        degree[k] = degree_of(s, chain[k]);
        for (; i > 0 && degree[r->cut[i - 1]] > degree[k]; i--) r->cut[i] = r->cut[i - 1];
        r->cut[i] = k;
    }
    for (int i = 0; i < s->cuts; i++) {
        r->degree[i] = degree[r->cut[i]];
        r->idle[i] = (uint64_t)s->idle[s->operand_of[s->column_of[r->cut[i]]]];
    }
    for (int i = 0; i < s->cuts; i++) {
        r->stuck[i] = 0;
        for (int k = 0; k < s->cuts; k++)
            if (r->degree[k] == r->degree[i]) r->stuck[i] |= r->idle[k];
    }
}

/* Whether some order leaves every cut where it is: the next loop moves all operands on that are cut there. */
static int is_closed(const Space *s, const int64_t *chain, const Ranked *r) {
    for (int i = 0; i < s->cuts; i++) {
        int64_t here = chain[r->cut[i]], next = i + 1 < s->cuts ? chain[r->cut[i + 1]] : s->size - 1;
        uint64_t beyond = 0;
        for (int a = 0; a < s->axes; a++)
            if (s->exponents[next * s->axes + a] > s->exponents[here * s->axes + a]) beyond |= bit(a);
        if (beyond && !(beyond & ~r->stuck[i])) return 0;
    }
    return 1;
}

/* The loops between cuts, innermost first, as axes: ``stay`` first those that leave the operand of the cut below where it is, or
 * first those that move all operands on that are cut there. */
static void order_loops(const Space *s, const int64_t *chain, const Ranked *r, int stay, int64_t *order) {
    int key[MOST_LOOPS], n = 0;
    for (int a = 0; a < s->axes; a++)
        for (int64_t copy = 0; copy < s->shape[a] - 1; copy++, n++) {
            int segment = 0, i = n;
            for (int k = 0; k < s->cuts; k++) segment += s->exponents[chain[k] * s->axes + a] <= copy;
            int inner = segment ? segment - 1 : 0, outer = segment < s->cuts ? segment : s->cuts - 1;
            int idle = segment && (r->idle[inner] & bit(a)), stuck = segment && (r->stuck[inner] & bit(a));
            int above = segment < s->cuts && (r->idle[outer] & bit(a));
            int value = segment * 4 + (stay ? 2 * !idle : 2 * stuck) + !above;
            for (; i > 0 && key[i - 1] > value; i--) key[i] = key[i - 1], order[i] = order[i - 1];
            key[i] = value;
            order[i] = a;
        }
}

/* Where cuts end up: over loops that leave their operand where it is. */
static void move_cuts(const Space *s, const int64_t *chain, const int64_t *order, int64_t *cuts) {
    for (int c = 0; c < s->columns; c++) {
        int at = s->cut_of[c] < 0 ? s->loops : degree_of(s, chain[s->cut_of[c]]);
        while (at >= 0 && at < s->loops && ((uint64_t)s->idle[s->operand_of[c]] & bit((int)order[at]))) at++;
        cuts[c] = at;
    }
}

/* found: running, loading, offloading; returns whether every index lies where it may. */
static int time_mapping(const Space *s, const int64_t *order, const int64_t *cuts, double found[3]) {
    int64_t point[MOST_LOOPS + 1];
    char second[MOST_HELD];
    Row row;
    point[0] = 0;
    for (int i = 0; i < s->loops; i++) point[i + 1] = point[i] + s->stride[order[i]];
    if (!grant(s->held, s->columns, s->sizes, s->access, s->slots, point, s->loops + 1, cuts, second)) return 0;
    if (!read_row(&s->layout, &s->durations, point, s->loops + 1, cuts, second, &row)) return 0;
    time_row(&s->layout, &row, found);
    return 1;
}

/* ---- buffers of Python ------------------------------------------------------------------------------------------- */

enum { SHAPES, EXPONENTS, IDLE_AXES, COLUMNS, ROOM, LAYOUT, NUMBERS, FLOW_VALUES, STAY, PERIOD, PJ, CHAINS, CLOSED, ORDERS, MOVED,
       ENERGIES, FOUND, TAKEN };

/* columns: (operand, slot, cut or -1) of each. room: sizes, then accesses. The first of numbers is the energy of all chains. */
static int read_space(Space *s, const Py_buffer *v, PyObject *parts, Py_buffer *views) {
    const int64_t *column = v[COLUMNS].buf;
    int64_t points = 1, loops = 0;
    memset(s, 0, sizeof *s);
    s->axes = (int)(v[SHAPES].len / 8);
    s->operands = (int)(v[IDLE_AXES].len / 8);
    s->columns = (int)(v[COLUMNS].len / 24);
    s->slots = (int)(v[ROOM].len / 16);
    if (v[SHAPES].len > MOST_AXES * 8 || s->axes < 1 || s->operands < 1 || v[IDLE_AXES].len > MOST_OPERANDS * 8) return 0;
    if (v[COLUMNS].len > MOST_HELD * 24 || s->columns < 1 || v[ROOM].len > MOST_HELD * 16 || s->slots < 1) return 0;
    s->shape = v[SHAPES].buf;
    for (int a = s->axes - 1; a >= 0; a--) {
        if (outside(s->shape[a] - 1, MOST_LOOPS)) return 0;
        s->stride[a] = points;
        points *= s->shape[a];
        loops += s->shape[a] - 1;
        if (points > INT32_MAX) return 0;
    }
    s->size = points;
    s->loops = (int)loops;
    if (loops > MOST_LOOPS || v[EXPONENTS].len != points * s->axes * 8) return 0;
    for (int c = 0; c < s->columns; c++, column += 3) {
        if (outside(column[0], s->operands) || outside(column[1], s->slots) || outside(column[2] + 1, MOST_CUTS + 1)) return 0;
        s->operand_of[c] = (int)column[0];
        s->held[c].slot = (int)column[1];
        s->held[c].first = c == 0 || column[0] != column[-3];
        s->cut_of[c] = (int)column[2];
        if (column[2] >= 0) {
            if (column[2] != s->cuts) return 0;
            s->column_of[s->cuts++] = c;
        }
    }
    if (s->cuts < 1 || v[LAYOUT].len < 48 || v[NUMBERS].len < 8 || v[PJ].len != s->cuts * points * 8) return 0;
    if (v[STAY].len != points * 8 || v[PERIOD].len != points * 8 || v[CHAINS].len % (s->cuts * 8)) return 0;
    if (read_layout(&s->layout, v[LAYOUT].buf, v[LAYOUT].len / 8, (const double *)v[NUMBERS].buf + 1, v[NUMBERS].len / 8 - 1, s->columns) < 0)
        return 0;
    if (v[FLOW_VALUES].len != (s->layout.flows + s->layout.boundaries) * points * 8) return 0;
    int64_t rows = v[CHAINS].len / (s->cuts * 8);
    if (v[CLOSED].len != rows || v[ORDERS].len != rows * loops * 8 || v[MOVED].len != rows * s->columns * 8 ||
        v[ENERGIES].len != rows * 8 || v[FOUND].len != rows * 24)
        return 0;
    for (int64_t i = 0; i < rows * s->cuts; i++)
        if (outside(((const int64_t *)v[CHAINS].buf)[i], points)) return 0;
    s->exponents = v[EXPONENTS].buf;
    s->idle = v[IDLE_AXES].buf;
    s->sizes = v[ROOM].buf;
    s->access = s->sizes + s->slots;
    s->durations = (Durations){v[FLOW_VALUES].buf, v[STAY].buf, v[PERIOD].buf, points};
    s->energy = v[PJ].buf;
    s->fixed_pj = *(const double *)v[NUMBERS].buf;
    return take_held(parts, views, s->held, s->columns) == 0;
}

static int play_all(const Space *s, const Py_buffer *v) {
    int64_t rows = v[CHAINS].len / (s->cuts * 8);
    for (int64_t m = 0; m < rows; m++) {
        const int64_t *chain = (const int64_t *)v[CHAINS].buf + m * s->cuts;
        int64_t *order = (int64_t *)v[ORDERS].buf + m * s->loops, *cuts = (int64_t *)v[MOVED].buf + m * s->columns;
        double found[3], energy = s->fixed_pj;
        Ranked ranked;
        rank_cuts(s, chain, &ranked);
        int closed = is_closed(s, chain, &ranked);
        order_loops(s, chain, &ranked, !closed, order);
        move_cuts(s, chain, order, cuts);
        if (!time_mapping(s, order, cuts, found)) return 0;
        for (int k = 0; k < s->cuts; k++) energy += s->energy[k * s->size + chain[k]];
        ((char *)v[CLOSED].buf)[m] = (char)closed;
        ((double *)v[ENERGIES].buf)[m] = energy;
        for (int k = 0; k < 3; k++) ((double *)v[FOUND].buf)[k * rows + m] = found[k];
    }
    return 1;
}

static PyObject *play(PyObject *self, PyObject *args) {
    PyObject *tuple, *parts;
    Py_buffer v[TAKEN], views[3 * MOST_HELD];
    int good = 0, taken = 0;
    if (!PyArg_ParseTuple(args, "O!O", &PyTuple_Type, &tuple, &parts) || take_tuple(tuple, v, TAKEN, CLOSED, bit(CLOSED)) < 0) return NULL;
    Space *s = PyMem_Malloc(sizeof *s);
    if (!s) PyErr_NoMemory();
    else if (read_space(s, v, parts, views)) {
        taken = 1;
        int64_t fits = 1;
        for (int c = 0; c < s->columns; c++) fits &= s->held[c].points == s->size;
        Py_BEGIN_ALLOW_THREADS
        good = fits && play_all(s, v);
        Py_END_ALLOW_THREADS
    }
    if (taken) release_views(views, 3 * s->columns);
    PyMem_Free(s);
    if (!good && !PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "the buffers do not belong together");
    return finish(v, TAKEN);
}

static PyMethodDef methods[] = {
    {"play", play, METH_VARARGS,
     "play(buffers, contents): fills the last five buffers with closed, orders, cuts, energies and (3, chains) cycles."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_play", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__play(void) {
    PyObject *made = PyModule_Create(&module);
    if (made && (PyModule_AddIntConstant(made, "MOST_AXES", MOST_AXES) < 0 || PyModule_AddIntConstant(made, "MOST_CUTS", MOST_CUTS) < 0 ||
                 PyModule_AddIntConstant(made, "MOST_HELD", MOST_HELD) < 0 ||
                 PyModule_AddIntConstant(made, "MOST_LOOPS", MOST_LOOPS) < 0)) {
        Py_DECREF(made);
        return NULL;
    }
    return made;
}
