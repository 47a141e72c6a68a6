//! One suite for every backend: each operation, at odd shapes, against the naive one.

mod cases;
mod deltas;
mod int8;
mod pictures;
mod tolerances;
