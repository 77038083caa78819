/* The latency of the exact model, one mapping after the other: timing_rows.py is the same in NumPy, and explains it.
 *
 * Every formula stands in the same order as there, so that both agree to rounding. Formats of the buffers are checked by
 * size; indices are checked before they are used.
 */
#include "_views.h"
#include <math.h>
#include <string.h>

#define MOST_OPERANDS 8
#define MOST_BOUNDARIES 32
#define MOST_FLOWS 64 /* masks of flows have 64 bits */
#define MOST_PORTS 64
#define MOST_PAIRS 64

enum { INTO, BACK, OUT }; /* kinds of flows */

typedef struct {
    int operand, level, column; /* column: of cuts and double */
    int flows[4], count;
    uint64_t mask; /* of its flows */
} Boundary;

typedef struct {
    int boundary, kind, operand, upper, lower, contested;
} Flow;

typedef struct {
    int upper, lower;
    uint64_t touching, using;
} Pair;

typedef struct {
    int ints[MOST_FLOWS], count;
    uint64_t mask;
} List;

typedef struct {
    int boundaries, operands, flows, ports, pairs;
    Boundary boundary[MOST_BOUNDARIES];
    Flow flow[MOST_FLOWS];
    Pair pair[MOST_PAIRS];
    List inner[MOST_OPERANDS];    /* an operand's boundaries, from the innermost */
    List sequence[MOST_OPERANDS]; /* an operand's flows as they follow each other */
    List users[MOST_PORTS];
    uint64_t of_kind[3];
    int shared[MOST_PORTS], shared_count; /* ports of several operands */
    double step_share, working, total;
    double apart, at_ends, hidden, contested, reserve; /* the fitted shares of timing_rows.py */
    double step[2];              /* cycles of a step without and with returning sums */
    double step_port[2][MOST_PORTS];
} Layout;

/* By point: cycles of each flow and then shares of each boundary, and the stays and period of a boundary that is cut there. */
typedef struct {
    const double *values, *stays, *periods;
    int64_t points;
} Durations;

/* One mapping. */
typedef struct {
    int order[MOST_BOUNDARIES], rank[MOST_BOUNDARIES];
    int64_t place[MOST_BOUNDARIES];
    double stays[MOST_BOUNDARIES], periods[MOST_BOUNDARIES]; /* per boundary */
    int single[MOST_BOUNDARIES];
    uint64_t chained[MOST_BOUNDARIES]; /* flows that nothing hides when a boundary changes */
    uint64_t hidden[MOST_BOUNDARIES];  /* flows that second buffers hide at the j-th in order */
    double cycles[MOST_FLOWS];         /* mean per stay */
    double share;
} Row;

/* What one run finds: cycles of all, those of one change of everything, what each port carries. */
typedef struct {
    double cycles, first, busy[MOST_PORTS];
} Run;

static double larger(double a, double b) { return a > b ? a : b; }
static double smaller(double a, double b) { return a < b ? a : b; }

static void append(List *list, int value) {
    list->ints[list->count++] = value;
    list->mask |= bit(value);
}

/* ---- what does not depend on the mapping ----------------------------------------------------------------------- */

static void connect(Layout *layout) {
    for (int b = 0; b < layout->boundaries; b++) append(&layout->inner[layout->boundary[b].operand], b);
    for (int i = 0; i < layout->flows; i++) {
        const Flow *f = &layout->flow[i];
        layout->of_kind[f->kind] |= bit(i);
        append(&layout->users[f->upper], i);
        if (f->lower != f->upper) append(&layout->users[f->lower], i);
        if (f->kind == OUT) append(&layout->sequence[f->operand], i);
    }
    for (int i = layout->flows - 1; i >= 0; i--)
        if (layout->flow[i].kind != OUT) append(&layout->sequence[layout->flow[i].operand], i);
    for (int k = 0; k < layout->pairs; k++) {
        Pair *pair = &layout->pair[k];
        pair->touching = layout->users[pair->upper].mask | layout->users[pair->lower].mask;
        for (int i = 0; i < layout->flows; i++)
            if (layout->flow[i].upper == pair->upper && layout->flow[i].lower == pair->lower) pair->using |= bit(i);
    }
    for (int p = 0; p < layout->ports; p++) {
        const List *users = &layout->users[p];
        int several = 0;
        for (int k = 1; k < users->count; k++)
            several |= layout->flow[users->ints[k]].operand != layout->flow[users->ints[0]].operand;
        if (several) layout->shared[layout->shared_count++] = p;
    }
}

