//! Engines on threads over one private segment.
