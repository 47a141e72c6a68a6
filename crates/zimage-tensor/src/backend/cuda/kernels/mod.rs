//! The sources of the kernels. NVRTC compiles them for a device when they are first needed, the emulator as C++.

/// The kernels of `linear_quantized.cu` for a family of formats: together they take longer to compile than all others,
/// and a file needs one.
macro_rules! multipliers {
    ($family:literal) => {
        concat!(include_str!("formats.cuh"), include_str!("linear_quantized.cu"), $family, "(MULTIPLIER)\n")
    };
}

/// The sources by their names, without what stands in front of each. Tests have one that uses each primitive.
pub const SOURCES: &[(&str, &str)] = &[
    ("attention", include_str!("attention.cu")),
    ("attention_hopper", concat!(include_str!("hopper.cuh"), include_str!("attention_hopper.cu"))),
    ("attention_tiled", include_str!("attention_tiled.cu")),
    ("convolutions", include_str!("convolutions.cu")),
    ("decode", concat!(include_str!("formats.cuh"), include_str!("decode.cu"))),
    ("linear_bits", multipliers!("FOR_BITS")),
    ("linear_blocks_of_32", multipliers!("FOR_BLOCKS_OF_32")),
    ("linear_blocks_of_256", multipliers!("FOR_BLOCKS_OF_256")),
    ("linear_bytes", multipliers!("FOR_BYTES")),
    ("moves", include_str!("moves.cu")),
    ("pictures", include_str!("pictures.cu")),
    ("quantize", concat!(include_str!("formats.cuh"), include_str!("quantize.cu"))),
    ("rows", include_str!("rows.cu")),
    #[cfg(test)]
    ("selftest", concat!(include_str!("hopper.cuh"), include_str!("selftest.cu"))),
];

/// What all sources are written in.
const PRIMITIVES: [&str; 2] = [include_str!("primitives.cuh"), include_str!("tensor_cores.cuh")];

/// The whole text of a source.
///
/// # Panics
/// When there is no such source.
pub fn text(source: &str) -> String {
    let found = SOURCES.iter().find(|(name, _)| *name == source);
    let (_, text) = found.unwrap_or_else(|| panic!("no kernels are called {source}: this is a bug"));
    let [primitives, tensor_cores] = PRIMITIVES;
    [primitives, tensor_cores, text].join("\n")
}