/* ints: counts of boundaries, operands, flows, ports, pairs, columns; (operand, level, column) of each boundary;
 * (boundary, kind, upper port, lower port, contested) of each flow; (upper, lower) of each pair. reals: step_share, working and all
 * cycles, the fitted shares, a step's cycles and each port's in it, without and with returning sums. */
static int read_layout(Layout *layout, const int64_t *ints, Py_ssize_t count, const double *reals, Py_ssize_t real_count,
                       int64_t columns) {
    static const int64_t most[5] = {MOST_BOUNDARIES, MOST_OPERANDS, MOST_FLOWS, MOST_PORTS, MOST_PAIRS};
    memset(layout, 0, sizeof *layout);
    if (count < 6 || ints[5] != columns) return -1;
    for (int k = 0; k < 5; k++)
        if (ints[k] < (k < 4) || ints[k] > most[k]) return -1;
    layout->boundaries = (int)ints[0];
    layout->operands = (int)ints[1];
    layout->flows = (int)ints[2];
    layout->ports = (int)ints[3];
    layout->pairs = (int)ints[4];
    if (count != 6 + 3 * ints[0] + 5 * ints[2] + 2 * ints[4] || real_count != 10 + 2 * ints[3]) return -1;
    const int64_t *at = ints + 6;
    for (int b = 0; b < layout->boundaries; b++, at += 3) {
        if (outside(at[0], ints[1]) || outside(at[1], 1 << 20) || outside(at[2], columns)) return -1;
        layout->boundary[b] = (Boundary){(int)at[0], (int)at[1], (int)at[2], {0}, 0, 0};
    }
    for (int i = 0; i < layout->flows; i++, at += 5) {
        if (outside(at[0], ints[0]) || outside(at[1], 3) || outside(at[2], ints[3]) || outside(at[3], ints[3])) return -1;
        Boundary *boundary = &layout->boundary[at[0]];
        if (boundary->count == 4) return -1;
        boundary->flows[boundary->count++] = i;
        boundary->mask |= bit(i);
        layout->flow[i] = (Flow){(int)at[0], (int)at[1], boundary->operand, (int)at[2], (int)at[3], at[4] != 0};
    }
    for (int k = 0; k < layout->pairs; k++, at += 2) {
        if (outside(at[0], ints[3]) || outside(at[1], ints[3])) return -1;
        layout->pair[k] = (Pair){(int)at[0], (int)at[1], 0, 0};
    }
    layout->step_share = reals[0];
    layout->working = reals[1];
    layout->total = reals[2];
    layout->apart = reals[3];
    layout->at_ends = reals[4];
    layout->hidden = reals[5];
    layout->contested = reals[6];
    layout->reserve = reals[7];
    for (int returning = 0; returning < 2; returning++) {
        const double *step = reals + 8 + returning * (1 + layout->ports);
        layout->step[returning] = step[0];
        memcpy(layout->step_port[returning], step + 1, (size_t)layout->ports * sizeof(double));
    }
    connect(layout);
    return 0;
}

/* ---- a mapping ------------------------------------------------------------------------------------------------- */

static void sort_boundaries(const Layout *layout, Row *row) {
    for (int b = 0; b < layout->boundaries; b++) {
        int k = b;
        for (; k > 0 && row->place[row->order[k - 1]] > row->place[b]; k--) row->order[k] = row->order[k - 1];
        row->order[k] = b;
    }
    for (int j = 0; j < layout->boundaries; j++) row->rank[row->order[j]] = j;
}

