/* The chain of least energy where cuts add up: the regions of a space, and branch and bound where operands share a memory.
 *
 * mapping_space.py (regions) and mapping_energy.py are the same in NumPy, and explain it: the same branches are solved in the same
 * order. The shortest path itself is that of _chains.c, which is part of this file.
 */
#define PyInit__chains PyInit__chains_in_least
#define methods chains_methods
#define module chains_module
#include "_chains.c"
#undef methods
#undef module

#define MOST_SLOTS 32
#define MOST_COLUMNS 64
#define HUGE_BITS (INT64_MAX / 16)

/* A part of the space: what its cuts hold, what room there is, where cuts may lie. */
typedef struct {
    const int64_t *bits[MOST_CUTS];
    int64_t room[MOST_SLOTS];
    char *allowed; /* (cuts, points) */
} Region;

/* A region with fewer points, and its least chain without regard to what operands share. */
typedef struct {
    double value;
    int64_t number, chain[MOST_CUTS];
    int region;
    char *allowed;
} Node;

static int before_node(const Node *a, const Node *b) { return a->value != b->value ? a->value < b->value : a->number < b->number; }

#include "_heap.h"

typedef struct {
    Problem problem;
    int columns, slots, regions;
    int operand_of[MOST_COLUMNS], slot_of[MOST_COLUMNS], cut_of[MOST_COLUMNS], slot_of_cut[MOST_CUTS];
    const double *energy;
    const int64_t *final, *partial;      /* (cuts, points) */
    const int64_t *whole;                /* (operands, 2) bits of all of it, finished and partial */
    const int64_t *size;                 /* of each slot */
    const char *adds;                    /* per column of the output, whether lanes above add up sums */
    uint64_t idle;                       /* axes that leave the output where it is */
    double fixed_pj;
    Region region[MOST_CUTS + 1];
    int64_t short_bits, needed_bits;     /* of the region that lacks least */
    int short_slot;
    /* the search */
    Heap heap;
    int64_t number;
    double *work; /* cost, made, reach */
    double best;
    int best_region;
    int64_t best_chain[MOST_CUTS];
} Search;

/* ---- regions ----------------------------------------------------------------------------------------------------- */

/* Whether all reductions lie below a point. */
static int is_complete(const Search *s, int64_t point) {
    for (int a = s->problem.axes - 1; a >= 0; a--) {
        int64_t n = s->problem.shape[a];
        if ((s->idle >> a & 1) && point % n != n - 1) return 0;
        point /= n;
    }
    return 1;
}

/* Takes points out that leave no room for the others' least; returns whether something is too small. */
static int fit(Search *s, Region *region) {
    int64_t size = s->problem.size, least[MOST_CUTS], most_over = 0;
    int short_slot = -1;
    for (int k = 0; k < s->problem.cuts; k++) {
        least[k] = HUGE_BITS;
        for (int64_t p = 0; p < size; p++)
            if (region->allowed[k * size + p] && region->bits[k][p] < least[k]) least[k] = region->bits[k][p];
    }
    for (int m = 0; m < s->slots; m++) {
        int64_t over = -region->room[m];
        for (int k = 0; k < s->problem.cuts; k++)
            if (s->slot_of_cut[k] == m) over += least[k];
        if (over > most_over) {
            most_over = over;
            short_slot = m;
        }
        for (int k = 0; k < s->problem.cuts; k++)
            if (s->slot_of_cut[k] == m)
                for (int64_t p = 0; p < size; p++) region->allowed[k * size + p] &= region->bits[k][p] <= least[k] - over;
    }
    if (short_slot < 0) return 0;
    if (s->short_slot < 0 || most_over < s->short_bits) {
        s->short_slot = short_slot;
        s->short_bits = most_over;
        s->needed_bits = s->size[short_slot] + most_over < HUGE_BITS ? s->size[short_slot] + most_over : HUGE_BITS;
    }
    return 1;
}

/* The regions in which something fits, by the first of the output's cuts that has all reductions below it. */
static void find_regions(Search *s, char *allowed, int64_t *first_of) {
    int64_t size = s->problem.size, cuts = s->problem.cuts, outputs = s->problem.counts[0];
    int at_array = is_complete(s, 0);
    for (int64_t first = 0; first <= (at_array ? 0 : outputs); first++) {
        Region *region = &s->region[s->regions];
        region->allowed = allowed + s->regions * cuts * size;
        memcpy(region->room, s->size, (size_t)s->slots * 8);
        for (int c = 0; c < s->columns; c++) {
            int k = s->cut_of[c], is_partial = s->operand_of[c] == 0 && ((!at_array && c <= first) || s->adds[c]);
            if (k < 0) region->room[s->slot_of[c]] -= s->whole[2 * s->operand_of[c] + is_partial];
            else region->bits[k] = (is_partial ? s->partial : s->final) + k * size;
        }
        memset(region->allowed, 1, (size_t)(cuts * size));
        if (!at_array)
            for (int64_t p = 0; p < size; p++) {
                int complete = is_complete(s, p);
                for (int64_t k = 0; k < outputs; k++) region->allowed[k * size + p] = (char)(k < first ? !complete : complete);
            }
        if (!fit(s, region)) first_of[s->regions++] = first;
    }
}

