/* The search for fast mappings: best-first branch and bound over chains of cuts, from the innermost outwards.
 *
 * What the exact model's latency is known to be after the cuts made so far, and the least that the others add, is a bound;
 * docs/mapping-search.md says why. mapping_branch_plain.py is the same in Python, step by step, and explains it. The latency
 * itself is that of _timing.c, which is part of this file.
 */
#define PyInit__timing PyInit__timing_in_branch
#define methods timing_methods
#define module timing_module
#include "_timing.c"
#undef methods
#undef module

#define MOST_AXIS_WORDS 4 /* eight axes each */
#define MOST_CUTS 16
#define MOST_MEASURES 24
#define MOST_COLUMNS 24
#define MOST_RESULTS 64
#define TIE 1e-9
#define DIVE 8 /* every so many nodes are followed down to a whole chain */

enum { LATENCY, EDP, ENERGY }; /* objectives */
enum { SPENT, RESERVED, FIRST_PORT }; /* measures: energy, least reserve, ports, then ends: one fill and the drain */

typedef struct {
    Layout layout;
    int words, operands, cuts, measures, ports, columns, slots, couplings, objective;
    int64_t size, states, stride[MOST_OPERANDS], counts[MOST_OPERANDS], first[MOST_OPERANDS];
    int operand_of[MOST_CUTS];
    const uint64_t *exponents;             /* (words, points): a byte for each axis */
    uint64_t idle[MOST_OPERANDS][MOST_AXIS_WORDS]; /* bytes of 0x7f where an axis leaves the operand where it is */
    const double *cost, *left, *energy;    /* (measures, cuts, points); (measures, states, points); (cuts, points) */
    double base[MOST_MEASURES];
    const double *values, *stays, *periods; /* as in _timing.c */
    const double *final, *partial;         /* (columns, points) bits */
    const char *reduces;                   /* (columns, points) */
    int slot[MOST_COLUMNS], cut_of[MOST_COLUMNS], below_of[MOST_COLUMNS];
    double room[MOST_COLUMNS], access[MOST_COLUMNS];
    const int64_t *coupled;                /* (inner cut or -1, outer cut) of each coupling */
    const double *saving, *factor;         /* (couplings, points) */
    double max_cycles, small_back, least_pj, sliding;         /* small_back: sums that come back take no longer than those that leave */
    /* the best so far */
    double score, energy_pj, cycles, leaves;
    int64_t work, most_work, found;
    int64_t *result;
} Branch;

/* Cuts made: which, from the innermost, and where. */
typedef struct {
    double key, cycles, energy_pj; /* what no chain from here is below */
    int64_t number;
    int32_t at[MOST_CUTS];
    int8_t order[MOST_CUTS], count;
} Node;

/* What is known of a node: its measures, cuts per operand, the time so far, and what later cuts may not move along. */
typedef struct {
    double sum[MOST_MEASURES], sure, less, reserve;
    int64_t state, point;
    int last;
    uint64_t stuck[MOST_AXIS_WORDS];
} Seen;

/* ---- order of nodes ------------------------------------------------------------------------------------------------ */

static int before_node(const Node *a, const Node *b) {
    if (a->key != b->key) return a->key < b->key;
    if (a->count != b->count) return a->count > b->count;
    return a->number < b->number;
}

#include "_heap.h"

/* ---- what counts ----------------------------------------------------------------------------------------------- */

static double score_of(const Branch *b, double cycles, double energy) {
    return b->objective == LATENCY ? cycles : b->objective == EDP ? cycles * energy : energy;
}

/* Whether nothing of at least these cycles and this energy is better than the best. */
static int hopeless(const Branch *b, double cycles, double energy) {
    energy = larger(energy, b->least_pj);
    double score = score_of(b, cycles, energy);
    if (!(energy < INFINITY) || cycles > b->max_cycles || score > b->score * (1 + TIE)) return 1;
    if (score < b->score * (1 - TIE)) return 0;
    return !(energy < b->energy_pj * (1 - TIE) || (energy <= b->energy_pj * (1 + TIE) && cycles < b->cycles * (1 - TIE)));
}