static void find_hidden(const Layout *layout, Row *row) {
    memset(row->hidden, 0, sizeof row->hidden);
    memset(row->chained, 0, sizeof row->chained);
    for (int o = 0; o < layout->operands; o++) {
        const List *inner = &layout->inner[o];
        int waited_from = layout->boundaries;
        for (int k = inner->count - 1; k >= 0; k--) {
            int b = inner->ints[k];
            uint64_t flows = layout->boundary[b].mask;
            if (row->single[b]) waited_from = row->rank[b];
            for (int j = row->rank[b]; j < waited_from; j++) row->hidden[j] |= flows;
        }
        for (int change = 0; change < layout->boundaries; change++) {
            int beyond = 0;
            for (int k = inner->count - 1; k >= 0; k--) {
                int b = inner->ints[k];
                if (row->rank[b] > row->rank[change]) continue; /* what stands before it changes with it */
                beyond |= row->single[b];
                if (beyond) row->chained[change] |= layout->boundary[b].mask;
            }
        }
    }
}

/* The longest wait for some flows: an operand's transfers follow each other, several operands meet on ports. */
static double waits(const Layout *layout, const double *cycles, uint64_t exposed) {
    double head[MOST_FLOWS], tail[MOST_FLOWS], longest = 0;
    int waiting = 0;
    if (!exposed) return 0;
    for (int o = 0; o < layout->operands; o++) {
        const List *sequence = &layout->sequence[o];
        double before = 0;
        if (!(sequence->mask & exposed)) continue;
        for (int k = 0; k < sequence->count; k++) {
            int i = sequence->ints[k];
            if (!(cycles[i] > 0)) exposed &= ~bit(i);
            if (!(exposed & bit(i))) continue;
            head[i] = before;
            before += cycles[i];
        }
        for (int k = 0; k < sequence->count; k++) {
            int i = sequence->ints[k];
            if (exposed & bit(i)) tail[i] = before - head[i] - cycles[i];
        }
        waiting += before > 0;
        longest = larger(longest, before);
    }
    if (waiting < 2) return longest;
    for (int s = 0; s < layout->shared_count; s++) {
        const List *users = &layout->users[layout->shared[s]];
        double start = INFINITY, end = INFINITY, busy = 0;
        int last = -1;
        if (!(users->mask & exposed)) continue;
        for (int k = 0; k < users->count; k++) {
            int i = users->ints[k];
            if (!(exposed & bit(i))) continue;
            const Flow *f = &layout->flow[i];
            /* the lower boundary goes first, then the earlier operand; what follows the last has to wait for all */
            int rank = layout->boundary[f->boundary].level * 16 + f->operand;
            busy += cycles[i];
            start = smaller(start, head[i]);
            last = rank > last ? rank : last;
        }
        for (int k = 0; k < users->count; k++) {
            int i = users->ints[k];
            if ((exposed & bit(i)) && layout->flow[i].operand == last % 16) end = smaller(end, tail[i]);
        }
        longest = larger(longest, start + busy + end);
    }
    return longest;
}

/* Two buffers hide an operand's transfers behind one block. */
typedef struct {
    double base, load[MOST_PORTS]; /* the block beside which transfers go, and what its ports carry */
} Ring;

/* Cycles of a block if the one after next waits for an operand's transfers, which follow each other beside the next. */
static double ring_cycles(const Layout *layout, const Row *row, const double *cycles, const Ring *ring, int o, int j,
                          double unbound) {
    double base = ring->base, level = row->stays[row->order[j]], now = 0, longest = 0;
    double after[MOST_PORTS]; /* cycles that do not fit beside the block */
    const List *sequence = &layout->sequence[o];
    memset(after, 0, (size_t)layout->ports * sizeof(double));
    for (int k = 0; k < sequence->count; k++) {
        int i = sequence->ints[k];
        const Flow *f = &layout->flow[i];
        if (!(cycles[i] > 0 && (row->hidden[j] & bit(i)))) continue;
        /* transfers that also change further in have their part of the block already */
        double busy = 0;
        if (row->stays[f->boundary] == level) busy = smaller(1.0, larger(ring->load[f->upper], ring->load[f->lower]) / base);
        double beside = smaller(cycles[i], larger(0, base - now) * (1 - busy));
        double rest = cycles[i] - beside;
        now = rest > 1e-9 ? larger(base, now) + rest : now + beside / larger(1 - busy, 1e-9);
        after[f->upper] += rest;
        after[f->lower] += rest;
        longest = larger(longest, larger(after[f->upper], after[f->lower]));
    }
    return larger((unbound + now) / 2, longest > 0 ? base + longest : 0);
}

