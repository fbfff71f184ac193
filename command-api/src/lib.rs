//! REST writes, one command per file; callback ingress.
