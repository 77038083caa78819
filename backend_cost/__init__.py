"""The backend: cost model, mapping search, data copies, depth-first engine, and the schedule that is emitted."""
