//! The GGUF writer: against a file of the reference, read back by the reader, and what it refuses.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use zimage_weights::Dtype;
use zimage_weights::container::{Array, Container, Gguf, TensorSource, Value, write_gguf};

fn golden(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../goldens/container").join(file)
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

#[test]
fn a_file_has_the_bytes_that_the_reference_writes() {
    let gguf = Gguf::open(&golden("sample.gguf")).expect("a golden");
    let described = fs::read_to_string(golden("sample.json")).expect("a golden");
    let described: serde_json::Value = serde_json::from_str(&described).expect("JSON");
    // The order of the script that wrote it; a reader sorts the keys.
    let sample = ["u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64", "f32", "f64", "yes", "text", "words", "floats"];
    let first = ["general.architecture", "general.quantization_version", "comfy.gguf.orig_shape.x_pad_token"];
    let keys = first.map(str::to_owned).into_iter().chain(sample.map(|name| format!("sample.{name}")));
    let metadata: Vec<(String, Value)> = keys.map(|key| (key.clone(), gguf.metadata()[&key].clone())).collect();
    assert_eq!(metadata.len(), gguf.metadata().len());
    let source = |tensor: &serde_json::Value| {
        let view = gguf.tensor(tensor["name"].as_str().expect("a name")).expect("there");
        let shape: Vec<usize> = serde_json::from_value(tensor["shape"].clone()).expect("a shape");
        TensorSource::new(view.name, view.dtype, &shape, move |out| out.write_all(&view.data))
    };
    let tensors = described["tensors"].as_array().expect("a list").iter().map(source).collect();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.gguf");
    write_gguf(&path, &metadata, tensors).expect("written");
    assert!(fs::read(&path).expect("bytes") == fs::read(golden("sample.gguf")).expect("bytes"));
}

#[test]
fn what_is_written_is_read_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.gguf");
    let metadata = [
        ("general.alignment".to_owned(), Value::U32(64)),
        ("tokens".to_owned(), Value::Array(Array::of_texts(["a", "", "été"]))),
        ("types".to_owned(), Value::Array(Array::of_i32(&[1, -3]))),
        ("text".to_owned(), text("Grüße")),
    ];
    let tensors = vec![
        TensorSource::f32("z", &[1, 3], &[1.0, -2.5, f32::MIN_POSITIVE]),
        TensorSource::new("a", Dtype::Q8_0, &[2, 1, 3, 32], |out| out.write_all(&[7; 204])),
        TensorSource::new("empty", Dtype::BF16, &[0], |_| Ok(())),
        TensorSource::f32("n".repeat(63), &[], &[4.0]),
    ];
    write_gguf(&path, &metadata, tensors).expect("written");
    let container = Container::open(&path).expect("valid");
    let gguf = container.gguf().expect("a GGUF file");
    assert_eq!((gguf.version(), gguf.metadata().len(), container.len()), (3, 4, 4));
    for (key, value) in &metadata {
        assert_eq!(&gguf.metadata()[key], value);
    }
    let z = container.tensor("z").expect("there");
    assert_eq!((z.dtype, &*z.shape, &z.data[4..8]), (Dtype::F32, &[1, 3][..], &(-2.5_f32).to_le_bytes()[..]));
    let a = container.tensor("a").expect("there");
    assert_eq!((&*a.shape, &a.data[..]), (&[2, 1, 3, 32][..], &[7; 204][..]));
    assert_eq!(container.info(&"n".repeat(63)).expect("there").shape, [0; 0]);
    assert_eq!(fs::metadata(&path).expect("a file").len() % 64, 0, "the last tensor is padded too");
}

#[test]
fn a_file_without_tensors_is_read_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.gguf");
    write_gguf(&path, &[("k".to_owned(), Value::Bool(true))], Vec::new()).expect("written");
    assert_eq!(Gguf::open(&path).expect("valid").metadata()["k"], Value::Bool(true));
}

#[test]
fn a_failed_write_leaves_the_old_file_and_nothing_else() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.gguf");
    fs::write(&path, "old").expect("written");
    let check_all = |metadata: &[(String, Value)], tensors: Vec<TensorSource<'_>>, expected: &str| {
        let error = write_gguf(&path, metadata, tensors).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(fs::read(&path).expect("still there"), b"old");
        assert_eq!(fs::read_dir(directory.path()).expect("listed").count(), 1);
    };
    let bytes = |n: usize| move |out: &mut dyn Write| out.write_all(&vec![0; n]);
    let check = |dtype: Dtype, shape: &[usize], n: usize, expected: &str| {
        check_all(&[], vec![TensorSource::new("a", dtype, shape, bytes(n))], expected);
    };
    check(Dtype::Q8_0, &[2, 32], 67, "67 bytes were produced, expected 68");
    check(Dtype::Q8_0, &[2, 32], 69, "69 bytes were produced, expected 68");
    check(Dtype::Q8_0, &[32, 33], 0, "it has rows of 33 values, Q8_0 has blocks of 32");
    check(Dtype::F32, &[1, 1, 1, 1, 1], 4, "it has 5 axes, more than the 4 allowed");
    check(Dtype::F32, &[usize::MAX, 2], 0, "its size overflows");
    check(Dtype::F8E4M3, &[1], 1, "ggml has no F8_E4M3");
    let one = |name: &str| TensorSource::f32(name, &[1], &[0.0]);
    let failing = |_: &mut dyn Write| Err(std::io::Error::other("the disk is full"));
    check_all(&[], vec![one("b"), TensorSource::new("a", Dtype::U8, &[4], failing)], "ggml has no U8");
    check_all(&[], vec![one("b"), TensorSource::new("a", Dtype::I8, &[4], failing)], "the disk is full");
    check_all(&[], vec![one("a"), one("a")], "cannot write a to ");
    check_all(&[], vec![one("a"), one("a")], "the name is taken");
    check_all(&[], vec![one(&"é".repeat(32))], "the name has 64 bytes, more than the 63 allowed");
    let key = |name: &str, value: Value| (name.to_owned(), value);
    check_all(&[key("k", text("a")), key("k", text("b"))], Vec::new(), "the key is taken");
    check_all(&[key(&"k".repeat(65536), text("a"))], Vec::new(), "more than the 65535 allowed");
    check_all(&[key("general.alignment", Value::U32(33))], Vec::new(), "expected a u32 that is a power of two");
}
