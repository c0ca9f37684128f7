//! Collective algorithms: over shared cells, and as schedules over the engine.
