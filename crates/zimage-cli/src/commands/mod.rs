//! One file per verb.

pub mod completions;
pub mod doctor;
pub mod generate;
pub mod inspect;
pub mod models;
pub mod plan;
