//! Tests of what needs no GPU: libraries that are missing, NVRTC and cuBLASLt's descriptors where they are found.

use super::cache::Cache;
use super::compile::{Compiler, Source, Target};
use super::descriptors::{Layout, Operation, Preference};
use super::libraries::{self, load};
use super::product::Product;
use super::symbols::{LibcublasLt, Libcuda, Libnvrtc};
use super::{device, devices, narrow, open};
use crate::Error;
use crate::backend::cuda::driver::{Address, Element, Gemm, MatrixAt};
use crate::backend::cuda::kernels;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

/// The generations that every kernel is compiled for: Turing, Ampere, Ada, Hopper, Blackwell.
const GENERATIONS: [u32; 5] = [75, 80, 89, 90, 120];
/// The newest CUDA that is looked for.
const NEWEST: u32 = 13;

fn text_of<T>(result: Result<T, Error>) -> String {
    match result {
        Err(error @ Error::Unavailable { .. }) => error.to_string(),
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("no error"),
    }
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("zimage-cuda-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// The compiler that `ZIMAGE_NVRTC` names, or that is found; says so where there is none.
fn compiler(test: &str) -> Option<Compiler> {
    let found = match std::env::var("ZIMAGE_NVRTC") {
        Ok(path) => load(&[path], &[], "see ZIMAGE_NVRTC", Libnvrtc::find).map(|calls| &*Box::leak(Box::new(calls))),
        Err(_) => libraries::libnvrtc(NEWEST),
    };
    match found {
        Ok(calls) => Some(Compiler::new(calls)),
        Err(error) if std::env::var_os("ZIMAGE_NVRTC").is_none() => {
            println!("{test} is skipped: {}", error.to_string().lines().next().unwrap_or_default());
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn without_a_driver_cuda_is_unavailable_and_says_why() {
    let driver = if cfg!(windows) { "nvcuda.dll" } else { "libcuda.so.1" };
    match devices() {
        Ok(found) => {
            let error = text_of(open(found.len()));
            assert!(error.contains(&format!("no CUDA device {0}: this machine has {0}", found.len())), "{error}");
        }
        Err(_) => {
            for error in [text_of(devices()), text_of(open(0))] {
                assert!(error.contains(driver) || error.contains("driver"), "{error}");
                assert!(error.contains("hint: ") && error.contains("--device cpu"), "{error}");
            }
        }
    }
}

#[test]
fn a_device_that_is_not_there_is_counted() {
    let text = device::no_such_device(2, 2).to_string();
    assert!(text.contains("no CUDA device 2: this machine has 2") && text.contains("cuda:0 to cuda:1"), "{text}");
    assert!(device::no_such_device(0, 0).to_string().contains("nvidia-smi"));
}

#[test]
fn a_missing_library_is_named_and_so_is_what_to_install() {
    let names = ["libnvrtc-of-nobody.so.12".to_owned(), "libnvrtc-of-nobody.so.11".to_owned()];
    let text = text_of(load(&names, &libraries::folders(), "install it", Libnvrtc::find));
    assert!(text.contains("libnvrtc-of-nobody.so.12 or libnvrtc-of-nobody.so.11 was not found"), "{text}");
    assert!(text.contains("hint: install it"), "{text}");
    let [twelve, thirteen] = [12, 13].map(libraries::toolkit_hint);
    assert!(twelve.contains("pip install nvidia-cuda-nvrtc-cu12 nvidia-cublas-cu12"), "{twelve}");
    assert!(thirteen.contains("pip install nvidia-cuda-nvrtc nvidia-cublas"), "{thirteen}");
    assert!([twelve, thirteen].iter().all(|hint| hint.contains("ZIMAGE_CUDA_LIBS")));
}

#[test]
fn a_library_that_cannot_be_loaded_is_told_from_one_that_is_missing() {
    let folder = folder("broken");
    fs::write(folder.join("libcublasLt-broken.so"), "no library").expect("a file");
    let folders = [folder];
    let text = text_of(load(&["libcublasLt-broken.so".to_owned()], &folders, "", LibcublasLt::find));
    assert!(text.contains("libcublasLt-broken.so could not be loaded"), "{text}");
    fs::remove_dir_all(&folders[0]).expect("the folder");
}

#[test]
#[cfg(target_os = "linux")]
fn a_library_without_a_symbol_is_too_old() {
    let text = text_of(load(&["libm.so.6".to_owned()], &[], "update it", Libcuda::find));
    assert!(text.contains("libm.so.6 is too old: it has no cuInit"), "{text}");
}

#[test]
fn a_target_is_code_where_the_compiler_knows_the_generation() {
    let known = [75, 80, 86, 89, 90, 100, 120];
    let target = |capability| Target::of(capability, &known);
    assert_eq!(target((8, 6)).expect("a target").to_string(), "sm_86");
    assert_eq!(target((8, 7)).expect("a target").to_string(), "sm_86", "code runs on later ones of its number");
    assert_eq!(target((9, 0)).expect("a target").to_string(), "sm_90a");
    assert_eq!(target((12, 1)).expect("a target").to_string(), "sm_120");
    assert_eq!(target((13, 0)).expect("a target").to_string(), "compute_120", "and of no other number");
    assert_eq!(target((7, 0)), None);
}

#[test]
fn nvrtc_compiles_every_kernel() {
    let Some(compiler) = compiler("nvrtc_compiles_every_kernel") else { return };
    let version = compiler.version().expect("a version");
    let texts = kernels::SOURCES.iter().map(|(name, _)| (*name, kernels::text(name)));
    for (name, text) in texts.chain([(narrow::SOURCE, narrow::TEXT.to_owned())]) {
        let source = Source { name, text: &text };
        let times = GENERATIONS.map(Target::Code).map(|target| {
            let start = Instant::now();
            let code = compiler.compile(&source, target).unwrap_or_else(|error| panic!("{error}"));
            assert!(code.starts_with(b"\x7fELF"), "{name}.cu for {target}");
            format!("{target} {} ms", start.elapsed().as_millis())
        });
        println!("NVRTC {version:?}: {name}.cu: {}", times.join(", "));
    }
}

#[test]
fn nvrtc_says_what_is_wrong_with_a_source() {
    let Some(compiler) = compiler("nvrtc_says_what_is_wrong_with_a_source") else { return };
    let source = Source { name: "wrong", text: "extern \"C\" __global__ void wrong() { nowhere(); }" };
    let error = compiler.compile(&source, Target::Code(80)).expect_err("an error");
    assert!(error.starts_with("compiling wrong.cu for sm_80: NVRTC_ERROR_COMPILATION"), "{error}");
    assert!(error.contains("wrong.cu(1): error: identifier \"nowhere\" is undefined"), "{error}");
}

#[test]
fn nvrtc_compiles_once_and_again_when_the_cache_is_broken() {
    let Some(compiler) = compiler("nvrtc_compiles_once_and_again_when_the_cache_is_broken") else { return };
    let folder = folder("compiled");
    let cache = Cache::at(&folder);
    let source = Source { name: narrow::SOURCE, text: narrow::TEXT };
    for target in [Target::Code(80), Target::Assembly(80)] {
        let code = || compiler.code(&cache, &source, target, 12_040).expect("code");
        let file = folder.join(compiler.name_in_cache(&source, target, 12_040).expect("a name"));
        let first = code();
        let stored = fs::read(&file).expect("a file");
        assert!(stored.ends_with(&first));
        cache.write(file.file_name().and_then(|name| name.to_str()).expect("a name"), b"of the cache");
        assert_eq!(code(), b"of the cache", "it is read");
        fs::write(&file, &stored[..stored.len() / 2]).expect("a file");
        assert_eq!(code(), first, "it is compiled again");
        assert_eq!(fs::read(&file).expect("a file").len(), stored.len(), "and stored again");
    }
    let other = |driver, text| compiler.name_in_cache(&Source { text, ..source }, Target::Code(80), driver);
    assert_ne!(other(12_040, narrow::TEXT), other(12_050, narrow::TEXT));
    assert_ne!(other(12_040, narrow::TEXT), other(12_040, "another"));
    fs::remove_dir_all(folder).expect("the folder");
}

#[test]
fn cublaslt_takes_all_descriptors() {
    let calls = match libraries::libcublaslt(NEWEST) {
        Ok(calls) => calls,
        Err(error) => {
            let what = error.to_string();
            return println!("cublaslt_takes_all_descriptors is skipped: {}", what.lines().next().unwrap_or_default());
        }
    };
    use Element::{Bf16, F8, F16, F32, I8, I32};
    for (x, y) in [(F32, F32), (Bf16, Bf16), (Bf16, F32), (F16, F16), (F16, F32), (F8, Bf16), (F8, F32), (I8, I32)] {
        for bias in [None, Some(Address(1 << 20))].into_iter().take(if x == I8 { 1 } else { 2 }) {
            let at = |element, stride| MatrixAt { address: Address(4096), element, stride };
            let (m, n, k) = (33, 64, 128);
            let (x, w, y) = (at(x, k), at(x, k), at(y, n));
            let product = Product::of(&Gemm { m, n, k, x, w, w_is_transposed: true, y, scale: 1.0, bias });
            let product = product.expect("a product");
            let operation = Operation::new(calls, &product).expect("an operation");
            operation.set_bias(bias.unwrap_or_default()).expect("a bias");
            for columns in [&product.a, &product.b, &product.d] {
                Layout::new(calls, columns).expect("a layout");
            }
            Preference::new(calls, &product, 32 << 20).expect("a preference");
        }
    }
}