static double ring_bound(const Layout *layout, const Row *row, const double *cycles, const Ring *ring, int j,
                         double unbound, double bound) {
    if (j + 1 < layout->boundaries && row->stays[row->order[j]] == row->stays[row->order[j + 1]])
        return bound; /* those of the same cut come together */
    for (int o = 0; o < layout->operands; o++) {
        const List *sequence = &layout->sequence[o];
        double hidden = 0, most = 0;
        int moving = 0;
        for (int k = 0; k < sequence->count; k++) {
            int i = sequence->ints[k];
            if (!(cycles[i] > 0)) continue;
            moving++;
            most = larger(most, larger(ring->load[layout->flow[i].upper], ring->load[layout->flow[i].lower]));
            if (row->hidden[j] & bit(i)) hidden += cycles[i];
        }
        if (moving < 2) continue; /* the port's own bound says as much */
        if (hidden > larger(ring->base - most, bound - ring->base))
            bound = larger(bound, ring_cycles(layout, row, cycles, ring, o, j, unbound));
    }
    return bound;
}

static int busiest(const Layout *layout, const double *load) {
    int late = 0;
    for (int p = 1; p < layout->ports; p++)
        if (load[p] > load[late]) late = p;
    return late;
}

/* A transfer needs both of its ports at once: what others do on either keeps it waiting. */
static double pair_bound(const Layout *layout, const Boundary *boundary, const double *cycles, double ratio,
                         double *load, int *needed, double bound) {
    for (int k = 0; k < layout->pairs; k++) {
        double touched = 0, needing = 0;
        for (int n = 0; n < boundary->count; n++) {
            int i = boundary->flows[n];
            if (layout->pair[k].touching & bit(i)) touched += cycles[i];
            if (layout->pair[k].using & bit(i)) needing += cycles[i];
        }
        load[k] = load[k] * ratio + touched;
        needed[k] = needing > 0 || (needed[k] && ratio == 1);
        if (needed[k]) bound = bound + layout->apart * larger(0, load[k] - bound);
    }
    return bound;
}