/* ---- memories -------------------------------------------------------------------------------------------------- */

enum { SECOND, LONE, UNSURE };

/* Which cuts made have a second buffer for sure, which for sure not; whether all can find room. */
static int buffers(const Branch *b, const Node *node, int64_t point, const int *made, char *kind) {
    double whole[MOST_COLUMNS], used[MOST_COLUMNS];
    int known[MOST_COLUMNS];
    for (int s = 0; s < b->slots; s++) used[s] = 0, known[s] = 1;
    for (int c = 0; c < b->columns; c++) {
        int cut = b->cut_of[c], below = b->below_of[c], s = b->slot[c];
        int sure = (cut < 0 || made[cut]) && (below < 0 || made[below]);
        int64_t at = cut < 0 ? b->size - 1 : made[cut] ? node->at[cut] : point;
        int64_t under = below < 0 ? 0 : node->at[below];
        whole[c] = sure && b->reduces[c * b->size + under] ? b->partial[c * b->size + at] : b->final[c * b->size + at];
        used[s] += whole[c];
        known[s] &= sure;
    }
    for (int s = 0; s < b->slots; s++)
        if (used[s] > b->room[s]) return 0;
    for (int c = 0; c < b->columns; c++) {
        int cut = b->cut_of[c], s = b->slot[c];
        int once = whole[c] <= b->access[s], fits = used[s] + whole[c] <= b->room[s];
        if (known[s] && fits && !once) used[s] += whole[c];
        if (cut >= 0 && made[cut]) kind[cut] = once || (fits && known[s]) ? SECOND : fits ? UNSURE : LONE;
    }
    return 1;
}

/* ---- time ------------------------------------------------------------------------------------------------------ */

/* As find_hidden, of the cuts made; unsure ones hide nothing and keep nothing waiting. */
static void find_partly_hidden(const Branch *b, Row *row, int count, const char *kind) {
    memset(row->hidden, 0, sizeof row->hidden);
    memset(row->chained, 0, sizeof row->chained);
    for (int o = 0; o < b->operands; o++) {
        const List *inner = &b->layout.inner[o];
        int made = 0, waited_from = count;
        while (made < inner->count && row->rank[inner->ints[made]] >= 0) made++;
        for (int k = made - 1; k >= 0; k--) {
            int c = inner->ints[k];
            if (kind[c] != SECOND) waited_from = row->rank[c];
            for (int j = row->rank[c]; j < waited_from; j++) row->hidden[j] |= b->layout.boundary[c].mask;
        }
        for (int j = 0; j < count; j++) {
            int beyond = 0;
            for (int k = made - 1; k >= 0; k--) {
                int c = inner->ints[k];
                if (row->rank[c] > j) continue;
                beyond |= kind[c] == LONE;
                if (beyond) row->chained[row->order[j]] |= b->layout.boundary[c].mask;
            }
        }
    }
}

/* The longest of the operands' chains: no less, whatever else waits. */
static double chain_waits(const Layout *layout, const double *cycles, uint64_t exposed) {
    double longest = 0;
    for (int o = 0; o < layout->operands; o++) {
        double sum = 0;
        for (int k = 0; k < layout->sequence[o].count; k++)
            if (exposed & bit(layout->sequence[o].ints[k])) sum += cycles[layout->sequence[o].ints[k]];
        longest = larger(longest, sum);
    }
    return longest;
}

