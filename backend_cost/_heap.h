/* A heap of Node with the one on top that is before_node all others; both are defined where this is included. */
#include <stdint.h>
#include <stdlib.h>

typedef struct {
    Node *nodes;
    int64_t count, room;
} Heap;

/* Adds a node; -1 without memory. */
static int push_node(Heap *heap, const Node *node) {
    if (heap->count == heap->room) {
        int64_t room = heap->room ? 2 * heap->room : 64;
        Node *nodes = realloc(heap->nodes, (size_t)room * sizeof(Node));
        if (!nodes) return -1;
        heap->nodes = nodes;
        heap->room = room;
    }
    int64_t i = heap->count++;
    for (; i > 0 && before_node(node, &heap->nodes[(i - 1) / 2]); i = (i - 1) / 2) heap->nodes[i] = heap->nodes[(i - 1) / 2];
    heap->nodes[i] = *node;
    return 0;
}

/* Takes the top off a heap that is not empty. */
static Node pop_node(Heap *heap) {
    Node top = heap->nodes[0], last = heap->nodes[--heap->count];
    int64_t i = 0;
    for (;;) {
        int64_t child = 2 * i + 1;
        if (child >= heap->count) break;
        if (child + 1 < heap->count && before_node(&heap->nodes[child + 1], &heap->nodes[child])) child++;
        if (!before_node(&heap->nodes[child], &last)) break;
        heap->nodes[i] = heap->nodes[child];
        i = child;
    }
    if (heap->count) heap->nodes[i] = last;
    return top;
}
