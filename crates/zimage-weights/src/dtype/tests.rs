use super::*;

#[test]
fn blocks_have_the_sizes_that_the_kernels_read() {
    for (dtype, format) in Dtype::ALL.iter().filter_map(|dtype| dtype.format().map(|format| (dtype, format))) {
        assert_eq!((dtype.block_len(), dtype.block_bytes()), (format.block_len(), format.block_bytes()), "{dtype}");
        assert_eq!(dtype.name().to_lowercase(), format.name());
    }
    let read: Vec<Format> =
        Format::ALL.into_iter().filter(|&it| Dtype::ALL.iter().any(|d| d.format() == Some(it))).collect();
    assert_eq!(read, Format::ALL);
}

#[test]
fn sizes_count_blocks_along_the_innermost_axis() {
    assert_eq!(Dtype::F32.size_of(&[]), Some(4));
    assert_eq!(Dtype::Q4_0.size_of(&[3, 64]), Some(3 * 2 * 18));
    assert_eq!(Dtype::Q6K.size_of(&[5, 0, 256]), Some(0));
    assert_eq!(Dtype::Q4_0.size_of(&[64, 3]), None);
    assert_eq!(Dtype::Q4_0.size_of(&[]), None);
    assert_eq!(Dtype::Q2K.size_of(&[1 << 40, 1 << 30]), None);
    assert_eq!(Dtype::F32.size_of(&[1 << 62]), None);
}

#[test]
fn safetensors_headers_do_not_name_the_types_of_ggml() {
    assert_eq!(Dtype::from_name("BF16"), Some(Dtype::BF16));
    assert_eq!(Dtype::from_name("Q8_0"), None);
}

#[test]
fn numbers_of_ggml_name_each_type_once_and_those_given_up_none() {
    let known: Vec<Dtype> = (0..100).filter_map(Dtype::from_ggml).collect();
    assert!((1..known.len()).all(|at| !known[..at].contains(&known[at])));
    assert!(Dtype::ALL.iter().filter(|dtype| dtype.block_len() > 1).all(|dtype| known.contains(dtype)));
    assert!((0..100).all(|number| Dtype::from_ggml(number).is_none_or(|dtype| dtype.to_ggml() == Some(number))));
    for number in [4, 5, 31, 36, 1000, u32::MAX] {
        assert_eq!(Dtype::from_ggml(number), None);
    }
}