/* run_alike as far as cuts are made: cycles so far less one stay of all that was waited for, and what ports added. */
static void run_partly(const Layout *layout, const Row *row, const double *cycles, int returning, int count, int sure,
                       double *known_cycles, double *ports_added) {
    double block = layout->step[returning], load[MOST_PORTS], behind = 0, added = 0, waited_for = 0;
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
    for (int j = 0; j < count; j++) {
        int c = row->order[j];
        const Boundary *boundary = &layout->boundary[c];
        double ratio = before / row->stays[c], idle = row->periods[c] - ratio * period;
        before = row->stays[c];
        period = row->periods[c];
        if (row->chained[c] != mask) {
            mask = row->chained[c];
            waited = j < sure ? waits(layout, cycles, mask) : chain_waits(layout, cycles, mask);
        }
        double more = waited - known;
        known = waited;
        double inside = block * ratio + idle;
        for (int p = 0; p < layout->ports; p++) load[p] *= ratio;
        if (ratio > 1 || j == 0) {
            ring.base = inside;
            memcpy(ring.load, load, (size_t)layout->ports * sizeof(double));
        }
        double unbound = inside + more - smaller(behind, more);
        for (int n = 0; n < boundary->count; n++) {
            const Flow *f = &layout->flow[boundary->flows[n]];
            load[f->upper] += cycles[boundary->flows[n]];
            if (f->lower != f->upper) load[f->lower] += cycles[boundary->flows[n]];
        }
        double bound = unbound;
        for (int p = 0; p < layout->ports; p++) bound = larger(bound, load[p]);
        /* what comes next may be cut at the same stays: then the ring is looked at there */
        if (j + 1 < count || count == layout->boundaries) bound = ring_bound(layout, row, cycles, &ring, j, unbound, bound);
        bound = pair_bound(layout, boundary, cycles, ratio, pair_load, pair_needed, bound);
        block = before > 1 ? bound : unbound;
        waited_for += block - inside;
        double gained = block - unbound;
        behind = behind - smaller(behind, more) + gained;
        added += gained * before;
    }
    *known_cycles = block * before + (layout->total - before * period) - waited_for;
    *ports_added = added;
}

static void read_cuts(const Branch *b, const Node *node, const char *kind, Row *row) {
    const Layout *layout = &b->layout;
    int64_t width = layout->flows + layout->boundaries;
    row->share = layout->step_share;
    memset(row->cycles, 0, (size_t)layout->flows * sizeof(double));
    for (int c = 0; c < b->cuts; c++) row->rank[c] = -1;
    for (int j = 0; j < node->count; j++) {
        int c = node->order[j];
        int64_t p = node->at[c];
        row->order[j] = c;
        row->rank[c] = j;
        row->place[c] = j;
        row->single[c] = kind[c] == LONE;
        row->stays[c] = b->stays[p];
        row->periods[c] = b->periods[p];
        for (int n = 0; n < layout->boundary[c].count; n++) {
            int i = layout->boundary[c].flows[n];
            row->cycles[i] = b->values[p * width + i];
        }
    }
}

/* The least of the reserve: where a second buffer is not sure, the smaller share. */
static double reserve_of(const Branch *b, const Row *row, const Node *node, const char *kind) {
    double found = 0;
    for (int j = 0; j < node->count; j++) {
        int c = node->order[j];
        if (!(row->stays[c] > 1)) continue;
        for (int n = 0; n < b->layout.boundary[c].count; n++) {
            int i = b->layout.boundary[c].flows[n];
            double weight = kind[c] == SECOND ? b->layout.hidden : b->layout.flow[i].contested ? b->layout.contested : 0.0;
            found += row->cycles[i] * row->stays[c] * weight;
        }
    }
    return found;
}

/* Cycles and reserve that are sure after the cuts made; 0 where they do not fit. */
static int look(Branch *b, const Node *node, Seen *seen) {
    const Layout *layout = &b->layout;
    int made[MOST_CUTS] = {0}, sure = 0;
    char kind[MOST_CUTS];
    double cycles[MOST_FLOWS], known, added;
    Row row;
    for (int j = 0; j < node->count; j++) made[node->order[j]] = 1;
    if (!buffers(b, node, seen->point, made, kind)) return 0;
    b->work += 8;
    read_cuts(b, node, kind, &row);
    find_partly_hidden(b, &row, node->count, kind);
    while (sure < node->count && kind[node->order[sure]] != UNSURE) sure++;
    scale_back(layout, &row, 0, cycles);
    run_partly(layout, &row, cycles, 0, node->count, sure, &known, &added);
    double share = row.share;
    if (share > 0) {
        double with, more;
        scale_back(layout, &row, 1 / larger(share, 1e-12), cycles);
        run_partly(layout, &row, cycles, 1, node->count, sure, &with, &more);
        known = share * with + (1 - share) * known;
        added = share * more + (1 - share) * added;
    }
    seen->sure = known;
    seen->less = b->layout.at_ends * added;
    seen->reserve = reserve_of(b, &row, node, kind);
    return 1;
}

