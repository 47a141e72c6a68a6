//! The writer, read back by the reader.

use std::fs;
use std::io::Write;

use zimage_weights::Dtype;
use zimage_weights::container::{Metadata, SafeTensors, TensorSource, write_safetensors};
use zimage_weights::digest::{sha256_bytes, sha256_file};

#[test]
fn what_is_written_is_read_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.safetensors");
    let metadata = Metadata::from([("prompt".to_owned(), "a \"quoted\" cat\n".to_owned())]);
    let tensors = vec![
        TensorSource::f32("z", &[1, 3], &[1.0, -2.5, f32::MIN_POSITIVE]),
        TensorSource::new("a", Dtype::U8, &[2], |out| out.write_all(&[7, 9])),
        TensorSource::new("empty", Dtype::BF16, &[0], |_| Ok(())),
    ];
    write_safetensors(&path, &metadata, tensors).expect("written");
    let file = SafeTensors::open(&path).expect("valid");
    assert_eq!(file.metadata(), &metadata);
    let z = file.tensor("z").expect("there");
    assert_eq!((z.dtype, &*z.shape), (Dtype::F32, &[1, 3][..]));
    assert_eq!(&z.data[4..8], (-2.5_f32).to_le_bytes());
    assert_eq!(&file.tensor("a").expect("there").data[..], [7, 9]);
    let header = u64::from_le_bytes(fs::read(&path).expect("bytes")[..8].try_into().expect("eight bytes"));
    assert_eq!(header % 8, 0, "the data begins at a multiple of 8 bytes");
}

#[test]
fn a_failed_write_leaves_the_old_file_and_nothing_else() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.safetensors");
    fs::write(&path, "old").expect("written");
    let check = |tensors: Vec<TensorSource<'_>>, expected: &str| {
        let error = write_safetensors(&path, &Metadata::new(), tensors).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(fs::read(&path).expect("still there"), b"old");
        assert_eq!(fs::read_dir(directory.path()).expect("listed").count(), 1);
    };
    let bytes = |n: usize| move |out: &mut dyn Write| out.write_all(&vec![0; n]);
    check(vec![TensorSource::new("a", Dtype::U8, &[4], bytes(3))], "a to ");
    check(vec![TensorSource::new("a", Dtype::U8, &[4], bytes(3))], "3 bytes were produced, expected 4");
    check(vec![TensorSource::new("a", Dtype::U8, &[4], bytes(5))], "5 bytes were produced, expected 4");
    let failing = |_: &mut dyn Write| Err(std::io::Error::other("the disk is full"));
    check(vec![TensorSource::new("a", Dtype::U8, &[4], failing)], "the disk is full");
    check(vec![TensorSource::f32("a", &[1], &[0.0]), TensorSource::f32("a", &[1], &[0.0])], "the name is taken");
    check(vec![TensorSource::f32("__metadata__", &[1], &[0.0])], "the name is taken");
    check(vec![TensorSource::f32("a", &[usize::MAX, 2], &[])], "its size overflows");
    check(vec![TensorSource::new("a", Dtype::Q8_0, &[32], bytes(34))], "safetensors files have no Q8_0");
}

#[test]
fn a_file_is_replaced_by_a_whole_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.safetensors");
    for value in [1.0_f32, 2.0] {
        write_safetensors(&path, &Metadata::new(), vec![TensorSource::f32("a", &[1], &[value])]).expect("written");
        let read = SafeTensors::open(&path).expect("valid").tensor("a").expect("there");
        assert_eq!(&read.data[..], value.to_le_bytes());
    }
}

#[test]
fn a_mapped_tensor_outlives_its_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.safetensors");
    write_safetensors(&path, &Metadata::new(), vec![TensorSource::f32("a", &[1], &[3.0])]).expect("written");
    let tensor = SafeTensors::open(&path).expect("valid").tensor("a").expect("there");
    fs::remove_file(&path).expect("removed");
    assert_eq!(&tensor.data[..], 3.0_f32.to_le_bytes());
}

#[test]
fn digests_are_those_of_sha256sum() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("abc");
    fs::write(&path, "abc").expect("written");
    let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(sha256_file(&path).expect("read"), expected);
    assert_eq!(sha256_bytes(b"abc"), expected);
}