/* If all stays were alike. */
static void run_alike(const Layout *layout, const Row *row, const double *cycles, int returning, Run *run) {
    double block = layout->step[returning], *load = run->busy, behind = 0, added = 0;
    double before = layout->working, period = 1, known = 0, waited = 0;
    double pair_load[MOST_PAIRS];
    int pair_needed[MOST_PAIRS];
    uint64_t mask = 0;
    Ring ring;
    memcpy(load, layout->step_port[returning], (size_t)layout->ports * sizeof(double));
    for (int k = 0; k < layout->pairs; k++) {
        pair_load[k] = larger(load[layout->pair[k].upper], load[layout->pair[k].lower]);
        pair_needed[k] = 0;
    }
    int late = busiest(layout, load); /* the port that is behind */
    for (int j = 0; j < layout->boundaries; j++) {
        int b = row->order[j];
        const Boundary *boundary = &layout->boundary[b];
        double ratio = before / row->stays[b], idle = row->periods[b] - ratio * period;
        before = row->stays[b];
        period = row->periods[b];
        if (row->chained[b] != mask) waited = waits(layout, cycles, mask = row->chained[b]);
        double more = waited - known;
        known = waited;
        double inside = block * ratio + idle;
        for (int p = 0; p < layout->ports; p++) load[p] *= ratio;
        if (ratio > 1 || j == 0) {
            ring.base = inside;
            memcpy(ring.load, load, (size_t)layout->ports * sizeof(double));
        }
        /* a change out here also leaves time for what the ports could not hide further in */
        double unbound = inside + more - smaller(behind, more);
        double carried[MOST_PORTS] = {0};
        for (int n = 0; n < boundary->count; n++) {
            const Flow *f = &layout->flow[boundary->flows[n]];
            carried[f->upper] += cycles[boundary->flows[n]];
            if (f->lower != f->upper) carried[f->lower] += cycles[boundary->flows[n]];
        }
        double bound = unbound;
        for (int p = 0; p < layout->ports; p++) {
            load[p] += carried[p];
            bound = larger(bound, load[p]);
        }
        bound = ring_bound(layout, row, cycles, &ring, j, unbound, bound);
        bound = pair_bound(layout, boundary, cycles, ratio, pair_load, pair_needed, bound);
        /* with a single stay, what the port carries is part of filling and draining */
        block = before > 1 ? bound : unbound;
        double gained = block - unbound;
        if (gained != 0) late = busiest(layout, load);
        behind = behind - smaller(behind, more) + gained;
        added += gained * before;
    }
    double ends = 0; /* cycles of one stay of everything on the port that is behind */
    for (int k = 0; k < layout->users[late].count; k++) ends += cycles[layout->users[late].ints[k]];
    double at_ends = smaller(added, larger(0, ends - known));
    run->cycles = block * before + (layout->total - before * period) - layout->at_ends * at_ends;
    run->first = known;
    for (int p = 0; p < layout->ports; p++) load[p] *= before;
}

/* The reserve: shares of the cycles that are taken to be hidden, and of those that meet other operands'. */
static double uncertain(const Layout *layout, const Row *row) {
    double found = 0;
    for (int i = 0; i < layout->flows; i++) {
        const Flow *f = &layout->flow[i];
        double stays = row->stays[f->boundary];
        double weight = row->single[f->boundary] ? (f->contested ? layout->contested : 0.0) : layout->hidden;
        if (stays > 1) found += row->cycles[i] * stays * weight;
    }
    return found;
}

static void scale_back(const Layout *layout, const Row *row, double back, double *cycles) {
    for (int i = 0; i < layout->flows; i++) cycles[i] = layout->flow[i].kind == BACK ? row->cycles[i] * back : row->cycles[i];
}

/* found: running, loading, offloading. A mixture of a run in which sums come back and one in which they do not. */
static void time_row(const Layout *layout, Row *row, double found[3]) {
    double cycles[MOST_FLOWS], share = row->share;
    Run without, with;
    sort_boundaries(layout, row);
    find_hidden(layout, row);
    /* one stay of each: filling before the first step, and draining */
    double fill = waits(layout, row->cycles, layout->of_kind[INTO]), drain = waits(layout, row->cycles, layout->of_kind[OUT]);
    scale_back(layout, row, 0, cycles);
    run_alike(layout, row, cycles, 0, &without);
    double running = without.cycles;
    if (share > 0) {
        scale_back(layout, row, 1 / larger(share, 1e-12), cycles);
        run_alike(layout, row, cycles, 1, &with);
        running = share * with.cycles + (1 - share) * running;
        for (int p = 0; p < layout->ports; p++) without.busy[p] = share * with.busy[p] + (1 - share) * without.busy[p];
    }
    double busy = without.busy[busiest(layout, without.busy)];
    /* the first stay is filled, not changed to */
    running = larger(running - without.first, busy - fill - drain);
    found[0] = running + smaller(uncertain(layout, row), layout->reserve * (running + fill + drain));
    found[1] = fill;
    found[2] = drain;
}

/* ---- buffers --------------------------------------------------------------------------------------------------- */

enum { INTS, REALS, VALUES, STAYS, PERIODS, POINT, CUTS, DOUBLE, RESULT, GIVEN };

/* Reads a mapping: the point after each number of loops, where columns are cut and which have a second buffer. Returns whether every
 * index lies where it may. */