/* The least cycles of all chains that go on from here. ``sum`` holds all measures with the least that is to come. */
static double least_cycles(const Branch *b, const Seen *seen, const double *sum) {
    double ends = 0, found = 0;
    for (int f = FIRST_PORT; f < FIRST_PORT + b->ports; f++) found = larger(found, sum[f]);
    for (int f = FIRST_PORT + b->ports; f < b->measures; f++) ends = larger(ends, sum[f]);
    found = larger(found, seen->sure + ends - seen->less);
    if (b->small_back > 0) found = larger(found, seen->sure + ends / 2);
    double reserve = seen->reserve + sum[RESERVED];
    return found + smaller(reserve, b->layout.reserve * found);
}

/* ---- whole chains ---------------------------------------------------------------------------------------------- */

static double chain_energy(const Branch *b, const Node *node) {
    double energy = b->base[SPENT];
    for (int c = 0; c < b->cuts; c++) energy += b->energy[c * b->size + node->at[c]];
    for (int k = 0; k < b->couplings; k++) {
        int64_t inner = b->coupled[2 * k], outer = b->coupled[2 * k + 1];
        energy -= b->saving[k * b->size + (inner < 0 ? 0 : node->at[inner])] * b->factor[k * b->size + node->at[outer]];
    }
    return energy;
}

/* A chain of all cuts: keeps it where it is better. ``least_pj`` is what its energy is not below. */
static void offer(Branch *b, const Node *node, double least_pj) {
    int made[MOST_CUTS];
    char kind[MOST_CUTS];
    double found[3];
    Row row;
    for (int c = 0; c < b->cuts; c++) made[c] = 1;
    if (!buffers(b, node, b->size - 1, made, kind)) return;
    b->work += 8;
    read_cuts(b, node, kind, &row);
    time_row(&b->layout, &row, found);
    double cycles = found[0] + found[1] + found[2], energy = chain_energy(b, node), score = score_of(b, cycles, energy);
    if (b->sliding > 0 && cycles <= b->max_cycles) b->leaves = smaller(b->leaves, score_of(b, cycles, smaller(energy, least_pj)));
    if (hopeless(b, cycles, energy)) return;
    b->score = score;
    b->energy_pj = energy;
    b->cycles = cycles;
    int64_t *row_out = b->result + b->found++ % MOST_RESULTS * b->cuts;
    for (int c = 0; c < b->cuts; c++) row_out[c] = node->at[c];
}

/* ---- the search ------------------------------------------------------------------------------------------------ */

/* Whether a step from one point to another is upwards; moved: whether it moves along an axis that is not stuck. */
static int upwards(const Branch *b, int64_t low, int64_t high, const uint64_t *stuck, int *moved) {
    const uint64_t guard = 0x8080808080808080u;
    uint64_t free = 0;
    for (int w = 0; w < b->words; w++) {
        uint64_t from = b->exponents[w * b->size + low], to = b->exponents[w * b->size + high];
        uint64_t step = (to | guard) - from;
        if ((step & guard) != guard) return 0;
        free |= step & ~guard & ~stuck[w];
    }
    *moved = free != 0;
    return 1;
}

