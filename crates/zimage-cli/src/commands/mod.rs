//! One file per verb.

pub mod bench;
pub mod completions;
pub mod convert;
pub mod db;
pub mod doctor;
pub mod generate;
pub mod inspect;
pub mod keys;
pub mod lora;
pub mod merge;
pub mod models;
pub mod plan;
pub mod serve;