static int read_row(const Layout *layout, const Durations *durations, const int64_t *point, int64_t loops, const int64_t *cuts,
                    const char *second, Row *row) {
    int64_t width = layout->flows + layout->boundaries;
    row->share = layout->step_share;
    for (int b = 0; b < layout->boundaries; b++) {
        int column = layout->boundary[b].column;
        int64_t cut = cuts[column];
        if (outside(cut, loops)) return 0;
        int64_t p = point[cut];
        if (outside(p, durations->points)) return 0;
        row->place[b] = cut;
        row->single[b] = !second[column];
        row->stays[b] = durations->stays[p];
        row->periods[b] = durations->periods[p];
        const double *values = durations->values + p * width;
        for (int n = 0; n < layout->boundary[b].count; n++) {
            int i = layout->boundary[b].flows[n];
            row->cycles[i] = values[i];
        }
        row->share = larger(row->share, values[layout->flows + b]);
    }
    return 1;
}

static PyObject *run(PyObject *self, PyObject *args) {
    PyObject *given[GIVEN];
    Py_buffer v[GIVEN];
    if (!PyArg_ParseTuple(args, "OOOOOOOOO", &given[INTS], &given[REALS], &given[VALUES], &given[STAYS], &given[PERIODS],
                          &given[POINT], &given[CUTS], &given[DOUBLE], &given[RESULT]))
        return NULL;
    if (take_views(given, v, GIVEN, RESULT, bit(DOUBLE)) < 0) return NULL;
    int good = 0;
    int64_t mappings = v[RESULT].len / 24;
    Layout *layout = PyMem_Malloc(sizeof *layout);
    if (!layout) PyErr_NoMemory();
    else if (mappings > 0) {
        int64_t loops = v[POINT].len / 8 / mappings, columns = v[CUTS].len / 8 / mappings;
        good = v[RESULT].len == mappings * 24 && v[POINT].len == mappings * loops * 8 && v[CUTS].len == mappings * columns * 8 &&
               v[DOUBLE].len == mappings * columns && v[PERIODS].len == v[STAYS].len &&
               read_layout(layout, v[INTS].buf, v[INTS].len / 8, v[REALS].buf, v[REALS].len / 8, columns) == 0 &&
               v[VALUES].len == v[STAYS].len * (layout->flows + layout->boundaries);
        double *result = v[RESULT].buf;
        const Durations durations = {v[VALUES].buf, v[STAYS].buf, v[PERIODS].buf, v[STAYS].len / 8};
        Py_BEGIN_ALLOW_THREADS
        Row row;
        for (int64_t m = 0; m < mappings && good; m++) {
            double found[3];
            good = read_row(layout, &durations, (const int64_t *)v[POINT].buf + m * loops, loops, (const int64_t *)v[CUTS].buf + m * columns,
                            (const char *)v[DOUBLE].buf + m * columns, &row);
            if (!good) break;
            time_row(layout, &row, found);
            for (int k = 0; k < 3; k++) result[k * mappings + m] = found[k];
        }
        Py_END_ALLOW_THREADS
    }
    PyMem_Free(layout);
    if (!good && !PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "points, cuts and times do not belong together");
    return finish(v, GIVEN);
}

static PyMethodDef methods[] = {
    {"run", run, METH_VARARGS,
     "run(layout, numbers, values, stays, periods, point, cuts, double, result): fills result (3, mappings)."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_timing", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__timing(void) {
    PyObject *made = PyModule_Create(&module);
    if (made && (PyModule_AddIntConstant(made, "MOST_OPERANDS", MOST_OPERANDS) < 0 ||
                 PyModule_AddIntConstant(made, "MOST_BOUNDARIES", MOST_BOUNDARIES) < 0 ||
                 PyModule_AddIntConstant(made, "MOST_FLOWS", MOST_FLOWS) < 0 ||
                 PyModule_AddIntConstant(made, "MOST_PORTS", MOST_PORTS) < 0 ||
                 PyModule_AddIntConstant(made, "MOST_PAIRS", MOST_PAIRS) < 0)) {
        Py_DECREF(made);
        return NULL;
    }
    return made;
}