static void see(Branch *b, const Node *node, Seen *seen) {
    memset(seen, 0, sizeof *seen);
    memcpy(seen->sum, b->base, sizeof b->base);
    for (int j = 0; j < node->count; j++) {
        int c = node->order[j], o = b->operand_of[c];
        int64_t p = node->at[c];
        for (int f = 0; f < b->measures; f++)
            if (f != RESERVED) seen->sum[f] += b->cost[(f * b->cuts + c) * b->size + p];
        if (p != seen->point) memset(seen->stuck, 0, sizeof seen->stuck);
        for (int w = 0; w < b->words; w++) seen->stuck[w] |= b->idle[o][w];
        seen->state += b->stride[o];
        seen->point = p;
        seen->last = o;
    }
}

/* Expands a node; returns whether ``best`` is its best child, which is not on the heap; -1 without memory. */
static int expand(Branch *b, Heap *heap, const Node *node, int dive, Node *best) {
    Seen seen, next;
    double sum[MOST_MEASURES];
    int any = 0;
    see(b, node, &seen);
    if (!look(b, node, &seen)) return 0;
    for (int o = 0; o < b->operands; o++) {
        int64_t cut = seen.state / b->stride[o] % (b->counts[o] + 1), to = seen.state + b->stride[o];
        if (cut == b->counts[o]) continue;
        int c = (int)(b->first[o] + cut), moved;
        b->work += (b->size - seen.point) / 32;
        for (int64_t p = o < seen.last ? seen.point + 1 : seen.point; p < b->size; p++) {
            if (!(b->cost[c * b->size + p] < INFINITY) || !upwards(b, seen.point, p, seen.stuck, &moved)) continue;
            if (p > seen.point && node->count && !moved) continue;
            for (int f = 0; f < b->measures; f++)
                sum[f] = (f == RESERVED ? 0 : seen.sum[f] + b->cost[(f * b->cuts + c) * b->size + p]) +
                         b->left[(f * b->states + to) * b->size + p];
            if (hopeless(b, least_cycles(b, &seen, sum), sum[SPENT])) continue;
            Node child = *node;
            child.order[child.count++] = (int8_t)c;
            child.at[c] = (int32_t)p;
            next.point = p;
            if (child.count == b->cuts) {
                uint64_t stuck[MOST_AXIS_WORDS];
                for (int w = 0; w < b->words; w++) stuck[w] = b->idle[o][w] | (p == seen.point && node->count ? seen.stuck[w] : 0);
                if (p < b->size - 1 && !(upwards(b, p, b->size - 1, stuck, &moved) && moved)) continue;
                offer(b, &child, sum[SPENT]);
                continue;
            }
            if (!look(b, &child, &next)) continue;
            double cycles = least_cycles(b, &next, sum);
            if (hopeless(b, cycles, sum[SPENT])) continue;
            child.key = score_of(b, child.cycles = cycles, child.energy_pj = larger(sum[SPENT], b->least_pj));
            child.number = b->work;
            if (!dive) {
                if (push_node(heap, &child) < 0) return -1;
            } else if (!any || before_node(&child, best)) {
                if (any && push_node(heap, best) < 0) return -1;
                *best = child;
                any = 1;
            } else if (push_node(heap, &child) < 0) return -1;
        }
    }
    return any;
}

/* Returns what no chain scores below, NAN without memory. */
static double branch(Branch *b) {
    Heap heap = {0};
    Node root = {0}, node;
    double bound = INFINITY;
    b->leaves = INFINITY;
    int more = push_node(&heap, &root);
    for (int64_t pops = 0; more >= 0 && heap.count; pops++) {
        node = pop_node(&heap);
        if (pops && node.key > b->score * (1 + TIE)) break;
        if (b->work > b->most_work) {
            bound = node.key;
            break;
        }
        if (hopeless(b, node.cycles, node.energy_pj)) continue;
        int dive = pops % DIVE == 0;
        while ((more = expand(b, &heap, &node, dive, &root)) > 0) node = root;
    }
    free(heap.nodes);
    return more < 0 ? NAN : smaller(smaller(bound, b->leaves), b->score);
}

/* ---- buffers of Python ------------------------------------------------------------------------------------------- */