/* ---- branch and bound -------------------------------------------------------------------------------------------- */

/* Solves a part of a region, ``allowed`` of which the search owns from now on; -1 without memory. */
static int push(Search *s, int region, char *allowed) {
    Problem *problem = &s->problem;
    int64_t many = problem->cuts * problem->size, layer = problem->states * problem->size;
    double *cost = s->work, *made = cost + many, *reach = made + layer;
    Node node = {0};
    for (int64_t i = 0; i < many; i++) cost[i] = allowed[i] ? s->energy[i] : INFINITY;
    problem->cost = cost;
    forwards(problem, made, reach);
    node.value = reach[layer - 1];
    if (!isfinite(node.value)) {
        free(allowed);
        return 0;
    }
    trace(problem, made, reach, node.chain);
    node.value += s->fixed_pj;
    node.number = s->number++;
    node.region = region;
    node.allowed = allowed;
    if (push_node(&s->heap, &node) < 0) {
        free(allowed);
        return -1;
    }
    return 0;
}

/* The points of one part at which a cut holds at most so much. */
static char *restricted(const Search *s, const Node *node, int cut, int64_t most) {
    int64_t size = s->problem.size, many = s->problem.cuts * size;
    char *allowed = malloc((size_t)many);
    if (!allowed) return NULL;
    memcpy(allowed, node->allowed, (size_t)many);
    for (int64_t p = 0; p < size; p++) allowed[cut * size + p] &= s->region[node->region].bits[cut][p] <= most;
    return allowed;
}

/* Branches that leave a chain out, if it puts too much below a memory: 1 if it does, -1 without memory. */
static int split(Search *s, const Node *node) {
    const Region *region = &s->region[node->region];
    int seen[MOST_SLOTS] = {0};
    for (int first = 0; first < s->problem.cuts; first++) { /* memories in the order of their first cut */
        int m = s->slot_of_cut[first], member[MOST_CUTS], members = 0;
        int64_t held[MOST_CUTS], over = -region->room[m];
        if (seen[m]) continue;
        seen[m] = 1;
        for (int k = first; k < s->problem.cuts; k++)
            if (s->slot_of_cut[k] == m) {
                held[members] = region->bits[k][node->chain[k]];
                over += held[members];
                member[members++] = k;
            }
        if (over <= 0 || members < 2) continue;
        /* whoever fits holds at most held - cut for one of the members, if the cuts sum to at most this */
        int64_t share = (over + members - 1) / members, rest = (over + members - 1) % members;
        for (int i = 0; i < members; i++) {
            int64_t less = share + (i < rest);
            char *allowed = restricted(s, node, member[i], held[i] - (less > 1 ? less : 1));
            if (!allowed || push(s, node->region, allowed) < 0) return -1;
        }
        return 1;
    }
    return 0;
}

/* Finds the best chain, the first that fits, as parts come in the order of what none of their chains is below; -1 without memory. */
static int search_energy(Search *s) {
    int64_t many = s->problem.cuts * s->problem.size;
    int good = 1;
    s->best_region = -1;
    for (int r = 0; r < s->regions; r++) {
        char *allowed = malloc((size_t)many);
        if (!allowed) return -1;
        memcpy(allowed, s->region[r].allowed, (size_t)many);
        if (push(s, r, allowed) < 0) return -1;
    }
    while (good > 0 && s->heap.count) {
        Node node = pop_node(&s->heap);
        good = split(s, &node);
        free(node.allowed);
        if (good) continue;
        s->best_region = node.region;
        memcpy(s->best_chain, node.chain, sizeof node.chain);
        s->best = s->fixed_pj;
        for (int k = 0; k < s->problem.cuts; k++) s->best += s->energy[k * s->problem.size + node.chain[k]];
    }
    return good;
}

/* ---- buffers of Python ------------------------------------------------------------------------------------------- */

enum { SHAPE, COUNTS, COST, BITS, PARTIAL_BITS, COLUMNS, WHOLE, SIZES, ADDS, ALLOWED, FIRSTS, CHAIN, TAKEN };

