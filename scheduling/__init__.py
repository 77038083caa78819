"""How a network is scheduled: tiles and stacks priced, placed in memories, chosen, and written down."""