enum { SHAPES, EXPONENTS, IDLE_AXES, COST, LEFT, PJ, BASE, LAYOUT, NUMBERS, FLOW_VALUES, STAY, PERIOD, BITS, PARTIAL_BITS, REDUCES,
       PLACES, ROOM, COUPLED, SAVING, FACTOR, GOAL, FOUND, TAKEN };

/* shapes: points, operands, cuts of each. places: (slot, cut or -1, cut below or -1) of each column. room: (size, access) of
 * each slot. goal: objective, most work, most cycles, small_back, score, energy, cycles to be better than. */
static int read_branch(Branch *b, const Py_buffer *v) {
    const int64_t *shape = v[SHAPES].buf, *places = v[PLACES].buf;
    const double *goal = v[GOAL].buf, *room = v[ROOM].buf;
    memset(b, 0, sizeof *b);
    if (v[SHAPES].len < 24 || v[GOAL].len != 72) return -1;
    b->size = shape[0];
    if (shape[1] < 1 || shape[1] > MOST_OPERANDS || v[SHAPES].len != (2 + shape[1]) * 8 || b->size < 1 || b->size > INT32_MAX) return -1;
    b->operands = (int)shape[1];
    b->states = 1;
    for (int o = 0; o < b->operands; o++) {
        b->counts[o] = shape[2 + o];
        if (outside(b->counts[o], MOST_CUTS + 1) || b->cuts + b->counts[o] > MOST_CUTS) return -1;
        b->first[o] = b->cuts;
        for (int64_t k = 0; k < b->counts[o]; k++) b->operand_of[b->cuts++] = o;
    }
    for (int o = b->operands - 1; o >= 0; o--) {
        b->stride[o] = b->states;
        b->states *= b->counts[o] + 1;
    }
    int64_t points = b->size * 8;
    b->measures = (int)(v[BASE].len / 8);
    b->words = (int)(v[EXPONENTS].len / points);
    b->columns = (int)(v[PLACES].len / 24);
    b->slots = (int)(v[ROOM].len / 16);
    b->couplings = (int)(v[COUPLED].len / 16);
    if (b->cuts < 1 || b->words < 1 || b->words > MOST_AXIS_WORDS || v[EXPONENTS].len != b->words * points) return -1;
    if (v[IDLE_AXES].len != b->words * b->operands * 8 || b->measures <= FIRST_PORT || b->measures > MOST_MEASURES) return -1;
    if (v[COST].len != b->measures * b->cuts * points || v[LEFT].len != b->measures * b->states * points) return -1;
    if (v[PJ].len != b->cuts * points || v[STAY].len != points || v[PERIOD].len != points) return -1;
    if (b->columns > MOST_COLUMNS || b->slots > MOST_COLUMNS || v[BITS].len != b->columns * points) return -1;
    if (v[PARTIAL_BITS].len != v[BITS].len || v[REDUCES].len != b->columns * b->size) return -1;
    if (v[SAVING].len != b->couplings * points || v[FACTOR].len != v[SAVING].len) return -1;
    if (v[FOUND].len != MOST_RESULTS * b->cuts * 8) return -1;
    for (int c = 0; c < b->columns; c++) {
        const int64_t *place = places + 3 * c;
        if (outside(place[0], b->slots) || (place[1] != -1 && outside(place[1], b->cuts)) || (place[2] != -1 && outside(place[2], b->cuts)))
            return -1;
        b->slot[c] = (int)place[0];
        b->cut_of[c] = (int)place[1];
        b->below_of[c] = (int)place[2];
    }
    for (int k = 0; k < b->couplings; k++) {
        const int64_t *pair = (const int64_t *)v[COUPLED].buf + 2 * k;
        if ((pair[0] != -1 && outside(pair[0], b->cuts)) || outside(pair[1], b->cuts)) return -1;
    }
    for (int s = 0; s < b->slots; s++) b->room[s] = room[2 * s], b->access[s] = room[2 * s + 1];
    for (int o = 0; o < b->operands; o++)
        for (int w = 0; w < b->words; w++) b->idle[o][w] = ((const uint64_t *)v[IDLE_AXES].buf)[o * b->words + w];
    memcpy(b->base, v[BASE].buf, (size_t)v[BASE].len);
    if (v[LAYOUT].len < 48 ||
        read_layout(&b->layout, v[LAYOUT].buf, v[LAYOUT].len / 8, v[NUMBERS].buf, v[NUMBERS].len / 8, ((const int64_t *)v[LAYOUT].buf)[5]) < 0)
        return -1;
    if (b->layout.boundaries != b->cuts || b->layout.operands != b->operands || v[FLOW_VALUES].len != (b->layout.flows + b->cuts) * points) return -1;
    b->ports = b->layout.ports;
    if (b->measures < FIRST_PORT + b->ports) return -1;
    b->exponents = v[EXPONENTS].buf;
    b->cost = v[COST].buf;
    b->left = v[LEFT].buf;
    b->energy = v[PJ].buf;
    b->values = v[FLOW_VALUES].buf;
    b->stays = v[STAY].buf;
    b->periods = v[PERIOD].buf;
    b->final = v[BITS].buf;
    b->partial = v[PARTIAL_BITS].buf;
    b->reduces = v[REDUCES].buf;
    b->coupled = v[COUPLED].buf;
    b->saving = v[SAVING].buf;
    b->factor = v[FACTOR].buf;
    b->result = v[FOUND].buf;
    b->objective = (int)goal[0];
    b->most_work = (int64_t)goal[1];
    b->max_cycles = goal[2];
    b->small_back = goal[3];
    b->score = goal[4];
    b->energy_pj = goal[5];
    b->cycles = goal[6];
    b->least_pj = goal[7]; /* no chain has less energy */
    b->sliding = goal[8];  /* a whole chain may still have less than it seems */
    return 0;
}