/* columns: (operand, slot, cut or -1) of each memory of each operand; the output is the first. */
static int read_search(Search *s, const Py_buffer *v) {
    const int64_t *column = v[COLUMNS].buf;
    int64_t points = s->problem.size, cuts = s->problem.cuts;
    int found = 0;
    s->columns = (int)(v[COLUMNS].len / 24);
    s->slots = (int)(v[SIZES].len / 8);
    if (v[COLUMNS].len > MOST_COLUMNS * 24 || s->columns < 1 || v[SIZES].len > MOST_SLOTS * 8 || cuts < 1) return 0;
    if (v[BITS].len != cuts * points * 8 || v[PARTIAL_BITS].len != v[BITS].len || v[WHOLE].len != s->problem.operands * 16) return 0;
    if (v[ADDS].len != s->columns || v[CHAIN].len != cuts * 8) return 0;
    if (v[ALLOWED].len != (s->problem.counts[0] + 1) * cuts * points || v[FIRSTS].len != (s->problem.counts[0] + 1) * 8) return 0;
    for (int c = 0; c < s->columns; c++, column += 3) {
        if (outside(column[0], s->problem.operands) || outside(column[1], s->slots) || column[2] < -1) return 0;
        if (column[2] >= 0 && column[2] != found) return 0;
        s->operand_of[c] = (int)column[0];
        s->slot_of[c] = (int)column[1];
        s->cut_of[c] = (int)column[2];
        if (column[2] < 0) continue;
        if (found >= cuts || column[0] >= s->problem.operands || found < s->problem.first[column[0]] ||
            found >= s->problem.first[column[0]] + s->problem.counts[column[0]])
            return 0;
        s->slot_of_cut[found++] = (int)column[1];
    }
    s->energy = v[COST].buf;
    s->final = v[BITS].buf;
    s->partial = v[PARTIAL_BITS].buf;
    s->whole = v[WHOLE].buf;
    s->size = v[SIZES].buf;
    s->adds = v[ADDS].buf;
    return found == cuts;
}

static PyObject *least_energy(PyObject *self, PyObject *args) {
    PyObject *tuple, *answer = NULL;
    Py_buffer v[TAKEN];
    double fixed_pj;
    unsigned long long idle;
    if (!PyArg_ParseTuple(args, "O!dK", &PyTuple_Type, &tuple, &fixed_pj, &idle) ||
        take_tuple(tuple, v, TAKEN, ALLOWED, bit(ADDS) | bit(ALLOWED)) < 0)
        return NULL;
    Search *s = PyMem_Calloc(1, sizeof *s);
    int taken = s && take_problem(&s->problem, PyTuple_GetItem(tuple, SHAPE), PyTuple_GetItem(tuple, COUNTS), PyTuple_GetItem(tuple, COST), 1) == 0;
    if (!s) PyErr_NoMemory();
    if (taken) {
        int good = -1;
        s->fixed_pj = fixed_pj;
        s->idle = idle;
        s->short_slot = -1;
        if (!read_search(s, v)) PyErr_SetString(PyExc_ValueError, "the buffers do not belong together");
        else if (!(s->work = PyMem_Malloc((size_t)(s->problem.cuts + 2 * s->problem.states) * (size_t)s->problem.size * sizeof(double))))
            PyErr_NoMemory();
        else {
            Py_BEGIN_ALLOW_THREADS
            find_regions(s, v[ALLOWED].buf, v[FIRSTS].buf);
            good = search_energy(s);
            for (int64_t i = 0; i < s->heap.count; i++) free(s->heap.nodes[i].allowed);
            free(s->heap.nodes);
            Py_END_ALLOW_THREADS
            if (good < 0) PyErr_NoMemory();
            else {
                memcpy(v[CHAIN].buf, s->best_chain, (size_t)s->problem.cuts * 8);
                answer = Py_BuildValue("iidiL", s->regions, s->best_region, s->best, s->short_slot, (long long)s->needed_bits);
            }
        }
        PyMem_Free(s->work);
        release_problem(&s->problem);
    }
    PyMem_Free(s);
    release_views(v, TAKEN);
    return answer;
}

static PyMethodDef methods[] = {
    {"least_energy", least_energy, METH_VARARGS,
     "least_energy(buffers, fixed_pj, idle) -> regions, region of the chain, its energy, slot that is too small, bits."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_least", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__least(void) {
    PyObject *made = PyModule_Create(&module);
    if (made && (PyModule_AddIntConstant(made, "MOST_AXES", MOST_AXES) < 0 || PyModule_AddIntConstant(made, "MOST_CUTS", MOST_CUTS) < 0 ||
                 PyModule_AddIntConstant(made, "MOST_OPERANDS", MOST_OPERANDS) < 0 ||
                 PyModule_AddIntConstant(made, "MOST_COLUMNS", MOST_COLUMNS) < 0 || PyModule_AddIntConstant(made, "MOST_SLOTS", MOST_SLOTS) < 0)) {
        Py_DECREF(made);
        return NULL;
    }
    return made;
}