static PyObject *search(PyObject *self, PyObject *args) {
    PyObject *tuple;
    Py_buffer v[TAKEN];
    if (!PyArg_ParseTuple(args, "O!", &PyTuple_Type, &tuple) || take_tuple(tuple, v, TAKEN, FOUND, bit(REDUCES)) < 0) return NULL;
    Branch *b = PyMem_Malloc(sizeof *b);
    PyObject *answer = NULL;
    if (!b) PyErr_NoMemory();
    else if (read_branch(b, v) < 0) PyErr_SetString(PyExc_ValueError, "the buffers do not belong together");
    else {
        double bound;
        Py_BEGIN_ALLOW_THREADS
        bound = branch(b);
        Py_END_ALLOW_THREADS
        answer = isnan(bound) ? PyErr_NoMemory() : Py_BuildValue("dLL", bound, (long long)b->found, (long long)b->work);
    }
    PyMem_Free(b);
    release_views(v, TAKEN);
    return answer;
}

static PyMethodDef methods[] = {
    {"search", search, METH_VARARGS, "search(buffers) -> what no chain scores below, chains that were better, work done."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_branch", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__branch(void) {
    PyObject *made = PyModule_Create(&module);
    if (made && (PyModule_AddIntConstant(made, "MOST_RESULTS", MOST_RESULTS) < 0 ||
                 PyModule_AddIntConstant(made, "MOST_CUTS", MOST_CUTS) < 0 ||
                 PyModule_AddIntConstant(made, "MOST_MEASURES", MOST_MEASURES) < 0 ||
                 PyModule_AddIntConstant(made, "MOST_COLUMNS", MOST_COLUMNS) < 0 ||
                 PyModule_AddIntConstant(made, "MOST_FLOWS", MOST_FLOWS) < 0 ||
                 PyModule_AddIntConstant(made, "MOST_PORTS", MOST_PORTS) < 0 ||
                 PyModule_AddIntConstant(made, "MOST_PAIRS", MOST_PAIRS) < 0 ||
                 PyModule_AddIntConstant(made, "MOST_AXES", 8 * MOST_AXIS_WORDS) < 0)) {
        Py_DECREF(made);
        return NULL;
    }
    return made;
}
